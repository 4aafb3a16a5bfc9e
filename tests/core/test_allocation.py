"""Freed memory serves the next step, so that its tensors cost no page faults, where there is some
to spare."""

import platform
import subprocess
import sys

import pytest

from pipeline.core import allocation

_FAULTS = """
import resource, sys
import numpy as np
from pipeline.core import allocation
if sys.argv[1] == "little":
    allocation.free_bytes = lambda: 32 << 20
if sys.argv[1] != "given back":
    allocation.keep_freed_memory()
def step():
    several = [np.ones(1 << 20, np.uint8) for _ in range(8)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such settings")
def test_tensors_of_a_step_take_memory_that_was_freed() -> None:
    def faults(how: str) -> int:
        command = [sys.executable, "-c", _FAULTS, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("kept") < 200 < min(faults("given back"), faults("little"))


@pytest.mark.parametrize(("free", "expected"), [(0, 128 << 10), (64 << 20, 1 << 20), (20 << 30, 32 << 20)])
def test_what_is_kept_lies_between_what_glibc_begins_with_and_what_it_takes(
    free: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[int]()
    monkeypatch.setattr(allocation, "free_bytes", lambda: free)
    monkeypatch.setattr(allocation, "_set", lambda option, value: asked.append(value))
    allocation.keep_freed_memory()
    assert asked == [expected, 2 * expected]
