"""What the agency's people see of messages: inbox, outbox, clock."""

from __future__ import annotations

from tieline.v1 import operator_pb2
from tieline_client.errors import InvalidInput, NotFound

from tieline_server.domain.messages import OutState
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction
from tieline_server.domain.standing import Trouble
from tieline_server.services.context import Node
from tieline_server.services.standing import trouble_of
from tieline_server.services.views import (
    destination_view,
    find_series,
    inbox_entry,
    outbox_entry,
    referral_view,
)

_SHOWN = 1_000


class Mailbox:
    """Reads; the steps are taken by Referring and Broadcasting."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def inbox(self) -> list[operator_pb2.InboxEntry]:
        """Referrals and broadcasts that came in, newest first."""

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
            return [entry for _, entry in came[:_SHOWN]]

        return self._node.store.read(work)

    def entry(self, identifier: str) -> operator_pb2.InboxEntry:
        """One of them; raises NotFound."""

        def work(tx: Tx) -> operator_pb2.InboxEntry:
            referral = tx.referrals.get(identifier)
            if referral is not None and referral.direction is Direction.IN:
                return inbox_entry(tx, referral=referral)
            broadcast = tx.broadcasts.get(identifier)
            if broadcast is not None and broadcast.direction is Direction.IN:
                return inbox_entry(tx, broadcast=broadcast)
            raise NotFound(f"nothing of id {identifier[:40]!r} came in; see `tieline inbox`")

        return self._node.store.read(work)

    def is_broadcast(self, identifier: str) -> bool:
        """Whether an id in the inbox is a broadcast's."""
        return self._node.store.read(lambda tx: tx.broadcasts.get(identifier)) is not None

    def outbox(self, state: str) -> operator_pb2.ListOutboxResponse:
        """Messages, newest first, and destinations with their back-off. Raises InvalidInput."""
        try:
            wanted = OutState(state) if state else None
        except ValueError:
            raise InvalidInput(f"{state!r} is not queued, delivered, refused or parked") from None

        def work(tx: Tx) -> operator_pb2.ListOutboxResponse:
            known = tx.standings.peers()
            response = operator_pb2.ListOutboxResponse(
                entries=[outbox_entry(one) for one in tx.outbox.find(state=wanted, limit=_SHOWN)],
                destinations=[destination_view(one) for one in tx.outbox.destinations()],
            )
            for view in response.destinations:
                of = known.get(view.agency)
                if of is not None and of.trouble is not Trouble.NONE:
                    view.last_error = trouble_of(view.agency, of)[:2000]
            return response

        return self._node.store.read(work)

    def clock(self, series: str) -> list[operator_pb2.ReferralView]:
        """Referrals sent and received with their steps, newest first. Raises NotFound."""

        def work(tx: Tx) -> list[operator_pb2.ReferralView]:
            wanted = find_series(tx, series).id if series else ""
            referrals = sorted(
                tx.referrals.find(series=wanted), key=lambda one: (one.created, one.id)
            )
            return [referral_view(tx, one) for one in reversed(referrals)]

        return self._node.store.read(work)
