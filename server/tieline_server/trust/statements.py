"""The files that the directory is made of: who states what, and the Directory they add up to.

===========================  ================  =====================================================
target                       stated by         holds
===========================  ================  =====================================================
``federation.json``          the authority     purposes, groups, agreements, revocations
``agencies/<agency>.json``   the authority     name, role, countries
``self/<agency>.json``       the agency        endpoints, CAs, signing keys, own revoked serials,
                                               duty contact
===========================  ================  =====================================================

The first two stand in the top-level targets, which k holders sign; the third in the delegated role
named like the agency, which the agency's own directory key signs.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import ConfigDict, Field, ValidationError
from tieline_client import limits
from tieline_client.directory import (
    AgencyId,
    Cas,
    Code,
    Contact,
    Country,
    Directory,
    Endpoint,
    FederationName,
    Frozen,
    Group,
    Role,
    Serials,
    SigningKey,
    Text,
)
from tieline_client.errors import InvalidInput
from tieline_client.inert import inert

from tieline_server.trust import canonical

FEDERATION_PATH = "federation.json"


def agency_path(agency: str) -> str:
    """Return the target that holds the authority's statement on an agency."""
    return f"agencies/{agency}.json"


def own_path(agency: str) -> str:
    """Return the one target that an agency's delegated role may state."""
    return f"self/{agency}.json"


class Statement(Frozen):
    """A file of the directory. Fields that a later version adds do not stop this one."""

    model_config = ConfigDict(extra="ignore")


class GroupStatement(Statement):
    """The members of a named group, by agency id; every change raises ``version``."""

    version: Annotated[int, Field(ge=1)]
    members: Annotated[tuple[AgencyId, ...], Field(max_length=limits.MEMBERS)]


class FederationStatement(Statement):
    """What the authority states of the whole."""

    federation: FederationName
    purposes: Annotated[Mapping[Code, Text], Field(max_length=limits.PURPOSES)]
    groups: Annotated[Mapping[Code, GroupStatement], Field(max_length=limits.GROUPS)]
    agreements: Annotated[Mapping[AgencyId, Text], Field(max_length=limits.MEMBERS)]
    revoked_agencies: Annotated[tuple[AgencyId, ...], Field(max_length=limits.MEMBERS)]
    revoked_serials: Annotated[Mapping[AgencyId, Serials], Field(max_length=limits.MEMBERS)]


class AgencyStatement(Statement):
    """What the authority states of one agency; in a request, what the agency claims."""

    agency: AgencyId
    name: Annotated[Text, Field(min_length=1)]
    role: Role
    countries: Annotated[tuple[Country, ...], Field(max_length=limits.COUNTRIES_PER_MEMBER)] = ()


class OwnStatement(Statement):
    """What an agency states of itself, under its own directory key."""

    agency: AgencyId
    endpoints: Annotated[tuple[Endpoint, ...], Field(max_length=limits.ENDPOINTS_PER_MEMBER)] = ()
    outbound_only: bool = False
    node_cas: Annotated[Cas, Field(min_length=1)]
    operator_cas: Cas = ()
    signing_keys: Annotated[
        tuple[SigningKey, ...], Field(min_length=1, max_length=limits.SIGNING_KEYS_PER_MEMBER)
    ]
    revoked_serials: Serials = frozenset()
    contact: Contact = Contact()


Model = TypeVar("Model", bound=Frozen)


def to_bytes(statement: Frozen) -> bytes:
    """Return a statement as the canonical JSON that is hashed and signed."""
    return canonical.encode(statement.model_dump(mode="json"))


def parse(model: type[Model], data: bytes, what: str) -> Model:
    """Parse a statement; raise InvalidInput, which names ``what`` and the first wrong field."""
    return check(model, canonical.decode(data, what), what)


def check(model: type[Model], value: object, what: str) -> Model:
    """Return ``value`` as a statement; raise InvalidInput on the first wrong field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidInput(f"{what}: {first_fault(error)}") from None


def first_fault(error: ValidationError) -> str:
    """Return one line for the first of pydantic's faults."""
    fault = error.errors(include_url=False, include_input=False)[0]
    place = inert(".".join(str(part) for part in fault["loc"])[:120])
    why = fault["msg"].removeprefix("Value error, ")
    return f"{place} {why}" if place else why


def assemble(
    *,
    version: int,
    expires: datetime,
    federation: FederationStatement,
    agencies: Mapping[str, AgencyStatement],
    owns: Mapping[str, OwnStatement],
    directory_keys: Mapping[str, str],
) -> Directory:
    """Return the Directory that verified statements add up to.

    An agency without an entry in ``owns`` (its own statement lapsed) stays listed, without
    endpoints and keys, so that nobody can connect or sign as it. ``directory_keys`` are key ids by
    agency. Raises InvalidInput when the statements contradict one another.
    """
    members = []
    for agency, stated in sorted(agencies.items()):
        own = owns.get(agency)
        if stated.agency != agency or (own is not None and own.agency != agency):
            raise InvalidInput(f"the directory's statement on {agency} names another agency")
        of_itself = own.model_dump(exclude={"agency"}) if own is not None else {}
        members.append(
            {
                **of_itself,
                "agency": agency,
                "name": stated.name,
                "role": stated.role,
                "countries": stated.countries,
                "agreement": federation.agreements.get(agency),
                "directory_key": directory_keys.get(agency, ""),
                "revoked": agency in federation.revoked_agencies,
            }
        )
    document = {
        "federation": federation.federation,
        "version": version,
        "expires": expires,
        "members": members,
        "groups": [
            Group(name=name, version=group.version, members=group.members)
            for name, group in sorted(federation.groups.items())
        ],
        "purposes": federation.purposes,
        "revoked_serials": federation.revoked_serials,
    }
    return check(Directory, document, "the directory")
