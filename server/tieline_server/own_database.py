"""Whether a database is the one that a home was used with.

An empty one in its place would be migrated, answer every peer that nothing is held, and take the
node's place towards its peers: after it the true one is a copy that was left behind. A profile in
HOME/operators says that the home was used, and the database knows its operator.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError
from tieline_client.errors import ConfigurationError

from tieline_server.config import Home
from tieline_server.domain.ports import Store, Tx
from tieline_server.storage.engine import sqlite_file

ADVICE = (
    "correct `database` in config.toml, or TIELINE_NODE_DATABASE, or restore a backup with "
    "`tieline node restore`"
)


def missing(home: Home, url: str) -> Path | None:
    """Return the SQLite file that is missing and was there: it would be made anew."""
    try:
        path = sqlite_file(make_url(url))
    except ArgumentError:  # as storage will say
        return None
    return path if path is not None and _used_by(home) and not path.is_file() else None


def check_there(home: Home, url: str) -> None:
    """Raise ConfigurationError where the database's file is `missing`."""
    if (path := missing(home, url)) is not None:
        raise ConfigurationError(f"the database {path} is not there; {ADVICE}")


def check_own(home: Home, store: Store) -> None:
    """Raise ConfigurationError for a database that is not this home's."""

    def work(tx: Tx) -> tuple[list[str], str]:
        known = [name for name in _used_by(home) if tx.operators.get(name)]
        last = tx.audit.records(max(tx.audit.size() - 1, 0), 1)
        return known, agency_of(last[0].leaf) if last else ""

    check(home, *store.read(work))


def check(home: Home, known: Collection[str], agency: str) -> None:
    """Raise ConfigurationError for the database of somebody else: ``known`` are operators in it, of
    whom one at least has a profile in the home, and ``agency`` is whose log it has, "" for none."""
    names, own = _used_by(home), home.config().agency
    if names and not any(name in known for name in names):
        raise ConfigurationError(
            f"the database knows none of {', '.join(names)}, whose profiles lie in"
            f" {home.operators}: it is not this home's; {ADVICE}"
        )
    if agency not in ("", own):
        raise ConfigurationError(
            f"the database is one of {agency}, by its log, and {home.path} is {own}'s; {ADVICE}"
        )


def agency_of(leaf: bytes) -> str:
    """Return whose log an entry is of; "" where it does not say."""
    try:
        return str(json.loads(leaf)["agency"])
    except (ValueError, KeyError, TypeError):
        return ""


def _used_by(home: Home) -> list[str]:
    return sorted(path.stem for path in home.operators.glob("*.json"))
