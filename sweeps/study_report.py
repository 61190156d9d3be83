"""What a study found: a table, a figure, and what choosing by the test images would have made of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from lpqld.store import write_atomically
from sweeps.palette import BLUE, INK, MARKERS, OTHER_COLOURS, plain, png, tidy
from sweeps.result import Accuracy
from sweeps.study import Finding
from sweeps.study_cases import STUDIES

TABLE_FILE, FIGURE_FILE, RESULT_FILE = "table.md", "figure.png", "result.json"
_COLOURS = (BLUE, *OTHER_COLOURS)
_MARKERS = ("o", *MARKERS)


def best_by_ipc(findings: Sequence[Finding]) -> dict[int, Finding]:
    """For each number of images the case that the validation images choose."""
    found: dict[int, Finding] = {}
    for finding in findings:
        known = found.get(finding.case.ipc)
        if known is None or finding.val_accuracy.mean > known.val_accuracy.mean:
            found[finding.case.ipc] = finding
    return found


def flattery(findings: Sequence[Finding]) -> dict[int, float]:
    """For each number of images, how far the best test accuracy is above that of the case that validation chose."""
    return {
        ipc: max(each.accuracy.mean for each in findings if each.case.ipc == ipc) - chosen.accuracy.mean
        for ipc, chosen in best_by_ipc(findings).items()
    }


def document(name: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """All of it as JSON values: every case, and for each number of images the one that validation chose."""
    chosen = {
        str(ipc): {"case": finding.case.params, "accuracy": vars(finding.accuracy)}
        for ipc, finding in best_by_ipc(findings).items()
    }
    return {"study": name, "chosen": chosen, "cases": [finding.to_json() for finding in findings]}


def markdown(name: str, findings: Sequence[Finding]) -> str:
    """The table, and what validation chose."""
    keys = list(dict.fromkeys(key for finding in findings for key in finding.case.params))
    shown = [*keys, "label bytes", "entropy", "expert, %", "validation, %", "test, %"]
    shown += ["class, %"] if any(finding.class_accuracy for finding in findings) else []
    lines = [f"# {name}", "", STUDIES[name].about, "", f"| {' | '.join(shown)} |", "|---" * len(shown) + "|"]
    for finding in findings:
        cells = [_text(finding.case.params.get(key)) for key in keys]
        cells += [f"{finding.label_bytes:,}", f"{finding.entropy:.2f}"]
        cells += ["" if finding.expert_accuracy is None else f"{100 * finding.expert_accuracy:.1f}"]
        cells += [spread(finding.val_accuracy), spread(finding.accuracy)]
        cells += [spread(finding.class_accuracy)] if finding.class_accuracy else []
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Chosen by the validation images, for each number of images of a class:", ""]
    flattered = flattery(findings)
    for ipc, finding in best_by_ipc(findings).items():
        lines.append(
            f"- {ipc}: {finding.case}, test {spread(finding.accuracy)} %. The best of all test accuracies, which nobody"
            f" may choose by, is {100 * flattered[ipc]:.1f} points above it."
        )
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def spread(accuracy: Accuracy) -> str:
    """Mean and deviation in percent."""
    return f"{100 * accuracy.mean:.1f} ± {100 * accuracy.std:.1f}"


def figure(name: str, findings: Sequence[Finding]) -> Figure:
    """Accuracy by what the study varies, a line for each number of images (and kind of change)."""
    at, label = _AXES[name]
    values = [at(finding) for finding in findings]
    names = [value for value in dict.fromkeys(values) if isinstance(value, str)]
    canvas = Figure(figsize=(8.0, 4.4), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    series: dict[str, list[tuple[float, Accuracy]]] = {}
    for finding, value in zip(findings, values, strict=True):
        place = float(names.index(value)) if isinstance(value, str) else float(value)
        measured = finding.class_accuracy if name == "zero-shot" else finding.accuracy
        assert measured is not None, "zero-shot measures the class that it removes"
        series.setdefault(_series(name, finding), []).append((place, measured))
    for number, (title, points) in enumerate(series.items()):
        points.sort(key=lambda point: point[0])
        axes.errorbar(
            [place for place, _ in points],
            [100 * accuracy.mean for _, accuracy in points],
            [100 * accuracy.std for _, accuracy in points],
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number % len(_MARKERS)],
            linestyle="none" if names else "-",
            markersize=5,
            capsize=2.5,
            linewidth=1.4,
            label=plain(title),
        )
    if names:
        axes.set_xticks(range(len(names)), [plain(each) for each in names], fontsize=8.5)
    elif name != "entropy" and min(value for value in values if not isinstance(value, str)) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel(label, color=INK)
    what = "of the removed class " if name == "zero-shot" else ""
    axes.set_ylabel(f"Test accuracy {what}(%)", color=INK)
    axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    tidy(axes, "both")
    axes.set_title(plain(STUDIES[name].about).capitalize(), fontsize=11, fontweight="bold", color=INK, loc="left")
    return canvas


def _series(name: str, finding: Finding) -> str:
    case = finding.case
    images = f"{case.ipc} image{'' if case.ipc == 1 else 's'} a class"
    if name == "temperature":
        return f"{images}, epoch {case.epoch}"
    if name == "swap":
        return f"{images}, {'a rank' if case.edit != 'swapped-top' else 'the top'}"
    return f"{images}, class {case.removed}" if name == "zero-shot" else images


def _edit(finding: Finding) -> str:
    case = finding.case
    return {"none": "soft"}.get(case.edit, case.edit) + ("" if case.value is None else f" {case.value:g}")


_AXES: dict[str, tuple[Callable[[Finding], float | str], str]] = {
    "expert-epoch": (lambda finding: finding.case.epoch or 0, "Epoch of the expert"),
    "temperature": (lambda finding: finding.case.value or 1.0, "Temperature of the label"),
    "ensemble": (lambda finding: finding.case.members, "Experts"),
    "swap": (lambda finding: finding.case.value or 0, "Rank exchanged with the last (0: none)"),
    "entropy": (lambda finding: finding.entropy, "Mean entropy of the labels (nats)"),
    "zero-shot": (_edit, ""),
    "scaling": (lambda finding: finding.label_bytes, "Label bytes on disk"),
    "hard": (_edit, ""),
}


def write_report(name: str, findings: Sequence[Finding], folder: Path) -> None:
    """Table, figure and result in the study's folder."""
    write_atomically(folder / TABLE_FILE, markdown(name, findings).encode())
    write_atomically(folder / FIGURE_FILE, png(figure(name, findings)))
    write_atomically(folder / RESULT_FILE, json.dumps(document(name, findings), indent=2).encode())
