"""Which series are part of which.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import UtcTime, Words

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "series_aliases",
        sa.Column("merged", Words(), nullable=False),
        sa.Column("series", Words(), nullable=False),
        sa.Column("id", Words(), nullable=False),
        sa.Column("person", Words(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("merged", name=op.f("pk_series_aliases")),
    )
    op.create_index(op.f("ix_series_aliases_series"), "series_aliases", ["series"])
