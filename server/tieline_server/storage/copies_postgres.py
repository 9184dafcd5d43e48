"""Copies of a PostgreSQL database: pg_dump's custom format, loaded by pg_restore.

The facts are read in the transaction whose snapshot pg_dump gets, so both speak of one moment. The
password goes to the programs by their environment, never by their command line.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL
from tieline_client.errors import (
    ConfigurationError,
    StorageCorrupt,
    StorageUnavailable,
    WrongState,
)

from tieline_server.storage.copies import LAST_LEAF, Checked, Facts, Told, audit_head
from tieline_server.storage.errors import translating, unavailable

_ROWS = 1_000
_PLAIN = ("--no-owner", "--no-privileges", "--no-password")
_WORDS = 300
"""Characters of a program's complaint that are passed on."""


class PostgresCopying:
    """`storage.copies.Copying` over one PostgreSQL database."""

    kind: Literal["sqlite", "postgresql"] = "postgresql"

    def __init__(self, url: URL) -> None:
        self._url = url

    def copy(self, target: Path, told: Told) -> Facts:
        """Dump from one snapshot. See `Copying.copy`."""
        program = _program("pg_dump")
        with self._connected() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            facts = _facts(connection)
            row = connection.execute("SELECT pg_export_snapshot()").fetchone()
            assert row is not None
            snapshot = f"--snapshot={row[0]}"
            told(0, 0)
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            self._run([program, "--format=custom", *_PLAIN, snapshot, f"--file={target}"])
            connection.execute("ROLLBACK")
        return facts

    def check(self, copy: Path, told: Told) -> Checked:
        """List the dump and load it into a database of its own. See `Copying.check`."""
        program = _program("pg_restore")
        try:
            listed = self._run([program, "--list", str(copy)], connect=False)
        except StorageUnavailable as error:
            raise StorageCorrupt(f"the dump cannot be read: {error.message}") from None
        if b"audit_leaves" not in listed:
            raise StorageCorrupt("the dump holds no audit log; it is not one of a Tieline node")
        told(0, 0)
        scratch = f"tieline_check_{secrets.token_hex(8)}"
        try:
            self._administer("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0", scratch)
        except psycopg.Error as error:
            why = str(error).strip().splitlines()[0][:_WORDS]
            return Checked(f"its table of contents was read; it was not loaded ({why})", None)
        try:
            other = PostgresCopying(self._url.set(database=scratch))
            other.load(copy)
            with other._connected() as connection:
                facts = _facts(connection)
        finally:
            self._administer("DROP DATABASE {} WITH (FORCE)", scratch)
        return Checked("loaded into a database of its own", facts)

    def load(self, copy: Path) -> None:
        """Load the dump in one transaction into an empty database. See `Copying.load`."""
        program = _program("pg_restore")
        with self._connected() as connection:
            row = connection.execute(
                "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
            ).fetchone()
        if row is None or row[0]:
            raise WrongState(
                f"the database {self._url.database} is not empty; create a new one "
                "(ENCODING 'UTF8' TEMPLATE template0) and name it in TIELINE_NODE_DATABASE"
            )
        self._run([program, *_PLAIN, "--single-transaction", "--exit-on-error", str(copy)])

    def _conninfo(self, *, secret: bool = False) -> str:
        """Return how to connect: without the password, since other users see command lines."""
        url = self._url
        parts: dict[str, Any] = {
            "dbname": url.database,
            "user": url.username,
            "host": url.host,
            "port": url.port,
            "password": str(url.password) if secret and url.password else None,
            **{key: str(value) for key, value in url.query.items() if "password" not in key},
        }
        return make_conninfo(**{key: value for key, value in parts.items() if value})

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        with (
            translating(),
            psycopg.connect(self._conninfo(secret=True), autocommit=True) as connection,
        ):
            yield connection

    def _administer(self, statement: LiteralString, name: str) -> None:
        with psycopg.connect(self._conninfo(secret=True), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def _run(self, words: list[str], *, connect: bool = True) -> bytes:
        """Run a program to its end and return what it printed. Raises StorageUnavailable."""
        if connect:
            words = [words[0], f"--dbname={self._conninfo()}", *words[1:]]
        environment = dict(os.environ)
        if self._url.password:
            environment["PGPASSWORD"] = str(self._url.password)
        done = subprocess.run(words, capture_output=True, check=False, env=environment)  # noqa: S603
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise unavailable(f"{Path(words[0]).name}: {said[0][:_WORDS] if said else 'failed'}")
        return done.stdout


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ConfigurationError(
            f"{name} is not on the PATH; install PostgreSQL's client programs, of the server's "
            "version or newer (Debian: postgresql-client)"
        )
    return found


def _facts(connection: psycopg.Connection[Any]) -> Facts:
    made = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
    if made is None or made[0] is None:
        raise ConfigurationError(
            "the database has no tables of a node: it is not the one that this home was used with;"
            " correct `database` in config.toml, or TIELINE_NODE_DATABASE"
        )
    epoch = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if revision is None:
        raise StorageCorrupt("the database says no revision; it is not one of a Tieline node")
    entries, root = audit_head(_leaves(connection))
    people = tuple(name for (name,) in connection.execute("SELECT name FROM operators"))
    last = connection.execute(LAST_LEAF).fetchone()
    leaf = bytes(last[0] or b"") if last else b""
    return Facts(epoch[0] if epoch else "", revision[0], entries, root, people, leaf)


def _leaves(connection: psycopg.Connection[Any]) -> Iterator[tuple[int, bytes, bytes]]:
    statement = "SELECT position, leaf, leaf_hash FROM audit_leaves ORDER BY position"
    with connection.transaction(), connection.cursor(name="leaves") as cursor:
        cursor.itersize = _ROWS
        yield from cursor.execute(statement)
