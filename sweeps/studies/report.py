"""What a study found: a table, a figure, and what choosing by the test images would have made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lpqld.storage import write_atomically
from sweeps.report import Accuracy, png
from sweeps.studies.cases import STUDIES
from sweeps.studies.figures import figure
from sweeps.studies.findings import beside_unchanged, best_by_ipc, data_bytes, exchange, flattery, frontier, law_of
from sweeps.studies.run import Finding
from sweeps.studies.scaling_law import FORMULA

_LARGE = 1000
TABLE_FILE, FIGURE_FILE, RESULT_FILE = "table.md", "figure.png", "result.json"


def document(name: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """All of it as JSON values: every case, for each number of images the one that validation chose, and what follows.

    What follows is the `frontier` of `expert-epoch`, and the `law` of `scaling`, absent where its grid is too small.
    """
    chosen = {
        str(ipc): {"case": finding.case.params, "accuracy": vars(finding.accuracy)}
        for ipc, finding in best_by_ipc(findings).items()
    }
    cases = [
        {**finding.to_json(), "beside_unchanged": difference and asdict(difference)}
        for finding, difference in zip(findings, beside_unchanged(findings), strict=True)
    ]
    found: dict[str, Any] = {"study": name, "chosen": chosen, "cases": cases}
    if name == "expert-epoch":
        keys = ("case", "label_bytes", "image_bytes", "accuracy", "val_accuracy")
        found["frontier"] = [{key: finding.to_json()[key] for key in keys} for finding in frontier(findings)]
    if name == "scaling" and (law := law_of(findings)) is not None:
        found["law"] = {**law.to_json(), "exchange": exchange(law, findings)}
    return found


def markdown(name: str, findings: Sequence[Finding]) -> str:
    """The table, and what validation chose."""
    keys = list(dict.fromkeys(key for finding in findings for key in finding.case.params))
    shown = [*keys, "label bytes", "entropy", "expert, %", "validation, %", "test, %"]
    differences = beside_unchanged(findings)
    shown += ["beside unchanged labels"] if any(differences) else []
    shown += ["class, %"] if any(finding.class_accuracy for finding in findings) else []
    shown += ["label set of seed 1"]
    lines = [f"# {name}", "", STUDIES[name].about, "", f"| {' | '.join(shown)} |", "|---" * len(shown) + "|"]
    for finding, difference in zip(findings, differences, strict=True):
        cells = [_setting(name, finding, key) for key in keys]
        cells += [f"{finding.label_bytes:,}", f"{finding.entropy:.2f}"]
        cells += ["" if finding.expert_accuracy is None else f"{100 * finding.expert_accuracy:.1f}"]
        cells += [spread(finding.val_accuracy), spread(finding.accuracy)]
        cells += ["" if difference is None else signed(difference)] if any(differences) else []
        cells += [spread(finding.class_accuracy)] if finding.class_accuracy else []
        cells += [Path(finding.labels[0]).name]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Chosen by the validation images, for each number of images of a class:", ""]
    flattered = flattery(findings)
    for ipc, finding in best_by_ipc(findings).items():
        lines.append(
            f"- {ipc}: {finding.case}, test {spread(finding.accuracy)} %. The best of all test accuracies, which nobody"
            f" may choose by, is {100 * flattered[ipc]:.1f} points above it."
        )
    if name == "expert-epoch":
        lines += ["", "The frontier, accuracy by bytes of images and labels, chosen by the validation images:", ""]
        lines += [
            f"- {data_bytes(finding):,} bytes: {finding.case}, test {spread(finding.accuracy)} %"
            for finding in frontier(findings)
        ]
    if name == "scaling":
        lines += ["", *_law(findings)]
    return "\n".join(lines) + "\n"


def _law(findings: Sequence[Finding]) -> list[str]:
    law = law_of(findings)
    if law is None:
        return [
            "No scaling law: it takes two numbers of images, two of classes kept (hard labels are one), and more than"
            " four cases that differ in them."
        ]
    coefficients = law.to_json()["coefficients"].items()
    lines = [
        f"The scaling law, fitted to the test accuracies: {FORMULA}.",
        ", ".join(
            f"{name} = {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]" for name, found in coefficients
        )
        + f" (95 % confidence); it misses {100 * law.rms:.1f} points (root mean square).",
        "",
        "| images of a class | classes kept | worth, hard-labelled images | image bytes a label byte replaces |",
        "|---:|---:|---:|---:|",
    ]
    for row in exchange(law, findings):
        beyond = ", more than were measured" if row["beyond"] else ""
        bytes_replaced = _estimate(row["image_bytes_a_label_byte"])
        lines.append(f"| {row['ipc']} | {row['k']} | {_estimate(row['worth'])}{beyond} | {bytes_replaced} |")
    return lines


def _estimate(found: dict[str, float | None]) -> str:
    """A value with its band; a number too large to mean more is said to be so."""
    if found["value"] is None:
        return "not to be told: more hard labels do not help"
    value, low, high = (
        f"over {_LARGE:,}" if each is None or each > _LARGE else f"{each:.2f}"
        for each in (found["value"], found["low"], found["high"])
    )
    return f"{value} [{low}, {high}]"


def _setting(name: str, finding: Finding, key: str) -> str:
    """Of the labels that nothing was done to as well, where other cases name what is done."""
    if key == "edit":
        return finding.case.edit_name
    value = getattr(finding.case, key)
    if key == "value" and name == "temperature":
        value = value or 1.0
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def spread(accuracy: Accuracy) -> str:
    """Mean and deviation in percent."""
    return f"{100 * accuracy.mean:.1f} ± {100 * accuracy.std:.1f}"


def signed(difference: Accuracy) -> str:
    """Mean and deviation in points."""
    return f"{100 * difference.mean:+.1f} ± {100 * difference.std:.1f}"


def write_report(name: str, findings: Sequence[Finding], folder: Path) -> None:
    """Table, figure and result in the study's folder."""
    write_atomically(folder / TABLE_FILE, markdown(name, findings).encode())
    write_atomically(folder / FIGURE_FILE, png(figure(name, findings)))
    write_atomically(folder / RESULT_FILE, json.dumps(document(name, findings), indent=2).encode())
