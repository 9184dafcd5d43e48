"""Operators, the queries this node answered, and its own settings."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, delete, func, select, update
from tieline_client.errors import RequestIdReused

from tieline_server.domain.ports import AnsweredQuery, Operator
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema import meta, operators, queries, query_ids
from tieline_server.storage.session import Session

_EXPIRES, _ISSUER = "operator-expires/", "operator-issuer/"
_BY_NAME = select(operators).where(operators.c.name == bindparam("name"))


class Operators:
    """`OperatorRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def put(self, operator: Operator) -> None:
        """Add or replace a person."""
        values = {
            "roles": json.dumps(operator.roles),
            "serials": json.dumps([f"{serial:x}" for serial in operator.serials]),
            "created": operator.created,
            "revoked": operator.revoked,
        }
        statement = self._session.upsert(operators).values(name=operator.name, **values)
        self._run(statement.on_conflict_do_update(index_elements=["name"], set_=values))
        ends = operator.expires.isoformat() if operator.expires is not None else ""
        Meta(self._session).set(_EXPIRES + operator.name, ends)
        Meta(self._session).set(_ISSUER + operator.name, operator.issuer)

    def get(self, name: str) -> Operator | None:
        """Return a person; in a writing transaction the row stays as it is until the end."""
        # Asked on every call of a person, so the statement is put together once.
        found = self._session.locked(_BY_NAME) if self._session.writing else _BY_NAME
        row = self._run(found, {"name": name}).one_or_none()
        return None if row is None else self._with_end(row)

    def find(self) -> list[Operator]:
        """Return all, by name."""
        found = self._run(select(operators).order_by(operators.c.name)).all()
        return [self._with_end(row) for row in found]

    def _with_end(self, row: Row[Any]) -> Operator:
        """End and issuer of the certificate stand apart: they came later and need no column."""
        expires, issuer = _EXPIRES + row.name, _ISSUER + row.name
        known = select(meta.c.key, meta.c.value).where(meta.c.key.in_((expires, issuer)))
        apart = {one.key: one.value for one in self._run(known)}
        ends = apart.get(expires)
        return _operator(row, datetime.fromisoformat(ends) if ends else None, apart.get(issuer, ""))


_QUERY = tuple(field.name for field in fields(AnsweredQuery))
_HEADER_DIGEST = Prepared(
    lambda _: select(query_ids.c.header_digest).where(
        query_ids.c.peer == bindparam("peer"), query_ids.c.request == bindparam("request")
    )
)


class Queries:
    """`QueryRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def reserve(self, request: str, peer: str, header_digest: bytes, at: datetime) -> bool:
        """Remember a request id; False when known with this header, RequestIdReused otherwise."""
        row = {"peer": peer, "request": request, "header_digest": header_digest, "at": at}
        if self._session.insert_new(query_ids, row):
            return True
        if self.header_digest(peer, request) != header_digest:
            raise RequestIdReused(
                f"request id {request[:64]} was used with another header; take a new id"
            )
        return False

    def header_digest(self, peer: str, request: str) -> bytes | None:
        """Return the header that an id is known with, None where it is not."""
        known = _HEADER_DIGEST.run(self._session, {"peer": peer, "request": request}).fetchone()
        return None if known is None else bytes(known[0])

    def spoil(self, peer: str, request: str, at: datetime) -> None:
        """Put nothing in place of the header's digest."""
        row = {"peer": peer, "request": request, "header_digest": b"", "at": at}
        self._session.put(query_ids, row)

    def forget(self, peer: str, request: str) -> None:
        """Drop an id."""
        mine = (query_ids.c.peer == peer, query_ids.c.request == request)
        self._run(delete(query_ids).where(*mine))

    def finish(self, query: AnsweredQuery) -> None:
        """Store an answered query with its receipt."""
        self._session.put(queries, {name: getattr(query, name) for name in _QUERY})

    def answered(self, peer: str, request: str) -> AnsweredQuery | None:
        """Return an answered query."""
        found = select(queries).where(queries.c.peer == peer, queries.c.request == request)
        row = self._run(found).one_or_none()
        return None if row is None else AnsweredQuery(**row._mapping)

    def find(self, limit: int = 1000) -> list[AnsweredQuery]:
        """Return answered queries, newest first."""
        found = select(queries).order_by(queries.c.at.desc(), queries.c.request.desc())
        return [AnsweredQuery(**row._mapping) for row in self._run(found.limit(limit))]

    def by_request(self, request: str) -> AnsweredQuery | None:
        """Return an answered query by its id, whoever asked."""
        row = self._run(select(queries).where(queries.c.request == request).limit(1)).first()
        return None if row is None else AnsweredQuery(**row._mapping)

    def forget_headers(self) -> int:
        """Drop all headers and receipts and what would tell one; return how many ids there were."""
        gone = {"header_digest": b""}
        self._run(update(queries).values(gone | {"header": b"", "receipt": b""}))
        return self._run(update(query_ids).values(gone)).rowcount

    def erase_before(self, time: datetime, kept: Collection[str] = ()) -> int:
        """Erase answered queries of before, but for those ``kept``; their ids stay known."""
        if not kept:
            return self._run(delete(queries).where(queries.c.at < time)).rowcount
        found = select(queries.c.peer, queries.c.request).where(queries.c.at < time)
        going = [row for row in self._run(found).all() if row.request not in kept]
        for peer, request in going:
            mine = (queries.c.peer == peer, queries.c.request == request)
            self._run(delete(queries).where(*mine))
        return len(going)


class Meta:
    """`MetaRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, key: str) -> str | None:
        """Return a value; in a writing transaction the row stays as it is until the end."""
        found = self._session.locked(select(meta.c.value).where(meta.c.key == key))
        value: str | None = self._session.connection.scalar(found)
        return value

    def set(self, key: str, value: str) -> None:
        """Set a value."""
        statement = self._session.upsert(meta).values(key=key, value=value)
        statement = statement.on_conflict_do_update(index_elements=["key"], set_={"value": value})
        self._session.connection.execute(statement)

    def drop(self, key: str) -> None:
        """Forget a value."""
        self._session.connection.execute(delete(meta).where(meta.c.key == key))

    def beginning(self, prefix: str) -> dict[str, str]:
        """Return every value whose key begins so, by key."""
        c = meta.c
        found = select(c.key, c.value).where(c.key.startswith(prefix, autoescape=True))
        return {row.key: row.value for row in self._session.connection.execute(found)}

    def time(self) -> datetime:
        """Return the time now, by the database's clock where several processes share it."""
        if not self._session.postgres:
            return self._session.clock()
        now: datetime = self._session.connection.execute(
            select(func.clock_timestamp())
        ).scalar_one()
        return now


def _operator(row: Row[Any], expires: datetime | None, issuer: str) -> Operator:
    return Operator(
        name=row.name,
        roles=tuple(json.loads(row.roles)),
        serials=tuple(int(serial, 16) for serial in json.loads(row.serials)),
        created=row.created,
        revoked=row.revoked,
        expires=expires,
        issuer=issuer,
    )
