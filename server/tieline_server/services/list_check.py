"""A packed list held against what its header announces of it, batch by batch as it comes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tieline.v1 import digests_pb2
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidDigest, InvalidInput, MalformedMessage


class ListCheck:
    """Kinds in order, digests ascending across batches, counts and SHA-256 as announced.

    That a batch is whole digests in strictly ascending order was seen when its message came in
    (constraints.py); here only its ends are compared.
    """

    def __init__(self, counts: Sequence[int], digest: bytes) -> None:
        """``counts`` are digests by kind in the order of DigestKind; what is missing is 0."""
        kinds = list(DigestKind)
        if len(counts) > len(kinds):
            raise MalformedMessage(f"a list has {len(kinds)} kinds of digest")
        self.counts = dict(zip(kinds, [*counts, *[0] * len(kinds)], strict=False))
        self._digest = digest
        self._came = dict.fromkeys(kinds, 0)
        self._total = hashlib.sha256()
        self._kind: DigestKind | None = None
        self._last = b""

    def take(self, batch: digests_pb2.DigestList) -> tuple[DigestKind, bytes, int]:
        """Return the kind, the packed digests, and how many of the kind came before.

        Raises MalformedMessage, InvalidDigest, or InvalidInput when more came than announced.
        """
        packed = batch.digests
        try:
            kind = DigestKind(batch.kind)
        except ValueError:
            raise MalformedMessage("a batch names no kind of digest") from None
        if self._kind is not None and kind < self._kind:
            raise MalformedMessage("the kinds of digest come in order")
        if kind == self._kind and packed and packed[: kind.width] <= self._last:
            raise InvalidDigest(f"{kind.label} digests are not strictly ascending across batches")
        before = self._came[kind]
        self._came[kind] = before + len(packed) // kind.width
        if self._came[kind] > self.counts[kind]:
            raise InvalidInput("more digests came than the header announces; nobody was asked")
        if packed:
            self._kind, self._last = kind, packed[-kind.width :]
            self._total.update(packed)
        return kind, packed, before

    def finish(self) -> None:
        """Raise InvalidInput unless all of the list came."""
        if self._came != self.counts or self._total.digest() != self._digest:
            raise InvalidInput("the digests are not those that the header announces; ask again")
