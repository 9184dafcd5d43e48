"""Tables of what a person decides: requests, and the series that each is about."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Date, ForeignKey, Index, LargeBinary, SmallInteger, Table

from tieline_server.storage.schema_base import metadata
from tieline_server.storage.types import UtcTime, Words

requests = Table(
    "requests",
    metadata,
    Column("id", Words, primary_key=True),
    Column("kind", Words, nullable=False),
    Column("side", Words, nullable=False),
    Column("peer", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("purpose", Words, nullable=False),
    Column("case_ref", Words, nullable=False),
    Column("state", Words, nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("use", Words, nullable=False),
    Column("agencies", Words, nullable=False),
    Column("text", Words, nullable=False),
    Column("terms", Words, nullable=False),
    Column("decided_by", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("decided", UtcTime),
    Column("expires", UtcTime, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Index("ix_requests_asker", "peer", "purpose", "case_ref", "state"),
    Index("ix_requests_state", "state", "expires"),
)
"""``use`` is empty where there is none; ``agencies`` is a JSON list, ``terms`` a JSON object."""

request_series = Table(
    "request_series",
    metadata,
    Column("request", Words, ForeignKey("requests.id"), primary_key=True),
    Column("series", Words, primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Column("state", Words, nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Column("retain_until", Date),
    Index("ix_request_series_series", "series"),
)
"""``series`` is empty for items in none; ``retain_until`` is that of what was released."""
