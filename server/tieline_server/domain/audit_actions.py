"""Which words an audit entry may have as its action: so that a search for another can say so.

A test holds this list against the code and against what the nodes of the tests log.
"""

from __future__ import annotations

from enum import Enum

from tieline_client.payload_kinds import SINCE

from tieline_server.domain.alarm import AlarmKind
from tieline_server.domain.broadcast import AnswerKind
from tieline_server.domain.clue import TipState
from tieline_server.domain.messages import OutState
from tieline_server.domain.referral import ReferralState
from tieline_server.domain.relaying import RelayEvent
from tieline_server.domain.request import RequestState
from tieline_server.domain.retraction import PurgeCause
from tieline_server.domain.same_as import LinkState
from tieline_server.domain.standing import Trouble
from tieline_server.domain.upload import UploadState
from tieline_server.domain.watch import WatchState


def _words(*states: type[Enum]) -> str:
    return " ".join(str(one.value) for each in states for one in each)


_TROUBLES = [one.value.lower() for one in Trouble if one.value]

_BY_KIND = {
    "alarm": f"{_words(AlarmKind)} acknowledged equivocation log_restored reused_id void "
    + " ".join(f"{one} told_{one}" for one in _TROUBLES),
    "audit": "erased evidence held holds list_read proof read receipt released searched witnesses",
    "broadcast": f"{_words(AnswerKind)} acknowledge sent",
    "broadcasts": "listed",
    "budget": "set",
    "clock": "listed reported",
    "clue": "added published taken_back",
    "clues": "exported read",
    "deposit": "not-reported reported",
    "directory": "changed statement",
    "export": "begun broken done",
    "import": "empty removed repeated",
    "imports": "listed",
    "inbox": "listed read",
    "leaf": "renewed",
    "message": f"{_words(OutState)} given-back renewed",
    "messages": "replayed",
    "node": "backup restored resynchronised started stopped",
    "operation": "assigned created evaluated read reported series_added",
    "operations": "listed",
    "operator": "added renewed revoked",
    "operator_ca": "next",
    "outbox": "listed",
    "permission": f"{_words(RequestState)} asked",
    "query": "answered asked disclosed pattern result",
    "referral": f"{_words(ReferralState)} sent",
    "request": "approved ended read refused",
    "requests": "listed",
    "retraction": "confirmed",
    "same_as": f"{_words(LinkState)} proposed read",
    "series": "assessed created listed merged narrowed noted read split status withdrawn",
    "standing": "accepted asked_again recovered renewed",
    "tip": f"{_words(TipState)} relayed",
    "tips": "added read",
    "upload": f"{_words(UploadState)} answer-read dropped sent",
    "uploads": "listed",
    "vital-interests": "confirmed refused stated",
    "watch": f"{_words(WatchState)} added consulted matched struck told",
}

ACTIONS = frozenset(
    {
        "import",
        "refusal",
        *RelayEvent,
        *(f"{kind}.received" for kind in SINCE),
        *(f"{cause.value}.erased" for cause in PurgeCause),
        *(f"{kind}.{word}" for kind, words in _BY_KIND.items() for word in words.split()),
    }
)
"""All of them."""

KINDS = frozenset(action.partition(".")[0] for action in ACTIONS)
"""Their first parts, which stand for all of a kind."""
