"""`tieline node restore`: a home from a backup, whole or not at all.

1. The file proves itself: right passphrase, not expired, of a version that is known here.
2. Nobody serves HOME, and nothing stands there but its tombstones, which stay.
3. All is restored into a folder beside HOME and checked as `node backup` checks it.
4. The database is brought to this version's tables. It gets a new epoch, so that peers see at the
   next contact what happened and send again what this node lacks; what was erased since the backup
   is erased again; the audit log says so.
5. The folder takes the place of HOME. Before this step there is no home to serve.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tieline_client.errors import (
    ConfigurationError,
    HomeInUse,
    StorageTooNew,
    TielineError,
    WrongState,
)
from tieline_client.limits import CLOCK_TOLERANCE

from tieline_server import own_database
from tieline_server.backup import contents
from tieline_server.backup.container import BackupRefused, Header, Reader, damaged, read_header
from tieline_server.backup.making import Show, compare
from tieline_server.backup.reviving import Revived, revive
from tieline_server.backup.scratch import scratch
from tieline_server.config import Home
from tieline_server.storage.copies import copying
from tieline_server.storage.migrate import known_revisions
from tieline_server.trust import files


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore came to. ``revived`` is None when the backup was only checked."""

    header: Header
    checked: str
    revived: Revived | None


class BackupExpired(BackupRefused):
    """Past its expiry a backup holds what peers and law count as gone."""

    reason = "BACKUP_EXPIRED"


def check_only(home: Path, file: Path, passphrase: bytes, now: datetime, show: Show) -> Restored:
    """Restore into a scratch folder beside ``home``, check, and remove it; HOME is not touched.

    An expired backup can be checked. Raises BackupRefused, StorageTooNew, StorageCorrupt.
    """
    home = home.absolute()
    _admit(file, now, expired_anyway=True)
    home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with scratch(home.parent, f".{home.name}.check-") as work:
        header, checked = _unpack(work, file, passphrase, now, show, expired_anyway=True)
    return Restored(header, checked, None)


def restore(
    path: Path,
    file: Path,
    passphrase: bytes,
    now: datetime,
    show: Show,
    *,
    expired_anyway: bool = False,
) -> Restored:
    """Make the home ``path`` anew from a backup.

    Raises BackupRefused, BackupExpired unless ``expired_anyway``, StorageTooNew, StorageCorrupt,
    HomeInUse, WrongState when something stands where the node is to be, ConfigurationError.
    """
    path = path.absolute()
    _admit(file, now, expired_anyway=expired_anyway)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _finish_earlier(path)
    with _emptied(path), scratch(path.parent, f".{path.name}.partial-") as partial:
        header, checked = _unpack(
            partial, file, passphrase, now, show, expired_anyway=expired_anyway
        )
        home = Home(partial)
        config = home.config()
        if config.agency != header.agency:
            raise damaged(str(file))
        ledger = path / contents.TOMBSTONES
        if ledger.exists():
            _copy(ledger, partial / contents.TOMBSTONES)
        url = home.database_url(config)
        copy = partial / contents.DATABASE
        copying(url).load(copy)
        copy.unlink(missing_ok=True)  # a dump stays where it was when it is loaded
        try:
            with show("bringing the database up to now"):
                revived = revive(home, config, header, now)
        except TielineError as error:
            if not config.database:
                raise
            raise type(error)(
                f"{error.message} (the database that {path} is to use holds the restored copy "
                "already: empty it before the next try)"
            ) from error
        for folder in (partial, *(one for one in partial.rglob("*") if one.is_dir())):
            files.sync_folder(folder)
        _take_place(partial, path)
    return Restored(header, checked, revived)


def _admit(file: Path, now: datetime, *, expired_anyway: bool) -> None:
    """Refuse by the header alone what no passphrase can make good. Raises BackupRefused."""
    try:
        with file.open("rb") as source:
            header, _ = read_header(source, str(file))
    except OSError as error:
        raise BackupRefused(f"{file} cannot be read: {error.strerror}") from None
    _judge(header, file, now, expired_anyway=expired_anyway)


def _judge(header: Header, file: Path, now: datetime, *, expired_anyway: bool) -> None:
    if header.revision not in known_revisions():
        raise StorageTooNew(
            f"{file} was made by Tieline {header.version} with tables of revision "
            f"{header.revision}, which this version does not know; restore with that one"
        )
    if header.created > now + CLOCK_TOLERANCE:
        raise BackupRefused(
            f"{file} was made on {header.created:%Y-%m-%d %H:%M}, which is later than now; "
            "set this machine's clock"
        )
    if header.expired(now) and not expired_anyway:
        raise BackupExpired(
            f"{file} expired on {header.expires:%Y-%m-%d}: delete it and take a newer one. If "
            "there is no other, --expired-anyway restores it; what peers sent after it was made "
            "may then be missing for good"
        )


def _unpack(
    target: Path,
    file: Path,
    passphrase: bytes,
    now: datetime,
    show: Show,
    *,
    expired_anyway: bool,
) -> tuple[Header, str]:
    """Restore the files into ``target`` and check the database's copy; say how."""
    with file.open("rb") as source, show("reading the backup") as told:
        reader = Reader(source, str(file), passphrase)
        # Now it is proven, and perhaps no longer the file that was looked at.
        _judge(reader.header, file, now, expired_anyway=expired_anyway)
        contents.unpack(reader, target, str(file), told)
    header = reader.header
    home = Home(target)
    database = copying(home.database_url(home.config()))
    if database.kind != header.database:
        raise ConfigurationError(
            f"{file} holds a {header.database} database and the settings name one of "
            f"{database.kind}; set TIELINE_NODE_DATABASE to a new {header.database} database"
        )
    with show("checking the database") as told:
        checked = database.check(target / contents.DATABASE, told)
    if checked.facts is not None:
        compare(header, checked.facts)
        facts = checked.facts
        own_database.check(home, facts.operators, own_database.agency_of(facts.last_entry))
    return header, checked.how


@contextmanager
def _emptied(path: Path) -> Iterator[None]:
    """Hold HOME, which must be absent or hold nothing but tombstones, until the end."""
    if not path.exists():
        yield
        return
    lock = Home(path).lock_file
    if not path.is_dir():
        raise WrongState(f"{path} is no folder; name a new one")
    if lock.exists():
        try:
            with files.locked(lock, str(path)):
                _check_empty(path)
                yield
            return
        except HomeInUse:
            raise HomeInUse(f"a node serves {path}; stop it, and move the home away") from None
    _check_empty(path)
    yield


def _check_empty(path: Path) -> None:
    allowed = {contents.TOMBSTONES, Home(path).lock_file.name}
    others = sorted(one.name for one in path.iterdir() if one.name not in allowed)
    if others:
        raise WrongState(
            f"{path} is not empty ({', '.join(others[:5])}); move the old home away, but put its "
            f"file {contents.TOMBSTONES} into the new {path}, so that what was erased stays erased"
        )


def _before(path: Path) -> Path:
    return path.with_name(f".{path.name}.emptied")


def _take_place(partial: Path, path: Path) -> None:
    """Rename the finished folder to HOME; what stood there (tombstones) is in it as well."""
    before = _before(path)
    if path.exists():
        path.rename(before)
    partial.rename(path)
    files.sync_folder(path.parent)
    shutil.rmtree(before, ignore_errors=True)


def _finish_earlier(path: Path) -> None:
    """Put back the emptied home if a restore was killed between its two renames."""
    before = _before(path)
    if not before.exists():
        return
    if path.exists():
        _check_ledger(before / contents.TOMBSTONES, path)
        shutil.rmtree(before, ignore_errors=True)
    else:
        before.rename(path)
        files.sync_folder(path.parent)


def _check_ledger(aside: Path, path: Path) -> None:
    """Refuse where HOME was made anew since its ledger was put aside, and so does not hold it."""
    ledger = path / contents.TOMBSTONES
    put_aside, here = _lines(aside), _lines(ledger)
    if put_aside is None or (here is not None and here.startswith(put_aside)):
        return
    raise WrongState(
        f"{aside} is the ledger that a restore put aside before it was killed, and {path} was "
        f"made anew since; move that file to {ledger}, then come again"
    )


def _lines(ledger: Path) -> bytes | None:
    """Return a ledger's whole lines, each with its end; None where there is none."""
    if not ledger.exists():
        return None
    head, newline, _ = ledger.read_bytes().rpartition(b"\n")
    return head + newline


def _copy(source: Path, target: Path) -> None:
    """Copy the ledger, durably."""
    if source.is_dir():
        shutil.copytree(source, target)
        return
    with (
        source.open("rb") as old,
        os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as new,
    ):
        shutil.copyfileobj(old, new)
        new.flush()
        os.fsync(new.fileno())
