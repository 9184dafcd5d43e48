"""Series that two agencies hold as one, and notes between agencies on a series.

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import UtcTime, Words

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "same_as",
        sa.Column("id", Words(), nullable=False),
        sa.Column("own", Words(), nullable=False),
        sa.Column("other", Words(), nullable=False),
        sa.Column("found", UtcTime(), nullable=False),
        sa.Column("shared", sa.BigInteger(), nullable=False),
        sa.Column("own_items", sa.BigInteger(), nullable=False),
        sa.Column("other_items", sa.BigInteger(), nullable=False),
        sa.Column("ours", Words(), nullable=False),
        sa.Column("ours_at", UtcTime(), nullable=True),
        sa.Column("ours_person", Words(), nullable=False),
        sa.Column("theirs", Words(), nullable=False),
        sa.Column("theirs_at", UtcTime(), nullable=True),
        sa.Column("theirs_person", Words(), nullable=False),
        sa.Column("purpose", Words(), nullable=False),
        sa.Column("case_ref", Words(), nullable=False),
        sa.Column("references", Words(), nullable=False),
        sa.Column("contact", Words(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_same_as")),
        sa.UniqueConstraint("own", "other", name="uq_same_as_own"),
    )
    op.create_index(op.f("ix_same_as_other"), "same_as", ["other"])
    op.create_table(
        "series_notes",
        sa.Column("id", Words(), nullable=False),
        sa.Column("series", Words(), nullable=False),
        sa.Column("agency", Words(), nullable=False),
        sa.Column("person", Words(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("text", Words(), nullable=False),
        sa.Column("told", Words(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series_notes")),
    )
    op.create_index(op.f("ix_series_notes_series"), "series_notes", ["series"])
