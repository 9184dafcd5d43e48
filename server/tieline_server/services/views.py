"""What the operator port shows: the domain's things as messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from tieline.v1 import operator_clock_pb2, operator_pb2, payload_pb2
from tieline_client import limits
from tieline_client.errors import NotFound
from tieline_client.payloads import timestamp

from tieline_server.domain.broadcast import Broadcast, BroadcastAnswer, slowest
from tieline_server.domain.lead import lead_of
from tieline_server.domain.messages import Destination, OutMessage, OutState
from tieline_server.domain.ports import RetractionRecipient, Tx
from tieline_server.domain.referral import (
    Direction,
    Outcome,
    Referral,
    ReferralState,
    ReferralStep,
    correction,
    is_corrected,
)
from tieline_server.domain.retraction import RecipientState, recipient_state
from tieline_server.domain.series import Origin, Series, SeriesStatus
from tieline_server.domain.upload import Upload
from tieline_server.services.likely import standing_countries
from tieline_server.services.notices import series_out

_SLOWEST_FIRST = (
    *(RecipientState.REFUSED, RecipientState.QUEUED),
    *(RecipientState.DELIVERED, RecipientState.CONFIRMED),
)


def find_series(tx: Tx, name_or_id: str) -> Series:
    """Return a series by its id, or an own one by its name; raise NotFound.

    What became part of another series is found as that.
    """
    series = tx.series.get(name_or_id) or tx.series.by_name(name_or_id)
    if series is None:
        raise NotFound(f"no series {name_or_id[:80]!r} here; see `tieline series list`")
    current = tx.aliases.current(series.id)
    return series if current == series.id else tx.series.get(current) or series


def find_held(tx: Tx, name_or_id: str) -> Series:
    """As `find_series`, but what another agency made part of its series is found as itself: its
    items stay under the id, and the terms, that they came under (ADR 29)."""
    series = tx.series.get(name_or_id)
    if series is not None and series.origin is not Origin.OWN:
        return series
    return find_series(tx, name_or_id)


def series_view(tx: Tx, series: Series) -> operator_pb2.SeriesView:
    """A series with its assessments, as its own people see it."""
    assessments = list(tx.series.assessments(series.id))
    items = tx.items.count_of_series(series.id)
    family = tx.aliases.family(series.id)
    alias = tx.aliases.get(series.id)
    likely = standing_countries(tx, series.id)
    into = {one.made for part in family for one in tx.splits.of(part)}
    splits = [
        one for one in tx.splits.making(series.id) if tx.aliases.current(one.series) != series.id
    ]
    return operator_pb2.SeriesView(
        notice=series_out(series, assessments, items, with_name=True),
        origin=series.origin.value,
        owner=series.owner,
        number=series.number,
        case_ref=series.case_ref,
        likely_countries=likely,
        parts=family[1:],
        part_of=alias.series if alias else "",
        split_from=splits[0].series if splits else "",
        split_into=sorted(into - set(family)),
        untold_countries=_untold(tx, series, family, likely),
        retraction=_retraction_view(tx, family) if series.origin is Origin.OWN else None,
    )


def _untold(tx: Tx, series: Series, family: Iterable[str], likely: Iterable[str]) -> list[str]:
    """The likely countries that are still to be told: a task of the owner, until it withdraws."""
    if series.origin is not Origin.OWN or series.status is SeriesStatus.WITHDRAWN:
        return []
    told = told_countries(tx, family)
    return [one for one in likely if one not in told]


def told_countries(tx: Tx, family: Iterable[str]) -> set[str]:
    """The countries that a series, with its parts, was told to, or told of by other means."""
    return {
        one.country
        for each in family
        for one in tx.referrals.find(series=each)
        if one.direction is not Direction.IN and one.stands
    }


def _outside(tx: Tx, family: Iterable[str]) -> list[operator_clock_pb2.OutsideView]:
    """Whom no message of a retraction reaches: the countries that were told by other means."""
    told = {
        (one.country, step.agency, step.text): step.at
        for part in family
        for one in tx.referrals.find(series=part)
        for step in tx.referrals.steps(one.id)
        if step.state is ReferralState.TOLD_OUTSIDE
    }
    return [
        operator_clock_pb2.OutsideView(
            country=country, agency=agency, reference=reference, tell_time=timestamp(at)
        )
        for (country, agency, reference), at in sorted(told.items())[: limits.OUTSIDE_SHOWN]
    ]


def _retraction_view(tx: Tx, family: Sequence[str]) -> operator_pb2.RetractionView | None:
    """The latest retraction of an own series with everybody who was told, the series or a part of
    it: what takes back the whole takes back each part under its own id."""
    said = [all_of_it[-1] for part in family if (all_of_it := tx.retractions.of_series(part))]
    if not said:
        return None
    latest = max(said, key=lambda one: one.at)
    view = operator_pb2.RetractionView(
        id=latest.id,
        kind=latest.kind.value,
        reason=latest.reason,
        limited=latest.limited,
        only=sorted(latest.only),
        retract_time=timestamp(latest.at),
        outside=_outside(tx, family),
    )
    told: dict[str, list[RetractionRecipient]] = {}
    for one in said:
        for recipient in tx.retractions.recipients(one):
            told.setdefault(recipient.agency, []).append(recipient)
    view.recipients.extend(_recipient_view(each) for _, each in sorted(told.items()))
    return view


def _recipient_view(told: Sequence[RetractionRecipient]) -> operator_pb2.RetractionRecipient:
    """How far one agency is with all that it was told: as far as the slowest."""
    states = [recipient_state(one.sent, confirmed=one.confirmed is not None) for one in told]
    state = min(states, key=_SLOWEST_FIRST.index)
    one = told[states.index(state)]
    shown = operator_pb2.RetractionRecipient(
        agency=one.agency,
        via=one.via,
        state=state.value,
        erased=state is RecipientState.CONFIRMED and any(each.erased for each in told),
        reason="" if one.confirmed else one.reason,
    )
    at = one.confirmed or one.sent_at
    if at is not None:
        shown.state_time.CopyFrom(timestamp(at))
    return shown


def outcome_out(outcome: Outcome) -> payload_pb2.Outcome:
    """Counts of people."""
    return payload_pb2.Outcome(
        identified=outcome.identified,
        tentative=outcome.tentative,
        safeguarded=outcome.safeguarded,
        offenders=outcome.offenders,
    )


def outcome_in(message: payload_pb2.Outcome) -> Outcome:
    """Counts of people."""
    return Outcome(message.identified, message.tentative, message.safeguarded, message.offenders)


def _step_view(step: ReferralStep) -> operator_pb2.StepView:
    return operator_pb2.StepView(
        state=step.state.value,
        agency=step.agency,
        person=step.person,
        step_time=timestamp(step.at),
        text=step.text,
        passed_to=step.passed_to,
        countries=step.countries,
        outcome=outcome_out(step.outcome) if step.outcome else None,
    )


def referral_view(tx: Tx, referral: Referral) -> operator_pb2.ReferralView:
    """A referral with its steps by time; ``reason`` tells why a message was refused or waits."""
    reason = ""
    if referral.direction is Direction.OUT:
        for message in tx.outbox.of_subject(referral.id):
            if message.kind == "referral" and message.state in (OutState.REFUSED, OutState.PARKED):
                reason = f"{message.state.value}: {message.reason}"
    steps = sorted(tx.referrals.steps(referral.id), key=lambda step: (step.at, step.id))
    return operator_pb2.ReferralView(
        id=referral.id,
        series=referral.series,
        direction=referral.direction.value,
        sender=referral.sender,
        recipient=referral.recipient,
        country=referral.country,
        urgency=int(referral.urgency),
        state=referral.state.value,
        purpose=referral.purpose,
        case_ref=referral.case_ref,
        note=referral.note,
        create_time=timestamp(referral.created),
        steps=[_step_view(step) for step in steps],
        reason=reason,
        corrected=is_corrected(referral.country, steps),
        likely_countries=said.countries if (said := correction(steps)) else [],
        lead=lead_of(referral, steps),
    )


def answer_out(answer: BroadcastAnswer) -> payload_pb2.BroadcastAnswer:
    """An answer to a broadcast."""
    return payload_pb2.BroadcastAnswer(
        id=answer.id,
        broadcast=answer.broadcast,
        kind=answer.kind.value,
        country=answer.country,
        confidence=answer.confidence,
        series=answer.series,
        text=answer.text,
        answer_time=timestamp(answer.at),
    )


def broadcast_view(tx: Tx, broadcast: Broadcast) -> operator_pb2.BroadcastView:
    """A broadcast with its recipients (at the hub) and answers."""
    answers: Sequence[BroadcastAnswer] = tx.broadcasts.answers(broadcast.id)
    sent = broadcast.direction is Direction.OUT
    recipients = tx.broadcasts.recipients(broadcast.id) if sent else {}
    return operator_pb2.BroadcastView(
        id=broadcast.id,
        series=broadcast.series,
        sender=broadcast.sender,
        originator=broadcast.originator,
        group=broadcast.group,
        question=broadcast.question,
        state=(slowest(recipients.values()) if sent else broadcast.state).value,
        recipients={agency: state.value for agency, state in recipients.items()},
        answers=[answer_out(one) for one in answers],
        answer_agencies=[one.agency for one in answers],
        create_time=timestamp(broadcast.created),
    )


def upload_view(tx: Tx, upload: Upload, *, unchanged: bool = False) -> operator_pb2.UploadView:
    """A deposit as either side sees it."""
    delivery = reason = ""
    if upload.direction is Direction.OUT:
        for message in tx.outbox.of_subject(upload.id):
            if message.kind == "upload":
                delivery, reason = message.state.value, message.reason
    return operator_pb2.UploadView(
        id=upload.id,
        series=upload.series,
        direction=upload.direction.value,
        sender=upload.sender,
        repository=upload.repository,
        state=upload.state.value,
        reference=upload.reference,
        items=upload.items,
        create_time=timestamp(upload.created),
        unchanged=unchanged,
        delivery=delivery,
        reason=reason,
    )


def inbox_entry(
    tx: Tx, *, referral: Referral | None = None, broadcast: Broadcast | None = None
) -> operator_pb2.InboxEntry:
    """Something that came in, with its series."""
    entry = operator_pb2.InboxEntry()
    if referral is not None:
        entry.id, entry.kind = referral.id, "referral"
        entry.referral.CopyFrom(referral_view(tx, referral))
    elif broadcast is not None:
        entry.id, entry.kind = broadcast.id, "broadcast"
        entry.broadcast.CopyFrom(broadcast_view(tx, broadcast))
    one = referral or broadcast
    series = tx.series.get(one.series) if one else None
    if series is not None:
        entry.series.CopyFrom(series_view(tx, series))
    return entry


def outbox_entry(message: OutMessage) -> operator_pb2.OutboxEntry:
    """A message on its way or done."""
    entry = operator_pb2.OutboxEntry(
        id=message.id,
        recipient=message.recipient,
        kind=message.kind,
        subject=message.subject,
        lane=int(message.lane),
        sequence=message.sequence,
        state=message.state.value,
        reason=message.reason,
        create_time=timestamp(message.created),
    )
    if message.settled:
        entry.settle_time.CopyFrom(timestamp(message.settled))
    return entry


def destination_view(destination: Destination, now: datetime) -> operator_pb2.DestinationView:
    """A destination with its lanes, its back-off, and how fast its queue moves."""
    view = operator_pb2.DestinationView(
        agency=destination.agency,
        queued=destination.queued,
        attempts=destination.attempts,
        last_error=destination.last_error[:2000],
    )
    if destination.next_attempt:
        view.next_attempt_time.CopyFrom(timestamp(destination.next_attempt))
    if destination.busy_since:
        seconds = (now - destination.busy_since).total_seconds()
        view.busy_time.CopyFrom(timestamp(destination.busy_since))
        view.delivered = destination.delivered
        view.per_minute = round(60 * destination.delivered / max(seconds, 1.0))
    for lane, queue in sorted(destination.lanes.items()):
        shown = view.lanes.add(lane=int(lane), queued=queue.queued, put_off=queue.put_off)
        if queue.oldest:
            shown.oldest_time.CopyFrom(timestamp(queue.oldest))
    return view
