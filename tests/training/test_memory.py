"""Freed memory: an evaluation does not take its pages from the system again and again."""

import subprocess
import sys

import pytest

# Chunks as an evaluation makes them: six tensors of 2 MiB, all written, which are freed together. The first
# few may find their pages, and those of one more block: the system draws where the heap begins, so what fits
# there.
COUNT_FAULTS = """
import platform, resource, torch
from igr.training.memory import keep_freed_memory
keep_freed_memory()
def chunk():
    tensors = [torch.ones(2**19) for _ in range(6)]
for _ in range(4):
    chunk()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    chunk()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(platform.libc_ver()[0] or "other", faults)
"""


# Without keeping, one process of two has the luck to keep them all the same.
@pytest.mark.parametrize("process", range(2))
def test_pages_are_found_once(process):
    found = subprocess.run([sys.executable, "-c", COUNT_FAULTS], check=True, capture_output=True, text=True)
    library, faults = found.stdout.split()
    if library != "glibc":
        pytest.skip(f"needs the C library of GNU; got {library}")
    # 12 MiB are 3,072 pages of 4 KiB, or 6 of 2 MiB, for each of twenty chunks.
    assert int(faults) < 20
