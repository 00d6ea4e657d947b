"""Freed memory: an evaluation does not take its pages from the system again and again."""

import subprocess
import sys

import pytest

# Chunks as an evaluation makes them: three tensors of 8 MiB, all written, which are freed together.
COUNT_FAULTS = """
import platform, resource, torch
from igr.training.memory import keep_freed_memory
keep_freed_memory()
def chunk():
    tensors = [torch.ones(2**21) for _ in range(3)]
chunk(); chunk()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    chunk()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(platform.libc_ver()[0] or "other", faults)
"""


def test_pages_are_found_once():
    found = subprocess.run([sys.executable, "-c", COUNT_FAULTS], check=True, capture_output=True, text=True)
    library, faults = found.stdout.split()
    if library != "glibc":
        pytest.skip(f"needs the C library of GNU; got {library}")
    # 24 MiB are 6,144 pages of 4 KiB, or 12 of 2 MiB, for each of twenty chunks.
    assert int(faults) < 20
