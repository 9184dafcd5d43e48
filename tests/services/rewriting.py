"""What somebody with the database file can do to an audit log: rewrite all of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tieline_server.domain import merkle

Edit = Callable[[list[bytes]], list[bytes]]


def rewrite(path: Path, edit: Edit) -> None:
    """Change the leaves of a closed database; every hash is made anew, so that it is consistent."""
    with closing(sqlite3.connect(path)) as database, database:
        rows = database.execute("SELECT leaf FROM audit_leaves ORDER BY position")
        leaves = [row[0] for row in rows]
        leaves = edit(leaves)
        hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
        nodes = merkle.append(0, hashes, lambda _level, _number: b"")
        database.execute("DELETE FROM audit_leaves")
        database.execute("DELETE FROM audit_nodes")
        database.executemany(
            "INSERT INTO audit_leaves VALUES (?, ?, ?)",
            list(zip(range(len(leaves)), leaves, hashes, strict=True)),
        )
        database.executemany(
            "INSERT INTO audit_nodes VALUES (?, ?, ?)", [one for one in nodes if one.level]
        )


def edited(position: int, **changes: Any) -> Edit:
    """Change what one entry says."""

    def edit(leaves: list[bytes]) -> list[bytes]:
        entry = json.loads(leaves[position]) | changes
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return [*leaves[:position], text.encode(), *leaves[position + 1 :]]

    return edit
