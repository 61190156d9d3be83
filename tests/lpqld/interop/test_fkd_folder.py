"""Label folders of other projects: real ones, every way in which they can be wrong, and back again."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError, DataError
from lpqld.images.image_set import ImageSet
from lpqld.interop.fkd_export import export_fkd
from lpqld.interop.fkd_folder import BATCH_INDICES, EPOCH_INDICES
from lpqld.interop.fkd_import import import_fkd
from lpqld.labels.compress import encode, recode
from lpqld.labels.fidelity import largest_difference, total_variation
from lpqld.labels.label_set import Labels, LabelSet
from lpqld.labels.select import reordered
from lpqld.models.teacher import load_teacher
from lpqld.training.dataset import ViewDataset
from lpqld.views.rule import ViewRule
from tests.checks import made_up_labels
from tests.fkd_batches import BATCH, batch, saved

CPU = torch.device("cpu")
REAL = {
    "lpqld-in1k-mr50": (1000, "batches"),
    "lpqld-in21k-cutout-mr100": (1000, "batches"),
    "lpld-in1k-epochs": (100, "epochs"),
}
every_real = pytest.mark.parametrize("name", REAL)


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return ImageSet.open("digits:train").sample_per_class(1, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five batches of four views of ten digits, drawn at random as LPQLD does."""
    generator = np.random.default_rng(0)
    order = np.concatenate([generator.permutation(10) for _ in range(2)]).reshape(5, BATCH)
    for number in range(5):
        (tmp_path / f"batch_{number}.tar").write_bytes(saved(batch()))
    indices = {str(number): rows.tolist() for number, rows in enumerate(order)}
    (tmp_path / BATCH_INDICES).write_text(json.dumps(indices))
    return tmp_path


@pytest.fixture(scope="module")
def photos(shared_data: Path) -> ImageSet:
    return ImageSet.open(str(shared_data / "in1k-sample" / "in1k-sample-224.parquet"))


@pytest.fixture(scope="module")
def real(shared_data: Path, photos: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The real folders, imported."""
    out = tmp_path_factory.mktemp("real")
    return {
        name: import_fkd(shared_data / "fkd" / name, photos.take(np.arange(count)), out / name)
        for name, (count, _) in REAL.items()
    }


@pytest.mark.integration
class TestReal:
    @every_real
    def test_it_is_smaller_and_whole(self, real, name):
        found = real[name]
        found.label_set.verify()
        assert found.label_set.num_bytes["total"] < found.source_bytes
        assert found.label_set.spec.views.table.crop_unit == "pixel"
        assert 0.3 < found.agreement < 0.7, "the teacher saw wrongly normalised views"

    @every_real
    def test_the_teacher_gives_the_labels_again(self, real, photos, shared_data, name):
        plain = "21k" in name
        teacher = load_teacher(
            shared_data / "weights" / "tf_efficientnet_lite0_timm.pth",
            architecture="tf_efficientnet_lite0",
            input_size=224,
            mean=(0, 0, 0) if plain else (0.485, 0.456, 0.406),
            std=(1, 1, 1) if plain else (0.229, 0.224, 0.225),
            classes="imagenet-1k",
            image_class_names=photos.class_names,
        )
        labels = real[name].label_set.labels
        images = photos.take(np.arange(REAL[name][0]))
        steps = largest_difference(labels, images, teacher, num_views=24, seed=0, device=CPU)
        assert steps / 64 < 0.006, "logits, of what fp16 resolves"

    @every_real
    def test_round_trip(self, real, photos, tmp_path, name):
        (count, layout), labels = REAL[name], real[name].label_set.labels
        exported = export_fkd(labels, no_images, tmp_path / "fkd", layout)
        assert exported.notes == ()
        again = import_fkd(tmp_path / "fkd", photos.take(np.arange(count)), tmp_path / "again").label_set.labels
        assert again.spec.views.content == labels.spec.views.content
        assert np.array_equal(again.logits.ids, labels.logits.ids)
        assert np.array_equal(again.logits.values, labels.logits.values)

    @every_real
    def test_exported_files_have_the_fields_of_the_real_ones(self, real, shared_data, tmp_path, name):
        export_fkd(real[name].label_set.labels, no_images, tmp_path, REAL[name][1])
        for path in sorted((shared_data / "fkd" / name).rglob("*.tar"))[:3]:
            place = path.relative_to(shared_data / "fkd" / name)
            ours, theirs = (trusted(root / place) for root in (tmp_path, shared_data / "fkd" / name))
            for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                if isinstance(other, torch.Tensor):
                    assert one.dtype == other.dtype
                    same = torch.equal(one, other) or index == 6  # equal logits: ids in another order
                    assert same
                elif index == 4 and other is not None:
                    assert [int(edge) for edge in one] == [int(edge) for edge in other]
                else:
                    assert one == pytest.approx(other)

    def test_without_its_index_the_order_is_the_samplers(self, real, shared_data, photos, tmp_path):
        source = shutil.copytree(shared_data / "fkd" / "lpld-in1k-epochs", tmp_path / "srel2l")
        source.chmod(0o755)
        (source / EPOCH_INDICES).unlink()
        found = import_fkd(source, photos.take(np.arange(100)), tmp_path / "out")
        assert found.order == "the sampler's seed 42"
        known = real["lpld-in1k-epochs"].label_set.spec.views
        assert found.label_set.spec.views.content == known.content
        other = import_fkd(source, photos.take(np.arange(100)), tmp_path / "other", seed=1)
        assert other.agreement < 0.05 < found.agreement

    def test_images_in_another_order_show_in_the_agreement(self, shared_data, photos, tmp_path):
        mixed = photos.take(np.random.default_rng(0).permutation(1000))
        assert import_fkd(shared_data / "fkd" / "lpqld-in1k-mr50", mixed, tmp_path / "out").agreement < 0.01

    def test_they_compress_select_and_train_as_native_ones(self, real, photos, tmp_path):
        labels = real["lpqld-in1k-mr50"].label_set.labels
        small = encode(reordered(labels, "confidence"), TopK(10, 0.25), num_views=1200)
        small.write(tmp_path / "small")
        opened = LabelSet.open(tmp_path / "small")
        opened.verify()
        assert opened.num_bytes["total"] == small.num_bytes
        assert 0 < total_variation(opened.labels, labels)[1.0] < 0.5
        data = ViewDataset(photos, recode(labels, TopK(5), num_views=1500))
        batch = data[np.arange(3)]
        assert batch.views.shape == (3, 3, 224, 224)
        recorded = ViewDataset(photos, opened, order="recorded").batches(0, 100)
        assert 900 < sum(map(len, recorded)) < 1100, "as many as images, in whole batches"


def trusted(path: Path) -> list[Any]:
    return torch.load(path, weights_only=False)


class TestHarm:
    def test_code_is_not_run_and_refused_by_name(self, folder, digits, tmp_path):
        target = tmp_path / "harm"

        class Harm:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.system, (f"touch {target}",)

        (folder / "batch_3.tar").write_bytes(saved([*batch()[:5], Harm()]))
        with pytest.raises(DataError, match=r"batch_3.tar: refused: .* harmful .*posix.system"):
            import_fkd(folder, digits, tmp_path / "out")
        assert not target.exists()
        assert pickle.dumps(Harm())


class TestFolder:
    def test_batches_drawn_at_random(self, folder, digits, tmp_path):
        found = import_fkd(folder, digits, tmp_path / "out")
        spec = found.label_set.spec
        assert (spec.num_views, spec.full_views, spec.codec.k, spec.version) == (20, 2, 3, 2)
        rows = json.loads((folder / BATCH_INDICES).read_text())
        assert spec.views.table.rows.tolist() == [row for number in range(5) for row in rows[str(number)]]
        stored = trusted(folder / "batch_0.tar")
        position = int(np.flatnonzero(spec.views.table.order == 1)[0])
        assert found.label_set.labels.logits.values[position].tolist() == stored[5][1].tolist()
        assert found.label_set.labels.logits.ids[position].tolist() == stored[6][1].tolist()

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda folder: (folder / "batch_2.tar").unlink(), "batch_2.tar is missing"),
            (lambda folder: (folder / "batch_4.tar").unlink(), "4 batches, and .* lists 5; number 4 is missing"),
            (lambda folder: (folder / BATCH_INDICES).unlink(), f"{BATCH_INDICES} is missing: .*copy it too"),
            (lambda folder: (folder / BATCH_INDICES).write_text("[1]"), "expected an object of lists"),
            (lambda folder: (folder / BATCH_INDICES).write_text('{"0": [11]}'), "names image 11, .* 10 images"),
            (lambda folder: (folder / "batch_1.tar").write_bytes(saved(batch(6))), "6 views, and .* lists 4 .*padded"),
            (lambda folder: (folder / "batch_1.tar").write_bytes(saved(batch(k=2))), "2 logits .* before 3"),
            (lambda folder: [path.unlink() for path in folder.glob("batch_*")], "neither batch_"),
        ],
    )
    def test_what_is_missing_or_wrong_is_named(self, folder, digits, tmp_path, spoil, message):
        spoil(folder)
        with pytest.raises(DataError, match=message):
            import_fkd(folder, digits, tmp_path / "out")
        assert not (tmp_path / "out" / "manifest.json").exists()

    def test_fewer_labels_than_images(self, folder, tmp_path):
        with pytest.raises(DataError, match="20 labels of 30 images"):
            import_fkd(folder, ImageSet.open("digits:train").sample_per_class(3, 0), tmp_path / "out")

    def test_epochs_of_uneven_batches(self, digits, tmp_path):
        for epoch in range(2):
            for number, count in enumerate((4, 4, 2)):
                path = tmp_path / f"epoch_{epoch}" / f"batch_{number}.tar"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(saved(batch(count)))
        found = import_fkd(tmp_path, digits, tmp_path / "out").label_set.spec.views.table
        assert found.batch_sizes.tolist() == [4, 4, 2] * 2
        assert sorted(found.rows[:10]) == list(range(10))
        (tmp_path / "epoch_1" / "batch_2.tar").unlink()
        with pytest.raises(DataError, match="epoch_1: 2 batches, epoch_0 has 3"):
            import_fkd(tmp_path, digits, tmp_path / "again")

    def test_no_folder(self, digits, tmp_path):
        with pytest.raises(ConfigError, match="no such folder"):
            import_fkd(tmp_path / "nowhere", digits, tmp_path / "out")


class TestExport:
    def test_pruned_view_by_view_it_is_refused(self, folder, digits, tmp_path):
        labels = import_fkd(folder, digits, tmp_path / "out").label_set.labels
        small = encode(labels, labels.spec.codec, num_views=12).decode()
        with pytest.raises(ConfigError, match=r"none for \d+ views that are mixed into others"):
            export_fkd(small, no_images, tmp_path / "fkd")

    def test_random_batches_are_no_epochs(self, folder, digits, tmp_path):
        labels = import_fkd(folder, digits, tmp_path / "out").label_set.labels
        with pytest.raises(ConfigError, match="layout epochs: these batches are not epochs"):
            export_fkd(labels, no_images, tmp_path / "fkd", "epochs")
        with pytest.raises(ConfigError, match="layout flat of fkd is not known"):
            export_fkd(labels, no_images, tmp_path / "fkd", "flat")

    def test_views_that_lpqld_draws_without_mixing(self, tmp_path, digits):
        labels = made_up_labels(digits, rule=ViewRule(mix="none"))
        exported = export_fkd(labels, lambda: digits, tmp_path / "fkd", "epochs")
        assert "whole pixels" in exported.notes[0]
        again = import_fkd(tmp_path / "fkd", digits, tmp_path / "again").label_set.labels
        assert by_view(again, digits) == by_view(labels, digits)

    def test_views_that_lpqld_mixes_are_refused(self, tmp_path, digits):
        labels = made_up_labels(digits, rule=ViewRule())
        with pytest.raises(ConfigError, match="one box and one lambda a batch"):
            export_fkd(labels, lambda: digits, tmp_path / "fkd")


def no_images() -> ImageSet:
    """What an export of imported labels must not open."""
    raise AssertionError("images were opened")


def by_view(labels: Labels, images: ImageSet) -> dict[tuple[float, ...], list[float]]:
    """Each label as fp16, by image, crop in pixels and flip."""
    params = labels.views_of(images).draw(np.arange(labels.spec.num_views))
    keys = np.concatenate([params.rows[:, None], np.rint(params.crop * images.size), params.flip[:, None]], axis=1)
    return dict(zip(map(tuple, keys.tolist()), labels.logits.values.astype(np.float16).tolist(), strict=True))
