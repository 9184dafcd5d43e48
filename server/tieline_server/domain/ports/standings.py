"""What is known of peers' lives and lanes, and what this node says of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tieline_server.domain.messages import InMessage, OutMessage
from tieline_server.domain.standing import Known, Ranges, Word


@dataclass(frozen=True, slots=True)
class Challenge:
    """A word that was asked for again: the id under which, and what was known then.

    Once it came it is no longer ``open``, and nobody is asked for it; who comes with it later still
    proves that it speaks after it was given. Of two that run under one identity the one that is
    sound may be the quicker, and must not hide the other.
    """

    id: str
    asked: Known
    open: bool = True


class StandingRepository(Protocol):
    def begin_life(self) -> None:
        """Register a start of this node: the next start, a new life id."""
        ...

    def begin_epoch(self) -> str:
        """Leave all that was said before behind: a new epoch, and nothing recovered in it."""
        ...

    def epoch(self) -> str: ...
    def renewed(self) -> bool:
        """Whether this node was ever restored or resynchronised."""
        ...

    def generation_at_epoch(self) -> int:
        """The items' generation when the epoch began."""
        ...

    def mine(self, peer: str) -> Word:
        """This node as it stands towards a peer."""
        ...

    def known(self, peer: str) -> Known:
        """What is known of a peer; in a writing transaction it stays as it is until the end."""
        ...

    def peers(self) -> dict[str, Known]:
        """What is known of each peer, without its lanes."""
        ...

    def put(self, peer: str, known: Known) -> None:
        """Store what is known of a peer, its lanes' own word included."""
        ...

    def challenge(self, peer: str) -> Challenge | None: ...
    def put_challenge(self, peer: str, challenge: Challenge | None) -> None: ...
    def settle(self, peer: str, lane: int, first: int, last: int) -> None:
        """Note that sequences of a peer are settled here without a message: they are void."""
        ...

    def came(self, peer: str, places: Iterable[tuple[int, int]]) -> None:
        """Note that messages of a peer, which are in the inbox now, have these places (lane,
        sequence): in the transaction that put them there."""
        ...

    def highest(self, peer: str) -> dict[int, int]:
        """The highest place of each lane of a peer that is settled here: no message that is kept
        has one above it."""
        ...

    def holder(self, peer: str, lane: int, sequence: int) -> str | None:
        """The id of the message of a peer that has this place, if one has."""
        ...

    def of_sender(self, peer: str, lane: int, first: int, limit: int) -> Sequence[InMessage]:
        """Messages of a peer from a sequence on, in order."""
        ...

    def requeue(self, peer: str, lane: int, ranges: Ranges) -> tuple[int, Ranges]:
        """Queue again what was delivered of these sequences and is still there, items included.

        Returns how many, and the ranges that will never come: refused, erased, or of no message.
        """
        ...

    def put_voids(self, peer: str, lane: int, voids: Ranges) -> None:
        """Remember what a peer lacks of a lane and will never get; it is said with `mine`."""
        ...

    def revive(self, peer: str) -> int:
        """Queue what was parked for a peer; return how many."""
        ...

    def raise_sent(self, peer: str, lane: int, at_least: int) -> None:
        """Let the lane's next sequence be above this one."""
        ...

    def put_back(self, message: OutMessage) -> bool:
        """Give a message its old place in the outbox; False when it had it already.

        Whatever holds that place goes to the end of its lane.
        """
        ...

    def first_unsure(self, peer: str, lane: int) -> int:
        """The first sequence of a lane of which nobody told this node what came of it."""
        ...

    def settled_before(self, before: datetime, limit: int) -> list[tuple[str, str]]:
        """(id, recipient) of messages settled before a time whose envelopes are there."""
        ...

    def blank(self, messages: Sequence[tuple[str, str]]) -> None:
        """Erase the envelopes of messages; their rows stay."""
        ...
