"""VICS 2.0 JSON on its way out: one case for each series, its media inside.

A case says whom to call and, as CaseMetadata, what is known of the series. A category is that of
the file's own context; there is no place for those of another scheme. Layout: the OData schema of
VICS 2.0 (CEModel), which tests hold every file against.
"""

from __future__ import annotations

import json
import uuid
from typing import Any, BinaryIO

from tieline_client.errors import InvalidInput
from tieline_client.formats.outgoing import BELONGING, SeriesFacts, Writer
from tieline_client.formats.record import Record, Vote
from tieline_client.formats.write import vics_fields

CONTEXTS = {"us": "US", "uk": "UK", "custom": "CUSTOM"}
_BASE = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml"
_CODES = frozenset(map(str, range(256)))
"""Edm.Byte."""
_INT32_MOST = 2**31 - 1
_INT64_MOST = 2**63 - 1
_CASES = uuid.UUID("7a0c51f4-9d44-5c5e-8f0e-1f2a1f0f5c11")
"""Namespace of case ids whose series has no id that is one."""


class VicsWriter(Writer):
    """``context`` is us, uk or custom. Media need an MD5."""

    needs = "an MD5"
    holds = frozenset(
        {
            *("sha256", "pdq", "photodna", "size", "media_type", "updated"),
            *("victim_identified", "offender_identified", "distributed"),
        }
    )
    holds_series = True

    def __init__(self, stream: BinaryIO, context: str = "us") -> None:
        super().__init__(stream)
        if context not in CONTEXTS:
            raise InvalidInput(f"VICS context {context[:16]!r} is not us, uk or custom")
        self._scheme = f"vics-{context}"
        self._open = False
        self._in_case = 0
        self._cases = 0
        url = f"{_BASE}/{CONTEXTS[context]}/$metadata#Cases"
        self._put(f'{{"@odata.context":{json.dumps(url)},\n"value":[')

    def finish(self) -> None:
        """Close the last case and the list."""
        self._close_case()
        self._put("]}\n")

    def _begin(self, facts: SeriesFacts) -> None:
        self._close_case()
        case = case_id(facts.id)
        fields = {
            "CaseID": case,
            "CaseNumber": facts.case_ref or None,
            "ContactOrganization": facts.organisation or None,
            "ContactName": facts.contact_name or None,
            "ContactPhone": facts.contact_phone or None,
            "ContactEmail": facts.contact_email or None,
            "SourceApplicationName": "Tieline",
            "CaseMetadata": [
                {"CaseID": case, "PropertyName": name, "PropertyValue": value}
                for name, value in facts.properties
            ],
        }
        stated = {name: value for name, value in fields.items() if value is not None}
        self._put(",\n" if self._cases else "\n")
        self._put(f'{json.dumps(stated)[:-1]}, "Media":[')
        self._open, self._in_case = True, 0
        self._cases += 1

    def _close_case(self) -> None:
        if self._open:
            self._put(f'],"TotalMediaFiles":{self._in_case}}}')
        self._open = False

    def _holds(self, record: Record) -> bool:
        return record.md5 is not None and self.written < _INT32_MOST

    def _code(self, record: Record) -> Vote | None:
        """The one category that a medium has a place for: a number, 0 to 255."""
        for vote in record.votes:
            if vote.scheme == self._scheme and vote.code in _CODES:
                return vote
        return None

    def _lost_votes(self, record: Record) -> list[Vote]:
        kept = self._code(record)
        return [vote for vote in record.votes if vote != kept]

    def _write(self, record: Record) -> None:
        if record.size is not None and record.size > _INT64_MOST:
            self.losses["size"] += 1
        fields: dict[str, Any] = vics_fields(record, self.written, "2.0", self._scheme)
        fields.pop("Category", None)
        kept = self._code(record)
        if kept is not None:
            fields["Category"] = int(kept.code)
        else:
            self.losses[BELONGING] += 1
        stated = {
            name: value
            for name, value in fields.items()
            if value is not None and not (name == "MediaSize" and value > _INT64_MOST)
        }
        self._put(",\n" if self._in_case else "\n")
        self._put(json.dumps(stated))
        self._in_case += 1

    def _put(self, text: str) -> None:
        self._stream.write(text.encode())


def case_id(series: str) -> str:
    """Return the case's id: the UUID in a series' own id, or one that follows from it."""
    try:
        return str(uuid.UUID(series.rpartition("/")[2]))
    except ValueError:
        return str(uuid.uuid5(_CASES, series))
