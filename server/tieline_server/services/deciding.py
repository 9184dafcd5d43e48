"""Requests as an officer sees them: what waits here or at others, and the decision."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from tieline.v1 import operator_requests_pb2 as pb
from tieline.v1 import requests_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput, NotFound
from tieline_client.identifiers import check_id
from tieline_client.payloads import timestamp

from tieline_server.domain.policy import Disclosure
from tieline_server.domain.ports import Tx
from tieline_server.domain.request import (
    Request,
    RequestedSeries,
    RequestKind,
    RequestState,
    Side,
    Use,
    check_decidable,
    parse_level,
)
from tieline_server.services import releasing, vital_interests
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.permissions import Permissions
from tieline_server.services.telling import Telling


class Requests:
    """Lists, shows and decides requests."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._permissions = Permissions(node)

    def find(self, *, sent: bool, decided: bool) -> list[pb.RequestView]:
        """Return requests, newest first."""
        sides = (Side.OUT,) if sent else (Side.IN, Side.OWN)
        states = () if decided or sent else (RequestState.PENDING, RequestState.ENDED)

        def work(tx: Tx) -> list[pb.RequestView]:
            now = self._node.clock()
            found = tx.requests.find(sides=sides, states=states, limit=limits.REQUESTS_SHOWN)
            if not decided and not sent:
                found = [
                    one
                    for one in found
                    if one.kind is RequestKind.NOTICE or one.standing(now) is RequestState.PENDING
                ]
            return [view(tx, one, now, whole=False) for one in found]

        return self._node.store.read(work)

    def get(self, identifier: str) -> pb.RequestView:
        """Return one with its series. Raises NotFound."""
        check_id(identifier, "request")
        return self._node.store.read(
            lambda tx: view(tx, _known(tx, identifier), self._node.clock(), whole=True)
        )

    def ask_permission(self, person: Person, request: pb.AskPermissionRequest) -> pb.RequestView:
        """Ask a provider for a permission."""
        return self.get(self._permissions.ask(person, request).id)

    def state_vital_interests(
        self, person: Person, request: pb.StateVitalInterestsRequest
    ) -> pb.RequestView:
        """State that a child is in danger, for questions."""
        return self.get(vital_interests.state_for_asking(self._node, person, request).id)

    def decide(self, person: Person, wanted: pb.DecideRequestRequest) -> pb.RequestView:
        """Approve or refuse. Raises NotFound, WrongState, RoleRefused, InvalidInput, PolicyRefused.

        Decision, messages and audit entry are one transaction.
        """
        node = self._node
        check_id(wanted.id, "request")
        request = node.store.read(lambda tx: _known(tx, wanted.id))
        check_decidable(request, person.name, node.clock())
        _check_options(request, wanted)
        if (
            request.kind is RequestKind.VITAL_INTERESTS
            and request.use is Use.REFER
            and wanted.approve
        ):
            Telling(node).confirmed(person, request)
            return self.get(request.id)
        until, reason = self._until(wanted), clean(wanted.reason)

        def work(tx: Tx) -> Request:
            current = _known(tx, wanted.id)
            check_decidable(current, person.name, node.clock())
            return self._decide(tx, person, current, wanted, until, reason)

        decided = node.store.write(work)
        if decided.peer != node.agency:
            node.wake(decided.peer)
        return self.get(decided.id)

    def _decide(
        self,
        tx: Tx,
        person: Person,
        request: Request,
        wanted: pb.DecideRequestRequest,
        until: datetime,
        reason: str,
    ) -> Request:
        node = self._node
        if request.kind is RequestKind.PERMISSION:
            return self._permissions.decide(
                tx, person, request, until=until if wanted.approve else None, reason=reason
            )
        if request.kind is RequestKind.VITAL_INTERESTS:
            if wanted.approve:
                return vital_interests.confirm(node, tx, person, request)
            return vital_interests.reject(node, tx, person, request, reason)
        if not wanted.approve:
            return releasing.refuse(node, tx, person, request, reason)
        return releasing.approve(
            node,
            tx,
            person,
            request,
            level=parse_level(wanted.level, request.level),
            names=list(wanted.series),
            until=until,
        )

    def _until(self, wanted: pb.DecideRequestRequest) -> datetime:
        now = self._node.clock()
        if not wanted.until:
            return now + limits.RELEASE_LIFE
        try:
            day = date.fromisoformat(wanted.until)
        except ValueError:
            raise InvalidInput("--until is a day, as 2030-12-31") from None
        until = datetime.combine(day, time.min, UTC) + timedelta(days=1)
        if not now < until <= now + limits.RELEASE_LIFE_MOST:
            raise InvalidInput(
                f"a decision holds until a day that is to come, at most "
                f"{limits.RELEASE_LIFE_MOST.days} days away"
            )
        return until


def _check_options(request: Request, wanted: pb.DecideRequestRequest) -> None:
    if request.kind is not RequestKind.RELEASE and (wanted.level or wanted.series):
        raise InvalidInput("--level and --series are for releases only")
    if not wanted.approve and (wanted.level or wanted.series or wanted.until):
        raise InvalidInput("a refusal takes --reason only")


def _known(tx: Tx, identifier: str) -> Request:
    request = tx.requests.get(identifier)
    if request is None:
        raise NotFound(f"no request {identifier} here; see `tieline requests list`")
    return request


def view(tx: Tx, request: Request, now: datetime, *, whole: bool) -> pb.RequestView:
    """Return a request as people see it; ``whole``: with its series."""
    shown = pb.RequestView(
        id=request.id,
        kind=request.kind.value,
        direction=request.side.value,
        peer=request.peer,
        state=request.standing(now).value,
        person=request.person,
        purpose=request.purpose,
        case_ref=request.case_ref,
        level=request.level.label if request.level is not Disclosure.NOTHING else "",
        items=request.items,
        action=request.use.value if request.use else "",
        agencies=request.agencies,
        text=request.text,
        decided_by=request.decided_by,
        reason=request.reason,
        create_time=timestamp(request.created),
        expire_time=timestamp(request.expires),
    )
    if request.decided is not None:
        shown.decide_time.CopyFrom(timestamp(request.decided))
    rows = tx.requests.series_of(request.id)
    shown.series.extend(_series_view(tx, one, whole=whole) for one in rows)
    return shown


def _series_view(tx: Tx, row: RequestedSeries, *, whole: bool) -> pb.RequestedSeries:
    shown = pb.RequestedSeries(id=row.series, items=row.items, state=row.state.value)
    if not whole:
        return shown
    known = tx.series.get(row.series) if row.series else None
    if known is not None:
        shown.name = known.name
    if row.entry:
        shown.entry.CopyFrom(requests_pb2.Release.FromString(row.entry).series)
    return shown
