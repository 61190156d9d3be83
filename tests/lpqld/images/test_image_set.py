import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lpqld.errors import ConfigError, DataError
from lpqld.images import reading as image_reading
from lpqld.images.encoding import decode_all
from lpqld.images.image_set import ImageSet
from lpqld.images.sources import count_source


def picture(seed: int, width: int = 8, height: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(seed: int, width: int = 8, height: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(seed, width, height)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_parquet(path: Path, metadata: dict[str, str] | None = None, **columns: object) -> str:
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return str(path)


def hugging_face(names: list[str]) -> dict[str, str]:
    return {"huggingface": json.dumps({"info": {"features": {"label": {"names": names}}}})}


def write_folder(folder: Path, counts: dict[str, int]) -> Path:
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            (folder / name / f"{index}.png").write_bytes(png(100 * label + index))
    return folder


def made_up(counts: list[int], seed: int = 0) -> ImageSet:
    """An interleaved set with `counts` images of each class."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    num = len(labels)
    pixels = torch.arange(num).view(num, 1, 1, 1).expand(num, 3, 2, 2).to(torch.uint8)
    ids = np.arange(num, dtype=np.int64) * 7 + 3
    names = tuple(f"class {label}" for label in range(len(counts)))
    return ImageSet(pixels, torch.from_numpy(labels), names, ids, np.full(num, 10, dtype=np.int64), "made up")


class TestReading:
    def test_parquet_is_read_in_canonical_order(self, tmp_path):
        images = [png(seed) for seed in range(4)]
        path = write_parquet(tmp_path / "a.parquet", image=images, label=[1, 0, 1, 0], file=["b", "b", "a", "a"])
        opened = ImageSet.open(path)
        assert opened.labels.tolist() == [0, 0, 1, 1]
        assert opened.ids.tolist() == [0, 1, 2, 3]
        assert opened.encoded_bytes.tolist() == [len(images[row]) for row in (3, 1, 2, 0)]
        assert np.array_equal(opened.pixels[0].numpy().transpose(1, 2, 0), picture(3))
        assert (opened.num_images, opened.num_classes, opened.size, opened.resize) == (4, 2, 8, None)
        assert opened.image_bytes == sum(map(len, images))
        assert opened.class_names == ("0", "1")

    def test_directory_and_glob_read_the_same_images(self, tmp_path):
        write_parquet(tmp_path / "part0.parquet", image=[png(0), png(1)], label=[0, 1])
        write_parquet(tmp_path / "part1.parquet", image=[png(2), png(3)], label=[0, 1])
        whole = ImageSet.open(str(tmp_path))
        assert whole.num_images == 4
        assert whole.fingerprint == ImageSet.open(str(tmp_path / "part*.parquet")).fingerprint

    def test_names_come_from_schema_metadata_then_classes_json(self, tmp_path):
        struct = [{"bytes": png(0), "path": None}, {"bytes": png(1), "path": None}]
        path = write_parquet(tmp_path / "a.parquet", hugging_face(["cat", "dog"]), image=struct, label=[0, 1])
        assert ImageSet.open(path).class_names == ("cat", "dog")
        path = write_parquet(tmp_path / "b.parquet", image=[png(0)], label=[0])
        assert ImageSet.open(path).class_names == ("0",)
        (tmp_path / "classes.json").write_text('["x", "y", "z"]')
        assert ImageSet.open(path).class_names == ("x", "y", "z")
        (tmp_path / "classes.json").write_text('{"wnid": ["n01440764", "n01443537"], "name": ["tench", "goldfish"]}')
        assert ImageSet.open(path).class_names == ("n01440764", "n01443537")
        assert ImageSet.open(path, class_names=["tench", "goldfish"]).class_names == ("tench", "goldfish")

    def test_image_folder_sorts_classes_and_ignores_hidden_files(self, tmp_path):
        folder = write_folder(tmp_path / "set", {"dog": 2, "cat": 3})
        (folder / "cat" / ".hidden.png").write_bytes(b"not an image")
        (folder / ".cache").mkdir()
        (folder / "cat" / "notes.txt").write_text("boxes")
        opened = ImageSet.open(str(folder))
        assert (opened.class_names, opened.labels.tolist()) == (("cat", "dog"), [0, 0, 0, 1, 1])
        (folder / "classes.json").write_text('["dog", "cat"]')
        assert ImageSet.open(str(folder)).class_names == ("dog", "cat")

    def test_digits_splits_are_disjoint_and_stratified(self):
        whole = ImageSet.open("digits")
        parts = [ImageSet.open(f"digits:{name}") for name in ("train", "val", "test")]
        assert [part.num_images for part in parts] == [1078, 360, 359]
        assert sum(part.image_bytes for part in parts) == whole.image_bytes
        assert whole.class_names == tuple("0123456789")
        for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
            counts = np.bincount(part.labels, minlength=10) / np.bincount(whole.labels)
            assert np.abs(counts - share).max() < 0.01
            assert part.ids.tolist() == list(range(part.num_images))
            assert (int(part.pixels.min()), int(part.pixels.max()), part.size) == (0, 255, 8)
        # the split is part of every published digits result: it changes only with a reason
        assert parts[2].fingerprint.startswith("ec1f0165")

    def test_real_parquet_layouts(self, shared_data):
        tiny = ImageSet.open(str(shared_data / "tiny200" / "val.parquet"))
        assert (tiny.num_images, tiny.num_classes, tiny.size) == (4000, 200, 64)
        assert tiny.class_names[0] == "n01443537"
        photos = ImageSet.open(str(shared_data / "in1k-sample"), size=32, eval_resize_ratio=256 / 224)
        assert (photos.num_images, photos.num_classes, photos.size) == (1000, 1000, 32)
        assert photos.class_names[0] == "n01440764_tench"
        assert photos.resize == "bicubic 224->37, centre crop 32"

    def test_written_set_reads_back_equal(self, tmp_path):
        images = ImageSet.open("digits:val").sample_per_class(3, seed=1)
        images.write(tmp_path / "out")
        back = ImageSet.open(str(tmp_path / "out"))
        assert back.fingerprint == images.fingerprint
        assert back.ids.tolist() == images.ids.tolist()
        assert back.image_bytes == images.image_bytes
        images.write(tmp_path / "out")
        (tmp_path / "other").mkdir()
        write_parquet(tmp_path / "other" / "mine.parquet", image=[png(0)], label=[0])
        with pytest.raises(ConfigError, match="already holds other images"):
            images.write(tmp_path / "other")

    def test_missing_shard_is_noticed(self, tmp_path, monkeypatch):
        monkeypatch.setattr("lpqld.images.writing._SHARD_BYTES", 500)
        images = ImageSet.open("digits:val").first_per_class(2)
        images.write(tmp_path)
        shards = sorted(tmp_path.glob("*.parquet"))
        assert len(shards) > 2
        assert ImageSet.open(str(tmp_path)).fingerprint == images.fingerprint
        shards[1].unlink()
        with pytest.raises(DataError, match="images-00001-of-"):
            ImageSet.open(str(tmp_path))


class TestSize:
    def test_shorter_side_is_resized_and_centre_cropped(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", image=[png(0, 20, 10)], label=[0])
        expected = Image.fromarray(picture(0, 20, 10)).resize((16, 8), Image.Resampling.BICUBIC).crop((4, 0, 12, 8))
        opened = ImageSet.open(path, size=8)
        assert np.array_equal(opened.pixels[0].numpy().transpose(1, 2, 0), np.asarray(expected))
        assert opened.resize == "bicubic 20x10->8, centre crop 8"

    def test_images_of_the_size_stay_untouched(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", image=[png(0)], label=[0])
        opened = ImageSet.open(path, size=8, eval_resize_ratio=1.5)
        assert np.array_equal(opened.pixels[0].numpy().transpose(1, 2, 0), picture(0))
        assert opened.resize is None

    @pytest.mark.parametrize("sizes", [[(8, 8), (9, 9)], [(8, 6), (8, 6)]], ids=["differ", "not square"])
    def test_without_a_common_size_the_argument_is_named(self, tmp_path, sizes):
        path = write_parquet(tmp_path / "a.parquet", image=[png(0, *size) for size in sizes], label=[0, 0])
        with pytest.raises(ConfigError, match="pass `size` to bring"):
            ImageSet.open(path)

    @pytest.mark.parametrize("arguments", [{"size": 0}, {"size": 8, "eval_resize_ratio": 0.5}])
    def test_arguments_out_of_range(self, arguments):
        with pytest.raises(ConfigError):
            ImageSet.open("digits:val", **arguments)

    def test_any_mode_becomes_rgb_but_deep_pixels_are_refused(self, tmp_path):
        for mode in ("L", "RGBA", "P", "CMYK", "1"):
            buffer = io.BytesIO()
            Image.new(mode, (8, 8)).save(buffer, format="TIFF")
            path = write_parquet(tmp_path / "a.parquet", image=[buffer.getvalue()], label=[0])
            assert ImageSet.open(path).pixels.shape == (1, 3, 8, 8)
        buffer = io.BytesIO()
        Image.new("I;16", (8, 8)).save(buffer, format="PNG")
        path = write_parquet(tmp_path / "a.parquet", image=[buffer.getvalue()], label=[0])
        with pytest.raises(DataError, match="8 bits"):
            ImageSet.open(path)


class TestClassNames:
    def test_labels_follow_the_given_order_by_name(self, tmp_path):
        path = write_parquet(
            tmp_path / "a.parquet", hugging_face(["n01440764_tench", "b"]), image=[png(0), png(1)], label=[0, 1]
        )
        opened = ImageSet.open(path, class_names=["b", "n01440764"])
        assert opened.labels.tolist() == [1, 0]
        assert opened.class_names == ("b", "n01440764")
        assert opened.ids.tolist() == [0, 1]

    def test_numbers_compare_as_names(self):
        assert ImageSet.open("digits:val", class_names=list("0123456789")).num_classes == 10
        with pytest.raises(DataError, match=r"not among the 5 .*: 5, 6"):
            ImageSet.open("digits:val", class_names=list("01234"))
        with pytest.raises(DataError, match=r"no class in the evaluation set for 1 .*: ten"):
            ImageSet.open("digits:val", class_names=[*"0123456789", "ten"])


class TestErrors:
    def test_what_is_not_there_is_a_wrong_command(self, tmp_path):
        for path in ("digits:trian", str(tmp_path / "no.parquet"), str(tmp_path / "*.parquet")):
            with pytest.raises(ConfigError, match="no images at"):
                ImageSet.open(path)

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"image": [b"x"]}, "columns image and label, found image"),
            ({"image": [b""], "label": [0]}, "row 0: .*empty"),
            ({"image": [None, png(0)], "label": [0, 0]}, "row 0: .*empty"),
            ({"image": [png(0), b"nonsense"], "label": [0, 0], "file": ["a", "b.jpg"]}, r"row 1 \(b.jpg\): .*no image"),
            ({"image": [png(0)[:60]], "label": [0]}, "row 0: not a readable image"),
            ({"image": [png(0)], "label": [-1]}, "row 0: label must be 0 or more, found -1"),
            ({"image": [png(0)], "label": pa.array([None], pa.int64())}, "found nothing"),
            ({"image": [png(0)], "label": ["cat"]}, "must hold integers"),
            ({"image": [3], "label": [0]}, "encoded bytes"),
            ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, "found none"),
            ({"image": [png(0), png(1)], "label": [0, 0], "id": [4, 4]}, "column id"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_wrong_parquet_is_wrong_data(self, tmp_path, columns, message):
        with pytest.raises(DataError, match=message):
            ImageSet.open(write_parquet(tmp_path / "a.parquet", **columns))

    def test_label_beyond_the_class_names(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", hugging_face(["cat"]), image=[png(0)], label=[1])
        with pytest.raises(DataError, match=r"1 class names.*found 1"):
            ImageSet.open(path)

    def test_corrupt_parquet(self, tmp_path):
        (tmp_path / "a.parquet").write_bytes(b"PAR1 nonsense")
        with pytest.raises(DataError, match="cannot be read as Parquet"):
            ImageSet.open(str(tmp_path / "a.parquet"))

    def test_unreadable_images_are_left_out_only_on_request(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", image=[png(0), b"bad", png(2)], label=[0, 0, 0])
        opened = ImageSet.open(path, skip_bad=True)
        assert opened.ids.tolist() == [0, 2]
        assert len(opened.skipped) == 1
        assert "row 1" in opened.skipped[0].origin
        path = write_parquet(tmp_path / "a.parquet", image=[b"bad"], label=[0])
        with pytest.raises(DataError, match="none of its 1 images"):
            ImageSet.open(path, skip_bad=True)

    def test_folders_that_are_no_image_set(self, tmp_path):
        with pytest.raises(DataError, match="found neither"):
            ImageSet.open(str(tmp_path))
        folder = write_folder(tmp_path / "splits", {"train": 1, "val": 1})
        with pytest.raises(ConfigError, match="holds splits"):
            ImageSet.open(str(folder))
        folder = write_folder(tmp_path / "named", {"cat": 1, "dog": 1})
        (folder / "classes.json").write_text('["cat"]')
        with pytest.raises(DataError, match="dog"):
            ImageSet.open(str(folder))
        for content, message in (("[", "expected JSON"), ('["cat", "cat"]', "more than once"), ("3", "found int")):
            (folder / "classes.json").write_text(content)
            with pytest.raises(DataError, match=message):
                ImageSet.open(str(folder))

    def test_a_directory_of_several_splits_is_refused(self, tmp_path):
        for name in ("train", "val"):
            write_parquet(tmp_path / f"{name}.parquet", image=[png(0)], label=[0])
        with pytest.raises(ConfigError, match="several splits"):
            ImageSet.open(str(tmp_path))


class TestSubsets:
    @given(st.lists(st.integers(4, 9), min_size=1, max_size=5), st.integers(0, 2**70), st.integers(1, 4))
    def test_samples_are_nested_and_class_major(self, counts, seed, n):
        images = made_up(counts)
        larger, smaller = images.sample_per_class(4, seed), images.sample_per_class(n, seed)
        assert smaller.labels.tolist() == np.repeat(np.arange(len(counts)), n).tolist()
        assert larger.first_per_class(n).ids.tolist() == smaller.ids.tolist()
        assert smaller.ranks.tolist() == list(range(n)) * len(counts)
        shuffled = images.take(np.random.default_rng(0).permutation(images.num_images))
        assert shuffled.sample_per_class(n, seed).ids.tolist() == smaller.ids.tolist()

    def test_the_sample_is_pinned(self):
        assert made_up([12]).sample_per_class(6, seed=0).ids.tolist() == [59, 80, 66, 45, 38, 3]

    def test_too_few_images_say_how_many(self):
        with pytest.raises(DataError, match="class 1 has 2"):
            made_up([3, 2]).first_per_class(3)
        with pytest.raises(ConfigError, match="images per class"):
            made_up([3]).sample_per_class(0, 0)

    @given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.floats(0.2, 0.8), st.integers(0, 99))
    def test_split_is_a_stratified_partition(self, counts, fraction, seed):
        images = made_up(counts)
        try:
            first, second = images.split(fraction, seed)
        except DataError:
            assert not 1 <= round(fraction * images.num_images) < images.num_images
            return
        assert sorted([*first.ids, *second.ids]) == sorted(images.ids)
        found = np.bincount(first.labels, minlength=len(counts))
        assert (np.abs(found - fraction * np.array(counts)) <= 1).all()

    def test_a_split_needs_a_fraction_and_two_images(self):
        for fraction in (0.0, 1.0):
            with pytest.raises(ConfigError):
                made_up([2]).split(fraction, 0)
        with pytest.raises(DataError, match="too few"):
            made_up([1]).split(0.5, 0)

    def test_ranks_count_within_a_class(self):
        images = made_up([3, 3]).take([0, 1, 2, 3, 4, 5])
        for row, rank in enumerate(images.ranks):
            assert rank == int((images.labels[:row] == images.labels[row]).sum())

    def test_fingerprint_sees_pixels_labels_names_and_order_only(self):
        images = ImageSet.open("digits:val").first_per_class(1)
        assert images.take(range(10)).fingerprint == images.fingerprint
        assert images.take([1, 0, *range(2, 10)]).fingerprint != images.fingerprint
        renamed = ImageSet.open("digits:val", class_names=list("1023456789")).take(range(10))
        assert renamed.fingerprint != images.fingerprint


class TestSelect:
    def test_by_ids_or_by_the_whole_set(self):
        images = ImageSet.open("digits:val")
        chosen = images.sample_per_class(2, seed=5)
        assert images.select(chosen.ids, chosen.fingerprint).ids.tolist() == chosen.ids.tolist()
        renumbered = chosen.select(chosen.ids + 5000, chosen.fingerprint)
        assert renumbered.ids.tolist() == (chosen.ids + 5000).tolist()
        assert torch.equal(renumbered.pixels, chosen.pixels)

    def test_other_images_are_refused_with_both_fingerprints(self):
        images = ImageSet.open("digits:val")
        other = ImageSet.open("digits:test")
        with pytest.raises(DataError, match="made for other images") as caught:
            images.select(images.ids, other.fingerprint)
        assert images.fingerprint in str(caught.value)
        assert other.fingerprint in str(caught.value)


@pytest.mark.parametrize("class_names", [None, ["9", "1", "0", "2", "3", "4", "5", "6", "7", "8"]])
def test_a_sample_is_opened_without_decoding_the_rest(monkeypatch, class_names):
    whole, decoded = ImageSet.open("digits:val", class_names=class_names), []
    monkeypatch.setattr(
        image_reading, "decode_all", lambda records, *rest: decode_all(decoded.extend(records) or records, *rest)
    )
    opened = ImageSet.open("digits:val", class_names=class_names, sample=(3, 7))
    expected = whole.sample_per_class(3, 7)
    assert opened.fingerprint == expected.fingerprint
    assert opened.ids.tolist() == expected.ids.tolist()
    assert opened.class_names == expected.class_names
    assert len(decoded) == 30
    with pytest.raises(DataError, match=r"digits:val: 99 images per class \(`n`\) are asked for, but class"):
        ImageSet.open("digits:val", sample=(99, 7))


def test_classes_and_images_are_counted_without_reading_images(tmp_path):
    assert count_source("digits:train") == (10, ImageSet.open("digits:train").num_images)
    ImageSet.open("digits:val").write(tmp_path)
    assert count_source(str(tmp_path)) == (10, ImageSet.open("digits:val").num_images)
    (shard,) = tmp_path.glob("*.parquet")
    pq.write_table(pq.read_table(shard).drop_columns(["image"]), shard)
    with pytest.raises(DataError, match="expected the columns image and label"):
        count_source(str(tmp_path))
    with pytest.raises(ConfigError, match="no images at"):
        count_source(str(tmp_path / "none"))
