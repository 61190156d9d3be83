"""Selecting views: in order of their labels' scores, and everything that asks for a view gets the one selected."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpqld.codecs import Logits, dense_ids
from lpqld.codecs.dense import Dense
from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError, DataError
from lpqld.images.image_set import ImageSet
from lpqld.labels.compress import encode
from lpqld.labels.fidelity import TEMPERATURES, largest_difference, probabilities, total_variation
from lpqld.labels.label_set import Labels, LabelSet
from lpqld.labels.relabel import Labeler, specify
from lpqld.labels.select import SELECTIONS, reordered
from lpqld.training.dataset import ViewDataset
from tests.checks import RULE, equal_labels, equal_logits, made_up_labels

IMAGES = ImageSet.open("digits:train").sample_per_class(3, 0)
LABELS = made_up_labels(IMAGES, 20, shard_views=170)  # 600 labels; view numbers take five bits
SELECTED = {by: reordered(LABELS, by) for by in SELECTIONS[1:]}

every_selection = pytest.mark.parametrize("by", SELECTIONS[1:])


def plain_score(label: Logits, num_classes: int, by: str) -> float:
    """Of one label, class by class."""
    logits = [-math.inf if label.absent is None else float(label.absent[0].sum())] * num_classes
    for column, value in zip(label.ids[0].tolist(), label.values[0].tolist(), strict=True):
        logits[column] = value
    weights = [math.exp(logit - max(logits)) for logit in logits]
    p = [weight / math.fsum(weights) for weight in weights]
    if by == "confidence":
        return max(p)
    if by == "classes":
        return sum(probability > 1 / num_classes for probability in p)
    return -math.fsum(probability * math.log(probability) for probability in p if probability > 0)


def plain_order(labels: Labels, by: str) -> list[int]:
    """Which of the old positions stands at each new one."""
    num_images, numbers = labels.spec.num_images, labels.view_numbers
    name, sign = (by[4:], 1) if by.startswith("low-") else (by, -1)
    order = [0] * labels.spec.num_views
    for first in range(num_images):
        positions = range(first, labels.spec.num_views, num_images)
        score = {
            p: round(plain_score(labels.logits.take(slice(p, p + 1)), labels.spec.num_classes, name), 9)
            for p in positions
        }
        best_first = sorted(positions, key=lambda p: (sign * score[p], numbers[p]))
        for place, position in zip(positions, best_first, strict=True):
            order[place] = position
    return order


@st.composite
def label_sets(draw: st.DrawFn) -> Labels:
    """Of few images, classes and values, so that many labels tie; images hold different counts of views."""
    num_classes, num_images = draw(st.integers(2, 6)), draw(st.integers(1, 5))
    views_per_image = draw(st.integers(1, 6))
    images = ImageSet(
        torch.zeros(num_images, 3, 2, 2, dtype=torch.uint8),
        torch.tensor(draw(st.lists(st.integers(0, num_classes - 1), min_size=num_images, max_size=num_images))),
        tuple(map(str, range(num_classes))),
        np.arange(num_images, dtype=np.int64),
        np.ones(num_images, dtype=np.int64),
        "made up",
    )
    spec = made_up_labels(images, views_per_image, shard_views=4).spec
    values = draw(
        st.lists(st.integers(0, 2), min_size=spec.num_views * num_classes, max_size=spec.num_views * num_classes)
    )
    logits = np.array(values, dtype=np.float32).reshape(spec.num_views, num_classes)
    whole = Labels(spec, Logits(dense_ids(*logits.shape), logits))
    absent = draw(st.sampled_from(["none", "minimum", "tail"]))
    codec = draw(st.sampled_from([Dense(), TopK(draw(st.integers(1, num_classes)), 0.5, absent)]))
    return encode(whole, codec, num_views=draw(st.integers(num_images, spec.num_views))).decode()


class TestOrder:
    @every_selection
    @settings(max_examples=40)
    @given(labels=label_sets())
    def test_the_order_is_that_of_a_plain_reference(self, by, labels):
        found, expected = reordered(labels, by), plain_order(labels, by)
        assert found.spec == replace(labels.spec, select=by)
        assert found.view_numbers.tolist() == [position // labels.spec.num_images for position in expected]
        assert equal_logits(found.logits, labels.logits.take(np.array(expected)))

    @settings(max_examples=40)
    @given(labels=label_sets(), before=st.sampled_from(SELECTIONS), by=st.sampled_from(SELECTIONS[1:]), data=st.data())
    def test_a_selected_and_pruned_set_can_be_selected_from_again(self, labels, before, by, data):
        count = data.draw(st.integers(labels.spec.num_images, labels.spec.num_views))
        pruned = encode(reordered(labels, before), labels.spec.codec, num_views=count).decode()
        found, expected = reordered(pruned, by), np.array(plain_order(pruned, by))
        assert found.view_numbers.tolist() == pruned.view_numbers[expected].tolist()
        assert equal_logits(found.logits, pruned.logits.take(expected))

    @every_selection
    def test_the_order_before_is_no_matter_where_all_views_are_there(self, by):
        assert all(equal_labels(reordered(other, by), SELECTED[by]) for other in SELECTED.values())

    def test_labels_in_several_chunks_score_alike(self, monkeypatch):
        monkeypatch.setattr("lpqld.labels.fidelity._CHUNK_VALUES", 70)
        assert equal_labels(reordered(LABELS, "entropy"), SELECTED["entropy"])

    @every_selection
    def test_every_image_keeps_its_best_views(self, by):
        kept = encode(SELECTED[by], Dense(), num_views=100).decode()
        names = np.arange(100) % 30
        assert np.bincount(names).tolist() == [4] * 10 + [3] * 20
        for image in range(30):
            left = set(range(20)) - set(kept.numbers[names == image].tolist())
            assert len(left) == 20 - (names == image).sum()
        name, sign = (by[4:], -1) if by.startswith("low-") else (by, 1)
        score = np.array([plain_score(LABELS.logits.take(slice(p, p + 1)), 10, name) for p in range(600)]) * sign
        chosen = kept.numbers * 30 + names
        others = np.setdiff1d(np.arange(600), chosen)
        assert all(
            score[chosen[names == image]].min() >= score[others[others % 30 == image]].max() - 1e-9
            for image in range(30)
        )

    def test_first_leaves_the_labels_as_they_are(self):
        assert reordered(LABELS, "first") is LABELS
        assert reordered(SELECTED["entropy"], "first") is SELECTED["entropy"]

    def test_an_unknown_selection_is_refused_before_anything_is_read(self, folder):
        (folder / "labels-00000.lpqld").unlink()
        with pytest.raises(ConfigError, match="unknown selection 'best'; choose one of first, confidence, low-confid"):
            reordered(LabelSet.open(folder), "best")

    def test_view_numbers_go_with_a_selection_and_only_with_one(self):
        for spec, numbers in ((LABELS.spec, SELECTED["entropy"].numbers), (SELECTED["entropy"].spec, None)):
            with pytest.raises(ConfigError, match="labels have view numbers where views were selected"):
                Labels(spec, LABELS.logits, numbers)


class TestViews:
    @pytest.mark.parametrize("mix", ["none", "cutmix", "mixup"])
    def test_pixels_and_logits_are_those_of_the_view_with_that_number(self, mix):
        labels = made_up_labels(IMAGES, 5, rule=replace(RULE, mix=mix, flip=True, cutout=True))
        selected = encode(reordered(labels, "low-entropy"), TopK(3, 0.25), num_views=100).decode()
        data, whole = ViewDataset(IMAGES, selected), ViewDataset(IMAGES, encode(labels, TopK(3, 0.25)).decode())
        positions = np.arange(100)
        found, expected = data[positions], whole[selected.numbers * 30 + positions % 30]
        for name in ("views", "ids", "values", "image_labels"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
        assert (selected.numbers != positions // 30).any()

    def test_views_are_the_same_drawn_at_once_or_batch_by_batch(self, monkeypatch):
        at_once = ViewDataset(IMAGES, SELECTED["entropy"])[np.arange(77)]
        monkeypatch.setattr("lpqld.training.dataset._DRAW_AHEAD", 0)
        assert torch.equal(ViewDataset(IMAGES, SELECTED["entropy"])[np.arange(77)].views, at_once.views)

    def test_epochs_read_every_selected_view_once_before_any_again(self):
        selected = encode(SELECTED["entropy"], Dense(), num_views=100).decode()
        data = ViewDataset(IMAGES, selected)
        read = np.concatenate([np.concatenate(data.batches(epoch, 10)) for epoch in range(4)])
        assert sorted(set(read.tolist())) == list(range(100))
        rows, numbers = selected.views_of(IMAGES).rows_and_numbers(read)
        assert sorted(rows[:30].tolist()) == list(range(30))
        assert len(set(zip(rows.tolist(), numbers.tolist(), strict=True))) == 100


class TestFidelity:
    def test_the_views_that_both_hold_are_compared(self):
        ours = encode(SELECTED["entropy"], TopK(3), num_views=200).decode()
        theirs = encode(SELECTED["low-confidence"], TopK(5), num_views=300).decode()
        for reference in (theirs, LABELS, encode(LABELS, Dense(), num_views=150).decode()):
            mine, others = (
                {(place % 30, number): place for place, number in enumerate(one.view_numbers.tolist())}
                for one in (ours, reference)
            )
            views = [(mine[view], others[view]) for view in mine if view in others]
            assert views
            distances = total_variation(ours, reference)
            for temperature in TEMPERATURES:
                total = 0.0
                for place, other in views:
                    p, q = (
                        probabilities(one.logits.take(slice(row, row + 1)), temperature, 10)
                        for one, row in ((ours, place), (reference, other))
                    )
                    total += np.abs(p - q).sum() / 2
                assert distances[temperature] == pytest.approx(total / len(views), abs=1e-9)
                assert total_variation(reference, ours)[temperature] == pytest.approx(distances[temperature])

    def test_the_same_views_in_another_order_are_at_no_distance(self):
        assert set(total_variation(SELECTED["entropy"], LABELS).values()) == {0.0}

    def test_sets_that_share_no_view_cannot_be_compared(self):
        most, least = (encode(SELECTED[by], Dense(), num_views=30).decode() for by in ("entropy", "low-entropy"))
        with pytest.raises(DataError, match=r"share no view and cannot be compared: .* by entropy and low-entropy"):
            total_variation(most, least)

    def test_recomputed_labels_are_those_of_the_selected_views(self, images, teacher):
        device = torch.device("cpu")
        spec = specify(teacher, images, RULE, views_per_image=4, seed=5, batch_size=16, device=device)
        batches = Labeler(teacher, images, RULE, 5, device).batches(0, spec.num_views, 16, Dense())
        real = Labels(spec, Logits.concatenate(list(batches)))
        selected = encode(reordered(real, "entropy"), TopK(3, 0.25), num_views=70).decode()
        options = {"num_views": 70, "seed": 0, "device": device}
        assert largest_difference(selected, images, teacher, **options) < 1
        wrong = Labels(selected.spec, selected.logits, (selected.numbers + 1) % 4)
        assert largest_difference(wrong, images, teacher, **options) > 1


class TestCommands:
    def test_compress_selects_and_inspect_says_how(self, folder, in_process, tmp_path):
        whole = LabelSet.open(folder)
        line = ("compress", folder, tmp_path / "sure", "--prune-ratio", "0.5", "--select", "confidence", "--json")
        assert in_process(*line).document["select"] == "confidence"
        expected = encode(reordered(whole, "confidence"), whole.spec.codec, num_views=60)
        assert LabelSet.open(tmp_path / "sure").manifest == expected.manifest
        smaller = ("compress", tmp_path / "sure", tmp_path / "smaller", "--prune-ratio", "0.75", "--json")
        assert in_process(*smaller).document["select"] == "confidence"
        assert in_process("inspect", tmp_path / "smaller", "--json").document["select"] == "confidence"
        assert in_process("inspect", folder, "--json").document["select"] == "first"
        assert in_process("verify", tmp_path / "smaller", "--json").document["num_views"] == 30
        against = ("inspect", tmp_path / "smaller", "--against", folder, "--json")
        assert set(in_process(*against).document["total_variation"].values()) == {0.0}
        assert re.search(r"select +confidence", in_process("inspect", tmp_path / "smaller").stdout)

    def test_a_budget_is_filled_with_selected_views(self, folder, in_process, tmp_path):
        line = ("compress", folder, tmp_path / "out", "--budget", "1500B", "--select", "low-classes", "--json")
        document = in_process(*line).document
        assert 30 < document["num_views"] < 120
        assert document["bytes"]["total"] <= 1500

    def test_exported_tables_have_the_numbers_of_the_views(self, folder, tmp_path):
        import pyarrow.parquet as pq

        from sweeps.report.hub_data_set import write_data_set

        encoded = encode(reordered(LabelSet.open(folder), "entropy"), TopK(3, 0.25), num_views=50)
        encoded.write(tmp_path / "selected")
        write_data_set(LabelSet.open(tmp_path / "selected"), IMAGES, tmp_path / "hub")
        table = pq.read_table(tmp_path / "hub" / "labels").to_pydict()
        labels = encoded.decode()
        views = labels.views_of(IMAGES)
        rows, numbers = views.rows_and_numbers(np.arange(50))
        assert table["view"] == numbers.tolist() == labels.numbers.tolist()
        assert table["image_id"] == IMAGES.ids[rows].tolist()
        assert np.array(table["crop"], dtype=np.float32).tolist() == views.draw(np.arange(50)).crop.tolist()
