"""Tieline's own CSV, in which a PDQ travels beside its item's exact digests.

``md5;sha1;sha256;pdq;quality;category;series;media_type``, any of the columns, in any order. A
category is ``scheme:code``, or a bare code of the scheme ``tieline``; several stand with commas
between them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches

from tieline_client.digests import DigestKind
from tieline_client.errors import FormatError
from tieline_client.formats.fields import (
    BadRecord,
    check_identified,
    read_digest,
    read_quality,
    read_text,
    read_vote,
    shown,
)
from tieline_client.formats.record import Record, Rejected, Vote
from tieline_client.formats.tabular import Row, Table, cell_in, column
from tieline_client.limits import CODE_CHARS, VOTES_PER_RECORD

HEADER = ("md5", "sha1", "sha256", "pdq", "quality", "category", "series", "media_type")
SCHEME = "tieline"
_DIGESTS = frozenset(kind.label for kind in DigestKind)
_COLUMNS = frozenset(map(column, HEADER))
_ALIKE = 0.65
"""How like two names are of which one is taken for a mistyped other (difflib's ratio)."""
_CATEGORIES_CHARS = VOTES_PER_RECORD * (2 * CODE_CHARS + len(":, "))
_MEANS_CATEGORY = re.compile(
    # Parts of the words for category and class in the languages of Europe, wherever they stand.
    r".*(categ|kateg|catag|катег|κατηγ|clas|klas|клас|luok).*"
    # Whole words: scales and grades of the field, and what tools call them.
    r"|(vics|copine|sap)?(cat|kat|vics|copine|sap|grad|grade|grado|grau|degre|rank|rating|severity"
    r"|level|nivel|niveau|niva|livello|poziom|uroven|szint|nivo|lygis|limenis|taso|tase|stufe"
    r"|einstufung|stopien|stupen|razred|trida|trieda|osztaly|label|tag|тег)"
    r"(s|id|ids|no|nr|num|number|code|name|value)?"
)
"""Names, without marks above letters, under which other tools state what a record shows."""

MAY_MEAN: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("type", "typ", "tipo", "kind", "art", "sort"), ("category", "media_type")),
    **dict.fromkeys(("group", "set", "collection"), ("series", "category")),
}
"""Names that say one column in one tool's tables and another in another's; they are not read."""


def is_own_csv(columns: Collection[str]) -> bool:
    """Whether normalised column names (tabular.column) hold a digest to read."""
    return not _DIGESTS.isdisjoint(columns)


def names_category(columns: Iterable[str]) -> bool:
    """Whether a normalised column name means a category, in whatever words."""
    return any(_MEANS_CATEGORY.fullmatch(_without_marks(each)) for each in columns)


def open_own_csv(
    first_look: Iterable[list[str]], blocks: Iterable[list[str]], name: str
) -> tuple[Table, bool]:
    """Return the table of our own CSV, whose lines are given twice, and whether it is a plain list.

    A file in which no row states a category is a plain list, the importer's own statement that
    all of it belongs; so the rows are looked through once for a category, as far as the first.
    Raises FormatError when the table is broken, or a column may be a mistyped one.
    """
    table = Table(blocks, name, is_own_csv, HEADER)
    _check_columns(table.columns, name)
    if "category" not in table.columns:
        return table, True
    return table, not _states_category(Table(first_look, name, is_own_csv, HEADER))


def unread_columns(columns: Iterable[str]) -> list[str]:
    """Return the columns that are passed over, of a file in which none states a category."""
    named = list(columns)
    return [] if "category" in named else [each for each in named if each not in _COLUMNS and each]


def _check_columns(columns: Collection[str], name: str) -> None:
    """Raise FormatError for a column that looks like one which is not there. Other columns are not
    read; of a category that is mistyped, or goes by another word, every record would belong."""
    absent = [each for each in map(column, HEADER) if each not in _DIGESTS | set(columns)]
    for each in columns:
        if each in _COLUMNS or not each:
            continue
        alike = get_close_matches(each, absent, 1, _ALIKE)
        if "category" in absent and names_category([each]):
            alike = ["category"]
        if alike:
            raise FormatError(
                name, None,
                f"the column {shown(each)} is not one of {';'.join(HEADER)}; is it {alike[0]}?"
                " Rename it, or take it out",
            )  # fmt: skip


def _without_marks(text: str) -> str:
    """Return a text with e for é and the like."""
    parts = unicodedata.normalize("NFKD", text)
    return "".join(char for char in parts if not unicodedata.combining(char))


def read_own_csv(
    first_look: Iterable[list[str]], blocks: Iterable[list[str]], name: str
) -> Iterator[Record | Rejected]:
    """Yield the rows of our own CSV one by one; see `open_own_csv`."""
    table, entire = open_own_csv(first_look, blocks, name)
    for first, rows in table.blocks():
        for number, cells in enumerate(rows, first):
            yield read_row(table, number, cells, entire=entire)


def read_row(table: Table, number: int, cells: list[str], *, entire: bool) -> Record | Rejected:
    """Return one row."""
    row = table.row(number, cells)
    if isinstance(row, Rejected):
        return row
    try:
        return _record(number, row, entire)
    except BadRecord as error:
        return Rejected(number, error.message)


def _states_category(table: Table) -> bool:
    at = table.columns.index("category")
    for first, rows in table.blocks():
        for number, cells in enumerate(rows, first):
            if len(cells) > at and cells[at].strip():
                row = table.row(number, cells)
                if not isinstance(row, Rejected):
                    return True
    return False


def _record(number: int, row: Row, entire: bool) -> Record:
    get = row.get
    record = Record(
        number,
        md5=_digest(DigestKind.MD5, get("md5")),
        sha1=_digest(DigestKind.SHA1, get("sha1")),
        sha256=_digest(DigestKind.SHA256, get("sha256")),
        pdq=_digest(DigestKind.PDQ, get("pdq")),
        media_type=read_own_text(get("mediatype"), "media_type"),
        series=read_own_text(get("series"), "series"),
        votes=read_votes(get("category")),
        entire=entire,
    )
    quality = read_own_quality(get("quality") or "")
    if record.pdq is not None:
        record.pdq_quality = quality
    check_identified(record)
    return record


def _digest(kind: DigestKind, cell: str | None) -> bytes | None:
    if cell is None:
        return None
    label, colon, rest = cell.partition(":")
    return read_digest(kind, rest if colon and label.strip().lower() == kind.label else cell)


def read_own_quality(cell: str) -> int | None:
    """Return a PDQ quality. Raises BadRecord."""
    return read_quality(cell.strip())


def read_own_text(cell: str | None, name: str) -> str | None:
    """Return the text of a cell. Raises BadRecord."""
    return read_text(cell_in(cell), name)


def read_votes(cell: str | None) -> tuple[Vote, ...]:
    """Return the categories of a cell. Raises BadRecord."""
    text = read_text(cell_in(cell), "category", _CATEGORIES_CHARS)
    votes: list[Vote] = []
    for part in text.split(",") if text else ():
        scheme, colon, code = part.strip().rpartition(":")
        if colon and not scheme.strip():
            raise BadRecord("category has a code without its scheme")
        vote = read_vote(
            code, "category", read_text(scheme, "category's scheme", CODE_CHARS) or SCHEME
        )
        if vote is not None and vote not in votes:
            votes.append(vote)
    return tuple(votes)
