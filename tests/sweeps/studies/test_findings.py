"""What follows from results: what validation chose, the frontier, the exchange rate; their figures and tables."""

import json
from dataclasses import replace

import pytest

from sweeps.report.palette import png
from sweeps.report.result import Accuracy
from sweeps.studies.case import Case
from sweeps.studies.catalogue.expert_epoch import frontier
from sweeps.studies.catalogue.swap import Swapped, SwappedTop
from sweeps.studies.catalogue.temperature import Softened
from sweeps.studies.catalogue.zero_shot import Control, WithoutImages
from sweeps.studies.comparisons import beside_unchanged, best_by_ipc, flattery
from sweeps.studies.edits import Hard, Soft
from sweeps.studies.figures import figure
from sweeps.studies.grid import KeptClasses, exchange, kept_classes, law_of
from sweeps.studies.registry import study_named
from sweeps.studies.report import document, markdown
from sweeps.studies.results import CaseResult


def result(case: Case, test: float, validation: float, label_bytes: int = 100) -> CaseResult:
    accuracy = Accuracy.of([test - 0.01, test + 0.01])
    return CaseResult(
        case=case,
        accuracy=accuracy,
        val_accuracy=Accuracy.of([validation]),
        class_accuracy=None,
        label_bytes=label_bytes,
        image_bytes=1000 * case.ipc,
        num_classes=100,
        entropy=1.0,
        expert_accuracy=0.5,
        labels=("labels",),
    )


BY_EPOCH = [
    result(Case(1, 1), 0.30, 0.31),
    result(Case(1, 9), 0.35, 0.30),
    result(Case(5, 1), 0.40, 0.41),
    result(Case(5, 9), 0.50, 0.52),
    result(Case(9, 9), 0.45, 0.45),
]


def grid(sizes=(1, 5, 10, 50)) -> list[CaseResult]:
    found = []
    for ipc in sizes:
        for k in (0, 1, 5, 20, 100):
            edit = {0: Hard(), 100: Soft()}.get(k, KeptClasses(k))
            case = Case(ipc, None if k == 0 else 9, edit=edit)
            test = 0.1 + 0.05 * len(str(ipc)) + 0.004 * ipc + 0.001 * k
            found.append(result(case, test, test, label_bytes=40 + 3 * k * ipc))
    return found


def test_validation_chooses_and_the_test_set_flatters():
    assert {ipc: chosen.case.epoch for ipc, chosen in best_by_ipc(BY_EPOCH).items()} == {1: 1, 5: 9, 9: 9}
    assert flattery(BY_EPOCH) == pytest.approx({1: 0.05, 5: 0.0, 9: 0.0})


def test_a_case_stands_beside_the_same_images_with_unchanged_labels():
    swapped, averaged = Case(1, 9, edit=Swapped(2)), Case(1, 9, members=4)
    cases = [Case(1, 9), swapped, averaged, Case(1, edit=Hard()), Case(5, 9), Case(5, 3), Case(5, edit=Hard())]
    values = {
        Case(1, 9): [0.3, 0.5], swapped: [0.2, 0.3], averaged: [0.4, 0.6], Case(1, edit=Hard()): [0.1, 0.3],
    }  # fmt: skip
    results = [replace(result(case, 0.5, 0.5), accuracy=Accuracy.of(values.get(case, [0.5, 0.5]))) for case in cases]
    found = beside_unchanged(results)
    # The last is of two epochs, beside neither.
    assert [each and round(each.mean, 6) for each in found] == [None, -0.15, 0.1, -0.2, None, None, None]
    assert found[1].std == pytest.approx(0.05 * 2**0.5)
    table = markdown(study_named("swap"), results[:2])
    assert "| beside unchanged labels |" in table
    assert "| -15.0 ± 7.1 |" in table
    assert document(study_named("swap"), results)["cases"][1]["beside_unchanged"]["values"] == pytest.approx(
        (-0.1, -0.2)
    )
    assert "beside unchanged" not in markdown(study_named("expert-epoch"), results[4:6])


def test_one_removed_class_stands_beside_its_own_control():
    control = [Case(1, 9, edit=Control(removed)) for removed in (0, 3)]
    gone = [replace(case, edit=WithoutImages(case.edit.removed)) for case in control]
    found = beside_unchanged([result(case, 0.1 * place, 0.5) for place, case in enumerate([*control, *gone])])
    assert [each and round(each.mean, 6) for each in found] == [None, None, 0.2, 0.2]


def test_frontier_by_validation_alone():
    assert frontier(BY_EPOCH) == [BY_EPOCH[0], BY_EPOCH[3]]
    assert [each.data_bytes for each in frontier(BY_EPOCH)] == [1100, 5100]
    told = document(study_named("expert-epoch"), BY_EPOCH)["frontier"]
    assert [entry["case"] for entry in told] == [{"ipc": 1, "epoch": 1}, {"ipc": 5, "epoch": 9}]
    assert "5,100 bytes: ipc 5, epoch 9, test 50.0 ± 1.4 %" in markdown(study_named("expert-epoch"), BY_EPOCH)


def test_exchange_of_the_law_of_a_grid():
    found = grid()
    assert sorted({kept_classes(each) for each in found}) == [0, 1, 5, 20, 100]
    law = law_of(found)
    rows = exchange(law, found)
    assert [(row["ipc"], row["k"]) for row in rows] == [(ipc, k) for ipc in (1, 5, 10, 50) for k in (5, 20, 100)]
    row = rows[4]
    assert row["worth"]["low"] < row["worth"]["value"] < row["worth"]["high"]
    replaced = row["image_bytes_a_label_byte"]
    for name in ("value", "low", "high"):
        assert replaced[name] == pytest.approx((row["worth"][name] - 1) * 5000 / (3 * 20 * 5))
    assert [row["beyond"] for row in rows] == [row["worth"]["value"] * row["ipc"] > 50 for row in rows]
    assert document(study_named("scaling"), found)["law"]["exchange"] == rows
    assert "| 5 | 20 |" in markdown(study_named("scaling"), found)


def test_labels_that_do_worse_than_hard_ones_are_not_worth_more():
    found = [
        replace(each, accuracy=Accuracy.of([0.30 - 0.01 * len(str(each.case.ipc)) - 0.001 * (kept_classes(each) > 0)]))
        for each in grid()
    ]
    rows = exchange(law_of(found), found)
    assert all(row["worth"]["value"] is None and row["image_bytes_a_label_byte"]["value"] is None for row in rows)
    assert json.loads(json.dumps(document(study_named("scaling"), found), allow_nan=False))["law"]["exchange"] == rows
    assert "not to be told: more hard labels do not help" in markdown(study_named("scaling"), found)


def test_equals_are_one_point_of_the_frontier():
    tied = [result(Case(1, epoch), 0.3, 0.31) for epoch in (1, 9, 30)]
    assert frontier([*tied, BY_EPOCH[3]]) == [tied[0], BY_EPOCH[3]]


def test_argmax_labels_have_no_place_in_the_law():
    found = grid()
    changed = [replace(each, accuracy=Accuracy.of([0.9])) if kept_classes(each) == 1 else each for each in found]
    assert (law_of(changed).coefficients == law_of(found).coefficients).all()


def test_too_small_a_grid_says_so():
    assert "law" not in document(study_named("scaling"), grid(sizes=(5,)))
    assert "No scaling law: it takes two numbers of images" in markdown(study_named("scaling"), grid(sizes=(5,)))


@pytest.mark.parametrize("found", [grid(), grid(sizes=(5,)), grid(sizes=(1, 10))[:1]])
def test_figure_of_any_grid(found):
    assert len(figure(study_named("scaling"), found).axes) == 3, "two panels and a bar of colours"
    assert png(figure(study_named("scaling"), found)) == png(figure(study_named("scaling"), found))


def test_frontier_in_the_figure_of_epochs():
    _, envelope = figure(study_named("expert-epoch"), BY_EPOCH).axes
    assert envelope.get_xlabel() == "Bytes of images and labels on disk"
    assert [text.get_text().strip() for text in envelope.texts] == ["epoch 1", "epoch 9"]


def axes_of(name: str, cases: list[Case]) -> list:
    return figure(study_named(name), [result(case, 0.2 + 0.001 * place, 0.2) for place, case in enumerate(cases)]).axes


def test_every_line_of_temperatures_is_told_from_the_others():
    cases = [Case(ipc, epoch, edit=Softened(value)) for ipc in (1, 5) for epoch in range(1, 9) for value in (2.0, 4.0)]
    panels = axes_of("temperature", cases)
    assert [panel.get_xlabel() for panel in panels] == [
        "Temperature of the label, 1 image a class",
        "Temperature of the label, 5 images a class",
    ]
    for panel in panels:
        looks = [(line.get_color(), line.get_marker()) for line in panel.get_lines() if line.get_linestyle() == "-"]
        assert len(set(looks)) == 8
        assert [label.get_text() for label in panel.get_xticklabels()] == ["2", "4"]


def test_swaps_begin_with_none():
    cases = [
        Case(1, 9),
        *(Case(1, 9, edit=edit(value)) for edit in (Swapped, SwappedTop) for value in (1, 2)),
    ]
    for panel in axes_of("swap", cases):
        assert [label.get_text() for label in panel.get_xticklabels()] == ["nothing", "1", "2"]


def test_bars_stay_within_what_an_accuracy_can_be():
    found = [replace(result(Case(1, 9, edit=Control(0)), 0.5, 0.5), class_accuracy=Accuracy.of([0.0, 0.0, 0.9]))]
    of_class, of_all = figure(study_named("zero-shot"), found).axes
    ((segment,),) = [bars.get_segments() for bars in of_class.collections]
    assert segment[:, 1].min() == 0
    assert of_all.get_ylabel() == "Test accuracy of all classes (%)"
    beside = replace(found[0], case=Case(1, 9, edit=WithoutImages(0)))
    assert "| 1 | 9 | 0 | control |" in markdown(study_named("zero-shot"), [*found, beside])
