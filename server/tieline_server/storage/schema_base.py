"""What all tables share: their metadata, the newest revision, settings and counters."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Date, MetaData, SmallInteger, Table

from tieline_server.storage.types import Words

REVISION = "0020"
"""The newest migration (storage/migrations/versions)."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

meta = Table(
    "meta",
    metadata,
    Column("key", Words, primary_key=True),
    Column("value", Words, nullable=False),
)
counters = Table(
    "counters",
    metadata,
    Column("name", Words, primary_key=True),
    Column("value", BigInteger, nullable=False),
)


def handling_columns() -> list[Column[Any]]:
    """Return the columns of a Handling."""
    return [
        Column("handling", SmallInteger, nullable=False),
        Column("tlp", SmallInteger, nullable=False),
        Column("source_evaluation", Words, nullable=False),
        Column("information_evaluation", SmallInteger, nullable=False),
        Column("retain_until", Date, nullable=False),
        Column("restriction", Words, nullable=False),
    ]
