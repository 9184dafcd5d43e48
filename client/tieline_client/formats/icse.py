"""ICSE-style hash CSV (INTERPOL): one image a row, delimited by ``;``, taken whole."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from tieline_client.digests import DigestKind
from tieline_client.formats.fields import (
    BadRecord,
    check_identified,
    read_count,
    read_digest,
    read_flag,
    read_photodna,
    read_text,
)
from tieline_client.formats.record import Record, Rejected
from tieline_client.formats.tabular import Row, cell_in, read_table
from tieline_client.limits import REFERENCE_CHARS

HEADER = (
    "MD5",
    "SHA1",
    "PhotoDNA",
    "Image ID",
    "Is distributed",
    "Victim identified",
    "Offender identified",
    "Series name",
    "Number of submissions",
    "File Available",
    "Media Type",
    "Baseline",
)
_MARKS = frozenset(
    ("imageid", "isdistributed", "seriesname", "numberofsubmissions", "fileavailable", "baseline")
)


def is_icse(columns: Collection[str]) -> bool:
    """Whether normalised column names (tabular.column) are those of an ICSE-style export."""
    return not {"md5", "sha1"}.isdisjoint(columns) and not _MARKS.isdisjoint(columns)


def read_icse(blocks: Iterable[list[str]], name: str) -> Iterator[Record | Rejected]:
    """Yield the rows of an ICSE-style CSV, given as blocks of lines.

    Raises FormatError when the table is broken.
    """
    for number, row in read_table(blocks, name, is_icse, HEADER):
        if isinstance(row, Rejected):
            yield row
            continue
        try:
            yield _record(number, row)
        except BadRecord as error:
            yield Rejected(number, error.message)


def _record(number: int, row: Row) -> Record:
    get = row.get
    notes: list[str] = []
    record = Record(
        number,
        md5=read_digest(DigestKind.MD5, get("md5")),
        sha1=read_digest(DigestKind.SHA1, get("sha1")),
        photodna=read_photodna(get("photodna"), notes),
        media_type=read_text(cell_in(get("mediatype")), "Media Type"),
        series=read_text(cell_in(get("seriesname")), "Series name"),
        victim_identified=read_flag(get("victimidentified"), "Victim identified", notes),
        offender_identified=read_flag(get("offenderidentified"), "Offender identified", notes),
        distributed=read_flag(get("isdistributed"), "Is distributed", notes),
        submissions=read_count(get("numberofsubmissions"), "Number of submissions", notes),
        # Second-hand knowledge: kept as given, nothing is derived from it (formats.md).
        baseline=read_flag(get("baseline"), "Baseline", notes),
        entire=True,
    )
    image = read_text(cell_in(get("imageid")), "Image ID", REFERENCE_CHARS)
    if image is not None:
        record.references = (("icse", image.strip()),)
    check_identified(record)
    record.notes = tuple(notes)
    return record
