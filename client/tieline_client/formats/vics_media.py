"""One medium of a VICS file: from its fields to a record."""

from __future__ import annotations

from typing import Any

from tieline_client.digests import DigestKind
from tieline_client.formats.fields import (
    BadRecord,
    check_identified,
    read_code,
    read_count,
    read_digest,
    read_flag,
    read_photodna,
    read_text,
    set_updated,
)
from tieline_client.formats.json_events import Fields
from tieline_client.formats.record import Record, Rejected, Vote
from tieline_client.limits import ALTERNATIVE_HASHES

ALTERNATIVES = {
    "md5": DigestKind.MD5,
    "sha1": DigestKind.SHA1,
    "sha256": DigestKind.SHA256,
    "pdq": DigestKind.PDQ,
}

SKIPPED = ("a list or object",)
"""Stands for the value of a field that was passed over."""
ABSENT = object()
NULL_CATEGORY = "Category is null"


def plain(fields: Fields) -> Fields:
    """Return a whole object's fields as reading event by event would give them."""
    return {
        key: _plain_value(key, value) if isinstance(value, dict | list) else value
        for key, value in fields.items()
    }


def _plain_value(key: str, value: Fields | list[Any]) -> object:
    if key == "AlternativeHashes" and isinstance(value, list):
        entries = [entry for entry in value if isinstance(entry, dict)]
        return [
            {name: SKIPPED if isinstance(each, dict | list) else each for name, each in one.items()}
            for one in entries[:ALTERNATIVE_HASHES]
        ]
    if key == "Series" and isinstance(value, dict):
        name = value.get("Name")
        return SKIPPED if isinstance(name, dict | list) else name
    return SKIPPED


class MediaReader:
    """``scheme`` is that of the file's categories."""

    def __init__(self) -> None:
        self.scheme = "vics"
        self._votes: dict[int, tuple[Vote, ...]] = {}

    def record(self, number: int, fields: Fields) -> Record | Rejected:
        """Return the record of a medium."""
        try:
            return self._record(number, fields)
        except BadRecord as error:
            return Rejected(number, error.message)

    def _record(self, number: int, fields: Fields) -> Record:
        get = fields.get
        notes: list[str] = []
        record = Record(
            number,
            read_digest(DigestKind.MD5, get("MD5")),
            read_digest(DigestKind.SHA1, get("SHA1")),
            None,
            None,
            None,
            read_photodna(get("PhotoDNA"), notes),
            read_count(get("MediaSize"), "MediaSize", notes),
            read_text(get("MimeType"), "MimeType"),
        )
        record.votes = self.category(get("Category", ABSENT), notes)
        record.victim_identified = read_flag(get("VictimIdentified"), "VictimIdentified", notes)
        record.offender_identified = read_flag(
            get("OffenderIdentified"), "OffenderIdentified", notes
        )
        record.distributed = read_flag(get("IsDistributed"), "IsDistributed", notes)
        series = get("Series")
        if series is SKIPPED:
            notes.append("Series is neither a text nor an object with a Name; set aside")
        else:
            record.series = read_text(series, "Series")
        set_updated(record, get("DateUpdated"), "DateUpdated", notes)
        alternatives = get("AlternativeHashes")
        if isinstance(alternatives, list):
            for entry in alternatives:
                _take_alternative(record, entry, notes)
        elif alternatives not in (None, ""):
            notes.append("AlternativeHashes is not a list; set aside")
        check_identified(record)
        if notes:
            record.notes = tuple(notes)
        return record

    def category(self, category: object, notes: list[str]) -> tuple[Vote, ...]:
        """Return the vote of a Category, ABSENT where there is none. Raises BadRecord.

        Null, 0 and absent are three things: a note, the code "0", and nothing.
        """
        if category is ABSENT:
            return ()
        if type(category) is int and category in self._votes:
            return self._votes[category]
        code = read_code(category, "Category")
        if code is None:
            notes.append(NULL_CATEGORY)
            return ()
        votes = (Vote(self.scheme, code),)
        if type(category) is int:
            self._votes[category] = votes
        return votes


def hash_name(name: str) -> str:
    """Return a HashName without case, hyphens and the like."""
    return name.strip().lower().replace("-", "").replace("_", "")


def _take_alternative(record: Record, entry: Fields, notes: list[str]) -> None:
    """Add one of AlternativeHashes; without an MD5 of its own it belongs to the record."""
    name = entry.get("HashName")
    if not isinstance(name, str):
        return
    name = hash_name(name)
    kind = ALTERNATIVES.get(name)
    if kind is None and name != "photodna":
        return
    own = read_digest(DigestKind.MD5, entry.get("MD5"))
    if own is not None and record.md5 is not None and own != record.md5:
        notes.append(f"an alternative {name} hash of another MD5; set aside")
        return
    value = entry.get("HashValue")
    if kind is None:
        record.photodna = record.photodna or read_photodna(value, notes)
        return
    digest = read_digest(kind, value)
    if digest is None:
        return
    stated = getattr(record, kind.label)
    if stated is None:
        setattr(record, kind.label, digest)
    elif stated != digest:
        notes.append(f"a second {kind.label} digest; set aside")
