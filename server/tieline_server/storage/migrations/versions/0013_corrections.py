"""Region and clues of assessments, countries of corrections.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import Words

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("assessments", sa.Column("region", Words(), nullable=False, server_default=""))
    op.add_column("assessments", sa.Column("clues", Words(), nullable=False, server_default="[]"))
    op.add_column(
        "referral_steps", sa.Column("countries", Words(), nullable=False, server_default="")
    )
