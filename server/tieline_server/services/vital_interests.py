"""A child in danger, and no agreement: one officer states it, another confirms it, then it goes.

2016/680 Art. 38(1)(a) opens a transfer to a third country without adequacy decision or safeguards
where it is necessary to protect a person's vital interests. Policy opens its rules for it only
where two officers say so; what they said travels with the message and stands in the audit log.
Nothing goes out before the second officer has confirmed, and a statement that nobody confirmed
within a day has no effect any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from tieline.v1 import operator_requests_pb2, payload_pb2, requests_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput, PolicyRefused
from tieline_client.identifiers import check_agency, new_id, series_owner
from tieline_client.payloads import timestamp

from tieline_server.domain.policy import Action, Question
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Urgency
from tieline_server.domain.request import (
    Request,
    RequestedSeries,
    RequestKind,
    RequestState,
    Side,
    Use,
)
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.sending import send


def endangered(question: Question) -> Question:
    """Return a question with what two officers stated."""
    return replace(question, vital_interests=True, second_officer=True)


def statement(
    node: Node,
    person: str,
    agency: str,
    *,
    use: Use,
    grounds: str,
    purpose: str,
    case_ref: str,
    terms: Mapping[str, str] | None = None,
) -> Request:
    """Return what one officer states, as it waits for the other."""
    if not clean(grounds):
        raise InvalidInput("say why the child is in danger, in words")
    now = node.clock()
    return Request(
        id=new_id(),
        kind=RequestKind.VITAL_INTERESTS,
        side=Side.OWN,
        peer=agency,
        person=person,
        purpose=purpose,
        case_ref=clean(case_ref),
        created=now,
        expires=now + limits.VITAL_INTERESTS_LIFE,
        use=use,
        agencies=(agency,),
        text=clean(grounds),
        terms=terms or {},
    )


def note(node: Node, tx: Tx, request: Request, series: str = "") -> Request:
    """Keep a statement, with its audit entry; the same one, waiting already, is returned."""
    for known in tx.requests.find(
        kind=RequestKind.VITAL_INTERESTS, states=(RequestState.PENDING,), series=series
    ):
        same = (known.peer, known.use, known.purpose, known.case_ref)
        waits = known.standing(node.clock()) is RequestState.PENDING
        if waits and same == (request.peer, request.use, request.purpose, request.case_ref):
            return known
    tx.requests.add(request, [RequestedSeries(series, 0)] if series else [])
    tx.audit.append(
        node.entry(
            "vital-interests.stated",
            person=request.person,
            peer=request.peer,
            purpose=request.purpose,
            case_ref=request.case_ref,
            subjects=(request.id, *((series,) if series else ())),
            grounds=request.text,
            use=request.use.value if request.use else "",
        )
    )
    return request


def state_for_asking(
    node: Node, person: Person, asked: operator_requests_pb2.StateVitalInterestsRequest
) -> Request:
    """State vital interests for questions to an agency. Raises PolicyRefused where the exception
    would not open them, InvalidInput where they need none."""
    node.check_purpose(asked.purpose, asked.case_ref)
    agency = check_agency(asked.agency)
    question = node.question(Action.ASK, asker=node.agency, holder=agency, purpose=asked.purpose)
    if node.policy.decide(question).allowed:
        raise InvalidInput(f"{agency} may be asked without; just ask")
    node.allow(endangered(question), f"asking {agency}, even with vital interests stated")
    request = statement(
        node,
        person.name,
        agency,
        use=Use.ASK,
        grounds=asked.grounds,
        purpose=asked.purpose,
        case_ref=asked.case_ref,
    )
    return node.store.write(lambda tx: note(node, tx, request))


def confirm(node: Node, tx: Tx, person: Person, request: Request) -> Request:
    """The second officer's word, kept with its audit entry."""
    now = node.clock()
    decided = replace(
        request,
        state=RequestState.APPROVED,
        decided_by=person.name,
        decided=now,
        expires=now + limits.VITAL_INTERESTS_LIFE,
    )
    tx.requests.put(decided)
    tx.audit.append(
        node.entry(
            "vital-interests.confirmed",
            person=person.name,
            peer=request.peer,
            purpose=request.purpose,
            case_ref=request.case_ref,
            subjects=(request.id,),
            grounds=request.text,
            officers=[request.person, person.name],
        )
    )
    return decided


def reject(node: Node, tx: Tx, person: Person, request: Request, reason: str) -> Request:
    """The second officer does not confirm it."""
    if not reason:
        raise InvalidInput("refusing needs a reason; say --reason TEXT")
    decided = replace(
        request,
        state=RequestState.REFUSED,
        decided_by=person.name,
        decided=node.clock(),
        reason=reason,
    )
    tx.requests.put(decided)
    tx.audit.append(
        node.entry(
            "vital-interests.refused",
            person=person.name,
            peer=request.peer,
            purpose=request.purpose,
            case_ref=request.case_ref,
            subjects=(request.id,),
            reason=reason,
        )
    )
    return decided


def standing(node: Node, tx: Tx, agency: str, purpose: str, case_ref: str) -> Request | None:
    """Return what is confirmed for questions with an agency for this purpose and case."""
    now = node.clock()
    for request in tx.requests.find(
        kind=RequestKind.VITAL_INTERESTS, states=(RequestState.APPROVED,)
    ):
        about = (request.use, request.peer, request.purpose, request.case_ref)
        holds = request.standing(now) is RequestState.APPROVED
        if holds and about == (Use.ASK, agency, purpose, clean(case_ref)):
            return request
    return None


def stated_out(request: Request) -> requests_pb2.VitalInterests:
    """Return what travels of a confirmed statement."""
    return requests_pb2.VitalInterests(
        grounds=request.text,
        officer=request.person,
        second_officer=request.decided_by,
        confirm_time=timestamp(request.decided) if request.decided else None,
    )


def check_stated(stated: requests_pb2.VitalInterests) -> None:
    """Raise PolicyRefused unless two different officers stated it, and why."""
    if not stated.grounds.strip() or not stated.officer or not stated.second_officer:
        raise PolicyRefused("vital interests are stated without grounds or without both officers")
    if stated.officer == stated.second_officer:
        raise PolicyRefused("vital interests are confirmed by a second officer, not by the same")


def tell_provider(
    node: Node,
    tx: Tx,
    request: Request,
    series: str,
    at: datetime,
) -> str:
    """Queue the notice to a provider whose data went out; return whom it goes to, "" for nobody."""
    owner = series_owner(series)
    if owner in (node.agency, request.peer):
        return ""
    payload = payload_pb2.Payload(
        person=request.decided_by,
        purpose=request.purpose,
        case_ref=request.case_ref,
        transfer_notice=requests_pb2.TransferNotice(
            id=new_id(),
            series=series,
            recipient=request.peer,
            vital_interests=stated_out(request),
            transfer_time=timestamp(at),
        ),
    )
    send(
        *(node, tx, payload),
        recipient=owner,
        lane=Urgency.IMMEDIATE,
        subject=request.id,
    )
    return owner
