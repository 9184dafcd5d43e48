"""Tables of operations: who takes part, which series, who evaluates them."""

from __future__ import annotations

from sqlalchemy import Column, Date, ForeignKey, Table

from tieline_server.storage.schema_base import metadata
from tieline_server.storage.types import UtcTime, Words

operations = Table(
    "operations",
    metadata,
    Column("id", Words, primary_key=True),
    Column("name", Words, nullable=False, unique=True),
    Column("begins", Date, nullable=False),
    Column("ends", Date, nullable=False),
    Column("participants", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("case_ref", Words, nullable=False),
    Column("created", UtcTime, nullable=False),
)
"""``participants`` is a JSON list."""

operation_series = Table(
    "operation_series",
    metadata,
    Column("operation", Words, ForeignKey("operations.id"), primary_key=True),
    Column("series", Words, primary_key=True, index=True),
    Column("person", Words, nullable=False),
    Column("at", UtcTime, nullable=False),
)
evaluations = Table(
    "evaluations",
    metadata,
    Column("operation", Words, ForeignKey("operations.id"), primary_key=True),
    Column("series", Words, primary_key=True, index=True),
    Column("agency", Words, primary_key=True),
    Column("person", Words, primary_key=True),
    Column("assigned", UtcTime, nullable=False),
    Column("assigned_by", Words, nullable=False),
    Column("done", UtcTime),
    Column("done_by", Words, nullable=False),
    Column("text", Words, nullable=False),
)
