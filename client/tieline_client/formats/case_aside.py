"""What a reader of a graph keeps aside while it reads: in a file without a name, not in memory.

A graph says in any order which series lists which item, and may say of a facet or a hash apart from
its item, by name. SQLite's temporary database holds that, with a bounded cache; the system drops it
when the reader ends, however it ends.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

from tieline_client.errors import FormatError
from tieline_client.formats.fields import shown
from tieline_client.formats.graph import Node, key
from tieline_client.limits import GRAPH_PART_BYTES, REFERENCES_PER_SERIES

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
PRAGMA cache_size = -4096;
CREATE TABLE series (key BLOB PRIMARY KEY, name TEXT, marks TEXT, refs TEXT, told INT DEFAULT 0)
    WITHOUT ROWID;
CREATE TABLE member (item BLOB, container BLOB, PRIMARY KEY (item, container)) WITHOUT ROWID;
CREATE TABLE alias (container BLOB PRIMARY KEY, series BLOB) WITHOUT ROWID;
CREATE TABLE part (key BLOB PRIMARY KEY, types TEXT, properties TEXT) WITHOUT ROWID;
CREATE TABLE item (key BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_SERIES_OF = """
SELECT DISTINCT series.key, series.name FROM member
LEFT JOIN alias ON alias.container = member.container
JOIN series ON series.key = coalesce(alias.series, member.container)
WHERE member.item = ? ORDER BY series.key LIMIT 2
"""


@dataclass(frozen=True, slots=True)
class SeriesOf:
    """The series of an item; ``more`` when it is in another one too."""

    key: bytes
    name: str
    more: bool


class Aside:
    """Kept for one file. All raise FormatError when there is no room."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")

    def __enter__(self) -> Aside:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()
        if isinstance(error, sqlite3.Error):
            raise self._fault("no room to sort it out in the folder for temporary files") from None

    def member(self, item: bytes, container: bytes) -> None:
        """Note that a container lists an item."""
        self._database.execute("INSERT OR IGNORE INTO member VALUES (?, ?)", (item, container))

    def aliases(self, found: Iterable[tuple[bytes, bytes]]) -> None:
        """Note under which keys containers were first met."""
        self._database.executemany("INSERT OR REPLACE INTO alias VALUES (?, ?)", found)

    def series(self, node: Node, name: str) -> None:
        """Note a series; what was first said of it counts."""
        marks = node.properties.get("uco-core:objectMarking", [])[:REFERENCES_PER_SERIES]
        refs = node.properties.get("uco-core:externalReference", [])[:REFERENCES_PER_SERIES]
        self._database.execute(
            "INSERT OR IGNORE INTO series (key, name, marks, refs) VALUES (?, ?, ?, ?)",
            (node.key, *map(_text, (name, marks, refs))),
        )

    def series_of(self, item: bytes) -> SeriesOf | None:
        """Return the series of an item, None when it is in none."""
        found = self._database.execute(_SERIES_OF, (item,)).fetchall()
        if not found:
            return None
        return SeriesOf(found[0][0], json.loads(found[0][1]), len(found) > 1)

    def untold(self, series: bytes, room: int) -> tuple[list[object], list[object], bool]:
        """Return the next references of a series, its markings, and whether that is the first time.

        ``room`` is how many references may be returned.
        """
        row = self._database.execute(
            "SELECT told, marks, refs FROM series WHERE key = ?", (series,)
        ).fetchone()
        told, marks, refs = row[0], json.loads(row[1]), json.loads(row[2])
        first = told == 0
        after = max(told - 1, 0)
        if first or after < len(refs):
            self._database.execute(
                "UPDATE series SET told = ? WHERE key = ?", (after + room + 1, series)
            )
        return refs[after : after + room], marks, first

    def part(self, node: Node) -> None:
        """Keep a node that others refer to; what is said twice must be the same."""
        kept = (_text(node.types), _text(node.properties))
        if len(kept[1]) > GRAPH_PART_BYTES:
            raise self._fault(f"{shown(node.id)} says more than {GRAPH_PART_BYTES} bytes")
        done = self._database.execute(
            "INSERT OR IGNORE INTO part VALUES (?, ?, ?)", (node.key, *kept)
        )
        if not done.rowcount and self._part(node.key) != kept:
            raise self._fault(f"two nodes have the @id {shown(node.id)}, and differ")

    def find(self, name: str) -> Node | None:
        """Return a node that was kept, by its name."""
        row = self._part(key(name))
        if row is None:
            return None
        return Node(name, tuple(json.loads(row[0])), json.loads(row[1]), key(name))

    def _part(self, name: bytes) -> tuple[str, str] | None:
        found: tuple[str, str] | None = self._database.execute(
            "SELECT types, properties FROM part WHERE key = ?", (name,)
        ).fetchone()
        return found

    def _fault(self, why: str) -> FormatError:
        return FormatError(self._name, None, why)

    def is_new_item(self, item: bytes) -> bool:
        """Whether an item of this name comes for the first time."""
        done = self._database.execute("INSERT OR IGNORE INTO item VALUES (?)", (item,))
        return done.rowcount > 0


def _text(value: object) -> str:
    """Return a value as ASCII; numbers with a fraction as text."""
    return json.dumps(value, default=str)
