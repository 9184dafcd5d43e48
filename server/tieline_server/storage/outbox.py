"""The outbox, and where each destination stands.

Every look takes an index, whatever the number of rows: what is due by lane and sequence, what is
put off by time, what is listed by id (ids are UUIDv7, so their order is that of time).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, case, func, insert, literal, literal_column, select, update
from sqlalchemy import tuple_ as row_of
from tieline_client.errors import NotFound

from tieline_server.domain.messages import Destination, LaneQueue, OutMessage, OutState, Settled
from tieline_server.domain.referral import Urgency
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema import destinations, outbox, outbox_tallies
from tieline_server.storage.session import Session
from tieline_server.storage.types import UtcTime, moment_of

_C, _T = outbox.c, outbox_tallies.c
# Spelled out, not bound: only so are the partial indexes known to serve.
_QUEUED = _C.state == literal_column(f"'{OutState.QUEUED.value}'")
_DUE = (_QUEUED, _C.held_until.is_(None))
_WAITING = select(outbox_tallies).where(_T.queued > 0)
_LISTED = [column for column in outbox.columns if column is not _C.envelope]
_NAMES = tuple(column.name for column in outbox.columns)

_INSERT = Prepared(lambda _: insert(outbox).values({name: bindparam(name) for name in _NAMES}))
_READ_DUE = Prepared(
    lambda _: (
        select(outbox)
        .where(_C.recipient == bindparam("recipient"), *_DUE)
        .order_by(_C.lane, _C.sequence)
        .limit(bindparam("most"))
    )
)
_MOST_URGENT = Prepared(
    lambda _: (
        select(_C.lane)
        .where(_C.recipient == bindparam("recipient"), *_DUE)
        .order_by(_C.lane, _C.sequence)
        .limit(1)
    )
)
_HELD = Prepared(
    lambda _: (
        select(_C.held_until)
        .where(_C.recipient == bindparam("recipient"), _C.held_until.is_not(None))
        .order_by(_C.held_until)
        .limit(1)
    )
)
_WITH_MAIL = Prepared(
    lambda _: select(_T.recipient).where(_T.queued > 0).distinct().order_by(_T.recipient)
)
_CAUGHT_UP = Prepared(
    lambda _: (
        update(destinations)
        .where(destinations.c.agency == bindparam("recipient"))
        .values(attempts=0, next_attempt=None, last_error="", busy_since=None, delivered=0)
    )
)
_SETTLE = Prepared(
    lambda _: (
        update(outbox)
        .where(_C.id == bindparam("message"), _C.recipient == bindparam("to"))
        .values(
            state=bindparam("new_state"),
            settled=bindparam("at"),
            held_until=None,
            reason=bindparam("why"),
            attempts=_C.attempts + 1,
        )
    )
)


class Outbox:
    """`OutboxRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    # --- in ---

    def add(self, message: OutMessage) -> OutMessage:
        """Queue a message; return it with its sequence. Raises AlreadyStored."""
        lane = f"outbox/{message.recipient}/{int(message.lane)}"
        queued = replace(message, sequence=self._session.next(lane))
        row = {name: getattr(queued, name) for name in _NAMES}
        row |= {"lane": int(queued.lane), "state": queued.state.value}
        _INSERT.run(self._session, row)
        return queued

    def add_for(self, message: OutMessage, recipients: Iterable[str]) -> None:
        """Queue one message for each of several recipients. Raises AlreadyStored."""
        row = {name: getattr(message, name) for name in _NAMES}
        row |= {"lane": int(message.lane), "state": message.state.value}
        for recipient in recipients:
            place = self._session.next(f"outbox/{recipient}/{int(message.lane)}")
            _INSERT.run(self._session, row | {"recipient": recipient, "sequence": place})

    # --- what is due ---

    def due(self, recipient: str, limit: int, most_bytes: int = 1 << 62) -> list[OutMessage]:
        """Return queued messages: lanes by urgency, then sequence; no more once so many bytes of
        envelopes are reached, but at least one."""
        found: list[OutMessage] = []
        size = 0
        for row in _READ_DUE.run(self._session, {"recipient": recipient, "most": limit}):
            message = _plain(row)
            size += len(message.envelope)
            if found and size > most_bytes:
                break
            found.append(message)
        return found

    def queued(self, recipient: str, messages: Collection[str]) -> set[str]:
        """Return those of these messages that are still to be delivered."""
        found = select(_C.id).where(_C.recipient == recipient, _C.id.in_(list(messages)), _QUEUED)
        return set(self._session.connection.scalars(found))

    def most_urgent(self, recipient: str) -> Urgency | None:
        """Return the lane of the message that is due first."""
        found = _MOST_URGENT.run(self._session, {"recipient": recipient}).fetchone()
        return None if found is None else Urgency(found[0])

    def behind(
        self, recipient: str, subjects: Collection[str], *, passing: Collection[str] = ()
    ) -> dict[str, tuple[OutState, datetime | None]]:
        """Return which of these subjects have a message that is parked, or put off and until when:
        those behind it wait with it, but not behind one of the kinds ``passing``."""
        found = select(_C.subject, _C.state, _C.held_until).where(
            _C.subject.in_(list(subjects)),
            _C.recipient == recipient,
            (_C.state == OutState.PARKED.value) | (_QUEUED & _C.held_until.is_not(None)),
        )
        if passing:
            found = found.where(_C.kind.not_in(sorted(passing)))
        waiting: dict[str, tuple[OutState, datetime | None]] = {}
        for subject, state, until in self._run(found):
            known = waiting.get(subject)
            if known is None or known[0] is not OutState.PARKED:
                waiting[subject] = (OutState(state), until)
        return waiting

    # --- what became of it ---

    def settle(
        self, recipient: str, message: str, state: OutState, at: datetime, reason: str = ""
    ) -> None:
        """Say what came of a message, counting an attempt; QUEUED puts it back. Raises NotFound."""
        self.settle_all(recipient, [Settled(message, state, reason)], at)

    def settle_all(self, recipient: str, settled: Iterable[Settled], at: datetime) -> None:
        """Say what came of several; as `settle`."""
        for one in settled:
            values = {
                "message": one.message,
                "to": recipient,
                "new_state": one.state.value,
                "at": None if one.state is OutState.QUEUED else at,
                "why": one.reason,
            }
            if not _SETTLE.run(self._session, values).rowcount:
                raise NotFound(
                    f"message {one.message[:80]} does not exist; copy the id from its list"
                )

    def hold(
        self, recipient: str, message: str, until: datetime, reason: str, *, tried: bool = True
    ) -> None:
        """Put a queued message off, counting an attempt where it was ``tried``."""
        values = {"held_until": until, "reason": reason, "attempts": _C.attempts + int(tried)}
        key = (_C.id == message, _C.recipient == recipient, _QUEUED)
        self._run(update(outbox).where(*key).values(**values))

    def renew(self, recipient: str, message: str, envelope: bytes) -> bool:
        """Put another signature in the place of the one before; False when it is not queued."""
        key = (_C.id == message, _C.recipient == recipient, _QUEUED)
        return bool(self._run(update(outbox).where(*key).values(envelope=envelope)).rowcount)

    def held(self, recipient: str) -> datetime | None:
        """Return until when the first message that is put off waits."""
        found = _HELD.run(self._session, {"recipient": recipient}).fetchone()
        return None if found is None else moment_of(found[0])

    def release(self, recipient: str, until: datetime) -> None:
        """Let go what was put off until then, or before."""
        key = (_C.recipient == recipient, _C.held_until.is_not(None), _C.held_until <= until)
        self._run(update(outbox).where(*key).values(held_until=None))

    # --- looking ---

    def get(self, recipient: str, message: str) -> OutMessage | None:
        """Return a message; in a writing transaction it stays as it is until the end."""
        key = (_C.id == message, _C.recipient == recipient)
        row = self._run(self._session.locked(select(outbox).where(*key))).one_or_none()
        return None if row is None else _out(row)

    def find(
        self,
        *,
        state: OutState | None = None,
        limit: int = 1000,
        before: tuple[str, str] | None = None,
    ) -> list[OutMessage]:
        """Return messages without their envelopes, newest first, below a place (id, recipient)."""
        found = select(*_LISTED).order_by(_C.id.desc(), _C.recipient.desc()).limit(limit)
        if state is not None:
            found = found.where(_C.state == literal_column(f"'{state.value}'"))
        if before is not None:
            found = found.where(row_of(_C.id, _C.recipient) < row_of(*before))
        return [_out(row) for row in self._run(found)]

    def of_subject(self, subject: str) -> list[OutMessage]:
        """Return the messages of a referral, upload or broadcast, oldest first."""
        found = select(outbox).where(_C.subject == subject)
        return [_out(row) for row in self._run(found.order_by(_C.created, _C.id))]

    # --- destinations ---

    def destinations(self) -> list[Destination]:
        """Return every recipient with queued messages, a back-off, or who is caught up, by name."""
        lanes: dict[str, dict[Urgency, LaneQueue]] = {}
        for agency, lane, queued, put_off in self._run(_WAITING):
            oldest = self._oldest(agency, lane, due=queued > put_off, held=put_off > 0)
            lanes.setdefault(agency, {})[Urgency(lane)] = LaneQueue(queued, put_off, oldest)
        rows = {row.agency: row for row in self._run(select(destinations))}
        return [
            _destination(agency, lanes.get(agency, {}), rows.get(agency))
            for agency in sorted(lanes.keys() | {a for a, row in rows.items() if _waits(row)})
        ]

    def _oldest(self, agency: str, lane: int, *, due: bool, held: bool) -> datetime | None:
        """Return when a lane's first message was queued; of those put off, the first due."""
        first = select(_C.created).where(_C.recipient == agency, _C.lane == lane).limit(1)
        looks = []
        if due:
            looks.append(first.where(*_DUE).order_by(_C.sequence))
        if held:  # only what is queued is ever put off
            looks.append(first.where(_C.held_until.is_not(None)).order_by(_C.held_until))
        found = [self._session.connection.scalar(look) for look in looks]
        return min(filter(None, found), default=None)

    def waiting(self) -> list[str]:
        """Return every recipient with queued messages."""
        return [row[0] for row in _WITH_MAIL.run(self._session, {})]

    def destination(self, recipient: str) -> Destination:
        """Return what is remembered of one recipient, without counting what is queued."""
        row = self._run(select(destinations).where(destinations.c.agency == recipient)).first()
        return _destination(recipient, {}, row)

    def back_off(self, recipient: str, attempts: int, until: datetime, error: str) -> None:
        """Remember when to try a recipient again, and why."""
        self._remember(recipient, attempts=attempts, next_attempt=until, last_error=error)

    def clear_back_off(self, recipient: str) -> None:
        """Forget a recipient's back-off."""
        self._remember(recipient, attempts=0, next_attempt=None, last_error="")

    def progressed(self, recipient: str, count: int, at: datetime) -> None:
        """Count messages that were settled since the queue began to move at ``at`` or before; it
        was reached, so its back-off is over."""
        statement = self._session.upsert(destinations).values(
            agency=recipient, attempts=0, last_error="", busy_since=at, delivered=count
        )
        c = destinations.c
        self._run(
            statement.on_conflict_do_update(
                index_elements=["agency"],
                set_={
                    "attempts": 0,
                    "next_attempt": None,
                    "last_error": "",
                    "busy_since": func.coalesce(c.busy_since, literal(at, UtcTime)),
                    "delivered": case((c.busy_since.is_(None), 0), else_=c.delivered) + count,
                },
            )
        )

    def caught_up(self, recipient: str) -> None:
        """Say that a recipient was reached and its queue is empty."""
        _CAUGHT_UP.run(self._session, {"recipient": recipient})

    def _remember(self, recipient: str, **values: object) -> None:
        statement = self._session.upsert(destinations).values(agency=recipient, **values)
        self._run(statement.on_conflict_do_update(index_elements=["agency"], set_=values))


def _waits(row: Row[Any]) -> bool:
    return bool(row.attempts or row.next_attempt or row.busy_since)


def _destination(agency: str, lanes: dict[Urgency, LaneQueue], row: Row[Any] | None) -> Destination:
    known = {} if row is None else dict(row._mapping)
    return Destination(**{"agency": agency} | known, lanes=lanes)


def _plain(row: Sequence[Any]) -> OutMessage:
    """A row as the driver gives it."""
    values = dict(zip(_NAMES, row, strict=True))
    for name in ("created", "settled", "held_until"):
        values[name] = moment_of(values[name])
    values |= {"lane": Urgency(values["lane"]), "state": OutState(values["state"])}
    return OutMessage(**values)


def _out(row: Row[Any]) -> OutMessage:
    values = {"envelope": b""} | dict(row._mapping)
    return OutMessage(**values | {"lane": Urgency(row.lane), "state": OutState(row.state)})
