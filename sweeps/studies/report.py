"""What a study found: a table, a figure, and what choosing by the test images would have made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lpqld.storage import write_atomically
from sweeps.report import png
from sweeps.studies.comparisons import beside_unchanged, best_by_ipc, flattery
from sweeps.studies.figures import figure
from sweeps.studies.percent import signed, spread
from sweeps.studies.results import CaseResult
from sweeps.studies.study import Study

TABLE_FILE, FIGURE_FILE, RESULT_FILE = "table.md", "figure.png", "result.json"


def document(study: Study, results: Sequence[CaseResult]) -> dict[str, Any]:
    """All of it as JSON values: every case, for each number of images the one that validation chose, and the finding.

    The finding is the `frontier` of `expert-epoch`, and the `law` of `scaling`, absent where its grid is too small.
    """
    chosen = {
        str(ipc): {"case": result.case.params, "accuracy": vars(result.accuracy)}
        for ipc, result in best_by_ipc(results).items()
    }
    cases = [
        {**result.to_json(), "beside_unchanged": difference and asdict(difference)}
        for result, difference in zip(results, beside_unchanged(results), strict=True)
    ]
    follows = study.finding.to_json(results) if study.finding else {}
    return {"study": study.name, "chosen": chosen, "cases": cases, **follows}


def markdown(study: Study, results: Sequence[CaseResult]) -> str:
    """The table, what validation chose, and the finding."""
    lines = [f"# {study.name}", "", study.about, "", *_table(study, results), "", *_chosen(results)]
    if study.finding:
        lines += ["", *study.finding.lines(results)]
    return "\n".join(lines) + "\n"


def _table(study: Study, results: Sequence[CaseResult]) -> list[str]:
    """A row for each case; columns that no case has anything in are left out."""
    settings = list(dict.fromkeys(name for result in results for name in result.case.params))
    differences = beside_unchanged(results)
    has_differences = any(differences)
    columns = [*settings, "label bytes", "entropy", "expert, %", "validation, %", "test, %"]
    columns += ["beside unchanged labels"] if has_differences else []
    columns += ["class, %"] if any(result.class_accuracy for result in results) else []
    columns += ["label set of seed 1"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for result, difference in zip(results, differences, strict=True):
        cells = [_setting(study.cell(result.case, name)) for name in settings]
        cells += _measured(result)
        cells += ["" if difference is None else signed(difference)] if has_differences else []
        cells += [spread(result.class_accuracy)] if result.class_accuracy else []
        cells += [Path(result.labels[0]).name]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _measured(result: CaseResult) -> list[str]:
    expert = "" if result.expert_accuracy is None else f"{100 * result.expert_accuracy:.1f}"
    sizes = [f"{result.label_bytes:,}", f"{result.entropy:.2f}"]
    return [*sizes, expert, spread(result.val_accuracy), spread(result.accuracy)]


def _setting(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _chosen(results: Sequence[CaseResult]) -> list[str]:
    flattered = flattery(results)
    lines = ["Chosen by the validation images, for each number of images of a class:", ""]
    for ipc, result in best_by_ipc(results).items():
        lines.append(
            f"- {ipc}: {result.case}, test {spread(result.accuracy)} %. The best of all test accuracies, which nobody"
            f" may choose by, is {100 * flattered[ipc]:.1f} points above it."
        )
    return lines


def write_report(study: Study, results: Sequence[CaseResult], folder: Path) -> None:
    """Table, figure and result in the study's folder."""
    write_atomically(folder / TABLE_FILE, markdown(study, results).encode())
    write_atomically(folder / FIGURE_FILE, png(figure(study, results)))
    write_atomically(folder / RESULT_FILE, json.dumps(document(study, results), indent=2).encode())
