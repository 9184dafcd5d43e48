"""What peers have asked of their budgets: conditional updates, so that nobody ever goes over."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, select, update
from tieline_client import limits

from tieline_server.domain.budget import ALL, Spent
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema import budget_days, budgets
from tieline_server.storage.session import Session

_C = budget_days.c
_ROW = (
    _C.day == bindparam("on_day"),
    _C.peer == bindparam("of_peer"),
    _C.purpose == bindparam("for_purpose"),
)
_ADD = Prepared(
    lambda _: (
        update(budget_days)
        .where(*_ROW, _C.units + bindparam("more") <= bindparam("most"))
        .values(
            units=_C.units + bindparam("more"),
            asked=_C.asked + bindparam("more_asked"),
            hits=_C.hits + bindparam("more_hits"),
        )
        .returning(_C.units, _C.asked, _C.hits)
    )
)
_COUNTED = ("units", "asked", "hits")
_TAKE_OFF = Prepared(
    lambda _: (
        update(budget_days)
        .where(*_ROW, _C.units >= bindparam("less"))
        .values(units=_C.units - bindparam("less"))
        .returning(_C.units)
    )
)


class BudgetRows:
    """`BudgetRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def reserve(
        self, day: str, peer: str, purpose: str, units: int, *, budget: int, cap: int
    ) -> Spent | None:
        """Add to both rows, or to neither; the day's first, so that two never wait crosswise."""
        total = self._add(day, peer, ALL, units=units, most=budget)
        if total is None:
            return None
        if self._add(day, peer, purpose, units=units, most=cap) is None:
            self._take_off(day, peer, ALL, units)
            return None
        return total

    def tally(self, day: str, peer: str, asked: int, hits: int) -> Spent | None:
        """Count; beyond every budget, as nothing is reserved."""
        most = limits.POLICY_NUMBER_MOST
        return self._add(day, peer, ALL, units=0, most=most, asked=asked, hits=hits)

    def give_back(self, day: str, peer: str, purpose: str, units: int) -> None:
        """Take off again; of rows that are forgotten nothing is."""
        self._take_off(day, peer, ALL, units)
        self._take_off(day, peer, purpose, units)

    def spent(self, day: str, peer: str = "") -> list[Spent]:
        """Return the rows of a day."""
        found = select(_C.peer, _C.purpose, _C.units, _C.asked, _C.hits).where(_C.day == day)
        if peer:
            found = found.where(_C.peer == peer)
        return [Spent(*row) for row in self._run(found.order_by(_C.peer, _C.purpose))]

    def forget(self, before: str) -> None:
        """Drop days."""
        self._run(delete(budget_days).where(_C.day < before))

    def stated(self, peer: str = "") -> dict[tuple[str, str], int]:
        """Return what admins set."""
        found = select(budgets)
        if peer:
            found = found.where(budgets.c.peer == peer)
        return {(row.peer, row.purpose): row.units for row in self._run(found)}

    def state(self, peer: str, purpose: str, units: int | None) -> None:
        """Set or drop."""
        if units is None:
            mine = (budgets.c.peer == peer, budgets.c.purpose == purpose)
            self._run(delete(budgets).where(*mine))
        else:
            self._session.put(budgets, {"peer": peer, "purpose": purpose, "units": units})

    def _add(
        self,
        *key: str,
        units: int,
        most: int,
        asked: int = 0,
        hits: int = 0,
    ) -> Spent | None:
        """Return what the row holds then; None where that would be over ``most``."""
        day, peer, purpose = key
        values = {
            **_row(day, peer, purpose),
            **{"more": units, "most": most, "more_asked": asked, "more_hits": hits},
        }
        row = _ADD.run(self._session, values).fetchone()
        if row is None:  # there is no such row, or no room in it
            fresh = {"day": day, "peer": peer, "purpose": purpose}
            self._session.insert_new(budget_days, fresh | dict.fromkeys(_COUNTED, 0))
            row = _ADD.run(self._session, values).fetchone()
        return None if row is None else Spent(peer, purpose, *map(int, row))

    def _take_off(self, day: str, peer: str, purpose: str, units: int) -> None:
        _TAKE_OFF.run(self._session, {**_row(day, peer, purpose), "less": units})


def _row(day: str, peer: str, purpose: str) -> dict[str, object]:
    return {"on_day": day, "of_peer": peer, "for_purpose": purpose}
