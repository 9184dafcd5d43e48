"""One batch of packed digests, as the bytes that travel.

AskOverlapRequest and OverlapRequest hold a DigestList under the same field number: what a person's
client sends is passed on to peers byte for byte, and a million digests are looked at where they lie
instead of being parsed, copied out and made into messages again.

`open_batch` takes exactly the bytes that `DigestBatch.of` makes of digests that keep every rule of
constraints.py. All else, be it wrong or only written another way, is for protobuf and that module:
they say what is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tieline.v1 import digests_pb2

from tieline_client import limits
from tieline_client.digests import DigestKind
from tieline_client.errors import MalformedMessage
from tieline_client.packed import U8, is_strictly_ascending

_BATCH_TAG = b"\x12"
"""Field 2, length-delimited: ``batch`` in both requests, and ``digests`` in DigestList."""
_KIND_TAG = b"\x08"
_KINDS = {int(kind): kind for kind in DigestKind}


@dataclass(frozen=True, slots=True, eq=False)
class DigestBatch:
    """Digests of one ``kind``, packed, and the ``message`` that carries them; read-only."""

    kind: DigestKind
    digests: memoryview
    message: bytes

    @classmethod
    def of(cls, kind: DigestKind, packed: bytes | memoryview) -> DigestBatch:
        """Make the message of packed digests, which are copied into it."""
        head = _head(kind, len(packed))
        message = b"".join((head, packed))
        return cls(kind, memoryview(message)[len(head) :], message)

    @classmethod
    def from_wire(cls, batch: digests_pb2.DigestList) -> DigestBatch:
        """Take a batch that came parsed and was checked. Raises MalformedMessage."""
        kind = _KINDS.get(batch.kind)
        if kind is None:
            raise MalformedMessage("a batch names no kind of digest")
        return cls.of(kind, batch.digests)

    def __len__(self) -> int:
        """How many digests."""
        return len(self.digests) // self.kind.width

    @property
    def rows(self) -> U8:
        """The digests as (n, width), not copied."""
        return np.frombuffer(self.digests, dtype=np.uint8).reshape(-1, self.kind.width)

    @property
    def first(self) -> bytes:
        """The least digest, empty when there is none."""
        return bytes(self.digests[: self.kind.width])

    @property
    def last(self) -> bytes:
        """The greatest."""
        return bytes(self.digests[-self.kind.width :])

    def to_wire(self) -> digests_pb2.DigestList:
        """Return it as a message of its own."""
        return digests_pb2.DigestList(kind=int(self.kind), digests=bytes(self.digests))  # type: ignore[arg-type]


def per_batch(kind: DigestKind) -> int:
    """Return how many digests of a kind are sent in one batch."""
    most = limits.NEAR_PER_BATCH if kind is DigestKind.PDQ else limits.DIGESTS_PER_BATCH
    return min(most, limits.DIGESTS_PER_BATCH)


def open_batch(data: bytes) -> DigestBatch | None:
    """Return the batch that a request holds, checked; None for whatever is not exactly one."""
    size, at = _varint(data, 1)
    kind = _KINDS.get(data[at + 1]) if at + size == len(data) and size > _LEAST else None
    if kind is None:
        return None
    length, at = _varint(data, at + 3)
    if data[:at] != _head(kind, length) or at + length != len(data):
        return None
    count, rest = divmod(length, kind.width)
    if rest or not 0 < count <= limits.DIGESTS_PER_BATCH_MAX:
        return None
    batch = DigestBatch(kind, memoryview(data)[at:], data)
    return batch if is_strictly_ascending(batch.rows) else None


_LEAST = 4
"""Bytes of a DigestList with a kind and no digests."""


def _head(kind: DigestKind, length: int) -> bytes:
    """Return what comes before the digests."""
    inner = b"".join((_KIND_TAG, bytes([kind]), _BATCH_TAG, _as_varint(length)))
    return b"".join((_BATCH_TAG, _as_varint(len(inner) + length), inner))


def _as_varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of at most four bytes, and where it ends; 0 where there is none."""
    number = 0
    for place, byte in enumerate(data[at : at + 4]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, at + place + 1
    return 0, at
