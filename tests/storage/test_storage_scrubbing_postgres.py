"""What was erased is in none of a PostgreSQL server's files, searched byte by byte."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from tieline_server.domain.ports import AnsweredQuery, Tx
from tieline_server.matching.matcher import Matcher
from tieline_server.storage.engine import open_store

from tests.postgres import PostgresCluster
from tests.searching import Search
from tests.storage.building import load, now, record, sha1

pytestmark = pytest.mark.postgres

COUNT = 1_500


class Place:
    """A store in a database of its own, and the files of the whole server."""

    def __init__(self, cluster: PostgresCluster, user: str = "tieline") -> None:
        self.data = cluster.socket / "data"
        self.name = cluster.create()
        self.matching = Matcher(None)
        url = cluster.url(self.name).replace("tieline@", f"{user}@")
        self.store = open_store(url, clock=now, matching=self.matching)

    def left(self, names: list[str]) -> dict[str, int]:
        """How many of these names' SHA-1s each kind of file holds."""
        found: dict[str, int] = {}
        search = Search(map(sha1, names))
        for path in sorted(self.data.rglob("*")):
            if path.is_file() and (count := len(search.found_in(path.read_bytes()))):
                kind = path.relative_to(self.data).parts[0]
                found[kind] = found.get(kind, 0) + count
        return found

    def load(self, series: str, names: list[str]) -> None:
        for start in range(0, len(names), 500):
            some = names[start : start + 500]
            load(self.store, [record(sha1=name) for name in some], series)

    def scrub(self) -> None:
        """Come again while the server's own vacuuming looks at what was, as the eraser does."""
        deadline = time.monotonic() + 600
        while not self.store.scrub():
            assert time.monotonic() < deadline, "somebody reads what was"
            time.sleep(0.2)

    def erase(self, series: str) -> None:
        while self.store.write(lambda tx: tx.erasure.holdings(series, 700)).more:
            pass


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewritings may follow one another at once."""
    monkeypatch.setattr("tieline_server.storage.scrubbing_postgres.PAUSE", 0)


@pytest.fixture
def cut_log(postgres_cluster: PostgresCluster) -> Iterator[None]:
    """Old segments of the log are removed, not used again, as docs/operations.md asks for."""
    with closing(postgres_cluster.connect()) as connection:
        connection.execute("ALTER SYSTEM SET wal_recycle = off")
        connection.execute("SELECT pg_reload_conf()")
        yield
        connection.execute("ALTER SYSTEM RESET wal_recycle")
        connection.execute("SELECT pg_reload_conf()")


def test_what_was_erased_is_in_no_file_of_the_server(
    postgres_cluster: PostgresCluster, cut_log: None
) -> None:
    rng = random.Random(4)
    gone = [f"pg-gone-{n}" for n in range(COUNT)]
    kept = [f"pg-kept-{n}" for n in range(COUNT)]
    place = Place(postgres_cluster)
    try:
        both = [("pt-pj/gone", one) for one in gone] + [("pt-pj/kept", one) for one in kept]
        rng.shuffle(both)
        for start in range(0, len(both), 1_000):  # so that they lie between one another
            for series in ("pt-pj/gone", "pt-pj/kept"):
                place.load(series, [n for s, n in both[start : start + 1_000] if s == series])
        with closing(postgres_cluster.connect(place.name)) as connection:
            connection.execute("ANALYZE")  # the planner's samples are values too
            logged = place.left(gone)["pg_wal"]
            connection.execute("CHECKPOINT")
        assert place.left(gone)["base"] >= COUNT and logged > 0
        place.erase("pt-pj/gone")
        place.scrub()
        assert place.store.left == ""
        assert place.left(gone) == {}
        assert place.left(kept)["base"] >= COUNT
        assert place.store.read(lambda tx: tx.items.count_of_series("pt-pj/kept")) == COUNT
        place.erase("pt-pj/kept")  # the last rows of the tables: their samples have to go as well
        place.scrub()
        assert place.left(kept) == {}
    finally:
        place.matching.close()
        place.store.close()


def test_headers_that_are_forgotten_are_in_no_file_of_the_server(
    postgres_cluster: PostgresCluster, cut_log: None
) -> None:
    """What a version of before v1.5 kept of peers' questions: headers, receipts, their digests."""
    gone = [f"pg-{part}-{n}" for n in range(COUNT) for part in ("header", "receipt", "digest")]
    place = Place(postgres_cluster)
    try:

        def answered(tx: Tx, n: int) -> None:
            digest = sha1(f"pg-digest-{n}")
            tx.queries.reserve(f"q{n}", "es-gc", digest, now())
            tx.queries.finish(
                AnsweredQuery(
                    request=f"q{n}",
                    peer="es-gc",
                    person="ana",
                    purpose="victim-identification",
                    case_ref="C",
                    header_digest=digest,
                    header=sha1(f"pg-header-{n}"),
                    records=1,
                    hits=0,
                    receipt=sha1(f"pg-receipt-{n}"),
                    at=now(),
                )
            )

        def some(tx: Tx, first: int) -> None:
            for n in range(first, first + 100):
                answered(tx, n)

        for start in range(0, COUNT, 100):
            place.store.write(lambda tx, first=start: some(tx, first))  # type: ignore[misc]
        with closing(postgres_cluster.connect(place.name)) as connection:
            connection.execute("ANALYZE")
            connection.execute("CHECKPOINT")
        assert place.left(gone)["base"] >= len(gone)
        assert place.store.write(lambda tx: tx.queries.forget_headers()) == COUNT
        place.scrub()
        assert place.store.left == ""
        assert place.left(gone) == {}
        assert len(place.store.read(lambda tx: tx.queries.find(COUNT + 1))) == COUNT
    finally:
        place.matching.close()
        place.store.close()


def test_what_the_role_may_not_do_is_said(postgres_cluster: PostgresCluster) -> None:
    """A role that owns its database and nothing else: tables are clean, the log is left."""
    with closing(postgres_cluster.connect()) as connection:
        connection.execute("CREATE ROLE plain LOGIN")
    place = Place(postgres_cluster)
    try:
        with closing(postgres_cluster.connect(place.name)) as connection:
            connection.execute(
                psycopg.sql.SQL("ALTER DATABASE {} OWNER TO plain").format(
                    psycopg.sql.Identifier(place.name)
                )
            )
            for (table,) in connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall():
                connection.execute(
                    psycopg.sql.SQL("ALTER TABLE {} OWNER TO plain").format(
                        psycopg.sql.Identifier(str(table))
                    )
                )
        place.store.close()
        url = postgres_cluster.url(place.name).replace("tieline@", "plain@")
        place.store = open_store(url, clock=now, matching=place.matching)
        place.load("pt-pj/gone", ["plain-1", "plain-2"])
        place.erase("pt-pj/gone")
        place.scrub()
        left = place.store.left
        for needed in ("pg_switch_wal", "pg_checkpoint", "wal_recycle"):
            assert needed in left
    finally:
        place.matching.close()
        place.store.close()
        with closing(postgres_cluster.connect()) as connection:
            connection.execute(
                psycopg.sql.SQL("DROP DATABASE {}").format(psycopg.sql.Identifier(place.name))
            )
            connection.execute("DROP ROLE plain")


def test_a_transaction_of_before_puts_it_off(postgres_cluster: PostgresCluster) -> None:
    place = Place(postgres_cluster)
    try:
        place.load("pt-pj/gone", ["held-1"])
        with closing(postgres_cluster.connect(place.name)) as reader:
            reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT 1")
            place.erase("pt-pj/gone")
            assert not place.store.scrub()  # what is dead may be seen still
            reader.execute("SELECT count(*) FROM meta")
            assert not place.store.scrub()  # and a table is being read
            with closing(postgres_cluster.connect(place.name)) as other:
                other.execute("SELECT pg_advisory_lock(7430004)")
                assert not place.store.scrub()  # another process rewrites
            reader.execute("COMMIT")
        place.scrub()
    finally:
        place.matching.close()
        place.store.close()


def test_samples_of_a_column_that_a_trigger_names_go_too(postgres_cluster: PostgresCluster) -> None:
    """As autovacuum may leave them at any moment: the table is empty, its samples are not."""
    place = Place(postgres_cluster)
    row = (
        "INSERT INTO outbox SELECT 'id' || n, 'pg-gone-' || n % 5, 1, 'k', 's', 0, '', n, 'queued',"
        " 0, NULL, NULL, '', ''::bytea FROM generate_series(1, 500) n"
    )
    tallies = "SELECT count(*), coalesce(sum(queued), 0) FROM outbox_tallies WHERE queued > 0"
    sampled = "SELECT count(*) FROM pg_stats WHERE tablename = 'outbox' AND attname = 'recipient'"
    try:
        with closing(postgres_cluster.connect(place.name)) as connection:
            connection.execute(row)
            connection.execute("ANALYZE outbox")
            connection.execute("DELETE FROM outbox")
            assert connection.execute(sampled).fetchone() == (1,)
            place.scrub()
            assert connection.execute(sampled).fetchone() == (0,)
            connection.execute(row)  # the triggers are there again
            assert connection.execute(tallies).fetchone() == (5, 500)
    finally:
        place.matching.close()
        place.store.close()
