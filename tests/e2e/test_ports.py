"""A port that one process of the tests was given is nobody else's while that process lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.e2e import federation

_CLAIM = "import sys; from tests.e2e.federation import _claimed; print(_claimed(int(sys.argv[1])))"


def _claimed_by_another(port: int) -> bool:
    words = [sys.executable, "-c", _CLAIM, str(port)]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return {"True\n": True, "False\n": False}[told]


def test_another_process_is_not_given_a_port_that_was_given_here() -> None:
    assert not _claimed_by_another(federation.free_port())


def test_a_port_is_free_again_once_its_process_has_died() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # a fork has no locks of its parent's (fcntl(2)), so it has to get one
        try:
            os.write(write, str(federation.free_port()).encode())
            signal.pause()
        finally:
            os._exit(1)
    port = int(os.read(read, 10))
    assert not _claimed_by_another(port)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert _claimed_by_another(port)
