"""What peers may ask in a day, and what they have asked.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import Words

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

WORDS = Words()


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("peer", WORDS, nullable=False),
        sa.Column("purpose", WORDS, nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("peer", "purpose", name=op.f("pk_budgets")),
    )
    op.create_table(
        "budget_days",
        sa.Column("day", WORDS, nullable=False),
        sa.Column("peer", WORDS, nullable=False),
        sa.Column("purpose", WORDS, nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("asked", sa.BigInteger(), nullable=False),
        sa.Column("hits", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "peer", "purpose", name=op.f("pk_budget_days")),
    )
