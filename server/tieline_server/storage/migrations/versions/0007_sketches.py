"""Keyed sketches of the lists that peers asked.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import UtcTime, Words

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "asked_sketches",
        sa.Column("peer", Words(), nullable=False),
        sa.Column("request", Words(), nullable=False),
        sa.Column("person", Words(), nullable=False),
        sa.Column("purpose", Words(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("peer", "request", name=op.f("pk_asked_sketches")),
    )
    op.create_index(op.f("ix_asked_sketches_at"), "asked_sketches", ["at"])
