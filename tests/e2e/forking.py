"""Node processes without the wait for their imports: forked from one process that has done them.

A node is a process of its own as ever: `tieline node serve HOME` with its own memory, files,
threads, signals and death. Only the two seconds of CPU in which each imports the same thousand
modules and loads the same compiled kernels are spent once for all nodes of a test process (as a
forkserver of `multiprocessing` does). Other commands that run in a process of their own come to be
in the same way. Where the environment of a process counts from its first
instruction (faketime, passphrases, proxies), `federation.py` executes the command; so do the
README's commands, the demonstration, and everything where TIELINE_TESTS_EXECUTE=1 is set.

The forked process is handed on to the test process, which is made the reaper of its descendants
(prctl(2), PR_SET_CHILD_SUBREAPER), and waits for it and reads its exit code as of any child.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import functools
import gc
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_SUBREAPER = 36
_EXECUTE = "TIELINE_TESTS_EXECUTE"


class Forked(subprocess.Popen[bytes]):
    """A process that is there already: what Popen knows of it but for its birth."""

    def __init__(self, pid: int, words: Sequence[str]) -> None:
        self.args, self.pid, self.returncode = list(words), pid, None
        self.stdin = self.stdout = self.stderr = None
        self._child_created, self._sigint_wait_secs = True, 0.25
        self._waitpid_lock = threading.Lock()


class Nursery:
    """The process that nodes are forked from; it ends with this one."""

    def __init__(self) -> None:
        ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "tests.e2e.forking", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], cwd=_ROOT, stdin=subprocess.DEVNULL
            )
        self._lines = ours.makefile("rw", encoding="utf-8")
        self._lock = threading.Lock()

    def run(self, words: Sequence[str], timeout: float) -> tuple[int, str, str]:
        """Run `tieline WORDS` to its end; return its exit code and both streams.

        Raises TimeoutExpired after ``timeout`` seconds; the process is killed.
        """
        with tempfile.TemporaryDirectory(prefix="tieline-command-") as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            out.touch()
            process = self.launch(words, err, os.environ, out)
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            return code, out.read_text("utf-8"), err.read_text("utf-8")

    def launch(
        self,
        words: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        out: Path = Path(os.devnull),
    ) -> Forked:
        """Start `tieline WORDS` with its stderr in ``log`` and its stdout in ``out``; return at
        once."""
        asked: dict[str, object] = {
            "words": words,
            "out": str(out),
            "log": str(log),
            "folder": str(Path.cwd()),
        }
        asked["environment"] = dict(environment)
        log.write_bytes(b"")  # now: nobody is to read the last life's `ready` there
        with self._lock:
            self._lines.write(json.dumps(asked) + "\n")
            self._lines.flush()
            pid = int(self._lines.readline())
        return Forked(pid, ["tieline", *words])


@functools.cache
def nursery() -> Nursery | None:
    """Return the one of this process; None where every start is to be an execution."""
    return None if os.environ.get(_EXECUTE) else Nursery()


# --- in the process that is forked from -------------------------------------------------------


def _serve(line: socket.socket) -> list[str]:
    """Fork a process for each request; return its words in each of those."""
    lines = line.makefile("rw", encoding="utf-8")
    while asked := lines.readline():
        request = json.loads(asked)
        told, tell = os.pipe()
        between = os.fork()
        if not between:
            born = os.fork()
            if born:  # the node is an orphan from here on, and goes to the test process
                os.write(tell, str(born).encode())
                os._exit(0)
            os.close(told)
            os.close(tell)
            lines.close()
            line.close()
            return _become(request)
        os.close(tell)
        os.waitpid(between, 0)
        lines.write(os.read(told, 32).decode() + "\n")
        lines.flush()
        os.close(told)
    os._exit(0)


def _become(request: dict[str, object]) -> list[str]:
    """Take on streams and environment as an execution would."""
    words, environment = request["words"], request["environment"]
    os.chdir(str(request["folder"]))
    assert isinstance(words, list) and isinstance(environment, dict)
    os.environ.clear()
    os.environ.update(environment)
    nothing = os.open(os.devnull, os.O_RDWR)
    out = os.open(str(request["out"]), os.O_WRONLY)
    log = os.open(str(request["log"]), os.O_WRONLY)
    for target, source in enumerate((nothing, out, log)):
        os.dup2(source, target)
        os.close(source)
    sys.argv = ["tieline", *words]
    faulthandler.enable()
    gc.enable()
    return words


def _prepare() -> None:
    """Do what every node does at first: imports, and kernels out of their cache."""
    gc.disable()
    for module in ("tieline_client.cli.app", "tieline_server.node_cli", "tieline_server.main"):
        import_module(module)
    from tieline_server.matching.warm import exercise

    with contextlib.redirect_stdout(sys.stderr):
        exercise()
    assert threading.active_count() == 1, "only a process of one thread can be forked from"
    gc.freeze()


def _end(words: list[str]) -> None:
    """Run the command, and end as an interpreter does, but for taking every module apart."""
    from tieline_client.cli import main

    try:
        code = main(words)
        threading._shutdown()  # type: ignore[attr-defined]
    except BaseException:  # noqa: BLE001 - as an interpreter would
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _line = socket.socket(fileno=int(sys.argv[1]))
    _prepare()
    _words = _serve(_line)
    _end(_words)
