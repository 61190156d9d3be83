import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from lpqld._malloc import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(24)  # first the heap grows until an aligned tensor finds its place again
print(faults(8))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is told to keep memory")
@pytest.mark.integration
def test_memory_that_was_freed_is_not_taken_from_the_kernel_again():
    def faults(kept: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, kept], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("kept") * 4 < faults("given back")
