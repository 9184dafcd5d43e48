"""Faults of system calls, put into a running node by strace."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.federation import STOP_SECONDS, Node, wait_for

WRITES = "write,pwrite64,fsync,fdatasync,ftruncate"
DISK = "pwrite64,fsync,fdatasync,ftruncate"
"""What storage does to its files; sockets and standard error are not among them."""


@contextmanager
def injected(node: Node, calls: str, what: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Let ``what`` (``error=ENOSPC``, ``signal=SIGKILL:when=9``) befall a node's calls meanwhile.

    Raises FileNotFoundError when Debian's strace is not installed.
    """
    assert node.process is not None
    tracer = subprocess.Popen(
        [
            *("strace", "-f", "-q", "-p", str(node.process.pid), "-o", str(log)),
            *("-e", f"trace={calls}", "-e", f"inject={calls}:{what}"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for("strace holds the node", lambda: _traced(node) or tracer.poll() is not None)
        yield tracer
    finally:
        tracer.terminate()
        tracer.wait(STOP_SECONDS)


def _traced(node: Node) -> bool:
    assert node.process is not None
    try:
        status = Path(f"/proc/{node.process.pid}/status").read_text()
    except OSError:
        return True
    return "TracerPid:\t0\n" not in status
