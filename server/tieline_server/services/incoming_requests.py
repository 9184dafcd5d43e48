"""What peers decide for us, and what they ask us to permit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from tieline.v1 import requests_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput, NotFound, PolicyRefused, SignatureRefused
from tieline_client.handling import Handling
from tieline_client.identifiers import check_agency, check_id, series_owner
from tieline_client.payloads import moment

from tieline_server.domain.policy import Action, Disclosure
from tieline_server.domain.ports import Tx
from tieline_server.domain.request import (
    AT_HOME,
    Request,
    RequestedSeries,
    RequestKind,
    RequestState,
    SeriesState,
    Side,
    Use,
    parse_level,
    parse_use,
)
from tieline_server.services.context import Node, clean
from tieline_server.services.incoming import Handled, Message, stated_time
from tieline_server.services.notices import handling_in, handling_out
from tieline_server.services.permissions import check_permissible
from tieline_server.services.restricting import restriction_of, why_excluded

_LEARN = {
    Disclosure.COUNT: Action.LEARN_COUNT,
    Disclosure.REFERENCE: Action.LEARN_REFERENCE,
    Disclosure.DETAIL: Action.LEARN_DETAIL,
}
_SAID = {
    one.value: one for one in (RequestState.APPROVED, RequestState.REFUSED, RequestState.ENDED)
}


@dataclass(frozen=True, slots=True)
class IncomingRequests:
    """Handles request_answer, release, permission_request, permission and transfer_notice."""

    node: Node

    # --- releases ---

    def release(self, message: Message) -> Handled:
        """A series that a person at the peer released to us."""
        node, body = self.node, message.payload.release
        check_id(body.request, "request")
        owner = series_owner(body.series.id)
        level = parse_level(body.level, Disclosure.NOTHING)
        if level < Disclosure.REFERENCE or not body.series.HasField("handling"):
            raise InvalidInput("a release is at reference or detail, and says its handling")
        handling = handling_in(body.series.handling)
        if handling.retain_until <= node.clock().date():
            raise InvalidInput("its retention date is past")
        self._allow(message, level, handling, owner)
        expires = _until(node, body.expire_time)

        def effect(tx: Tx) -> None:
            why = why_excluded(tx, body.series.id, node.agency)
            if why:
                raise PolicyRefused(f"it may not be kept here: {why}")
            request = self._asked(tx, message, body.request, body.asked_by)
            tx.requests.put(
                replace(request, state=RequestState.APPROVED, level=level, expires=expires)
            )
            kept = requests_pb2.Release()
            kept.CopyFrom(body)
            restricted = restriction_of(tx, body.series.id).on(handling)
            kept.series.handling.CopyFrom(handling_out(restricted))
            series = RequestedSeries(
                body.series.id, body.shared, SeriesState.RELEASED, kept.SerializeToString()
            )
            tx.requests.put_series(request.id, series)

        return body.series.id, effect

    def _allow(self, message: Message, level: Disclosure, handling: Handling, owner: str) -> None:
        node = self.node
        question = node.question(
            _LEARN[level],
            asker=node.agency,
            holder=message.peer,
            purpose=message.payload.purpose,
            handling=handling,
            owner=owner,
        )
        # That a person confirmed, and that restricted data may be used so, is the peer's word,
        # which it signed: it is the peer's to release.
        stated = replace(question, confirmed=True, permission=owner == message.peer)
        node.allow(stated, f"a release of {message.peer}")

    def _asked(self, tx: Tx, message: Message, identifier: str, person: str) -> Request:
        """Return the request that an answer is about; a node that was restored may have lost it.

        Raises SignatureRefused when it is not one of ours to that peer, for that purpose.
        """
        node, payload = self.node, message.payload
        known = tx.requests.get(identifier)
        if known is not None:
            same = (known.peer, known.side, known.kind)
            if same != (message.peer, Side.OUT, RequestKind.RELEASE):
                raise SignatureRefused(f"{message.peer} was not asked this")
            if payload.purpose != known.purpose:
                raise SignatureRefused("it answers for another purpose than was asked")
            return known
        now = node.clock()
        request = Request(
            id=identifier,
            kind=RequestKind.RELEASE,
            side=Side.OUT,
            peer=message.peer,
            person=person,
            purpose=payload.purpose,
            case_ref=clean(payload.case_ref),
            created=now,
            expires=now + limits.REQUEST_LIFE,
        )
        tx.requests.add(request)
        return request

    def request_answer(self, message: Message) -> Handled:
        """What a person at the peer decided."""
        node, body = self.node, message.payload.request_answer
        check_id(body.request, "request")
        if body.state not in _SAID:
            raise InvalidInput(f"{body.state[:16]!r} is nothing that is decided of a request")
        state = _SAID[body.state]
        approved = state is RequestState.APPROVED
        level = parse_level(body.level, Disclosure.NOTHING) if approved else Disclosure.NOTHING
        if approved and level is Disclosure.NOTHING:
            raise InvalidInput("an approved request names its level")
        at, expires = stated_time(node, body.decide_time), _until(node, body.expire_time)
        if not approved:
            expires = max(expires, at)

        def effect(tx: Tx) -> None:
            request = self._asked(tx, message, body.request, body.asked_by)
            tx.requests.put(
                replace(
                    request,
                    state=state,
                    level=level if approved else request.level,
                    items=body.items if approved else request.items,
                    decided_by=message.payload.person,
                    decided=at,
                    expires=expires,
                    reason=clean(body.reason),
                )
            )

        return body.request, effect

    # --- permissions ---

    def permission_request(self, message: Message) -> Handled:
        """Whoever holds a series of ours asks to use it."""
        node, payload, body = self.node, message.payload, message.payload.permission_request
        check_id(body.id, "request")
        if series_owner(body.series) != node.agency:
            raise InvalidInput("only its owner permits a use of a series")
        node.check_purpose(payload.purpose, payload.case_ref)
        use, agencies = parse_use(body.action), tuple(map(check_agency, body.agencies))
        if not agencies or (use in AT_HOME and agencies != (message.peer,)):
            raise InvalidInput("a permission is asked for agencies by name; a use for oneself")
        now = node.clock()
        request = Request(
            id=body.id,
            kind=RequestKind.PERMISSION,
            side=Side.IN,
            peer=message.peer,
            person=payload.person,
            purpose=payload.purpose,
            case_ref=clean(payload.case_ref),
            created=now,
            expires=now + limits.REQUEST_LIFE,
            use=use,
            agencies=agencies,
            text=clean(body.note),
        )

        def effect(tx: Tx) -> None:
            series = tx.series.get(body.series)
            if series is None:
                raise NotFound("the series is not known here")
            why = why_excluded(tx, series.id, message.peer)
            if why:
                raise PolicyRefused(f"it is not yours to use: {why}")
            if not tx.requests.add(request, [RequestedSeries(series.id, 0)]):
                raise InvalidInput("a request of this id is known")

        return body.id, effect

    def permission(self, message: Message) -> Handled:
        """The provider permits a use that we asked for, or does not."""
        node, body = self.node, message.payload.permission
        check_id(body.request, "request")
        if series_owner(body.series) != message.peer:
            raise SignatureRefused("only its owner permits a use of a series")
        if body.state not in (RequestState.APPROVED.value, RequestState.REFUSED.value):
            raise InvalidInput(f"{body.state[:16]!r} is no answer to a request")
        approved = body.state == RequestState.APPROVED.value
        use, agencies = parse_use(body.action), tuple(map(check_agency, body.agencies))
        expires = _until(node, body.expire_time)
        envelope = message.request.envelope.SerializeToString() if approved else b""

        def effect(tx: Tx) -> None:
            request = tx.requests.get(body.request)
            if request is None:
                raise NotFound("this request is not known here")
            asked = (request.peer, request.side, request.kind, request.use)
            if asked != (message.peer, Side.OUT, RequestKind.PERMISSION, use):
                raise SignatureRefused(f"{message.peer} was not asked this")
            series = [one.series for one in tx.requests.series_of(request.id)]
            if series != [body.series] or agencies != request.agencies:
                raise SignatureRefused("it permits something else than was asked")
            if message.payload.purpose != request.purpose:
                raise SignatureRefused("it permits another purpose than was asked")
            known = tx.series.get(body.series)
            if approved and known is not None:
                check_permissible(node, request, known, message.peer)
            tx.requests.put(
                replace(
                    request,
                    state=_SAID[body.state],
                    decided_by=message.payload.person,
                    decided=node.clock(),
                    expires=expires if approved else request.expires,
                    reason=clean(body.reason),
                    envelope=envelope,
                )
            )

        return body.request, effect

    # --- a child in danger ---

    def transfer_notice(self, message: Message) -> Handled:
        """Data of ours went outside the union without our authorisation."""
        node, payload, body = self.node, message.payload, message.payload.transfer_notice
        check_id(body.id, "notice")
        if series_owner(body.series) != node.agency:
            raise InvalidInput("the series is not this agency's own")
        stated, at = body.vital_interests, stated_time(node, body.transfer_time)
        request = Request(
            id=body.id,
            kind=RequestKind.NOTICE,
            side=Side.IN,
            peer=message.peer,
            person=payload.person,
            purpose=payload.purpose,
            case_ref=clean(payload.case_ref),
            created=at,
            expires=node.clock() + limits.REQUEST_LIFE,
            state=RequestState.ENDED,
            use=Use.REFER,
            agencies=(check_agency(body.recipient),),
            text=clean(stated.grounds),
            decided_by=stated.second_officer,
            decided=at,
        )

        def effect(tx: Tx) -> None:
            if not tx.requests.add(request, [RequestedSeries(body.series, 0)]):
                raise InvalidInput("a notice of this id is known")

        return body.id, effect


def _until(node: Node, stamp: Timestamp) -> datetime:
    """Return until when something holds; raise InvalidInput when that is out of bounds."""
    until = moment(stamp)
    if until > node.clock() + limits.RELEASE_LIFE_MOST + limits.CLOCK_TOLERANCE:
        raise InvalidInput(f"it holds longer than {limits.RELEASE_LIFE_MOST.days} days")
    return until
