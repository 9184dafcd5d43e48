"""Tables of standing queries: their lists (encrypted), how far peers were asked, notices."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table

from tieline_server.storage.schema_base import metadata
from tieline_server.storage.types import UtcTime, Words

watches = Table(
    "watches",
    metadata,
    Column("id", Words, primary_key=True),
    Column("name", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("purpose", Words, nullable=False),
    Column("case_ref", Words, nullable=False),
    Column("reference", Words, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("until", UtcTime, nullable=False),
    Column("near", Boolean, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("excluded", BigInteger, nullable=False),
    Column("counts", Words, nullable=False),
    Column("peers", Words, nullable=False),
    Column("alert", Words, nullable=False),
    Column("caller", Words, nullable=False),
    Column("state", Words, nullable=False, index=True),
    Column("ended", UtcTime),
)
watch_pieces = Table(
    "watch_pieces",
    metadata,
    Column("watch", Words, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("piece", LargeBinary, nullable=False),
)
watch_peers = Table(
    "watch_peers",
    metadata,
    Column("watch", Words, primary_key=True),
    Column("peer", Words, primary_key=True),
    Column("epoch", Words, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("completed", UtcTime),
    Column("part", Integer, nullable=False),
    Column("began_epoch", Words, nullable=False),
    Column("began", BigInteger, nullable=False),
    Column("not_before", UtcTime),
    Column("claimed", UtcTime),
    Column("status", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Column("matched", LargeBinary, nullable=False),
)
watch_notices = Table(
    "watch_notices",
    metadata,
    Column("id", Words, primary_key=True),
    Column("watch", Words, nullable=False),
    Column("peer", Words, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("fresh", BigInteger, nullable=False),
    Column("matched", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("receipt", Words, nullable=False),
    Column("told", Boolean, nullable=False),
    Index("ix_watch_notices_watch", "watch", "id"),
)
watch_series = Table(
    "watch_series",
    metadata,
    Column("notice", Words, primary_key=True),
    Column("series", Words, primary_key=True, index=True),
    Column("status", Words, nullable=False),
    Column("refs", Words, nullable=False),
    Column("contact_name", Words, nullable=False),
    Column("contact_email", Words, nullable=False),
    Column("contact_phone", Words, nullable=False),
)
peer_generations = Table(
    "peer_generations",
    metadata,
    Column("peer", Words, primary_key=True),
    Column("epoch", Words, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("heard", UtcTime, nullable=False),
)
