"""Table of series that two agencies hold as one."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, UniqueConstraint

from tieline_server.storage.schema_base import metadata
from tieline_server.storage.types import UtcTime, Words

same_as = Table(
    "same_as",
    metadata,
    Column("id", Words, primary_key=True),
    Column("own", Words, nullable=False),
    Column("other", Words, nullable=False, index=True),
    Column("found", UtcTime, nullable=False),
    Column("shared", BigInteger, nullable=False),
    Column("own_items", BigInteger, nullable=False),
    Column("other_items", BigInteger, nullable=False),
    Column("ours", Words, nullable=False),
    Column("ours_at", UtcTime),
    Column("ours_person", Words, nullable=False),
    Column("theirs", Words, nullable=False),
    Column("theirs_at", UtcTime),
    Column("theirs_person", Words, nullable=False),
    Column("purpose", Words, nullable=False),
    Column("case_ref", Words, nullable=False),
    Column("references", Words, nullable=False),
    Column("contact", Words, nullable=False),
    UniqueConstraint("own", "other", name="uq_same_as_own"),
)
"""``references`` and ``contact`` are JSON: what the other side told of its series."""
