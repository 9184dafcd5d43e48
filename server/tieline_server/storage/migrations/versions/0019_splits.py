"""Items of a series that are another's, and who was told so.

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import UtcTime, Words

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "series_splits",
        sa.Column("id", Words(), nullable=False),
        sa.Column("series", Words(), nullable=False),
        sa.Column("made", Words(), nullable=False),
        sa.Column("person", Words(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("noted", UtcTime(), nullable=False),
        sa.Column("marks", sa.LargeBinary(), nullable=False),
        sa.Column("notice", sa.LargeBinary(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series_splits")),
    )
    op.create_index(op.f("ix_series_splits_series"), "series_splits", ["series"])
    op.create_index(op.f("ix_series_splits_made"), "series_splits", ["made"])
    op.create_table(
        "series_split_told",
        sa.Column("split", Words(), nullable=False),
        sa.Column("agency", Words(), nullable=False),
        sa.ForeignKeyConstraint(
            ["split"], ["series_splits.id"], name=op.f("fk_series_split_told_split_series_splits")
        ),
        sa.PrimaryKeyConstraint("split", "agency", name=op.f("pk_series_split_told")),
    )
