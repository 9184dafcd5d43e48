"""Tables about the audit log and what goes with it, apart from its leaves and nodes."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, LargeBinary, Table

from tieline_server.storage.schema_base import metadata
from tieline_server.storage.types import Key, UtcTime, Words

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

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("no", Key, primary_key=True, autoincrement=False),
    Column("agency", Words, nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("epoch", Words, nullable=False),
    Column("issued", UtcTime, nullable=False),
    Column("id", Words, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("received", UtcTime, nullable=False),
    Column("state", Words, nullable=False),
)
"""Of peers' logs: followed (extends what was held), doubted (a peer showed it, its agency has still
to prove it), refuted (part of a proof of equivocation)."""
countersignatures = Table(
    "countersignatures",
    metadata,
    Column("witness", Words, primary_key=True),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("agency", Words, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("checkpoint_digest", LargeBinary, nullable=False),
    Column("issued", UtcTime, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)
"""What peers signed of the own log."""
equivocations = Table(
    "equivocations",
    metadata,
    Column("id", Words, primary_key=True),
    Column("agency", Words, nullable=False, index=True),
    Column("kind", Words, nullable=False),
    Column("epoch", Words, nullable=False),
    Column("first", LargeBinary, nullable=False),
    Column("second", LargeBinary, nullable=False),
    Column("source", Words, nullable=False),
    Column("found", UtcTime, nullable=False),
    Column("why", Words, nullable=False),
)
audit_holds = Table(
    "audit_holds",
    metadata,
    Column("id", Words, primary_key=True),
    Column("reason", Words, nullable=False),
    Column("case_ref", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("peer", Words, nullable=False),
    Column("set_by", Words, nullable=False),
    Column("at", UtcTime, nullable=False),
)
"""What retention must not erase, as long as the row is there; an empty word is any."""
