"""Withdrawing a series and narrowing it: at its owner, and at whoever told it on.

1. The owner's officer says so. One transaction: the series' own state, what is queued of it for
   those who may not have it taken back, a signed Retraction to everybody whom it was told to, the
   audit entry. Then it is written to the ledger (tombstones.py), and only then the officer hears of
   it. The owner's answers to questions follow with the next hit.
2. Whoever gets it does the same with what it told others, the owner's envelope inside
   (incoming_retractions.py), and erases its own copy (purging.py).
3. Receipts come back the way the retraction went. A retraction goes before everything else, so that
   it is there before what it is about where that is still on its way.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from typing import Any

from tieline.v1 import envelope_pb2, operator_pb2, payload_pb2
from tieline_client.errors import InvalidInput, WrongState
from tieline_client.handling import Handling, HandlingCode, Tlp, stricter
from tieline_client.identifiers import check_agency, check_id, new_id, series_owner
from tieline_client.payloads import moment, timestamp

from tieline_server.domain.broadcast import BroadcastRecipientState
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction, ReferralState, ReferralStep, Urgency
from tieline_server.domain.retraction import (
    Retraction,
    RetractionKind,
    check_narrowing,
    told,
)
from tieline_server.domain.same_as import LinkState, Word
from tieline_server.domain.series import Series, SeriesStatus
from tieline_server.domain.upload import UploadState, UploadStep
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.legal_basis import RECTIFIED, legal_basis
from tieline_server.services.linking import link_along
from tieline_server.services.notices import handling_in, handling_out
from tieline_server.services.restricting import restriction_of
from tieline_server.services.sending import send
from tieline_server.services.split_telling import split_along
from tieline_server.services.taking_back import end_requests
from tieline_server.services.tombstones import write_down
from tieline_server.services.views import find_series, series_view

LANE = Urgency.IMMEDIATE
"""Before everything else: what is taken back should not arrive first."""


class Retracting:
    """The owner's side."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def retract(
        self, person: Person, request: operator_pb2.RetractSeriesRequest
    ) -> operator_pb2.SeriesView:
        """Withdraw an own series, or narrow it.

        Raises NotFound, InvalidInput for somebody else's series or for what loosens anything,
        WrongState for a series that is withdrawn already.
        """
        node = self._node
        try:
            kind = RetractionKind(request.kind)
        except ValueError:
            raise InvalidInput("a series is withdrawn or narrowed") from None
        reason = clean(request.reason)
        if kind is RetractionKind.WITHDRAW and not reason:
            raise InvalidInput("withdrawing needs a reason; say --reason TEXT")
        only = frozenset(check_agency(agency) for agency in request.only)
        for agency in only:
            node.directory().member(agency)

        def work(tx: Tx) -> tuple[operator_pb2.SeriesView, frozenset[str], list[Retraction]]:
            series = self._own(tx, request.series)
            retraction = Retraction(
                id=new_id(),
                series=series.id,
                kind=kind,
                at=node.clock(),
                person=person.name,
                reason=reason,
                handling=_wanted(series.handling, request)
                if kind is RetractionKind.NARROW
                else None,
                limited=kind is RetractionKind.NARROW and request.limited,
                only=only,
            )
            before = restriction_of(tx, series.id)
            check_narrowing(series.handling, before, retraction, node.clock().date())
            parts = tx.aliases.family(series.id)[1:]  # told under their own ids, and so taken back
            said = [retraction, *(replace(retraction, id=new_id(), series=one) for one in parts)]
            agencies: frozenset[str] = frozenset()
            for one in said:
                tx.retractions.add(one)
                agencies |= carry_out(node, tx, one)
            basis: Any = legal_basis(node, sorted(agencies), otherwise=RECTIFIED)
            tx.audit.append(
                node.entry(
                    f"series.{_PAST[kind]}",
                    person=person.name,
                    case_ref=series.case_ref,
                    subjects=(series.id, retraction.id),
                    reason=reason,
                    told=sorted(agencies),
                    only=sorted(only) if retraction.limited else None,
                    **basis,
                )
            )
            return series_view(tx, tx.series.get(series.id) or series), agencies, said

        view, agencies, said = node.store.write(work)
        write_down(node.ledger, node.agency, said, node.clock())
        for agency in agencies:
            node.wake(agency)
        return view

    def _own(self, tx: Tx, name: str) -> Series:
        series = find_series(tx, name)
        if series.owner != self._node.agency:
            raise InvalidInput(f"the series is {series.owner}'s; only its owner takes it back")
        if series.status is SeriesStatus.WITHDRAWN:
            raise WrongState("the series is withdrawn already")
        return series


_PAST = {RetractionKind.WITHDRAW: "withdrawn", RetractionKind.NARROW: "narrowed"}


def _wanted(before: Handling, request: operator_pb2.RetractSeriesRequest) -> Handling | None:
    """Return what the request asks for, None where it says nothing of handling."""
    try:
        code = HandlingCode(request.code) if request.HasField("code") else before.code
        tlp = Tlp(request.tlp) if request.tlp else before.tlp
        until = (
            date.fromisoformat(request.retain_until)
            if request.retain_until
            else before.retain_until
        )
    except ValueError:
        raise InvalidInput("handling holds an unknown code, TLP or date; see --help") from None
    words = clean(request.restriction) or before.restriction
    wanted = replace(before, code=code, tlp=tlp, retain_until=until, restriction=words)
    return None if wanted == before else wanted


def carry_out(node: Node, tx: Tx, retraction: Retraction) -> frozenset[str]:
    """Do what a retraction means for what this node told others, and for its own series.

    Returns whom it tells of it. Erasing this node's own copy is not done here.
    """
    agencies = agencies_told(node, tx, retraction.series)
    excluded = {agency for agency in agencies if retraction.excludes(agency)}
    if excluded:
        everybody = retraction.kind is RetractionKind.WITHDRAW
        tx.erasure.cancel(retraction.series, None if everybody else excluded)
    _mark(node, tx, retraction)
    woken = end_requests(node, tx, retraction)
    _restrict(tx, retraction)
    for agency in sorted(agencies):
        tell(node, tx, retraction, agency)
    return agencies | woken


def tell(node: Node, tx: Tx, retraction: Retraction, agency: str) -> None:
    """Queue a retraction for an agency; the owner's own, or what came with its envelope."""
    body = payload_pb2.Retraction(id=retraction.id, series=retraction.series)
    if retraction.envelope:
        body.original.CopyFrom(envelope_pb2.Envelope.FromString(retraction.envelope))
    else:
        body.kind, body.reason = retraction.kind.value, retraction.reason
        body.limited = retraction.limited
        body.only.extend(sorted(retraction.only))
        body.retract_time.CopyFrom(timestamp(retraction.at))
        if retraction.handling is not None:
            body.handling.CopyFrom(handling_out(retraction.handling))
    payload = payload_pb2.Payload(person=retraction.person, retraction=body)
    # Who has not read yet that items are of this series holds them under another id: it would say
    # that nothing is left. So this waits behind that word, by the subject of both.
    waits = tx.splits.waits(retraction.series, agency)
    subject = retraction.series if waits else retraction.id
    message = send(node, tx, payload, recipient=agency, lane=LANE, subject=subject)
    tx.retractions.tell(retraction, agency, message=message.id)


def read(payload: payload_pb2.Payload, at: datetime) -> Retraction:
    """Return what an owner's payload says; raise InvalidInput when a part does not hold."""
    body = payload.retraction
    try:
        kind = RetractionKind(body.kind)
    except ValueError:
        raise InvalidInput(f"{body.kind[:32]!r} is nothing that an owner does") from None
    narrow = kind is RetractionKind.NARROW
    return Retraction(
        id=check_id(body.id, "retraction"),
        series=body.series,
        kind=kind,
        at=at,
        person=payload.person,
        reason=clean(body.reason),
        handling=handling_in(body.handling) if narrow and body.HasField("handling") else None,
        limited=narrow and body.limited,
        only=frozenset(check_agency(agency) for agency in body.only),
    )


def said_again(tx: Tx, payload: payload_pb2.Payload, recipient: str, message: str) -> None:
    """Take effect once more of a retraction that this node signed before it was restored."""
    retraction = read(payload, moment(payload.retraction.retract_time))
    tx.retractions.put(retraction)
    tx.retractions.tell(retraction, recipient, message=message)
    _restrict(tx, retraction)


def _restrict(tx: Tx, retraction: Retraction) -> None:
    """Restrict the series here, so that no answer to come, nor one under way, tells more."""
    series = tx.series.get(retraction.series)
    if series is not None:
        if retraction.kind is RetractionKind.WITHDRAW:
            tx.series.set_status(series.id, SeriesStatus.WITHDRAWN)
        elif retraction.handling is not None:
            tx.series.set_handling(series.id, stricter(series.handling, retraction.handling))
    tx.items.restricted()


def accompany(node: Node, tx: Tx, series: str, *agencies: str) -> None:
    """Tell those who are told a series now what it was narrowed to before, and is part of."""
    link_along(node, tx, series, *agencies)
    for made in split_along(node, tx, series, *agencies):
        accompany(node, tx, made, *agencies)
    for retraction in tx.retractions.of_series(series):
        known = {one.agency for one in tx.retractions.recipients(retraction)}
        for agency in agencies:
            if agency not in known:
                tell(node, tx, retraction, agency)


def catch_up(node: Node) -> int:
    """Tell retractions to whoever was told a series and not of them; return how many messages.

    So it is after a restore: what was sent since the backup comes back from the peers that hold it.
    """

    def work(tx: Tx) -> set[str]:
        woken = set()
        for retraction in tx.retractions.standing():
            if not retraction.envelope and series_owner(retraction.series) != node.agency:
                continue  # out of the ledger: the owner's word itself comes again
            known = {one.agency for one in tx.retractions.recipients(retraction)}
            for agency in sorted(agencies_told(node, tx, retraction.series) - known):
                tell(node, tx, retraction, agency)
                woken.add(agency)
        return woken

    woken = node.store.write(work)
    for agency in woken:
        node.wake(agency)
    return len(woken)


def agencies_told(node: Node, tx: Tx, series: str) -> frozenset[str]:
    """Return to whom this node told a series, and whom a retraction of it reaches."""
    broadcasts = [
        (one, tuple(tx.broadcasts.recipients(one.id)))
        for one in tx.broadcasts.find(Direction.OUT, series)
    ]
    return told(
        series_owner(series),
        node.agency,
        tx.referrals.find(Direction.OUT, series),
        broadcasts,
        tx.uploads.find(Direction.OUT, series),
        (
            *tx.requests.released_to(series),
            *tx.broadcasts.claimed_to(series),
            *tx.splits.told(series),
        ),
    ) | tx.same_as.told(series)


def _mark(node: Node, tx: Tx, retraction: Retraction) -> None:
    """Referrals, broadcasts and deposits of those who may not keep the series are withdrawn."""
    series, now = retraction.series, node.clock()
    for referral in tx.referrals.find(series=series):
        if not retraction.excludes(referral.recipient):
            continue
        if referral.state is not ReferralState.WITHDRAWN:
            tx.referrals.add_step(
                ReferralStep(
                    id=new_id(),
                    referral=referral.id,
                    state=ReferralState.WITHDRAWN,
                    agency=series_owner(series),
                    person=retraction.person,
                    at=now,
                )
            )
    for link in tx.same_as.of(series):
        word = Word(LinkState.WITHDRAWN, now, retraction.person)
        if link.own == series and retraction.excludes(link.peer):
            tx.same_as.say(link.id, word, link.purpose, link.case_ref)
        elif link.other == series and retraction.excludes(node.agency):
            tx.same_as.heard(replace(link, theirs=word))
    for upload in tx.uploads.find(series=series):
        if retraction.excludes(upload.repository) and upload.state is not UploadState.WITHDRAWN:
            tx.uploads.add_step(
                UploadStep(
                    id=new_id(),
                    upload=upload.id,
                    state=UploadState.WITHDRAWN,
                    agency=upload.sender,
                    person=retraction.person,
                    at=now,
                )
            )
    for broadcast in tx.broadcasts.find(series=series):
        sent = broadcast.direction is Direction.OUT
        reached = tx.broadcasts.recipients(broadcast.id) if sent else (node.agency,)
        for agency in reached:
            if retraction.excludes(agency):
                tx.broadcasts.set_recipient(broadcast.id, agency, BroadcastRecipientState.WITHDRAWN)
