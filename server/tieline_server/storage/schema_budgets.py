"""Tables of budgets: what admins set, and what peers have used on which day."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table

from tieline_server.storage.schema_base import metadata
from tieline_server.storage.types import Words

budgets = Table(
    "budgets",
    metadata,
    Column("peer", Words, primary_key=True),
    Column("purpose", Words, primary_key=True),
    Column("units", BigInteger, nullable=False),
)
"""Beyond what config.toml states; an empty ``purpose`` is all of them together."""

budget_days = Table(
    "budget_days",
    metadata,
    Column("day", Words, primary_key=True),
    Column("peer", Words, primary_key=True),
    Column("purpose", Words, primary_key=True),
    Column("units", BigInteger, nullable=False),
    Column("asked", BigInteger, nullable=False),
    Column("hits", BigInteger, nullable=False),
)
"""``units`` are reserved; ``asked`` records and ``hits`` are of questions that ended, and counted
in the row of all purposes alone."""
