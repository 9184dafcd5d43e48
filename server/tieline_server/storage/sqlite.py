"""The SQLite store: one writer that groups commits, and snapshots for readers.

A write's life: `write` queues the work; who finds nobody writing leads (turns.py). The leader opens
a transaction, runs works one after another, each in a savepoint (one that fails takes only its own
effects along), until none waits or the group is full; places the group's audit leaves; commits once
(WAL, synchronous=FULL, so the commit is on disk); and only then lets the callers go. When the
commit fails, every caller of the group gets StorageUnavailable and the next group starts on a fresh
connection.

What is read by `recall` is remembered until something is written that may change it: no other
process writes to this file while a node serves from it (`IndexFeed`).
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Hashable, MutableMapping
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, NullPool, QueuePool, event
from tieline_client.errors import StorageCorrupt, TielineError

from tieline_server.domain.ports import Clock, Matching, Record, Tx
from tieline_server.storage.audit import Edge, place, read_edge
from tieline_server.storage.bulk import SqliteBulk
from tieline_server.storage.damage import Damage
from tieline_server.storage.errors import corrupt, translate, translating, unavailable
from tieline_server.storage.exclusion_feed import ExclusionFeed, Listed
from tieline_server.storage.index_changes import Change
from tieline_server.storage.index_feed import IndexFeed
from tieline_server.storage.migrate import migrate
from tieline_server.storage.scrubbing import Scrubber
from tieline_server.storage.session import Session
from tieline_server.storage.sqlite_engine import sqlite_engine
from tieline_server.storage.sqlite_file import driver_of, prepare_file, read_only, reason_of
from tieline_server.storage.sqlite_guard import (
    DriverConnection,
    cover,
    give_way,
    interrupt,
    look_through,
)
from tieline_server.storage.turns import Job, Turns
from tieline_server.storage.tx import SqlRecord, SqlTx

T = TypeVar("T")

GROUP_WORKS = 256
GROUP_SECONDS = 0.05
QUEUED_WORKS = 1_024
QUEUE_SECONDS = 30.0
"""How long a caller waits for a place in the queue before it is told that storage is behind."""
QUICK_CHECK_BYTES = 64 * 1024 * 1024
_INTERRUPT_SECONDS = 0.1
"""Between two words to whoever looks through the file that it shall end: the first may come too
early for it."""
READERS = 8
READERS_MOST = 32
REMEMBERED = 10_000
"""Things remembered at once; then all are forgotten."""


class SqliteStore:
    """`domain.ports.Store` over one SQLite file. Used from any number of threads."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        matching: Matching | None = None,
        known_good: Matching | None = None,
        group_works: int = GROUP_WORKS,
    ) -> None:
        self._clock = clock
        self.index = IndexFeed(matching, self._read_session, alone=True)
        self.known_good = ExclusionFeed(known_good, self._read_session)
        self._group_works = group_works
        self._bulk = SqliteBulk()
        prepare_file(path)
        self._scrubber = Scrubber(path)
        url = URL.create("sqlite+pysqlite", database=str(path))
        self._writing = sqlite_engine(url, "BEGIN IMMEDIATE", poolclass=NullPool)
        self._reading = sqlite_engine(
            url,
            "BEGIN",
            poolclass=QueuePool,
            pool_size=READERS,
            max_overflow=READERS_MOST - READERS,
            pool_timeout=QUEUE_SECONDS,
        )
        event.listen(self._reading, "connect", read_only)
        self._connection: Connection | None = None
        self._driver: sqlite3.Connection | None = None
        self._edge: Edge | None = None
        self._data_version = 0
        self._turns = Turns(self._group)
        self._room = threading.BoundedSemaphore(QUEUED_WORKS)
        self._memory: dict[Hashable, Any] = {}
        self._path = path
        self._damage = Damage()
        self._looking: threading.Thread | None = None
        self._looker: list[DriverConnection] = []
        self._closing = threading.Event()
        self._check_and_migrate(path)

    def read(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` over a snapshot. Raises StorageUnavailable, StorageCorrupt."""
        return self._read_session(lambda session: work(SqlTx(session)))

    def remembered(self) -> MutableMapping[Hashable, Any]:
        """Return what was read since the last change; when that comes, another takes its place."""
        if len(self._memory) >= REMEMBERED:
            self._memory = {}
        return self._memory

    def recall(self, key: Hashable, work: Callable[[Tx], T]) -> T:
        """Return what `read` would; what was read under this key before is still so."""
        self._damage.check()
        memory = self.remembered()
        if key not in memory:
            memory[key] = self.read(work)
        found: T = memory[key]
        return found

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in its turn and return once it is on disk. Raises StorageUnavailable."""
        result: T = self._settle(Job(lambda session: work(SqlTx(session))))
        return result

    def note(self, work: Callable[[Record], T]) -> T:
        """`write`, for what `recall` does not depend on."""
        result: T = self._settle(Job(lambda session: work(SqlRecord(session)), remembered=True))
        return result

    @property
    def damaged(self) -> bool:
        """Whether the database was found damaged; all is refused then."""
        return self._damage.found

    def look_through(self) -> None:
        """Look for damage in the background where opening left that out since it takes long."""
        if self._path.stat().st_size > QUICK_CHECK_BYTES and self._looking is None:
            self._looking = threading.Thread(target=self._look, name="storage-check", daemon=True)
            self._looking.start()

    def _look(self) -> None:
        with contextlib.suppress(TielineError), self._damage.watching():
            give_way()
            look_through(self._path, self._closing, begun=self._looker.append)

    def _settle(self, job: Job) -> Any:
        self._damage.check()
        if self._turns.mine:
            raise RuntimeError("a write inside a write would wait for itself")
        if not self._room.acquire(timeout=QUEUE_SECONDS):
            raise unavailable("too many writes are waiting")
        try:
            if not self._turns.run(job):
                raise unavailable("it is closed")
        finally:
            self._room.release()
        if job.error is not None:
            raise job.error
        return job.result

    @property
    def shared(self) -> bool:
        """One process has the file, see the lock on its home."""
        return False

    @property
    def left(self) -> str:
        """Nothing: `scrub` reaches every file."""
        return ""

    def scrub(self) -> bool:
        """Leave nothing in the files of what was erased before; see `Store.scrub`."""
        done: bool = self._settle(
            Job(lambda _: self._scrubber.scrub(), remembered=True, apart=True)
        )
        return done

    def drain(self) -> None:
        """Return at once: a committed entry already has its position here."""

    def close(self) -> None:
        """Finish what is queued and let the file go. Later calls of `write` are refused."""
        self._closing.set()
        while self._looking is not None and self._looking.is_alive():
            for connection in self._looker:
                interrupt(connection)
            self._looking.join(_INTERRUPT_SECONDS)
        self._turns.close()
        self._drop()
        self.index.close()
        self.known_good.close()
        self._reading.dispose()

    def _read_session(self, work: Callable[[Session], T]) -> T:
        with (
            self._damage.watching(),
            self._reading.connect() as connection,
            connection.begin(),
        ):
            return work(self._session(connection, writing=False))

    # --- the writer ---

    def _group(self, first: Job) -> None:
        """Run one group of works, and settle them."""
        if first.apart:
            self._run_apart(first)
            return
        jobs = [first]
        leaves: list[bytes] = []
        changes: list[Change] = []
        listed: list[Listed] = []
        committing = False
        try:
            connection, driver = self._open()
            driver.execute("BEGIN IMMEDIATE")
            edge = self._edge_now(connection, driver)
            until = time.monotonic() + GROUP_SECONDS
            if not self._run_first(connection, first, leaves, changes, listed):
                return
            while len(jobs) < self._group_works and time.monotonic() < until:
                job = self._turns.take()
                if job is None:
                    break
                jobs.append(job)
                self._run(connection, job, leaves, changes, listed)
            edge = place(connection, self._bulk, leaves, edge)
            committing = True
            driver.execute("COMMIT")
            if connection.in_transaction():  # SQLAlchemy's own note of it
                connection.rollback()
            self._edge = edge
        except BaseException as error:  # noqa: BLE001 - every caller of the group is told
            self._drop(cover_commit=committing)
            self._memory = {}
            damaged = isinstance(error, Exception) and isinstance(translate(error), StorageCorrupt)
            if damaged:
                self._damage.note(corrupt())
            for job in jobs:  # an exception of its own each: threads write their traces into it
                job.error = job.error or (corrupt() if damaged else unavailable(reason_of(error)))
            if not isinstance(error, Exception):
                first.error = error
            return
        if not all(job.remembered for job in jobs):
            self._memory = {}
        self._tell_index(changes)
        self.known_good.committed(listed)

    @staticmethod
    def _run_apart(job: Job) -> None:
        """Run a work while nobody writes, in no transaction of the store's."""
        try:
            assert job.work is not None
            job.result = job.work(None)
        except BaseException as error:  # noqa: BLE001 - the caller is told
            job.error = error

    def _tell_index(self, changes: list[Change]) -> None:
        """Before the next work: staging finds known items by the index."""
        if not changes:
            return
        try:
            self._read_session(lambda session: self.index.committed(session, changes))
        except Exception as error:  # noqa: BLE001 - committed is committed; it is replayed later
            self.index.failure = str(error)

    def _run_first(
        self,
        connection: Connection,
        job: Job,
        leaves: list[bytes],
        changes: list[Change],
        listed: list[Listed],
    ) -> bool:
        """Run the first work of a group, which needs no savepoint: when it fails, there is nothing
        else yet, and the transaction goes. Whether it succeeded."""
        session = self._session(connection, writing=True)
        session.uncommitted, session.listed = changes, listed
        try:
            assert job.work is not None
            job.result = job.work(session)
        except BaseException as error:
            job.error = translate(error) if isinstance(error, Exception) else error
            self._damage.note(job.error)
            driver = driver_of(connection)
            if not driver.in_transaction:
                raise unavailable(reason_of(error)) from error
            driver.execute("ROLLBACK")
            if connection.in_transaction():  # SQLAlchemy's own note of it
                connection.rollback()
            return False
        leaves += session.pending
        return True

    def _run(
        self,
        connection: Connection,
        job: Job,
        leaves: list[bytes],
        changes: list[Change],
        listed: list[Listed],
    ) -> None:
        """Run one work in a savepoint. Raises when SQLite gave up the whole transaction."""
        session = self._session(connection, writing=True)
        before = len(changes), len(listed)
        session.uncommitted, session.listed = changes, listed
        driver = driver_of(connection)
        driver.execute("SAVEPOINT work")
        try:
            assert job.work is not None
            job.result = job.work(session)
        except BaseException as error:
            job.error = translate(error) if isinstance(error, Exception) else error
            self._damage.note(job.error)
            if not driver.in_transaction:
                raise unavailable(reason_of(error)) from error
            driver.execute("ROLLBACK TO work")
            del changes[before[0] :], listed[before[1] :]
        else:
            leaves += session.pending
        driver.execute("RELEASE work")

    def _edge_now(self, connection: Connection, driver: sqlite3.Connection) -> Edge:
        """Return the log's edge: as the last group left it, unless someone else wrote since."""
        version = driver.execute("PRAGMA data_version").fetchone()[0]
        if self._edge is None or version != self._data_version:
            self._edge, self._data_version = read_edge(connection), version
            self._memory = {}
        return self._edge

    def _open(self) -> tuple[Connection, sqlite3.Connection]:
        if self._connection is None or self._driver is None:
            self._connection = self._writing.connect()
            self._driver = driver_of(self._connection)
        return self._connection, self._driver

    def _drop(self, *, cover_commit: bool = False) -> None:
        """Let the writer's connection go: what it knew may not be so. A commit that failed is
        covered, lest a later start believes it."""
        connection, self._connection, self._edge = self._connection, None, None
        self._driver = None
        if connection is None:
            return
        with contextlib.suppress(Exception):
            connection.close()
        if cover_commit:
            with contextlib.suppress(Exception), self._writing.connect() as fresh:
                cover(driver_of(fresh))

    # --- opening ---

    def _session(self, connection: Connection, *, writing: bool) -> Session:
        return Session(
            connection,
            self._bulk,
            self._clock,
            writing=writing,
            postgres=False,
            feed=self.index,
            lists=self.known_good,
            driver=self._driver if writing else None,
        )

    def _check_and_migrate(self, path: Path) -> None:
        with translating(), self._writing.connect() as connection:
            connection.exec_driver_sql("PRAGMA schema_version")
            connection.rollback()
            if path.stat().st_size <= QUICK_CHECK_BYTES:
                found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
                connection.rollback()
                if found != "ok":
                    raise corrupt()
            with connection.begin():
                migrate(connection)
