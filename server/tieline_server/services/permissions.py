"""Permissions for restricted data: asked of the provider, answered by its officer, and proven.

1. An agency holds another's data under H1, H2, TLP:RED or the like, and wants to pass it on,
   broadcast it, deposit it, or use it for proceedings. It asks; the request travels as a message.
2. The provider's officer approves or refuses. What travels back is signed: one action, named
   agencies, one series, one purpose, until a date. For an own series the own officer decides.
3. Whoever acts on it asks policy with ``permission``, and the signed permission goes with the
   message, so that its recipient can ask policy with ``permission`` too, and nobody else's word
   counts for it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from datetime import datetime

from tieline.v1 import envelope_pb2, operator_requests_pb2, payload_pb2, requests_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput, PolicyRefused, TielineError, WrongState
from tieline_client.identifiers import check_agency, new_id, series_owner
from tieline_client.payloads import Audience, moment, open_payload, timestamp

from tieline_server.domain.policy import Question
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Urgency
from tieline_server.domain.request import (
    AT_HOME,
    FORWARD_ACTION,
    Request,
    RequestedSeries,
    RequestKind,
    RequestState,
    Side,
    Use,
    parse_use,
)
from tieline_server.domain.series import Series, SeriesStatus
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.incoming import Message
from tieline_server.services.sending import send
from tieline_server.services.views import find_held


def forward_question(
    node: Node, use: Use, actor: str, agency: str, series: Series, purpose: str
) -> Question:
    """Return what policy is asked of one recipient of a use by ``actor``."""
    receiving = use is Use.BROADCAST
    asker, holder = (agency, actor) if receiving else (actor, agency)
    if use is Use.USE:
        asker, holder = actor, series.owner
    elif use is Use.EXPORT:
        holder = actor
    return node.question(
        FORWARD_ACTION[use],
        asker=asker,
        holder=holder,
        purpose=purpose,
        handling=series.handling,
        owner=series.owner,
    )


def check_permissible(node: Node, request: Request, series: Series, provider: str) -> set[str]:
    """Return the rules that allow a use once ``provider`` permits it; raise PolicyRefused where
    not even its permission opens it."""
    assert request.use is not None
    actor = request.peer if provider == node.agency else node.agency
    rules: set[str] = set()
    for agency in request.agencies:
        question = forward_question(node, request.use, actor, agency, series, request.purpose)
        permitted = replace(question, permission=True)
        rules.update(node.allow(permitted, f"{request.use.value} to {agency}, even permitted"))
    return rules


class Permissions:
    """Asks for permissions, and decides those that others ask for."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def ask(self, person: Person, asked: operator_requests_pb2.AskPermissionRequest) -> Request:
        """Ask the provider. Raises InvalidInput, NotFound, WrongState, or PolicyRefused for what
        no permission opens."""
        node, use = self._node, parse_use(asked.action)
        node.check_purpose(asked.purpose, asked.case_ref)
        agencies = tuple(dict.fromkeys(map(check_agency, asked.agencies)))
        if use in AT_HOME and agencies not in ((), (node.agency,)):
            raise InvalidInput("a use or an export is one's own; leave --to out")
        if use in AT_HOME:
            agencies = (node.agency,)
        if not agencies:
            raise InvalidInput("say for whom: --to AGENCY")
        for agency in agencies:
            node.directory().member(agency)
        now = node.clock()

        def work(tx: Tx) -> Request:
            series = find_held(tx, asked.series)
            if series.status is SeriesStatus.WITHDRAWN:
                raise WrongState("the series is withdrawn")
            own = series.owner == node.agency
            if own and use is Use.USE:
                raise InvalidInput("the series is this agency's own, to be used as it says")
            request = Request(
                id=new_id(),
                kind=RequestKind.PERMISSION,
                side=Side.OWN if own else Side.OUT,
                peer=series.owner,
                person=person.name,
                purpose=asked.purpose,
                case_ref=clean(asked.case_ref),
                created=now,
                expires=now + limits.REQUEST_LIFE,
                use=use,
                agencies=agencies,
                text=clean(asked.note),
            )
            rules = check_permissible(node, request, series, series.owner)
            tx.requests.add(request, [RequestedSeries(series.id, 0)])
            if not own:
                self._send_request(tx, request, series)
            tx.audit.append(
                node.entry(
                    "permission.asked",
                    person=person.name,
                    peer=series.owner,
                    purpose=request.purpose,
                    case_ref=request.case_ref,
                    subjects=(request.id, series.id),
                    rules=tuple(sorted(rules)),
                    use=use.value,
                    agencies=list(agencies),
                )
            )
            return request

        request = node.store.write(work)
        if request.side is Side.OUT:
            node.wake(request.peer)
        return request

    def _send_request(self, tx: Tx, request: Request, series: Series) -> None:
        assert request.use is not None
        payload = payload_pb2.Payload(
            person=request.person,
            purpose=request.purpose,
            case_ref=request.case_ref,
            permission_request=requests_pb2.PermissionRequest(
                id=request.id,
                series=series.id,
                action=request.use.value,
                agencies=request.agencies,
                note=request.text,
            ),
        )
        send(
            *(self._node, tx, payload),
            recipient=request.peer,
            lane=Urgency.URGENT,
            subject=request.id,
        )

    def decide(
        self, tx: Tx, person: Person, request: Request, *, until: datetime | None, reason: str
    ) -> Request:
        """Approve until a date, or refuse with a reason where that is None."""
        node, assert_use = self._node, request.use
        assert assert_use is not None
        (row,) = tx.requests.series_of(request.id)
        series = tx.series.get(row.series)
        if series is None or series.status is SeriesStatus.WITHDRAWN:
            raise WrongState("the series is withdrawn; there is nothing to permit")
        if until is None and not reason:
            raise InvalidInput("refusing needs a reason; say --reason TEXT")
        rules: set[str] = set()
        if until is not None:
            rules = check_permissible(node, request, series, node.agency)
        state = RequestState.REFUSED if until is None else RequestState.APPROVED
        decided = replace(
            request,
            state=state,
            decided_by=person.name,
            decided=node.clock(),
            expires=until or request.expires,
            reason=reason,
        )
        decided = self._answer(tx, decided, series)
        tx.requests.put(decided)
        tx.audit.append(
            node.entry(
                f"permission.{state.value}",
                person=person.name,
                peer=request.peer,
                purpose=request.purpose,
                case_ref=request.case_ref,
                subjects=(request.id, series.id),
                rules=tuple(sorted(rules)),
                use=assert_use.value,
                agencies=list(request.agencies),
                until=decided.expires.isoformat(),
                reason=reason,
            )
        )
        return decided

    def _answer(self, tx: Tx, request: Request, series: Series) -> Request:
        """Sign the answer, and queue it for who asked; for an own series it is kept here."""
        node = self._node
        payload = permission_payload(request, series.id)
        if request.side is Side.OWN:
            if request.state is not RequestState.APPROVED:
                return request
            envelope = node.sealer.seal(payload, Audience(agency=node.agency), node.clock())
            return replace(request, envelope=envelope.SerializeToString())
        send(
            *(node, tx, payload),
            recipient=request.peer,
            lane=Urgency.URGENT,
            subject=request.id,
        )
        return request


def permission_payload(request: Request, series: str) -> payload_pb2.Payload:
    """Return what the provider signs."""
    assert request.use is not None
    return payload_pb2.Payload(
        person=request.decided_by,
        purpose=request.purpose,
        case_ref=request.case_ref,
        permission=requests_pb2.Permission(
            request=request.id,
            series=series,
            action=request.use.value,
            agencies=request.agencies,
            state=request.state.value,
            reason=request.reason,
            expire_time=timestamp(request.expires),
        ),
    )


@dataclass(frozen=True, slots=True)
class Held:
    """A permission that this agency holds."""

    request: str
    envelope: envelope_pb2.Envelope
    agencies: tuple[str, ...]


def held(
    node: Node, tx: Tx, series: str, use: Use, agencies: tuple[str, ...], purpose: str
) -> Held | None:
    """Return the latest permission that covers exactly this use now, for all these agencies; None
    if none does."""
    now = node.clock()
    for request in tx.requests.find(
        kind=RequestKind.PERMISSION,
        sides=(Side.OUT, Side.OWN),
        states=(RequestState.APPROVED,),
        series=series,
    ):
        if (
            (request.use, request.purpose) == (use, purpose)
            and request.standing(now) is RequestState.APPROVED
            and set(agencies) <= set(request.agencies)
        ):
            envelope = envelope_pb2.Envelope.FromString(request.envelope)
            return Held(request.id, envelope, request.agencies)
    return None


def proven(
    node: Node,
    message: Message,
    envelope: envelope_pb2.Envelope | None,
    *,
    series: str,
    use: Use,
) -> bool:
    """Whether the series' owner permits that ``message`` came: its permission, inside the message.

    1. Signed by the owner, for the agency that sent this.
    2. It permits: this series, this use, this purpose, to us.
    3. Its date had not come when this was sent.

    Raises PolicyRefused when there is one that says something else.
    """
    if envelope is None or not envelope.payload:
        return False
    sent = moment(message.payload.issue_time)
    try:
        # 1
        payload = open_payload(
            envelope,
            directory=node.directory(),
            issuer=series_owner(series),
            audience=Audience(agency=message.peer),
            now=sent,
        )
    except TielineError as error:
        raise PolicyRefused(f"the permission with it does not hold: {error.message}") from error
    body = payload.permission
    # 2
    said = (body.state, body.series, body.action, payload.purpose)
    if said != (RequestState.APPROVED.value, series, use.value, message.payload.purpose):
        raise PolicyRefused("the permission with it is for something else")
    if node.agency not in body.agencies:
        raise PolicyRefused(f"the permission with it does not name {node.agency}")
    # 3
    if moment(body.expire_time) < sent:
        raise PolicyRefused("the permission with it was past its date")
    return True


def hint(node: Node, question: Question, use: Use, series: str, agency: str, case_ref: str) -> str:
    """Return what a refused person can do, where the provider's permission would open it: a command
    that runs as it is, in a POSIX shell."""
    if not node.policy.decide(replace(question, permission=True)).allowed:
        return ""
    to = "" if use in AT_HOME else f" --to {agency}"
    why = f"--purpose {question.purpose} --case {shlex.quote(case_ref)}"
    return f"; ask: tieline requests ask {series} --permission {use.value}{to} {why}"
