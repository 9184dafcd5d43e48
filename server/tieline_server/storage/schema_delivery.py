"""Tables of messages on their way out, of where each destination stands, and of alarms."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, SmallInteger, Table, text

from tieline_server.storage.schema_base import metadata
from tieline_server.storage.types import UtcTime, Words

_DUE = text("state = 'queued' AND held_until IS NULL")
_HELD = text("held_until IS NOT NULL")

outbox = Table(
    "outbox",
    metadata,
    Column("id", Words, primary_key=True),
    Column("recipient", Words, primary_key=True),
    Column("lane", SmallInteger, nullable=False),
    Column("kind", Words, nullable=False),
    Column("subject", Words, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("attachment", Words, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("state", Words, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("settled", UtcTime),
    Column("held_until", UtcTime),
    Column("reason", Words, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Index("ix_outbox_subject", "subject", "recipient"),
    Index("uq_outbox_sequence", "recipient", "lane", "sequence", unique=True),
    Index(
        *("ix_outbox_due", "recipient", "lane", "sequence"),
        sqlite_where=_DUE,
        postgresql_where=_DUE,
    ),
    Index(
        *("ix_outbox_held", "recipient", "held_until", "lane"),
        sqlite_where=_HELD,
        postgresql_where=_HELD,
    ),
    Index("ix_outbox_state", "state", "id", "recipient"),
)
"""A signed message goes to each of its recipients once, under the same id. What is large stands
last, so that what is small is read without it."""

outbox_tallies = Table(
    "outbox_tallies",
    metadata,
    Column("recipient", Words, primary_key=True),
    Column("lane", SmallInteger, primary_key=True),
    Column("queued", BigInteger, nullable=False),
    Column("put_off", BigInteger, nullable=False),
)
"""How many rows of ``outbox`` are queued, and how many of those are put off: counting a million
takes seconds. Triggers of migration 0006 keep it, so that no statement can forget to."""

destinations = Table(
    "destinations",
    metadata,
    Column("agency", Words, primary_key=True),
    Column("attempts", BigInteger, nullable=False),
    Column("next_attempt", UtcTime),
    Column("last_error", Words, nullable=False),
    Column("busy_since", UtcTime),
    Column("delivered", BigInteger, nullable=False, server_default=text("0")),
)
"""``busy_since`` is when delivery began that has not come to the end of the queue since, and
``delivered`` how many messages were settled from then on."""

alarms = Table(
    "alarms",
    metadata,
    Column("id", Words, primary_key=True),
    Column("kind", Words, nullable=False),
    Column("referral", Words, nullable=False),
    Column("series", Words, nullable=False),
    Column("sender", Words, nullable=False),
    Column("recipient", Words, nullable=False),
    Column("due", UtcTime, nullable=False),
    Column("raised", UtcTime),
    Column("ended", UtcTime),
    Index("ix_alarms_referral", "referral"),
    Index(
        *("ix_alarms_due", "due"),
        sqlite_where=text("raised IS NULL AND ended IS NULL"),
        postgresql_where=text("raised IS NULL AND ended IS NULL"),
    ),
    Index(
        *("ix_alarms_open", "raised"),
        sqlite_where=text("raised IS NOT NULL AND ended IS NULL"),
        postgresql_where=text("raised IS NOT NULL AND ended IS NULL"),
    ),
)
"""An alarm is set for a time (``due``), raised once that has come, and ended by a person's step."""
