"""Checkpoints of peers' audit logs, countersignatures of the own, proofs of equivocation.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import UtcTime, Words

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("no", _KEY, autoincrement=False, nullable=False),
        sa.Column("agency", Words(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("epoch", Words(), nullable=False),
        sa.Column("issued", UtcTime(), nullable=False),
        sa.Column("id", Words(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("received", UtcTime(), nullable=False),
        sa.Column("state", Words(), nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_checkpoints")),
    )
    op.create_index(op.f("ix_checkpoints_agency"), "checkpoints", ["agency"])
    op.create_table(
        "countersignatures",
        sa.Column("witness", Words(), nullable=False),
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("agency", Words(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("checkpoint_digest", sa.LargeBinary(), nullable=False),
        sa.Column("issued", UtcTime(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("witness", "size", name=op.f("pk_countersignatures")),
    )
    op.create_table(
        "equivocations",
        sa.Column("id", Words(), nullable=False),
        sa.Column("agency", Words(), nullable=False),
        sa.Column("kind", Words(), nullable=False),
        sa.Column("epoch", Words(), nullable=False),
        sa.Column("first", sa.LargeBinary(), nullable=False),
        sa.Column("second", sa.LargeBinary(), nullable=False),
        sa.Column("source", Words(), nullable=False),
        sa.Column("found", UtcTime(), nullable=False),
        sa.Column("why", Words(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_equivocations")),
    )
    op.create_index(op.f("ix_equivocations_agency"), "equivocations", ["agency"])
