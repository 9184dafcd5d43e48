"""What peers may ask of this node in a day: reserved in storage before anything is looked up.

A question's life here: `charge` takes its units before the look-up, `settled` counts what came of
it, and where it did not go as announced `refund`, `spoil` or `keep` says what becomes of its id.

Units are reserved in storage by conditional updates, in the shared database, so that no number of
processes goes over a budget by one unit. Most questions are small and need no commit for that:
units are reserved a block ahead (`domain.budget.block_of`), and a question takes its own from the
block in memory. What a process that ends without a word had reserved counts as spent.

A request id is charged once. It is known from memory, else from storage: there it stands since the
reservation where one was made for it, else since the question ended, or broke off. Whoever sends a
known id with its own header again pays nothing, and is told hits only once the whole list has
proved to be the announced one (answering.py), and to begin with what was answered in part before
its first call broke off: that is known in memory, and in storage such an id is spoilt. An id that
came with another list is spoilt.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import NamedTuple

from tieline.v1 import exchange_pb2
from tieline_client import limits
from tieline_client.errors import BudgetExceeded, RequestIdReused, TielineError
from tieline_client.payloads import timestamp

from tieline_server.domain.alarm import Alarm, AlarmKind
from tieline_server.domain.budget import (
    ALL,
    Budgets,
    Spent,
    block_of,
    day_of,
    resets_at,
    warns,
)
from tieline_server.domain.ports import Clock, Record, Store, Tx

SPOILT = b""
"""In place of the digest of a header: no header fits."""


class Beginning(NamedTuple):
    """The first ``size`` bytes of an asked list, by their SHA-256."""

    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Charge:
    """What one question was charged. ``spent`` is what the peer has reserved of the day, this
    question included; ``repeat``: its id was charged before, and nothing is now."""

    peer: str
    purpose: str
    request: str
    header_digest: bytes
    day: str
    units: int
    spent: int
    budget: int
    repeat: bool = False
    stored: bool = False
    """Whether its id stands in storage."""
    told: Beginning | None = None
    """The part of its list that was answered before it broke off."""


@dataclass(slots=True)
class _Account:
    """A peer's day as this process knows it."""

    day: str = ""
    total: int = 0
    budget: int = 0
    blocks: dict[str, int] = field(default_factory=dict)
    """Units reserved and not used, by purpose."""
    known: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    """Request ids with the digest of their header."""
    told: dict[str, Beginning] = field(default_factory=dict)
    """Of request ids the part of the list that was here when some of the answer left."""
    repeated: set[str] = field(default_factory=set)
    """Request ids that came again."""
    asked: int = 0
    hits: int = 0
    alarmed: set[AlarmKind] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def turn(self, day: str) -> None:
        """Begin another day; what was reserved of the one before stays spent."""
        if day != self.day:
            self.day, self.total, self.asked, self.hits = day, 0, 0, 0
            self.blocks.clear()
            self.alarmed.clear()

    def remember(self, request: str, header_digest: bytes) -> None:
        self.known[request] = header_digest
        if len(self.known) > limits.REQUESTS_REMEMBERED:
            oldest, _ = self.known.popitem(last=False)
            self.told.pop(oldest, None)
            self.repeated.discard(oldest)

    def ahead(self) -> int:
        """Units that are reserved and not used."""
        return sum(self.blocks.values())


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a reservation: the peer's day, or None where there was no room."""

    spent: Spent | None
    budget: int
    cap: int
    reserved: int = 0
    given_back: bool = False
    known: bytes | None = None
    used: int = 0
    narrow: bool = False


class Budgeting:
    """The budgets of all peers at one node. Thread-safe; a peer's questions wait for one another,
    nobody else's."""

    def __init__(
        self,
        agency: str,
        store: Store,
        clock: Clock,
        configured: Budgets,
        alarmed: Callable[[], None],
    ) -> None:
        self._agency, self._store, self._clock = agency, store, clock
        self.configured, self._alarmed = configured, alarmed
        self._accounts: dict[str, _Account] = {}
        self._lock = threading.Lock()

    def charge(
        self, peer: str, purpose: str, request: str, header_digest: bytes, units: int
    ) -> Charge:
        """Take a question's units, durably reserved, or nothing where its id is known.

        Raises BudgetExceeded, RequestIdReused, StorageUnavailable.
        """
        account = self._account(peer)
        with account.lock:
            day = day_of(self._clock())
            account.turn(day)
            known = account.known.get(request)
            stored = known is None and units > account.blocks.get(purpose, 0)
            if stored:
                known = self._reserve(account, peer, purpose, request, header_digest, units)
            elif known is None:
                account.blocks[purpose] = account.blocks.get(purpose, 0) - units
            account.remember(request, header_digest if known is None else known)
            if known is not None and known != header_digest:
                raise reused(request)
            if known is not None:
                account.repeated.add(request)
            told = account.told.get(request)
            return Charge(
                *(peer, purpose, request, header_digest, day, units if known is None else 0),
                *(account.total, account.budget, known is not None, stored or told is not None),
                told,
            )

    def tells(self, charge: Charge, so_far: Beginning) -> bool:
        """Whether some of an answer may leave when ``so_far`` of its list is here: from then on the
        id is good only for a list that begins so. No, once it came again."""
        account = self._account(charge.peer)
        with account.lock:
            if charge.request in account.repeated:
                return False
            if charge.request in account.known:  # which goes with it
                account.told[charge.request] = so_far
            return True

    def left(self, peer: str) -> int:
        """Return how many units of today's budget this process knows to be left."""
        account = self._account(peer)
        with account.lock:
            return max(account.budget - account.total + account.ahead(), 0)

    def word(self, charge: Charge, now: datetime) -> exchange_pb2.BudgetLeft:
        """Return what the asker is told."""
        return exchange_pb2.BudgetLeft(
            left=self.left(charge.peer), budget=charge.budget, reset_time=timestamp(resets_at(now))
        )

    def refund(self, charge: Charge, *, forget: bool = False) -> None:
        """Give a question's units back: it was charged before, or nothing was looked up.

        ``forget``: its id may come again as if it had not been seen.
        """
        if charge.repeat:
            return
        account = self._account(charge.peer)
        with account.lock:
            if forget:
                account.known.pop(charge.request, None)
            again = account.day == charge.day and charge.units <= limits.BUDGET_BLOCK_UNITS
            if again:
                ahead = account.blocks.get(charge.purpose, 0)
                account.blocks[charge.purpose] = ahead + charge.units
            elif account.day == charge.day:
                account.total -= charge.units

        def work(tx: Record) -> None:
            if not again:
                tx.budgets.give_back(charge.day, charge.peer, charge.purpose, charge.units)
            if forget and charge.stored:
                tx.queries.forget(charge.peer, charge.request)

        if not again or (forget and charge.stored):
            self._store.note(work)

    def spoil(self, charge: Charge) -> None:
        """The list was not the announced one: the id is used up, and stays charged."""
        account = self._account(charge.peer)
        with account.lock:
            account.remember(charge.request, SPOILT)
        with contextlib.suppress(TielineError):
            self._store.note(
                lambda tx: tx.queries.spoil(charge.peer, charge.request, self._clock())
            )

    def told_in_part(self, charge: Charge, told: Beginning) -> None:
        """The call broke off when some of the answer had left: the id stays charged, and good at
        this process for a list that begins with ``told``."""
        account = self._account(charge.peer)
        with account.lock:
            if charge.request in account.known:  # which goes with it
                account.told[charge.request] = told
        with contextlib.suppress(TielineError):
            self._store.note(
                lambda tx: tx.queries.spoil(charge.peer, charge.request, self._clock())
            )

    def keep(self, charge: Charge) -> None:
        """The call broke off: the id stays charged, at every process and after a restart."""
        with contextlib.suppress(TielineError):  # then it is charged again: never too little
            self._store.note(
                lambda tx: tx.queries.reserve(
                    charge.request, charge.peer, charge.header_digest, self._clock()
                )
            )

    def settled(self, charge: Charge, records: int, hits: int) -> Spent | None:
        """Count a question that was answered.

        Returns the peer's day where it was brought up to date in storage.
        """
        account = self._account(charge.peer)
        with account.lock:
            if charge.repeat or account.day != charge.day:
                return None
            account.asked += records
            account.hits += hits
            if account.asked < limits.BUDGET_BLOCK_UNITS:
                return None
            asked, told, account.asked, account.hits = account.asked, account.hits, 0, 0
        return self._store.note(lambda tx: tx.budgets.tally(charge.day, charge.peer, asked, told))

    def drop_blocks(self, peer: str) -> None:
        """Give back what is reserved ahead: a budget was changed, or the node stops."""
        account = self._account(peer)
        with account.lock:
            blocks, account.blocks = account.blocks, {}
            if not any(blocks.values()):
                return

            def work(tx: Record) -> None:
                for purpose, units in blocks.items():
                    tx.budgets.give_back(account.day, peer, purpose, units)

            self._store.note(work)
            account.total -= sum(blocks.values())

    def ahead(self, peer: str, day: str) -> dict[str, int]:
        """Return the units of a day that this process has reserved and not used, by purpose."""
        account = self._account(peer)
        with account.lock:
            return dict(account.blocks) if account.day == day else {}

    def close(self) -> None:
        """Give back all that is reserved ahead, as far as storage is there."""
        for peer in list(self._accounts):
            with contextlib.suppress(TielineError):
                self.drop_blocks(peer)

    # --- storage ---

    def _account(self, peer: str) -> _Account:
        found = self._accounts.get(peer)
        if found is None:
            with self._lock:
                found = self._accounts.setdefault(peer, _Account())
        return found

    def _reserve(
        self,
        account: _Account,
        peer: str,
        purpose: str,
        request: str,
        header_digest: bytes,
        units: int,
    ) -> bytes | None:
        """Reserve in storage; return the digest of the header that the id is known with, if any.

        Raises BudgetExceeded.
        """
        now, blocks = self._clock(), dict(account.blocks)

        def work(tx: Record) -> _Outcome:
            return self._reserving(
                tx, account.day, peer, purpose, request, header_digest, units, blocks
            )

        outcome = self._store.note(work)
        account.budget = outcome.budget
        if outcome.known is not None:
            account.total = outcome.used
            return outcome.known
        if outcome.given_back:
            account.blocks.clear()
        if outcome.spent is None:
            account.total = outcome.used
            self._alarm(account, AlarmKind.BUDGET_SPENT, peer)
            raise _exceeded(
                *(self._agency, peer, units, outcome, purpose if outcome.narrow else ALL),
                resets_at(now).isoformat(),
                (resets_at(now) - now).total_seconds(),
            )
        account.total = outcome.spent.units
        account.blocks[purpose] = account.blocks.get(purpose, 0) + outcome.reserved - units
        if warns(account.total - outcome.reserved, account.total, account.budget):
            self._alarm(account, AlarmKind.BUDGET_LOW, peer)
        return None

    def _reserving(
        self,
        tx: Record,
        day: str,
        peer: str,
        purpose: str,
        request: str,
        header_digest: bytes,
        units: int,
        blocks: dict[str, int],
    ) -> _Outcome:
        """1. Is the id known? 2. What may this peer ask? 3. A block ahead, else what is asked,
        else that once what this process holds ahead is given back. 4. The id is taken."""
        known = tx.queries.header_digest(peer, request)  # 1
        stated = tx.budgets.stated(peer)  # 2
        budget, _ = self.configured.of(peer, ALL, stated.get((peer, ALL)))
        cap, _ = self.configured.of(peer, purpose, stated.get((peer, purpose)))
        before = {one.purpose: one.units for one in tx.budgets.spent(day, peer)}
        if known is not None:
            return _Outcome(None, budget, cap, known=known, used=before.get(ALL, 0))
        if not before:
            kept = date.fromisoformat(day) - timedelta(days=limits.BUDGET_DAYS_KEPT)
            tx.budgets.forget(kept.isoformat())
        left = min(budget - before.get(ALL, 0), cap - before.get(purpose, 0))
        ways = dict.fromkeys((units + block_of(left), units))  # 3
        given_back = False
        spent = None
        for more in (*ways, 0):
            if not more:
                given_back = bool(sum(blocks.values()))
                if not given_back:
                    break
                for one, ahead in blocks.items():
                    tx.budgets.give_back(day, peer, one, ahead)
            reserved = more or units
            spent = tx.budgets.reserve(day, peer, purpose, reserved, budget=budget, cap=cap)
            if spent is not None:
                break
        if spent is None:
            now = {one.purpose: one.units for one in tx.budgets.spent(day, peer)}
            narrow = budget - now.get(ALL, 0) >= units
            used = now.get(ALL, 0)
            return _Outcome(None, budget, cap, 0, given_back, used=used, narrow=narrow)
        tx.queries.reserve(request, peer, header_digest, self._clock())  # 4
        return _Outcome(spent, budget, cap, reserved, given_back)

    def _alarm(self, account: _Account, kind: AlarmKind, peer: str) -> None:
        """Set an alarm once a day; the node's own people see it (alarms.py)."""
        if kind in account.alarmed:
            return
        alarm = Alarm(
            id=f"{peer}/{account.day}/{kind.value}",
            kind=kind,
            referral="",
            series="",
            sender=peer,
            recipient=self._agency,
            due=self._clock(),
        )

        def work(tx: Tx) -> bool:
            return tx.alarms.set(alarm)

        if self._store.write(work):
            self._alarmed()
        account.alarmed.add(kind)


def reused(request: str) -> RequestIdReused:
    return RequestIdReused(
        f"request id {request[:64]} was used with another header or list; take a new id"
    )


def _exceeded(
    agency: str,
    peer: str,
    units: int,
    outcome: _Outcome,
    purpose: str,
    resets: str,
    seconds: float,
) -> BudgetExceeded:
    most = outcome.cap if purpose else outcome.budget
    what = f"{peer}'s budget at {agency} for today" + (f" and {purpose}" if purpose else "")
    return BudgetExceeded(
        f"{what} has no {units} units left, of {most}; ask again from {resets} on, ask for less, "
        f"or have {agency} raise it",
        budget=str(outcome.budget),
        left=str(max(outcome.budget - outcome.used, 0)),
        resets=resets,
        retry_after=f"{seconds:.0f}",
    )
