"""Clues, tips on them, and whom tips were relayed to.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import UtcTime, Words

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def _words(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, Words(), nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "clues",
        *_words("id", "series", "kind", "text", "origin", "person"),
        sa.Column("created", UtcTime(), nullable=False),
        *_words("public", "published_text", "published_by", "purpose", "case_ref"),
        sa.Column("published", UtcTime(), nullable=True),
        sa.Column("ended", UtcTime(), nullable=True),
        sa.Column("known", sa.BigInteger(), nullable=False),
        sa.Column("limited", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clues")),
    )
    op.create_index("ix_clues_series", "clues", ["series"], unique=False)
    op.create_index("ix_clues_public", "clues", ["public"], unique=False)
    op.create_table(
        "tips",
        *_words("id", "digest", "clue", "text", "contact", "source", "day"),
        sa.Column("received", UtcTime(), nullable=False),
        *_words("origin", "country", "said", "state", "supports", "eliminates", "person"),
        sa.Column("judged", UtcTime(), nullable=True),
        *_words("reason"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tips")),
    )
    op.create_index("ix_tips_clue", "tips", ["clue", "state"], unique=False)
    op.create_index("ix_tips_source", "tips", ["source", "day"], unique=False)
    op.create_index("uq_tips_digest", "tips", ["digest"], unique=True)
    op.create_table(
        "tip_relays",
        *_words("tip", "agency"),
        sa.Column("at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("tip", "agency", name=op.f("pk_tip_relays")),
    )
