"""What a choice of labels is, and the bytes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lpqld.codecs.dense import Dense
from lpqld.errors import ConfigError
from lpqld.labels.compress import encode
from lpqld.labels.label_set import LabelSet
from sweeps.search.choice_kinds import (
    KINDS,
    AllLabels,
    HardLabels,
    PaperLabels,
    PrunedLabels,
    RealImageLabels,
    SearchedLabels,
    choice_from_json,
)
from sweeps.search.reference_container import reference_bytes, reference_views
from sweeps.search.shared import MasterLabels, all_label_bytes
from tests.checks import equal_logits

CPU = torch.device("cpu")
SEARCH = SearchedLabels(budget=2600, k=2, bits=4, temperature="20:2:cosine", ca="fit", lr=0.004)

# With the names that their trials have always had.
CHOICES = {
    "search-2.6KB-ffd2cd91": SEARCH,
    "hard-3fd71b74": HardLabels(temperature="1", lr=0.002),
    "all-8fceb234": AllLabels(lr=0.002),
    "real-18070d8f": RealImageLabels(lr=0.002),
    "prune-12KB-a3695aa7": PrunedLabels(budget=12_000, lr=0.002),
    "paper-12KB-eca224bf": PaperLabels(budget=12_000, k=2, temperature="20:2:step", ca="paper", lr=0.002),
}


class TestBytes:
    @pytest.mark.parametrize(
        "choice",
        [
            SEARCH,
            replace(SEARCH, budget=5000, k=10, bits=3),
            replace(SEARCH, budget=8000, k=3, bits=16),
            PrunedLabels(budget=6000),
        ],
        ids=lambda choice: choice.trial_id,
    )
    def test_label_set_of_a_budget_has_the_bytes_that_are_reported_and_is_full(self, small_shared, tmp_path, choice):
        chosen = choice.labels(small_shared)
        choice.encode(small_shared).write(tmp_path / "labels")
        label_set = LabelSet.open(tmp_path / "labels")
        assert label_set.num_bytes["total"] == chosen.label_bytes <= choice.budget
        assert label_set.spec.num_views == chosen.num_views == chosen.labels.spec.num_views
        assert chosen.prune_ratio == pytest.approx(1 - chosen.num_views / 1200)
        recipe = choice.recipe(small_shared).to_json()
        assert label_set.spec.recipe == recipe
        if chosen.num_views < 1200:
            more = encode(
                small_shared.master.labels, chosen.labels.spec.codec, num_views=chosen.num_views + 1, recipe=recipe
            )
            assert more.num_bytes > choice.budget, "one more label would not fit"

    def test_students_get_what_a_reader_of_the_files_gets(self, small_shared):
        for choice in (SEARCH, PrunedLabels(budget=6000), PaperLabels(budget=12_000, k=2)):
            chosen = choice.labels(small_shared)
            spec = chosen.labels.spec
            files = encode(small_shared.master.labels, spec.codec, num_views=spec.num_views, recipe=spec.recipe)
            assert files.spec == spec
            everything = np.arange(spec.num_views)
            assert equal_logits(chosen.labels.take(everything), files.decode().logits)

    def test_sizes_are_kept_on_disk_and_the_same(self, small_shared, tmp_path):
        kept = replace(small_shared, master=replace(small_shared.master, sizes_folder=tmp_path))
        first = SEARCH.labels(kept)
        files = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        assert files
        again = [replace(SEARCH, budget=budget).labels(kept) for budget in (2600, 2500)]
        assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
        assert first.label_bytes == again[0].label_bytes == SEARCH.labels(small_shared).label_bytes
        assert SEARCH.encode(kept).num_bytes == first.label_bytes
        replace(SEARCH, bits=5).labels(kept)
        assert len(list(tmp_path.iterdir())) > len(files)

    def test_labels_of_an_epoch(self, small_shared, tmp_path):
        other = small_shared.real.labels
        by_epoch = {1: MasterLabels(other, tmp_path / "1"), 9: MasterLabels(small_shared.master.labels, tmp_path / "9")}
        shared = replace(small_shared, by_epoch=by_epoch)
        everything = np.arange(40)
        for epoch, master in ((1, other), (9, small_shared.master.labels)):
            choice, own = replace(SEARCH, epoch=epoch), replace(small_shared, master=MasterLabels(master))
            chosen, wanted = choice.labels(shared), SEARCH.labels(own)
            assert chosen.label_bytes == wanted.label_bytes
            assert equal_logits(chosen.labels.take(everything), wanted.labels.take(everything))
            files, own_files = choice.encode(shared), SEARCH.encode(own)
            assert equal_logits(files.decode().logits, own_files.decode().logits)
        assert replace(SEARCH, epoch=9).trial_id != replace(SEARCH, epoch=1).trial_id != SEARCH.trial_id
        assert "epoch" not in SEARCH.params, "trials of sweeps without it keep their names"

    def test_hard_labels_have_none(self, small_shared):
        chosen = HardLabels().labels(small_shared)
        assert (chosen.labels, chosen.label_bytes, chosen.num_views) == (None, 0, 0)

    def test_all_labels_are_fp16_with_their_manifest(self, small_shared, tmp_path):
        chosen = AllLabels().labels(small_shared)
        encode(small_shared.master.labels, Dense()).write(tmp_path / "all")
        assert chosen.label_bytes == LabelSet.open(tmp_path / "all").num_bytes["total"]
        assert chosen.label_bytes == all_label_bytes(small_shared.master.labels) > 1200 * 10 * 2
        assert (chosen.num_views, chosen.prune_ratio) == (1200, 0)

    def test_real_images_have_labels_of_their_own(self, small_shared):
        chosen = RealImageLabels().labels(small_shared)
        assert chosen.labels is small_shared.real.labels
        with pytest.raises(ConfigError, match=r"needs images\.real"):
            RealImageLabels().labels(replace(small_shared, real=None))

    @pytest.mark.parametrize(
        "choice",
        [replace(SEARCH, budget=200), PrunedLabels(budget=200), PaperLabels(budget=200, k=2)],
        ids=lambda choice: choice.kind,
    )
    def test_budget_too_small_for_one_label_an_image(self, small_shared, choice):
        with pytest.raises(ConfigError, match=r"one label per image"):
            choice.labels(small_shared)

    def test_smallest_budget_works_and_one_byte_less_does_not(self, small_shared):
        smallest = SEARCH.smallest_budget(small_shared)
        assert replace(SEARCH, budget=smallest).labels(small_shared).num_views == 30
        with pytest.raises(ConfigError, match=f"the smallest that works is {smallest} bytes"):
            replace(SEARCH, budget=smallest - 1).labels(small_shared)


class TestRecord:
    """What results on disk say of a choice; names of trials and of kinds in it are never changed."""

    def test_every_kind_has_the_name_that_it_always_had(self):
        assert [choice.trial_id for choice in CHOICES.values()] == list(CHOICES)
        assert {choice.kind for choice in CHOICES.values()} == set(KINDS)

    @pytest.mark.parametrize("choice", CHOICES.values(), ids=lambda choice: choice.kind)
    def test_json_has_the_same_fields_for_every_kind_and_is_read_back(self, choice):
        document = choice.to_json()
        fields = ["kind", "budget", "k", "bits", "codec", "temperature", "ca", "lr", "epoch", "hard_every"]
        assert list(document) == fields
        assert choice_from_json(document) == choice
        older = {name: value for name, value in document.items() if name not in ("codec", "epoch", "hard_every")}
        assert choice_from_json(older) == choice, "fields that came later may be missing"

    def test_params_leave_out_what_says_nothing(self):
        assert list(HardLabels().params) == ["kind", "budget", "k", "bits", "temperature", "ca", "lr"]
        said = replace(SEARCH, epoch=9, codec="topk-tail", hard_every=2).params
        assert (said["epoch"], said["codec"], said["hard_every"]) == (9, "topk-tail", 2)


class TestReference:
    """Bytes of the LPQLD reference's files, as method.md section 9 measured them."""

    @pytest.mark.parametrize(
        ("k", "batch_size", "measured"), [(10, 128, 75.6), (50, 128, 235.6), (100, 128, 435.6), (50, 100, 244)]
    )
    def test_bytes_per_view_without_the_index_file(self, k, batch_size, measured):
        num_views = 1000 * batch_size
        assert reference_bytes(num_views, k, batch_size) / num_views - 5 == pytest.approx(measured, rel=0.01)

    def test_bytes_per_view_with_the_index_file(self):
        assert reference_bytes(100_000, 50, 100) / 100_000 == pytest.approx(249, rel=0.01)

    def test_imagenet_21k(self):
        # Its record has a cutout in place of a flip and a mix, so the formula is a little off.
        assert reference_bytes(32_000, 200, 32) / 32_000 == pytest.approx(903, rel=0.02)

    @pytest.mark.parametrize("budget", [6_000, 12_000, 20_000])
    def test_papers_views_fill_the_budget(self, small_shared, budget):
        spec = small_shared.master.labels.spec
        num_views = reference_views(budget, 2, spec)
        assert reference_bytes(num_views, 2, spec.batch_size) <= budget
        assert reference_bytes(num_views + 1, 2, spec.batch_size) > budget
        chosen = PaperLabels(budget=budget, k=2, ca="paper").labels(small_shared)
        assert (chosen.num_views, chosen.label_bytes) == (num_views, reference_bytes(num_views, 2, spec.batch_size))
        assert chosen.labels.take(np.arange(num_views)).ids.shape == (num_views, 2)

    def test_papers_views_are_never_more_than_there_are(self, small_shared):
        assert reference_views(10**9, 2, small_shared.master.labels.spec) == 1200
