"""What of a home goes into a backup, and how it gets in and out.

Inside the encrypted stream stands a tar archive (POSIX 1003.1-2001, pax): ``database`` and the
files below. Left out: the indexes and compiled kernels, which are derived; the lock; and
HOME/tombstones, which must outlive every backup: what was erased since is erased again from it.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tieline_client.errors import ConfigurationError

from tieline_server.backup.container import CHUNK_BYTES, Reader, Writer, damaged
from tieline_server.config import Home, NodeConfig
from tieline_server.storage import tombstone_ledger
from tieline_server.trust import files

DATABASE = "database"
FILES = ("config.toml", "request.json")
FOLDERS = ("keys", "certs", "operators", "directory")
POLICIES = "policies"
"""The agency's own rules, where they are kept inside the home."""
TOMBSTONES = tombstone_ledger.FILE
LEFT_OUT = ("indexes", "cache", "node.lock", TOMBSTONES)
"""And the database's own files, of which ``database`` is the copy."""

Told = Callable[[int, int], None]
"""Takes how much is done of how much; of 0 when that is not known."""

FILE_BYTES = 64 * 1024 * 1024
"""Largest file besides the database."""
_PART = r"[A-Za-z0-9_@+=-][A-Za-z0-9._@+=-]{0,199}"
_NAME = re.compile(
    rf"{DATABASE}|{'|'.join(map(re.escape, FILES))}|"
    rf"(?:{'|'.join((*FOLDERS, POLICIES))})(?:/{_PART}){{1,8}}"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """One file of the home: its name with slashes, its bytes."""

    name: str
    data: bytes


def collect(home: Home, config: NodeConfig) -> list[Stored]:
    """Read the home's files. Raises ConfigurationError for one that has no place in a backup."""
    found = [Stored(name, data) for name in FILES if (data := _read(home.path / name)) is not None]
    folders = [*FOLDERS, *((POLICIES,) if policies_inside(home, config) else ())]
    # A running node takes over new versions of the directory under this lock.
    (home.path / "directory").mkdir(mode=0o700, exist_ok=True)
    with files.locked(home.path / "directory" / ".lock", "the directory", wait=True):
        for folder in folders:
            found += _walk(home.path, home.path / folder)
    return found


def policies_inside(home: Home, config: NodeConfig) -> bool:
    """Whether the agency's own rules are in HOME/policies, and so in the backup."""
    return bool(config.policies) and Path(config.policies).resolve() == (
        home.path.resolve() / POLICIES
    )


def _walk(root: Path, folder: Path) -> Iterator[Stored]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.name.startswith(".") or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink() or not _NAME.fullmatch(name):
            raise ConfigurationError(f"{path} has no place in a backup; move it out of the home")
        data = _read(path)
        if data is not None:
            yield Stored(name, data)


def _read(path: Path) -> bytes | None:
    data = files.read_bounded(path, FILE_BYTES)
    if data is not None and len(data) > FILE_BYTES:
        raise ConfigurationError(f"{path} is larger than {FILE_BYTES} bytes; move it away")
    return data


def pack(writer: Writer, stored: list[Stored], database: Path, told: Told) -> None:
    """Write all to the stream and end it."""
    with tarfile.open(fileobj=writer, mode="w|", bufsize=CHUNK_BYTES) as archive:
        for one in stored:
            archive.addfile(_info(one.name, len(one.data)), io.BytesIO(one.data))
        size = database.stat().st_size
        with database.open("rb") as file:
            archive.addfile(_info(DATABASE, size), _Telling(file, told, size))
    writer.finish()


def unpack(reader: Reader, target: Path, name: str, told: Told) -> None:
    """Write all files of the stream into the new folder ``target``, durably, modes 0600 and 0700.

    ``name`` stands in errors. Raises BackupRefused for whatever `pack` would not have written;
    nothing is left out silently, and the stream is read to its end.
    """
    whole, done, seen = reader.header.bytes, 0, set[str]()
    try:
        with tarfile.open(fileobj=reader, mode="r|", bufsize=CHUNK_BYTES) as archive:
            for info in archive:
                source = archive.extractfile(info) if info.isreg() else None
                if source is None or not _NAME.fullmatch(info.name) or info.name in seen:
                    raise damaged(name)
                seen.add(info.name)
                if done + info.size > whole:
                    raise damaged(name)
                with _created(target, info.name) as file:
                    while block := source.read(CHUNK_BYTES):
                        file.write(block)
                        done += len(block)
                        told(done, whole)
                    file.flush()
                    os.fsync(file.fileno())
    except tarfile.TarError:
        raise damaged(name) from None
    reader.drain()
    if done != whole or not {DATABASE, "config.toml"} <= seen:
        raise damaged(name)
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        files.sync_folder(folder)


def _created(target: Path, name: str) -> IO[bytes]:
    path = target / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


class _Telling:
    """A file that tells how far it was read."""

    def __init__(self, file: IO[bytes], told: Told, size: int) -> None:
        self._file, self._told, self._size = file, told, size
        self._done = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._done += len(data)
        self._told(self._done, self._size)
        return data


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info
