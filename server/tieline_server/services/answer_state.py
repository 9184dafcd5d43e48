"""An answer under way: what is known of it between its header and its receipt."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

from tieline.v1 import envelope_pb2, exchange_pb2, payload_pb2
from tieline_client.digests import DigestKind

from tieline_server.domain.minhash import U32, Sketcher
from tieline_server.domain.ports import Ids
from tieline_server.services.budgeting import Charge
from tieline_server.services.disclosing import Disclosing
from tieline_server.services.hits import Hits


class Found(NamedTuple):
    """What a batch led to, and its part of the sketch."""

    hits: Hits
    least: U32 | None


@dataclass(slots=True)
class Answer:
    """One answer under way."""

    payload: payload_pb2.Payload
    header: envelope_pb2.Envelope
    rules: tuple[str, ...]
    generation: int
    disclosing: Disclosing
    sketcher: Sketcher | None
    """None for a list too short to be compared (limits.LISTS_SKETCHED)."""
    charge: Charge
    request_digest: bytes
    """SHA-256 of the signed header, which the receipt names and nothing keeps."""
    salt: bytes
    erasures: int
    """How often holdings had been erased before anything was looked up."""
    life: int
    """Of the index (Matching.life)."""
    list_digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    answer_digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    counts: dict[DigestKind, int] = field(default_factory=dict)
    last: tuple[DigestKind, bytes] | None = None
    looked_up: deque[Callable[[], Found]] = field(default_factory=deque)
    """Returns, for each batch in order, what it led to."""
    found: list[Hits] = field(default_factory=list)
    found_count: int = 0
    waiting: list[exchange_pb2.OverlapResponse] = field(default_factory=list)
    waiting_items: list[Ids] = field(default_factory=list)
    releasing: Future[bool] | None = None
    """Makes what waits ready to leave; until it is over, nobody else touches what waits."""
    items: list[Ids] = field(default_factory=list)
    hits: int = 0
    reserved: bool = False
    early: bool = False
    """Whether anything left before the list was whole."""
    came: int = 0
    """Digests that were looked up for it."""
    size: int = 0
    """Bytes of them."""
    kept: bool = False
    """Whether it is recorded whole."""
    known: bool = False
    """Whether the request id stood in storage already, with this header."""
    request: str = ""
    """The request that waits for a person, once it is noted."""

    def logged(self) -> bool:
        """Whether anything that was to leave is in the log, once what is under way is over."""
        if self.releasing is not None:
            self.releasing.exception()
        return self.reserved

    def taken(self) -> list[Hits]:
        """Take what was found so far."""
        found, self.found, self.found_count = self.found, [], 0
        return found

    def announced(self, kind: DigestKind) -> int:
        """Return how many digests of a kind the header says will come."""
        counts = self.payload.query.counts
        return counts[kind - 1] if kind <= len(counts) else 0  # kinds are numbered from 1
