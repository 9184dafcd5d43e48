"""The file of a long asked list: encrypted where it is written from, past the page cache.

Twenty megabytes that nobody reads again soon need not be copied into the cache, and from there to
the disk, beside a question on its way: pieces are sealed into one aligned buffer, and its whole
blocks go to the disk as they fill up (O_DIRECT). Where a file system cannot do that, they go the
ordinary way.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

BLOCK_BYTES = 4096
"""What offsets and lengths of direct writes are multiples of."""
BUFFER_BYTES = 4 * 1024 * 1024
PIECE_BYTES_MOST = BUFFER_BYTES // 2
_WRITE_BYTES = 512 * 1024
"""In one go: a commit of another process should not wait for megabytes of a list."""
_DIRECT = getattr(os, "O_DIRECT", 0)
_SPARE: deque[mmap.mmap] = deque(maxlen=2)
"""Buffers for the next files: a fresh one is cleared page by page. They hold nothing in clear."""


class ListFile:
    """A new file, written front to back by one thread; a context manager.

    It is durable once `finish` returned. Raises OSError; the file is then the caller's to remove.
    """

    def __init__(self, path: Path) -> None:
        """Make the file, mode 0600. Raises FileExistsError when it is there."""
        self._descriptor = _past_cache(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), path
        )
        try:
            self._buffer = _SPARE.pop()
        except IndexError:
            self._buffer = mmap.mmap(-1, BUFFER_BYTES)
        self._room = memoryview(self._buffer)
        self._filled = self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._room.release()
        _SPARE.append(self._buffer)
        os.close(self._descriptor)

    def fill(self, size: int, write: Callable[[memoryview], object]) -> None:
        """Append ``size`` bytes, at most PIECE_BYTES_MOST, which ``write`` puts into a view."""
        if self._filled + size > BUFFER_BYTES:
            self._flush()
        with self._room[self._filled : self._filled + size] as place:
            write(place)
        self._filled += size
        self._size += size

    def finish(self) -> None:
        """Write what is left, and return once all of it is on disk."""
        self._flush()
        if self._filled:
            self._write(BLOCK_BYTES)
            os.ftruncate(self._descriptor, self._size)
        os.fsync(self._descriptor)

    def _flush(self) -> None:
        """Write whole blocks; what is left of one moves to the front."""
        left = self._filled % BLOCK_BYTES
        whole = self._filled - left
        self._write(whole)
        self._room[:left] = bytes(self._room[whole : self._filled])
        self._filled = left

    def _write(self, size: int) -> None:
        done = 0
        while done < size:
            with self._room[done : min(done + _WRITE_BYTES, size)] as rest:
                done += os.write(self._descriptor, rest)


def _past_cache(descriptor: int, path: Path) -> int:
    """Return the open file, opened anew to write past the cache where its file system can."""
    try:
        direct = os.open(path, os.O_WRONLY | _DIRECT)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return descriptor
        os.close(descriptor)
        raise
    os.close(descriptor)
    return direct
