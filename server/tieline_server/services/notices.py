"""Between the domain's series and what travels of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from tieline.v1 import series_pb2
from tieline_client.errors import InvalidInput
from tieline_client.handling import Handling, HandlingCode, Tlp
from tieline_client.identifiers import check_agency, check_country, check_id, series_owner
from tieline_client.payloads import moment, timestamp

from tieline_server.domain.series import (
    Assessment,
    Confidence,
    DutyContact,
    ExternalReference,
    Origin,
    Series,
    SeriesStatus,
)
from tieline_server.services.context import clean

SCHEMES = frozenset({"icse", "siena", "ncmec", "caid", "national"})


_EARLIER = {SeriesStatus.UNDER_EVALUATION: SeriesStatus.TRIAGED}
"""What peers before v1.3 are told in place of a status that they do not know."""


def handling_out(handling: Handling) -> series_pb2.Handling:
    """Return the wire form."""
    return series_pb2.Handling(
        code=int(handling.code),
        tlp=int(handling.tlp),
        source=handling.source,
        information=handling.information,
        retain_until=handling.retain_until.isoformat(),
        restriction=handling.restriction,
    )


def own_handling(message: series_pb2.Handling, default: Handling, today: date) -> Handling:
    """Return under what a person begins to hold something: parts that are not set take the
    default's. Raises InvalidInput as `handling_in`, and when its last day is past."""
    handling = handling_in(message, default)
    if handling.retain_until <= today:
        raise InvalidInput("the retention date is past; give a later --retain-until")
    return handling


def handling_in(message: series_pb2.Handling, default: Handling | None = None) -> Handling:
    """Return the domain form; raise InvalidInput when a part is missing or unknown.

    With ``default``, parts that are not set take its values.
    """
    try:
        until = date.fromisoformat(message.retain_until) if message.retain_until else None
        tlp = Tlp(message.tlp) if message.tlp else None
        code = HandlingCode(message.code)
    except ValueError:
        raise InvalidInput("handling holds an unknown code, TLP or date; see --help") from None
    if default is not None:
        until, tlp = until or default.retain_until, tlp or default.tlp
    if until is None or tlp is None:
        raise InvalidInput("handling needs a TLP and a retention date")
    return Handling(
        code,
        tlp,
        message.source or (default.source if default else ""),
        message.information or (default.information if default else 0),
        until,
        clean(message.restriction),
    )


def contact_out(contact: DutyContact) -> series_pb2.DutyContact:
    """Return the wire form."""
    return series_pb2.DutyContact(name=contact.name, email=contact.email, phone=contact.phone)


def contact_in(message: series_pb2.DutyContact) -> DutyContact:
    """Return the domain form."""
    return DutyContact(clean(message.name), clean(message.email), clean(message.phone))


def reference_in(message: series_pb2.ExternalReference) -> ExternalReference:
    """Return the domain form; raise InvalidInput for an unknown scheme or an empty value."""
    if message.scheme not in SCHEMES or not message.value.strip():
        known = ", ".join(sorted(SCHEMES))
        raise InvalidInput(f"a reference is SCHEME:VALUE with a scheme of {known}")
    return ExternalReference(message.scheme, clean(message.value))


def assessment_out(one: Assessment) -> series_pb2.Assessment:
    """Return the wire form."""
    return series_pb2.Assessment(
        id=one.id,
        series=one.series,
        agency=one.agency,
        person=one.person,
        country=one.country,
        confidence=int(one.confidence),
        grounds=one.grounds,
        confirmed=one.confirmed,
        eliminated=one.eliminated,
        made_time=timestamp(one.made),
        region=one.region,
        clues=one.clues,
    )


def assessment_in(message: series_pb2.Assessment) -> Assessment:
    """Return the domain form; raise InvalidInput when a part does not hold."""
    series_owner(message.series)
    try:
        confidence = Confidence(message.confidence)
    except ValueError:
        raise InvalidInput("confidence is low, medium or high (1 to 3)") from None
    return Assessment(
        check_id(message.id, "assessment"),
        message.series,
        check_agency(message.agency),
        message.person,
        check_country(message.country),
        confidence,
        clean(message.grounds),
        message.confirmed,
        message.eliminated,
        moment(message.made_time),
        clean(message.region),
        tuple(check_id(one, "clue") for one in message.clues),
    )


def _optional_moment(message: series_pb2.SeriesNotice, name: str) -> datetime | None:
    stamp: Timestamp = getattr(message, name)
    return moment(stamp) if message.HasField(name) else None  # type: ignore[arg-type]


def series_out(
    series: Series, assessments: list[Assessment], items: int, *, with_name: bool
) -> series_pb2.SeriesNotice:
    """Return what travels; the name only where ``detail`` is allowed."""
    notice = series_pb2.SeriesNotice(
        id=series.id,
        name=series.name if with_name else "",
        status=_EARLIER.get(series.status, series.status).value,
        stage=series.status.value if series.status in _EARLIER else "",
        handling=handling_out(series.handling),
        contact=contact_out(series.contact),
        victims=series.victims,
        identified=series.identified,
        clues=series.clues,
        references=[
            series_pb2.ExternalReference(scheme=r.scheme, value=r.value) for r in series.references
        ],
        assessments=[assessment_out(one) for one in assessments],
        create_time=timestamp(series.created),
        items=items,
    )
    if series.first_seen:
        notice.first_seen_time.CopyFrom(timestamp(series.first_seen))
    if series.last_seen:
        notice.last_seen_time.CopyFrom(timestamp(series.last_seen))
    return notice


def logged_references(
    references: Iterable[ExternalReference | series_pb2.ExternalReference],
) -> list[str]:
    """Return what an audit entry says of a series' numbers elsewhere: the SIENA number alone, where
    the trail meets SIENA's own (2023/977 Art. 13). Other numbers end with the series they name."""
    return [f"{one.scheme}:{one.value}" for one in references if one.scheme == "siena"]


def series_in(message: series_pb2.SeriesNotice, origin: Origin, case_ref: str) -> Series:
    """Return the domain form of a received series; raise InvalidInput when a part fails."""
    series_owner(message.id)
    try:
        known = message.stage in tuple(SeriesStatus)
        status = SeriesStatus(message.stage if known else message.status)
    except ValueError:
        raise InvalidInput(f"series status {message.status!r} is unknown") from None
    return Series(
        id=message.id,
        name=clean(message.name),
        status=status,
        origin=origin,
        handling=handling_in(message.handling),
        contact=contact_in(message.contact),
        created=moment(message.create_time),
        case_ref=case_ref,
        victims=message.victims if message.HasField("victims") else None,
        identified=message.identified,
        first_seen=_optional_moment(message, "first_seen_time"),
        last_seen=_optional_moment(message, "last_seen_time"),
        clues=clean(message.clues),
        references=tuple(reference_in(one) for one in message.references),
    )
