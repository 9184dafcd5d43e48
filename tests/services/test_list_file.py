"""The file of a long asked list: what is filled in is what is on disk, wherever blocks end."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tieline_server.services.list_file import BLOCK_BYTES, BUFFER_BYTES, PIECE_BYTES_MOST, ListFile

SIZES = (
    (),
    (1,),
    (BLOCK_BYTES,),
    (BLOCK_BYTES - 1, 2),
    (PIECE_BYTES_MOST, PIECE_BYTES_MOST, 1),
    (1_000_033,) * 9,
    (PIECE_BYTES_MOST - 7,) * 5 + (BLOCK_BYTES,),
    (BUFFER_BYTES // 4,) * 4,
)


def _written(path: Path, sizes: tuple[int, ...]) -> bytes:
    """Fill in pieces that all differ; return what they are, one after another."""
    pieces = [os.urandom(size) for size in sizes]
    with ListFile(path) as file:
        for piece in pieces:

            def put(place: memoryview, piece: bytes = piece) -> None:
                place[:] = piece

            file.fill(len(piece), put)
        file.finish()
    return b"".join(pieces)


@pytest.mark.parametrize("sizes", SIZES)
def test_what_was_filled_in_is_in_the_file(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    path = tmp_path / "list"
    assert _written(path, sizes) == path.read_bytes()


def test_files_that_are_written_at_once_and_after_one_another_do_not_mix(tmp_path: Path) -> None:
    """Buffers are used again: what one file held must not show in another."""

    def put(sign: bytes, file: ListFile, size: int) -> None:
        file.fill(size, lambda place: place.__setitem__(slice(None), sign * size))

    for turn in range(3):
        paths = [tmp_path / f"{turn}-{sign}" for sign in "abc"]
        with ListFile(paths[0]) as first, ListFile(paths[1]) as second, ListFile(paths[2]) as third:
            for size in (PIECE_BYTES_MOST, 17, PIECE_BYTES_MOST, BLOCK_BYTES, 3):
                for sign, file in zip((b"a", b"b", b"c"), (first, second, third), strict=True):
                    put(sign, file, size)
            for file in (third, first, second):
                file.finish()
        for sign, path in zip((b"a", b"b", b"c"), paths, strict=True):
            assert path.read_bytes() == sign * (2 * PIECE_BYTES_MOST + 17 + BLOCK_BYTES + 3)


def test_only_its_owner_reads_it_and_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "list"
    _written(path, (10,))
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        ListFile(path)


def test_a_file_system_that_writes_through_its_cache_only_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def without(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no such flag here")
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", without)
    path = tmp_path / "list"
    assert _written(path, (PIECE_BYTES_MOST, PIECE_BYTES_MOST, 33)) == path.read_bytes()
