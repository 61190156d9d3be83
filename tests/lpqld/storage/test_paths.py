"""Label sets and images on an S3-compatible server: the same bytes as on a disk, and mistakes said in words."""

import json
import pickle
import socket
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError, DataError
from lpqld.images.encoding import Encoding
from lpqld.images.image_set import ImageSet
from lpqld.labels.compress import encode
from lpqld.labels.label_set import LabelSet
from lpqld.labels.shards import shard_file
from lpqld.storage.files import sweep_temporary_files, write_atomically
from lpqld.storage.paths import RemotePath, file_sizes, location


@pytest.fixture(params=["s3", "fsspec"])
def remote(request) -> RemotePath:
    """An empty folder in an object store, and one in a file system that only fsspec knows."""
    if request.param == "fsspec":
        return location(f"memory://{uuid.uuid4().hex}/folder")
    return location(request.getfixturevalue("object_store").uri(uuid.uuid4().hex))


class TestText:
    def test_paths_stay_paths(self, tmp_path):
        for text in ("labels", "../labels", "digits:train", "a/b:/c", "/s3:/x", str(tmp_path)):
            assert location(text) == location(Path(text)) == Path(text)
        assert location("file:///a/my%20labels") == Path("/a/my labels")
        assert location("file://localhost/a") == Path("/a")

    def test_parts_of_a_uri(self):
        folder = location("S3://bucket//a/./b/?region=here")
        assert str(folder) == "s3://bucket/a/b?region=here"
        assert str(folder / "c.tar.gz") == "s3://bucket/a/b/c.tar.gz?region=here"
        assert (folder / "c/d.e").name == "d.e"
        assert ((folder / "d.e").stem, (folder / "d.e").suffix) == ("d", ".e")
        assert (folder / "c" / "d").parent.parent == folder == location(folder)
        assert str(location("s3://bucket").parent) == "s3://bucket"
        assert pickle.loads(pickle.dumps(folder)) == folder

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("s3://bucket/a/../b", r"cannot lead upwards with \.\."),
            ("s3://key:secret@bucket/a", r"s3://\.\.\.@bucket: a URI must hold no password"),
            ("file://elsewhere/a", r"needs three slashes: file:///elsewhere/a"),
        ],
    )
    def test_what_is_refused_before_anything_is_opened(self, text, message):
        with pytest.raises(ConfigError, match=message) as caught:
            location(text)
        assert "secret" not in str(caught.value)

    def test_a_uri_that_went_through_pathlib_makes_no_local_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for use in (location, LabelSet.open, ImageSet.open, lambda path: write_atomically(path / "file", b"")):
            with pytest.raises(ConfigError, match=r"s3://bucket/a.*: a local path is expected; a URI.* as text"):
                use(Path("s3://bucket/a"))
        assert list(tmp_path.iterdir()) == []
        Path("s3:").mkdir()
        assert location(Path("s3:/a")) == Path("s3:/a"), "a folder of that name is one"


class TestFiles:
    def test_a_file_is_written_read_listed_and_deleted(self, remote):
        content = bytes(range(256)) * 1000
        for name in ("b", "c/d", "a.txt"):
            write_atomically(remote / name, content)
        assert file_sizes(remote) == {"a.txt": len(content), "b": len(content), "c/d": len(content)}
        assert [entry.name for entry in remote.iterdir()] == ["a.txt", "b", "c"]
        assert [entry.name for entry in remote.glob("*.txt")] == ["a.txt"]
        assert list(remote.glob("*/d*")) == [remote / "c" / "d"]
        assert ((remote / "b").is_file(), (remote / "b").is_dir(), (remote / "b").exists()) == (True, False, True)
        assert (remote.is_dir(), (remote / "c").is_dir(), remote.is_file()) == (True, True, False)
        assert remote.subfolders() == ["c"]
        write_atomically(remote / "b", "grün".encode())
        assert (remote / "b").read_text() == "grün"
        (remote / "b").unlink()
        (remote / "b").unlink(missing_ok=True)
        with pytest.raises(FileNotFoundError, match="no such file"):
            (remote / "b").unlink()
        assert sorted(file_sizes(remote)) == ["a.txt", "c/d"]

    def test_what_is_not_there(self, remote):
        missing = remote / "missing"
        assert (missing.exists(), missing.is_file(), missing.is_dir()) == (False, False, False)
        assert (list(missing.iterdir()), file_sizes(missing)) == ([], {})
        with pytest.raises(FileNotFoundError, match=r"no such file.*missing"):
            missing.read_bytes()

    def test_a_large_file_is_read_in_any_place(self, remote):
        content = np.random.default_rng(0).bytes(5 << 20)
        write_atomically(remote / "large", content)
        with (remote / "large").open("rb") as file:
            file.seek(4 << 20)
            assert file.read(1000) == content[4 << 20 :][:1000]
        assert (remote / "large").read_bytes() == content

    def test_a_failed_write_leaves_what_was_there(self, remote):
        write_atomically(remote / "file", b"old")
        with pytest.raises(TypeError):
            (remote / "file").write_bytes("text is no bytes")  # type: ignore[arg-type]
        assert (remote / "file").read_bytes() == b"old"
        assert sorted(file_sizes(remote)) == ["file"]

    def test_what_interrupted_writers_left_is_swept(self, remote):
        for name in (".file.0123.partial", "file.partial"):
            write_atomically(remote / name, b"x")
        sweep_temporary_files(remote)
        assert sorted(file_sizes(remote)) == ["file.partial"]


class TestLabelSets:
    def test_bytes_are_those_on_a_disk(self, labels, remote, folder):
        encode(labels, TopK(3, 0.25)).write(remote)
        local = LabelSet.open(folder)
        stored = LabelSet.open(remote)
        assert {name: (remote / name).read_bytes() for name in file_sizes(remote)} == {
            path.name: path.read_bytes() for path in folder.iterdir()
        }
        assert (stored.manifest, stored.num_bytes, stored.folder) == (local.manifest, local.num_bytes, remote)
        assert np.array_equal(stored.labels.logits.values, local.labels.logits.values)
        stored.verify()

    def test_writing_again_changes_nothing_and_another_set_is_refused(self, labels, remote):
        encode(labels, TopK(3, 0.25)).write(remote)
        encode(labels, TopK(3, 0.25)).write(remote)
        with pytest.raises(ConfigError, match=r"is not empty \(manifest.json\)"):
            encode(labels, TopK(2, 0.25)).write(remote)
        LabelSet.open(remote).verify()

    def test_damage_is_found_and_named(self, labels, remote):
        encode(labels, TopK(3, 0.25)).write(remote)
        path = remote / shard_file(1)
        content = path.read_bytes()
        flipped = bytes([*content[:40], content[40] ^ 1, *content[41:]])
        for damaged, message in [
            (flipped, "checksum does not match"),
            (content[:-3], "the file is truncated"),
            (content + b"x", "longer than it was"),
        ]:
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=rf"{shard_file(1)}.*{message}"):
                LabelSet.open(remote).verify()
        path.unlink()
        with pytest.raises(DataError, match=rf"{shard_file(1)}.*no such file.*incomplete"):
            LabelSet.open(remote).verify()
        path.write_bytes(content)
        (remote / shard_file(9)).write_bytes(content)
        with pytest.raises(DataError, match=rf"{shard_file(9)}.*not in the manifest"):
            LabelSet.open(remote).verify()

    def test_unfinished_and_absent_ones_are_told_apart(self, labels, remote):
        with pytest.raises(ConfigError, match="no such folder"):
            LabelSet.open(remote)
        encode(labels, TopK(3, 0.25)).write(remote)
        (remote / "manifest.json").unlink()
        with pytest.raises(DataError, match="not a finished label set"):
            LabelSet.open(remote)


class TestImages:
    def test_written_images_are_read_back(self, remote):
        images = ImageSet.open("digits:val").sample_per_class(2, seed=0)
        images.write(str(remote))
        for where in (str(remote), remote, str(remote / "images-*.parquet"), remote / "images-00000-of-00001.parquet"):
            back = ImageSet.open(where)
            assert (back.fingerprint, back.source) == (images.fingerprint, str(where))
            assert back.ids.tolist() == images.ids.tolist()
        with pytest.raises(ConfigError, match="wildcards stand in the last part only"):
            ImageSet.open(str(remote.parent / "*" / "images.parquet"))
        with pytest.raises(ConfigError, match=r"no images at .*nothing"):
            ImageSet.open(str(remote / "nothing"))

    def test_a_folder_of_image_files(self, remote, tmp_path):
        images = ImageSet.open("digits:val").sample_per_class(2, seed=0)
        for row, pixels in enumerate(images.pixels.numpy()):
            for folder in (remote, tmp_path):
                write_atomically(
                    folder / f"class{images.labels[row]}" / "deep" / f"{row}.png", Encoding().encode(pixels)
                )
        for folder in (remote, tmp_path):
            write_atomically(folder / ".hidden" / "x.png", b"x")
            write_atomically(folder / "class0" / "readme.txt", b"x")
        assert ImageSet.open(remote).fingerprint == ImageSet.open(tmp_path).fingerprint
        assert ImageSet.open(remote).class_names == tuple(f"class{digit}" for digit in range(10))
        write_atomically(remote / "classes.json", json.dumps([f"class{digit}" for digit in range(9, -1, -1)]).encode())
        assert ImageSet.open(remote).labels[0] == 9 - ImageSet.open(tmp_path).labels[-1]
        write_atomically(remote / "class0" / "bad.png", b"bad")
        with pytest.raises(DataError, match=r"class0/bad.png.*not a readable image"):
            ImageSet.open(remote)
        assert len(ImageSet.open(remote, skip_bad=True).skipped) == 1

    @pytest.mark.parametrize("rows", [20, 2000], ids=["small", "large"])
    def test_parquet_is_downloaded_once_and_only_the_columns_that_are_read(self, object_store, rows):
        random = np.random.default_rng(0)
        pixels = random.integers(0, 256, (rows, 3, 32, 32), dtype=np.uint8)
        contents = [Encoding().encode(image) for image in pixels]
        images = pa.array([{"bytes": content, "path": None} for content in contents])
        labels, other = pa.array(np.arange(rows) % 10), pa.array([random.bytes(3000) for _ in range(rows)])
        sink = pa.BufferOutputStream()
        table = pa.table({"image": images, "label": labels, "other": other})
        pq.write_table(table, sink, row_group_size=max(10, rows // 5), compression="none")
        content, name = sink.getvalue().to_pybytes(), f"{uuid.uuid4().hex}.parquet"
        object_store.write(name, content)
        object_store.requests.clear()
        assert ImageSet.open(object_store.uri(name)).num_images == rows
        received = sum(size for method, path, size in object_store.requests if path.endswith(name))
        assert received <= (len(content) if rows < 100 else sum(map(len, contents)) * 1.02)
        assert len(object_store.requests) < 30


class TestErrors:
    def test_a_bucket_that_is_not_there(self, object_store, labels):
        uri = object_store.uri("labels", bucket="nowhere")
        for use in (LabelSet.open, ImageSet.open, encode(labels, TopK(3, 0.25)).write):
            with pytest.raises(ConfigError, match=r"there is no (such )?bucket.*create it or correct"):
                use(uri)

    def test_credentials_that_the_store_refuses(self, object_store, labels):
        uri = object_store.uri("refused")
        encode(labels, TopK(3, 0.25)).write(uri)
        with object_store.refusing():
            for use in (LabelSet.open, ImageSet.open, encode(labels, TopK(3, 0.25)).write):
                object_store.requests.clear()
                with pytest.raises(ConfigError, match="refuses these credentials; set AWS_ACCESS_KEY_ID"):
                    use(uri)
                assert len(object_store.requests) < 10, "what is refused is not asked again and again"
        LabelSet.open(uri).verify()

    @pytest.mark.integration
    def test_a_store_that_is_not_there(self, labels):
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConfigError, match="no store answers there; check the network"):
            LabelSet.open(f"s3://bucket/labels?endpoint_override={address}&scheme=http")

    @pytest.mark.integration
    def test_a_store_that_says_nothing(self, monkeypatch):
        monkeypatch.setattr("lpqld.storage.filesystems._REQUEST_SECONDS", 1)
        monkeypatch.setattr("lpqld.storage.filesystems._ATTEMPTS", 2)
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
            with pytest.raises(ConfigError, match="no store answers there"):
                LabelSet.open(f"s3://bucket/labels?endpoint_override={address}&scheme=http")

    @pytest.mark.parametrize(
        ("uri", "message"),
        [
            ("nonsense://a/b", "unknown scheme.*expected a path, s3://, gs://"),
            ("gdrive://a/b", "install gdrive_fs.*on every node of a cluster"),
            ("memory://a/b?c=d", "takes no options after a question mark"),
            ("s3:///labels", "names no bucket; expected s3://BUCKET/PREFIX"),
            ("s3://bucket/labels?endpoint=x", "unknown option endpoint.*known are endpoint_override, scheme, region"),
        ],
    )
    def test_what_no_file_system_is_for(self, uri, message):
        for use in (LabelSet.open, ImageSet.open):
            with pytest.raises(ConfigError, match=message):
                use(uri)

    def test_hdfs_without_java(self):
        with pytest.raises(ConfigError, match=r"hdfs://127\.0\.0\.1:9/.*(Java|cannot)"):
            LabelSet.open("hdfs://127.0.0.1:9/labels")

    def test_an_endpoint_from_the_environment(self, object_store, labels, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{object_store.address}")
        encode(labels, TopK(3, 0.25)).write("s3://bucket/by-environment")
        assert len(object_store.files("by-environment")) == 4
        monkeypatch.setenv("AWS_ENDPOINT_URL", object_store.address)
        with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL: expected http://HOST:PORT"):
            LabelSet.open("s3://bucket/by-environment")
