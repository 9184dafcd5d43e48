"""Tables of series, of what agencies tell one another, of people, queries and the audit log."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
)

from tieline_server.storage.schema_base import handling_columns, metadata
from tieline_server.storage.types import Key, UtcTime, Words

# --- series -----------------------------------------------------------------------------------

series = Table(
    "series",
    metadata,
    Column("id", Words, primary_key=True),
    Column("name", Words, nullable=False, index=True),
    Column("status", Words, nullable=False),
    Column("origin", Words, nullable=False),
    *handling_columns(),
    Column("contact_name", Words, nullable=False),
    Column("contact_email", Words, nullable=False),
    Column("contact_phone", Words, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("case_ref", Words, nullable=False),
    Column("victims", BigInteger),
    Column("identified", BigInteger, nullable=False),
    Column("first_seen", UtcTime),
    Column("last_seen", UtcTime),
    Column("clues", Words, nullable=False),
    Column("number", Words, nullable=False),
)
series_references = Table(
    "series_references",
    metadata,
    Column("series", Words, ForeignKey("series.id"), primary_key=True),
    Column("scheme", Words, primary_key=True),
    Column("value", Words, primary_key=True),
    Column("position", Integer, nullable=False),
)
assessments = Table(
    "assessments",
    metadata,
    Column("id", Words, primary_key=True),
    Column("series", Words, primary_key=True, index=True),
    Column("agency", Words, primary_key=True),
    Column("person", Words, nullable=False),
    Column("country", Words, nullable=False),
    Column("confidence", SmallInteger, nullable=False),
    Column("grounds", Words, nullable=False),
    Column("confirmed", Boolean, nullable=False),
    Column("eliminated", Boolean, nullable=False),
    Column("made", UtcTime, nullable=False),
    Column("region", Words, nullable=False, server_default=""),
    Column("clues", Words, nullable=False, server_default="[]"),
)

# --- referrals, uploads, broadcasts -----------------------------------------------------------

referrals = Table(
    "referrals",
    metadata,
    Column("id", Words, primary_key=True),
    Column("root", Words, nullable=False),
    Column("series", Words, nullable=False, index=True),
    Column("direction", Words, nullable=False),
    Column("sender", Words, nullable=False),
    Column("recipient", Words, nullable=False),
    Column("country", Words, nullable=False),
    Column("urgency", SmallInteger, nullable=False),
    Column("purpose", Words, nullable=False),
    Column("case_ref", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("note", Words, nullable=False),
    Column("state", Words, nullable=False),
)
referral_steps = Table(
    "referral_steps",
    metadata,
    Column("id", Words, primary_key=True),
    Column("referral", Words, ForeignKey("referrals.id"), nullable=False, index=True),
    Column("state", Words, nullable=False),
    Column("agency", Words, primary_key=True),
    Column("person", Words, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("text", Words, nullable=False),
    Column("passed_to", Words, nullable=False),
    Column("identified", BigInteger),
    Column("tentative", BigInteger),
    Column("safeguarded", BigInteger),
    Column("offenders", BigInteger),
    Column("countries", Words, nullable=False, server_default=""),
)
"""The four counts are NULL together when the step tells no outcome. ``countries`` of a
correction are parted by commas."""

uploads = Table(
    "uploads",
    metadata,
    Column("id", Words, primary_key=True),
    Column("series", Words, nullable=False, index=True),
    Column("direction", Words, nullable=False),
    Column("sender", Words, nullable=False),
    Column("repository", Words, nullable=False),
    Column("purpose", Words, nullable=False),
    Column("case_ref", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("items", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("state", Words, nullable=False),
    Column("reference", Words, nullable=False),
)
upload_steps = Table(
    "upload_steps",
    metadata,
    Column("id", Words, primary_key=True),
    Column("upload", Words, ForeignKey("uploads.id"), nullable=False, index=True),
    Column("state", Words, nullable=False),
    Column("agency", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("reference", Words, nullable=False),
)
broadcasts = Table(
    "broadcasts",
    metadata,
    Column("id", Words, primary_key=True),
    Column("series", Words, nullable=False, index=True),
    Column("direction", Words, nullable=False),
    Column("sender", Words, nullable=False),
    Column("originator", Words, nullable=False),
    Column("group", Words, nullable=False),
    Column("group_version", BigInteger, nullable=False),
    Column("purpose", Words, nullable=False),
    Column("case_ref", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("question", Words, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("state", Words, nullable=False),
)
broadcast_recipients = Table(
    "broadcast_recipients",
    metadata,
    Column("broadcast", Words, ForeignKey("broadcasts.id"), primary_key=True),
    Column("agency", Words, primary_key=True),
    Column("state", Words, nullable=False),
)
broadcast_answers = Table(
    "broadcast_answers",
    metadata,
    Column("id", Words, primary_key=True),
    Column("broadcast", Words, ForeignKey("broadcasts.id"), nullable=False, index=True),
    Column("agency", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("kind", Words, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("country", Words, nullable=False),
    Column("confidence", SmallInteger, nullable=False),
    Column("series", Words, nullable=False),
    Column("text", Words, nullable=False),
)

# --- messages ---------------------------------------------------------------------------------

inbox = Table(
    "inbox",
    metadata,
    Column("sender", Words, primary_key=True),
    Column("id", Words, primary_key=True),
    Column("lane", SmallInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("kind", Words, nullable=False),
    Column("subject", Words, nullable=False, index=True),
    Column("digest", LargeBinary, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("received", UtcTime, nullable=False),
    Column("reply", SmallInteger, nullable=False),
    Column("reason", Words, nullable=False),
    Index("ix_inbox_place", "sender", "lane", "sequence"),
)
outgoing_attachments = Table(
    "outgoing_attachments",
    metadata,
    Column("id", Words, primary_key=True),
    Column("peer", Words, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("items", BigInteger, nullable=False),
    Column("import_id", Words, nullable=False),
    Column("series", Words, nullable=False),
)
outgoing_chunks = Table(
    "outgoing_chunks",
    metadata,
    Column("attachment", Words, ForeignKey("outgoing_attachments.id"), primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)
incoming_attachments = Table(
    "incoming_attachments",
    metadata,
    Column("peer", Words, primary_key=True),
    Column("id", Words, primary_key=True),
    Column("chunks", Integer, nullable=False),
    Column("items", BigInteger, nullable=False),
    Column("import_id", Words, nullable=False),
    Column("series", Words, nullable=False),
    Column("opened", UtcTime, nullable=False),
)
incoming_chunks = Table(
    "incoming_chunks",
    metadata,
    Column("peer", Words, primary_key=True),
    Column("attachment", Words, primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False),
)

# --- people, queries, audit -------------------------------------------------------------------

operators = Table(
    "operators",
    metadata,
    Column("name", Words, primary_key=True),
    Column("roles", Words, nullable=False),
    Column("serials", Words, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("revoked", UtcTime),
)
"""``roles`` and ``serials`` are JSON lists; a serial is hex, as it may have 160 bits."""

query_ids = Table(
    "query_ids",
    metadata,
    Column("peer", Words, primary_key=True),
    Column("request", Words, primary_key=True),
    Column("header_digest", LargeBinary, nullable=False),
    Column("at", UtcTime, nullable=False),
)
queries = Table(
    "queries",
    metadata,
    Column("peer", Words, primary_key=True),
    Column("request", Words, primary_key=True),
    Column("person", Words, nullable=False),
    Column("purpose", Words, nullable=False),
    Column("case_ref", Words, nullable=False),
    Column("header_digest", LargeBinary, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("hits", BigInteger, nullable=False),
    Column("receipt", LargeBinary, nullable=False),
    Column("at", UtcTime, nullable=False, index=True),
)
audit_leaves = Table(
    "audit_leaves",
    metadata,
    Column("position", Key, primary_key=True, autoincrement=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
)
audit_nodes = Table(
    "audit_nodes",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Complete subtrees above the leaves (level 1 and up)."""

audit_pending = Table(
    "audit_pending",
    metadata,
    Column("no", Key, primary_key=True),
    Column("leaf", LargeBinary, nullable=False),
)
"""Entries that wait for the sequencer (PostgreSQL; on SQLite always empty)."""
