"""One training: the bytes of every kind of choice, and what is kept and read."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from lpqld.errors import DataError
from lpqld.training.loop import train
from sweeps.search.choice_kinds import (
    AllLabels,
    HardLabels,
    PaperLabels,
    PrunedLabels,
    RealImageLabels,
    SearchedLabels,
)
from sweeps.search.trial import NUM_RUNGS, TrialResult, result_path, run_trial

CPU = torch.device("cpu")
SEARCH = SearchedLabels(budget=2600, k=2, bits=4, temperature="20:2:cosine", ca="fit", lr=0.004)


class TestTraining:
    def test_result_is_kept_and_not_made_again(self, small_shared, tmp_path, monkeypatch):
        rungs = []
        first = run_trial(SEARCH, small_shared, 0, tmp_path, device=CPU, on_rung=rungs.append)
        assert [rung.finished for rung in rungs] == [False] * (NUM_RUNGS - 1) + [True]
        assert len(first.history) == 20
        assert first.val_accuracy == first.history[-1].val_accuracy > 0.3
        path = result_path(tmp_path, SEARCH, 0)
        before = path.stat().st_mtime_ns
        monkeypatch.setattr("sweeps.search.trial.train", None)  # whoever trained would fail
        again = run_trial(SEARCH, small_shared, 0, tmp_path, device=CPU, on_rung=rungs.append)
        assert (again, path.stat().st_mtime_ns, rungs[-1]) == (first, before, first)
        assert TrialResult.kept(path) == first

    @pytest.mark.parametrize("epochs", [4, 15, 19])
    def test_any_number_of_epochs_has_ten_rungs_at_most(self, small_shared, tmp_path, epochs):
        rungs = []
        short = replace(small_shared, recipe=replace(small_shared.recipe, epochs=epochs))
        run_trial(SEARCH, short, 0, tmp_path, device=CPU, on_rung=rungs.append)
        assert len(rungs) == {4: 4, 15: 8, 19: 10}[epochs], "one more and early stopping would end every trial"
        assert rungs[-1].finished

    def test_seed_alone_decides(self, small_shared, tmp_path):
        results = [
            run_trial(SEARCH, small_shared, seed, tmp_path / name, device=CPU)
            for seed, name in ((1, "a"), (1, "b"), (2, "c"))
        ]
        losses = [[metrics.loss for metrics in result.history] for result in results]
        assert losses[0] == losses[1] != losses[2]

    def test_stopped_training_is_made_again(self, small_shared, tmp_path):
        result = run_trial(SEARCH, small_shared, 0, tmp_path, device=CPU)
        path = result_path(tmp_path, SEARCH, 0)
        replace(result, finished=False, val_accuracy=0.0).save(path)
        assert run_trial(SEARCH, small_shared, 0, tmp_path, device=CPU).val_accuracy == result.val_accuracy

    @pytest.mark.parametrize("content", [b"", b'{"choice"', b"[]", b"\xff"])
    def test_damaged_result_is_made_again(self, small_shared, tmp_path, content):
        short = replace(small_shared, recipe=replace(small_shared.recipe, epochs=1))
        result = run_trial(SEARCH, short, 0, tmp_path, device=CPU)
        path = result_path(tmp_path, SEARCH, 0)
        path.write_bytes(content)
        assert TrialResult.kept(path) is None
        assert run_trial(SEARCH, short, 0, tmp_path, device=CPU).val_accuracy == result.val_accuracy
        assert TrialResult.kept(path) is not None

    def test_test_set_is_read_only_when_asked(self, small_shared, tmp_path):
        unreadable = replace(small_shared, test=small_shared.test.take([]))
        assert run_trial(SEARCH, unreadable, 0, tmp_path, device=CPU).test_accuracy is None
        with pytest.raises(DataError, match="expected images to measure accuracy on, found none"):
            run_trial(SEARCH, unreadable, 1, tmp_path, device=CPU, with_test=True)
        confirmed = run_trial(SEARCH, small_shared, 0, tmp_path, device=CPU, with_test=True)
        assert 0 < confirmed.test_accuracy <= 1

    @pytest.mark.parametrize(
        "choice",
        [
            HardLabels(temperature="4", lr=0.004),
            AllLabels(temperature="4", lr=0.004),
            RealImageLabels(temperature="4", lr=0.004),
            PrunedLabels(budget=6000, temperature="4", lr=0.004),
            PaperLabels(budget=12_000, k=2, temperature="4", lr=0.004),
        ],
        ids=lambda choice: choice.kind,
    )
    def test_every_baseline_trains(self, small_shared, tmp_path, choice):
        result = run_trial(choice, small_shared, 1, tmp_path, device=CPU, with_test=True)
        assert result.finished
        assert result.test_accuracy > 0.2
        expected = small_shared.real.images if choice.kind == "real" else small_shared.images
        assert result.image_bytes == expected.image_bytes
        assert result.config["kind"] == choice.kind
        assert TrialResult.kept(result_path(tmp_path, choice, 1)) == result


def test_a_diverged_student_is_a_bad_trial_and_no_error(small_shared, tmp_path):
    recipe = replace(small_shared.recipe, optimizer="sgd", epochs=20)
    choice = AllLabels(temperature="1", ca="off", lr=1e12)
    result = run_trial(choice, replace(small_shared, recipe=recipe), 0, tmp_path, device=torch.device("cpu"))
    assert result.finished
    assert result.val_accuracy < 0.3
    assert len(result.history) < 20


def test_a_killed_trial_goes_on_from_its_checkpoint(small_shared, tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.search.trial.train", partial(train, checkpoint_seconds=0))
    whole = run_trial(SEARCH, small_shared, 1, tmp_path / "whole", device=CPU)

    def die(result) -> None:
        if result.history[-1].epoch > 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(SEARCH, small_shared, 1, tmp_path / "again", device=CPU, on_rung=die)
    (kept,) = (tmp_path / "again").glob("*.checkpoint")
    assert kept.stem == result_path(tmp_path, SEARCH, 1).stem
    again = run_trial(SEARCH, small_shared, 1, tmp_path / "again", device=CPU)
    assert (again.val_accuracy, again.history) == (whole.val_accuracy, whole.history)
    assert [path.suffix for path in (tmp_path / "again").iterdir()] == [".json"]
