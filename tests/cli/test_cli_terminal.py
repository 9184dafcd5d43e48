"""The command as a process of its own: progress on terminals only, Ctrl-C, pipes that close."""

from __future__ import annotations

import hashlib
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tieline.v1 import operator_pb2 as pb

from tests.cli.node_double import Served

COMMAND = [
    sys.executable,
    "-c",
    "import sys; from tieline_client.cli import main; sys.exit(main())",
]
SECONDS = 120


@pytest.fixture
def environment(served: Served) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
    return {**kept, "TIELINE_PROFILE": str(served.profile), "TERM": "xterm", "COLUMNS": "120"}


@pytest.fixture
def hashes(tmp_path: Path) -> Path:
    path = tmp_path / "found.txt"
    path.write_text("".join(f"{hashlib.sha1(bytes([n])).hexdigest()}\n" for n in range(200)))
    return path


def on_terminal(words: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """Run with stderr on a terminal and stdout in a pipe; return code, stdout, the terminal's."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *words], env=environment, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = bytearray()

        def drain() -> None:
            try:
                while chunk := os.read(ours, 65536):
                    shown.extend(chunk)
            except OSError:
                pass  # the last writer is gone

        reader = threading.Thread(target=drain)
        reader.start()
        out, _ = process.communicate(timeout=SECONDS)
        reader.join(SECONDS)
    os.close(ours)
    return process.returncode, out.decode(), shown.decode()


def test_a_terminal_gets_a_bar_and_a_pipe_none(
    served: Served, hashes: Path, environment: dict[str, str]
) -> None:
    words = ["hashes", "import", str(hashes), "--json"]
    code, out, shown = on_terminal(words, environment)
    assert code == 0
    assert "found.txt" in shown
    assert "200 records, " in shown
    assert "\x1b[" in shown
    assert out.startswith("{")

    piped = subprocess.run(
        [*COMMAND, *words], env=environment, capture_output=True, timeout=SECONDS, check=False
    )
    assert piped.returncode == 0
    assert piped.stderr == b""
    assert b"\x1b" not in piped.stdout


def test_ctrl_c_cuts_the_import_off_and_exits_130(
    served: Served, hashes: Path, environment: dict[str, str]
) -> None:
    arrived, ended = threading.Event(), threading.Event()

    def hang(parts: Iterator[Any], context: Any) -> Iterator[Any]:
        context.add_callback(ended.set)
        next(parts)
        yield pb.ImportResponse(staged=1)
        arrived.set()
        ended.wait(SECONDS)

    served.node.Import = hang  # type: ignore[method-assign]
    with subprocess.Popen(
        [*COMMAND, "hashes", "import", str(hashes), "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert arrived.wait(SECONDS)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert out == b""
    assert b"interrupted" in err
    assert b"Traceback" not in err
    assert ended.wait(SECONDS)


def test_a_reader_that_goes_away_is_no_crash(served: Served, environment: dict[str, str]) -> None:
    leaves = [b'{"n":%d}' % n for n in range(900)]
    served.node.answers["ListAuditEntries"] = leaves
    with subprocess.Popen(
        [*COMMAND, "audit", "search", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(SECONDS)
    assert b"Traceback" not in err


def test_all_asks_back_on_a_terminal(
    served: Served, hashes: Path, environment: dict[str, str]
) -> None:
    served.node.answers["ListPeers"] = pb.ListPeersResponse(peers=[pb.Peer(agency="us-ice")])
    words = ["overlap", str(hashes), "--all", "--purpose", "deconfliction", "--case", "1"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *words], env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while b"ask them all?" not in shown:
            shown += os.read(ours, 65536)
        os.write(ours, b"n\n")
        process.wait(SECONDS)
    os.close(ours)
    assert b"us-ice" in shown
    assert process.returncode == 1
    assert "AskOverlap" not in served.node.requests


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_leaves_no_hashes_behind(
    served: Served, environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    """A session that closes amid a long list must not leave that list in a folder of all."""
    spool = tmp_path / "tmp"
    spool.mkdir()
    words = ("overlap", "-", "--purpose", "victim-identification", "--case", "2026-118")
    with subprocess.Popen(
        [*COMMAND, *words],
        env={**environment, "TMPDIR": str(spool)},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"ab" * 20 + b"\n" + b"# more\n" * 500_000)  # no pipe takes so much
        process.stdin.flush()
        assert list(spool.iterdir())
        process.send_signal(number)
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert list(spool.iterdir()) == []
    assert b"interrupted" in err
    assert b"Traceback" not in err
