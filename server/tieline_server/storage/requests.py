"""Requests that a person decides."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import Row, and_, bindparam, delete, or_, select, update
from tieline.v1 import requests_pb2
from tieline_client import limits

from tieline_server.domain.policy import Disclosure
from tieline_server.domain.request import (
    Grant,
    Request,
    RequestedSeries,
    RequestKind,
    RequestState,
    SeriesState,
    Side,
    Use,
)
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema import request_series, requests, series_keys
from tieline_server.storage.session import Session

_WAITS = Prepared(
    lambda _: select(requests.c.id, requests.c.amount).where(
        requests.c.peer == bindparam("peer"),
        requests.c.purpose == bindparam("purpose"),
        requests.c.case_ref == bindparam("case_ref"),
        requests.c.state == RequestState.PENDING.value,
        requests.c.kind == RequestKind.RELEASE.value,
        requests.c.side == Side.IN.value,
        requests.c.level == bindparam("level"),
        requests.c.expires > bindparam("now"),
    )
)
_REFUSAL = Prepared(
    lambda _: (
        select(requests.c.id)
        .where(
            requests.c.peer == bindparam("peer"),
            requests.c.purpose == bindparam("purpose"),
            requests.c.case_ref == bindparam("case_ref"),
            requests.c.state == RequestState.REFUSED.value,
            requests.c.kind == RequestKind.RELEASE.value,
            requests.c.side == Side.OUT.value,
            requests.c.expires > bindparam("now"),
        )
        .order_by(requests.c.created.desc(), requests.c.id.desc())
        .limit(1)
    )
)
_DECIDED = Prepared(
    lambda _: (
        select(requests.c.id)
        .where(
            requests.c.peer == bindparam("peer"),
            requests.c.purpose == bindparam("purpose"),
            requests.c.state != RequestState.PENDING.value,
            requests.c.side == Side.IN.value,
            requests.c.expires > bindparam("now"),
        )
        .limit(1)
    )
)
_OF_SERIES = Prepared(
    lambda _: (
        select(request_series.c.request).where(request_series.c.series == bindparam("of")).limit(1)
    )
)
_AT_ONCE = 500
_SERIES_OF = Prepared(
    lambda _: (
        select(
            request_series.c.series,
            request_series.c.amount,
            request_series.c.state,
            request_series.c.entry,
        )
        .where(request_series.c.request == bindparam("of"))
        .order_by(request_series.c.amount.desc(), request_series.c.series)
    )
)
_NO_EFFECT = (RequestState.PENDING.value, RequestState.REFUSED.value, RequestState.ENDED.value)


class Requests:
    """`RequestRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def add(self, request: Request, series: Sequence[RequestedSeries] = ()) -> bool:
        """Add a request with its series; False, and nothing is changed, when its id is known."""
        if not self._session.insert_new(requests, _row(request)):
            return False
        for one in series:
            self.put_series(request.id, one)
        return True

    def put(self, request: Request) -> None:
        """Replace what is known of a request, but for its series."""
        self._session.put(requests, _row(request))

    def get(self, request: str) -> Request | None:
        """Return one; in a writing transaction it stays as it is until the end."""
        found = self._session.locked(select(requests).where(requests.c.id == request))
        row = self._run(found).one_or_none()
        return None if row is None else _request(row)

    def series_of(self, request: str) -> list[RequestedSeries]:
        """Return the series of a request, those with the most items first."""
        found = _SERIES_OF.run(self._session, {"of": request})
        return [
            RequestedSeries(series, amount, SeriesState(state), bytes(entry))
            for series, amount, state, entry in found.fetchall()
        ]

    def put_series(self, request: str, series: RequestedSeries) -> None:
        """Put a series of a request in the place of what is known of it."""
        until = None
        if series.entry:
            until = requests_pb2.Release.FromString(series.entry).series.handling.retain_until
        row = {
            "request": request,
            "series": series.series,
            "amount": series.items,
            "state": series.state.value,
            "entry": series.entry,
            "retain_until": _day(until),
        }
        self._session.put(request_series, row)

    def mark(self, request: str, series: Sequence[str], state: SeriesState) -> None:
        """Set the state of some series of a request."""
        c = request_series.c
        for start in range(0, len(series), _AT_ONCE):
            some = list(series[start : start + _AT_ONCE])
            self._run(
                update(request_series)
                .where(c.request == request, c.series.in_(some))
                .values(state=state.value)
            )

    def find(
        self,
        *,
        sides: Sequence[Side] = (),
        states: Sequence[RequestState] = (),
        kind: RequestKind | None = None,
        series: str = "",
        limit: int = 1000,
    ) -> list[Request]:
        """Return requests, newest first; of a series, where that is given."""
        if series and _OF_SERIES.run(self._session, {"of": series}).fetchone() is None:
            return []  # asked before every telling, and nearly always so
        c = requests.c
        found = select(requests).order_by(c.created.desc(), c.id.desc()).limit(limit)
        if sides:
            found = found.where(c.side.in_([one.value for one in sides]))
        if states:
            found = found.where(c.state.in_([one.value for one in states]))
        if kind is not None:
            found = found.where(c.kind == kind.value)
        if series:
            of_it = select(request_series.c.request).where(request_series.c.series == series)
            found = found.where(c.id.in_(of_it))
        return [_request(row) for row in self._run(found)]

    def refusal(self, peer: str, purpose: str, case_ref: str, now: datetime) -> Request | None:
        """Return the last refusal of a release that was asked of a peer, as long as it holds."""
        about = {"peer": peer, "purpose": purpose, "case_ref": case_ref, "now": now}
        found = _REFUSAL.run(self._session, about).fetchone()
        return None if found is None else self.get(found[0])

    # --- the asked side, on the way of questions ---

    def wait(self, request: Request, hits: Mapping[int, int]) -> str:
        """Note that an asker waits; see the port."""
        about = {
            "peer": request.peer,
            "purpose": request.purpose,
            "case_ref": request.case_ref,
            "level": int(request.level),
            "now": request.created,
        }
        known = _WAITS.run(self._session, about).fetchone()
        if known is None:
            self._session.insert_new(requests, _row(request))
            identifier = request.id
        else:
            identifier = known[0]
            if request.items > known[1]:
                self._session.change(requests, identifier, {"amount": request.items}, "request")
        self._grow(identifier, hits)
        return identifier

    def _grow(self, request: str, hits: Mapping[int, int]) -> None:
        most = sorted(hits, key=lambda number: (-hits[number], number))
        numbers = most[: limits.SERIES_PER_REQUEST]
        named = {0: ""} | self._names([number for number in numbers if number])
        items = {named[number]: hits[number] for number in numbers if number in named}
        before = {one.series: one.items for one in self.series_of(request)}
        room = limits.SERIES_PER_REQUEST - len(before)
        for series, count in items.items():
            if series not in before:
                if room <= 0:
                    continue
                room -= 1
            if count > before.get(series, 0):
                self.put_series(request, RequestedSeries(series, count))

    def _names(self, numbers: Sequence[int]) -> dict[int, str]:
        named: dict[int, str] = {}
        for start in range(0, len(numbers), _AT_ONCE):
            some = list(numbers[start : start + _AT_ONCE])
            found = select(series_keys.c.no, series_keys.c.id).where(series_keys.c.no.in_(some))
            named.update({row.no: row.id for row in self._run(found)})
        return named

    def numbers(self, series: Sequence[str]) -> dict[str, int]:
        """Return the numbers of series in holdings, of those that have one."""
        found: dict[str, int] = {}
        for start in range(0, len(series), _AT_ONCE):
            some = list(series[start : start + _AT_ONCE])
            wanted = select(series_keys.c.id, series_keys.c.no).where(series_keys.c.id.in_(some))
            found.update({row.id: row.no for row in self._run(wanted)})
        return found

    def grants(self, peer: str, purpose: str, case_ref: str, now: datetime) -> dict[int, Grant]:
        """Return what was decided for an asker, by the number of a series in holdings.

        A release counts before a refusal, and the higher level before the lower.
        """
        if self._nothing_decided(peer, purpose, now):
            return {}
        found: dict[int, Grant] = {}
        for row in self._decided(RequestKind.RELEASE, peer, purpose, now, case_ref):
            level = Disclosure.NOTHING
            if row.of_it == SeriesState.RELEASED.value:
                level = Disclosure(row.level)
            elif row.of_it != SeriesState.REFUSED.value:
                continue
            known = found.get(row.no or 0)
            if known is None or level > known.level:
                found[row.no or 0] = Grant(level, row.expires)
        return found

    def used(self, peer: str, purpose: str, now: datetime) -> dict[int, datetime]:
        """Return until when a peer may use series for a purpose, by their numbers in holdings."""
        if self._nothing_decided(peer, purpose, now):
            return {}
        found: dict[int, datetime] = {}
        for row in self._decided(RequestKind.PERMISSION, peer, purpose, now, None):
            approved = row.state == RequestState.APPROVED.value
            if approved and row.use == Use.USE.value and row.no:
                found[row.no] = max(row.expires, found.get(row.no, row.expires))
        return found

    def _nothing_decided(self, peer: str, purpose: str, now: datetime) -> bool:
        """Nearly always so, and asked with every question."""
        about = {"peer": peer, "purpose": purpose, "now": now}
        return _DECIDED.run(self._session, about).fetchone() is None

    def _decided(
        self, kind: RequestKind, peer: str, purpose: str, now: datetime, case_ref: str | None
    ) -> Sequence[Any]:
        c, of_it = requests.c, request_series.c
        found = (
            select(
                *(c.level, c.expires, c.state, c.use),
                *(of_it.state.label("of_it"), series_keys.c.no),
            )
            .join(request_series, of_it.request == c.id)
            .outerjoin(series_keys, series_keys.c.id == of_it.series)
            .where(
                c.kind == kind.value,
                c.side == Side.IN.value,
                c.peer == peer,
                c.purpose == purpose,
                c.expires > now,
                c.state.in_([RequestState.APPROVED.value, RequestState.REFUSED.value]),
                or_(series_keys.c.no.is_not(None), of_it.series == ""),
            )
        )
        if case_ref is not None:
            found = found.where(c.case_ref == case_ref)
        return self._run(found).all()

    # --- what is taken back, and what has come to its day ---

    def released_to(self, series: str) -> list[str]:
        """Return whom this agency released references of a series to."""
        c = requests.c
        found = (
            select(c.peer)
            .join(request_series, request_series.c.request == c.id)
            .where(
                request_series.c.series == series,
                request_series.c.state == SeriesState.RELEASED.value,
                c.kind == RequestKind.RELEASE.value,
                c.side == Side.IN.value,
                c.level >= int(Disclosure.REFERENCE),
            )
            .distinct()
            .order_by(c.peer)
        )
        return list(self._session.connection.scalars(found))

    def sweep(self, now: datetime, limit: int) -> int:
        """Erase what is kept no longer; see the port."""
        c, of_it = requests.c, request_series.c
        told = of_it.state == SeriesState.RELEASED.value
        useless = or_(
            c.state.in_(_NO_EFFECT),
            # Whom references were released to is known as long as the series is.
            and_(
                c.state == RequestState.APPROVED.value,
                c.id.not_in(select(of_it.request).where(told)),
            ),
        )
        past = select(c.id).where(c.expires <= now, useless).order_by(c.expires).limit(limit)
        gone = list(self._session.connection.scalars(past))
        if gone:
            self._run(delete(request_series).where(of_it.request.in_(gone)))
            self._run(delete(requests).where(c.id.in_(gone)))
        done = self._run(delete(request_series).where(of_it.retain_until <= now.date()))
        return len(gone) + done.rowcount


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _row(request: Request) -> dict[str, object]:
    return {
        "id": request.id,
        "kind": request.kind.value,
        "side": request.side.value,
        "peer": request.peer,
        "person": request.person,
        "purpose": request.purpose,
        "case_ref": request.case_ref,
        "state": request.state.value,
        "level": int(request.level),
        "amount": request.items,
        "use": request.use.value if request.use else "",
        "agencies": json.dumps(request.agencies),
        "text": request.text,
        "terms": json.dumps(dict(request.terms), sort_keys=True),
        "decided_by": request.decided_by,
        "reason": request.reason,
        "created": request.created,
        "decided": request.decided,
        "expires": request.expires,
        "envelope": request.envelope,
    }


def _request(row: Row[Any]) -> Request:
    values = dict(row._mapping)
    return Request(
        **values
        | {
            "items": values.pop("amount"),
            "kind": RequestKind(row.kind),
            "side": Side(row.side),
            "state": RequestState(row.state),
            "level": Disclosure(row.level),
            "use": Use(row.use) if row.use else None,
            "agencies": tuple(json.loads(row.agencies)),
            "terms": json.loads(row.terms),
        }
    )
