"""Settings of the server's process."""

import ctypes
import subprocess
import sys

import pytest

ROUNDS = 20
COUNT_FAULTS = f"""
import resource, sys
from server.commands.process import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({ROUNDS}):
    chunks = [bytes(256 << 10) for _ in range(12)]  # a window of an upload
    del chunks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_the_memory_of_a_written_window_is_used_again():
    """Otherwise the kernel clears its pages again for each window."""

    def faults(kept: str) -> int:
        command = [sys.executable, "-c", COUNT_FAULTS, kept]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout)

    pages = 12 * (256 << 10) // 4096
    assert faults("kept") < 2 * pages
    assert faults("given back") > ROUNDS * pages / 3
