"""Files of the format are tested on the small sets of the library's tests."""

from tests.lpqld.conftest import digits, folder, images, labels, many_shards, teacher

collect_ignore = ["fuzz_decoder.py"]  # a program of its own, which needs the fuzz extra
__all__ = ["digits", "folder", "images", "labels", "many_shards", "teacher"]
