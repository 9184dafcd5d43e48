"""Tables of what is known of peers' lives, and how far each lane came."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, SmallInteger, Table

from tieline_server.storage.schema_base import metadata
from tieline_server.storage.types import UtcTime, Words

standings = Table(
    "standings",
    metadata,
    Column("agency", Words, primary_key=True),
    Column("epoch", Words, nullable=False),
    Column("lives", Words, nullable=False),
    Column("retired", Words, nullable=False),
    Column("trouble", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Column("since", UtcTime),
    Column("told", Words, nullable=False),
    Column("told_since", UtcTime),
    Column("recovered", Words, nullable=False),
    Column("wire", Words, nullable=False),
    Column("capabilities", Words, nullable=False),
    Column("challenge", Words, nullable=False),
    Column("asked", Words, nullable=False),
)
"""``lives``, ``retired``, ``capabilities`` and ``asked`` are JSON."""

standing_lanes = Table(
    "standing_lanes",
    metadata,
    Column("agency", Words, primary_key=True),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False),
    Column("applied", BigInteger, nullable=False),
    Column("highest", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("their_sent", BigInteger, nullable=False),
    Column("their_applied", BigInteger, nullable=False),
    Column("their_highest", BigInteger, nullable=False),
    Column("voids", Words, nullable=False),
)
"""``applied`` and ``highest``: what was settled here of the peer's messages; ``received``: the
highest sequence that came in the peer's epoch; ``their_*``: its own word; ``voids``: ranges of ours
that it lacks and that will never come, JSON."""

standing_ranges = Table(
    "standing_ranges",
    metadata,
    Column("agency", Words, primary_key=True),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
)
"""What was settled above ``applied``, merged: as many rows as there are gaps."""
