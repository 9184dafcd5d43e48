"""Memory that was freed is there for the next message without the kernel's help."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys, threading
from tieline_server.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()

def pass_on():
    for _ in range(50):
        pieces = [bytes(300_000) for _ in range(4)]
        del pieces

for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=pass_on)
    thread.start()
    thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(word: str) -> int:
    words = [sys.executable, "-c", _PROGRAM, word]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_pages_are_not_fetched_anew_for_each_message() -> None:
    pages = 50 * 4 * 300_000 // 4096
    kept = _faults("keep")
    assert kept < pages // 4
