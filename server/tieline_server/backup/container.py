"""The file of a backup: a plain header, then one stream under a passphrase.

::

    magic       16 bytes  b"TIELINE-BACKUP\\r\\n": a transfer that mends line ends is noticed
    length       4 bytes  of the header, big endian
    header               JSON (UTF-8): what is in it, until when it may be used, cost and salt
    tag         32 bytes  HMAC-SHA256 over all of the above: tells a wrong passphrase from damage
    chunks               of 1 MiB, each AES-256-GCM with its 16 bytes of tag; the last is shorter

Both keys come from scrypt (RFC 7914) over the passphrase and 32 fresh random bytes, so no key is
ever used twice and nonces may count: 11 bytes number the chunk from 0, one byte says whether it is
the last (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, CRYPTO 2015, as age and
Tink use it). The header's tag is each chunk's associated data. So a chunk that was altered, moved,
left out, taken from another backup, or cut off at the end does not open.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, Annotated, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from tieline_client.errors import TielineError

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAGIC = b"TIELINE-BACKUP\r\n"
CHUNK_BYTES = 1024 * 1024
TAG_BYTES = 16
HEADER_BYTES = 16 * 1024
"""Largest header that is read."""
SCRYPT_N = 2**17
"""With r = 8: 128 MiB and about half a second for each passphrase that is tried."""
_SCRYPT_N_LEAST, _SCRYPT_N_MOST = 2**14, 2**20
_SCRYPT_R, _SCRYPT_P = 8, 1
_SALT_BYTES = 32
_KEY_BYTES = 32
_LENGTH = struct.Struct(">I")


class BackupRefused(TielineError):
    """A file that is no backup, damaged, foreign, expired, or under another passphrase."""

    reason = "BACKUP_REFUSED"
    status = "FAILED_PRECONDITION"


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError("not a power of two")
    return value


_power = AfterValidator(_power_of_two)


class Cost(BaseModel):
    """scrypt's cost, bounded so that a hostile file cannot ask for all memory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n: Annotated[int, Field(ge=_SCRYPT_N_LEAST, le=_SCRYPT_N_MOST), _power] = SCRYPT_N
    r: Annotated[int, Field(ge=_SCRYPT_R, le=_SCRYPT_R)] = _SCRYPT_R
    p: Annotated[int, Field(ge=1, le=4)] = _SCRYPT_P
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Header(BaseModel):
    """What a backup says of itself before it is opened. Nothing here is secret."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    agency: Annotated[str, Field(max_length=32)]
    federation: Annotated[str, Field(max_length=63)]
    epoch: Annotated[str, Field(max_length=64)]
    created: AwareDatetime
    expires: AwareDatetime
    database: Literal["sqlite", "postgresql"]
    revision: Annotated[str, Field(max_length=32)]
    """The newest migration of the database's tables."""
    version: Annotated[str, Field(max_length=32)]
    """The Tieline that made it."""
    audit_entries: Annotated[int, Field(ge=0)]
    audit_root: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Merkle tree hash of the audit log as it stands inside."""
    bytes: Annotated[int, Field(ge=0)]
    """Of the files inside, together."""
    scrypt: Cost

    def expired(self, now: datetime) -> bool:
        """Whether it may no longer be used."""
        return now >= self.expires


def fresh_cost() -> Cost:
    """Return this version's cost with a new salt."""
    return Cost(salt=os.urandom(_SALT_BYTES).hex())


@dataclass(frozen=True, slots=True)
class _Keys:
    stream: bytes
    header: bytes


def _derive(passphrase: bytes, cost: Cost) -> _Keys:
    scrypt = Scrypt(
        salt=bytes.fromhex(cost.salt), length=2 * _KEY_BYTES, n=cost.n, r=cost.r, p=cost.p
    )
    both = scrypt.derive(passphrase)
    return _Keys(both[:_KEY_BYTES], both[_KEY_BYTES:])


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


class Writer(io.RawIOBase):
    """Encrypts what is written to it into ``file``; ``finish`` writes the last chunk."""

    def __init__(self, file: IO[bytes], header: Header, passphrase: bytes) -> None:
        keys = _derive(passphrase, header.scrypt)
        head = _head(header.model_dump_json().encode())
        self._tag = hmac.digest(keys.header, head, hashlib.sha256)
        self._cipher = AESGCM(keys.stream)
        self._file = file
        self._number = 0
        self._held = bytearray()
        file.write(head + self._tag)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Buffer, /) -> int:
        """Take bytes; at most one chunk is held."""
        view = memoryview(data).cast("B")
        self._held += view
        while len(self._held) > CHUNK_BYTES:  # one stays back: only `finish` knows the last
            self._seal(bytes(self._held[:CHUNK_BYTES]), last=False)
            del self._held[:CHUNK_BYTES]
        return len(view)

    def finish(self) -> None:
        """Write the last chunk. Nothing can be written afterwards."""
        self._seal(bytes(self._held), last=True)
        self._held.clear()

    def _seal(self, plain: bytes, *, last: bool) -> None:
        nonce = _nonce(self._number, last=last)
        self._file.write(self._cipher.encrypt(nonce, plain, self._tag))
        self._number += 1


def _head(document: bytes) -> bytes:
    return MAGIC + _LENGTH.pack(len(document)) + document


def read_header(file: IO[bytes], name: str) -> tuple[Header, bytes]:
    """Return the header and its exact bytes, not yet authenticated. Raises BackupRefused."""
    start = file.read(len(MAGIC) + _LENGTH.size)
    if len(start) < len(MAGIC) + _LENGTH.size or not start.startswith(MAGIC):
        raise BackupRefused(f"{name} is no backup of a Tieline node; name another file")
    (length,) = _LENGTH.unpack(start[len(MAGIC) :])
    document = file.read(length) if length <= HEADER_BYTES else b""
    if len(document) < length or not document:
        raise damaged(name)
    try:
        number = json.loads(document).get("format")
    except (ValueError, AttributeError, RecursionError):
        raise damaged(name) from None
    if isinstance(number, int) and number > 1:
        raise BackupRefused(
            f"{name} has format {number}, this version knows 1; use the Tieline that made it"
        )
    try:
        return Header.model_validate_json(document), start + document
    except ValidationError:
        raise damaged(name) from None


class Reader(io.RawIOBase):
    """Decrypts a backup front to back; nothing is returned that did not prove itself."""

    def __init__(self, file: IO[bytes], name: str, passphrase: bytes) -> None:
        """``name`` stands in errors. Raises BackupRefused."""
        self.header, head = read_header(file, name)
        self._file, self._name = file, name
        keys = _derive(passphrase, self.header.scrypt)
        self._tag = file.read(hashlib.sha256().digest_size)
        if not hmac.compare_digest(hmac.digest(keys.header, head, hashlib.sha256), self._tag):
            raise BackupRefused(
                f"the passphrase does not open {name} (or the file is damaged at its start); "
                "try the passphrase that was used on the day it was made"
            )
        self._chunks = self._open_all(AESGCM(keys.stream))
        self._plain = memoryview(b"")
        self.done = 0
        """Bytes decrypted so far."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill ``buffer`` with the next bytes; 0 at the end. Raises BackupRefused."""
        target = memoryview(buffer).cast("B")
        while not self._plain:
            following = next(self._chunks, None)
            if following is None:
                return 0
            self._plain = memoryview(following)
            self.done += len(following)
        count = min(len(target), len(self._plain))
        target[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count

    def drain(self) -> None:
        """Read to the end, so that a file that was cut short cannot pass. Raises BackupRefused."""
        self._plain = memoryview(b"")
        for chunk in self._chunks:
            self.done += len(chunk)

    def _open_all(self, cipher: AESGCM) -> Iterator[bytes]:
        size = CHUNK_BYTES + TAG_BYTES
        sealed = self._file.read(size)
        number = 0
        while True:
            following = self._file.read(size) if len(sealed) == size else b""
            try:
                plain = cipher.decrypt(_nonce(number, last=not following), sealed, self._tag)
            except InvalidTag:
                raise damaged(self._name) from None
            yield plain
            if not following:
                return
            sealed, number = following, number + 1


def damaged(name: str) -> BackupRefused:
    """Return the error for a file that is not as it was written."""
    return BackupRefused(
        f"{name} is damaged or cut short: it is not as it was written; use another copy or backup"
    )
