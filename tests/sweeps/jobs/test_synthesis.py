"""Squeeze and recover on Ray: the same images whatever the workers, found again, resumed, refused where need be."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from lpqld.distill.class_statistics import squeeze
from lpqld.distill.recipe import RecoverRecipe
from lpqld.distill.statistics_files import StatisticsFolder, chunk_classes, num_chunks, statistics_to_bytes
from lpqld.errors import ConfigError, DataError
from lpqld.images.encoding import Encoding
from lpqld.images.image_set import ImageSet
from lpqld.images.training_images import TrainingImages
from lpqld.models.architectures import build
from lpqld.models.teacher import Teacher, load_teacher, save_teacher
from lpqld.models.teacher_spec import TeacherSpec
from lpqld.progress import SILENT
from sweeps.config.load import load_config
from sweeps.export import export
from sweeps.jobs.images_place import images_source
from sweeps.jobs.inputs import TEACHER_FILE
from sweeps.jobs.squeeze_chunks import squeeze_classes
from sweeps.jobs.sweep_images import make_images
from sweeps.jobs.synthesis import ABOUT_FILE, SHEETS_FOLDER, synthesize
from sweeps.jobs.synthesis_spec import SynthesisJob
from sweeps.report.image_sheets import contact_sheet
from sweeps.report.tables import IMAGES_FILE
from sweeps.sweep import run_sweep
from sweeps.tracking.experiment import KIND_TAG, Experiment
from tests.conftest import kill_9, started, wait_until
from tests.heard import Heard

RECIPE = RecoverRecipe(iterations=6, shift=1, batch_size=4)

pytestmark = pytest.mark.usefixtures("ray_cluster", "one_thread")


@pytest.fixture(scope="module")
def images() -> TrainingImages:
    return TrainingImages.open("digits:train", size=None)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Teacher(build("convnet", 10), TeacherSpec("convnet", 10))


@pytest.fixture(scope="module")
def statistics(images, teacher, tmp_path_factory) -> StatisticsFolder:
    return squeeze_classes(teacher, images, tmp_path_factory.mktemp("statistics"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def made(teacher, images, statistics, out, recipe=RECIPE, encoding=None, workers=1) -> ImageSet:
    """By one worker, since starting a second takes longer than all of the work."""
    job = SynthesisJob(teacher, images, recipe, 2, encoding or Encoding())
    synthesize(job, out, statistics.folder.parent, workers=workers)
    return ImageSet.open(out)


class TestSqueeze:
    def test_files_hold_what_one_process_finds(self, images, teacher, statistics):
        found = statistics.read(range(10))
        pixels = ImageSet.open("digits:train")
        for label in range(10):
            chosen = pixels.pixels[pixels.labels == label]
            expected = squeeze(
                teacher, [(chosen, np.full(len(chosen), label))], [label], torch.device("cpu")
            ).statistics()
            for name, means in expected.means.items():
                np.testing.assert_allclose(found.means[name][label], means[0], rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(
                    found.variances[name][label], expected.variances[name][0], rtol=1e-5, atol=1e-6
                )
        assert list(found.means) == list(expected.means), "in the order in which an image passes them"
        assert found.counts.tolist() == images.counts.tolist()

    def test_they_are_found_again(self, images, teacher, statistics):
        before = {path: path.stat().st_mtime_ns for path in statistics.folder.iterdir()}
        heard = Heard()
        folder = squeeze_classes(teacher, images, statistics.folder.parent, progress=heard)
        assert folder == statistics
        assert {path: path.stat().st_mtime_ns for path in statistics.folder.iterdir()} == before
        assert heard.counts == [("squeeze", 10, 10)]

    def test_a_missing_chunk_is_made_again_and_a_damaged_one_is_named(self, images, teacher, statistics):
        path = statistics.path(3)
        content = path.read_bytes()
        path.write_bytes(content[:100])
        with pytest.raises(DataError, match="no file of class statistics"):
            squeeze_classes(teacher, images, statistics.folder.parent)
        path.write_bytes(statistics_to_bytes(statistics.read_chunk(2), "another"))
        with pytest.raises(DataError, match=f"{path}: these class statistics are of another teacher.* found 1 another"):
            squeeze_classes(teacher, images, statistics.folder.parent)
        path.unlink()
        squeeze_classes(teacher, images, statistics.folder.parent, workers=1)
        assert path.read_bytes() == content

    def test_chunks_cover_every_class_once(self):
        for num_classes in (2, 10, 100, 1000, 10_450):
            chunks = [chunk_classes(num_classes, index) for index in range(num_chunks(num_classes))]
            assert np.array_equal(np.concatenate(chunks), np.arange(num_classes))


@pytest.fixture(scope="module")
def recovered(images, teacher, statistics, tmp_path_factory) -> Path:
    """By two workers; the jobs of one that are compared with it make the same."""
    out = tmp_path_factory.mktemp("recovered") / "out"
    made(teacher, images, statistics, out, workers=2)
    return out


class TestRecover:
    def test_images_in_order_with_sheets_and_losses_and_nothing_else(self, recovered, images):
        found = ImageSet.open(recovered)
        assert found.labels.tolist() == sorted([*range(10), *range(10)])
        assert (found.size, found.class_names) == (8, images.class_names)
        about = json.loads((recovered / ABOUT_FILE).read_bytes())
        assert len(about["losses"]) == 5, "two classes a batch"
        assert about["recipe"]["iterations"] == 6
        assert len(list((recovered / SHEETS_FOLDER).iterdir())) == 5
        assert {path.name for path in recovered.iterdir()} == {
            "images-00000-of-00001.parquet", ABOUT_FILE, SHEETS_FOLDER
        }  # fmt: skip

    def test_a_damaged_batch_is_named_and_made_again_once_it_is_deleted(
        self, recovered, images, teacher, statistics, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("sweeps.jobs.synthesis._assemble", lambda *_: None)  # as if killed before
        synthesize(SynthesisJob(teacher, images, RECIPE, 2), tmp_path / "out", statistics.folder.parent, workers=1)
        monkeypatch.undo()
        (batch,) = (tmp_path / "out").rglob("batch-00003.npz")
        batch.write_bytes(batch.read_bytes()[:500])
        with pytest.raises(DataError, match=r"batch-00003.npz: this batch of recovered images is damaged .*delete it"):
            made(teacher, images, statistics, tmp_path / "out")
        batch.unlink()
        made(teacher, images, statistics, tmp_path / "out")
        assert files(tmp_path / "out") == files(recovered)

    @pytest.mark.parametrize("step", ["write_parquet", "_clean"])
    def test_killed_while_it_is_finished_it_goes_on(
        self, recovered, images, teacher, statistics, tmp_path, monkeypatch, step
    ):
        def killed(*arguments: object) -> None:
            if step == "write_parquet":
                (tmp_path / "out" / "images-00000-of-00001.parquet").write_bytes(b"the first of two")
            raise KeyboardInterrupt

        monkeypatch.setattr(f"sweeps.jobs.synthesis.{step}", killed)
        with pytest.raises(KeyboardInterrupt):
            synthesize(SynthesisJob(teacher, images, RECIPE, 2), tmp_path / "out", statistics.folder.parent, workers=1)
        monkeypatch.undo()
        if step == "write_parquet":
            with pytest.raises(ConfigError, match="the unfinished images of another synthesize job"):
                made(teacher, images, statistics, tmp_path / "out", replace(RECIPE, seed=1))
        made(teacher, images, statistics, tmp_path / "out")
        assert files(tmp_path / "out") == files(recovered)

    def test_a_damaged_note_of_what_was_made_is_named(self, images, teacher, statistics, tmp_path):
        (tmp_path / ABOUT_FILE).write_text("{")
        with pytest.raises(DataError, match=f"{ABOUT_FILE}: damaged"):
            made(teacher, images, statistics, tmp_path)

    def test_a_finished_folder_is_left_alone(self, recovered, images, teacher, statistics):
        before = {path: path.stat().st_mtime_ns for path in recovered.rglob("*")}
        made(teacher, images, statistics, recovered)
        assert {path: path.stat().st_mtime_ns for path in recovered.rglob("*")} == before

    def test_other_settings_in_the_same_folder_are_refused(self, recovered, images, teacher, statistics):
        with pytest.raises(ConfigError, match="other settings, teacher or training images"):
            made(teacher, images, statistics, recovered, replace(RECIPE, seed=1))

    def test_a_folder_with_other_images_is_refused(self, images, teacher, statistics, tmp_path):
        ImageSet.open("digits:val").write(tmp_path)
        with pytest.raises(ConfigError, match="is not empty and is no synthesize job"):
            made(teacher, images, statistics, tmp_path)

    def test_across_classes_from_real_images_as_webp(self, images, teacher, statistics, tmp_path):
        recipe = replace(RECIPE, mode="cross", init="real", curriculum="cosine")
        found = made(teacher, images, statistics, tmp_path / "out", recipe, encoding=Encoding("webp"))
        again = made(teacher, images, statistics, tmp_path / "again", recipe)
        assert torch.equal(found.pixels, again.pixels), "lossless"
        assert found.image_bytes != again.image_bytes

    def test_a_teacher_without_batch_norm_is_refused_at_once(self, images, statistics, tmp_path):
        vision = Teacher(build("deit_tiny_patch16_224", 10), TeacherSpec("deit_tiny_patch16_224", 10, input_size=224))
        with pytest.raises(ConfigError, match="no batch norm"):
            made(vision, replace(images, size=224), statistics, tmp_path / "out")


def test_after_kill_9_finished_batches_are_not_made_again(images, teacher, statistics, tmp_path):
    recipe, checkpoint = replace(RECIPE, iterations=80), tmp_path / "teacher.safetensors"
    save_teacher(checkpoint, teacher.model, teacher.spec)
    loaded = load_teacher(checkpoint, image_class_names=images.class_names)
    job = SynthesisJob(loaded, images, recipe, 2)
    line = ["--images", "digits:train", "--teacher", checkpoint, "--ipc", 2, "--out", tmp_path / "out"]
    line += ["--statistics", statistics.folder.parent]
    for name in ("iterations", "shift", "batch_size"):
        line += [f"--{name.replace('_', '-')}", getattr(recipe, name)]

    def finished() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("batch-*.npz")}

    err = tmp_path / "err"
    with started(["synthesize", *line, "--root", tmp_path], tmp_path / "stdout", err) as process:
        wait_until(lambda: len(finished()) >= 2, process, err)
        kill_9(process)
    before = finished()
    assert 2 <= len(before) < 5
    made_again: list[int] = []
    synthesize(
        job, tmp_path / "out", statistics.folder.parent, workers=1,
        on_losses=lambda index, losses: made_again.append(index),
    )  # fmt: skip
    done = {int(path.stem.removeprefix("batch-")) for path in before}
    assert sorted(made_again) == sorted(set(range(5)) - done)
    synthesize(job, tmp_path / "again", statistics.folder.parent, workers=1)
    assert files(tmp_path / "out") == files(tmp_path / "again")


def test_a_contact_sheet_has_every_image_in_rows():
    pixels = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(3, 1).repeat(8, 2).repeat(8, 3)
    sheet = np.array(Image.open(io.BytesIO(contact_sheet(pixels, 3))))
    assert sheet.shape == (128, 192, 3)
    assert [sheet[row * 64, column * 64, 0] for row in range(2) for column in range(3)] == [0, 1, 2, 3, 4, 255]


class TestTrainingImages:
    def test_files_are_told_by_name_and_size_wherever_the_folder_is(self, tmp_path, monkeypatch):
        for place, shade in (("here", 0), ("there", 0), ("other", 200)):
            for name in ("cat", "dog"):
                (tmp_path / place / name).mkdir(parents=True)
                noise = np.random.default_rng(shade).integers(0, 200, (8, 8, 3), dtype=np.uint8) + np.uint8(shade // 4)
                Image.fromarray(noise if shade == 0 else noise // 90).save(tmp_path / place / name / "a.png")
        monkeypatch.chdir(tmp_path)
        prints = {place: TrainingImages.open(place, size=8).fingerprint for place in ("here", "there", "other")}
        assert prints["here"] == prints["there"] != prints["other"]
        assert TrainingImages.open(str(tmp_path / "here"), size=8).fingerprint == prints["here"]
        assert all(record.content.is_absolute() for record in TrainingImages.open("here", size=8).records)

    def test_images_of_several_sizes_are_refused_unless_a_size_is_asked_for(self, tmp_path):
        for name, side in (("cat", 8), ("dog", 9)):
            (tmp_path / name).mkdir()
            Image.new("RGB", (side, side)).save(tmp_path / name / "a.png")
        with pytest.raises(DataError, match=r"dog/a.png is 9 x 9 pixels and the first image 8 x 8.*pass `size`"):
            list(TrainingImages.open(str(tmp_path), size=None).batches(10))
        (batch,) = TrainingImages.open(str(tmp_path), size=8).batches(10)
        assert batch[0].shape == (2, 3, 8, 8)

    def test_a_part_has_its_classes_and_samples_the_same(self, images):
        part = images.of_classes([3, 4])
        assert set(part.labels.tolist()) == {3, 4}
        chosen = np.array([4, 3, 4]), np.array([0, 5, 1])
        assert torch.equal(part.sample(*chosen, 7), images.sample(*chosen, 7))
        assert images.of_classes([]).num_classes == 10


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """One for all commands: making a database takes seconds."""
    return tmp_path_factory.mktemp("runs")


class TestCommand:
    @pytest.fixture
    def line(self, teacher, root) -> list[object]:
        checkpoint = root / "teacher.safetensors"
        save_teacher(checkpoint, teacher.model, teacher.spec)
        return ["--images", "digits:train", "--teacher", checkpoint, "--root", root]

    def test_it_tells_what_it_made_and_labels_of_it_train_a_student(self, in_process, line, tmp_path):
        out = tmp_path / "distilled"
        options = ["--ipc", 2, "--iterations", 4, "--preset", "digits", "--encoding", "webp", "--workers", 1, "--json"]
        options += ["--set", "recover.crop_scale=[0.5, 1]"]
        done = in_process("synthesize", *line, *options, "--out", out)
        assert done.exit_code == 0, done.stderr
        found = done.document
        assert (found["num_images"], found["num_classes"], found["size"]) == (20, 10, 8)
        assert found["image_bytes"] == ImageSet.open(out).image_bytes
        assert found["recipe"]["shift"] == 1, "as the preset says"
        assert found["recipe"]["iterations"] == 4
        assert found["recipe"]["crop_scale"] == [0.5, 1]
        labels = tmp_path / "labels"
        again = [*line, "--images", out, "--views", 2, "--workers", 1, "--out", labels, "--json"]
        assert in_process("relabel", *again).document["num_views"] == 40

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--mode", "both"], "recover.mode must be class or cross, found both"),
            (["--encoding", "gif"], "an image encoding is png, webp"),
            (["--encoding", "jpeg:0"], "a quality from 1 to 95"),
            (["--lr", -1], "recover.lr must be above 0, found -1.0"),
            (["--set", "recover.speed=3"], "recover has no speed"),
            (["--set", "student.lr=3"], "--set student.lr: expected a setting of recover"),
            (["--images", "nowhere"], "no images at nowhere"),
        ],
        ids=lambda value: value[1] if isinstance(value, list) else "",
    )
    def test_wrong_input_is_refused(self, in_process, line, tmp_path, options, message):
        done = in_process("synthesize", *line, "--ipc", 1, "--out", tmp_path / "out", *options)
        assert done.exit_code == 2
        assert message in done.stderr


class TestSweep:
    SMALL: ClassVar = {
        "name": "recovered",
        "images.source": "recover",
        "images.ipc": 3,
        "images.real": "digits:train",
        "recover.iterations": 4,
        "student.epochs": 6,
        "relabel.workers": 1,
        "search.trials": 1,
        "search.budgets": ["3KB"],
        "search.k": [2, 3],
        "teacher.fit_epochs": 1,
        "confirm.seeds": 1,
    }

    def test_recovered_images_beside_real_ones_and_found_again(self, tmp_path):
        config = load_config("digits", self.SMALL)
        result = run_sweep(config, tmp_path)
        assert "real" in {point.config["kind"] for point in result.baselines}
        with Image.open(tmp_path / "recovered" / "report" / IMAGES_FILE) as sheet:
            assert sheet.size == (64 * 11, 64 * 10), "five of a class, a gap, five real ones; a row a class"
            pixels = np.asarray(sheet)
        assert (pixels[:, 64 * 5 : 64 * 6] == 255).all()
        assert (pixels[:, 64 * 3 : 64 * 5] == 255).all(), "there are three"
        real = ImageSet.open("digits:train", sample=(3, 0)).pixels[3 * 4 + 1, 0].numpy()
        assert (pixels[64 * 4 : 64 * 5 : 8, 64 * 7 : 64 * 8 : 8, 0] == real).all()
        source = images_source(config, tmp_path / "recovered")
        assert ImageSet.open(source).num_images == 30
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
        teacher = str(tmp_path / "recovered" / TEACHER_FILE)
        second = load_config("digits", {**self.SMALL, "name": "second", "teacher.source": teacher})
        make_images(
            second,
            tmp_path,
            tmp_path / "second",
            lambda names: load_teacher(teacher, image_class_names=names),
            address=None,
            progress=SILENT,
        )
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before
        export(result, result.points, tmp_path / "out", "parquet", tmp_path)
        client = Experiment.open(tmp_path, "recovered").client
        about = json.loads((Path(source) / ABOUT_FILE).read_bytes())
        for name in ("recovered", "second"):
            (run,) = Experiment.open(tmp_path, name).search(f"tags.`{KIND_TAG}` = 'recover'")
            assert run.info.status == "FINISHED"
            assert run.data.params["recover.iterations"] == "4"
            for column, key in ((1, "cross_entropy"), (2, "batch_norm")):
                means = [np.mean([losses[at][column] for losses in about["losses"]]) for at in range(2)]
                logged = client.get_metric_history(run.info.run_id, key)
                assert [(entry.step, pytest.approx(entry.value)) for entry in logged] == [(1, means[0]), (4, means[1])]
            assert len(client.list_artifacts(run.info.run_id, SHEETS_FOLDER)) == 10
            each = client.get_metric_history(run.info.run_id, "batch.cross_entropy")
            assert len(each) == (10 if name == "recovered" else 0), "of those that were recovered then"

    @pytest.mark.parametrize(
        ("changed", "message"),
        [({"images.real": None}, "images.real=PATH"), ({"images.ipc": None}, "needs images.ipc")],
        ids=["no training images", "no number of images"],
    )
    def test_what_it_needs(self, changed, message, tmp_path):
        with pytest.raises(ConfigError, match=message):
            run_sweep(load_config("digits", {**self.SMALL, **changed}), tmp_path)
