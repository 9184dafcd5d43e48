"""HOME/tombstones: what was erased, beside the database and outside its backups.

A backup holds what was erased since it was made. So every erasure is written here first, durably,
and a restored node erases once more what is younger than its backup before it serves; so with
restrictions, see there when these are written (services/tombstones.py). One JSON object a line,
each with the SHA-256 over the one before it and itself, so that a line which was cut out or altered
shows. No personal text, no digests (but marks of items that were split off: domain/splitting.py).

    {"at": ..., "kind": "series", "series": "pt-pj/...", "retraction": "...", "chain": "<hex>"}

A last line that is broken is what a crash leaves of a write: nothing was erased for it yet. It is
dropped by the next append. Damage anywhere else is damage.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tieline_client.errors import StorageCorrupt, StorageUnavailable

FILE = "tombstones"
_CHAIN = "chain"
_START = "0" * 64
_SAME = ("kind", "series", "import", "retraction")
"""What makes two entries one."""


class FileLedger:
    """`domain.ports.TombstoneLedger` over one file. Any thread may call."""

    def __init__(self, path: Path) -> None:
        """Make no file yet; raise StorageCorrupt for a damaged one."""
        self._path = path
        self._lock = threading.Lock()
        entries, self._chain, self._length = _read(path)
        self._known = {_key(one) for one in entries}

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry, on disk when this returns; one that is there changes nothing.

        Raises StorageUnavailable.
        """
        key = _key(entry)
        with self._lock:
            if key in self._known:
                return
            chain = _chained(self._chain, entry)
            line = _canonical({**entry, _CHAIN: chain}) + b"\n"
            try:
                self._write(line)
            except OSError as error:
                raise StorageUnavailable(
                    f"the ledger of what is erased cannot be written ({error.strerror}); make room "
                    f"at {self._path}: nothing is erased before, and what was withdrawn or "
                    "narrowed just now holds, and is written as soon as it can be"
                ) from error
            self._chain, self._length = chain, self._length + len(line)
            self._known.add(key)

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries in order. Raises StorageCorrupt, naming the line."""
        return _read(self._path)[0]

    def _write(self, line: bytes) -> None:
        fresh = not self._path.exists()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, self._length)  # what a crash left of a line
            view = memoryview(line)
            at = self._length
            while view:
                written = os.pwrite(descriptor, view, at)
                view, at = view[written:], at + written
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if fresh:
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _read(path: Path) -> tuple[list[dict[str, Any]], str, int]:
    """Return the entries, the chain's end, and how many bytes of the file are sound."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], _START, 0
    except OSError as error:
        raise StorageUnavailable(
            f"the ledger {path} cannot be read ({error.strerror}); check its permissions"
        ) from error
    lines = data.split(b"\n")
    entries: list[dict[str, Any]] = []
    chain, sound = _START, 0
    last = len(lines) - 1 if lines[-1] else len(lines) - 2
    for number, line in enumerate(lines[: last + 1]):
        entry = _entry(line, chain) if number < len(lines) - 1 else None
        if entry is None:
            if number == last:
                break
            raise StorageCorrupt(
                f"line {number + 1} of {path} is damaged, so what was erased is not known for "
                "sure; put the file back from where it was copied to, before the node serves"
            )
        chain = entry.pop(_CHAIN)
        entries.append(entry)
        sound += len(line) + 1
    return entries, chain, sound


def _entry(line: bytes, before: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
        stated = {key: value for key, value in entry.items() if key != _CHAIN}
        return entry if entry[_CHAIN] == _chained(before, stated) else None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def _chained(before: str, entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(before.encode() + _canonical(entry)).hexdigest()


def _canonical(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()


def _key(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(entry.get(name, "")) for name in _SAME)
