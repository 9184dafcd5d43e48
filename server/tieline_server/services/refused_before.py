"""What the end of an answer says where a person at the peer refused more, and still does.

The peer makes no new request while its refusal holds, and its answer keeps silent about that. The
refusal was told to this agency: its own copy of the request says when, why, and until when.
"""

from __future__ import annotations

from tieline.v1 import operator_pb2

from tieline_server.domain.policy import Disclosure
from tieline_server.services.context import Node

_LEVELS = {level.label: level for level in Disclosure}


def say_refused(
    node: Node, end: operator_pb2.PeerEnd, purpose: str, case_ref: str, wish: Disclosure
) -> None:
    """Say it in ``end``, where hits were answered below ``wish`` and nothing waits for a person."""
    if end.request or _LEVELS.get(end.disclosure, Disclosure.NOTHING) >= wish:
        return
    now = node.clock()
    known = node.store.read(lambda tx: tx.requests.refusal(end.agency, purpose, case_ref, now))
    if known is None:
        return
    on = f" on {known.decided:%Y-%m-%d}" if known.decided else ""
    why = f" ({known.reason[:200]})" if known.reason else ""
    said = (
        f"more was refused by a person there{on}{why}: until {known.expires:%Y-%m-%d} no new "
        f"request is made for this purpose and case; see tieline requests show {known.id}"
    )
    end.reason = f"{end.reason}; {said}" if end.reason else said
