"""Digests: their kinds, their text forms, and the packed lists that travel.

A packed list is the concatenation of fixed-width digests of one kind in strictly ascending byte
order. Both properties are checked wherever a list enters a node: a file cut into pieces is neither
typed nor ascending, so it cannot travel disguised as hashes (threats.md 26).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from tieline_client.errors import InvalidDigest
from tieline_client.packed import U8, is_strictly_ascending


class DigestKind(enum.IntEnum):
    """The kinds that are matched. Values are the wire's (digests.proto)."""

    MD5 = 1
    SHA1 = 2
    SHA256 = 3
    PDQ = 4

    @property
    def width(self) -> int:
        """Bytes of one digest."""
        return _WIDTHS[self]

    @property
    def label(self) -> str:
        """Prefix on the command line and in JSON: ``md5``, ``sha1``, ``sha256``, ``pdq``."""
        return self.name.lower()


_WIDTHS = {DigestKind.MD5: 16, DigestKind.SHA1: 20, DigestKind.SHA256: 32, DigestKind.PDQ: 32}
_BY_LABEL = {kind.name.lower(): kind for kind in DigestKind}
_BY_LENGTH = {16: DigestKind.MD5, 20: DigestKind.SHA1, 32: DigestKind.SHA256}

EXACT_KINDS = (DigestKind.MD5, DigestKind.SHA1, DigestKind.SHA256)

# Values that say nothing about content: the empty input (data/empty-file-hashes.json of MISP's
# warning lists) and the constants that tools write for "no hash".
_EMPTY = {
    DigestKind.MD5: "d41d8cd98f00b204e9800998ecf8427e",
    DigestKind.SHA1: "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    DigestKind.SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
}
JUNK: frozenset[tuple[DigestKind, bytes]] = frozenset(
    [(kind, bytes.fromhex(text)) for kind, text in _EMPTY.items()]
    + [(kind, fill * kind.width) for kind in DigestKind for fill in (b"\x00", b"\xff")]
)


def is_junk(kind: DigestKind, digest: bytes) -> bool:
    """Whether a digest is content-free and must never match (formats.md, known junk)."""
    return (kind, digest) in JUNK


_JUNK_ROWS = {
    kind: np.array([list(value) for each, value in sorted(JUNK) if each is kind], dtype=np.uint8)
    for kind in DigestKind
}


def junk_rows(kind: DigestKind, rows: U8) -> npt.NDArray[np.bool_]:
    """Return a mask of the (n, width) rows that are content-free; see `is_junk`."""
    found = np.zeros(len(rows), dtype=bool)
    for junk in _JUNK_ROWS[kind]:
        # Few rows share even the first byte.
        alike = np.flatnonzero(rows[:, 0] == junk[0])
        found[alike] |= (rows[alike] == junk).all(axis=1)
    return found


def parse_hex(kind: DigestKind, text: str) -> bytes:
    """Return the bytes of a hex digest of a known kind, any case; raise InvalidDigest otherwise."""
    try:
        value = bytes.fromhex(text) if len(text) == 2 * kind.width else b""
    except ValueError:
        value = b""
    if len(value) != kind.width:  # fromhex passes over white space
        raise InvalidDigest(
            f"{text[:80]!r} is not a {kind.label} digest: {2 * kind.width} hex digits are needed"
        )
    return value


def parse(text: str, *, bare_64_is_pdq: bool = False) -> tuple[DigestKind, bytes]:
    """Parse ``md5:…``, ``sha1:…``, ``sha256:…``, ``pdq:…`` or bare hex, recognised by length.

    64 bare hex digits are SHA-256 unless ``bare_64_is_pdq``. Raises InvalidDigest.
    """
    label, colon, rest = text.strip().partition(":")
    if colon:
        kind = _BY_LABEL.get(label.lower())
        if kind is None:
            raise InvalidDigest(
                f"unknown digest type {label[:32]!r}; use md5:, sha1:, sha256: or pdq:"
            )
        return kind, parse_hex(kind, rest)
    kind = _BY_LENGTH.get(len(label) // 2) if len(label) % 2 == 0 else None
    if kind is None:
        raise InvalidDigest(
            f"{label[:80]!r} has the length of no digest; 32, 40 or 64 hex digits are needed"
        )
    if kind is DigestKind.SHA256 and bare_64_is_pdq:
        kind = DigestKind.PDQ
    return kind, parse_hex(kind, label)


def format_digest(kind: DigestKind, digest: bytes) -> str:
    """Return ``sha1:<lower-case hex>`` and the like."""
    return f"{kind.label}:{digest.hex()}"


def pack(kind: DigestKind, digests: Iterable[bytes]) -> bytes:
    """Return the packed list of distinct digests, sorted. Raises InvalidDigest on a wrong width."""
    distinct = sorted(set(digests))
    if any(len(digest) != kind.width for digest in distinct):
        raise InvalidDigest(f"a {kind.label} digest has {kind.width} bytes")
    return b"".join(distinct)


def unpack(kind: DigestKind, packed: bytes, *, after: bytes | None = None) -> U8:
    """Check a packed list and return it as a read-only (n, width) uint8 array, without copying.

    ``after`` is the last digest of the batch before: order holds across batches. Raises
    InvalidDigest when the length is no multiple of the width or the order is not strictly
    ascending.
    """
    if len(packed) % kind.width:
        raise InvalidDigest(f"{len(packed)} bytes are no whole number of {kind.label} digests")
    rows = np.frombuffer(packed, dtype=np.uint8).reshape(-1, kind.width)
    if len(rows) and not is_strictly_ascending(rows):
        raise InvalidDigest(f"{kind.label} digests are not strictly ascending")
    if len(rows) and after is not None and after >= packed[: kind.width]:
        raise InvalidDigest(f"{kind.label} digests are not strictly ascending across batches")
    return rows


def rows(kind: DigestKind, packed: bytes) -> Iterator[bytes]:
    """Yield the digests of a packed list one by one."""
    width = kind.width
    for start in range(0, len(packed), width):
        yield packed[start : start + width]
