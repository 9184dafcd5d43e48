"""Operations, their series, and who evaluates them.

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import UtcTime, Words

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def _words(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, Words(), nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "operations",
        *_words("id", "name"),
        sa.Column("begins", sa.Date(), nullable=False),
        sa.Column("ends", sa.Date(), nullable=False),
        *_words("participants", "person", "case_ref"),
        sa.Column("created", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
        sa.UniqueConstraint("name", name=op.f("uq_operations_name")),
    )
    op.create_table(
        "operation_series",
        *_words("operation", "series", "person"),
        sa.Column("at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["operation"], ["operations.id"], name=op.f("fk_operation_series_operation")
        ),
        sa.PrimaryKeyConstraint("operation", "series", name=op.f("pk_operation_series")),
    )
    op.create_index(op.f("ix_operation_series_series"), "operation_series", ["series"])
    op.create_table(
        "evaluations",
        *_words("operation", "series", "agency", "person"),
        sa.Column("assigned", UtcTime(), nullable=False),
        *_words("assigned_by"),
        sa.Column("done", UtcTime(), nullable=True),
        *_words("done_by", "text"),
        sa.ForeignKeyConstraint(
            ["operation"], ["operations.id"], name=op.f("fk_evaluations_operation")
        ),
        sa.PrimaryKeyConstraint(
            "operation", "series", "agency", "person", name=op.f("pk_evaluations")
        ),
    )
    op.create_index(op.f("ix_evaluations_series"), "evaluations", ["series"])
