"""Holds on audit entries.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import UtcTime, Words

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    words = ("reason", "case_ref", "person", "peer", "set_by")
    op.create_table(
        "audit_holds",
        sa.Column("id", Words(), nullable=False),
        *(sa.Column(name, Words(), nullable=False) for name in words),
        sa.Column("at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_holds")),
    )
