"""Series and assessments: what a node knows of a set of items that show the same victim(s)."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from tieline_client.handling import Handling
from tieline_client.identifiers import series_owner


class SeriesStatus(enum.StrEnum):
    """Where a series stands. Later steps never go back by themselves."""

    NEW = "new"
    TRIAGED = "triaged"
    UNDER_EVALUATION = "under_evaluation"
    LOCALISED = "localised"
    REFERRED = "referred"
    IDENTIFIED = "identified"
    CLOSED = "closed"
    WITHDRAWN = "withdrawn"


class Origin(enum.StrEnum):
    """How a series came to this node."""

    OWN = "own"
    REFERRAL = "referral"
    BROADCAST = "broadcast"
    UPLOAD = "upload"


class Confidence(enum.IntEnum):
    """How sure an assessment is."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3


@dataclass(frozen=True, slots=True)
class DutyContact:
    """Whom to call about a series: without it a hit helps no one."""

    name: str = ""
    email: str = ""
    phone: str = ""


@dataclass(frozen=True, slots=True)
class ExternalReference:
    """A number under which another system knows the series: icse, siena, ncmec, caid, national."""

    scheme: str
    value: str


@dataclass(frozen=True, slots=True)
class Series:
    """Metadata of a series; its items are its holdings.

    ``name`` is shown to others only at disclosure ``detail``: names can identify a child.
    ``number`` is a repository's own series number, empty elsewhere.
    """

    id: str
    name: str
    status: SeriesStatus
    origin: Origin
    handling: Handling
    contact: DutyContact
    created: datetime
    case_ref: str = ""
    victims: int | None = None
    identified: int = 0
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    clues: str = ""
    number: str = ""
    references: tuple[ExternalReference, ...] = ()

    @property
    def owner(self) -> str:
        """The agency that the id names."""
        return series_owner(self.id)


@dataclass(frozen=True, slots=True)
class Assessment:
    """An expert's judgement of the likely country of production. Competing ones stand together."""

    id: str
    series: str
    agency: str
    person: str
    country: str
    confidence: Confidence
    grounds: str
    confirmed: bool
    eliminated: bool
    made: datetime
    region: str = ""
    """Where in the country, in words."""
    clues: tuple[str, ...] = ()
    """Ids of the clues that it rests on."""


def likely_countries(
    assessments: Iterable[Assessment], support: Mapping[str, int] | None = None
) -> tuple[str, ...]:
    """Return the standing likely countries; ties stand together, in code order.

    1. Only the latest word of each (agency, person, country) counts.
    2. A country that anybody eliminates drops out.
    3. Confirmed goes before suspected; then confidence; then ``support``, how many verified clues
       and tips speak for the country. Support alone makes no country likely.
    """
    latest: dict[tuple[str, str, str], Assessment] = {}
    for one in sorted(assessments, key=lambda a: (a.made, a.id)):
        latest[(one.agency, one.person, one.country)] = one
    eliminated = {a.country for a in latest.values() if a.eliminated}
    support = support or {}
    strength: dict[str, tuple[bool, int, int]] = {}
    for one in latest.values():
        if one.country not in eliminated:
            mark = (one.confirmed, int(one.confidence), support.get(one.country, 0))
            strength[one.country] = max(strength.get(one.country, mark), mark)
    if not strength:
        return ()
    best = max(strength.values())
    return tuple(sorted(country for country, mark in strength.items() if mark == best))
