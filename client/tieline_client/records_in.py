"""Records as they come over the operator port, at either end."""

from __future__ import annotations

from tieline.v1 import operator_pb2

from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidDigest, MalformedMessage
from tieline_client.formats.record import Record, Vote
from tieline_client.inert import plain


def record_in(message: operator_pb2.ItemRecord) -> Record:
    """Return a record; raise InvalidDigest or MalformedMessage when its columns do not fit."""
    for kind in DigestKind:
        value = getattr(message, kind.label)
        if value and len(value) != kind.width:
            raise InvalidDigest(f"record {message.number}: a {kind.label} has {kind.width} bytes")
    if len(message.schemes) != len(message.codes):
        raise MalformedMessage("each category has a scheme and a code")
    if len(message.reference_schemes) != len(message.reference_values):
        raise MalformedMessage("each reference has a scheme and a value")

    def flag(name: str) -> bool | None:
        return bool(getattr(message, name)) if message.HasField(name) else None  # type: ignore[arg-type]

    def number(name: str) -> int | None:
        return int(getattr(message, name)) if message.HasField(name) else None  # type: ignore[arg-type]

    return Record(
        number=message.number,
        md5=message.md5 or None,
        sha1=message.sha1 or None,
        sha256=message.sha256 or None,
        pdq=message.pdq or None,
        pdq_quality=number("pdq_quality"),
        photodna=message.photodna or None,
        size=number("size"),
        media_type=plain(message.media_type) or None,
        votes=tuple(Vote(s, c) for s, c in zip(message.schemes, message.codes, strict=True)),
        series=message.series or None,
        references=tuple(
            zip(message.reference_schemes, map(plain, message.reference_values), strict=True)
        ),
        victim_identified=flag("victim_identified"),
        offender_identified=flag("offender_identified"),
        distributed=flag("distributed"),
        submissions=number("submissions"),
        baseline=flag("baseline"),
        entire=message.entire,
        deleted=message.deleted,
    )
