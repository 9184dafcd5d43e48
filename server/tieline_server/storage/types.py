"""Column types that behave the same on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator, TypeEngine
from tieline_client.errors import InvalidInput

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Key = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit key; on SQLite it must be spelled INTEGER to be the row's own number."""


class UtcTime(TypeDecorator[datetime]):
    """A moment, kept as whole microseconds since 1970 UTC, so that order is order in time.

    Takes any datetime with a zone, returns UTC. Raises InvalidInput for one without.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise InvalidInput(f"time {value.isoformat()} has no time zone; use UTC")
        return (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return moment_of(value)


def moment_of(value: int | None) -> datetime | None:
    """Return the moment that a column of UtcTime holds."""
    return None if value is None else _EPOCH + value * _MICROSECOND


class Words(TypeDecorator[str]):
    """Text in byte order. PostgreSQL cannot hold NUL and neither holds lone surrogates.

    Raises InvalidInput for both, on both databases.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        return Text(collation="C") if dialect.name == "postgresql" else Text()

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


def storable(value: str) -> str:
    """Return ``value`` when both databases can hold it; raise InvalidInput otherwise."""
    if "\x00" in value or not (value.isascii() or _encodes(value)):
        raise InvalidInput("text holds a NUL or a broken character; remove it and try again")
    return value


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
