"""A packed list held against what its header announces of it, batch by batch as it comes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidDigest, InvalidInput, MalformedMessage


class ListCheck:
    """Kinds in order, digests ascending across batches, counts and SHA-256 as announced.

    That a batch is whole digests in strictly ascending order was seen when its message came in
    (constraints.py); here only its ends are compared.
    """

    def __init__(self, counts: Sequence[int], digest: bytes) -> None:
        """``counts`` are digests by kind in the order of DigestKind; what is missing is 0.
        Without a ``digest`` it is set later, before `finish`."""
        kinds = list(DigestKind)
        if len(counts) > len(kinds):
            raise MalformedMessage(f"a list has {len(kinds)} kinds of digest")
        self.counts = dict(zip(kinds, [*counts, *[0] * len(kinds)], strict=False))
        self.digest = digest
        self._came = dict.fromkeys(kinds, 0)
        self._total: hashlib._Hash | None = hashlib.sha256()
        self._kind: DigestKind | None = None
        self._last = b""

    def take(self, batch: DigestBatch) -> int:
        """Return how many of the batch's kind came before.

        Raises MalformedMessage, InvalidDigest, or InvalidInput when more came than announced.
        """
        kind = batch.kind
        if self._kind is not None and kind < self._kind:
            raise MalformedMessage("the kinds of digest come in order")
        if kind == self._kind and len(batch) and batch.first <= self._last:
            raise InvalidDigest(f"{kind.label} digests are not strictly ascending across batches")
        before = self._came[kind]
        self._came[kind] = before + len(batch)
        if self._came[kind] > self.counts[kind]:
            raise InvalidInput("more digests came than the header announces; nobody was asked")
        if len(batch):
            self._kind, self._last = kind, batch.last
            if self._total is not None:
                self._total.update(batch.digests)
        return before

    def hash_later(self) -> None:
        """Leave SHA-256 to `check_digest`; before anything is taken."""
        self._total = None

    def finish(self) -> None:
        """Raise InvalidInput unless all of the list came."""
        if self._came != self.counts:
            raise _not_announced()
        if self._total is not None and self._total.digest() != self.digest:
            raise _not_announced()

    def check_digest(self, batches: Iterable[DigestBatch]) -> None:
        """Raise InvalidInput unless this is the announced list, all of which came."""
        total = hashlib.sha256()
        for batch in batches:
            total.update(batch.digests)
        if total.digest() != self.digest:
            raise _not_announced()


def _not_announced() -> InvalidInput:
    return InvalidInput("the digests are not those that the header announces; ask again")
