"""A node whose database is PostgreSQL does the same work with one on SQLite."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from tests.e2e.federation import WHY, Federation, tieline, wait_for
from tests.postgres import PostgresCluster, postgres_cluster

__all__ = ["postgres_cluster"]

HASHES = [f"{number:040x}" for number in range(1, 301)]


PASSWORD = "a password that nobody lists"


def _arguments(secret: str, *, of: str) -> list[str]:
    """What everybody reads of every process here: nowhere the secret; return those that name a
    node's home."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        assert secret not in text, path
        if of in text:
            found.append(text)
    return found


@pytest.mark.postgres
def test_a_node_on_postgresql(
    tmp_path: Path, postgres_cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Import, question, referral with items, steps back, audit, restart."""
    made = Federation(tmp_path).found()
    hub, member = made.init("europol-ec3", "hub"), made.init("pt-pj", "national", "PT")
    url = postgres_cluster.url(postgres_cluster.create(empty=True))
    config = member.home / "config.toml"
    secret = tmp_path / "database-password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    lines = f'database = "{url}"\ndatabase_password_file = "{secret}"'
    config.write_text(config.read_text().replace('database = ""', lines))
    for node in made:
        made.join(node)
    assert not (member.home / "database.sqlite3").exists()
    try:
        hub.start()
        member.start(PYTHONUNBUFFERED="1")  # executed, so that its arguments are its own
        seen = _arguments(PASSWORD, of=str(member.home))
        assert seen, "the node's own arguments were among those that were read"
        mine, theirs = tmp_path / "hub.txt", tmp_path / "member.txt"
        mine.write_text("\n".join(HASHES[:200]))
        theirs.write_text("\n".join(HASHES[150:]))
        assert hub.import_file(mine, "--series", "Harbour")["items_new"] == 200
        assert member.import_file(theirs, "--series", "Cais")["items_new"] == 150
        assert member.import_file(theirs, "--series", "Cais")["items_new"] == 0
        for asker, answerer in ((hub, member), (member, hub)):
            file = mine if asker is hub else theirs
            (peer,) = asker.ask(file, "--peer", answerer.agency).ok().json["peers"]
            found = {one["asked"] for one in peer["overlaps"]}
            assert found == {f"sha1:{text}" for text in HASHES[150:200]}
        hub.run("series", "refer", "Harbour", "--country", "PT", *WHY).ok()
        (entry,) = wait_for("the referral came", member.inbox)
        assert entry["series"]["items"] == 200
        member.run("inbox", "ack", entry["id"]).ok()
        member.run("inbox", "accept", entry["id"]).ok()

        def accepted() -> bool:
            (referral,) = hub.run("clock").ok().json["referrals"]
            return bool(referral["state"] == "accepted")

        wait_for("the hub sees it accepted", accepted)
        stats = member.stats()
        member.kill()
        member.start()
        assert member.stats() == stats
        for node in made:
            assert node.run("audit", "verify").ok().json["verified"]
        backup = tmp_path / "member.backup"
        key = tmp_path / "backup-passphrase"
        key.write_text("correct horse battery staple")
        key.chmod(0o600)
        running = threading.Event()
        watched: list[str] = []
        said = _lingering(tmp_path, monkeypatch)
        watcher = threading.Thread(target=_watch, args=(running, watched, said))
        watcher.start()
        try:
            tieline("node", "backup", member.home, backup, "--passphrase-file", key).ok()
        finally:
            running.set()
            watcher.join()
        assert any("--format=custom" in text for text in watched), "pg_dump was seen while it ran"
    finally:
        made.close()


def _lingering(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let pg_dump stay, with its arguments, until it was seen; return the file that says so."""
    seen, programs, honest = folder / "seen", folder / "bin", shutil.which("pg_dump")
    programs.mkdir()
    program = programs / "pg_dump"
    program.write_text(
        f'#!/bin/sh\n{honest} "$@"; code=$?\nuntil [ -e {seen} ]; do sleep 0.05; done\nexit $code\n'
    )
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return seen


def _watch(ended: threading.Event, watched: list[str], seen: Path) -> None:
    """Read everybody's arguments until the end."""
    try:
        while not ended.is_set():
            watched += _arguments(PASSWORD, of="pg_dump")
            if any("--format=custom" in text for text in watched):
                seen.touch()
            ended.wait(0.01)
    finally:
        seen.touch()
