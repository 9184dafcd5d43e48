"""The first tables.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:  # noqa: PLR0915 - one statement a table
    op.create_table(
        "assessments",
        sa.Column("id", WORDS, nullable=False),
        sa.Column("series", WORDS, nullable=False),
        sa.Column("agency", WORDS, nullable=False),
        sa.Column("person", WORDS, nullable=False),
        sa.Column("country", WORDS, nullable=False),
        sa.Column("confidence", sa.SmallInteger(), nullable=False),
        sa.Column("grounds", WORDS, nullable=False),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("eliminated", sa.Boolean(), nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assessments")),
    )
    op.create_index(op.f("ix_assessments_series"), "assessments", ["series"], unique=False)
    op.create_table(
        "audit_leaves",
        sa.Column("position", KEY, autoincrement=False, nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_audit_leaves")),
    )
    op.create_table(
        "audit_nodes",
        sa.Column("level", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "index", name=op.f("pk_audit_nodes")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "audit_pending",
        sa.Column("no", KEY, nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_audit_pending")),
    )
    op.create_table(
        "broadcasts",
        sa.Column("id", WORDS, nullable=False),
        sa.Column("series", WORDS, nullable=False),
        sa.Column("direction", WORDS, nullable=False),
        sa.Column("sender", WORDS, nullable=False),
        sa.Column("originator", WORDS, nullable=False),
        sa.Column("group", WORDS, nullable=False),
        sa.Column("group_version", sa.BigInteger(), nullable=False),
        sa.Column("purpose", WORDS, nullable=False),
        sa.Column("case_ref", WORDS, nullable=False),
        sa.Column("person", WORDS, nullable=False),
        sa.Column("question", WORDS, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("state", WORDS, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_broadcasts")),
    )
    op.create_index(op.f("ix_broadcasts_series"), "broadcasts", ["series"], unique=False)
    op.create_table(
        "counters",
        sa.Column("name", WORDS, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "destinations",
        sa.Column("agency", WORDS, nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_attempt", sa.BigInteger(), nullable=True),
        sa.Column("last_error", WORDS, nullable=False),
        sa.PrimaryKeyConstraint("agency", name=op.f("pk_destinations")),
    )
    op.create_table(
        "exclusions",
        sa.Column("kind", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("import_no", KEY, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("kind", "digest", "import_no", name=op.f("pk_exclusions")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_exclusions_import_no", "exclusions", ["import_no"], unique=False)
    op.create_table(
        "holdings",
        sa.Column("import_no", KEY, autoincrement=False, nullable=False),
        sa.Column("item", KEY, autoincrement=False, nullable=False),
        sa.Column("series_no", KEY, autoincrement=False, nullable=False),
        sa.Column("victim_identified", sa.Boolean(), nullable=True),
        sa.Column("offender_identified", sa.Boolean(), nullable=True),
        sa.Column("distributed", sa.Boolean(), nullable=True),
        sa.Column("submissions", sa.BigInteger(), nullable=True),
        sa.Column("baseline", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("import_no", "item", "series_no", name=op.f("pk_holdings")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_holdings_item", "holdings", ["item"], unique=False)
    op.create_index(
        "ix_holdings_series_no",
        "holdings",
        ["series_no", "item"],
        unique=False,
        sqlite_where=sa.text("series_no > 0"),
        postgresql_where=sa.text("series_no > 0"),
    )
    op.create_table(
        "import_tallies",
        sa.Column("import_no", KEY, autoincrement=False, nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("md5", sa.BigInteger(), nullable=False),
        sa.Column("sha1", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.BigInteger(), nullable=False),
        sa.Column("pdq", sa.BigInteger(), nullable=False),
        sa.Column("holdings", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("import_no", name=op.f("pk_import_tallies")),
    )
    op.create_table(
        "imports",
        sa.Column("no", KEY, autoincrement=False, nullable=False),
        sa.Column("id", WORDS, nullable=False),
        sa.Column("source", WORDS, nullable=False),
        sa.Column("format", WORDS, nullable=False),
        sa.Column("person", WORDS, nullable=False),
        sa.Column("agency", WORDS, nullable=False),
        sa.Column("case_ref", WORDS, nullable=False),
        sa.Column("handling", sa.SmallInteger(), nullable=False),
        sa.Column("tlp", sa.SmallInteger(), nullable=False),
        sa.Column("source_evaluation", WORDS, nullable=False),
        sa.Column("information_evaluation", sa.SmallInteger(), nullable=False),
        sa.Column("retain_until", sa.Date(), nullable=False),
        sa.Column("restriction", WORDS, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", WORDS, nullable=False),
        sa.Column("answerable", sa.Boolean(), nullable=False),
        sa.Column("exclusions", sa.Boolean(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=True),
        sa.Column("completed", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_imports")),
        sa.UniqueConstraint("id", name=op.f("uq_imports_id")),
    )
    op.create_index(op.f("ix_imports_fingerprint"), "imports", ["fingerprint"], unique=False)
    op.create_index(op.f("ix_imports_generation"), "imports", ["generation"], unique=False)
    op.create_table(
        "inbox",
        sa.Column("sender", WORDS, nullable=False),
        sa.Column("id", WORDS, nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("kind", WORDS, nullable=False),
        sa.Column("subject", WORDS, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("reply", sa.SmallInteger(), nullable=False),
        sa.Column("reason", WORDS, nullable=False),
        sa.PrimaryKeyConstraint("sender", "id", name=op.f("pk_inbox")),
    )
    op.create_index(op.f("ix_inbox_subject"), "inbox", ["subject"], unique=False)
    op.create_table(
        "incoming_attachments",
        sa.Column("peer", WORDS, nullable=False),
        sa.Column("id", WORDS, nullable=False),
        sa.Column("chunks", sa.Integer(), nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("import_id", WORDS, nullable=False),
        sa.Column("series", WORDS, nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("peer", "id", name=op.f("pk_incoming_attachments")),
    )
    op.create_table(
        "incoming_chunks",
        sa.Column("peer", WORDS, nullable=False),
        sa.Column("attachment", WORDS, nullable=False),
        sa.Column("index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("peer", "attachment", "index", name=op.f("pk_incoming_chunks")),
    )
    op.create_table(
        "item_changes",
        sa.Column("no", KEY, autoincrement=False, nullable=False),
        sa.Column("generation", KEY, nullable=False),
        sa.Column("first", KEY, nullable=False),
        sa.Column("last", KEY, nullable=False),
        sa.Column("import_no", KEY, nullable=False),
        sa.Column("touched", sa.LargeBinary(), nullable=False),
        sa.Column("erased", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_item_changes")),
    )
    op.create_table(
        "item_fills",
        sa.Column("item", KEY, autoincrement=False, nullable=False),
        sa.Column("kind", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("import_no", KEY, autoincrement=False, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("item", "kind", "import_no", name=op.f("pk_item_fills")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_item_fills_import_no", "item_fills", ["import_no", "item"], unique=False)
    op.create_index("ix_item_fills_kind_value", "item_fills", ["kind", "value"], unique=False)
    op.create_table(
        "item_links",
        sa.Column("import_no", KEY, autoincrement=False, nullable=False),
        sa.Column("low", KEY, autoincrement=False, nullable=False),
        sa.Column("high", KEY, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("import_no", "low", "high", name=op.f("pk_item_links")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_item_links_high", "item_links", ["high"], unique=False)
    op.create_index("ix_item_links_low", "item_links", ["low"], unique=False)
    op.create_table(
        "items",
        sa.Column("id", KEY, autoincrement=False, nullable=False),
        sa.Column("import_no", KEY, nullable=False),
        sa.Column("md5", sa.LargeBinary(), nullable=True),
        sa.Column("sha1", sa.LargeBinary(), nullable=True),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.Column("pdq", sa.LargeBinary(), nullable=True),
        sa.Column("photodna", sa.LargeBinary(), nullable=True),
        sa.Column("pdq_quality", sa.SmallInteger(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("media_type", WORDS, nullable=True),
        sa.Column("perceptual", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_items")),
    )
    op.create_index(
        "ix_items_pdq",
        "items",
        ["pdq"],
        unique=False,
        sqlite_where=sa.text("perceptual AND pdq IS NOT NULL"),
        postgresql_where=sa.text("perceptual AND pdq IS NOT NULL"),
    )
    op.create_index(
        "ix_items_photodna",
        "items",
        ["photodna"],
        unique=False,
        sqlite_where=sa.text("perceptual AND photodna IS NOT NULL"),
        postgresql_where=sa.text("perceptual AND photodna IS NOT NULL"),
    )
    op.create_table(
        "meta",
        sa.Column("key", WORDS, nullable=False),
        sa.Column("value", WORDS, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
    )
    op.create_table(
        "operators",
        sa.Column("name", WORDS, nullable=False),
        sa.Column("roles", WORDS, nullable=False),
        sa.Column("serials", WORDS, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_operators")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", WORDS, nullable=False),
        sa.Column("recipient", WORDS, nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("kind", WORDS, nullable=False),
        sa.Column("subject", WORDS, nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("attachment", WORDS, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("state", WORDS, nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=True),
        sa.Column("reason", WORDS, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(
        "ix_outbox_queued",
        "outbox",
        ["recipient", "lane", "sequence"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(op.f("ix_outbox_subject"), "outbox", ["subject"], unique=False)
    op.create_index("uq_outbox_sequence", "outbox", ["recipient", "lane", "sequence"], unique=True)
    op.create_table(
        "outgoing_attachments",
        sa.Column("id", WORDS, nullable=False),
        sa.Column("peer", WORDS, nullable=False),
        sa.Column("chunks", sa.Integer(), nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("import_id", WORDS, nullable=False),
        sa.Column("series", WORDS, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outgoing_attachments")),
    )
    op.create_table(
        "queries",
        sa.Column("peer", WORDS, nullable=False),
        sa.Column("request", WORDS, nullable=False),
        sa.Column("person", WORDS, nullable=False),
        sa.Column("purpose", WORDS, nullable=False),
        sa.Column("case_ref", WORDS, nullable=False),
        sa.Column("header_digest", sa.LargeBinary(), nullable=False),
        sa.Column("header", sa.LargeBinary(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("hits", sa.BigInteger(), nullable=False),
        sa.Column("receipt", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("peer", "request", name=op.f("pk_queries")),
    )
    op.create_index(op.f("ix_queries_at"), "queries", ["at"], unique=False)
    op.create_table(
        "query_ids",
        sa.Column("peer", WORDS, nullable=False),
        sa.Column("request", WORDS, nullable=False),
        sa.Column("header_digest", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("peer", "request", name=op.f("pk_query_ids")),
    )
    op.create_table(
        "referrals",
        sa.Column("id", WORDS, nullable=False),
        sa.Column("root", WORDS, nullable=False),
        sa.Column("series", WORDS, nullable=False),
        sa.Column("direction", WORDS, nullable=False),
        sa.Column("sender", WORDS, nullable=False),
        sa.Column("recipient", WORDS, nullable=False),
        sa.Column("country", WORDS, nullable=False),
        sa.Column("urgency", sa.SmallInteger(), nullable=False),
        sa.Column("purpose", WORDS, nullable=False),
        sa.Column("case_ref", WORDS, nullable=False),
        sa.Column("person", WORDS, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("note", WORDS, nullable=False),
        sa.Column("state", WORDS, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_referrals")),
    )
    op.create_index(op.f("ix_referrals_series"), "referrals", ["series"], unique=False)
    op.create_table(
        "series",
        sa.Column("id", WORDS, nullable=False),
        sa.Column("name", WORDS, nullable=False),
        sa.Column("status", WORDS, nullable=False),
        sa.Column("origin", WORDS, nullable=False),
        sa.Column("handling", sa.SmallInteger(), nullable=False),
        sa.Column("tlp", sa.SmallInteger(), nullable=False),
        sa.Column("source_evaluation", WORDS, nullable=False),
        sa.Column("information_evaluation", sa.SmallInteger(), nullable=False),
        sa.Column("retain_until", sa.Date(), nullable=False),
        sa.Column("restriction", WORDS, nullable=False),
        sa.Column("contact_name", WORDS, nullable=False),
        sa.Column("contact_email", WORDS, nullable=False),
        sa.Column("contact_phone", WORDS, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("case_ref", WORDS, nullable=False),
        sa.Column("victims", sa.BigInteger(), nullable=True),
        sa.Column("identified", sa.BigInteger(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=True),
        sa.Column("last_seen", sa.BigInteger(), nullable=True),
        sa.Column("clues", WORDS, nullable=False),
        sa.Column("number", WORDS, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
    )
    op.create_index(op.f("ix_series_name"), "series", ["name"], unique=False)
    op.create_table(
        "series_keys",
        sa.Column("no", KEY, autoincrement=False, nullable=False),
        sa.Column("id", WORDS, nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_series_keys")),
        sa.UniqueConstraint("id", name=op.f("uq_series_keys_id")),
    )
    op.create_table(
        "uploads",
        sa.Column("id", WORDS, nullable=False),
        sa.Column("series", WORDS, nullable=False),
        sa.Column("direction", WORDS, nullable=False),
        sa.Column("sender", WORDS, nullable=False),
        sa.Column("repository", WORDS, nullable=False),
        sa.Column("purpose", WORDS, nullable=False),
        sa.Column("case_ref", WORDS, nullable=False),
        sa.Column("person", WORDS, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("state", WORDS, nullable=False),
        sa.Column("reference", WORDS, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index(op.f("ix_uploads_series"), "uploads", ["series"], unique=False)
    op.create_table(
        "vote_kinds",
        sa.Column("no", KEY, autoincrement=False, nullable=False),
        sa.Column("agency", WORDS, nullable=False),
        sa.Column("scheme", WORDS, nullable=False),
        sa.Column("code", WORDS, nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_vote_kinds")),
    )
    op.create_index("uq_vote_kinds", "vote_kinds", ["agency", "scheme", "code"], unique=True)
    op.create_table(
        "votes",
        sa.Column("import_no", KEY, autoincrement=False, nullable=False),
        sa.Column("item", KEY, autoincrement=False, nullable=False),
        sa.Column("vote_no", KEY, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("import_no", "item", "vote_no", name=op.f("pk_votes")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_votes_item", "votes", ["item"], unique=False)
    op.create_table(
        "broadcast_answers",
        sa.Column("id", WORDS, nullable=False),
        sa.Column("broadcast", WORDS, nullable=False),
        sa.Column("agency", WORDS, nullable=False),
        sa.Column("person", WORDS, nullable=False),
        sa.Column("kind", WORDS, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("country", WORDS, nullable=False),
        sa.Column("confidence", sa.SmallInteger(), nullable=False),
        sa.Column("series", WORDS, nullable=False),
        sa.Column("text", WORDS, nullable=False),
        sa.ForeignKeyConstraint(
            ["broadcast"], ["broadcasts.id"], name=op.f("fk_broadcast_answers_broadcast")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_broadcast_answers")),
    )
    op.create_index(
        op.f("ix_broadcast_answers_broadcast"), "broadcast_answers", ["broadcast"], unique=False
    )
    op.create_table(
        "broadcast_recipients",
        sa.Column("broadcast", WORDS, nullable=False),
        sa.Column("agency", WORDS, nullable=False),
        sa.Column("state", WORDS, nullable=False),
        sa.ForeignKeyConstraint(
            ["broadcast"], ["broadcasts.id"], name=op.f("fk_broadcast_recipients_broadcast")
        ),
        sa.PrimaryKeyConstraint("broadcast", "agency", name=op.f("pk_broadcast_recipients")),
    )
    op.create_table(
        "outgoing_chunks",
        sa.Column("attachment", WORDS, nullable=False),
        sa.Column("index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["attachment"], ["outgoing_attachments.id"], name=op.f("fk_outgoing_chunks_attachment")
        ),
        sa.PrimaryKeyConstraint("attachment", "index", name=op.f("pk_outgoing_chunks")),
    )
    op.create_table(
        "referral_steps",
        sa.Column("id", WORDS, nullable=False),
        sa.Column("referral", WORDS, nullable=False),
        sa.Column("state", WORDS, nullable=False),
        sa.Column("agency", WORDS, nullable=False),
        sa.Column("person", WORDS, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("text", WORDS, nullable=False),
        sa.Column("passed_to", WORDS, nullable=False),
        sa.Column("identified", sa.BigInteger(), nullable=True),
        sa.Column("tentative", sa.BigInteger(), nullable=True),
        sa.Column("safeguarded", sa.BigInteger(), nullable=True),
        sa.Column("offenders", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["referral"], ["referrals.id"], name=op.f("fk_referral_steps_referral")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_referral_steps")),
    )
    op.create_index(
        op.f("ix_referral_steps_referral"), "referral_steps", ["referral"], unique=False
    )
    op.create_table(
        "series_references",
        sa.Column("series", WORDS, nullable=False),
        sa.Column("scheme", WORDS, nullable=False),
        sa.Column("value", WORDS, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["series"], ["series.id"], name=op.f("fk_series_references_series")
        ),
        sa.PrimaryKeyConstraint("series", "scheme", "value", name=op.f("pk_series_references")),
    )
    op.create_table(
        "upload_steps",
        sa.Column("id", WORDS, nullable=False),
        sa.Column("upload", WORDS, nullable=False),
        sa.Column("state", WORDS, nullable=False),
        sa.Column("agency", WORDS, nullable=False),
        sa.Column("person", WORDS, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("reference", WORDS, nullable=False),
        sa.ForeignKeyConstraint(["upload"], ["uploads.id"], name=op.f("fk_upload_steps_upload")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload_steps")),
    )
    op.create_index(op.f("ix_upload_steps_upload"), "upload_steps", ["upload"], unique=False)
