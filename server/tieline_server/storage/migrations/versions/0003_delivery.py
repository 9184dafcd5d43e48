"""One envelope for many recipients, what is put off, how catching up goes, and alarms.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import Words

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WORDS = Words()
_KEPT = (
    "id, recipient, lane, kind, subject, created, attachment, sequence, state, attempts, settled,"
    " reason, envelope"
)


def upgrade() -> None:
    _rebuild_outbox()
    op.add_column("destinations", sa.Column("busy_since", sa.BigInteger(), nullable=True))
    op.add_column(
        "destinations",
        sa.Column("delivered", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.create_table(
        "alarms",
        sa.Column("id", WORDS, nullable=False),
        sa.Column("kind", WORDS, nullable=False),
        sa.Column("referral", WORDS, nullable=False),
        sa.Column("series", WORDS, nullable=False),
        sa.Column("sender", WORDS, nullable=False),
        sa.Column("recipient", WORDS, nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("raised", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarms")),
    )
    op.create_index("ix_alarms_referral", "alarms", ["referral"], unique=False)
    _partial("ix_alarms_due", "alarms", ["due"], "raised IS NULL AND ended IS NULL")
    _partial("ix_alarms_open", "alarms", ["raised"], "raised IS NOT NULL AND ended IS NULL")


def _rebuild_outbox() -> None:
    """A new primary key, and the envelope behind what is read without it."""
    op.drop_index("ix_outbox_queued", table_name="outbox")
    op.drop_index(op.f("ix_outbox_subject"), table_name="outbox")
    op.drop_index("uq_outbox_sequence", table_name="outbox")
    op.rename_table("outbox", "outbox_before")
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("pk_outbox", "outbox_before", type_="primary")
    op.create_table(
        "outbox",
        sa.Column("id", WORDS, nullable=False),
        sa.Column("recipient", WORDS, nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("kind", WORDS, nullable=False),
        sa.Column("subject", WORDS, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("attachment", WORDS, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("state", WORDS, nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=True),
        sa.Column("held_until", sa.BigInteger(), nullable=True),
        sa.Column("reason", WORDS, nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", "recipient", name=op.f("pk_outbox")),
    )
    op.execute(f"INSERT INTO outbox ({_KEPT}) SELECT {_KEPT} FROM outbox_before")  # noqa: S608
    op.drop_table("outbox_before")
    op.create_index("ix_outbox_subject", "outbox", ["subject", "recipient"], unique=False)
    op.create_index("uq_outbox_sequence", "outbox", ["recipient", "lane", "sequence"], unique=True)
    _partial(
        *("ix_outbox_due", "outbox", ["recipient", "lane", "sequence"]),
        "state = 'queued' AND held_until IS NULL",
    )
    held = ["recipient", "held_until", "lane"]
    _partial("ix_outbox_held", "outbox", held, "held_until IS NOT NULL")
    op.create_index("ix_outbox_state", "outbox", ["state", "id", "recipient"], unique=False)


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(
        *(name, table, columns),
        unique=False,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
