"""What was done with each series, by whom.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import UtcTime, Words

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "series_events",
        sa.Column("id", Words(), nullable=False),
        sa.Column("series", Words(), nullable=False),
        sa.Column("kind", Words(), nullable=False),
        sa.Column("agency", Words(), nullable=False),
        sa.Column("person", Words(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("before", Words(), nullable=False),
        sa.Column("after", Words(), nullable=False),
        sa.Column("text", Words(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series_events")),
    )
    op.create_index(op.f("ix_series_events_series"), "series_events", ["series"])
