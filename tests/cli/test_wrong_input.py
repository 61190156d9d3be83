"""Wrong input: the exit code of its kind, one clear message, no traceback, nothing on stdout, nothing lost."""

import os
import pickle
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lpqld.images.image_set import ImageSet
from lpqld.models.architectures import build
from lpqld.models.teacher import save_teacher
from lpqld.models.teacher_spec import TeacherSpec
from tests.conftest import Finished, exit_code_of, started, wait_until

CONFIG, DATA, INTERRUPTED = 2, 3, 130


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained teacher of ten classes."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_teacher(path, build("convnet", 10), TeacherSpec("convnet", 10, 8, class_names=tuple("0123456789")))
    return path


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty digits as Parquet, to be damaged by tests."""
    folder = tmp_path_factory.mktemp("digits") / "set"
    ImageSet.open("digits:val").sample_per_class(2, seed=0).write(folder)
    (path,) = folder.glob("*.parquet")
    return path


@pytest.fixture
def refused(in_process: Callable[..., Finished]) -> Callable[..., str]:
    """Run a command that must be refused; returns its message, on one line."""

    def run(exit_code: int, *arguments: object) -> str:
        done = in_process(*arguments, "--json")
        assert done.exit_code == exit_code, done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert done.stderr.count("lpqld: error: ") == 1
        return " ".join(done.stderr.split("lpqld: error: ")[1].split())

    return run


def sweep(root: Path, *arguments: object) -> tuple[object, ...]:
    return ("sweep", "digits", "--root", root, *arguments)


def with_image(digits_file: Path, folder: Path, content: bytes) -> Path:
    """The digits with another row 3."""
    table = pq.read_table(digits_file)
    rows: list[dict[str, Any]] = table.to_pylist()
    if isinstance(rows[3]["image"], dict):
        rows[3]["image"]["bytes"] = content
    else:
        rows[3]["image"] = content
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / "damaged.parquet")
    return folder / "damaged.parquet"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestConfiguration:
    def test_unknown_preset(self, refused, tmp_path):
        message = refused(CONFIG, "sweep", "digitz", "--root", tmp_path / "runs")
        assert "'digitz' is neither a preset (cifar10," in message
        assert "did you mean digits?" in message
        assert not (tmp_path / "runs").exists()

    def test_unknown_key(self, refused, tmp_path):
        message = refused(CONFIG, *sweep(tmp_path / "runs", "--set", "student.epoch=3"))
        assert message == "digits: unknown key student.epoch; did you mean epochs?"
        assert not (tmp_path / "runs").exists()

    def test_bad_set(self, refused, tmp_path):
        message = refused(CONFIG, *sweep(tmp_path / "runs", "--set", "student.epochs"))
        assert message.startswith("--set student.epochs: expected key=value")
        assert not (tmp_path / "runs").exists()

    def test_bad_value(self, refused, tmp_path):
        message = refused(CONFIG, *sweep(tmp_path / "runs", "--set", "student.temperature=20:2:linear"))
        assert "temperature '20:2:linear' has the unknown shape 'linear'" in message
        assert not (tmp_path / "runs").exists()

    def test_unknown_student(self, refused, tmp_path):
        message = refused(CONFIG, *sweep(tmp_path / "runs", "--student-arch", "resnet18x"))
        assert "resnet18x" in message

    def test_bad_budget(self, refused, tmp_path):
        assert "'50 apples' is not a size" in refused(CONFIG, *sweep(tmp_path / "runs", "--budget", "50 apples"))

    def test_preset_without_its_data(self, refused, tmp_path):
        message = refused(CONFIG, "sweep", "cifar10", "--root", tmp_path / "runs")
        assert "cifar10 needs data of yours. Pass --images PATH" in message
        assert not (tmp_path / "runs").exists()

    @pytest.mark.usefixtures("ray_cluster")
    def test_impossible_budget(self, refused, teacher, tmp_path):
        tiny = ("--set", "student.epochs=4", "--set", "relabel.workers=1", "--ipc", 2, "--teacher", teacher)
        message = refused(CONFIG, *sweep(tmp_path, *tiny, "--budget", "300", "--budget", "2MB"))
        found = re.search(
            r"budget 300 B is smaller than one label per image; the smallest that works is (\d+)", message
        )
        assert found is not None
        assert 1000 < int(found[1]) < 4000
        assert list((tmp_path / "labels").glob("*/manifest.json")), "the labels that were made are kept"
        # With the budget that it said, the same sweep goes on, under a name of its own.
        line = sweep(tmp_path, *tiny, "--budget", found[1], "--name", "again", "--trials", 1)
        assert "smaller than one label" not in refused(CONFIG, *line, "--set", "search.k=[11]")

    def test_root_below_a_file(self, refused, tmp_path):
        (tmp_path / "file").write_text("mine")
        message = refused(CONFIG, *sweep(tmp_path / "file" / "runs"))
        assert f"cannot write {tmp_path / 'file' / 'runs'}" in message
        assert contents(tmp_path) == {"file": b"mine"}

    def test_root_of_another_configuration(self, refused, teacher, tmp_path):
        # A root that has begun its trials stays its configuration's; what stops both sweeps is the missing teacher.
        missing = ("--teacher", tmp_path / "later.safetensors")
        (tmp_path / "runs" / "digits" / "trials").mkdir(parents=True)
        assert "no teacher at" in refused(CONFIG, *sweep(tmp_path / "runs", *missing))
        before = contents(tmp_path)
        message = refused(CONFIG, *sweep(tmp_path / "runs", *missing, "--trials", 5))
        assert "was made by another configuration (search.trials was 6, now 5)" in message
        assert "Pass another --name or --root" in message
        assert contents(tmp_path) == before
        config = tmp_path / "runs" / "digits" / "config.json"
        config.write_bytes(config.read_bytes()[:100])
        message = refused(DATA, *sweep(tmp_path / "runs", *missing))
        assert f"{config}: damaged" in message
        assert "restore it" in message

    def test_mistake_before_the_first_trial_leaves_the_name_free(self, refused, tmp_path):
        missing = ("--teacher", tmp_path / "later.safetensors")
        for trials in (5, 6):
            assert "no teacher at" in refused(CONFIG, *sweep(tmp_path / "runs", *missing, "--trials", trials))
        assert not (tmp_path / "runs" / "digits" / "config.json").exists()

    def test_address_where_no_cluster_answers(self, lpqld, teacher, tmp_path):
        line = ("relabel", "--images", "digits:val", "--teacher", teacher, "--views", 1, "--out", tmp_path / "labels")
        done = lpqld(*line, "--address", "127.0.0.1:1", "--json", timeout=300)
        assert (done.exit_code, done.stdout) == (CONFIG, "")
        assert "--address 127.0.0.1:1: no Ray cluster answers there" in done.stderr
        assert "Traceback" not in done.stderr


class TestImages:
    def test_missing_file(self, refused, teacher, tmp_path):
        line = ("relabel", "--images", tmp_path / "no.parquet", "--teacher", teacher, "--views", 1)
        assert f"no images at {tmp_path / 'no.parquet'}" in refused(CONFIG, *line, "--root", tmp_path)

    @pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\nrubbish", b""], ids=["corrupt", "empty"])
    def test_bad_image(self, refused, digits_file, teacher, tmp_path, content):
        path = with_image(digits_file, tmp_path, content)
        message = refused(DATA, *sweep(tmp_path / "runs", "--images", path, "--teacher", teacher, "--ipc", 2))
        assert f"{path} row 3" in message
        assert "not a readable image" in message

    @pytest.mark.usefixtures("ray_cluster")
    def test_bad_image_can_be_left_out(self, in_process, digits_file, teacher, tmp_path):
        path = with_image(digits_file, tmp_path, b"")
        line = ("relabel", "--images", path, "--teacher", teacher, "--views", 1, "--out", tmp_path / "labels")
        done = in_process(*line, "--skip-bad-images", "--json")
        assert done.document["num_images"] == 19
        (skipped,) = done.document["skipped"]
        assert skipped.startswith(f"{path} row 3 (")
        assert "left out: " in done.stderr
        small = tmp_path / "small"
        for command in (("compress", tmp_path / "labels", small, "--k", 2), ("inspect", small)):
            assert in_process(*command, "--json").document["skipped"] == [skipped]

    def test_class_missing_in_the_evaluation_set(self, refused, digits_file, teacher, tmp_path):
        table = pq.read_table(digits_file)
        nine = tmp_path / "nine.parquet"
        pq.write_table(table.filter(pa.array(np.array(table["label"]) != 4)), nine)
        for option in ("--eval", "--val"):
            line = sweep(tmp_path / option, "--teacher", teacher, option, nine, "--ipc", 2)
            message = refused(DATA, *line)
            assert str(nine) in message
            assert "9 of the 10 classes" in message

    def test_fewer_images_than_asked_for(self, refused, digits_file, teacher, tmp_path):
        message = refused(DATA, *sweep(tmp_path, "--images", digits_file, "--teacher", teacher, "--ipc", 3))
        assert "3 images per class (--ipc) are asked for, but class 0 has 2" in message


class TestTeacher:
    def test_missing_file(self, refused, tmp_path):
        line = sweep(tmp_path / "runs", "--teacher", tmp_path / "no.safetensors")
        assert f"no teacher at {tmp_path / 'no.safetensors'}" in refused(CONFIG, *line)

    def test_another_number_of_classes(self, refused, tmp_path):
        path = tmp_path / "seven.safetensors"
        save_teacher(path, build("convnet", 7), TeacherSpec("convnet", 7, 8))
        message = refused(DATA, *sweep(tmp_path / "runs", "--teacher", path))
        assert str(path) in message
        assert "7 classes, the images 10" in message
        assert "--classes FILE" in message

    def test_pickle_is_refused_and_not_executed(self, refused, tmp_path):
        class Attack:
            def __reduce__(self):
                return (os.system, (f"touch {tmp_path / 'executed'}",))

        path = tmp_path / "teacher.pth"
        torch.save({"state_dict": Attack()}, path)
        (tmp_path / "plain.pth").write_bytes(pickle.dumps(Attack(), protocol=2))
        for file in (path, tmp_path / "plain.pth"):
            line = sweep(tmp_path / file.stem, "--teacher", file, "--teacher-arch", "convnet")
            assert str(file) in refused(DATA, *line)
        assert not (tmp_path / "executed").exists()

    def test_damaged_file(self, refused, teacher, tmp_path):
        path = tmp_path / "half.safetensors"
        path.write_bytes(teacher.read_bytes()[:5000])
        assert f"{path} cannot be read as safetensors" in refused(DATA, *sweep(tmp_path / "runs", "--teacher", path))

    def test_bad_mean(self, refused, teacher, tmp_path):
        message = refused(CONFIG, *sweep(tmp_path / "runs", "--teacher", teacher, "--mean", "0.5,0.5"))
        assert message.startswith("--mean '0.5,0.5': expected three numbers")


@pytest.fixture(scope="module")
def labels(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from lpqld.codecs import Logits
    from lpqld.codecs.dense import Dense
    from lpqld.labels.compress import encode
    from lpqld.labels.label_set import Labels
    from lpqld.labels.relabel import Labeler, specify
    from lpqld.models.teacher import load_teacher
    from lpqld.views.rule import ViewRule

    device, images = torch.device("cpu"), ImageSet.open("digits:val").sample_per_class(2, seed=0)
    network = load_teacher(teacher, image_class_names=images.class_names)
    spec = specify(network, images, ViewRule(), views_per_image=3, seed=0, batch_size=20, device=device)
    logits = Logits.concatenate(list(Labeler(network, images, ViewRule(), 0, device).batches(0, 60, 20, Dense())))
    folder = tmp_path_factory.mktemp("labels") / "labels"
    encode(Labels(spec, logits), Dense()).write(folder)
    return folder


class TestLabels:
    def train(self, labels: Path, root: Path, *arguments: object) -> tuple[object, ...]:
        data = ("--images", "digits:val", "--eval", "digits:test")
        return ("train", "--labels", labels, *data, "--epochs", 2, "--root", root, *arguments)

    @pytest.mark.parametrize("temperature", ["hot", "20:2", "0", "20:2:linear", "-3", "nan"])
    def test_bad_temperature(self, refused, labels, tmp_path, temperature):
        message = refused(CONFIG, *self.train(labels, tmp_path, f"--temperature={temperature}"))
        assert f"temperature '{temperature}'" in message
        assert "expected 20 (constant), 20:2:step" in message

    def test_bad_calibration(self, refused, labels, tmp_path):
        assert "ca must be one of fit, paper, off" in refused(CONFIG, *self.train(labels, tmp_path, "--ca", "maybe"))

    def test_other_images(self, refused, labels, tmp_path):
        line = ("train", "--labels", labels, "--images", "digits:test", "--eval", "digits:test", "--root", tmp_path)
        assert "the labels were made for other images" in refused(DATA, *line)

    def test_verifying_with_other_images_says_both_fingerprints(self, refused, labels, teacher):
        message = refused(DATA, "verify", labels, "--images", "digits:test", "--teacher", teacher)
        assert "the labels were made for other images" in message
        assert ImageSet.open("digits:val").sample_per_class(2, seed=0).fingerprint in message
        assert message.count("fingerprint") == 1
        assert re.search(r"found [0-9a-f]{64} ", message)

    @pytest.mark.parametrize("command", ["verify", "train", "compress", "inspect"])
    def test_not_a_label_set(self, refused, tmp_path, command):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "manifest.json").write_text('{"hello": 1}')
        lines = {
            "train": self.train(tmp_path / "folder", tmp_path),
            "compress": ("compress", tmp_path / "folder", tmp_path / "out"),
        }
        message = refused(DATA, *lines.get(command, (command, tmp_path / "folder")))
        assert str(tmp_path / "folder") in message
        assert "not a label set" in message
        assert not (tmp_path / "out").exists()

    def test_folder_without_a_manifest(self, refused, tmp_path):
        assert "it has no manifest.json" in refused(DATA, "verify", tmp_path)

    def test_no_such_label_set(self, refused, tmp_path):
        assert f"{tmp_path / 'none'}: no such folder" in refused(CONFIG, "verify", tmp_path / "none")

    def test_compress_beyond_what_is_there(self, refused, labels, tmp_path):
        line = ("compress", labels, tmp_path / "out")
        assert "the smallest that works is" in refused(CONFIG, *line, "--budget", "100B")
        assert "prune ratio must be in [0, 1)" in refused(CONFIG, *line, "--prune-ratio", "1.5")
        assert "pass one of them" in refused(CONFIG, *line, "--prune-ratio", "0.5", "--budget", "1KB")
        assert "k must be 1 to 10" in refused(CONFIG, *line, "--k", "11")
        message = refused(CONFIG, *line, "--select", "best")
        assert message.startswith("unknown selection 'best'; choose one of first, confidence, low-confidence, entropy,")
        assert not (tmp_path / "out").exists()

    def test_compress_onto_something_else(self, refused, labels, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        assert "is not empty (mine.txt)" in refused(CONFIG, "compress", labels, tmp_path)
        assert contents(tmp_path) == {"mine.txt": b"mine"}

    def test_experiment_that_is_not_there(self, refused, tmp_path):
        for line in (("pareto", "nothing"), ("export", "nothing", "--out", tmp_path / "out")):
            message = refused(CONFIG, *line, "--root", tmp_path)
            assert f"no result of experiment 'nothing' under {tmp_path}; no finished sweep is there" in message

    def test_damaged_result_of_an_experiment(self, refused, tmp_path):
        (tmp_path / "digits").mkdir()
        (tmp_path / "digits" / "result.json").write_text('{"experiment": "dig')
        message = refused(DATA, "pareto", "digits", "--root", tmp_path)
        assert "result.json: damaged" in message
        assert "run the same `lpqld sweep` again" in message


class TestProcess:
    def test_message_alone_on_stderr_and_a_traceback_with_debug(self, lpqld, tmp_path):
        done = lpqld("verify", tmp_path, "--json")
        assert (done.exit_code, done.stdout) == (DATA, "")
        assert done.stderr.startswith(f"lpqld: error: {tmp_path} is not a finished label set")
        assert len(done.stderr.splitlines()) == 1
        debug = lpqld("verify", tmp_path, "--json", "--debug")
        assert (debug.exit_code, debug.stdout) == (DATA, "")
        assert "Traceback" in debug.stderr

    @pytest.mark.parametrize("line", [("swep",), ("sweep", "digits", "--no-such-option"), ("sweep",)], ids=str)
    def test_wrong_command_line(self, in_process, line):
        done = in_process(*line)
        assert (done.exit_code, done.stdout) == (CONFIG, "")
        assert "Traceback" not in done.stderr


@pytest.mark.integration
def test_ctrl_c_in_a_search_keeps_what_is_finished_and_says_how_to_resume(tmp_path):
    root = tmp_path / "runs"
    line = ("sweep", "digits", "--root", str(root), "--json", "--budget", "12KB", "--set", "teacher.fit_epochs=2")
    line = (*line, "--set", "student.epochs=60", "--set", "search.early_stopping=false", "--ipc", "5")
    line = (*line, "--set", "relabel.workers=1")
    err = tmp_path / "err"
    with started(line, tmp_path / "out", err) as process:
        wait_until(lambda: list(root.glob("digits/trials/*.json")), process, err)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does with Ctrl-C
        assert exit_code_of(process, err) == INTERRUPTED, err.read_text()
    stderr = err.read_text()
    assert (tmp_path / "out").read_text() == ""
    assert "Traceback" not in stderr
    last = stderr.strip().splitlines()[-1]
    assert last.startswith("lpqld: interrupted; everything finished so far is kept. To go on, run: lpqld sweep digits")
    assert last.endswith(" ".join(line[2:]))
    assert not (root / "digits" / "result.json").exists()
    assert list(root.glob("digits/trials/*.json"))
