"""What the agency's people see of messages: inbox, outbox, clock."""

from __future__ import annotations

from tieline.v1 import operator_pb2
from tieline_client.errors import InvalidInput, NotFound
from tieline_client.identifiers import check_agency, check_id

from tieline_server.domain.messages import OutState
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import UNACKNOWLEDGED, Direction, Urgency
from tieline_server.domain.series_life import EventKind
from tieline_server.domain.standing import Trouble
from tieline_server.services.alarms import alarm_view
from tieline_server.services.clock import ReferralClock
from tieline_server.services.context import Node
from tieline_server.services.seen_notices import notice_entry
from tieline_server.services.series_life import event_view
from tieline_server.services.standing_words import trouble_of
from tieline_server.services.views import (
    destination_view,
    inbox_entry,
    outbox_entry,
)

_SHOWN = 1_000


class Mailbox:
    """Reads; the steps are taken by Referring and Broadcasting."""

    def __init__(self, node: Node) -> None:
        self._node, self._clock = node, ReferralClock(node)

    def inbox(self) -> list[operator_pb2.InboxEntry]:
        """Referrals and broadcasts that came in, newest first; above them immediate referrals that
        nobody has acknowledged."""

        def work(tx: Tx) -> list[operator_pb2.InboxEntry]:
            came = [
                *(
                    (one.created, inbox_entry(tx, referral=one))
                    for one in tx.referrals.find(Direction.IN)
                ),
                *(
                    (one.created, inbox_entry(tx, broadcast=one))
                    for one in tx.broadcasts.find(Direction.IN)
                ),
            ]
            came.sort(key=lambda pair: (pair[0], pair[1].id), reverse=True)
            entries = [entry for _, entry in came]
            entries.sort(key=_urgent, reverse=True)  # otherwise in their order
            return entries[:_SHOWN]

        return self._node.store.read(work)

    def news(self) -> list[operator_pb2.RepositoryNews]:
        """What repositories said of series that this agency deposited, newest first."""

        def work(tx: Tx) -> list[operator_pb2.RepositoryNews]:
            found = []
            for event in tx.history.latest(EventKind.REPOSITORY, _SHOWN):
                series = tx.series.get(event.series)
                name = series.name if series is not None else ""
                line = event_view(event)
                found.append(
                    operator_pb2.RepositoryNews(series=event.series, name=name, event=line)
                )
            return found

        return self._node.store.read(work)

    def entry(self, identifier: str) -> operator_pb2.InboxEntry:
        """One of them, or the notice of that reference; raises NotFound."""

        def work(tx: Tx) -> operator_pb2.InboxEntry:
            referral = tx.referrals.get(identifier)
            if referral is not None and referral.direction is Direction.IN:
                entry = inbox_entry(tx, referral=referral)
                entry.referral.CopyFrom(self._clock.timed(tx, referral))
                return entry
            broadcast = tx.broadcasts.get(identifier)
            if broadcast is not None and broadcast.direction is Direction.IN:
                entry = inbox_entry(tx, broadcast=broadcast)
                entry.alarms.extend(map(alarm_view, tx.alarms.about(identifier)))
                return entry
            if (notice := notice_entry(tx, identifier)) is not None:
                return notice
            raise NotFound(f"nothing of id {identifier[:40]!r} came in; see `tieline inbox`")

        return self._node.store.read(work)

    def is_broadcast(self, identifier: str) -> bool:
        """Whether an id in the inbox is a broadcast's."""
        return self._node.store.read(lambda tx: tx.broadcasts.get(identifier)) is not None

    def outbox(self, request: operator_pb2.ListOutboxRequest) -> operator_pb2.ListOutboxResponse:
        """A page of messages, newest first, and how far destinations are. Raises InvalidInput."""
        state = request.state
        try:
            wanted = OutState(state) if state else None
        except ValueError:
            states = ", ".join(one.value for one in OutState)
            raise InvalidInput(f"{state!r} is none of {states}") from None
        before = _place(request.page_token) if request.page_token else None
        size = min(request.page_size or _SHOWN, _SHOWN)
        now = self._node.clock()

        def work(tx: Tx) -> operator_pb2.ListOutboxResponse:
            found = list(tx.outbox.find(state=wanted, limit=size + 1, before=before))
            response = operator_pb2.ListOutboxResponse(
                entries=[outbox_entry(one) for one in found[:size]],
                destinations=[destination_view(one, now) for one in tx.outbox.destinations()],
            )
            if len(found) > size:
                last = found[size - 1]
                response.next_page_token = f"{last.id}/{last.recipient}"
            known = tx.standings.peers()
            for view in response.destinations:
                of = known.get(view.agency)
                if of is not None and of.trouble is not Trouble.NONE:
                    view.last_error = trouble_of(of)[:2000]
            return response

        return self._node.store.read(work)

    def clock(self, series: str) -> list[operator_pb2.ReferralView]:
        """Referrals sent and received with their steps, newest first. Raises NotFound."""
        return self._clock.referrals(series)


def _place(token: str) -> tuple[str, str]:
    message, cut, recipient = token.partition("/")
    if not cut:
        raise InvalidInput("the page token is none of this node's; begin with the first page")
    return check_id(message), check_agency(recipient)


def _urgent(entry: operator_pb2.InboxEntry) -> bool:
    """Whether it is an immediate referral that nobody has acknowledged."""
    told = entry.referral
    waits = told.state in {state.value for state in UNACKNOWLEDGED}
    return entry.kind == "referral" and told.urgency == int(Urgency.IMMEDIATE) and waits
