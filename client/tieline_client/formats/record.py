"""One record of a file that users bring, as every reader yields it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple


class Vote(NamedTuple):
    """A category as given: the scheme it belongs to and the code in that scheme.

    Numbers conflict between schemes (formats.md), so a code never stands alone. Schemes:
    ``vics-us``, ``vics-uk``, ``vics-custom``, ``vics-default``, ``vics`` (no token), ``ncmec``
    (A1, A2, B1, B2), ``icse``, ``tieline``, or the words of ``--category SCHEME:CODE``.
    """

    scheme: str
    code: str


@dataclass(slots=True)
class Record:
    """An item as one file states it. Digests are bytes of the right width or None.

    ``number`` is the record's position from 1. ``photodna`` is 144 opaque bytes. ``votes`` is
    empty when the file says nothing of a category. ``entire`` is True where the format itself is
    the statement that every record belongs (ICSE-style CSV, plain lists, PDQ lists, NCMEC).
    ``deleted`` marks a tombstone of NCMEC, which names an entry by ``references`` and may carry no
    digest. ``updated`` is when the file says the record last changed, in UTC. ``size`` is in bytes.
    Flags are None when not stated.
    """

    number: int
    md5: bytes | None = None
    sha1: bytes | None = None
    sha256: bytes | None = None
    pdq: bytes | None = None
    pdq_quality: int | None = None
    photodna: bytes | None = None
    size: int | None = None
    media_type: str | None = None
    votes: tuple[Vote, ...] = ()
    series: str | None = None
    references: tuple[tuple[str, str], ...] = ()
    victim_identified: bool | None = None
    offender_identified: bool | None = None
    distributed: bool | None = None
    submissions: int | None = None
    baseline: bool | None = None
    entire: bool = False
    deleted: bool = False
    updated: datetime | None = None
    notes: tuple[str, ...] = field(default=())
    """What the reader set aside or could not place, in words, for the import's report."""


class Rejected(NamedTuple):
    """A record that cannot be used while the file as a whole is sound."""

    record: int
    reason: str
