"""What people see of budgets, and an admin's word on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tieline.v1 import budget_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput
from tieline_client.payloads import timestamp

from tieline_server.domain.budget import ALL, Spent, day_of, resets_at
from tieline_server.domain.ports import Tx
from tieline_server.services.budgets_heard import used_up
from tieline_server.services.context import Node, Person

_Stated = dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class BudgetDesk:
    """Lists and sets."""

    node: Node

    def find(self) -> budget_pb2.ListBudgetsResponse:
        """Every member, who asked today, and who has a budget of its own."""
        node, now = self.node, self.node.clock()
        day = day_of(now)
        spent, stated = node.store.read(lambda tx: (tx.budgets.spent(day), tx.budgets.stated()))
        members = (one.agency for one in node.directory().active_members())
        known = {*members, *(one.peer for one in spent), *(peer for peer, _ in stated)}
        return budget_pb2.ListBudgetsResponse(
            peers=[
                self._view(peer, day, [one for one in spent if one.peer == peer], stated)
                for peer in sorted(known - {node.agency})
            ],
            own=node.budgets_heard.views(now),
            reset_time=timestamp(resets_at(now)),
        )

    def set(
        self, admin: Person, agency: str, purpose: str, units: int | None
    ) -> budget_pb2.BudgetView:
        """Set a peer's budget, or its cap for one purpose; None: as configured again, without a
        purpose the caps of all of them too.

        Raises InvalidInput, UnknownAgency.
        """
        node = self.node
        if agency == node.agency:
            raise InvalidInput(f"{agency} is this node; it has no budget at itself")
        node.directory().member(agency)
        if purpose:
            node.directory().purpose(purpose)
        if units is not None and units > limits.POLICY_NUMBER_MOST:
            raise InvalidInput(f"a budget is at most {limits.POLICY_NUMBER_MOST} units a day")

        def work(tx: Tx) -> None:
            caps: list[str] = []
            if units is None and not purpose:
                caps = sorted(cap for _, cap in tx.budgets.stated(agency) if cap)
            for each in (purpose, *caps):
                tx.budgets.state(agency, each, units)
            more: dict[str, Any] = {"caps_dropped": caps} if caps else {}
            tx.audit.append(
                node.entry(
                    "budget.set",
                    person=admin.name,
                    peer=agency,
                    for_purpose=purpose,
                    units=units,
                    **more,
                )
            )

        node.store.write(work)
        node.budgets.drop_blocks(agency)
        (view,) = (one for one in self.find().peers if one.agency == agency)
        return view

    def warnings(self) -> Iterator[str]:
        """Say which peers have used 80 % of their day, and where this agency has."""
        for one in self.find().peers:
            if one.spent and used_up(one.left, one.budget):
                yield f"{one.agency} has used {one.spent} of its {one.budget} units of today"
        yield from self.node.budgets_heard.warnings(self.node.clock())

    def _view(
        self, peer: str, day: str, spent: Sequence[Spent], stated: _Stated
    ) -> budget_pb2.BudgetView:
        budgets = self.node.budgets
        ahead = budgets.ahead(peer, day)
        budget, by = budgets.configured.of(peer, ALL, stated.get((peer, ALL)))
        used = {one.purpose: one.units - ahead.get(one.purpose, 0) for one in spent}
        total = max(used.pop(ALL, 0) - sum(ahead.values()), 0)
        view = budget_pb2.BudgetView(
            agency=peer,
            budget=budget,
            spent=total,
            left=max(budget - total, 0),
            stated_by=by.value,
        )
        capped = {purpose for one, purpose in stated if one == peer and purpose}
        for purpose in sorted({*used, *capped, *budgets.configured.purposes}):
            cap, _ = budgets.configured.of(peer, purpose, stated.get((peer, purpose)))
            entry = view.purposes.add(purpose=purpose, spent=max(used.get(purpose, 0), 0))
            if cap < limits.POLICY_NUMBER_MOST:
                entry.budget = cap
        return view
