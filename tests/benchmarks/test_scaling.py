"""The benchmark of scaling reads its logs rightly; the rest of it takes minutes, and Ray."""

import importlib.util
import sys

import pytest

from tests.conftest import CHECKOUT


@pytest.fixture(scope="module")
def scaling():
    found = importlib.util.spec_from_file_location("scaling", CHECKOUT / "benchmarks" / "scaling.py")
    module = importlib.util.module_from_spec(found)
    sys.modules["scaling"] = module
    sys.path.insert(0, str(CHECKOUT / "benchmarks"))
    found.loader.exec_module(module)
    yield module
    sys.path.remove(str(CHECKOUT / "benchmarks"))
    del sys.modules["scaling"]


def test_the_steady_state_is_when_all_are_at_work_and_have_begun(scaling, tmp_path):
    one = [f"1 {second} {second + 0.9} 100" for second in range(10)]
    late = [f"2 {second} {second + 1} 100" for second in range(4, 9)]
    (tmp_path / "log").write_text("\n".join([*one, *late]) + "\n")
    found = scaling.steady(tmp_path / "log")
    assert found["first"] == 5, "when the later one has done a batch"
    # From 5, the later one's second batch, to 9, its end: four batches of each.
    assert found["rate"] == pytest.approx(200)
    assert found["of_teacher"] == pytest.approx(0.95)


def test_a_manifest_grows_by_the_same_bytes_for_each_shard(scaling):
    sizes = [scaling.manifest_bytes(shards)["bytes"] for shards in (1000, 2000, 3000)]
    assert sizes[2] - sizes[1] == pytest.approx(sizes[1] - sizes[0], rel=0.01)
    assert (sizes[2] - sizes[1]) / 1000 < 100
