"""Relabeling through Ray Data: the same bytes as in one process, whatever was interrupted."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lpqld.errors import ConfigError, DataError
from lpqld.images.image_set import ImageSet
from lpqld.labels.label_set import LabelSet
from lpqld.labels.manifest import MANIFEST_FILE
from lpqld.labels.relabel import Labeler, specify
from lpqld.labels.shards import shard_file
from lpqld.models.architectures import build
from lpqld.models.teacher import Teacher, load_teacher, save_teacher
from lpqld.models.teacher_spec import TeacherSpec
from lpqld.views.rule import ViewRule
from sweeps.jobs.relabel_shards import relabel
from tests.checks import untrained_teacher
from tests.conftest import exit_code_of, kill_9, started, wait_until
from tests.heard import Heard

CPU = torch.device("cpu")
RULE = ViewRule(crop_scale=(0.6, 1.0), flip=False)

pytestmark = pytest.mark.usefixtures("ray_cluster", "one_thread")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return ImageSet.open("digits:train").sample_per_class(2, seed=0)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return untrained_teacher()


def spec_of(teacher, images, seed=0, **options):
    fixed = {"views_per_image": 30, "batch_size": 50, "shard_views": 100}
    return specify(teacher, images, RULE, seed=seed, device=CPU, **{**fixed, **options})


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def finished(teacher, images, tmp_path_factory) -> Path:
    """600 labels in 6 shards, made through Ray."""
    folder = tmp_path_factory.mktemp("labels") / "finished"
    heard = Heard()
    relabel(teacher, images, spec_of(teacher, images), folder, progress=heard)
    assert heard.counts == [("relabel", done, 6) for done in range(7)]
    (sentence,) = heard.said
    assert sentence.startswith("decoded images: "), "said once"
    return folder


class TestShards:
    def test_bytes_are_those_of_the_labeler_in_this_process(self, teacher, images, finished):
        spec, labeler = spec_of(teacher, images), Labeler(teacher, images, RULE, 0, CPU)
        expected = {shard_file(index): labeler.shard(spec, index) for index in range(6)}
        found = files(finished)
        manifest = found.pop(MANIFEST_FILE)
        assert found == expected, "the shards and nothing else"
        made = LabelSet.open(finished)
        assert made.num_bytes["total"] == len(manifest) + sum(map(len, expected.values()))
        made.verify()

    def test_more_workers_than_cpus_and_another_codec(self, teacher, images, tmp_path):
        spec = spec_of(teacher, images, codec="topk", k=3, bits=4)
        relabel(teacher, images, spec, tmp_path / "labels", workers=3)
        labeler = Labeler(teacher, images, RULE, 0, CPU)
        found = files(tmp_path / "labels")
        assert [found[shard_file(index)] for index in range(6)] == [labeler.shard(spec, index) for index in range(6)]


class TestResume:
    def interrupted(self, finished: Path, folder: Path, teacher, images, lost=(1, 4)) -> Path:
        """What a job that died leaves: its claim, some shards, a file half written; no manifest."""
        shutil.copytree(finished, folder)
        for index in lost:
            (folder / shard_file(index)).unlink()
        (folder / MANIFEST_FILE).unlink()
        claim = {"fingerprint": spec_of(teacher, images).fingerprint}
        (folder / ".relabel.json").write_text(json.dumps(claim))
        (folder / f".{shard_file(1)}.0123abcd.partial").write_bytes(b"half")
        return folder

    def test_only_missing_shards_are_made(self, teacher, images, finished, tmp_path):
        folder = self.interrupted(finished, tmp_path / "labels", teacher, images)
        kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("labels-*")}
        heard = Heard()
        relabel(teacher, images, spec_of(teacher, images), folder, workers=1, progress=heard)
        assert heard.counts == [("relabel", done, 6) for done in (4, 5, 6)]
        assert files(folder) == files(finished), "byte for byte, and no stray file"
        assert kept == {name: (folder / name).stat().st_mtime_ns for name in kept}

    def test_only_the_manifest_is_missing(self, teacher, images, finished, tmp_path):
        folder = self.interrupted(finished, tmp_path / "labels", teacher, images, lost=())
        relabel(teacher, images, spec_of(teacher, images), folder)
        assert files(folder) == files(finished)

    def test_finished_folder_is_left_alone(self, teacher, images, finished):
        before = {path.name: path.stat().st_mtime_ns for path in finished.iterdir()}
        again = relabel(teacher, images, spec_of(teacher, images), finished)
        assert again.spec.num_views == 600
        assert {path.name: path.stat().st_mtime_ns for path in finished.iterdir()} == before

    def test_another_specification_is_refused(self, teacher, images, finished, tmp_path):
        other = spec_of(teacher, images, seed=1)
        before = files(finished)
        with pytest.raises(ConfigError, match=r"holds another label set \(seed\); choose another --out"):
            relabel(teacher, images, other, finished)
        assert files(finished) == before
        folder = self.interrupted(finished, tmp_path / "labels", teacher, images)
        before = files(folder)
        with pytest.raises(ConfigError, match="unfinished shards of another relabel job"):
            relabel(teacher, images, other, folder)
        assert files(folder) == before

    def test_folder_of_something_else_is_refused(self, teacher, images, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(ConfigError, match="is not empty and is no relabel job"):
            relabel(teacher, images, spec_of(teacher, images), tmp_path)
        assert files(tmp_path) == {"mine.txt": b"mine"}


class TestFailure:
    def test_teacher_whose_logits_are_not_finite(self, teacher, images, tmp_path):
        model = build("convnet", 10)
        with torch.no_grad():
            next(iter(model.parameters())).fill_(float("nan"))
        broken = Teacher(model, TeacherSpec("convnet", 10, 8))
        with pytest.raises(DataError, match=r"logits of image \d+, view \d+ are not finite"):
            relabel(broken, images, spec_of(broken, images), tmp_path / "labels", workers=1)
        assert not (tmp_path / "labels" / MANIFEST_FILE).exists()

    def test_folder_that_cannot_be_written(self, teacher, images, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="cannot write"):
            relabel(teacher, images, spec_of(teacher, images), tmp_path / "file" / "labels")

    def test_damage_after_the_fact_is_found(self, teacher, images, finished, tmp_path):
        folder = tmp_path / "labels"
        shutil.copytree(finished, folder)
        content = bytearray((folder / shard_file(2)).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / shard_file(2)).write_bytes(content)
        with pytest.raises(DataError, match=r"labels-00002\.lpqld: its checksum does not match"):
            LabelSet.open(folder).verify()


def test_ctrl_c_then_kill_9_of_the_command_midway_then_the_same_command(teacher, in_process, tmp_path):
    save_teacher(tmp_path / "teacher.safetensors", teacher, replace(teacher.spec, class_names=tuple("0123456789")))
    folder, total = tmp_path / "labels", -(-1078 * 40 // 1100)
    where = ["--images", "digits:train", "--teacher", str(tmp_path / "teacher.safetensors")]
    line = ["relabel", *where, "--views", "40", "--preset", "digits", "--json", "--out", str(folder)]
    err = tmp_path / "err"

    def shards() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("labels-*")}

    def further(before: int) -> bool:
        return len(shards()) > before

    with started(line, tmp_path / "out", err) as process:
        wait_until(lambda: further(0), process, err)
        process.send_signal(signal.SIGINT)
        assert exit_code_of(process, err) == 130
    assert "To go on, run: lpqld relabel" in err.read_text()
    kept = shards()
    with started(line, tmp_path / "out", err) as process:
        wait_until(lambda: further(len(kept)), process, err)
        kill_9(process)
    assert kept.items() < shards().items(), "what was finished is not done again"
    kept = shards()
    assert len(kept) < total, "it was killed midway"
    assert not (folder / MANIFEST_FILE).exists()

    done = in_process(*line, "--workers", 1)
    assert done.document["num_views"] == 1078 * 40
    assert f"relabel: {total} of {total}" in done.stderr
    assert kept.items() < shards().items()
    made = LabelSet.open(folder)
    made.verify()
    labeler = Labeler(made_by(tmp_path), ImageSet.open("digits:train"), made.spec.view_rule, 0, CPU)
    found = files(folder)
    found.pop(MANIFEST_FILE)
    assert found == {shard_file(index): labeler.shard(made.spec, index) for index in range(total)}


def made_by(folder: Path) -> Teacher:
    """The teacher of the command."""
    names = ImageSet.open("digits:train").class_names
    return load_teacher(folder / "teacher.safetensors", image_class_names=names)
