"""The SQLite file and its connections, as the driver has them."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlalchemy import Connection
from tieline_client.errors import StorageUnavailable, TielineError

from tieline_server.storage.errors import corrupt

_HEADER = b"SQLite format 3\x00"


def driver_of(connection: Connection) -> sqlite3.Connection:
    """Return the driver's own connection: what needs no building is said to it directly."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def read_only(connection: sqlite3.Connection, _record: object) -> None:
    """Let a connection of readers write nothing."""
    connection.execute("PRAGMA query_only=ON")


def prepare_file(path: Path) -> None:
    """Make the file for its owner alone; SQLite gives its side files the same mode."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            header = os.pread(descriptor, len(_HEADER), 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageUnavailable(
            f"cannot open the database {path}: {error.strerror}; check the path and its permissions"
        ) from error
    if header and header != _HEADER:
        raise corrupt()


def reason_of(error: BaseException) -> BaseException | str:
    """Return what to name as the reason, without an outer message twice."""
    orig = getattr(error, "orig", None)
    if isinstance(error, TielineError):
        return error.message.partition("(")[2].rpartition(")")[0] or error.message
    return orig if isinstance(orig, BaseException) else error
