"""What follows from findings: what validation chose, the frontier, the exchange rate; their figures and tables."""

from dataclasses import replace

import pytest

from sweeps.palette import png
from sweeps.result import Accuracy
from sweeps.study import Finding
from sweeps.study_cases import Case
from sweeps.study_figures import figure
from sweeps.study_frontier import best_by_ipc, data_bytes, exchange, flattery, frontier, kept_classes, law_of
from sweeps.study_report import document, markdown


def finding(case: Case, test: float, validation: float, label_bytes: int = 100) -> Finding:
    accuracy = Accuracy.of([test - 0.01, test + 0.01])
    return Finding(
        case=case,
        accuracy=accuracy,
        val_accuracy=Accuracy.of([validation]),
        class_accuracy=None,
        label_bytes=label_bytes,
        image_bytes=1000 * case.ipc,
        num_classes=100,
        entropy=1.0,
        expert_accuracy=0.5,
        labels="labels",
    )


BY_EPOCH = [
    finding(Case(1, 1), 0.30, 0.31),
    finding(Case(1, 9), 0.35, 0.30),
    finding(Case(5, 1), 0.40, 0.41),
    finding(Case(5, 9), 0.50, 0.52),
    finding(Case(9, 9), 0.45, 0.45),
]


def grid(sizes=(1, 5, 10, 50)) -> list[Finding]:
    found = []
    for ipc in sizes:
        for k in (0, 1, 5, 20, 100):
            edit = {0: "hard", 100: "none"}.get(k, "top-k")
            case = Case(ipc, None if k == 0 else 9, edit=edit, value=float(k) if edit == "top-k" else None)
            test = 0.1 + 0.05 * len(str(ipc)) + 0.004 * ipc + 0.001 * k
            found.append(finding(case, test, test, label_bytes=40 + 3 * k * ipc))
    return found


def test_validation_chooses_and_the_test_set_flatters():
    assert {ipc: chosen.case.epoch for ipc, chosen in best_by_ipc(BY_EPOCH).items()} == {1: 1, 5: 9, 9: 9}
    assert flattery(BY_EPOCH) == pytest.approx({1: 0.05, 5: 0.0, 9: 0.0})


def test_frontier_by_validation_alone():
    assert frontier(BY_EPOCH) == [BY_EPOCH[0], BY_EPOCH[3]]
    assert [data_bytes(each) for each in frontier(BY_EPOCH)] == [1100, 5100]
    told = document("expert-epoch", BY_EPOCH)["frontier"]
    assert [entry["case"] for entry in told] == [{"ipc": 1, "epoch": 1}, {"ipc": 5, "epoch": 9}]
    assert "5,100 bytes: ipc 5, epoch 9, test 50.0 ± 1.4 %" in markdown("expert-epoch", BY_EPOCH)


def test_exchange_of_the_law_of_a_grid():
    found = grid()
    assert sorted({kept_classes(each) for each in found}) == [0, 1, 5, 20, 100]
    law = law_of(found)
    rows = exchange(law, found)
    assert [(row["ipc"], row["k"]) for row in rows] == [(ipc, k) for ipc in (1, 5, 10, 50) for k in (5, 20, 100)]
    row = rows[4]
    assert row["worth"]["low"] < row["worth"]["value"] < row["worth"]["high"]
    assert row["image_bytes_a_label_byte"] == pytest.approx((row["worth"]["value"] - 1) * 5000 / (3 * 20 * 5))
    assert [row["beyond"] for row in rows] == [row["worth"]["value"] * row["ipc"] > 50 for row in rows]
    assert document("scaling", found)["law"]["exchange"] == rows
    assert "| 5 | 20 |" in markdown("scaling", found)


def test_argmax_labels_have_no_place_in_the_law():
    found = grid()
    changed = [replace(each, accuracy=Accuracy.of([0.9])) if kept_classes(each) == 1 else each for each in found]
    assert (law_of(changed).coefficients == law_of(found).coefficients).all()


def test_too_small_a_grid_says_so():
    assert "law" not in document("scaling", grid(sizes=(5,)))
    assert "No scaling law: it takes two numbers of images" in markdown("scaling", grid(sizes=(5,)))


@pytest.mark.parametrize("found", [grid(), grid(sizes=(5,)), grid(sizes=(1, 10))[:1]])
def test_figure_of_any_grid(found):
    assert len(figure("scaling", found).axes) == 3, "two panels and a bar of colours"
    assert png(figure("scaling", found)) == png(figure("scaling", found))


def test_frontier_in_the_figure_of_epochs():
    _, envelope = figure("expert-epoch", BY_EPOCH).axes
    assert envelope.get_xlabel() == "Bytes of images and labels on disk"
    assert [text.get_text().strip() for text in envelope.texts] == ["epoch 1", "epoch 9"]
