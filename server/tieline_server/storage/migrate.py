"""Bring a database to this version's tables, inside the caller's transaction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from tieline_client.errors import StorageTooNew

from tieline_server.storage.schema import REVISION

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> None:
    """Run the migrations that the database lacks. Raises StorageTooNew."""
    current = _revision(connection)
    if current == REVISION:
        return
    from alembic import command  # noqa: PLC0415 - slow to import and rarely needed
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    script = ScriptDirectory.from_config(configuration(connection))
    if current is not None and current not in {one.revision for one in script.walk_revisions()}:
        raise StorageTooNew(
            f"the database is at revision {current[:32]}, this version knows {REVISION}; "
            "run the newer Tieline that wrote it, or restore a backup made before the upgrade"
        )
    command.upgrade(configuration(connection), "head")


def _revision(connection: Connection) -> str | None:
    """Return the revision that Alembic noted; None for a database without one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def known_revisions() -> frozenset[str]:
    """Return the revisions that this version can bring up to its own."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    return frozenset(one.revision for one in ScriptDirectory.from_config(_plain()).walk_revisions())


def configuration(connection: Connection) -> Config:
    """Return Alembic's configuration for migrations over an open connection."""
    config = _plain()
    config.attributes["connection"] = connection
    return config


def _plain() -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
