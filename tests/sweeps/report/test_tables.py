"""A report from a sweep made by hand: the table, the files, the figures."""

import csv as csv_files
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from sweeps.report import tables as report
from sweeps.report.result import Accuracy, Point, SweepResult


def point(
    trial_id: str, budget: int | None, label_bytes: int, test: list[float], val: float, **config: object
) -> Point:
    return Point(trial_id, budget, label_bytes, 90_000, Accuracy.of(test), val, dict(config))


def sweep(root: str = "runs") -> SweepResult:
    rows = [
        ("t1", 5_000, 4_990, [0.861, 0.873, 0.869], 0.871, 0.975, 3, 4, "20:2:step"),
        ("t2", 10_000, 9_920, [0.912, 0.918, 0.921], 0.922, 0.95, 4, 5, "20:2:step"),
        ("t3", 20_000, 19_400, [0.931, 0.925, 0.937], 0.938, 0.93, 5, 6, "20:2:cosine"),
        ("t4", 50_000, 49_100, [0.929, 0.934, 0.935], 0.936, 0.9, 10, 8, "20"),
        ("t5", 100_000, 98_700, [0.951, 0.948, 0.953], 0.955, 0.8, 10, 8, "20:2:step"),
    ]
    points = report.mark_front(
        [
            point(*row[:5], prune_ratio=p, k=k, bits=bits, temperature=temperature, ca="fit", lr=0.001, num_views=60)
            for *row, p, k, bits, temperature in rows
        ]
    )
    paper = {"prune_ratio": 0.95, "k": 10, "bits": 8, "temperature": "20:2:step", "ca": "paper"}
    baselines = (
        point("hard_labels", None, 0, [0.78, 0.80, 0.79], 0.79, description="one class an image, no soft labels"),
        point("all_labels", None, 2_400_000, [0.957, 0.961, 0.955], 0.96, temperature="20", description="uncompressed"),
        point("pruning_alone", None, 61_000, [0.905, 0.899, 0.91], 0.91, prune_ratio=0.975, temperature="20"),
        point("paper_settings", None, 120_000, [0.938, 0.941, 0.94], 0.941, **paper),
        point("random_real_images", None, 98_000, [0.93, 0.922, 0.926], 0.93, prune_ratio=0.8, k=10, bits=8, ca="fit"),
    )
    return SweepResult(
        experiment="digits", root=root, teacher={"accuracy": 0.983, "architecture": "convnet"}, points=points,
        baselines=baselines, seconds={"teacher": 12.0, "search": 300.0}, all_label_bytes=2_400_000, num_trials=60,
    )  # fmt: skip


def test_front_goes_by_validation_accuracy_and_leaves_baselines_out() -> None:
    assert [p.trial_id for p in sweep().points if p.on_front] == ["t1", "t2", "t3", "t5"]
    unbeatable = point("baseline", None, 1, [1.0], 1.0)
    diverged = point("diverged", 1, 1, [0.1], math.nan)
    marked = report.mark_front([unbeatable, diverged, sweep().points[0]])
    assert [p.on_front for p in marked] == [False, False, True]


def test_what_only_some_sweeps_choose_has_a_column_there_alone() -> None:
    assert not {"Codec", "Epoch"} & set(report.table(sweep())[0])
    shares = point("t6", 2_000, 1_990, [0.8], 0.8, codec="topk-share")
    result = SweepResult(**{**vars(sweep()), "points": (*sweep().points, shares)})
    rows = report.table(result)
    assert [row.get("Codec") for row in rows[4:7]] == ["–", "topk-share", "–"]
    assert "topk-share" in report.csv(result)


def test_table_says_what_a_person_wants_to_know() -> None:
    rows = report.table(sweep())
    assert rows[2] == {
        "Name": "20 KB", "Labels": "19.4 KB", "Smaller": "124×", "Labels / images": "0.216×",
        "Accuracy %": "93.1 ± 0.6", "Validation %": "93.8", "P": "0.93", "k": "5", "Bits": "6",
        "T": "20:2:cosine", "CA": "fit", "Front": "yes",
    }  # fmt: skip
    hard = rows[5]
    assert (hard["Name"], hard["Labels"], hard["Smaller"], hard["k"], hard["Front"]) == (
        "one class an image, no soft labels",
        "0 B",
        "–",
        "–",
        "",
    )


def test_hard_labels_have_no_bits() -> None:
    hard = point("hard-1", None, 0, [0.8], 0.8, kind="hard", bits=16, temperature="1")
    (found,) = report.table(replace(sweep(), points=(), baselines=(hard,)))
    assert found["Bits"] == found["k"] == report.table(sweep())[5]["Bits"] == "–"


def test_terminal_table_shows_every_row_and_takes_names_literally() -> None:
    result = sweep()
    odd = SweepResult(**{**vars(result), "baselines": (*result.baselines, point("[red]odd", None, 10, [0.5], 0.5))})
    console = Console(width=200, file=io.StringIO())
    console.print(report.text_table(odd))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]odd" in text
    assert all(row["Name"] in text for row in report.table(odd))
    assert "teacher 98.3 %, all labels 2.4 MB, 3 seeds a point" in text


def test_csv_holds_plain_numbers() -> None:
    rows = list(csv_files.DictReader(io.StringIO(report.csv(sweep()))))
    assert len(rows) == 10
    assert (int(rows[0]["label_bytes"]), rows[0]["on_front"], rows[0]["temperature"]) == (4990, "True", "20:2:step")
    assert float(rows[0]["accuracy_mean"]) == pytest.approx(0.8677, abs=1e-4)
    assert rows[5]["compression_ratio"] == ""


def test_markdown_table_has_a_cell_for_every_column() -> None:
    lines = [line for line in report.markdown(sweep()).splitlines() if line.startswith("|")]
    assert len(lines) == 12
    assert {line.count("|") for line in lines} == {13}
    assert "**20 KB**" in lines[4]


def test_figure_shows_points_bars_and_teacher_on_a_byte_axis() -> None:
    figure = report.figure(sweep())
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()] == [
        "ours, on the front", "ours, not on the front", "uncompressed", "pruning alone", "paper settings",
        "random real images", "one class an image, no soft labels (0 B)", "teacher, 98.3 %",
    ]  # fmt: skip


def test_baselines_of_one_kind_are_named_with_their_budget_and_share_a_marker() -> None:
    kinds = {"kind": "prune", "description": "pruning alone"}
    pruned = [point(f"p{budget}", budget, budget, [0.9], 0.9, **kinds) for budget in (10_000, 20_000)]
    result = SweepResult(**{**vars(sweep()), "baselines": tuple(pruned)})
    assert [row["Name"] for row in report.table(result)[-2:]] == ["pruning alone, 10 KB", "pruning alone, 20 KB"]
    names = [text.get_text() for text in report.figure(result).legends[0].get_texts()]
    assert names.count("pruning alone") == 1


def test_byte_axis_is_in_bytes() -> None:
    axes = report.figure(sweep()).axes[0]
    formatted = [axes.xaxis.get_major_formatter()(tick, 0) for tick in axes.get_xticks()]
    assert {"10 KB", "100 KB", "1 MB"} <= set(formatted)


def test_ratio_axis_has_no_exponents() -> None:
    few = point("few", 1_000, 1_000, [0.5], 0.5)
    result = SweepResult(**{**vars(sweep()), "points": (few,), "all_label_bytes": 100_000_000})
    (upper,) = report.figure(result).axes[0].child_axes
    formatted = [upper.xaxis.get_major_formatter()(tick, 0) for tick in upper.get_xticks()]
    assert {"100,000×", "1,000×", "100×"} <= set(formatted)


@pytest.mark.parametrize("num_points", [0, 1], ids=["no points", "one point"])
def test_report_of_little_is_still_a_report(num_points: int, tmp_path: Path) -> None:
    full = sweep()
    lone = SweepResult(**{**vars(full), "points": full.points[:num_points], "baselines": (), "teacher": {}})
    report.write_report(lone, tmp_path)
    assert len(json.loads((tmp_path / "front.json").read_text())["points"]) == num_points


def test_interactive_figure_tells_the_configuration_and_escapes_it() -> None:
    result = sweep()
    odd = SweepResult(**{**vars(result), "points": (point("x", 5, 5, [0.5], 0.5, note="<script>"),)})
    hovers = [text for trace in report.interactive(odd).data if trace.text for text in trace.text]
    assert any("note: &lt;script&gt;" in text for text in hovers)
    assert any(
        "temperature: 20:2:step" in text for trace in report.interactive(result).data for text in trace.text or ()
    )


def test_written_report_is_whole_offline_and_the_same_twice(tmp_path: Path) -> None:
    result = sweep()
    report.write_report(result, tmp_path / "report")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == sorted(report.REPORT_FILES)
    with Image.open(tmp_path / "report/front.png") as image:
        assert image.size == (1280, 800)
    html = (tmp_path / "report/front.html").read_text()
    assert "<script src=" not in html
    assert "Plotly.newPlot" in html
    document = json.loads((tmp_path / "report/front.json").read_text())
    assert document["teacher_accuracy"] == 0.983
    assert [entry["on_front"] for entry in document["points"][:5]] == [True, True, True, False, True]
    report.write_report(result, tmp_path / "again")
    for name in ("front.csv", "front.json", "front.md", "front.png"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "report" / name).read_bytes()


def test_a_diverged_point_is_left_blank_and_breaks_no_file(tmp_path: Path) -> None:
    result = sweep()
    diverged = point("t6", 7_000, 6_900, [math.nan, 0.5], math.nan)
    report.write_report(SweepResult(**{**vars(result), "points": (*result.points, diverged)}), tmp_path)
    assert json.loads((tmp_path / "front.json").read_text())["points"][5]["val_accuracy"] is None
