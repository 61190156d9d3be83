import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError, DataError
from lpqld.images.image_set import ImageSet
from lpqld.labels.compress import encode
from lpqld.labels.label_set import LabelSet
from lpqld.labels.manifest import MAX_MANIFEST_BYTES, Manifest
from lpqld.labels.shards import Shard
from lpqld.storage.files import canonical_json, fingerprint
from tests.checks import made_up_labels

LABELS = made_up_labels(ImageSet.open("digits:train").sample_per_class(3, 0))
with pytest.MonkeyPatch.context() as patch:
    patch.setattr("lpqld.labels.compress._SHARD_LOGITS", 0)  # three shards
    DOCUMENT = json.loads(encode(LABELS, TopK(3, 0.25), recipe={"lr": 1e-05}).manifest.to_bytes())


def signed(document: object) -> bytes:
    """The text of a manifest with this content and a checksum that matches."""
    content = {key: value for key, value in document.items() if key != "sha256"}
    return canonical_json({**content, "sha256": fingerprint(canonical_json(content))})


def edited(folder: Path, **change: object) -> None:
    """Put `change` into the manifest, with a checksum that matches."""
    path = folder / "manifest.json"
    path.write_bytes(signed({**json.loads(path.read_bytes()), **change}))


def read(folder: Path, content: bytes) -> Manifest:
    (folder / "manifest.json").write_bytes(content)
    return Manifest.read(folder)


class TestVersions:
    def test_version_0_is_refused_with_what_to_do(self, folder):
        edited(folder, version=0)
        with pytest.raises(DataError, match=r"manifest\.json: format version 0, .*; make this label set again"):
            LabelSet.open(folder)

    def test_later_versions_are_named(self, folder):
        edited(folder, version=3)
        with pytest.raises(DataError, match=r"manifest\.json: format version 3; this lpqld reads 1 and 2"):
            LabelSet.open(folder)

    @pytest.mark.parametrize("version", [-1, "1", None, True, 1.0, 2**40, [1]], ids=str)
    def test_what_is_no_version_is_refused(self, folder, version):
        edited(folder, version=version)
        with pytest.raises(DataError, match=r"manifest\.json: version must be a whole number"):
            LabelSet.open(folder)

    def test_other_formats_are_refused(self, folder):
        edited(folder, format="fkd")
        with pytest.raises(
            DataError, match=r"not a label set's manifest: expected an object with format 'lpqld-labels'"
        ):
            LabelSet.open(folder)


class TestText:
    def test_it_is_canonical_and_leaves_out_what_is_not_there(self, tmp_path):
        text = encode(LABELS, TopK(3, 0.25)).manifest.to_bytes()
        assert canonical_json(json.loads(text)) == text
        assert "recipe" not in json.loads(text)
        assert b"null" not in text
        assert read(tmp_path, text) == encode(LABELS, TopK(3, 0.25)).manifest

    def test_every_bit_counts(self, tmp_path):
        content = signed(DOCUMENT)
        for position in range(len(content)):
            for bit in range(8):
                damaged = bytearray(content)
                damaged[position] ^= 1 << bit
                with pytest.raises(DataError, match=r"manifest\.json: "):
                    read(tmp_path, bytes(damaged))
        read(tmp_path, content)

    def test_every_truncation_is_found(self, tmp_path):
        content = signed(DOCUMENT)
        for length in range(len(content)):
            with pytest.raises(DataError, match=r"manifest\.json: not a label set's manifest"):
                read(tmp_path, content[:length])

    @pytest.mark.parametrize(
        "content",
        [b"", b"[]", b"null", b"3", b"{}", b'{"sha256": 1}', b"{", b"\xff\xfe", b'"text"', b'{"a":NaN}', b"[" * 10**6],
        ids=lambda content: repr(content[:12]),
    )
    def test_files_that_are_no_manifest_are_refused(self, tmp_path, content):
        with pytest.raises(DataError, match=r"manifest\.json: not a label set's manifest"):
            read(tmp_path, content)

    @pytest.mark.parametrize(
        "edit", [("50", "51"), (',"', ', "'), ('"seed":0', '"seed":1'), ("0.25", "0.250")], ids=str
    )
    def test_an_edited_manifest_is_refused(self, tmp_path, edit):
        text = signed(DOCUMENT).decode()
        assert edit[0] in text
        with pytest.raises(DataError, match=r"manifest\.json: its checksum does not match its content"):
            read(tmp_path, text.replace(*edit, 1).encode())

    def test_a_file_that_is_too_long_is_not_parsed(self, tmp_path):
        with pytest.raises(DataError, match="longer than 16777216 bytes"):
            read(tmp_path, b" " * (MAX_MANIFEST_BYTES + 1))

    def test_a_manifest_that_no_reader_would_take_is_not_written(self):
        many = replace(LABELS.spec, full_views=10**6, num_views=2**17 * 200, shard_views=200)
        text = Manifest(replace(many, shard_views=400), (Shard(10**9, "0" * 64),) * 2**16).to_bytes()
        assert len(text) < MAX_MANIFEST_BYTES
        with pytest.raises(ConfigError, match="at most 16777216 bytes"):
            Manifest(many, (Shard(10**9, "0" * 100),) * 2**17).to_bytes()


class TestShards:
    @pytest.mark.parametrize(
        ("shards", "message"),
        [
            (3, "shards: 120 labels need 3 shards, found no list"),
            ([], "shards: 120 labels need 3 shards, found 0"),
            (DOCUMENT["shards"][:2], "shards: 120 labels need 3 shards, found 2"),
            ([*DOCUMENT["shards"], DOCUMENT["shards"][0]], "shards: 120 labels need 3 shards, found 4"),
            ([*DOCUMENT["shards"][:2], 3], r"shards\[2\] must be an object, found 3"),
            ([*DOCUMENT["shards"][:2], {"bytes": 100}], r"shards\[2\]\.sha256 is missing"),
            ([*DOCUMENT["shards"][:2], {"bytes": 23, "sha256": "0" * 64}], r"shards\[2\]\.bytes must be .* from 24 to"),
            (
                [*DOCUMENT["shards"][:2], {"bytes": 10**6, "sha256": "0" * 64}],
                r"shards\[2\]\.bytes must be .*found 1000",
            ),
            ([{**entry, "file": "../a"} for entry in DOCUMENT["shards"]], r"unknown fields \['shards\[0\]\.file'\]"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_they_are_as_many_and_as_large_as_the_labels_need(self, tmp_path, shards, message):
        with pytest.raises(DataError, match=message):
            read(tmp_path, signed({**DOCUMENT, "shards": shards}))

    def test_a_claim_of_many_labels_is_refused_at_once(self, tmp_path):
        document = {**DOCUMENT, "full_views": 2**31 - 1, "num_views": 30 * (2**31 - 1), "shard_views": 1}
        with pytest.raises(DataError, match="at most 131072 shards"):
            read(tmp_path, signed(document))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([1, 2**31, 10**30]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def paths(document: object, above: tuple = ()) -> list[tuple]:
    """Where every value of a document stands."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path for key, value in inner for path in ((*above, key), *paths(value, (*above, key)))]


class TestAnyDocument:
    """With a checksum that matches, a document is a manifest or wrong data; it is never anything else."""

    @settings(max_examples=400)
    @given(st.sampled_from(paths({k: v for k, v in DOCUMENT.items() if k != "sha256"})), JSON | st.just(...))
    def test_any_value_in_any_place(self, tmp_path_factory, path, value):
        document = json.loads(canonical_json(DOCUMENT))
        target = document
        for key in path[:-1]:
            target = target[key]
        if value is ... and isinstance(target, dict):
            del target[path[-1]]
        else:
            target[path[-1]] = None if value is ... else value
        self.check(tmp_path_factory, document)

    @settings(max_examples=100)
    @given(st.dictionaries(st.sampled_from([*DOCUMENT]) | st.text(max_size=5), JSON, max_size=20))
    def test_any_object(self, tmp_path_factory, document):
        self.check(tmp_path_factory, {**document, "format": "lpqld-labels", "version": 1})

    def check(self, tmp_path_factory, document):
        folder = tmp_path_factory.mktemp("manifest")
        found = None
        with contextlib.suppress(DataError):
            found = read(folder, signed(document))
        if found is not None:
            assert found.to_bytes() == signed(document)
            assert len(found.spec.image_ids) == len(found.spec.image_classes) == found.spec.num_images
            assert len(found.spec.hints_in_shard(0)) == found.spec.views_in_shard(0)
