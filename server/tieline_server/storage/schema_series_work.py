"""Tables of the work on series: what was done with each, by whom."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKeyConstraint, LargeBinary, Table

from tieline_server.storage.schema_base import metadata
from tieline_server.storage.types import UtcTime, Words

series_events = Table(
    "series_events",
    metadata,
    Column("id", Words, primary_key=True),
    Column("series", Words, nullable=False, index=True),
    Column("kind", Words, nullable=False),
    Column("agency", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("before", Words, nullable=False),
    Column("after", Words, nullable=False),
    Column("text", Words, nullable=False),
)
series_notes = Table(
    "series_notes",
    metadata,
    Column("id", Words, primary_key=True),
    Column("series", Words, nullable=False, index=True),
    Column("agency", Words, primary_key=True),
    Column("person", Words, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("text", Words, nullable=False),
    Column("told", Words, nullable=False),
)
"""``told`` is a JSON list."""
series_aliases = Table(
    "series_aliases",
    metadata,
    Column("merged", Words, primary_key=True),
    Column("series", Words, nullable=False, index=True),
    Column("id", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)
"""Kept for good, as retractions are: an id that was told once goes on being found."""
series_splits = Table(
    "series_splits",
    metadata,
    Column("id", Words, primary_key=True),
    Column("series", Words, primary_key=True, index=True),
    Column("made", Words, nullable=False, index=True),
    Column("person", Words, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("noted", UtcTime, nullable=False),
    Column("marks", LargeBinary, nullable=False),
    Column("notice", LargeBinary, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)
"""Kept for good: what comes late under the old id is known by its marks. ``notice`` and
``envelope`` are empty once the new series was erased."""
series_split_told = Table(
    "series_split_told",
    metadata,
    Column("split", Words, primary_key=True),
    Column("series", Words, primary_key=True),
    Column("agency", Words, primary_key=True),
    ForeignKeyConstraint(["split", "series"], ["series_splits.id", "series_splits.series"]),
)
"""Whom this node told."""
