"""What the node answers, as JSON-ready documents. Field names are the command line's own.

Texts stay as they came; ``emit`` escapes them for JSON, ``inert`` for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from tieline.v1 import deposits_pb2, operator_links_pb2, payload_pb2, series_pb2, series_work_pb2
from tieline.v1 import operator_pb2 as pb

from tieline_client.cli.common import CONFIDENCES, URGENCIES
from tieline_client.handling import HandlingCode, Tlp

Document = dict[str, object]


def word(words: Sequence[str], number: int) -> str:
    """Return the word for a number from 1; the number itself where a newer node knows more."""
    if number == 0:
        return ""
    return words[number - 1] if number <= len(words) else str(number)


def when(message: object, field: str) -> datetime | None:
    """Return a time field in UTC, None where it is not set."""
    stamp = getattr(message, field)
    has: bool = message.HasField(field)  # type: ignore[attr-defined]
    return to_time(stamp) if has else None


def to_time(stamp: Timestamp) -> datetime:
    """Return a timestamp as a UTC datetime."""
    return stamp.ToDatetime(tzinfo=UTC)


def contact(value: series_pb2.DutyContact) -> Document | None:
    """Return the duty contact, None where nothing is known."""
    if not (value.name or value.email or value.phone):
        return None
    return {"name": value.name, "email": value.email, "phone": value.phone}


def handling(value: series_pb2.Handling) -> Document:
    """Return handling code, TLP and evaluation in words."""
    codes, tlps = {int(each) for each in HandlingCode}, {int(each) for each in Tlp}
    return {
        "code": f"H{value.code}" if value.code in codes else str(value.code),
        "tlp": Tlp(value.tlp).label if value.tlp in tlps else "",
        "source": value.source,
        "information": value.information or None,
        "retain_until": value.retain_until or None,
        "restriction": value.restriction,
    }


def assessment(value: series_pb2.Assessment) -> Document:
    """Return one judgement."""
    return {
        "id": value.id,
        "agency": value.agency,
        "person": value.person,
        "country": value.country,
        "confidence": word(CONFIDENCES, value.confidence),
        "grounds": value.grounds,
        "confirmed": value.confirmed,
        "eliminated": value.eliminated,
        "at": when(value, "made_time"),
        "region": value.region,
        "clues": list(value.clues),
    }


def series(value: pb.SeriesView) -> Document:
    """Return a series with its assessments."""
    notice = value.notice
    return {
        "id": notice.id,
        "name": notice.name,
        "status": notice.stage or notice.status,
        "origin": value.origin,
        "owner": value.owner,
        "number": value.number,
        "case": value.case_ref,
        "items": notice.items,
        "handling": handling(notice.handling),
        "contact": contact(notice.contact),
        "victims": notice.victims if notice.HasField("victims") else None,
        "identified": notice.identified,
        "first_seen": when(notice, "first_seen_time"),
        "last_seen": when(notice, "last_seen_time"),
        "clues": notice.clues,
        "references": [f"{each.scheme}:{each.value}" for each in notice.references],
        "likely_countries": list(value.likely_countries),
        "parts": list(value.parts),
        "part_of": value.part_of,
        "split_from": value.split_from,
        "split_into": list(value.split_into),
        "untold_countries": list(value.untold_countries),
        "grown_since_told": list(value.grown_since_told),
        "assessments": [assessment(each) for each in notice.assessments],
        "retraction": retraction(value.retraction) if value.HasField("retraction") else None,
        "same_as": [same_as(each) for each in value.same_as],
        "notes": [note(each) for each in value.notes],
        "votes": [vote(each) for each in value.votes],
        "history": [event(each) for each in value.history],
        "repositories": [repository(each) for each in value.repositories],
        "created": when(notice, "create_time"),
    }


def same_as(value: operator_links_pb2.SameAsView) -> Document:
    """Return an own series and another agency's that are one, or may be."""
    return {
        "id": value.id,
        "own": value.own,
        "other": value.other,
        "agency": value.agency,
        "state": value.state,
        "ours": value.ours,
        "ours_person": value.ours_person,
        "theirs": value.theirs,
        "theirs_person": value.theirs_person,
        "shared": value.shared,
        "own_items": value.own_items,
        "other_items": value.other_items,
        "references": list(value.references),
        "contact": contact(value.contact),
        "found": when(value, "find_time"),
    }


def note(value: operator_links_pb2.NoteView) -> Document:
    """Return what a person wrote about a series."""
    return {
        "id": value.id,
        "series": value.series,
        "agency": value.agency,
        "person": value.person,
        "at": when(value, "note_time"),
        "text": value.text,
        "told": list(value.told),
    }


def vote(value: series_work_pb2.VoteCount) -> Document:
    """Return how a series' items were judged under one code."""
    return {
        "scheme": value.scheme,
        "code": value.code,
        "items": value.items,
        "agencies": value.agencies,
        "trusted": value.trusted,
        "disputed": value.disputed,
    }


def repository(value: deposits_pb2.RepositoryView) -> Document:
    """Return what a repository says of a series."""
    said = value.report
    return {
        "repository": value.repository,
        "person": value.person,
        "number": said.number,
        "status": said.status,
        "identified": said.identified,
        "items": said.items,
        "agencies": said.agencies,
        "submissions": said.deposits,
        "baseline": said.baseline,
        "at": when(said, "report_time"),
    }


def news(value: pb.RepositoryNews) -> Document:
    """Return what a repository said, as the inbox has it."""
    return {"series": value.series, "name": value.name, **event(value.event)}


def event(value: series_work_pb2.SeriesEvent) -> Document:
    """Return a line of a series' history."""
    return {
        "kind": value.kind,
        "agency": value.agency,
        "person": value.person,
        "at": when(value, "event_time"),
        "before": value.before,
        "after": value.after,
        "text": value.text,
    }


def retraction(value: pb.RetractionView) -> Document:
    """Return an own series' latest retraction and who has confirmed it."""
    return {
        "id": value.id,
        "kind": value.kind,
        "reason": value.reason,
        "only": list(value.only) if value.limited else None,
        "at": when(value, "retract_time"),
        "recipients": [
            {
                "agency": each.agency,
                "via": each.via or None,
                "state": each.state,
                "erased": each.erased,
                "at": when(each, "state_time"),
                "reason": each.reason,
            }
            for each in value.recipients
        ],
        "outside": [
            {
                "country": each.country,
                "agency": each.agency,
                "reference": each.reference,
                "at": when(each, "tell_time"),
            }
            for each in value.outside
        ],
    }


def outcome(value: payload_pb2.Outcome) -> Document:
    """Return counts of people."""
    return {
        "identified": value.identified,
        "tentative": value.tentative,
        "safeguarded": value.safeguarded,
        "offenders": value.offenders,
    }


def step(value: pb.StepView) -> Document:
    """Return one step of a referral."""
    return {
        "state": value.state,
        "agency": value.agency,
        "person": value.person,
        "at": when(value, "step_time"),
        "text": value.text,
        "passed_to": value.passed_to,
        "countries": list(value.countries),
        "outcome": outcome(value.outcome) if value.HasField("outcome") else None,
    }


def referral(value: pb.ReferralView) -> Document:
    """Return a referral with its steps."""
    return {
        "id": value.id,
        "series": value.series,
        "direction": value.direction,
        "sender": value.sender,
        "recipient": value.recipient,
        "country": value.country,
        "urgency": word(URGENCIES, value.urgency),
        "state": value.state,
        "purpose": value.purpose,
        "case": value.case_ref,
        "note": value.note,
        "created": when(value, "create_time"),
        "steps": [step(each) for each in value.steps],
        "corrected": value.corrected,
        "likely_countries": list(value.likely_countries),
        "since": when(value, "since_time"),
        "next": value.next_step,
        "due": when(value, "due_time"),
        "lead": value.lead,
        "reason": value.reason,
    }


def broadcast(value: pb.BroadcastView) -> Document:
    """Return a broadcast with recipients and answers."""
    agencies = [*value.answer_agencies, *[""] * len(value.answers)]
    return {
        "id": value.id,
        "series": value.series,
        "sender": value.sender,
        "originator": value.originator,
        "group": value.group,
        "question": value.question,
        "state": value.state,
        "recipients": dict(sorted(value.recipients.items())),
        "answers": [
            {
                "agency": agency,
                "kind": each.kind,
                "country": each.country,
                "confidence": word(CONFIDENCES, each.confidence),
                "series": each.series,
                "text": each.text,
                "at": when(each, "answer_time"),
            }
            for agency, each in zip(agencies, value.answers, strict=False)
        ],
        "created": when(value, "create_time"),
    }


def inbox_entry(value: pb.InboxEntry) -> Document:
    """Return what came in; ``referral`` or ``broadcast`` is None according to ``kind``."""
    return {
        "id": value.id,
        "kind": value.kind,
        "state": value.broadcast.state if value.kind == "broadcast" else value.referral.state,
        "referral": referral(value.referral) if value.HasField("referral") else None,
        "broadcast": broadcast(value.broadcast) if value.HasField("broadcast") else None,
        "series": series(value.series) if value.HasField("series") else None,
    }


def upload(value: pb.UploadView) -> Document:
    """Return a deposit."""
    return {
        "id": value.id,
        "series": value.series,
        "direction": value.direction,
        "sender": value.sender,
        "repository": value.repository,
        "state": value.state,
        "reference": value.reference,
        "items": value.items,
        "unchanged": value.unchanged,
        "delivery": value.delivery,
        "reason": value.reason,
        "created": when(value, "create_time"),
    }
