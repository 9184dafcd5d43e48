"""Words of agencies are known by their id and by whose they are: an id alone is anybody's to take.

Retractions, splits and what hangs on them are keyed by the series, which names its owner, as well;
judgements by series and agency; steps of referrals and notes by their agency.

Revision ID: 0020
Revises: 0019
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import Key, UtcTime, Words

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_BEFORE = "_before"
_REBUILT = (
    *("retraction_recipients", "retraction_sources", "retractions", "purges"),
    *("series_split_told", "series_splits"),
    *("assessments", "referral_steps", "series_notes"),
)
_INDEXES = {
    "retractions": ("ix_retractions_series",),
    "purges": ("ix_purges_open",),
    "series_splits": ("ix_series_splits_series", "ix_series_splits_made"),
    "assessments": ("ix_assessments_series",),
    "referral_steps": ("ix_referral_steps_referral",),
    "series_notes": ("ix_series_notes_series",),
}
_OPEN = sa.text("ended IS NULL")


def upgrade() -> None:
    """Rename each table, make it anew, copy its rows, drop what was renamed: neither database can
    give a table another key in place and keep the names of its parts."""
    for name, indexes in _INDEXES.items():
        for index in indexes:
            op.drop_index(op.f(index), table_name=name)
    for name in _REBUILT:
        if op.get_bind().dialect.name == "postgresql":  # there the name of a key is the schema's
            op.execute(sa.text(f"ALTER TABLE {name} DROP CONSTRAINT pk_{name} CASCADE"))
        op.rename_table(name, name + _BEFORE)
    _retractions()
    _splits()
    _judgements_steps_and_notes()
    for name in _REBUILT:  # those that refer to others stand before them
        op.drop_table(name + _BEFORE)


def _words(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, Words(), nullable=False) for name in names]


def _key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}"))


def _retractions() -> None:
    retractions = op.create_table(
        "retractions",
        *_words("id", "series", "kind"),
        sa.Column("at", UtcTime(), nullable=False),
        *_words("person", "reason"),
        sa.Column("handling", sa.SmallInteger(), nullable=True),
        sa.Column("tlp", sa.SmallInteger(), nullable=True),
        sa.Column("source_evaluation", Words(), nullable=True),
        sa.Column("information_evaluation", sa.SmallInteger(), nullable=True),
        sa.Column("retain_until", sa.Date(), nullable=True),
        sa.Column("restriction", Words(), nullable=True),
        sa.Column("limited", sa.Boolean(), nullable=False),
        *_words("only", "sender"),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        _key("retractions", "id", "series"),
    )
    op.create_index(op.f("ix_retractions_series"), "retractions", ["series"])
    _copy(retractions)
    recipients = op.create_table(
        "retraction_recipients",
        *_words("retraction", "series", "agency", "via", "message"),
        sa.Column("confirmed", UtcTime(), nullable=True),
        sa.Column("erased", sa.Boolean(), nullable=False),
        _of("retraction_recipients", "retraction", "retractions"),
        _key("retraction_recipients", "retraction", "series", "agency"),
    )
    sources = op.create_table(
        "retraction_sources",
        *_words("retraction", "series", "agency"),
        sa.Column("answered", UtcTime(), nullable=True),
        _of("retraction_sources", "retraction", "retractions"),
        _key("retraction_sources", "retraction", "series", "agency"),
    )
    _copy(recipients, ("retraction", "retractions"))
    _copy(sources, ("retraction", "retractions"))
    purges = op.create_table(
        "purges",
        *_words("id", "cause", "series"),
        sa.Column("import_no", Key, nullable=False),
        *_words("state"),
        sa.Column("holdings", sa.BigInteger(), nullable=False),
        sa.Column("created", UtcTime(), nullable=False),
        sa.Column("ended", UtcTime(), nullable=True),
        *_words("reason"),
        _key("purges", "id", "series"),
    )
    _copy(purges)
    op.create_index(
        "ix_purges_open", "purges", ["created"], sqlite_where=_OPEN, postgresql_where=_OPEN
    )


def _splits() -> None:
    splits = op.create_table(
        "series_splits",
        *_words("id", "series", "made", "person"),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("noted", UtcTime(), nullable=False),
        sa.Column("marks", sa.LargeBinary(), nullable=False),
        sa.Column("notice", sa.LargeBinary(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        _key("series_splits", "id", "series"),
    )
    op.create_index(op.f("ix_series_splits_series"), "series_splits", ["series"])
    op.create_index(op.f("ix_series_splits_made"), "series_splits", ["made"])
    _copy(splits)
    told = op.create_table(
        "series_split_told",
        *_words("split", "series", "agency"),
        _of("series_split_told", "split", "series_splits"),
        _key("series_split_told", "split", "series", "agency"),
    )
    _copy(told, ("split", "series_splits"))


def _judgements_steps_and_notes() -> None:
    assessments = op.create_table(
        "assessments",
        *_words("id", "series", "agency", "person", "country"),
        sa.Column("confidence", sa.SmallInteger(), nullable=False),
        *_words("grounds"),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("eliminated", sa.Boolean(), nullable=False),
        sa.Column("made", UtcTime(), nullable=False),
        sa.Column("region", Words(), nullable=False, server_default=""),
        sa.Column("clues", Words(), nullable=False, server_default="[]"),
        _key("assessments", "id", "series", "agency"),
    )
    op.create_index(op.f("ix_assessments_series"), "assessments", ["series"])
    _copy(assessments)
    steps = op.create_table(
        "referral_steps",
        *_words("id", "referral", "state", "agency", "person"),
        sa.Column("at", UtcTime(), nullable=False),
        *_words("text", "passed_to"),
        *(
            sa.Column(name, sa.BigInteger(), nullable=True)
            for name in ("identified", "tentative", "safeguarded", "offenders")
        ),
        sa.Column("countries", Words(), nullable=False, server_default=""),
        sa.ForeignKeyConstraint(
            ["referral"], ["referrals.id"], name=op.f("fk_referral_steps_referral")
        ),
        _key("referral_steps", "id", "agency"),
    )
    op.create_index(op.f("ix_referral_steps_referral"), "referral_steps", ["referral"])
    _copy(steps)
    notes = op.create_table(
        "series_notes",
        *_words("id", "series", "agency", "person"),
        sa.Column("at", UtcTime(), nullable=False),
        *_words("text", "told"),
        _key("series_notes", "id", "agency"),
    )
    op.create_index(op.f("ix_series_notes_series"), "series_notes", ["series"])
    _copy(notes)


def _of(table: str, column: str, words: str) -> sa.ForeignKeyConstraint:
    """What hangs on a word names its series as well."""
    return sa.ForeignKeyConstraint(
        [column, "series"],
        [f"{words}.id", f"{words}.series"],
        name=op.f(f"fk_{table}_{column}_series"),
    )


def _copy(table: sa.Table, of: Sequence[str] = ()) -> None:
    """Copy the rows of before; with ``of``, a column and the table whose id it holds, the series
    is that of the row there."""
    names = [column.name for column in table.columns]
    before = sa.table(table.name + _BEFORE, *map(sa.column, names))
    rows = sa.select(*(before.c[name] for name in names))
    if of:
        column, words = of
        word = sa.table(words, sa.column("id"), sa.column("series"))
        rows = sa.select(
            *(word.c.series if name == "series" else before.c[name] for name in names)
        ).join_from(before, word, word.c.id == before.c[column])
    op.execute(sa.insert(table).from_select(names, rows))
