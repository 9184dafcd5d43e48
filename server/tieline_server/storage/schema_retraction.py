"""Tables of retractions, of who was told of them, and of what is being erased for good."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    SmallInteger,
    Table,
    text,
)

from tieline_server.storage.schema_base import metadata
from tieline_server.storage.types import Key, UtcTime, Words

retractions = Table(
    "retractions",
    metadata,
    Column("id", Words, primary_key=True),
    Column("series", Words, primary_key=True, index=True),
    Column("kind", Words, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("person", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Column("handling", SmallInteger),
    Column("tlp", SmallInteger),
    Column("source_evaluation", Words),
    Column("information_evaluation", SmallInteger),
    Column("retain_until", Date),
    Column("restriction", Words),
    Column("limited", Boolean, nullable=False),
    Column("only", Words, nullable=False),
    Column("sender", Words, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)
"""Kept for good: what comes late of a series is held against them. Who is told an id may use it for
a word of its own: only with the series, which names the owner, it is one word. The columns of
handling are NULL together where it stays as it was; ``only`` is a JSON list; ``sender`` is empty at
the owner."""

retraction_recipients = Table(
    "retraction_recipients",
    metadata,
    Column("retraction", Words, primary_key=True),
    Column("series", Words, primary_key=True),
    Column("agency", Words, primary_key=True),
    Column("via", Words, nullable=False),
    Column("message", Words, nullable=False),
    Column("confirmed", UtcTime),
    Column("erased", Boolean, nullable=False),
    ForeignKeyConstraint(["retraction", "series"], ["retractions.id", "retractions.series"]),
)
"""Who was told: by this node (``message`` is in the outbox) or, as a receipt says, by ``via``."""

retraction_sources = Table(
    "retraction_sources",
    metadata,
    Column("retraction", Words, primary_key=True),
    Column("series", Words, primary_key=True),
    Column("agency", Words, primary_key=True),
    Column("answered", UtcTime),
    ForeignKeyConstraint(["retraction", "series"], ["retractions.id", "retractions.series"]),
)
"""Who told this node, and when its receipt was queued for them."""

purges = Table(
    "purges",
    metadata,
    Column("id", Words, primary_key=True),
    Column("cause", Words, nullable=False),
    Column("series", Words, primary_key=True),
    Column("import_no", Key, nullable=False),
    Column("state", Words, nullable=False),
    Column("holdings", BigInteger, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("ended", UtcTime),
    Column("reason", Words, nullable=False),
    Index(
        "ix_purges_open",
        "created",
        sqlite_where=text("ended IS NULL"),
        postgresql_where=text("ended IS NULL"),
    ),
)
"""Of a series or, where that is empty, of one import. ``id`` is the retraction's where that is the
cause."""
