import os
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lpqld.errors import ConfigError, DataError
from lpqld.storage.files import (
    canonical_json,
    fingerprint,
    kept_json,
    read_json,
    sweep_temporary_files,
    write_atomically,
)


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class TestWriting:
    def test_content_is_put_in_place_in_new_folders_and_over_old_files(self, tmp_path):
        path = tmp_path / "a" / "b" / "file"
        for content in (b"first", b"", b"second" * 1000):
            write_atomically(path, content)
            assert path.read_bytes() == content
            assert everything_in(tmp_path) == ["a", "a/b", "a/b/file"]

    def test_a_target_that_is_a_folder_leaves_nothing_behind(self, tmp_path):
        (tmp_path / "target" / "inside").mkdir(parents=True)
        with pytest.raises(ConfigError, match=r"cannot write .*target: .*Choose a folder"):
            write_atomically(tmp_path / "target", b"content")
        assert everything_in(tmp_path) == ["target", "target/inside"]

    def test_a_parent_that_is_a_file_is_refused_and_left_alone(self, tmp_path):
        (tmp_path / "parent").write_bytes(b"precious")
        for path in (tmp_path / "parent" / "file", tmp_path / "parent" / "deeper" / "file"):
            with pytest.raises(ConfigError, match="cannot write"):
                write_atomically(path, b"content")
        assert everything_in(tmp_path) == ["parent"]
        assert (tmp_path / "parent").read_bytes() == b"precious"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only folders")
    def test_a_read_only_folder_is_refused(self, tmp_path):
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(ConfigError, match="cannot write"):
            write_atomically(tmp_path / "locked" / "file", b"content")
        assert everything_in(tmp_path) == ["locked"]

    def test_a_name_that_is_too_long_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="cannot write"):
            write_atomically(tmp_path / ("x" * 250), b"content")
        assert everything_in(tmp_path) == []

    def test_a_failure_keeps_the_old_file(self, tmp_path):
        path = tmp_path / "file"
        write_atomically(path, b"old")
        with pytest.raises(TypeError):
            write_atomically(path, "text is no bytes")  # type: ignore[arg-type]
        assert path.read_bytes() == b"old"

    def test_what_interrupted_writers_left_is_swept_and_nothing_else(self, tmp_path):
        for name in (".file.0123.partial", ".other.4567.partial", "file", ".hidden", "file.partial"):
            (tmp_path / name).write_bytes(b"x")
        sweep_temporary_files(tmp_path)
        assert everything_in(tmp_path) == [".hidden", "file", "file.partial"]


class TestFingerprint:
    PARTS = st.lists(st.binary(max_size=12), max_size=5)

    @given(PARTS, PARTS)
    def test_lists_of_parts_do_not_collide(self, one, other):
        assert (fingerprint(*one) == fingerprint(*other)) == (one == other)

    @given(st.binary(min_size=1, max_size=40), st.data())
    def test_moving_a_boundary_changes_the_fingerprint(self, content, data):
        first, second = (data.draw(st.integers(0, len(content))) for _ in range(2))
        assume(first != second)
        assert fingerprint(content[:first], content[first:]) != fingerprint(content[:second], content[second:])

    def test_a_length_written_into_a_part_is_no_boundary(self):
        length = (1).to_bytes(8, "little")
        assert fingerprint(b"a", b"b") != fingerprint(b"a" + length + b"b")
        assert fingerprint() != fingerprint(b"") != fingerprint(b"", b"")

    def test_fingerprints_are_pinned(self):
        # Label sets and teachers on disk name each other by these.
        assert fingerprint(b"a", b"bc") == "9a8acca1b6c6c0befd3fbc756aed625da998c998f7252e738c4ef061906b9b21"


class TestReading:
    def test_what_was_written_is_read(self, tmp_path):
        write_atomically(tmp_path / "a.json", b'{"a": [1, "\xc3\xa9"]}')
        assert read_json(tmp_path / "a.json", "") == kept_json(tmp_path / "a.json") == {"a": [1, "é"]}

    @pytest.mark.parametrize("content", [b"", b'{"a": 1', b"[1]", b"3", b'{"a": "\xff"}', b"\0" * 64])
    def test_a_damaged_file_is_told_with_what_to_do_or_taken_as_not_there(self, tmp_path, content):
        path = tmp_path / "a.json"
        path.write_bytes(content)
        assert kept_json(path) is None
        with pytest.raises(DataError, match=r"a\.json: damaged \(.+\); run it again"):
            read_json(path, "run it again")

    @pytest.mark.parametrize("name", ["missing.json", "."])
    def test_no_file(self, tmp_path, name):
        assert kept_json(tmp_path / name) is None
        with pytest.raises(DataError, match=r"cannot be read \(.+\); run it again"):
            read_json(tmp_path / name, "run it again")


def test_equal_values_have_equal_json():
    assert canonical_json({"b": 1, "a": [1.5, None, "é"]}) == canonical_json({"a": [1.5, None, "é"], "b": 1})
    assert canonical_json({"b": 1, "a": "é"}) == b'{"a":"\\u00e9","b":1}'
