"""Backup of nodes that run, restore of nodes that are gone, and every way that is refused."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tieline_client.errors import ConfigurationError
from tieline_client.profile import utc_now
from tieline_server import own_database
from tieline_server.backup import contents, making, restoring, scratch
from tieline_server.config import Home
from tieline_server.storage.engine import open_store
from tieline_server.storage.tombstone_ledger import FileLedger

from tests.e2e.federation import (
    Federation,
    Node,
    Result,
    federation,
    tieline,
    tieline_process,
    wait_for,
)
from tests.e2e.test_e2e_referral import make_series, refer

SECRET = "seven violet herons"


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    root = tmp_path_factory.mktemp("backup")
    members = [("pt-pj", "national", "PT"), ("es-gc", "national", "ES")]
    with federation(root, members) as made:
        yield made


@pytest.fixture
def passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "passphrase"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


def backup(node: Node, file: Path, passphrase: Path, *words: object) -> Result:
    return tieline(
        "node", "backup", node.home, file, "--passphrase-file", passphrase, "--json", *words
    )


def restore(home: Path, file: Path, passphrase: Path, *words: object) -> Result:
    return tieline("node", "restore", home, file, "--passphrase-file", passphrase, "--json", *words)


@contextlib.contextmanager
def moved_away(node: Node, keep: tuple[str, ...] = ()) -> Iterator[None]:
    """The home is lost, but for some files of it; it comes back afterwards, as the one that lives:
    to whoever met a restored one it would else be a copy left behind, and told nothing."""
    node.stop()
    away = node.home.with_name(f"{node.home.name}.away")
    node.home.rename(away)
    if keep:
        node.home.mkdir(mode=0o700)
        for name in keep:
            shutil.copy(away / name, node.home / name)
    try:
        yield
    finally:
        if node.running:
            node.stop()
        shutil.rmtree(node.home, ignore_errors=True)
        away.rename(node.home)
        tieline_process("node", "resync", node.home, "--yes").ok()
        node.start()


def left(folder: Path) -> list[str]:
    """What a command left beside the homes: hidden files and folders."""
    return sorted(one.name for one in folder.iterdir() if one.name.startswith("."))


def test_a_running_node_is_backed_up_and_comes_back(
    trial: Federation, tmp_path: Path, passphrase: Path
) -> None:
    node, peer = trial["pt-pj"], trial["es-gc"]
    series = make_series(node, tmp_path, "--case", "C-2")
    node.run(
        "series",
        "assess",
        series,
        "--country",
        "ES",
        "--confidence",
        "high",
        "--grounds",
        "sockets",
    ).ok()
    (sent,) = refer(node, series)
    wait_for("delivered", peer.inbox)
    stop = threading.Event()
    errors: list[str] = []

    def work() -> None:
        """The node has work all the while."""
        for number in range(10_000):
            if stop.is_set():
                return
            with node.client() as client:
                client.create_series(name=f"meanwhile {number}")

    writer = threading.Thread(target=lambda: _noting(work, errors))
    writer.start()
    file = tmp_path / "pt.backup"
    try:
        made = backup(node, file, passphrase).ok().json
    finally:
        stop.set()
        writer.join()
    assert not errors
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made["agency"] == "pt-pj"
    assert made["federation"] == "trial-eu"
    assert "integrity check passed" in made["checked"]
    assert made["bytes"] == file.stat().st_size
    assert SECRET.encode() not in file.read_bytes()
    assert b"PRIVATE KEY" not in file.read_bytes()
    assert left(tmp_path) == []
    assert not list(node.home.glob(".backup-*"))
    (entry,) = node.audit("--action", "node.backup")
    assert entry["detail"]["audit_root"] == made["audit"]["root"]
    assert entry["detail"]["audit_entries"] == made["audit"]["entries"]
    epoch = node.rows("SELECT value FROM meta WHERE key = 'epoch'")[0][0]

    checked = restore(node.home, file, passphrase, "--check-only").ok().json
    assert checked["epoch"] is None
    assert node.running

    with moved_away(node):
        told = restore(node.home, file, passphrase).ok().json
        assert left(trial.root) == []
        assert told["audit"] == made["audit"]
        assert told["epoch"] != epoch
        assert stat.S_IMODE(node.home.stat().st_mode) == 0o700
        modes = {stat.S_IMODE(one.stat().st_mode) for one in node.home.rglob("*") if one.is_file()}
        assert modes == {0o600}
        node.start()
        assert node.run("series", "show", series).ok().json["id"] == series
        assert node.stats()["items"] == 3
        warned = tieline("node", "status", node.home, "--json").ok().json["warnings"]
        assert any(one.startswith("no backup was made since it was restored on") for one in warned)
        (restored,) = node.audit("--action", "node.restored")
        assert restored["detail"]["epoch_before"] == epoch
        assert restored["detail"]["expired"] is False
        assert node.run("audit", "verify").ok()
        (again,) = refer(node, make_series_to_spain(node, tmp_path))
        wait_for(
            "a message of the new life", lambda: any(e["id"] == again["id"] for e in peer.inbox())
        )
        assert sum(e["id"] == sent["id"] for e in peer.inbox()) == 1


def make_series_to_spain(node: Node, folder: Path) -> str:
    series = make_series(node, folder, "--case", "C-3")
    node.run(
        "series",
        "assess",
        series,
        "--country",
        "ES",
        "--confidence",
        "high",
        "--grounds",
        "sockets",
    ).ok()
    return series


def test_what_came_after_the_backup_comes_again_and_what_was_erased_stays_so(
    trial: Federation, tmp_path: Path, passphrase: Path
) -> None:
    """The backup holds a series that its owner has taken back since, and lacks a message."""
    node, peer = trial["pt-pj"], trial["es-gc"]
    gone, before = told_to_portugal(peer, tmp_path)
    wait_for("the first came", lambda: has(node, before))
    backup(node, tmp_path / "b", passphrase).ok()
    peer.run("series", "withdraw", gone, "--reason", "ordered by the court").ok()
    wait_for("it is erased here", lambda: not items_of(node, gone))
    _, after = told_to_portugal(peer, tmp_path)
    wait_for("the second came", lambda: has(node, after))
    with moved_away(node, keep=("tombstones",)):
        told = restore(node.home, tmp_path / "b", passphrase).ok().json
        assert told["tombstones"] >= 1
        assert items_of(node, gone) == 3, "the backup has them; they are hidden until it starts"
        node.start()
        assert items_of(node, gone) == 0
        wait_for("the second came again", lambda: has(node, after))
        applied = "SELECT count(*) FROM referrals WHERE id = ?"
        assert [node.rows(applied, one) for one in (before, after)] == [[(1,)], [(1,)]]


def told_to_portugal(node: Node, folder: Path) -> tuple[str, str]:
    """Refer a new series to PT; return the series and the referral."""
    series = make_series(node, folder, "--case", "C-4")
    said = ("--country", "PT", "--confidence", "high", "--grounds", "sockets")
    node.run("series", "assess", series, *said).ok()
    (sent,) = refer(node, series)
    return series, sent["id"]


def has(node: Node, referral: str) -> bool:
    return any(one["id"] == referral for one in node.inbox())


def items_of(node: Node, series: str) -> int:
    found = node.rows(
        "SELECT count(*) FROM holdings h JOIN series_keys k ON k.no = h.series_no WHERE k.id = ?",
        series,
    )
    return int(found[0][0])


def _noting(work: Any, errors: list[str]) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001 - shown by the assertion
        errors.append(str(error))


@pytest.fixture(scope="module")
def made(trial: Federation, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A backup of es-gc, and its passphrase's file."""
    folder = tmp_path_factory.mktemp("made")
    secret = folder / "passphrase"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    backup(trial["es-gc"], folder / "es.backup", secret, "--expires-days", "3").ok()
    return folder / "es.backup", secret


def test_what_stands_in_a_home_is_in_the_backup_or_left_out_on_purpose(trial: Federation) -> None:
    """A new file in the home is not forgotten: it is listed here, in or out."""
    known = {*contents.FILES, *contents.FOLDERS, *contents.LEFT_OUT}
    found = {one.name for one in trial["es-gc"].home.iterdir()}
    assert {name for name in found if not name.startswith("database.sqlite3")} <= known


@pytest.mark.parametrize(
    ("home", "words", "code", "said"),
    [
        ("es-gc", (), 1, "a node serves"),
        ("fresh", ("wrong",), 1, "the passphrase does not open"),
        ("occupied", (), 1, "is not empty (notes.txt)"),
    ],
)
def test_a_restore_that_is_refused_does_nothing(
    trial: Federation,
    made: tuple[Path, Path],
    tmp_path: Path,
    home: str,
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    file, secret = made
    path = trial["es-gc"].home if home == "es-gc" else tmp_path / home
    if home == "occupied":
        path.mkdir()
        (path / "notes.txt").write_text("mine")
    if words:
        secret = tmp_path / "secret"
        secret.write_text("another passphrase")
        secret.chmod(0o600)
    before = sorted(path.rglob("*")) if path.exists() else None
    refused = restore(path, file, secret)
    assert refused.code == code
    assert said in refused.err
    assert before is None or sorted(path.rglob("*")) == before
    assert path.exists() is (before is not None)
    assert left(path.parent) == []


def test_a_damaged_or_foreign_file_is_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    file, secret = made
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    for name, content, said in (
        ("flipped", bytes(data), "is damaged"),
        ("cut", file.read_bytes()[:-5000], "is damaged"),
        ("foreign", b"PK\x03\x04" * 100, "is no backup"),
    ):
        (tmp_path / name).write_bytes(content)
        refused = restore(tmp_path / "home", tmp_path / name, secret)
        assert refused.code == 1
        assert said in refused.err
        assert not (tmp_path / "home").exists()
        assert left(tmp_path) == []
    assert "cannot be read" in restore(tmp_path / "home", tmp_path / "none", secret).err


def test_an_expired_backup_is_refused_unless_it_is_the_only_one(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    file = made[0]
    from tieline_server.backup import restoring

    later = utc_now() + timedelta(days=3, minutes=1)
    home = tmp_path / "home"
    with pytest.raises(restoring.BackupExpired, match="--expired-anyway"):
        restoring.restore(home, file, SECRET.encode(), later, quiet)
    assert not home.exists()
    told = restoring.restore(home, file, SECRET.encode(), later, quiet, expired_anyway=True)
    assert told.header.expired(later)
    with contextlib.closing(sqlite3.connect(home / "database.sqlite3")) as database:
        leaf = database.execute(
            "SELECT leaf FROM audit_leaves ORDER BY position DESC LIMIT 1"
        ).fetchone()[0]
    assert b'"expired":true' in leaf
    assert b"node.restored" in leaf


def test_a_backup_from_the_future_is_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    from tieline_server.backup import restoring
    from tieline_server.backup.container import BackupRefused

    with pytest.raises(BackupRefused, match="set this machine's clock"):
        restoring.restore(
            tmp_path / "home", made[0], SECRET.encode(), utc_now() - timedelta(days=2), quiet
        )


def test_a_backup_of_a_newer_schema_is_refused(
    trial: Federation, made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This program, without its newest migration, is the older version."""
    from tieline_client.errors import StorageTooNew
    from tieline_server.backup import restoring

    monkeypatch.setattr(restoring, "known_revisions", lambda: frozenset({"0001"}))
    with pytest.raises(StorageTooNew, match="restore with that one"):
        restoring.restore(tmp_path / "home", made[0], SECRET.encode(), utc_now(), quiet)
    assert not (tmp_path / "home").exists()


@contextlib.contextmanager
def quiet(what: str) -> Iterator[Any]:
    yield lambda _done, _whole: None


def test_the_ledger_of_what_was_erased_stays_and_is_never_inside(
    trial: Federation, made: tuple[Path, Path], tmp_path: Path
) -> None:
    file, secret = made
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "node.lock").touch()
    (home / contents.TOMBSTONES).write_bytes(b"")
    restore(home, file, secret).ok()
    assert (home / contents.TOMBSTONES).read_bytes() == b""
    assert left(tmp_path) == []


def test_a_restore_killed_between_its_renames_loses_no_ledger(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    file, secret = made
    emptied = tmp_path / ".home.emptied"
    emptied.mkdir(mode=0o700)
    (emptied / contents.TOMBSTONES).write_bytes(b"")
    stale = tmp_path / ".home.partial-abc"
    stale.mkdir()
    (stale / "keys").mkdir()
    restore(tmp_path / "home", file, secret).ok()
    assert (tmp_path / "home" / contents.TOMBSTONES).exists()
    assert left(tmp_path) == []


def _erased(series: str) -> dict[str, str]:
    return {"at": "2020-01-01T00:00:00+00:00", "kind": "retention", "series": series}


def test_nor_where_the_home_was_made_anew_before_the_next_try(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    file, secret = made
    home, emptied = tmp_path / "home", tmp_path / ".home.emptied"
    emptied.mkdir(mode=0o700)
    FileLedger(emptied / contents.TOMBSTONES).append(_erased("es-gc/x"))
    home.mkdir(mode=0o700)  # as systemd's StateDirectory= does, or whoever tries again
    assert f"move that file to {home}" in restore(home, file, secret).err
    FileLedger(home / contents.TOMBSTONES).append(_erased("es-gc/y"))
    assert f"move that file to {home}" in restore(home, file, secret).err
    (emptied / contents.TOMBSTONES).replace(home / contents.TOMBSTONES)
    restore(home, file, secret).ok()
    (entry,) = FileLedger(home / contents.TOMBSTONES).entries()
    assert entry["series"] == "es-gc/x"
    assert left(tmp_path) == []


def test_what_is_left_of_a_restore_killed_after_its_renames_is_removed(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    file, secret = made
    home, emptied = tmp_path / "home", tmp_path / ".home.emptied"
    for folder in (home, emptied):
        folder.mkdir(mode=0o700)
        FileLedger(folder / contents.TOMBSTONES).append(_erased("es-gc/x"))
    with (emptied / contents.TOMBSTONES).open("ab") as ledger:
        ledger.write(b'{"at"')  # torn, and so dropped by what was written since
    FileLedger(home / contents.TOMBSTONES).append(_erased("es-gc/y"))
    restore(home, file, secret).ok()
    assert len(FileLedger(home / contents.TOMBSTONES).entries()) == 2
    assert left(tmp_path) == []


def test_a_linked_folder_is_no_more_left_out_than_a_linked_file(
    trial: Federation, tmp_path: Path, passphrase: Path
) -> None:
    node = trial["es-gc"]
    elsewhere = tmp_path / "national"
    elsewhere.mkdir()
    (elsewhere / "more.json").write_text("{}")
    for target in (elsewhere, elsewhere / "more.json"):
        link = node.home / "operators" / "more.json"
        link.symlink_to(target)
        try:
            assert "has no place in a backup" in backup(node, tmp_path / "b", passphrase).err
        finally:
            link.unlink()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--expires-days", "91"), "90"),
        (("--expires-days", "0"), "1"),
    ],
)
def test_a_life_beyond_what_peers_keep_is_refused(
    trial: Federation, tmp_path: Path, passphrase: Path, words: tuple[str, ...], said: str
) -> None:
    refused = backup(trial["es-gc"], tmp_path / "b", passphrase, *words)
    assert refused.code == 2
    assert said in refused.err
    assert not (tmp_path / "b").exists()


def test_a_backup_is_not_made_over_a_file_in_the_home_or_under_a_short_passphrase(
    trial: Federation, tmp_path: Path, passphrase: Path
) -> None:
    node = trial["es-gc"]
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("there", "link"):
        assert "exists" in backup(node, tmp_path / name, passphrase).err
    assert (tmp_path / "there").read_text() == "mine"
    assert "inside the home" in backup(node, node.home / "b", passphrase).err
    assert "no folder" in backup(node, tmp_path / "no" / "b", passphrase).err
    short = tmp_path / "short"
    short.write_text("eleven char")
    short.chmod(0o600)
    assert "fewer than 12" in backup(node, tmp_path / "b", short).err
    assert not (tmp_path / "b").exists()
    without = tieline_process("node", "backup", node.home, tmp_path / "b")
    assert without.code == 2
    assert "--passphrase-file" in without.err


def test_expired_backups_are_told_and_deleted_on_request(
    trial: Federation, tmp_path: Path, passphrase: Path
) -> None:
    node = trial["es-gc"]
    old = tmp_path / "old"
    home = Home(node.home)
    long_ago = utc_now() - timedelta(days=20)
    making.make(home, old, SECRET.encode(), timedelta(days=1), long_ago, quiet)
    told = backup(node, tmp_path / "new", passphrase).ok().json
    assert told["expired"] == [str(old)]
    assert old.exists()
    told = backup(node, tmp_path / "newer", passphrase, "--delete-expired").ok().json
    assert told["deleted"] == [str(old)]
    assert not old.exists()
    assert (tmp_path / "new").exists()


def test_a_damaged_database_makes_no_backup(
    trial: Federation, made: tuple[Path, Path], tmp_path: Path, passphrase: Path
) -> None:
    file, secret = made
    home = tmp_path / "home"
    restore(home, file, secret).ok()
    with contextlib.closing(sqlite3.connect(home / "database.sqlite3")) as database:
        database.execute("DELETE FROM audit_leaves WHERE position = 1")
        database.commit()
    refused = tieline("node", "backup", home, tmp_path / "b", "--passphrase-file", passphrase)
    assert refused.code == 1
    assert "does not hold together at entry 1" in refused.err
    assert not (tmp_path / "b").exists()
    assert not list(home.glob(".backup-*"))


def test_a_killed_backup_leaves_nothing_for_long(trial: Federation, tmp_path: Path) -> None:
    stale = tmp_path / f"{scratch.BACKUP_PREFIX}dead"
    stale.mkdir()
    (stale / "database").write_text("in plain")
    with scratch.scratch(tmp_path, scratch.BACKUP_PREFIX) as first:
        assert not stale.exists()
        with scratch.scratch(tmp_path, scratch.BACKUP_PREFIX) as second:
            assert first.exists()
            assert second.exists()
    assert not first.exists()
    assert not second.exists()


@contextlib.contextmanager
def _quiet(what: str) -> Iterator[Any]:
    yield lambda _done, _whole: None


@pytest.mark.parametrize("whose", ["es-gc", "nobody"])
def test_a_database_that_is_not_the_homes_is_not_backed_up_and_not_restored(
    trial: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    """A leftover variable gave weeks of backups that were checked, and held nothing."""
    home = Home(trial["pt-pj"].home)
    other = tmp_path / "empty.sqlite3"
    if whose == "es-gc":
        other = trial[whose].home / "database.sqlite3"
    else:
        open_store(f"sqlite:///{other}", clock=utc_now).close()
    file = tmp_path / "b"
    make = partial(making.make, home, file, SECRET.encode(), timedelta(days=9), utc_now(), _quiet)
    why = "the database is one of es-gc" if whose == "es-gc" else "the database knows none of admin"
    with monkeypatch.context() as set_wrongly:
        set_wrongly.setenv("TIELINE_NODE_DATABASE", f"sqlite:///{other}")
        with pytest.raises(ConfigurationError, match=why):
            make()
        assert not file.exists()
        set_wrongly.setattr(own_database, "check", lambda *_: None)  # a backup of before
        make()
    lost = tmp_path / "home"
    for again in (restoring.check_only, restoring.restore):
        with pytest.raises(ConfigurationError, match=why):
            again(lost, file, SECRET.encode(), utc_now(), _quiet)
        assert not lost.exists()


def test_a_database_that_is_not_there_is_not_backed_up(
    trial: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIELINE_NODE_DATABASE", f"sqlite:///{tmp_path}/mistyped.sqlite3")
    home, file = Home(trial["pt-pj"].home), tmp_path / "b"
    with pytest.raises(ConfigurationError, match=r"mistyped\.sqlite3 is not there; correct"):
        making.make(home, file, SECRET.encode(), timedelta(days=9), utc_now(), _quiet)
    assert list(tmp_path.iterdir()) == []
