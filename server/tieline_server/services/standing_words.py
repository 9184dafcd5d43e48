"""Standings between the wire, the domain and a person's words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tieline.v1 import delivery_pb2
from tieline_client.errors import InvalidInput

from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Urgency
from tieline_server.domain.standing import Known, LaneWord, Ranges, Trouble, Word
from tieline_server.services import left_behind

LANES = tuple(int(one) for one in Urgency)
_SEQUENCE_MOST = 2**62
_RESYNC = (
    "find out which home is to live, stop every other copy, and run `tieline node resync HOME` on"
    " that one"
)
_TOLD_ADVICE = {
    Trouble.LEFT_BEHIND.value: (
        "another copy was declared the living one: stop this one for good; if that was wrong, stop"
        " every other copy, and run `tieline node resync HOME` on this one"
    )
}
_QUARANTINE_ADVICE = (
    "call its duty contact, whose operator runs `tieline node resync` on the home that is to live;"
    " where nothing was lost there, end it here by `tieline node resync HOME --accept AGENCY"
    " --reason TEXT`"
)
_COPY_ADVICE = (
    "call its duty contact, whose operator ends that copy, or runs `tieline node resync` on it"
    " where that one is to live; if they know of none, have its certificate revoked"
)


def standing_out(word: Word) -> delivery_pb2.Standing:
    """Return the wire form of what this node says of itself."""
    standing = delivery_pb2.Standing(epoch=word.epoch, start=word.start, life=word.life)
    for lane in LANES:
        one = word.lanes.get(lane, LaneWord())
        standing.lanes.add(
            lane=lane,
            sent=one.sent,
            applied=one.applied,
            highest=one.highest,
            gaps=[number for pair in one.gaps for number in pair],
            voids=[number for pair in one.voids for number in pair],
        )
    return standing


def word_in(standing: delivery_pb2.Standing) -> Word:
    """Return the domain form of a standing; raise InvalidInput for numbers out of range."""
    lanes = {}
    for one in standing.lanes:
        if one.lane not in LANES or one.lane in lanes:
            raise InvalidInput("a standing names lanes 1 to 3, each once")
        if max(one.sent, one.applied, one.highest, *one.gaps, *one.voids, 0) > _SEQUENCE_MOST:
            raise InvalidInput("a standing holds a sequence out of range")
        lanes[one.lane] = LaneWord(
            one.sent, one.applied, one.highest, pairs(one.gaps), pairs(one.voids)
        )
    if standing.start > _SEQUENCE_MOST:
        raise InvalidInput("a standing holds a start out of range")
    return Word(standing.epoch, standing.start, standing.life, lanes)


def pairs(numbers: Iterable[int]) -> Ranges:
    """Return ranges that travel as first and last of each, one after the other."""
    flat = list(numbers)
    return tuple(zip(flat[::2], flat[1::2], strict=False))


def check_sequence(sequence: int) -> int:
    """Return a sequence; raise InvalidInput for one out of range."""
    if not 0 < sequence <= _SEQUENCE_MOST:
        raise InvalidInput("the sequence is out of range; it counts from 1")
    return sequence


@dataclass(frozen=True, slots=True)
class Held:
    """What stands between this node and a peer, in a person's words, and what to do.

    ``blocks``: nothing is exchanged with that peer, or it takes nothing from this node.
    """

    peer: str
    text: str
    advice: str
    blocks: bool = True

    @property
    def line(self) -> str:
        """Both, as a warning of `node status`."""
        return f"{self.text}: {self.advice}"[:500]


def held(tx: Tx, now: datetime) -> list[Held]:
    """What is held between this node and its peers, by peer; then copies that were left behind."""
    found = []
    for peer, known in tx.standings.peers().items():
        if known.trouble is not Trouble.NONE:
            found.append(Held(peer, f"{peer}: {_quarantine(known)}", _QUARANTINE_ADVICE))
        if known.told:
            text = (
                f"{peer} says {known.told.replace('_', ' ')} of this node since"
                f" {_at(known.told_since)} and takes nothing from it"
            )
            found.append(Held(peer, text, _TOLD_ADVICE.get(known.told, _RESYNC)))
    for copy in left_behind.copies(tx, now):
        text = (
            f"{copy.peer}: a copy of it that its agency has given up (LEFT BEHIND) is refused"
            f" since {_at(copy.first)}, last at {_at(copy.last)}"
        )
        found.append(Held(copy.peer, text, _COPY_ADVICE, blocks=False))
    return found


def troubles(tx: Tx, now: datetime) -> list[str]:
    """What the node's people have to know of standings, a line for each."""
    return [one.line for one in held(tx, now)]


def trouble_of(known: Known) -> str:
    """What is held against a peer, since when, and what to do."""
    return f"{_quarantine(known)}: {_QUARANTINE_ADVICE}"


def _quarantine(known: Known) -> str:
    return (
        f"quarantined since {_at(known.since)} as {known.trouble.replace('_', ' ')}"
        f" ({known.reason}): nothing is exchanged"
    )


def _at(time: datetime | None) -> str:
    return "-" if time is None else f"{time:%Y-%m-%dT%H:%M:%SZ}"
