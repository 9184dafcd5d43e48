"""NSRL RDSv2 (CSV in ISO-8859-1) and RDSv3 (SQLite that someone else wrote)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tieline_client.errors import FormatError
from tieline_client.formats import FileFormat, Record, Rejected, detect, open_records

MD5 = "0123456789ABCDEF0123456789ABCDEF"
SHA1 = MD5 + "01234567"
SHA256 = MD5 * 2
HEADER = (
    '"SHA-1","MD5","CRC32","FileName","FileSize","ProductCode","OpSystemCode","SpecialCode"\r\n'
)
MINIMAL = (
    "CREATE TABLE FILE (sha256 VARCHAR NOT NULL, sha1 VARCHAR NOT NULL, md5 VARCHAR NOT NULL, "
    "crc32 VARCHAR NOT NULL, file_name VARCHAR NOT NULL, file_size INTEGER NOT NULL, "
    "package_id INTEGER NOT NULL);"
    "CREATE VIEW DISTINCT_HASH AS SELECT DISTINCT sha256, sha1, md5, crc32 FROM FILE;"
)

Many = Callable[..., list[Record | Rejected]]


def line(name: str, *, sha1: str = SHA1, md5: str = MD5, size: object = 5) -> str:
    return f'"{sha1}","{md5}","00000000","{name}",{size},1,"358",""\r\n'


@pytest.fixture
def database(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes a database of SQL statements."""

    def make(script: str) -> Path:
        path = tmp_path / "rds #1?.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
        return path

    return make


# --- RDSv2 ---


def test_v2(read: Many) -> None:
    text = HEADER + line("caf\xe9.exe") + line("a, b.dll", size=9007199254740993)
    first, second = read(text.encode("latin-1"))
    assert first == Record(
        1, md5=bytes.fromhex(MD5), sha1=bytes.fromhex(SHA1), size=5, entire=False
    )
    assert isinstance(second, Record)
    assert second.size == 9007199254740993


def test_v2_header_without_quotes(read: Many) -> None:
    (record,) = read(HEADER.replace('"', "") + line("x"))
    assert isinstance(record, Record)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_v2_that_an_editor_saved_again(read: Many, encoding: str) -> None:
    (record,) = read((HEADER + line("café")).encode(encoding))
    assert isinstance(record, Record)


def test_v2_bad_lines_cost_themselves_only(read: Many) -> None:
    bad = [
        line("x", sha1=SHA1[:-1]),
        line("x", md5=""),
        line('open " quote'),
        '"' + SHA1 + '"\r\n',
        line("x", sha1="", md5=""),
    ]
    outcome = read(HEADER + "".join(bad) + line("good"))
    assert len(outcome) == 6
    assert isinstance(outcome[0], Rejected)
    assert isinstance(outcome[1], Record)
    assert isinstance(outcome[3], Rejected)
    assert isinstance(outcome[4], Rejected)
    last = outcome[5]
    assert isinstance(last, Record)
    assert last.number == 6


def test_v2_needs_its_header(read: Many) -> None:
    with pytest.raises(FormatError, match="SHA-1,MD5"):
        read(line("x"), FileFormat.NSRL)
    with pytest.raises(FormatError):
        read('"open', FileFormat.NSRL)
    with pytest.raises(FormatError):
        read("", FileFormat.NSRL)


# --- RDSv3 ---


def insert(table: str = "FILE", sha256: str = SHA256) -> str:
    return f"INSERT INTO {table} VALUES ('{sha256}','{SHA1}','{MD5}','0','a','5',1);"


def test_v3_minimal(database: Callable[[str], Path]) -> None:
    path = database(MINIMAL + insert() * 3)
    assert detect(path) is FileFormat.NSRL
    before = path.stat()
    told: list[int] = []
    records = list(open_records(path, on_progress=told.append))
    assert records == [
        Record(
            number,
            md5=bytes.fromhex(MD5),
            sha1=bytes.fromhex(SHA1),
            sha256=bytes.fromhex(SHA256),
            size=5,
        )
        for number in (1, 2, 3)
    ]
    assert told == [path.stat().st_size]
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_v3_full_has_a_view_over_metadata(database: Callable[[str], Path]) -> None:
    path = database(
        "CREATE TABLE METADATA (metadata_id INTEGER, bytes INTEGER, crc32 VARCHAR, md5 VARCHAR, "
        "sha1 VARCHAR, sha256 VARCHAR);"
        f"INSERT INTO METADATA VALUES (1, 7, '0', lower('{MD5}'), '{SHA1}', '{SHA256}');"
        "CREATE VIEW FILE AS SELECT UPPER(sha256) AS sha256, UPPER(sha1) AS sha1, "
        "UPPER(md5) AS md5, bytes AS file_size FROM METADATA;"
    )
    (record,) = open_records(path)
    assert isinstance(record, Record)
    assert (record.md5, record.size) == (bytes.fromhex(MD5), 7)


@pytest.mark.parametrize("table", ["METADATA", "DISTINCT_HASH", "distinct_hash"])
def test_v3_any_of_the_views_will_do(database: Callable[[str], Path], table: str) -> None:
    path = database(f"CREATE TABLE {table} (md5 TEXT); INSERT INTO {table} VALUES ('{MD5}');")
    (record,) = open_records(path)
    assert record == Record(1, md5=bytes.fromhex(MD5))


def test_v3_bad_rows_are_rejected(database: Callable[[str], Path]) -> None:
    script = "CREATE TABLE FILE (md5, file_size);"
    for value in ("'abc'", "5", f"X'{MD5}'", "NULL", "CAST(X'ff' AS TEXT)", f"'{MD5}'"):
        script += f"INSERT INTO FILE VALUES ({value}, 'x');"
    *bad, good = open_records(database(script))
    assert all(isinstance(each, Rejected) for each in bad)
    assert isinstance(good, Record)
    assert good.number == 6
    assert "size" in good.notes[0]


def test_v3_another_database_is_refused(database: Callable[[str], Path]) -> None:
    with pytest.raises(FormatError, match="RDSv3"):
        list(open_records(database("CREATE TABLE x (md5 TEXT);")))
    with pytest.raises(FormatError, match="RDSv3"):
        list(open_records(database("CREATE TABLE FILE (name TEXT);")))


@pytest.mark.parametrize(
    "view",
    [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS md5 FROM n",
        "SELECT load_extension('x') AS md5",
        "SELECT randomblob(1000000000) AS md5",
        "SELECT md5 FROM missing",
    ],
)
def test_v3_a_view_may_not_compute(database: Callable[[str], Path], view: str) -> None:
    with pytest.raises(FormatError, match="database"):
        list(open_records(database(f"CREATE VIEW FILE AS {view};")))


def test_v3_a_view_without_end_is_stopped(
    database: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tieline_client.formats.nsrl.SQLITE_STEPS_PER_FETCH", 2_000_000)
    rows = f"INSERT INTO t VALUES ('{MD5}');" * 60
    path = database(
        f"CREATE TABLE t (md5 TEXT); {rows} CREATE VIEW FILE AS SELECT a.md5 AS md5 "
        "FROM t a, t b, t c, t d, t e WHERE a.md5 <> b.md5 || c.md5 || d.md5 AND e.md5 = ''"
    )
    with pytest.raises(FormatError, match="interrupted"):
        list(open_records(path))


def test_v3_truncated_or_damaged(database: Callable[[str], Path], tmp_path: Path) -> None:
    content = database(MINIMAL + insert() * 500).read_bytes()
    damaged = tmp_path / "damaged"
    for end in (16, 100, 4096, len(content) // 2, len(content) - 4096):
        damaged.write_bytes(content[:end])
        with pytest.raises(FormatError, match="database"):
            list(open_records(damaged))
    damaged.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(FormatError, match="database"):
        list(open_records(damaged))
