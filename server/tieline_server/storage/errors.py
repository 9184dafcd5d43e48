"""What a database's errors mean to the caller. The one place that translates them."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc
from tieline_client.errors import (
    InvalidInput,
    StorageCorrupt,
    StorageUnavailable,
    TielineError,
    WrongState,
)

_CORRUPT = (
    *("malformed", "not a database", "disk image", "unsupported file format"),
    "Could not decode to UTF-8",  # text was checked when it was written
)
_RETRY = frozenset({"40001", "40P01"})
"""SQLSTATEs of serialisation failure and deadlock."""
_TAKEN = "23505"
"""A unique key exists: perhaps another writer took it a moment before, so once more will tell."""


class AlreadyStored(WrongState):
    """A row with this id exists; ids are never used twice."""

    reason = "ALREADY_STORED"


@contextmanager
def translating() -> Iterator[None]:
    """Let what a database raises inside leave as a Tieline error."""
    try:
        yield
    except Exception as error:
        meant = translate(error)
        if meant is error:
            raise
        raise meant from error


def translate(error: Exception) -> Exception:
    """Return the Tieline error for what a database (or SQLAlchemy) raised; others as they are."""
    if isinstance(error, TielineError):
        return error
    cause: BaseException = error
    if isinstance(error, exc.StatementError) and error.orig is not None:
        cause = error.orig
    if isinstance(cause, TielineError):
        return cause
    overflows = (OverflowError, sqlite3.DataError, UnicodeEncodeError, *_postgres("DataError"))
    if isinstance(cause, overflows):
        return InvalidInput("a value is too large or broken for the database; check the input")
    if isinstance(cause, (sqlite3.IntegrityError, *_postgres("IntegrityError"))):
        return AlreadyStored("an entry with this id exists, or what it belongs to does not")
    if isinstance(cause, sqlite3.DatabaseError) and any(w in str(cause) for w in _CORRUPT):
        return corrupt()
    if isinstance(cause, _postgres("DataCorrupted", "IndexCorrupted")):
        return corrupt()
    if isinstance(cause, (sqlite3.Error, exc.TimeoutError, exc.DBAPIError, *_postgres("Error"))):
        return unavailable(cause)
    return error


def _postgres(*names: str) -> tuple[type[BaseException], ...]:
    """Return these classes of errors; none where the driver was never imported, nor raised any."""
    driver = sys.modules.get("psycopg")
    return () if driver is None else tuple(getattr(driver.errors, name) for name in names)


def corrupt() -> StorageCorrupt:
    """Return the error for a damaged database."""
    return StorageCorrupt(
        "the database is damaged; stop the node and put back the last backup of its home"
    )


def unavailable(cause: BaseException | str) -> StorageUnavailable:
    """Return the error for a database that cannot work now, with its first line as the reason."""
    lines = str(cause).strip().splitlines()
    return StorageUnavailable(
        f"the database cannot be used now ({lines[0][:200] if lines else 'no reason given'}); "
        "check its disk and connection, then try again"
    )


def may_retry(error: Exception, attempt: int) -> bool:
    """Whether running the same work again may succeed, after ``attempt`` retries (PostgreSQL)."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    state = getattr(cause, "sqlstate", None)
    return state in _RETRY or (state == _TAKEN and attempt == 0)
