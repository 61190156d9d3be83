import errno
import gc
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lpqld.errors import ConfigError
from lpqld.images.memory import choose_memory, free_device_bytes, free_host_bytes, mapped_array, parse_memory

GB = 10**9


class TestChoice:
    @pytest.mark.parametrize(
        ("pixels", "device", "host", "expected"),
        [
            (31 * GB, 80 * GB, 256 * GB, "device"),  # ImageNet-21K-P at IPC 20 on one large card
            (31 * GB, 24 * GB, 256 * GB, "shared"),
            (31 * GB, 24 * GB, 32 * GB, "streamed"),
            (31 * GB, None, 256 * GB, "shared"),
            (31 * GB, None, 32 * GB, "streamed"),
            (GB, None, 2 * GB, "shared"),
            (GB, 2 * GB, 0, "device"),
        ],
    )
    def test_pixels_go_to_the_first_place_with_room_for_them_and_as_much_again(self, pixels, device, host, expected):
        assert choose_memory(pixels, device_bytes=device, host_bytes=host) == expected

    @pytest.mark.parametrize("text", ["device", "shared", "streamed"])
    def test_a_place_may_be_named(self, text):
        assert parse_memory(text) == text

    def test_auto_names_none(self):
        assert parse_memory("auto") is None

    def test_unknown_places_are_refused(self):
        with pytest.raises(ConfigError, match="must be auto, device, shared, streamed; found 'gpu'"):
            parse_memory("gpu")

    def test_a_cpu_has_no_memory_of_its_own(self):
        assert free_device_bytes(torch.device("cpu")) is None

    def test_the_host_has_some(self):
        assert 10**8 < free_host_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class TestMappedArrays:
    def test_it_holds_what_is_written_and_leaves_no_file(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        array = mapped_array((5, 3, 2, 2))
        array[:] = np.arange(60, dtype=np.uint8).reshape(array.shape)
        assert array.sum() == sum(range(60))
        assert list(tmp_path.iterdir()) == []
        mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
        assert len(mapped) == 1
        del array
        gc.collect()
        assert str(tmp_path) not in Path("/proc/self/maps").read_text()

    @pytest.mark.integration
    def test_a_full_file_system_is_named(self):
        code = (
            "from lpqld.errors import ConfigError; from lpqld.images.memory import mapped_array\n"
            "try: mapped_array((1000, 3, 100, 100))\n"
            "except ConfigError as error: print(error)"
        )
        limited = subprocess.run(
            [sys.executable, "-c", code],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert "no room for 30 MB of decoded images" in limited.stdout
        assert os.strerror(errno.EFBIG) in limited.stdout
        assert "set TMPDIR" in limited.stdout
