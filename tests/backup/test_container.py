"""The file of a backup: what it holds comes out again, and nothing else ever does."""

from __future__ import annotations

import io
import random
import struct
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tieline_server.backup import container
from tieline_server.backup.container import (
    CHUNK_BYTES,
    MAGIC,
    TAG_BYTES,
    BackupRefused,
    Cost,
    Header,
    Reader,
    Writer,
    read_header,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PASSPHRASE = b"correct horse battery"
CHEAP = Cost(n=2**14, salt="5a" * 32)
HEADER = Header(
    agency="pt-pj",
    federation="trial-eu",
    epoch="e",
    created=NOON,
    expires=NOON + timedelta(days=90),
    database="sqlite",
    revision="0004",
    version="0.1.0",
    audit_entries=7,
    audit_root="00" * 32,
    bytes=0,
    scrypt=CHEAP,
)


def sealed(plain: bytes, header: Header = HEADER) -> bytes:
    file = io.BytesIO()
    writer = Writer(file, header, PASSPHRASE)
    writer.write(plain)
    writer.finish()
    return file.getvalue()


def opened(data: bytes, passphrase: bytes = PASSPHRASE) -> bytes:
    return Reader(io.BytesIO(data), "FILE", passphrase).read()


def chunks_start(data: bytes) -> int:
    (length,) = struct.unpack(">I", data[len(MAGIC) : len(MAGIC) + 4])
    return len(MAGIC) + 4 + int(length) + 32


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]
)
def test_what_went_in_comes_out(size: int) -> None:
    plain = random.Random(size).randbytes(size)
    data = sealed(plain)
    assert opened(data) == plain
    assert len(data) - chunks_start(data) == size + TAG_BYTES * max(1, -(-size // CHUNK_BYTES))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(max_size=700_000), max_size=6))
def test_the_pieces_of_writing_do_not_matter(pieces: list[bytes]) -> None:
    file = io.BytesIO()
    writer = Writer(file, HEADER, PASSPHRASE)
    for piece in pieces:
        writer.write(piece)
    writer.finish()
    assert opened(file.getvalue()) == b"".join(pieces)


def test_another_passphrase_is_told_from_damage() -> None:
    data = sealed(b"x" * 100)
    with pytest.raises(BackupRefused, match="the passphrase does not open"):
        opened(data, b"correct horse batteri")
    with pytest.raises(BackupRefused, match="is damaged"):
        opened(data[:-1])


def test_every_flipped_byte_is_noticed() -> None:
    data = sealed(bytes(3 * CHUNK_BYTES + 5))
    start = chunks_start(data)
    rng = random.Random(1)
    places = [*range(len(MAGIC), start, 7), *(rng.randrange(start, len(data)) for _ in range(40))]
    for place in places:
        broken = bytearray(data)
        broken[place] ^= 1 << rng.randrange(8)
        with pytest.raises(BackupRefused):
            opened(bytes(broken))


def test_a_file_cut_anywhere_is_noticed() -> None:
    data = sealed(bytes(2 * CHUNK_BYTES))
    start, size = chunks_start(data), CHUNK_BYTES + TAG_BYTES
    for end in (0, 3, len(MAGIC), start - 40, start, start + 5, start + size, len(data) - 1):
        with pytest.raises(BackupRefused):
            opened(data[:end])


def test_more_behind_the_end_is_noticed() -> None:
    data = sealed(b"abc")
    with pytest.raises(BackupRefused, match="is damaged"):
        opened(data + b"\x00")
    whole = sealed(bytes(CHUNK_BYTES))
    with pytest.raises(BackupRefused, match="is damaged"):
        opened(whole + whole[chunks_start(whole) :])


def test_chunks_that_changed_places_are_noticed() -> None:
    data = sealed(bytes(3 * CHUNK_BYTES))
    start, size = chunks_start(data), CHUNK_BYTES + TAG_BYTES
    head, chunks = data[:start], [data[start + n * size : start + (n + 1) * size] for n in range(3)]
    for order in ((1, 0, 2), (0, 2), (0, 0, 1, 2), (2,), (1, 2)):
        with pytest.raises(BackupRefused, match="is damaged"):
            opened(head + b"".join(chunks[n] for n in order))


def test_a_chunk_of_another_backup_is_noticed() -> None:
    """Same passphrase, same salt even; the header differs."""
    one = sealed(bytes(2 * CHUNK_BYTES))
    other = sealed(bytes(2 * CHUNK_BYTES), HEADER.model_copy(update={"audit_entries": 8}))
    size = CHUNK_BYTES + TAG_BYTES
    assert one[chunks_start(one) :] != other[chunks_start(other) :]
    with pytest.raises(BackupRefused, match="is damaged"):
        opened(one[: chunks_start(one) + size] + other[-size:])


def test_the_header_cannot_be_altered() -> None:
    data = sealed(b"x")
    later = data.replace(b"2026-05-30", b"2027-05-30")
    assert later != data
    assert read_header(io.BytesIO(later), "FILE")[0].expires.year == 2027
    with pytest.raises(BackupRefused):
        opened(later)


@pytest.mark.parametrize(
    "start", [b"", b"PK\x03\x04", b"SQLite format 3\x00", MAGIC.replace(b"\r\n", b"\n")]
)
def test_other_files_are_no_backups(start: bytes) -> None:
    with pytest.raises(BackupRefused, match="is no backup"):
        opened(start + bytes(100))


def test_a_newer_format_says_so() -> None:
    document = b'{"format": 2, "new": true}'
    with pytest.raises(BackupRefused, match="format 2"):
        opened(MAGIC + struct.pack(">I", len(document)) + document)


@pytest.mark.parametrize(
    "scrypt",
    [
        {"n": 2**40},
        {"n": 2**20 + 1},
        {"n": 2**15 + 1},
        {"r": 2**20},
        {"p": 2**20},
        {"n": 2},
        {"salt": "00"},
    ],
)
def test_a_hostile_cost_is_refused_before_it_is_paid(scrypt: dict[str, object]) -> None:
    hostile = Header.model_construct(
        **(HEADER.model_dump() | {"scrypt": CHEAP.model_dump() | scrypt})
    )
    document = hostile.model_dump_json(warnings=False).encode()
    with pytest.raises(BackupRefused, match="is damaged"):
        opened(MAGIC + struct.pack(">I", len(document)) + document + bytes(100))


def test_a_hostile_header_is_refused() -> None:
    for document in (b"[" * 5_000, b"[]", b"1", b"{", b'{"format": 1}', b"\xff" * 10):
        with pytest.raises(BackupRefused):
            opened(MAGIC + struct.pack(">I", len(document)) + document)
    with pytest.raises(BackupRefused):
        opened(MAGIC + struct.pack(">I", 2**32 - 1) + bytes(100))


def test_what_is_written_costs_128_mib_to_try() -> None:
    cost = container.fresh_cost()
    assert 128 * cost.n * cost.r == 128 * 1024 * 1024
    assert cost.salt != container.fresh_cost().salt
