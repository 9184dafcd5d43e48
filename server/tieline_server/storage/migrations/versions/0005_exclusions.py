"""Known-good digests are found by an index of their own: their table needs no tree of them.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DIGESTS = ("md5", "sha1", "sha256")


def upgrade() -> None:
    op.execute("CREATE TABLE exclusions_before AS SELECT kind, digest, import_no FROM exclusions")
    op.drop_table("exclusions")
    op.create_table(
        "exclusions",
        sa.Column("no", KEY, autoincrement=False, nullable=False),
        sa.Column("import_no", KEY, nullable=False),
        *(sa.Column(name, sa.LargeBinary(), nullable=True) for name in DIGESTS),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_exclusions")),
    )
    op.create_index("ix_exclusions_import_no", "exclusions", ["import_no"], unique=False)
    op.execute(
        "INSERT INTO exclusions (no, import_no, md5, sha1, sha256) "
        "SELECT row_number() OVER (ORDER BY import_no, kind, digest), import_no, "
        "CASE kind WHEN 1 THEN digest END, CASE kind WHEN 2 THEN digest END, "
        "CASE kind WHEN 3 THEN digest END FROM exclusions_before"
    )
    op.execute(
        "INSERT INTO counters (name, value) SELECT 'exclusion', count(*) FROM exclusions "
        "HAVING count(*) > 0"
    )
    op.add_column(
        "import_tallies",
        sa.Column("exclusions", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    )
    # No list has a row there yet.
    op.execute(
        "INSERT INTO import_tallies "
        "(import_no, items, md5, sha1, sha256, pdq, holdings, exclusions) "
        "SELECT import_no, 0, 0, 0, 0, 0, 0, count(*) FROM exclusions_before GROUP BY import_no"
    )
    op.drop_table("exclusions_before")
    op.create_index("ix_imports_exclusions", "imports", ["exclusions", "generation"], unique=False)
