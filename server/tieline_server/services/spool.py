"""What comes once and is read by several, each at its own pace, in memory that stays flat.

Small things stay in memory; larger ones go to a file without a name in the node's home, which is
gone with the process whatever happens to it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tieline_client import limits
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput, StorageUnavailable


class NoRoom(StorageUnavailable):
    """A temporary file of this node cannot be used; what a peer tells of its disk is never this."""


class Spool:
    """``size`` bytes of digests, written front to back by one thread, read anywhere by others."""

    def __init__(self, size: int, folder: Path | None) -> None:
        """Files are made in ``folder``; None: where the system keeps temporary files."""
        self._pieces: list[DigestBatch] = []
        self._starts: list[int] = []
        self._file = None
        if size > limits.LIST_MEMORY_BYTES:
            try:
                self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
            except OSError as error:
                raise _full(error) from error
        self._came = 0
        self._broken = False
        self._changed = threading.Condition()

    def write(self, batch: DigestBatch) -> None:
        """Add to the end. Raises StorageUnavailable when the disk is full."""
        if self._file is not None:
            left = batch.digests
            try:
                while left:
                    left = left[self._file.write(left) :]
            except OSError as error:
                raise _full(error) from error
        with self._changed:
            if self._file is None:
                self._pieces.append(batch)
                self._starts.append(self._came)
            self._came += len(batch.digests)
            self._changed.notify_all()

    def read(self, kind: DigestKind, start: int, size: int) -> DigestBatch:
        """Return ``size`` bytes of digests of a kind from ``start``, once they came.

        Raises InvalidInput when what is written was broken off.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._came >= start + size or self._broken)
            if self._broken:
                raise InvalidInput("the question broke off before its end")
            if self._file is None:
                return self._in_memory(kind, start, size)
            descriptor = os.dup(self._file.fileno())
        try:
            return DigestBatch.of(kind, os.pread(descriptor, size, start))
        finally:
            os.close(descriptor)

    def _in_memory(self, kind: DigestKind, start: int, size: int) -> DigestBatch:
        """Return a part of what is kept; a piece that is asked for as it came is not copied."""
        at = bisect_right(self._starts, start) - 1
        if self._starts[at] == start and len(self._pieces[at].digests) == size:
            return self._pieces[at]
        last = bisect_left(self._starts, start + size)
        joined = b"".join(one.digests for one in self._pieces[at:last])
        return DigestBatch.of(kind, joined[start - self._starts[at] :][:size])

    def break_off(self) -> None:
        """Nothing more is read: whoever waits is told, and what came is let go."""
        with self._changed:
            self._broken = True
            self._pieces.clear()
            self._starts.clear()
            self._changed.notify_all()
            if self._file is not None:
                self._file.close()


class Kept:
    """Messages kept until they may be shown, in order."""

    def __init__(self, folder: Path | None) -> None:
        """A file is made in ``folder`` when they are too many for memory."""
        self._folder = folder
        self._few: list[bytes] = []
        self._size = 0
        self._file: IO[bytes] | None = None

    def add(self, message: bytes) -> None:
        """Keep one more. Raises StorageUnavailable when the disk is full."""
        self._size += len(message)
        if self._file is None and self._size <= limits.ANSWER_MEMORY_BYTES:
            self._few.append(message)
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
            self._file.write(len(message).to_bytes(4, "big"))
            self._file.write(message)
        except OSError as error:
            raise _full(error) from error

    def finish(self) -> None:
        """Have all of it where it is kept, before anybody is told that it is there. Raises
        StorageUnavailable when the disk is full."""
        try:
            if self._file is not None:
                self._file.flush()
        except OSError as error:
            raise _full(error) from error

    def __iter__(self) -> Iterator[bytes]:
        """Yield them from the first. Raises StorageUnavailable where they cannot be read back."""
        yield from self._few
        if self._file is not None:
            try:
                self._file.seek(0)
                while length := self._file.read(4):
                    yield self._file.read(int.from_bytes(length, "big"))
            except OSError as error:
                raise _full(error) from error

    def clear(self) -> None:
        """Drop all."""
        self._few.clear()
        self._size = 0
        self.close()

    def close(self) -> None:
        """Let the file go."""
        file, self._file = self._file, None
        if file is not None:
            # What is still to be written may find the disk full; nobody reads it any more.
            with contextlib.suppress(OSError):
                file.close()


def _full(error: OSError) -> NoRoom:
    return NoRoom(
        f"a temporary file cannot be used: {error.strerror or error}; make room in the home"
    )
