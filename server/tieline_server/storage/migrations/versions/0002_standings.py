"""What peers were seen to be, and how far each lane came.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import UtcTime, Words

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "standings",
        sa.Column("agency", Words(), nullable=False),
        sa.Column("epoch", Words(), nullable=False),
        sa.Column("lives", Words(), nullable=False),
        sa.Column("retired", Words(), nullable=False),
        sa.Column("trouble", Words(), nullable=False),
        sa.Column("reason", Words(), nullable=False),
        sa.Column("since", UtcTime(), nullable=True),
        sa.Column("told", Words(), nullable=False),
        sa.Column("told_since", UtcTime(), nullable=True),
        sa.Column("recovered", Words(), nullable=False),
        sa.Column("wire", Words(), nullable=False),
        sa.Column("capabilities", Words(), nullable=False),
        sa.Column("challenge", Words(), nullable=False),
        sa.Column("asked", Words(), nullable=False),
        sa.PrimaryKeyConstraint("agency", name=op.f("pk_standings")),
    )
    lanes = op.create_table(
        "standing_lanes",
        sa.Column("agency", Words(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("applied", sa.BigInteger(), nullable=False),
        sa.Column("highest", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("their_sent", sa.BigInteger(), nullable=False),
        sa.Column("their_applied", sa.BigInteger(), nullable=False),
        sa.Column("their_highest", sa.BigInteger(), nullable=False),
        sa.Column("voids", Words(), nullable=False),
        sa.PrimaryKeyConstraint("agency", "lane", name=op.f("pk_standing_lanes")),
    )
    ranges = op.create_table(
        "standing_ranges",
        sa.Column("agency", Words(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("first", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("agency", "lane", "first", name=op.f("pk_standing_ranges")),
    )
    op.create_index("ix_inbox_place", "inbox", ["sender", "lane", "sequence"], unique=False)
    _count_what_came(lanes, ranges)


def _count_what_came(lanes: sa.Table, ranges: sa.Table) -> None:
    """Note what the inbox shows to be settled; nothing is known of peers' epochs yet."""
    connection = op.get_bind()
    inbox = sa.table("inbox", sa.column("sender"), sa.column("lane"), sa.column("sequence"))
    c = inbox.c
    settled: dict[tuple[str, int], tuple[int, list[tuple[int, int]]]] = {}
    found = sa.select(c.sender, c.lane, c.sequence).where(c.sequence > 0)
    for sender, lane, sequence in connection.execute(found.order_by(c.sender, c.lane, c.sequence)):
        applied, above = settled.setdefault((sender, lane), (0, []))
        tail = tuple(above[-1:])
        applied, tail = _settle_range(applied, tail, sequence, sequence)
        settled[sender, lane] = (applied, [*above[:-1], *tail])
    for (sender, lane), (applied, above) in settled.items():
        highest = above[-1][1] if above else applied
        row = {"agency": sender, "lane": lane, "applied": applied, "highest": highest}
        row |= {"received": highest, "their_sent": 0, "their_applied": 0, "their_highest": 0}
        connection.execute(lanes.insert().values(**row, voids="[]"))
        for first, last in above:
            connection.execute(
                ranges.insert().values(agency=sender, lane=lane, first=first, last=last)
            )


def _settle_range(
    applied: int, ranges: tuple[tuple[int, int], ...], first: int, last: int
) -> tuple[int, tuple[tuple[int, int], ...]]:
    """What domain/standing.py did at this revision; a copy, so that it stays so."""
    if last <= applied or first > last:
        return applied, ranges
    merged: list[tuple[int, int]] = []
    for low, high in sorted((*ranges, (first, last))):
        if low <= applied + 1:
            applied = max(applied, high)
        elif merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return applied, tuple(merged)
