"""`tieline node backup`: copy, encrypt, and check by restoring, while the node runs.

1. The database is copied into a scratch folder of the home, from one snapshot.
2. Copy and files are encrypted into a temporary file beside the target.
3. That file is read back and restored into the scratch folder: every file must be what it was, the
   database must pass its integrity check, and its audit log, recomputed, must be the same.
4. The audit log gets its entry; without it there is no backup (fail closed).
5. Only then the file takes its name.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from tieline_client.errors import (
    ConfigurationError,
    DirectoryError,
    InvalidInput,
    StorageCorrupt,
    StorageTooNew,
    WrongState,
)
from tieline_client.limits import BACKUP_LIFE

from tieline_server import own_database
from tieline_server.backup import contents
from tieline_server.backup.container import BackupRefused, Header, Reader, Writer, fresh_cost
from tieline_server.backup.contents import Stored, Told
from tieline_server.backup.records import Record, overdue, remember
from tieline_server.backup.scratch import BACKUP_PREFIX, scratch
from tieline_server.config import Home, NodeConfig
from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.ports import Tx
from tieline_server.storage.copies import Copying, Facts, copying
from tieline_server.storage.engine import open_store
from tieline_server.storage.schema import REVISION
from tieline_server.trust import files
from tieline_server.trust.directory_store import DirectoryStore

PASSPHRASE_CHARS = 12
"""Shortest passphrase that a backup is made under."""


class Show(Protocol):
    """Shows a step by its name while it runs; the step tells how far it has come."""

    def __call__(self, what: str) -> AbstractContextManager[Told]: ...


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made: its header, its file and size in bytes, how it was checked, and older
    backups that have expired and should be deleted."""

    header: Header
    file: Path
    size: int
    checked: str
    expired: tuple[Path, ...]


def check_passphrase(passphrase: bytes) -> None:
    """Raise InvalidInput for a passphrase too short for a file that leaves the machine."""
    if len(passphrase.decode("utf-8", "replace")) < PASSPHRASE_CHARS:
        raise InvalidInput(
            f"the passphrase has fewer than {PASSPHRASE_CHARS} characters; the file holds all keys "
            "of this node, so take a longer one"
        )


def make(
    home: Home, file: Path, passphrase: bytes, life: timedelta, now: datetime, show: Show
) -> Made:
    """Make a backup of ``home`` in the new file ``file``, usable for ``life``.

    Raises InvalidInput, WrongState when the file exists, StorageUnavailable, StorageCorrupt,
    ConfigurationError. Whatever is raised, no file is left.
    """
    check_passphrase(passphrase)
    config = home.config()
    file = file.absolute()
    _check_target(home, file)
    if not timedelta(0) < life <= BACKUP_LIFE:
        raise InvalidInput(
            f"a backup lives at most {BACKUP_LIFE.days} days: so long peers keep what they sent, "
            "and what was erased must be gone from backups too"
        )
    url = home.database_url(config)
    own_database.check_there(home, url)
    database = copying(url)
    with scratch(home.path, BACKUP_PREFIX) as work:
        copy = work / contents.DATABASE
        with show("copying the database") as told:
            facts = database.copy(copy, told)
        _check_revision(facts)
        own_database.check(home, facts.operators, own_database.agency_of(facts.last_entry))
        stored = contents.collect(home, config)
        header = _header(home, config, database, facts, stored, copy, now, life)
        part = _temporary(file)
        try:
            with show("encrypting") as told:
                _write(part, header, passphrase, stored, copy, told)
            copy.unlink()
            checked = _check(part, header, passphrase, stored, database, work, show)
            expired = _log(home, config, header, file)
            if file.exists():
                raise _exists(file)
            size = part.stat().st_size
            part.rename(file)
            files.sync_folder(file.parent)
        except BaseException:
            with suppress(FileNotFoundError):
                part.unlink()
            raise
    return Made(header, file, size, checked, expired)


def _check_target(home: Home, file: Path) -> None:
    if file.exists() or file.is_symlink():
        raise _exists(file)
    if not file.parent.is_dir():
        raise ConfigurationError(f"{file.parent} is no folder; make it first")
    if home.path.resolve() in file.resolve().parents:
        raise InvalidInput(
            f"{file} is inside the home and would be lost with it; name a file elsewhere"
        )


def _exists(file: Path) -> WrongState:
    return WrongState(f"{file} exists; a backup is never overwritten, name another file")


def _check_revision(facts: Facts) -> None:
    if facts.revision > REVISION:
        raise StorageTooNew(
            f"the database is at revision {facts.revision[:32]}, this version knows {REVISION}; "
            "back it up with the Tieline that runs the node"
        )
    if facts.revision != REVISION:
        raise WrongState(
            f"the database is at revision {facts.revision[:32]}, this version works with "
            f"{REVISION}; back it up with the Tieline that runs the node, or start the node once"
        )


def _header(
    home: Home,
    config: NodeConfig,
    database: Copying,
    facts: Facts,
    stored: list[Stored],
    copy: Path,
    now: datetime,
    life: timedelta,
) -> Header:
    try:
        federation = DirectoryStore(home.path).current().federation
    except DirectoryError:
        federation = ""  # a node that has not joined yet has keys and people all the same
    created = now.replace(microsecond=0)
    return Header(
        agency=config.agency,
        federation=federation,
        epoch=facts.epoch,
        created=created,
        expires=created + life,
        database=database.kind,
        revision=facts.revision,
        version=version("tieline"),
        audit_entries=facts.audit_entries,
        audit_root=facts.audit_root.hex(),
        bytes=copy.stat().st_size + sum(len(one.data) for one in stored),
        scrypt=fresh_cost(),
    )


def _temporary(file: Path) -> Path:
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # mode 0600
    os.close(descriptor)
    return Path(name)


def _write(
    part: Path, header: Header, passphrase: bytes, stored: list[Stored], copy: Path, told: Told
) -> None:
    with part.open("wb") as target:
        contents.pack(Writer(target, header, passphrase), stored, copy, told)
        target.flush()
        os.fsync(target.fileno())


def _check(
    part: Path,
    header: Header,
    passphrase: bytes,
    stored: list[Stored],
    database: Copying,
    work: Path,
    show: Show,
) -> str:
    """Restore what was written and hold it against what it was made from; say how."""
    restored = work / "restored"
    restored.mkdir(mode=0o700)
    with part.open("rb") as source, show("reading it back") as told:
        reader = Reader(source, str(part), passphrase)
        contents.unpack(reader, restored, str(part), told)
    if reader.header != header or any(
        (restored / one.name).read_bytes() != one.data for one in stored
    ):
        raise BackupRefused(f"{part} does not hold what was written to it; look at its disk")
    with show("checking the database") as told:
        checked = database.check(restored / contents.DATABASE, told)
    if checked.facts is not None:
        compare(header, checked.facts)
    return checked.how


def compare(header: Header, facts: Facts) -> None:
    """Raise StorageCorrupt when a restored database is not what the header says."""
    found = (facts.epoch, facts.revision, facts.audit_entries, facts.audit_root.hex())
    if found != (header.epoch, header.revision, header.audit_entries, header.audit_root):
        raise StorageCorrupt(
            "the database restored from the backup is not the one that was copied; "
            "make the backup again and look at the disk"
        )


def _log(home: Home, config: NodeConfig, header: Header, file: Path) -> tuple[Path, ...]:
    """Log the backup and remember it; return older ones that have expired."""
    entry = AuditEntry(
        action="node.backup",
        at=header.created,
        agency=config.agency,
        detail={
            "expires": header.expires.isoformat(),
            "audit_entries": header.audit_entries,
            "audit_root": header.audit_root,
            "user": os.getuid(),
        },
    )
    record = Record(file=str(file), created=header.created, expires=header.expires)

    def work(tx: Tx) -> tuple[Path, ...]:
        tx.audit.append(entry)
        gone = tuple(Path(one.file) for one in overdue(tx, header.created))
        remember(tx, record)
        return gone

    url = home.database_url(config)
    with closing(open_store(url, clock=lambda: header.created)) as store:
        return store.write(work)
