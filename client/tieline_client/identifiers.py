"""Names: agencies, series, SPIFFE IDs, UUIDv7 (RFC 9562, section 5.7)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import uuid_utils

from tieline_client.errors import InvalidInput

_AGENCY = re.compile(r"[a-z0-9-]{2,32}")
_FEDERATION = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
_OPERATOR = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_SPIFFE = re.compile(r"spiffe://([^/]+)/agency/([^/]+)(?:/operator/([^/]+))?")


def new_id() -> str:
    """Return a new UUIDv7 in lower-case canonical form."""
    return str(uuid_utils.uuid7())


def check_id(value: str, what: str = "id") -> str:
    """Return ``value`` when it is a canonical UUIDv7; raise InvalidInput otherwise."""
    if not _UUID7.fullmatch(value):
        raise InvalidInput(
            f"{what} {value[:64]!r} is not a UUIDv7; copy it from the list it stands in"
        )
    return value


def check_agency(value: str) -> str:
    """Return ``value`` when it is an agency id; raise InvalidInput otherwise."""
    if not _AGENCY.fullmatch(value):
        raise InvalidInput(
            f"agency id {value[:64]!r} is not 2 to 32 of a-z, 0-9 and '-'; for example pt-pj"
        )
    return value


def check_federation(value: str) -> str:
    """Return ``value`` when it can be a federation's name (a DNS-like label sequence)."""
    if not _FEDERATION.fullmatch(value):
        raise InvalidInput(
            f"federation name {value[:64]!r} is not 1 to 63 of a-z, 0-9, '.', '-'; "
            "for example tieline-eu"
        )
    return value


def check_operator(value: str) -> str:
    """Return ``value`` when it can name a person in a certificate."""
    if not _OPERATOR.fullmatch(value):
        raise InvalidInput(
            f"operator name {value[:64]!r} is not 1 to 64 of a-z, 0-9, '.', '_', '-'; "
            "for example ana.silva"
        )
    return value


def check_country(value: str) -> str:
    """Return ``value`` when it has the form of an ISO 3166-1 alpha-2 code."""
    if not _COUNTRY.fullmatch(value):
        raise InvalidInput(f"country {value[:16]!r} is not two capital letters; for example PT")
    return value


def check_code(value: str, what: str = "code") -> str:
    """Return ``value`` when it is a code word such as a purpose or a group name."""
    if not _CODE.fullmatch(value):
        raise InvalidInput(
            f"{what} {value[:80]!r} is not 1 to 64 of letters, digits, '.', '_', '-'"
        )
    return value


def new_series_id(agency: str) -> str:
    """Return a new series id ``<agency>/<uuid7>``; the part before the slash is the owner."""
    return f"{check_agency(agency)}/{new_id()}"


def series_owner(series_id: str) -> str:
    """Return the owning agency of a series id; raise InvalidInput when it is not one."""
    owner, slash, rest = series_id.partition("/")
    if not slash or not _AGENCY.fullmatch(owner) or not _UUID7.fullmatch(rest):
        raise InvalidInput(
            f"series id {series_id[:80]!r} is not <agency>/<uuid7>; see `tieline series list`"
        )
    return owner


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """``spiffe://<federation>/agency/<agency>[/operator/<name>]``."""

    federation: str
    agency: str
    operator: str | None = None

    def __str__(self) -> str:
        base = f"spiffe://{self.federation}/agency/{self.agency}"
        return base if self.operator is None else f"{base}/operator/{self.operator}"

    @classmethod
    def parse(cls, uri: str) -> SpiffeId:
        """Parse a URI SAN; raise InvalidInput when it is not one of the two forms."""
        match = _SPIFFE.fullmatch(uri)
        if not match:
            raise InvalidInput(f"{uri[:120]!r} is not a Tieline SPIFFE ID")
        federation, agency, operator = match.groups()
        check_federation(federation)
        check_agency(agency)
        if operator is not None:
            check_operator(operator)
        return cls(federation, agency, operator)


def dns_name(agency: str, federation: str) -> str:
    """Return the one DNS SAN of an agency's node: ``<agency>.<federation>.invalid``."""
    return f"{agency}.{federation}.invalid"
