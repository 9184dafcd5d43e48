"""The PostgreSQL store: a pool, retries, and audit entries that a sequencer places.

Writes run READ COMMITTED. What a service looks at before it acts is locked until it has acted
(`Session.locked`), counters are rows that serialise those who take from them, item resolution holds
an advisory lock, and a unique key that another writer took a moment before means: run the work
again, it will see the other's row. Deadlocks and serialisation failures run again, too.
Reads are REPEATABLE READ: one snapshot each.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Hashable, MutableMapping
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, create_engine, func, select, text
from tieline_client.errors import ConfigurationError, StorageUnavailable

from tieline_server.domain.ports import Clock, Matching, Record, Tx
from tieline_server.storage.bulk import PostgresBulk
from tieline_server.storage.damage import Damage
from tieline_server.storage.errors import may_retry, translating, unavailable
from tieline_server.storage.exclusion_feed import ExclusionFeed
from tieline_server.storage.index_feed import IndexFeed
from tieline_server.storage.migrate import migrate
from tieline_server.storage.scrubbing_postgres import PostgresScrubber
from tieline_server.storage.sequencer import LAG_SECONDS, Sequencer
from tieline_server.storage.session import Session
from tieline_server.storage.tx import SqlRecord, SqlTx

T = TypeVar("T")

POOL = 16
POOL_MOST = 48
POOL_SECONDS = 30.0
CONNECT_SECONDS = 10
ATTEMPTS = 8
RETRY_SECONDS = 0.01
"""First pause before work runs again; doubled each time, with jitter."""
MIGRATION_LOCK = 7_430_003
_SETTINGS = {
    "synchronous_commit": "on",
    "statement_timeout": "60s",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "120s",
    "timezone": "UTC",
}


class PostgresStore:
    """`domain.ports.Store` over one PostgreSQL database, shared by several node processes."""

    def __init__(
        self,
        url: URL,
        *,
        clock: Clock,
        matching: Matching | None = None,
        known_good: Matching | None = None,
        lag_seconds: float = LAG_SECONDS,
    ) -> None:
        self._clock = clock
        self.index = IndexFeed(matching, self._read_session, alone=False)
        self.known_good = ExclusionFeed(known_good, self._read_session)
        self._bulk = PostgresBulk()
        self._closed = False
        self._damage = Damage()
        self._engine = create_engine(
            url,
            isolation_level="READ COMMITTED",
            pool_size=POOL,
            max_overflow=POOL_MOST - POOL,
            pool_timeout=POOL_SECONDS,
            pool_pre_ping=True,
            connect_args={
                "options": " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items()),
                "connect_timeout": CONNECT_SECONDS,
                "client_encoding": "utf8",
                "application_name": "tieline",
            },
        )
        self._snapshot = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        try:
            with translating(), self._engine.connect() as connection, connection.begin():
                self._prepare(connection)
        except BaseException:
            self._engine.dispose()
            raise
        self._scrubber = PostgresScrubber(self._engine)
        self._sequencer = Sequencer(self._engine, self._bulk, lag_seconds)

    def read(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` over a snapshot. Raises StorageUnavailable, StorageCorrupt."""
        return self._read_session(lambda session: work(SqlTx(session)))

    def remembered(self) -> MutableMapping[Hashable, Any]:
        """Return nothing: another process may have changed it a moment ago."""
        return {}

    def recall(self, key: Hashable, work: Callable[[Tx], T]) -> T:
        """Return what `read` does, see `remembered`."""
        return self.read(work)

    def note(self, work: Callable[[Record], T]) -> T:
        """`write`, for what belongs to the record of questions alone."""
        return self._write(lambda session: work(SqlRecord(session)))

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work``, again where that may help, and return once it is on disk.

        Raises StorageUnavailable, also while the audit log is too far behind.
        """
        return self._write(lambda session: work(SqlTx(session)))

    def _write(self, work: Callable[[Session], T]) -> T:
        if self._closed:
            raise unavailable("it is closed")
        self._sequencer.check()
        with self._damage.watching():
            for attempt in range(ATTEMPTS):
                try:
                    with self._engine.connect() as connection, connection.begin():
                        session = self._session(connection, writing=True)
                        result = work(session)
                except Exception as error:
                    if attempt + 1 == ATTEMPTS or not may_retry(error, attempt):
                        raise
                    pause = RETRY_SECONDS * 2**attempt
                    time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                else:
                    break
        self._sequencer.wake()
        self.known_good.committed(session.listed)
        return result

    def scrub(self) -> bool:
        """Write the tables that things are erased from anew, see scrubbing_postgres.py.

        False while a transaction of before is still open, while another process is at it, and for
        a while after one that took long.
        """
        return self._scrubber.scrub()

    @property
    def shared(self) -> bool:
        """Other processes may use this database."""
        return True

    @property
    def left(self) -> str:
        """What `scrub` could not reach."""
        return self._scrubber.left

    @property
    def damaged(self) -> bool:
        """Whether the server reported damaged data to this process; all is refused then."""
        return self._damage.found

    def look_through(self) -> None:
        """Return at once: PostgreSQL checks what it reads (docs/operations.md)."""

    def drain(self) -> None:
        """Return once every committed audit entry has its position. Raises StorageUnavailable."""
        self._sequencer.drain()

    def close(self) -> None:
        """Place what waits, if the database lets it, and let the connections go."""
        if self._closed:
            return
        self._closed = True
        self.index.close()
        self.known_good.close()
        self._sequencer.stop()
        with contextlib.suppress(StorageUnavailable):
            self._sequencer.drain()
        self._engine.dispose()

    def _read_session(self, work: Callable[[Session], T]) -> T:
        with (
            self._damage.watching(),
            self._snapshot.connect() as connection,
            connection.begin(),
        ):
            return work(self._session(connection, writing=False))

    def _session(self, connection: Connection, *, writing: bool) -> Session:
        return Session(
            connection,
            self._bulk,
            self._clock,
            writing=writing,
            postgres=True,
            feed=self.index,
            lists=self.known_good,
        )

    def _prepare(self, connection: Connection) -> None:
        if connection.scalar(text("SHOW server_encoding")) != "UTF8":
            raise ConfigurationError(
                "the database's encoding is not UTF8; create it with ENCODING 'UTF8' "
                "TEMPLATE template0"
            )
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        migrate(connection)
