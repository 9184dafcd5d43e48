"""Writers of the field's files, of all versions. All stream to a binary file.

The demonstration and the tests write with these; an export adds what it says of its series and what
it could not say (outgoing.py).
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Literal

from tieline_client.errors import InvalidInput
from tieline_client.formats import icse, own_csv
from tieline_client.formats.record import Record
from tieline_client.formats.tabular import cell_out

MediaLike = Record | Mapping[str, Any]
"""A record, or the fields of a VICS medium as they are to stand in the file."""

_VERSIONS = ("1.1", "1.2", "1.3", "2.0")
_CASE_ID = "00000000-0000-4000-8000-000000000000"


def write_vics(
    stream: BinaryIO,
    media: Iterable[MediaLike],
    version: str = "2.0",
    country: str | None = "US",
    shape: Literal["media", "cases"] = "media",
) -> int:
    """Write VICS JSON and return the number of media.

    ``country`` is the token of a 2.0 context (US, UK, CUSTOM, Default, or None for none); 1.x has
    none. Of a record's votes the one in the file's own scheme becomes its Category. Raises
    InvalidInput for another version.
    """
    if version not in _VERSIONS:
        raise InvalidInput(f"VICS version {version[:16]!r} is not one of {', '.join(_VERSIONS)}")
    key, context, scheme = _context(version, country, shape)
    stream.write(f"{{{json.dumps(key)}:{json.dumps(context)},\r\n".encode())
    stream.write(b'"value":[')
    if shape == "cases":
        case = {"CaseID": _CASE_ID, "CaseNumber": "SYNTHETIC-1", "TotalMediaFiles": 0}
        stream.write(f'{json.dumps(case)[:-1]}, "Media":['.encode())
    count = 0
    for number, medium in enumerate(media, 1):
        fields = (
            vics_fields(medium, number, version, scheme) if isinstance(medium, Record) else medium
        )
        stream.write(b",\r\n" if count else b"\r\n")
        stream.write(json.dumps(fields, default=str).encode())
        count = number
    stream.write(b"]}]}\r\n" if shape == "cases" else b"]}\r\n")
    return count


def _context(version: str, country: str | None, shape: str) -> tuple[str, str, str]:
    fragment = "Cases" if shape == "cases" else "Media"
    if version != "2.0":
        url = f"http://github.com/ICMEC/ProjectVic/DataModels/{version}.xml#{fragment}"
        return "odata.metadata", url, "vics"
    base = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml"
    token = f"/{country}" if country else ""
    scheme = f"vics-{country.lower()}" if country else "vics"
    return "@odata.context", f"{base}{token}/$metadata#{fragment}", scheme


def vics_fields(record: Record, number: int, version: str, scheme: str) -> dict[str, Any]:
    """Return a record as the fields of a VICS medium; what VICS has no field for is left out."""
    md5 = record.md5.hex() if record.md5 is not None else ""
    fields: dict[str, Any] = {"MD5": md5, "MediaID": number}
    code = next((vote.code for vote in record.votes if vote.scheme == scheme), None)
    if code is not None:
        fields["Category"] = int(code) if code.isdigit() else code
    if record.sha1 is not None:
        fields["SHA1"] = record.sha1.hex()
    fields |= {
        "VictimIdentified": record.victim_identified,
        "OffenderIdentified": record.offender_identified,
        "IsDistributed": record.distributed,
        "Series": record.series,
        "MediaSize": record.size,
        "IsPrecategorized": False,
        "MimeType": record.media_type,
    }
    if record.updated is not None:
        fields["DateUpdated"] = record.updated.isoformat()
    alternatives = list(_alternatives(record, version))
    if record.photodna is not None and version == "2.0":
        fields["PhotoDNA"] = base64.b64encode(record.photodna).decode()
    if alternatives:
        fields["AlternativeHashes"] = [
            {"MD5": md5, "HashName": name, "HashValue": value} for name, value in alternatives
        ]
    return fields


def _alternatives(record: Record, version: str) -> Iterator[tuple[str, str]]:
    if record.pdq is not None:
        yield "PDQ", record.pdq.hex()
    if record.sha256 is not None:
        yield "SHA256", record.sha256.hex()
    if record.photodna is not None and version != "2.0":
        yield "PhotoDNA", base64.b64encode(record.photodna).decode()


def write_csv(stream: BinaryIO, records: Iterable[Record]) -> int:
    """Write Tieline's own CSV and return the number of rows."""
    return _write_table(stream, own_csv.HEADER, map(own_row, records))


def own_row(record: Record) -> list[str]:
    """Return the cells of a row of our own CSV."""
    return [
        _hex(record.md5),
        _hex(record.sha1),
        _hex(record.sha256),
        _hex(record.pdq),
        _number(record.pdq_quality),
        cell_out(",".join(f"{vote.scheme}:{vote.code}" for vote in record.votes)),
        cell_out(record.series or ""),
        cell_out(record.media_type or ""),
    ]


def write_icse(stream: BinaryIO, records: Iterable[Record]) -> int:
    """Write ICSE-style CSV and return the number of rows."""
    return _write_table(stream, icse.HEADER, map(icse_row, records))


def icse_row(record: Record) -> list[str]:
    """Return the cells of a row of ICSE-style CSV."""
    references = dict(record.references)
    return [
        _hex(record.md5),
        _hex(record.sha1),
        base64.b64encode(record.photodna).decode() if record.photodna is not None else "",
        cell_out(references.get("icse", "")),
        _flag(record.distributed),
        _flag(record.victim_identified),
        _flag(record.offender_identified),
        cell_out(record.series or ""),
        _number(record.submissions),
        "n",
        cell_out(record.media_type or ""),
        _flag(record.baseline),
    ]


def _write_table(stream: BinaryIO, header: Iterable[str], rows: Iterable[list[str]]) -> int:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, delimiter=";")
    writer.writerow(header)
    count = 0
    for row in rows:
        writer.writerow(row)
        count += 1
    text.flush()
    text.detach()  # the stream belongs to the caller
    return count


def _hex(digest: bytes | None) -> str:
    return digest.hex() if digest is not None else ""


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _flag(value: bool | None) -> str:
    return "" if value is None else "y" if value else "n"
