"""Files of the format are tested on the small sets of the library's tests."""

from tests.lpqld.conftest import digits, folder, images, labels, many_shards, teacher

__all__ = ["digits", "folder", "images", "labels", "many_shards", "teacher"]
