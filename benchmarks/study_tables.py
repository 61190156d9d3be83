"""The tables of docs/studies-findings.md: test accuracy by what a study varies and the number of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.report import Accuracy
from sweeps.studies import signed, spread


def pivot(study: Mapping[str, Any]) -> str:
    """A study's `result.json` as a table in Markdown: percent, mean and deviation over seeds.

    What validation chose for a number of images is bold; in brackets stands the difference from unchanged labels, seed
    by seed. Where a class is removed, its own accuracy comes first, and nothing is chosen.
    """
    cases = [(found["case"], _cell(found)) for found in study["cases"]]
    chosen = [found["case"] for found in study["chosen"].values() if "removed" not in found["case"]]
    constant = _constant([case for case, _ in cases])
    numbers = sorted({case["ipc"] for case, _ in cases})
    rows: dict[str, dict[int, str]] = {}
    for case, text in cases:
        rows.setdefault(_words(case, constant), {})[case["ipc"]] = f"**{text}**" if case in chosen else text
    lines = [f"| images of a class | {' | '.join(map(str, numbers))} |", "|---|" + "---:|" * len(numbers)]
    lines += [f"| {words} | {' | '.join(row.get(ipc, '') for ipc in numbers)} |" for words, row in rows.items()]
    return "\n".join(lines)


def _cell(found: Mapping[str, Any]) -> str:
    text = spread(Accuracy(**found["accuracy"]))
    if found["beside_unchanged"]:
        text = f"{text} ({signed(Accuracy(**found['beside_unchanged']))})"
    own = found.get("class_accuracy")
    return f"{spread(Accuracy(**own))} of the class, {text} of all" if own else text


def _constant(cases: list[Mapping[str, Any]]) -> set[str]:
    """What says nothing: the epoch of the experts or the removed class, where all that have one have the same."""
    values = {name: {case[name] for case in cases if name in case} for name in ("epoch", "removed")}
    return {name for name, found in values.items() if len(found) < 2}


def _words(case: Mapping[str, Any], constant: set[str]) -> str:
    edit = case.get("edit", "control" if "removed" in case else "soft")
    parts = [f"{edit} {case['value']:g}" if "value" in case else edit]
    parts += [f"epoch {case['epoch']}"] if "epoch" in case and "epoch" not in constant else []
    parts += [f"{case['members']} experts"] if "members" in case else []
    parts += [f"class {case['removed']}"] if "removed" in case and "removed" not in constant else []
    return ", ".join(parts[1:] if parts[0] == "soft" and len(parts) > 1 else parts)
