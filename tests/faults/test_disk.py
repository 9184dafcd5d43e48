"""Threats 3 and 4 on real nodes: full disks and I/O errors refuse, the rest goes on, work resumes.

Faults are put into the system calls of a running `tieline node serve` by strace, or come from a
small file system that is really full; where none may be mounted, its refusals are injected, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.federation import WHY, Federation, Node, Result, federation, wait_for
from tests.faults.strace_kill import traced

FULL_BYTES = 48 * 1024 * 1024
"""The small file system: two homes and not much more."""


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    if shutil.which("strace") is None:
        pytest.fail("strace is missing (Debian: strace)")
    root = tmp_path_factory.mktemp("disk")
    with federation(root, [("pt-pj", "national", "PT"), ("es-gc", "national", "ES")]) as made:
        yield made


_made = iter(range(1, 1_000_000))


def a_list(folder: Path, name: str) -> Path:
    path = folder / f"{name}.txt"
    path.write_text(f"sha1:{hashlib.sha1(name.encode()).hexdigest()}\n")
    return path


def series(node: Node, folder: Path) -> str:
    name = f"s{next(_made)}"
    (made,) = node.import_file(a_list(folder, name), "--series", name)["series"]
    said = ("--country", "ES", "--confidence", "high", "--grounds", "sockets")
    node.run("series", "assess", made, *said).ok()
    return str(made)


def refer(node: Node, one: str) -> Result:
    return node.run("series", "refer", one, *WHY)


def received(node: Node, of: str) -> int:
    """How often a series came in as a referral."""
    return int(node.rows("SELECT count(*) FROM referrals WHERE series = ?", of)[0][0])


def queued(node: Node) -> int:
    return int(node.rows("SELECT count(*) FROM outbox WHERE state = 'queued'")[0][0])


FAULTS = (
    ("pwrite64", "ENOSPC"),
    ("fdatasync", "EIO"),
    pytest.param("pwrite64", "EIO", marks=pytest.mark.slow),
    pytest.param("pwrite64,fdatasync,fsync,ftruncate", "EIO", marks=pytest.mark.slow),
)


@contextlib.contextmanager
def broken(node: Node, folder: Path, calls: str, error: str) -> Iterator[None]:
    """Every such call of a node fails meanwhile."""
    names = calls.split(",")
    with traced(node, names, ("-e", f"inject={calls}:error={error}"), folder / "strace"):
        yield


@pytest.mark.parametrize(("calls", "error"), FAULTS)
def test_a_sender_that_cannot_write_acknowledges_nothing(
    trial: Federation, tmp_path: Path, calls: str, error: str
) -> None:
    node, peer = trial["pt-pj"], trial["es-gc"]
    held, tried = series(node, tmp_path), series(node, tmp_path)
    wait_for("all of before is settled", lambda: not queued(node))
    with broken(node, tmp_path, calls, error):
        for _ in range(2):
            refused = refer(node, tried)
            assert refused.code == 1
            assert "the database cannot be used now" in refused.err
        # Counts go on.
        assert node.stats()["items"] >= 2
        # Reading what is there does not, nor does asking: neither could be logged.
        read = node.run("series", "show", held)
        assert read.code == 1
        assert "the database cannot be used now" in read.err
        asked = node.ask(a_list(tmp_path, "q"), "--peer", "es-gc")
        assert asked.code == 1
        assert "the database cannot be used now" in asked.err
        assert queued(node) == 0
    assert node.running
    refer(node, held).ok()
    wait_for("delivered", lambda: received(peer, held))
    assert received(peer, held) == 1
    assert received(peer, tried) == 0
    assert node.run("audit", "verify").ok()


@pytest.mark.parametrize(("calls", "error"), FAULTS)
def test_a_recipient_that_cannot_write_takes_and_answers_nothing(
    trial: Federation, tmp_path: Path, calls: str, error: str
) -> None:
    node, peer = trial["pt-pj"], trial["es-gc"]
    sent = series(node, tmp_path)
    question = a_list(tmp_path, f"q{next(_made)}")
    peer.import_file(question)
    wait_for("all of before is settled", lambda: not queued(node))
    with broken(peer, tmp_path, calls, error):
        refer(node, sent).ok()
        wait_for(
            "the first try failed",
            lambda: node.rows("SELECT 1 FROM destinations WHERE attempts > 0"),
        )
        assert queued(node) == 1
        (answer,) = node.ask(question, "--peer", "es-gc").json["peers"]
        assert answer["status"] != "answered"
        assert "this node cannot do that now" in answer["reason"]
        assert answer["overlaps"] == []
        assert peer.stats()["items"] >= 1
        assert received(peer, sent) == 0
    wait_for("delivered once there is room", lambda: not queued(node))
    assert received(peer, sent) == 1
    (answer,) = node.ask(question, "--peer", "es-gc").ok().json["peers"]
    assert len(answer["overlaps"]) == 1
    assert peer.run("audit", "verify").ok()


def test_what_was_refused_for_a_failed_fsync_has_no_effect_after_a_kill(
    trial: Federation, tmp_path: Path
) -> None:
    """The commit's frames are in the log, only their fsync failed: nobody may believe them later.

    An fsync that failed says nothing when it is repeated (the kernel has dropped the pages' mark),
    so frames are written again, never only synced again.
    """
    node, peer = trial["pt-pj"], trial["es-gc"]
    tried, held = series(node, tmp_path), series(node, tmp_path)
    with broken(node, tmp_path, "fdatasync", "EIO"):
        assert refer(node, tried).code == 1
        node.kill()
    node.start()
    assert node.rows("SELECT count(*) FROM referrals WHERE series = ?", tried) == [(0,)]
    refer(node, held).ok()
    wait_for("delivered", lambda: received(peer, held))
    assert received(peer, tried) == 0
    assert node.run("audit", "verify").ok()


@dataclass(frozen=True)
class SmallDisk:
    """A file system of its own where one may be mounted; else any, that is full by injection."""

    path: Path
    mounted: bool

    @contextlib.contextmanager
    def full(self, node: Node, folder: Path) -> Iterator[None]:
        """There is no room on it meanwhile."""
        if not self.mounted:
            with broken(node, folder, "pwrite64,fallocate", "ENOSPC"):
                yield
            return
        filler = self.path / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(64 * 1024))
        assert os.statvfs(self.path).f_bavail == 0
        yield
        filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Mount a file system of FULL_BYTES; who may not mount one has the kernel refuse room."""
    where = tmp_path / "small"
    where.mkdir()
    options = f"size={FULL_BYTES},mode=0700"
    words = ["mount", "-t", "tmpfs", "-o", options, "tieline-test", str(where)]
    try:
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield SmallDisk(where, mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(where)], check=True)


def test_a_full_file_system_refuses_and_work_resumes_without_a_restart(
    small_disk: SmallDisk, tmp_path: Path
) -> None:
    members = [("pt-pj", "national", "PT"), ("es-gc", "national", "ES")]
    with federation(small_disk.path, members) as made:
        node, peer = made["pt-pj"], made["es-gc"]
        waiting = [series(node, tmp_path) for _ in range(3)]
        with small_disk.full(node, tmp_path):
            # The log may have room that it had before; it ends soon.
            acknowledged, refused = [], None
            for _ in range(2_000):
                done = node.run("series", "create", f"n{next(_made)}")
                if done.code:
                    refused = done
                    break
                acknowledged.append(done.json["id"])
            assert refused is not None
            assert "the database cannot be used now" in refused.err
            assert refer(node, waiting[0]).code == 1
            assert node.stats()["items"] == 3
        for one in waiting:
            refer(node, one).ok()
        wait_for("delivered", lambda: not queued(node))
        assert [received(peer, one) for one in waiting] == [1, 1, 1]
        for one in acknowledged:
            assert node.run("series", "show", one).ok()
        assert node.run("audit", "verify").ok()
