"""Retractions, who was told of them, and what is being erased for good.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from tieline.v1 import envelope_pb2, payload_pb2
from tieline_server.storage.types import Key, Words

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WORDS = Words()
KEY = Key
_REFUSED = 3
_PAGE = 500


def upgrade() -> None:
    op.create_table(
        "retractions",
        sa.Column("id", WORDS, nullable=False),
        sa.Column("series", WORDS, nullable=False),
        sa.Column("kind", WORDS, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("person", WORDS, nullable=False),
        sa.Column("reason", WORDS, nullable=False),
        sa.Column("handling", sa.SmallInteger(), nullable=True),
        sa.Column("tlp", sa.SmallInteger(), nullable=True),
        sa.Column("source_evaluation", WORDS, nullable=True),
        sa.Column("information_evaluation", sa.SmallInteger(), nullable=True),
        sa.Column("retain_until", sa.Date(), nullable=True),
        sa.Column("restriction", WORDS, nullable=True),
        sa.Column("limited", sa.Boolean(), nullable=False),
        sa.Column("only", WORDS, nullable=False),
        sa.Column("sender", WORDS, nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retractions")),
    )
    op.create_index(op.f("ix_retractions_series"), "retractions", ["series"], unique=False)
    op.create_table(
        "retraction_recipients",
        sa.Column("retraction", WORDS, nullable=False),
        sa.Column("agency", WORDS, nullable=False),
        sa.Column("via", WORDS, nullable=False),
        sa.Column("message", WORDS, nullable=False),
        sa.Column("confirmed", sa.BigInteger(), nullable=True),
        sa.Column("erased", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["retraction"], ["retractions.id"], name=op.f("fk_retraction_recipients_retraction")
        ),
        sa.PrimaryKeyConstraint("retraction", "agency", name=op.f("pk_retraction_recipients")),
    )
    op.create_table(
        "retraction_sources",
        sa.Column("retraction", WORDS, nullable=False),
        sa.Column("agency", WORDS, nullable=False),
        sa.Column("answered", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["retraction"], ["retractions.id"], name=op.f("fk_retraction_sources_retraction")
        ),
        sa.PrimaryKeyConstraint("retraction", "agency", name=op.f("pk_retraction_sources")),
    )
    op.create_table(
        "purges",
        sa.Column("id", WORDS, nullable=False),
        sa.Column("cause", WORDS, nullable=False),
        sa.Column("series", WORDS, nullable=False),
        sa.Column("import_no", KEY, nullable=False),
        sa.Column("state", WORDS, nullable=False),
        sa.Column("holdings", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("reason", WORDS, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_purges")),
    )
    op.create_index(
        "ix_purges_open",
        "purges",
        ["created"],
        unique=False,
        sqlite_where=sa.text("ended IS NULL"),
        postgresql_where=sa.text("ended IS NULL"),
    )
    _name_what_was_refused()


def _name_what_was_refused() -> None:
    """Messages that were refused stood under no subject; erasing a series has to find them."""
    connection = op.get_bind()
    inbox = sa.table(
        "inbox",
        *(sa.column(name) for name in ("sender", "id", "subject", "reply", "envelope")),
    )
    c = inbox.c
    after = ("", "")
    while True:
        rows = connection.execute(
            sa.select(c.sender, c.id, c.envelope)
            .where(c.reply == _REFUSED, c.subject == "", sa.tuple_(c.sender, c.id) > after)
            .order_by(c.sender, c.id)
            .limit(_PAGE)
        ).all()
        for sender, message, envelope in rows:
            after = (sender, message)
            series = _series(bytes(envelope))
            if series:
                key = (c.sender == sender, c.id == message)
                connection.execute(sa.update(inbox).where(*key).values(subject=series))
        if len(rows) < _PAGE:
            return


def _series(envelope: bytes) -> str:
    """Return the series that a message told, as it was then."""
    payload = payload_pb2.Payload.FromString(envelope_pb2.Envelope.FromString(envelope).payload)
    kind = payload.WhichOneof("body")
    if kind == "broadcast" and payload.broadcast.HasField("original"):
        return _series(payload.broadcast.original.SerializeToString())
    if kind in ("referral", "broadcast", "upload"):
        return str(getattr(payload, kind).series.id)
    return ""
