"""Tables of imports, items and holdings.

What is staged. An item's row is written by the first import that names it (``import_no``); what
another import adds to it stands in ``item_fills``. Columns and fills alike count only once their
import is complete, so completing is one short update and discarding leaves nothing. An item whose
own import is complete is visible; any other is visible only through a complete import's holdings.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    LargeBinary,
    SmallInteger,
    Table,
    text,
)

from tieline_server.storage.schema_base import handling_columns, metadata
from tieline_server.storage.types import Key, UtcTime, Words

imports = Table(
    "imports",
    metadata,
    Column("no", Key, primary_key=True, autoincrement=False),
    Column("id", Words, nullable=False, unique=True),
    Column("source", Words, nullable=False),
    Column("format", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("agency", Words, nullable=False),
    Column("case_ref", Words, nullable=False),
    *handling_columns(),
    Column("created", UtcTime, nullable=False),
    Column("fingerprint", Words, nullable=False, index=True),
    Column("answerable", Boolean, nullable=False),
    Column("exclusions", Boolean, nullable=False),
    Column("generation", BigInteger, index=True),
    Column("completed", UtcTime),
    Index("ix_imports_exclusions", "exclusions", "generation"),
)
"""``generation`` is NULL until the import is complete."""

import_tallies = Table(
    "import_tallies",
    metadata,
    Column("import_no", Key, primary_key=True, autoincrement=False),
    *(
        Column(name, BigInteger, nullable=False)
        for name in ("items", "md5", "sha1", "sha256", "pdq", "holdings")
    ),
    Column("exclusions", BigInteger, nullable=False, server_default=text("0")),
)
"""Rows that an import made, see tallies.py."""

items = Table(
    "items",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("import_no", Key, nullable=False),
    Column("md5", LargeBinary),
    Column("sha1", LargeBinary),
    Column("sha256", LargeBinary),
    Column("pdq", LargeBinary),
    Column("photodna", LargeBinary),
    Column("pdq_quality", SmallInteger),
    Column("size", BigInteger),
    Column("media_type", Words),
    Column("perceptual", Boolean, nullable=False),
)
"""``perceptual`` items were never named by an exact digest; only they are known by PDQ.

MD5, SHA-1 and SHA-256 have no index here: a tree over tens of millions of random keys takes a page
write for every digest. Items are found by the index beside the database (index_feed.py).
"""

for _name in ("pdq", "photodna"):
    _where = text(f"perceptual AND {_name} IS NOT NULL")
    Index(f"ix_items_{_name}", items.c[_name], sqlite_where=_where, postgresql_where=_where)

item_fills = Table(
    "item_fills",
    metadata,
    Column("item", Key, primary_key=True, autoincrement=False),
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("import_no", Key, primary_key=True, autoincrement=False),
    Column("value", LargeBinary, nullable=False),
    Index("ix_item_fills_kind_value", "kind", "value"),
    Index("ix_item_fills_import_no", "import_no", "item"),
    sqlite_with_rowid=False,
)
item_links = Table(
    "item_links",
    metadata,
    Column("import_no", Key, primary_key=True, autoincrement=False),
    Column("low", Key, primary_key=True, autoincrement=False),
    Column("high", Key, primary_key=True, autoincrement=False),
    Index("ix_item_links_low", "low"),
    Index("ix_item_links_high", "high"),
    sqlite_with_rowid=False,
)
"""Items that a record of the import showed to be one; united after it is complete."""

series_keys = Table(
    "series_keys",
    metadata,
    Column("no", Key, primary_key=True, autoincrement=False),
    Column("id", Words, nullable=False, unique=True),
)
holdings = Table(
    "holdings",
    metadata,
    Column("import_no", Key, primary_key=True, autoincrement=False),
    Column("item", Key, primary_key=True, autoincrement=False),
    Column("series_no", Key, primary_key=True, autoincrement=False),
    Column("victim_identified", Boolean),
    Column("offender_identified", Boolean),
    Column("distributed", Boolean),
    Column("submissions", BigInteger),
    Column("baseline", Boolean),
    Index("ix_holdings_item", "item"),
    Index(
        "ix_holdings_series_no",
        "series_no",
        "item",
        sqlite_where=text("series_no > 0"),
        postgresql_where=text("series_no > 0"),
    ),
    sqlite_with_rowid=False,
)
"""``series_no`` 0 is none. Flags are as this import stated them, NULL when it did not."""

vote_kinds = Table(
    "vote_kinds",
    metadata,
    Column("no", Key, primary_key=True, autoincrement=False),
    Column("agency", Words, nullable=False),
    Column("scheme", Words, nullable=False),
    Column("code", Words, nullable=False),
    Index("uq_vote_kinds", "agency", "scheme", "code", unique=True),
)
votes = Table(
    "votes",
    metadata,
    Column("import_no", Key, primary_key=True, autoincrement=False),
    Column("item", Key, primary_key=True, autoincrement=False),
    Column("vote_no", Key, primary_key=True, autoincrement=False),
    Index("ix_votes_item", "item"),
    sqlite_with_rowid=False,
)
"""A vote stands once for each import that states it: it leaves and is erased with that import."""

exclusions = Table(
    "exclusions",
    metadata,
    Column("no", Key, primary_key=True, autoincrement=False),
    Column("import_no", Key, nullable=False),
    Column("md5", LargeBinary),
    Column("sha1", LargeBinary),
    Column("sha256", LargeBinary),
    Index("ix_exclusions_import_no", "import_no"),
)
"""Known-good records, numbered as they come; one without digests says that its list is gone. They
are found by an index beside the database (exclusion_feed.py)."""

item_changes = Table(
    "item_changes",
    metadata,
    Column("no", Key, primary_key=True, autoincrement=False),
    Column("generation", Key, nullable=False),
    Column("first", Key, nullable=False),
    Column("last", Key, nullable=False),
    Column("import_no", Key, nullable=False),
    Column("touched", LargeBinary, nullable=False),
    Column("erased", LargeBinary, nullable=False),
)
"""What the index follows, see index_feed.py. ``touched`` and ``erased`` hold item ids as
little-endian int64; ``import_no`` is 0 unless an import became complete."""
