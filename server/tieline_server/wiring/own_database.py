"""Whether a database is the one that a home was used with.

An empty one in its place would be migrated, answer every peer that nothing is held, and take the
node's place towards its peers: after it the true one is a copy that was left behind. A profile in
HOME/operators says that the home was used, and the database knows its operator.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError
from tieline_client.errors import ConfigurationError

from tieline_server.config import Home
from tieline_server.domain.ports import Store
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
    """Raise ConfigurationError for a database that knows none of the home's operators."""
    names = _used_by(home)
    if names and not store.read(lambda tx: any(tx.operators.get(name) for name in names)):
        raise ConfigurationError(
            f"the database knows none of {', '.join(names)}, whose profiles lie in"
            f" {home.operators}: it is not this home's; {ADVICE}"
        )


def _used_by(home: Home) -> list[str]:
    return sorted(path.stem for path in home.operators.glob("*.json"))
