"""What a person decides: releases beyond a hit, permissions, a child in danger.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import UtcTime, Words

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    words = ("kind", "side", "peer", "person", "purpose", "case_ref", "state")
    more = ("use", "agencies", "text", "terms", "decided_by", "reason")
    op.create_table(
        "requests",
        sa.Column("id", Words(), nullable=False),
        *(sa.Column(name, Words(), nullable=False) for name in words),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        *(sa.Column(name, Words(), nullable=False) for name in more),
        sa.Column("created", UtcTime(), nullable=False),
        sa.Column("decided", UtcTime(), nullable=True),
        sa.Column("expires", UtcTime(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requests")),
    )
    asker = ["peer", "purpose", "case_ref", "state"]
    op.create_index("ix_requests_asker", "requests", asker, unique=False)
    op.create_index("ix_requests_state", "requests", ["state", "expires"], unique=False)
    op.create_table(
        "request_series",
        sa.Column("request", Words(), nullable=False),
        sa.Column("series", Words(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("state", Words(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("retain_until", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(
            ["request"], ["requests.id"], name=op.f("fk_request_series_request")
        ),
        sa.PrimaryKeyConstraint("request", "series", name=op.f("pk_request_series")),
    )
    op.create_index("ix_request_series_series", "request_series", ["series"], unique=False)
