"""Opening a store: file modes, damage, newer versions, migrations, bad URLs."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.schema import CreateIndex, CreateTable
from tieline_client.errors import (
    ConfigurationError,
    StorageCorrupt,
    StorageTooNew,
    StorageUnavailable,
)
from tieline_server.storage.engine import open_store
from tieline_server.storage.migrate import configuration
from tieline_server.storage.schema import REVISION, metadata

from tests.postgres import PostgresCluster
from tests.storage.building import now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a store with one row in it, closed."""
    path = tmp_path / "database.sqlite3"
    with closing(open_store(f"sqlite:///{path}", clock=now)) as store:
        store.write(lambda tx: tx.meta.set("key", "value"))
    return path


def reopen(path: Path) -> str | None:
    with closing(open_store(f"sqlite:///{path}", clock=now)) as store:
        return store.read(lambda tx: tx.meta.get("key"))


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    open_store(store_url, clock=now).close()
    engine = create_engine(store_url)
    yield engine
    engine.dispose()


def test_the_migrations_make_exactly_the_tables_of_the_schema(engine: Engine) -> None:
    with engine.connect() as connection:
        exact = connection.dialect.name == "sqlite"
        context = MigrationContext.configure(connection, opts={"compare_type": exact})
        assert compare_metadata(context, metadata) == []
        script = ScriptDirectory.from_config(configuration(connection))
        assert script.get_current_head() == REVISION == context.get_current_revision()


_BEFORE_0020 = (
    "INSERT INTO retractions VALUES ('r', 'pt-pj/1', 'withdraw', 1, 'ana', 'why', NULL, NULL,"
    " NULL, NULL, NULL, NULL, {no}, '[]', '', {nothing})",
    "INSERT INTO retraction_recipients VALUES ('r', 'es-gc', '', 'm', 5, {no})",
    "INSERT INTO retraction_sources VALUES ('r', 'pt-pj', NULL)",
    "INSERT INTO purges VALUES ('r', 'retraction', 'pt-pj/1', 0, 'done', 3, 1, 2, '')",
    "INSERT INTO purges VALUES ('i', 'retention', '', 7, 'erasing', 0, 1, NULL, '')",
    "INSERT INTO series_splits VALUES ('s', 'pt-pj/1', 'pt-pj/2', 'ana', 1, 2, {nothing},"
    " {nothing}, {nothing})",
    "INSERT INTO series_split_told VALUES ('s', 'es-gc')",
    "INSERT INTO assessments VALUES ('a', 'pt-pj/1', 'pt-pj', 'ana', 'ES', 3, 'sockets', {no},"
    " {no}, 1, 'north', '[]')",
    "INSERT INTO referrals VALUES ('f', 'f', 'pt-pj/1', 'out', 'pt-pj', 'es-gc', 'ES', 3, 'p', 'c',"
    " 'ana', 1, '', 'queued')",
    "INSERT INTO referral_steps VALUES ('t', 'f', 'accepted', 'es-gc', 'rui', 1, '', '', NULL,"
    " NULL, NULL, NULL, '')",
    "INSERT INTO series_notes VALUES ('n', 'pt-pj/1', 'pt-pj', 'ana', 1, 'tiles', '[]')",
)


def test_what_hung_on_an_id_hangs_on_whose_word_it_is_by_now(
    blank: Engine,
) -> None:
    """Migration 0020 makes nine tables anew, on either database, and no row of them is lost."""
    postgres = blank.dialect.name == "postgresql"
    words = {"no": "false", "nothing": "''::bytea"} if postgres else {"no": "0", "nothing": "x''"}
    with blank.begin() as connection:
        command.upgrade(configuration(connection), "0019")
    with blank.begin() as connection:
        for statement in _BEFORE_0020:
            connection.execute(text(statement.format(**words).replace("::", r"\:\:")))
    with blank.begin() as connection:
        command.upgrade(configuration(connection), "head")
    with blank.connect() as connection:
        found = {
            name: connection.execute(text(f"SELECT * FROM {name} ORDER BY 1")).mappings().all()
            for name in ("retraction_recipients", "retraction_sources", "series_split_told")
        }
        for (row,) in found.values():
            assert row["series"] == "pt-pj/1"
        assert found["retraction_recipients"][0]["confirmed"] == 5
        for name in ("retractions", "series_splits", "assessments", "referral_steps"):
            assert len(connection.execute(text(f"SELECT * FROM {name}")).all()) == 1, name
        assert connection.execute(text("SELECT text FROM series_notes")).scalar() == "tiles"
        kept = connection.execute(text("SELECT id, import_no, ended FROM purges ORDER BY id"))
        assert [tuple(row) for row in kept] == [("i", 7, None), ("r", 0, 2)]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def blank(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database without tables, with foreign keys on."""
    if request.param == "sqlite":
        engine = create_engine(f"sqlite:///{tmp_path}/blank.sqlite3")
        event.listen(engine, "connect", lambda made, _: made.execute("PRAGMA foreign_keys=ON"))
    else:
        cluster: PostgresCluster = request.getfixturevalue("postgres_cluster")
        engine = create_engine(cluster.url(cluster.create(empty=True)))
    yield engine
    engine.dispose()


def test_partial_indexes_and_rowids_are_as_the_schema_says(path: Path) -> None:
    dialect = create_engine("sqlite://").dialect
    with closing(sqlite3.connect(path)) as connection:
        made = {
            name: " ".join(sql.split())
            for name, sql in connection.execute(
                "SELECT name, sql FROM sqlite_master WHERE sql <> ''"
            )
        }
    for table in metadata.tables.values():
        wanted = " ".join(str(CreateTable(table).compile(dialect=dialect)).split())
        assert ("WITHOUT ROWID" in made[table.name]) == ("WITHOUT ROWID" in wanted)
        for index in table.indexes:
            assert made[str(index.name)] == str(CreateIndex(index).compile(dialect=dialect))


@pytest.mark.postgres
def test_postgres_gets_the_types_collations_and_indexes_of_the_schema(
    postgres_cluster: PostgresCluster,
) -> None:
    made, wanted = postgres_cluster.create(), postgres_cluster.create(empty=True)
    engine = create_engine(postgres_cluster.url(wanted))
    metadata.create_all(engine)
    engine.dispose()
    asked = (
        "SELECT table_name, column_name, data_type, is_nullable, collation_name, column_default "
        "FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> %s",
        "SELECT tablename, indexname, indexdef FROM pg_indexes "
        "WHERE schemaname = 'public' AND tablename <> %s",
    )
    for query in asked:
        found = []
        for database in (made, wanted):
            with postgres_cluster.connect(database) as connection:
                found.append(sorted(connection.execute(query, ["alembic_version"]).fetchall()))
        assert set(found[0]) ^ set(found[1]) == set()
        assert len(found[0]) > 20


def test_the_files_are_their_owners_alone(path: Path) -> None:
    path.chmod(0o644)
    with closing(open_store(f"sqlite:///{path}", clock=now)) as store:
        store.write(lambda tx: tx.meta.set("key", "value"))
        files = list(path.parent.glob("database.sqlite3*"))
        assert len(files) == 3
        assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}


def test_durability_is_switched_on(path: Path) -> None:
    with closing(open_store(f"sqlite:///{path}", clock=now)) as store:
        with store._writing.connect() as connection:  # type: ignore[attr-defined]
            found = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
            ]
        assert found == ["wal", 2, 1, 1]


@pytest.mark.parametrize("start", [0, 40, 4096])
def test_a_damaged_file_says_so(path: Path, start: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * 4096)
    with pytest.raises(StorageCorrupt, match="last backup"):
        reopen(path)


def test_a_file_cut_off_says_so(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(StorageCorrupt):
        reopen(path)


def test_a_text_file_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, and long enough to hold a header")
    with pytest.raises(StorageCorrupt):
        reopen(path)


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite3"
    path.touch()
    assert reopen(path) is None


def test_a_newer_versions_database_is_left_alone(store_url: str, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageTooNew, match=r"9999.*newer Tieline"):
        open_store(store_url, clock=now)
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
        connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": REVISION})


def test_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="No such file or directory"):
        reopen(tmp_path / "no" / "database.sqlite3")


@pytest.mark.parametrize("url", ["mysql://h/d", "sqlite://", "sqlite:///:memory:", "nonsense"])
def test_other_urls_say_what_is_possible(url: str) -> None:
    with pytest.raises(ConfigurationError, match="use sqlite:///PATH or postgresql"):
        open_store(url, clock=now)


def test_a_server_that_is_not_there_says_so_without_the_password() -> None:
    url = "postgresql://user:hunter2@127.0.0.1:1/db"
    with pytest.raises(StorageUnavailable) as caught:
        open_store(url, clock=now)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.postgres
def test_another_encoding_is_refused(postgres_cluster: PostgresCluster) -> None:
    with postgres_cluster.connect() as connection:
        connection.execute("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(ConfigurationError, match="UTF8"):
        open_store(postgres_cluster.url("plain"), clock=now)


@pytest.mark.postgres
def test_two_processes_may_open_a_new_database_at_once(postgres_cluster: PostgresCluster) -> None:
    url = postgres_cluster.url(postgres_cluster.create(empty=True))
    errors: list[Exception] = []

    def run() -> None:
        try:
            open_store(url, clock=now).close()
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
