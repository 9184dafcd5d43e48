"""Populated databases of the present schema, for the tests of all later ones.

    make schema-dump

runs a small federation of real nodes through what fills their tables and writes each node's
database as SQL to ``tests/compat/schema_NNNN``, NNNN being the newest migration. Run it before you
add the next one: a test fails while an earlier schema has no dump.

``--revision NNNN`` lays the rows of today's nodes into the tables as they were at an earlier
migration instead: what that schema did not know is left out. 0002 to 0005 were made so, since no
code of their times can be run any more; it cannot know what a later migration did to values.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine
from tieline_server.storage.engine import open_store
from tieline_server.storage.migrate import configuration
from tieline_server.storage.schema import REVISION

from tests.e2e.federation import WHY, Federation, Node, federation, wait_for

FOLDER = Path(__file__).parent
PT, ES, HUB, INTERPOL = "pt-pj", "es-gc", "europol-ec3", "interpol"
_MEMBERS = [
    (PT, "national", "PT"),
    (ES, "national", "ES"),
    (HUB, "hub"),
    (INTERPOL, "repository"),
]


def live(nodes: Federation, folder: Path) -> None:
    """Fill the tables of all nodes as their people would; all have stopped afterwards."""
    pt, es, hub, interpol = (nodes[agency] for agency in (PT, ES, HUB, INTERPOL))
    series = {name: _series(pt, folder, name) for name in ("Harbour", "Attic", "Ferry", "Late")}
    known = folder / "known.txt"
    known.write_text("".join(f"sha1:{_sha1('good', n)}\n" for n in range(4)))
    pt.import_file(known, "--as", "exclusions")
    asked = folder / "asked.txt"
    asked.write_text("".join(f"sha1:{_sha1('Harbour', n)}\n" for n in range(3)))
    es.ask(asked).ok()

    pt.run("series", "refer", series["Harbour"], "--urgency", "immediate", *WHY).ok()
    entry = _entry(es, series["Harbour"])
    es.run("inbox", "ack", entry).ok()
    es.run("inbox", "accept", entry).ok()
    es.run("inbox", "outcome", entry, "--identified", "1", "--text", "known here").ok()
    pt.run("series", "refer", series["Ferry"], *WHY).ok()
    es.run("inbox", "decline", _entry(es, series["Ferry"]), "--reason", "not ours").ok()
    pt.run("series", "refer", series["Attic"], *WHY).ok()
    _entry(es, series["Attic"])
    pt.run("upload", series["Harbour"], "--to", INTERPOL, *WHY).ok()
    upload = wait_for("the deposit is there", lambda: interpol.run("uploads").json["uploads"])[0]
    interpol.run("upload", "step", upload["id"], "--state", "numbered", "--reference", "R-1").ok()
    asks = _series(hub, folder, "Who")
    (told,) = hub.run("broadcast", asks, "--group", "taskforce", *WHY).ok().json["broadcasts"]
    wait_for("the broadcast is there", lambda: any(o["id"] == told["id"] for o in es.inbox()))
    es.run("inbox", "answer", told["id"], "--eliminate", "ES").ok()
    pt.run("series", "withdraw", series["Attic"], "--reason", "a mistake").ok()
    pt.run("series", "narrow", series["Ferry"], "--handling", "H2", "--reason", "court").ok()
    _work_on(pt, series["Harbour"])
    steps = folder / "steps.txt"
    steps.write_text(f"sha1:{_sha1('Harbour', 0)}\n")
    split = ("--items", str(steps), "--name", "Harbour steps")
    pt.run("series", "split", series["Harbour"], *split).ok()
    _link(pt, es, folder)
    _quiet(nodes)
    interpol.stop()
    es.stop()
    pt.run("series", "refer", series["Late"], "--urgency", "immediate", *WHY).ok()
    wait_for("it was found away", lambda: pt.rows("SELECT 1 FROM destinations WHERE attempts > 0"))
    nodes.close()
    _leave_a_gap(es)


def _work_on(pt: Node, told: str) -> None:
    """What people do with a series besides telling it: its life, clues, tips, parts."""
    for name in ("Loft", "Roof"):
        pt.run("series", "create", name, "--case", "2026-1").ok()
        pt.run("series", "status", name, "--to", "triaged").ok()
    pt.run("series", "merge", "Loft", "Roof", "--text", "the same room").ok()
    said = ("--text", "Blue school bag with a white anchor", "--kind", "object")
    clue = str(pt.run("clue", "add", told, *said).ok().json["id"])
    seen = ("--text", "Seen in a shop", "--source", "site", "--country", "ES")
    pt.run("clue", "tip", clue, *seen).ok()
    (tip,) = pt.run("clue", "tips").ok().json["tips"]
    pt.run("clue", "relay", str(tip["id"]), *WHY).ok()
    days = ("--from", "2026-03-01", "--to", "2026-03-12", "--participant", ES)
    pt.run("operation", "new", "Taskforce 7", *days).ok()
    pt.run("operation", "add", "Taskforce 7", told).ok()
    pt.run("operation", "assign", "Taskforce 7", told, "--agency", ES, "--person", "Eva").ok()
    _watch(pt)


def _watch(pt: Node) -> None:
    """A standing query that matched at a peer, with its notice; a peer says its generation."""
    file = pt.home.parent / "watched.txt"
    file.write_text("".join(f"sha1:{_sha1('Who', n)}\n" for n in range(3)))
    pt.run("watch", "add", file, "--until", f"{datetime.now(UTC).year + 1}-01-01", *WHY).ok()
    pt.run("watch", "run").ok()


def _link(pt: Node, es: Node, folder: Path) -> None:
    """Two agencies hold one series, and say so."""
    theirs = folder / "Puerto.txt"
    theirs.write_text("".join(f"sha1:{_sha1('Quay', n)}\n" for n in range(8)))
    es.import_file(theirs, "--series", "Puerto")
    quay = folder / "Quay.txt"
    quay.write_text(theirs.read_text())
    (made,) = pt.import_file(quay, "--series", "Quay")["series"]
    pt.run("series", "refer", made, "--agency", ES, *WHY).ok()
    _entry(es, made)
    found = wait_for("it is proposed", lambda: es.run("series", "same-as").ok().json["links"])
    es.run("series", "same-as", "confirm", found[0]["id"], *WHY).ok()
    es.run("series", "note", made, "--text", "the same quay", *WHY).ok()
    told = wait_for("it was told", lambda: pt.run("series", "same-as").ok().json["links"])
    pt.run("series", "same-as", "confirm", told[0]["id"]).ok()


def _sha1(name: str, number: int) -> str:
    return hashlib.sha1(f"{name}/{number}".encode()).hexdigest()


def _series(node: Node, folder: Path, name: str) -> str:
    file = folder / f"{name}.txt"
    file.write_text("".join(f"sha1:{_sha1(name, n)}\n" for n in range(3)))
    (made,) = node.import_file(file, "--series", name)["series"]
    said = ("--country", "ES", "--confidence", "high", "--grounds", "wall sockets")
    node.run("series", "assess", made, *said).ok()
    return str(made)


def _entry(node: Node, series: str) -> str:
    def look() -> str | None:
        came = [one for one in node.inbox() if one["referral"]]
        told = (one for one in came if one["referral"]["series"] == series)
        return next((str(one["id"]) for one in told), None)

    return wait_for(f"{node.agency} has {series}", look)


def _quiet(nodes: Federation) -> None:
    """Wait until nothing is queued anywhere and no erasure is under way."""
    waits = (
        "SELECT 1 FROM outbox WHERE state = 'queued' UNION SELECT 1 FROM purges WHERE ended IS NULL"
    )
    wait_for("all is quiet", lambda: not any(node.rows(waits) for node in nodes))


def _leave_a_gap(node: Node) -> None:
    """Settle a place above the others in a lane, as a message does that overtook a lost one."""
    url = f"sqlite:///{node.home / 'database.sqlite3'}"
    with contextlib.closing(open_store(url, clock=lambda: datetime.now(UTC))) as store:
        store.write(lambda tx: tx.standings.settle(PT, 1, 1_000, 1_001))


# --- the rows of today in the tables of an earlier schema ---------------------------------------


def _exclusions_by_kind(old: sqlite3.Connection, new: Path) -> None:
    """Before 0005 each digest that is known good was a row of its own."""
    with contextlib.closing(sqlite3.connect(new)) as now:
        for kind, name in enumerate(("md5", "sha1", "sha256"), 1):
            rows = now.execute(
                f"SELECT {name}, import_no FROM exclusions WHERE {name} IS NOT NULL"
            ).fetchall()
            old.executemany(
                f"INSERT INTO exclusions (kind, digest, import_no) VALUES ({kind}, ?, ?)",
                rows,
            )
            numbers = {(number,) for _, number in rows}
            old.executemany("DELETE FROM import_tallies WHERE import_no = ?", numbers)
    old.execute("DELETE FROM counters WHERE name = 'exclusion'")


_OTHERWISE: dict[str, tuple[str, Callable[[sqlite3.Connection, Path], None]]] = {
    "exclusions": ("0005", _exclusions_by_kind),
}
"""Tables whose form changed with a migration, and how to fill them as they were before it."""


def empty(path: Path, revision: str) -> None:
    """Make a database with the tables of a revision."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        command.upgrade(configuration(connection), revision)
    engine.dispose()


def tables(database: sqlite3.Connection) -> dict[str, list[str]]:
    """Return the columns of each table."""
    names = database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    return {
        name: [row[1] for row in database.execute(f"PRAGMA table_info({name})")]
        for (name,) in names
    }


def _lay_back(now: Path, path: Path, revision: str) -> None:
    empty(path, revision)
    with contextlib.closing(sqlite3.connect(path)) as old:
        triggers = old.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall()
        for name, _ in triggers:
            old.execute(f"DROP TRIGGER {name}")
        old.execute("ATTACH ? AS now", (str(now),))
        for table, columns in tables(old).items():
            since, _ = _OTHERWISE.get(table, ("", None))
            if table == "alembic_version" or revision < since:
                continue
            kept = [row[1] for row in old.execute(f"PRAGMA now.table_info({table})")]
            both = ", ".join(f'"{one}"' for one in columns if one in kept)
            # A broadcast had a row for each recipient only from 0003 on.
            old.execute(f"INSERT OR IGNORE INTO {table} ({both}) SELECT {both} FROM now.{table}")
        for since, fill in _OTHERWISE.values():
            if revision < since:
                fill(old, now)
        for _, sql in triggers:
            old.execute(sql)
        old.commit()


def _write(database: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as made:
        text = "\n".join(made.iterdump()) + "\n"
    target.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


@contextlib.contextmanager
def _lived() -> Iterator[Federation]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        groups = [("taskforce", PT, ES, INTERPOL)]
        with federation(root / "nodes", _MEMBERS, groups=groups) as nodes:
            live(nodes, root)
            yield nodes


def main() -> None:
    """Write the dumps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--revision", nargs="*", default=[REVISION], metavar="NNNN")
    wanted = parser.parse_args().revision
    with _lived() as nodes, tempfile.TemporaryDirectory() as folder:
        for revision in wanted:
            target = FOLDER / f"schema_{revision}"
            target.mkdir(exist_ok=True)
            for node in nodes:
                database = node.home / "database.sqlite3"
                if revision != REVISION:
                    database = Path(folder) / f"{node.agency}-{revision}.sqlite3"
                    _lay_back(node.home / "database.sqlite3", database, revision)
                _write(database, target / f"{node.agency}.sql.gz")
            print(target.relative_to(FOLDER.parents[1]))


if __name__ == "__main__":
    main()
