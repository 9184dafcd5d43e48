"""Notices: alarms in the inbox about what others did, and no referral of this agency.

A person who has seen one ends it. What reminds of a referral ends with a step of it, and what warns
of a peer's questions is for an auditor: it is shown for its time, whoever else has seen it.
"""

from __future__ import annotations

from tieline.v1 import operator_pb2
from tieline_client.errors import WrongState

from tieline_server.domain.alarm import ABOUT_QUESTIONS, ENDED_BY_HAND, Alarm
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction
from tieline_server.services.alarms import alarm_view
from tieline_server.services.context import Node, Person


def notice_entry(tx: Tx, reference: str) -> operator_pb2.InboxEntry | None:
    """Return the open alarms about a reference as an entry of the inbox; None where none is."""
    found = tx.alarms.about(reference)
    return _entry(reference, found) if found else None


def acknowledge(node: Node, person: Person, reference: str) -> operator_pb2.InboxEntry | None:
    """End the notices about a reference; None where it is no notice's but an entry's own.

    Raises WrongState for alarms that nobody ends by hand.
    """

    def work(tx: Tx) -> operator_pb2.InboxEntry | None:
        found = tx.alarms.about(reference)
        seen = [one for one in found if one.kind in ENDED_BY_HAND]
        if not seen:
            _check_other(tx, reference, found)
            return None
        tx.alarms.end(reference, node.clock(), ENDED_BY_HAND)
        first = seen[0]
        tx.audit.append(
            node.entry(
                "alarm.acknowledged",
                person=person.name,
                peer=first.sender if first.sender != node.agency else first.recipient,
                subjects=(reference, *(one.series for one in seen if one.series)),
                kinds=sorted({one.kind.value for one in seen}),
            )
        )
        return _entry(reference, seen)

    return node.store.write(work)


def _check_other(tx: Tx, reference: str, found: list[Alarm]) -> None:
    referral = tx.referrals.get(reference)
    if not found or (referral is not None and referral.direction is Direction.IN):
        return
    if found[0].kind in ABOUT_QUESTIONS:
        raise WrongState(
            f"an alarm {found[0].kind.value!r} is for an auditor (`tieline audit alarms`); "
            "it is shown for a week and ended by nobody"
        )
    raise WrongState(
        f"it ends once a person of {found[0].recipient} says a word; call its duty contact, "
        "and see `tieline clock`"
    )


def _entry(reference: str, found: list[Alarm]) -> operator_pb2.InboxEntry:
    return operator_pb2.InboxEntry(
        id=reference, kind="notice", alarms=[alarm_view(one) for one in found]
    )
