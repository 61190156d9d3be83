"""What is heard of Tune's trials, in the process that listens and in no other."""

import os
import pickle
from types import SimpleNamespace

import pytest
from ray.exceptions import RayTaskError

from lpqld.errors import DataError
from sweeps.search.run import _environment
from sweeps.search.trial_watch import TrialWatch


def failed_trial(folder, cause: Exception) -> SimpleNamespace:
    path = folder / "error.pkl"
    path.write_bytes(pickle.dumps(RayTaskError("train", "traceback", cause)))
    return SimpleNamespace(pickled_error_file=str(path))


def test_a_trial_that_ends_is_told_with_its_parameters():
    heard = []
    TrialWatch(heard.append).on_trial_complete(1, [], SimpleNamespace(config={"k": 2}))
    assert heard == [{"k": 2}]


def test_a_pickled_watch_has_no_listener():
    watch = TrialWatch(lambda config: None)  # a function that pickle refuses
    pickle.loads(pickle.dumps(watch)).on_trial_complete(1, [], SimpleNamespace(config={}))


def test_a_mistake_ends_the_search_and_bad_luck_does_not(tmp_path):
    watch = TrialWatch(print)
    watch.on_trial_recover(1, [], failed_trial(tmp_path, OSError("the disk was full")))
    assert watch.mistake is None
    with pytest.raises(DataError, match="no such image"):
        watch.on_trial_recover(1, [], failed_trial(tmp_path, DataError("no such image")))
    assert isinstance(watch.mistake, DataError)


def test_environment_variables_are_put_back(monkeypatch):
    monkeypatch.setenv("LPQLD_TEST_SET", "before")
    monkeypatch.delenv("LPQLD_TEST_UNSET", raising=False)
    with _environment({"LPQLD_TEST_SET": "inside", "LPQLD_TEST_UNSET": "inside"}):
        assert os.environ["LPQLD_TEST_SET"] == os.environ["LPQLD_TEST_UNSET"] == "inside"
    assert os.environ["LPQLD_TEST_SET"] == "before"
    assert "LPQLD_TEST_UNSET" not in os.environ
