"""Tables of clues, of tips on them, and of whom tips were relayed to."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table

from tieline_server.storage.schema_base import metadata
from tieline_server.storage.types import UtcTime, Words

clues = Table(
    "clues",
    metadata,
    Column("id", Words, primary_key=True),
    Column("series", Words, nullable=False, index=True),
    Column("kind", Words, nullable=False),
    Column("text", Words, nullable=False),
    Column("origin", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("public", Words, nullable=False, index=True),
    Column("published_text", Words, nullable=False),
    Column("published_by", Words, nullable=False),
    Column("purpose", Words, nullable=False),
    Column("case_ref", Words, nullable=False),
    Column("published", UtcTime),
    Column("ended", UtcTime),
    Column("known", BigInteger, nullable=False),
    Column("limited", BigInteger, nullable=False),
)
tips = Table(
    "tips",
    metadata,
    Column("id", Words, primary_key=True),
    Column("digest", Words, nullable=False),
    Column("clue", Words, nullable=False),
    Column("text", Words, nullable=False),
    Column("contact", Words, nullable=False),
    Column("source", Words, nullable=False),
    Column("day", Words, nullable=False),
    Column("received", UtcTime, nullable=False),
    Column("origin", Words, nullable=False),
    Column("country", Words, nullable=False),
    Column("said", Words, nullable=False),
    Column("state", Words, nullable=False),
    Column("supports", Words, nullable=False),
    Column("eliminates", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("judged", UtcTime),
    Column("reason", Words, nullable=False),
    Index("ix_tips_clue", "clue", "state"),
    Index("ix_tips_source", "source", "day"),
    Index("uq_tips_digest", "digest", unique=True),
)
tip_relays = Table(
    "tip_relays",
    metadata,
    Column("tip", Words, primary_key=True),
    Column("agency", Words, primary_key=True),
    Column("at", UtcTime, nullable=False),
)
