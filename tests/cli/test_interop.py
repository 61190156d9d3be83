"""Labels and images of other projects, in and out again, by the very commands that the documentation shows."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lpqld.images.image_set import ImageSet
from lpqld.interop.fkd_folder import EPOCH_INDICES
from lpqld.labels.label_set import LabelSet
from lpqld.models.fit import fit_teacher
from lpqld.models.fit_recipe import FitRecipe
from lpqld.models.teacher import Teacher, load_teacher, save_teacher
from lpqld.views.recorded import RecordedOrder
from lpqld.views.render_pillow import render_as_pillow
from lpqld.views.table import ViewTable
from tests.conftest import Finished
from tests.docs.test_docs import ROOT, shown_commands

PAGE = ROOT / "docs" / "import.md"
PAGES = [PAGE, ROOT / "docs" / "import-images.md", ROOT / "docs" / "export.md"]
EPOCHS, BATCH = 3, 8
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def write_folder(images: ImageSet, folder: Path, names: Sequence[str] = WORDS) -> None:
    """An image folder: one of PNG files for every class."""
    for label, name in enumerate(names):
        for number, row in enumerate(np.flatnonzero(images.labels.numpy() == label)):
            path = folder / name / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.pixels[row].permute(1, 2, 0).numpy()).save(path)


def write_fkd(images: ImageSet, teacher: Teacher, folder: Path) -> None:
    """A label folder as LPLD writes it: an epoch a folder, CutMix, all logits of views that Pillow rendered."""
    generator, side, count = np.random.default_rng(0), images.size, images.num_images
    indices = {}
    for epoch in range(EPOCHS):
        rows = generator.permutation(count)
        indices[str(epoch)] = rows.tolist()
        for number, start in enumerate(range(0, count, BATCH)):
            some = rows[start : start + BATCH]
            size = generator.integers(side // 2, side + 1, size=(len(some), 2))
            crops = np.concatenate([generator.integers(0, side - size + 1), size], axis=1).astype(np.float32)
            corner = generator.integers(0, side // 2, size=2)
            views = ViewTable(
                num_images=count,
                side=side,
                rows=some,
                crops=crops,
                crop_unit="pixel",
                flips=generator.random(len(some)) < 0.5,
                labelled=np.ones(len(some), dtype=bool),
                batch_sizes=np.array([len(some)]),
                partners=generator.permutation(len(some)),
                boxes=np.concatenate([corner, corner + side // 2])[None],
                lams=np.array([0.75], dtype=np.float32),
            )
            drawn = RecordedOrder(views, images.labels.numpy())
            positions = np.argsort(views.order)
            with torch.inference_mode():
                logits = teacher(render_as_pillow(images.pixels, drawn.draw(positions)))
            box = views.boxes
            assert box is not None
            assert views.partners is not None
            fields = [torch.from_numpy(crops / side), torch.from_numpy(views.flips), torch.from_numpy(views.partners)]
            path = folder / f"epoch_{epoch}" / f"batch_{number}.tar"
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save([*fields, 0.75, box[0].tolist(), logits.half()], path)
    (folder / EPOCH_INDICES).write_text(json.dumps(indices))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page takes as there: images, test images, a teacher, its labels by another program, a configuration."""
    folder = tmp_path_factory.mktemp("project")
    train = ImageSet.open("digits:train")
    write_folder(train.sample_per_class(3, 0), folder / "distilled")
    write_folder(ImageSet.open("digits:test").sample_per_class(5, 0), folder / "test")
    images = ImageSet.open(str(folder / "distilled"))
    model, spec = fit_teacher(train, FitRecipe("convnet", 15), seed=0)
    save_teacher(folder / "teacher.safetensors", model, replace(spec, class_names=WORDS))
    teacher = load_teacher(folder / "teacher.safetensors", image_class_names=images.class_names)
    write_fkd(images, teacher.eval(), folder / "fkd-labels")
    write_folder(train.sample_per_class(3, 0), folder / "syn", [f"new{label:03d}" for label in range(10)])
    (folder / "names.txt").write_text("\n".join(WORDS))
    normalised = (images.pixels / 255 - 0.45) / 0.2
    torch.save({"data": [[normalised, images.labels]]}, folder / "dc.pt")
    soft = np.eye(10, dtype=np.float32)[images.labels.numpy()] * 0.9 + 0.01
    np.savez(folder / "soft.npz", x=normalised.numpy(), y=soft)
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (folder / "theirs.yaml").write_text(shown)
    return folder


@pytest.fixture(scope="module")
def results(project: Path, ray_cluster: None, in_process: Callable[..., Finished]) -> dict[str, dict[str, object]]:
    """Each command of the page in turn; what it said, by its line."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for words in [line for page in PAGES for line in shown_commands(page)]:
            done = in_process(*words, "--json")
            assert done.exit_code == 0, f"{words}: {done.stderr}"
            found[" ".join(words)] = json.loads(done.stdout)
    return found


def said(results: dict[str, dict[str, object]], start: str) -> dict[str, object]:
    return next(document for line, document in results.items() if line.startswith(start))


class TestPage:
    def test_import_is_smaller_and_says_what_it_read(self, results):
        document = said(results, "import")
        assert (document["num_views"], document["num_images"], document["order"]) == (90, 30, EPOCH_INDICES)
        assert document["bytes"]["total"] < document["source_bytes"]
        assert document["agreement"] > 0.35, "a guess would be right in a fifth"

    def test_the_teacher_gives_the_labels_again(self, results):
        document = said(results, "verify")
        assert document["recomputed"] == 90
        assert document["largest_difference_in_steps"] < 1

    def test_students_train_in_either_order(self, results):
        recorded = next(document for line, document in results.items() if line.endswith("--order recorded"))
        assert recorded["recipe"]["order"] == "recorded"
        assert 0 <= said(results, "train --labels small")["accuracy"]["mean"] <= 1

    def test_a_sweep_needs_no_teacher(self, results, project):
        document = said(results, "sweep")
        (point,) = document["points"]
        assert point["label_bytes"] <= 3000
        assert document["teacher"]["accuracy"] is None
        assert (project / "best" / "views.lpqld").is_file()

    @pytest.mark.parametrize("folder", ["fkd-again", "fkd-epochs"])
    def test_exported_they_import_as_the_same_labels(self, results, project, in_process, folder):
        images = str(project / "distilled")
        done = in_process("import", project / folder, project / f"{folder}-again", "--images", images, "--json")
        assert done.document["bytes"]["payload"] == said(results, "import")["bytes"]["payload"]
        first, again = (LabelSet.open(project / name) for name in ("labels", f"{folder}-again"))
        assert again.spec.views.content == first.spec.views.content
        assert np.array_equal(again.labels.logits.values, first.labels.logits.values)


def test_a_student_that_is_kept_is_a_teacher(results, project, in_process):
    assert said(results, "train --labels small --images distilled --eval test --arch convnet --epochs 2 --seeds 1")
    student = project / "students" / "seed-1" / "model.safetensors"
    done = in_process("inspect", project / "distilled", "--teacher", student, "--json")
    assert 0 <= done.document["teacher_accuracy"] <= 1


def test_a_data_set_for_others_has_a_card(results, project):
    assert said(results, "export theirs --format parquet")["format"] == "parquet"
    assert 'license: "cc-by-4.0"' in (project / "data-set" / "README.md").read_text()
    assert ImageSet.open(project / "data-set" / "images").num_images == 30


class TestImages:
    def test_numbered_folders_are_named_and_the_teacher_agrees(self, results, project):
        document = said(results, "import syn")
        assert document["class_names"] == list(WORDS)
        assert document["teacher_accuracy"] > 0.9
        ours = ImageSet.open(project / "distilled-syn")
        theirs = ImageSet.open(str(project / "distilled"), class_names=WORDS)
        assert torch.equal(ours.pixels, theirs.pixels[torch.argsort(theirs.labels, stable=True)])

    def test_tensors_say_what_was_undone(self, results):
        document = said(results, "import dc.pt")
        assert "CIFAR-10's mean" in document["normalisation"]
        assert (document["num_images"], document["size"], document["arrays"]) == (30, 8, ["data[0][0]", "data[0][1]"])
        assert 0 < document["clipped"] < 1

    def test_soft_labels_train_a_student(self, results, project):
        assert said(results, "import soft.npz")["soft_labels"] == "their-labels"
        assert said(results, "train --labels their-labels")["label_bytes"] > 0

    def test_classes_in_another_order_are_refused(self, results, project, in_process, monkeypatch, tmp_path):
        monkeypatch.chdir(project)
        (tmp_path / "names.txt").write_text("\n".join([*WORDS[1:3], WORDS[0], *WORDS[3:]]))
        done = in_process("import", "syn", tmp_path / "x", "--format", "images", "--class-names",
                          tmp_path / "names.txt", "--teacher", "teacher.safetensors")  # fmt: skip
        assert done.exit_code == 3
        assert "another order than the teacher's" in done.stderr
        assert not (tmp_path / "x").exists()

    @pytest.mark.parametrize(
        ("arguments", "exit_code", "message"),
        [
            (("dc.pt", "x", "--format", "tensors", "--soft-labels", "y"), 2, "the labels of dc.pt are classes"),
            (("dc.pt", "x", "--format", "tensors", "--image-mean", "0.5"), 2, "mean and std come together"),
            (("fkd-labels", "x", "--format", "tensors"), 2, r"ending in \.pt"),
            (("fkd-labels", "x"), 2, "--format fkd needs --images"),
        ],
    )
    def test_wrong_input(self, results, project, in_process, monkeypatch, arguments, exit_code, message):
        monkeypatch.chdir(project)
        done = in_process("import", *arguments)
        assert done.exit_code == exit_code
        assert re.search(message, done.stderr)
        assert not (project / "x").exists()


class TestWrongInput:
    @pytest.mark.parametrize(
        ("arguments", "exit_code", "message"),
        [
            (("fkd-labels", "x", "--images", "test"), 3, "epoch 0 has 30 of 50 images; expected each once"),
            (("fkd-labels", "labels", "--images", "distilled", "--format", "zip"), 2, "--format zip: expected fkd"),
            (("nowhere", "x", "--images", "distilled"), 2, "nowhere: no such folder"),
            (("distilled", "x", "--images", "distilled"), 3, "neither batch_"),
        ],
    )
    def test_it_is_named(self, results, project, in_process, monkeypatch, arguments, exit_code, message):
        monkeypatch.chdir(project)
        done = in_process("import", *arguments, "--json")
        assert (done.exit_code, done.stdout) == (exit_code, "")
        assert re.search(message, done.stderr)
        assert not (project / "x" / "manifest.json").exists()

    def test_a_finished_set_is_not_written_over(self, results, project, in_process, monkeypatch):
        monkeypatch.chdir(project)
        before = (project / "small" / "manifest.json").read_bytes()
        done = in_process("import", "fkd-labels", "small", "--images", "distilled")
        assert done.exit_code == 2
        assert "not empty" in done.stderr
        assert (project / "small" / "manifest.json").read_bytes() == before

    def test_labels_that_lpqld_drew_have_no_recorded_order(self, project, in_process, tmp_path, monkeypatch):
        monkeypatch.chdir(project)
        line = ["relabel", "--images", "distilled", "--teacher", "teacher.safetensors", "--views", "2", "--out"]
        assert in_process(*line, tmp_path / "drawn").exit_code == 0
        done = in_process("train", "--labels", tmp_path / "drawn", "--images", "distilled", "--eval", "test",
                          "--order", "recorded")  # fmt: skip
        assert done.exit_code == 2
        assert "only imported ones have that order" in done.stderr
