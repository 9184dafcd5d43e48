"""Tables about the audit log and what goes with it, apart from its leaves and nodes."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, LargeBinary, Table

from tieline_server.storage.schema_base import metadata
from tieline_server.storage.types import UtcTime, Words

asked_sketches = Table(
    "asked_sketches",
    metadata,
    Column("peer", Words, primary_key=True),
    Column("request", Words, primary_key=True),
    Column("person", Words, nullable=False),
    Column("purpose", Words, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("sketch", LargeBinary, nullable=False),
    Column("at", UtcTime, nullable=False, index=True),
)
"""Keyed sketches of what peers asked (domain/minhash.py), erased after limits.SKETCH_LIFE."""
