"""Broadcasts: the hub asks a group "who can place this?"; recipients acknowledge and answer.

A series that somebody referred to the hub goes out inside that agency's own signed envelope, so
that every recipient sees who wrote it and under which restrictions. The hub's own series is in the
hub's payload. The whole is signed for one version of the group.
"""

from __future__ import annotations

from dataclasses import dataclass

from tieline.v1 import envelope_pb2, operator_pb2, payload_pb2
from tieline_client import limits
from tieline_client.countries import check_known_country
from tieline_client.errors import InvalidInput, NotFound, PolicyRefused, RoleRefused, WrongState
from tieline_client.handling import Handling
from tieline_client.identifiers import check_country, new_id, series_owner
from tieline_client.payloads import Audience, moment, timestamp

from tieline_server.domain.broadcast import (
    AnswerKind,
    Broadcast,
    BroadcastAnswer,
    BroadcastRecipientState,
    slowest,
)
from tieline_server.domain.policy import Action, Decision
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction, ReferralState, Urgency
from tieline_server.domain.request import Use
from tieline_server.domain.retraction import Restriction
from tieline_server.domain.series import Confidence, Series
from tieline_server.services.attachments import Packed, pack_series
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.held_under import with_items
from tieline_server.services.legal_basis import legal_basis
from tieline_server.services.notices import logged_references, series_out
from tieline_server.services.permissions import Held, held
from tieline_server.services.referring import original_envelope
from tieline_server.services.restricting import exclusion, restriction_of, still
from tieline_server.services.retracting import accompany
from tieline_server.services.same_as import claim, link_question
from tieline_server.services.sending import send, send_group
from tieline_server.services.views import broadcast_view, find_held, find_series, inbox_entry

_QUESTION = "Who can place this?"
ACKNOWLEDGE = "acknowledge"
"""The kind of a BroadcastAnswer that only says a person has read it."""


_Decided = dict[tuple[str, Handling, str, bool], Decision]
"""What policy says of a member, by it and by handling and owner of the series: within one command
and one purpose nothing else differs."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    series: Series
    original: envelope_pb2.Envelope | None
    packed: Packed | None
    recipients: tuple[str, ...]
    rules: tuple[str, ...]
    permission: Held | None


class Broadcasting:
    """The hub's side and the recipients' side."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def broadcast(
        self, person: Person, request: operator_pb2.BroadcastSeriesRequest
    ) -> list[operator_pb2.BroadcastView]:
        """Send each series to the group. Raises RoleRefused when this node is no hub, NotFound,
        or PolicyRefused when a series may not be sent; then none is."""
        node, directory = self._node, self._node.directory()
        node.check_purpose(request.purpose, request.case_ref)
        if str(directory.member(node.agency).role) != "hub":
            raise RoleRefused("only a hub broadcasts; refer the series to the hub instead")
        group = directory.group(request.group)
        if not request.series:
            raise InvalidInput("name at least one series")
        members = [agency for agency in group.members if agency != node.agency]
        decided: _Decided = {}
        prepared = [
            self._prepare(name, members, request.purpose, decided) for name in request.series
        ]

        def work(tx: Tx) -> list[operator_pb2.BroadcastView]:
            return [
                self._send(tx, person, one, request, group.name, group.version) for one in prepared
            ]

        views = node.store.write(work)
        for agency in {agency for one in prepared for agency in one.recipients}:
            node.wake(agency)
        return views

    def _prepare(self, name: str, members: list[str], purpose: str, decided: _Decided) -> _Prepared:
        """Ask policy for a series; ``decided`` holds what it said of members before."""
        node = self._node

        def look(tx: Tx) -> tuple[Series, Held | None, Restriction]:
            series = with_items(tx, find_held(tx, name))
            permission = held(node, tx, series.id, Use.BROADCAST, (), purpose)
            return series, permission, restriction_of(tx, series.id)

        series, permission, restriction = node.store.read(look)
        own = series.owner == node.agency
        action = Action.BROADCAST if own else Action.RELAY
        permitted = permission.agencies if permission else ()
        rules = set(
            node.allow(
                node.question(
                    action,
                    asker=node.agency,
                    holder=node.agency,
                    purpose=purpose,
                    handling=series.handling,
                    owner=series.owner,
                    permission=permission is not None,
                ),
                f"broadcasting {series.id}",
            )
        )
        recipients, reasons = [], []
        for agency in members:
            if agency == series.owner:
                continue
            left_out = node.cut_off(agency) or exclusion(restriction, series.id, agency)
            if left_out:
                reasons.append(f"{agency}: {left_out}")
                continue
            key = agency, series.handling, series.owner, agency in permitted
            decision = decided.get(key)
            if decision is None:
                decision = decided[key] = node.policy.decide(
                    node.question(
                        Action.RECEIVE_BROADCAST,
                        asker=agency,
                        holder=node.agency,
                        purpose=purpose,
                        handling=series.handling,
                        owner=series.owner,
                        permission=agency in permitted,
                    )
                )
            if decision.allowed:
                recipients.append(agency)
                rules.update(decision.rules)
            else:
                reasons.append(f"{agency}: {decision.why}")
        if not recipients:
            raise PolicyRefused(f"nobody in the group may receive it: {'; '.join(reasons)}")
        original = None if own else node.store.read(lambda tx: _received_original(tx, series))
        packed = pack_series(node, series.id, "", under=series.handling)
        return _Prepared(
            series, original, packed, tuple(recipients), tuple(sorted(rules)), permission
        )

    def _send(
        self,
        tx: Tx,
        person: Person,
        one: _Prepared,
        request: operator_pb2.BroadcastSeriesRequest,
        group: str,
        version: int,
    ) -> operator_pb2.BroadcastView:
        node = self._node
        broadcast = Broadcast(
            id=new_id(),
            series=one.series.id,
            direction=Direction.OUT,
            sender=node.agency,
            originator=one.series.owner,
            group=group,
            group_version=version,
            purpose=request.purpose,
            case_ref=clean(request.case_ref),
            person=person.name,
            question=clean(request.question) or _QUESTION,
            created=node.clock(),
        )
        series = still(tx, one.series, *one.recipients)
        if not request.again:
            _check_new(tx, broadcast)
        tx.broadcasts.add(broadcast, one.recipients)
        items = one.packed.attachment.items if one.packed else 0
        body = payload_pb2.Broadcast(
            id=broadcast.id,
            question=broadcast.question,
            items=one.packed.reference() if one.packed else None,
            original=one.original,
            permission=one.permission.envelope if one.permission else None,
        )
        if one.original is None:
            assessments = list(tx.series.assessments(one.series.id))
            body.series.CopyFrom(series_out(series, assessments, items, with_name=False))
        payload = payload_pb2.Payload(
            person=person.name,
            purpose=broadcast.purpose,
            case_ref=broadcast.case_ref,
            broadcast=body,
        )
        send_group(
            node,
            tx,
            payload,
            audience=Audience(group=group, group_version=version),
            recipients=one.recipients,
            lane=Urgency.URGENT,
            subject=broadcast.id,
            items=one.packed,
        )
        accompany(node, tx, series.id, *one.recipients)
        tx.audit.append(
            node.entry(
                "broadcast.sent",
                person=person.name,
                peer="",
                purpose=broadcast.purpose,
                case_ref=broadcast.case_ref,
                subjects=(broadcast.id, one.series.id),
                rules=one.rules,
                group=f"{group} v{version}",
                recipients=list(one.recipients),
                items=items,
                references=logged_references(one.series.references),
                **({"permission": one.permission.request} if one.permission else {}),
                **legal_basis(node, one.recipients),
            )
        )
        return broadcast_view(tx, broadcast)

    def find(self) -> list[operator_pb2.BroadcastView]:
        """Sent broadcasts, newest first."""
        return self._node.store.read(
            lambda tx: [
                broadcast_view(tx, one) for one in reversed(tx.broadcasts.find(Direction.OUT))
            ]
        )

    # --- the recipient's side ---

    def acknowledge(self, person: Person, broadcast_id: str) -> operator_pb2.InboxEntry:
        """Say that a person has read a broadcast. Raises NotFound or WrongState."""
        return self._answer(person, broadcast_id, ACKNOWLEDGE, payload_pb2.BroadcastAnswer())

    def answer(
        self, person: Person, request: operator_pb2.AnswerBroadcastRequest
    ) -> operator_pb2.InboxEntry:
        """Assess, eliminate or claim a broadcast series. Raises NotFound or InvalidInput; claiming
        tells the hub an own series' reference: PolicyRefused where policy does not let it learn
        that, WrongState for one that was taken back. Nothing is said then."""
        try:
            kind = AnswerKind(request.kind)
        except ValueError:
            raise InvalidInput(
                "an answer is --assess CC, --eliminate CC or --ours SERIES"
            ) from None
        body = payload_pb2.BroadcastAnswer(text=clean(request.text))
        if kind is AnswerKind.OURS:
            series = self._node.store.read(lambda tx: find_series(tx, request.series))
            if series.owner != self._node.agency:
                raise InvalidInput(f"{series.id} is not this agency's own; name a series that is")
            body.series = series.id
        else:
            body.country = check_known_country(request.country)
            if kind is AnswerKind.ASSESS:
                body.confidence = int(parse_confidence(request.confidence))
        return self._answer(person, request.id, kind.value, body)

    def _answer(
        self, person: Person, broadcast_id: str, kind: str, body: payload_pb2.BroadcastAnswer
    ) -> operator_pb2.InboxEntry:
        node, now = self._node, self._node.clock()
        body.id, body.broadcast, body.kind = new_id(), broadcast_id, kind
        body.answer_time.CopyFrom(timestamp(now))

        def work(tx: Tx) -> tuple[operator_pb2.InboxEntry, set[str]]:
            broadcast = tx.broadcasts.get(broadcast_id)
            if broadcast is None or broadcast.direction is not Direction.IN:
                raise NotFound(f"no broadcast {broadcast_id[:40]!r} came in; see `tieline inbox`")
            if broadcast.state is BroadcastRecipientState.WITHDRAWN:
                raise WrongState("the series is withdrawn by its owner")
            rules = _may_claim(node, tx, broadcast, body.series) if body.series else ()
            if kind == ACKNOWLEDGE:
                if broadcast.state is not BroadcastRecipientState.DELIVERED:
                    raise WrongState(f"the broadcast is {broadcast.state.value} already")
                state = BroadcastRecipientState.ACKNOWLEDGED
            else:
                state = BroadcastRecipientState.ANSWERED
                tx.broadcasts.add_answer(answer_in(body, node.agency, person.name))
            tx.broadcasts.set_recipient(broadcast.id, node.agency, state)
            payload = payload_pb2.Payload(
                person=person.name,
                purpose=broadcast.purpose,
                case_ref=broadcast.case_ref,
                broadcast_answer=body,
            )
            send(
                node,
                tx,
                payload,
                recipient=broadcast.sender,
                lane=Urgency.URGENT,
                subject=broadcast.id,
            )
            tx.audit.append(
                node.entry(
                    f"broadcast.{kind}",
                    person=person.name,
                    peer=broadcast.sender,
                    purpose=broadcast.purpose,
                    case_ref=broadcast.case_ref,
                    subjects=(broadcast.id, broadcast.series, *filter(None, [body.series])),
                    rules=rules,
                    country=body.country,
                    **(legal_basis(node, [broadcast.sender]) if body.series else {}),
                )
            )
            told = {broadcast.sender}
            if kind == AnswerKind.OURS.value:
                accompany(node, tx, body.series, broadcast.sender)
                why = person.name, broadcast.purpose, broadcast.case_ref
                told.add(claim(node, tx, body.series, broadcast.series, *why))
            fresh = tx.broadcasts.get(broadcast_id)
            return inbox_entry(tx, broadcast=fresh), told - {""}

        entry, told = node.store.write(work)
        for agency in told:
            node.wake(agency)
        if kind == AnswerKind.OURS.value:
            node.alarmed()
        return entry


def _may_claim(node: Node, tx: Tx, broadcast: Broadcast, own: str) -> tuple[str, ...]:
    """Ask policy whether the hub may learn an own series' reference, a person releasing it; return
    the rules that let it. Raises PolicyRefused, WrongState."""
    series = tx.series.get(own)
    if series is None:
        raise NotFound("the own series is no longer here; see `tieline series list`")
    series = still(tx, series, broadcast.sender)
    question = link_question(node, series, broadcast.sender, broadcast.purpose)
    return node.allow(question, f"telling {broadcast.sender} of {own}")


def answer_in(message: payload_pb2.BroadcastAnswer, agency: str, person: str) -> BroadcastAnswer:
    """Return the domain form of an answer; raise InvalidInput when a part fails."""
    try:
        kind = AnswerKind(message.kind)
    except ValueError:
        raise InvalidInput(f"{message.kind!r} is no answer to a broadcast") from None
    if kind is AnswerKind.OURS and series_owner(message.series) != agency:
        raise InvalidInput(f"the series is not {agency}'s own")
    if kind is not AnswerKind.OURS:
        check_country(message.country)
    return BroadcastAnswer(
        id=message.id,
        broadcast=message.broadcast,
        agency=agency,
        person=person,
        kind=kind,
        at=moment(message.answer_time),
        country=message.country if kind is not AnswerKind.OURS else "",
        confidence=int(parse_confidence(message.confidence)) if kind is AnswerKind.ASSESS else 0,
        series=message.series if kind is AnswerKind.OURS else "",
        text=clean(message.text),
    )


def parse_confidence(value: int) -> Confidence:
    """Return the confidence; 0 is medium. Raises InvalidInput."""
    try:
        return Confidence(value or int(Confidence.MEDIUM))
    except ValueError:
        raise InvalidInput("confidence is low, medium or high") from None


def _check_new(tx: Tx, broadcast: Broadcast) -> None:
    """Raise WrongState where the same was asked a moment ago: a second broadcast to everybody is
    seldom meant."""
    for known in tx.broadcasts.find(Direction.OUT, broadcast.series):
        age = broadcast.created - known.created
        same = (known.group, known.question) == (broadcast.group, broadcast.question)
        came = slowest(tx.broadcasts.recipients(known.id).values())
        if same and age < limits.BROADCAST_REPEATED and came is not BroadcastRecipientState.REFUSED:
            raise WrongState(
                f"{known.series} was broadcast to {known.group} with this question on"
                f" {known.created:%Y-%m-%d %H:%M} UTC ({known.id}); say --again to send it again"
            )


def _received_original(tx: Tx, series: Series) -> envelope_pb2.Envelope:
    for referral in reversed(tx.referrals.find(Direction.IN, series.id)):
        if referral.state is not ReferralState.WITHDRAWN:  # the latest that stands
            return original_envelope(tx, referral)
    raise NotFound(f"no signed referral of {series.id} is here, so it cannot be relayed")
