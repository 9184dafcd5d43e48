"""Standing queries, their encrypted lists, how far peers were asked, notices, peers' generations.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import UtcTime, Words

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def _words(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, Words(), nullable=False) for name in names]


def _numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _times(*names: str, nullable: bool = False) -> list[sa.Column[object]]:
    return [sa.Column(name, UtcTime(), nullable=nullable) for name in names]


def upgrade() -> None:
    op.create_table(
        "watches",
        *_words("id", "name", "person", "purpose", "case_ref", "reference"),
        sa.Column("priority", sa.Integer(), nullable=False),
        *_times("created", "until"),
        sa.Column("near", sa.Boolean(), nullable=False),
        *_numbers("records", "excluded"),
        *_words("counts", "peers", "alert", "caller", "state"),
        *_times("ended", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watches")),
    )
    op.create_index("ix_watches_state", "watches", ["state"], unique=False)
    op.create_table(
        "watch_pieces",
        *_words("watch"),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("piece", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("watch", "number", name=op.f("pk_watch_pieces")),
    )
    op.create_table(
        "watch_peers",
        *_words("watch", "peer", "epoch"),
        *_numbers("generation"),
        *_times("completed", nullable=True),
        sa.Column("part", sa.Integer(), nullable=False),
        *_words("began_epoch"),
        *_numbers("began"),
        *_times("not_before", "claimed", nullable=True),
        *_words("status", "reason"),
        sa.Column("matched", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("watch", "peer", name=op.f("pk_watch_peers")),
    )
    op.create_table(
        "watch_notices",
        *_words("id", "watch", "peer"),
        *_times("at"),
        *_numbers("fresh", "matched", "records"),
        *_words("receipt"),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watch_notices")),
    )
    op.create_index("ix_watch_notices_watch", "watch_notices", ["watch", "id"], unique=False)
    op.create_table(
        "watch_series",
        *_words("notice", "series", "status", "refs"),
        *_words("contact_name", "contact_email", "contact_phone"),
        sa.PrimaryKeyConstraint("notice", "series", name=op.f("pk_watch_series")),
    )
    op.create_index("ix_watch_series_series", "watch_series", ["series"], unique=False)
    op.create_table(
        "peer_generations",
        *_words("peer", "epoch"),
        *_numbers("generation"),
        *_times("heard"),
        sa.PrimaryKeyConstraint("peer", name=op.f("pk_peer_generations")),
    )
