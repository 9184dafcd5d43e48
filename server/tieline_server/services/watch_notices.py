"""What follows from a match of a standing query: the notice here, and the word to the holder.

Both are part of the transaction that settles the answer (watch_runs.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tieline.v1 import envelope_pb2, payload_pb2
from tieline_client import limits
from tieline_client.errors import TielineError
from tieline_client.identifiers import new_id, series_owner
from tieline_client.overlap_answers import PeerAnswer

from tieline_server.domain.alarm import Alarm, AlarmKind
from tieline_server.domain.budget import day_of
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Urgency
from tieline_server.domain.watch import Notice, SharedWith, Watch, percent
from tieline_server.services.context import Node, clean
from tieline_server.services.legal_basis import legal_basis
from tieline_server.services.peer_question import PeerResult
from tieline_server.services.sending import send


def keep_notice(
    node: Node,
    tx: Tx,
    watch: Watch,
    peer: str,
    counts: tuple[int, int],
    answer: PeerAnswer,
    receipt: payload_pb2.Receipt,
) -> None:
    """Keep that more matched, and tell the peer where policy allows."""
    now = node.clock()
    fresh, matched = counts
    notice = Notice(
        id=new_id(),
        watch=watch.id,
        peer=peer,
        at=now,
        fresh=fresh,
        matched=matched,
        records=watch.records,
        receipt=answer.receipt,
        told=node.may_ask(node.agency, peer, watch.purpose).allowed,
        series=tuple(_series(answer))[: limits.WATCH_SERIES_NAMED],
    )
    tx.watches.add_notice(notice)
    tx.alarms.set(
        Alarm(
            id=f"{watch.id}/{peer}/{day_of(now)}/{AlarmKind.WATCH_MATCH.value}",
            kind=AlarmKind.WATCH_MATCH,
            referral=watch.id,
            series="",
            sender=peer,
            recipient=node.agency,
            due=now,
        )
    )
    basis: Any = legal_basis(node, [peer]) if notice.told else {}
    tx.audit.append(
        node.entry(
            "watch.matched",
            person=watch.person,
            peer=peer,
            purpose=watch.purpose,
            case_ref=watch.case_ref,
            subjects=(watch.id, notice.id, *((answer.receipt,) if answer.receipt else ())),
            fresh=fresh,
            matched=matched,
            records=watch.records,
            percent=percent(matched, watch.records),
            told=notice.told,
            **basis,
        )
    )
    if notice.told:
        _tell(node, tx, watch, notice, receipt.request)


def _tell(node: Node, tx: Tx, watch: Watch, notice: Notice, request: str) -> None:
    """Tell the holder that what it answered for is watched here."""
    contact = node.defaults.contact
    caller = watch.caller
    own = bool(caller.name or caller.email or caller.phone)
    payload = payload_pb2.Payload(
        person=watch.person,
        purpose=watch.purpose,
        case_ref=watch.case_ref,
        watch_notice=payload_pb2.WatchNotice(
            id=notice.id,
            watch=watch.id,
            request=request,
            records=notice.records,
            matched=notice.matched,
            priority=watch.priority,
            reference=watch.reference,
            contact_name=caller.name if own else contact.name,
            contact_email=caller.email if own else contact.email,
            contact_phone=caller.phone if own else contact.phone,
        ),
    )
    send(
        *(node, tx, payload),
        recipient=notice.peer,
        lane=Urgency.ROUTINE,
        subject=watch.id,
    )


def checked_receipt(result: PeerResult | None) -> payload_pb2.Receipt:
    """Return a receipt that was checked."""
    data = result.receipt if result is not None else b""
    envelope = envelope_pb2.Envelope.FromString(data)
    return payload_pb2.Payload.FromString(envelope.payload).receipt


def receipt_at(result: PeerResult | None) -> tuple[str, int] | None:
    """Return the epoch and generation that a checked receipt names; no epoch before v1.4."""
    if result is None:
        return None
    receipt = checked_receipt(result)
    return receipt.epoch, min(receipt.generation, 2**62)


def _series(answer: PeerAnswer) -> Iterator[SharedWith]:
    """Yield the series of matches that are well named, each once."""
    seen: set[str] = set()
    for one in answer.series.values():
        try:
            series_owner(one.id)
        except TielineError:
            continue
        if one.id not in seen:
            seen.add(one.id)
            yield SharedWith(
                *(one.id, clean(one.status), tuple(clean(each) for each in one.references)),
                *(clean(one.contact_name), clean(one.contact_email), clean(one.contact_phone)),
            )
