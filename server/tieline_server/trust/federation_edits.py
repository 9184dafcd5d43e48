"""The changes that an authority can propose: from one ``Stated`` to the next, without I/O."""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from securesystemslib.signer import SSlibKey
from tieline_client import identifiers, limits
from tieline_client.certificates import Kind
from tieline_client.countries import check_known_country
from tieline_client.directory import Role, suggest
from tieline_client.errors import InvalidInput, RefusedError, UnknownAgency, UsageError
from tuf.api.metadata import TOP_LEVEL_ROLE_NAMES

from tieline_server.trust import statements
from tieline_server.trust.offered_ca import check_offered_authority
from tieline_server.trust.request import Request, read_role, verify_own
from tieline_server.trust.stated import Stated
from tieline_server.trust.statements import (
    AgencyStatement,
    FederationStatement,
    GroupStatement,
    OwnStatement,
)

DEFAULT_PURPOSES = {
    "victim-identification": "Identifying and safeguarding a victim",
    "deconfliction": "Finding out whether another agency works on the same material",
    "prosecution": "Evidence for the prosecution of an offender",
    "data-quality": "Correcting and completing what is held",
}


class AdmissionRefused(RefusedError):
    """A request that must not be admitted as it stands."""


def first(name: str) -> Stated:
    """Return the statements of a federation that has no members yet."""
    federation = FederationStatement(
        federation=name,
        purposes=DEFAULT_PURPOSES,
        groups={},
        agreements={},
        revoked_agencies=(),
        revoked_serials={},
    )
    return Stated(federation, {}, {}, {}, {})


def plain_fingerprint(given: str) -> str:
    """Return a fingerprint as it is printed, whatever groups it was read out in."""
    return re.sub(r"[\s:-]", "", given).lower()


def check_fingerprint(request: Request, given: str) -> None:
    """Raise AdmissionRefused unless ``given`` is the request's fingerprint.

    Case, blanks, colons and hyphens do not count: people read it out in groups.
    """
    plain = plain_fingerprint(given)
    if not hmac.compare_digest(plain.encode(), request.fingerprint.encode()):
        raise AdmissionRefused(
            f"the fingerprint is not that of this request of {request.claims.agency}; "
            "ask the agency by another channel, and do not admit what it did not send"
        )


def admit(
    stated: Stated, request: Request, role: Role, countries: Sequence[str], now: datetime
) -> tuple[Stated, list[str]]:
    """Admit an agency, or take a member's new request; return remarks for the authority as well.

    Raises a RefusedError (or InvalidInput for values that no authority could state):

    1. The agency's id is free for use as a role name in TUF, and there is room for a member.
    2. A national agency serves a country; role and countries are what the request claims; others
       can call a hub.
    3. The request is not older than the one that is known.
    4. Directory key and signing keys are no other member's, and not those of a revoked past.
    5. Its CAs pass the checks of offered_ca.py against every other CA.
    """
    agency = request.claims.agency
    # 1
    if agency in TOP_LEVEL_ROLE_NAMES:
        raise InvalidInput(f"agency id {agency!r} has a meaning of its own in TUF; use another")
    if agency not in stated.agencies and len(stated.agencies) >= limits.MEMBERS:
        raise InvalidInput(f"the federation has {limits.MEMBERS} members already")
    # 2
    _check_claims(request, role, countries)
    # 3
    if agency in stated.roles:
        _check_newer(request, stated)
    # 4
    _check_keys(stated, request)
    # 5
    remarks = _check_authorities(stated, request, now)
    if request.statement.outbound_only:
        remarks.append(f"{agency} only calls out: it is reached over streams that it holds open")
    revoked = tuple(name for name in stated.federation.revoked_agencies if name != agency)
    admitted = AgencyStatement(
        agency=agency, name=request.claims.name, role=role, countries=tuple(sorted(set(countries)))
    )
    after = Stated(
        _federation(stated, revoked_agencies=revoked),
        {**stated.agencies, agency: admitted},
        {**stated.directory_keys, agency: request.directory_key},
        {**stated.roles, agency: request.role},
        {**stated.owns, agency: request.own},
    )
    return after, remarks


def restate(
    stated: Stated, agency: str, metadata: bytes, own: bytes, now: datetime
) -> tuple[Stated, list[str]]:
    """Take a member's new statement of itself, which needs no holder; return remarks as well.

    1. It is a member, and not revoked.
    2. Its directory key, as the authority delegates to it, signed the statement.
    3. The statement is newer than the one in force, and its number is not from the future: one
       that is could never be followed by another.
    4. Keys and CAs pass the checks 4 and 5 of ``admit``.

    Raises a RefusedError or InvalidInput. What is in force already changes nothing.
    """
    # 1
    known_agency(stated, agency)
    if agency in stated.federation.revoked_agencies:
        raise RefusedError(f"{agency} is revoked; its statements count no more")
    # 2
    key = stated.directory_keys[agency]
    assert isinstance(key, SSlibKey)
    request = verify_own(stated.agencies[agency], key, metadata, own, now)
    if (metadata, own) == (stated.roles[agency], stated.owns[agency]):
        return stated, []
    # 3
    _check_newer(request, stated)
    if request.version > (now + limits.CLOCK_TOLERANCE).timestamp():
        raise AdmissionRefused(
            f"this statement of {agency} is numbered from the future; compare its clock with ours"
        )
    # 4
    _check_keys(stated, request)
    remarks = _check_authorities(stated, request, now)
    after = replace(
        stated,
        roles={**stated.roles, agency: metadata},
        owns={**stated.owns, agency: own},
    )
    return after, remarks


def _check_claims(request: Request, role: Role, countries: Sequence[str]) -> None:
    for country in countries:
        check_known_country(country)
    if role is Role.NATIONAL and not countries:
        raise UsageError("a national agency serves at least one country; give --country CC")
    if role is Role.HUB and request.statement.outbound_only:
        raise AdmissionRefused("a hub must be called by others; it cannot only call out")
    claims = request.claims
    if claims.role is not role:
        raise AdmissionRefused(
            f"{claims.agency} claims to be {claims.role}, you state {role}; "
            "agree with the agency and let it make a new request"
        )
    if set(claims.countries) != set(countries):
        claimed, mine = (
            " ".join(sorted(set(some))) or "none" for some in (claims.countries, countries)
        )
        raise AdmissionRefused(
            f"{claims.agency} claims the countries {claimed}, you state {mine}; "
            "agree with the agency and let it make a new request"
        )


def _check_newer(request: Request, stated: Stated) -> None:
    agency = request.claims.agency
    if request.role == stated.roles[agency]:
        return
    known = read_role(stated.roles[agency]).signed.version
    if request.version <= known:
        raise AdmissionRefused(
            f"this request of {agency} is not newer than the one that is in force; "
            "ask for the newest request.json"
        )


def _check_keys(stated: Stated, request: Request) -> None:
    agency = request.claims.agency
    offered = {request.directory_key.keyid, *(key.public for key in request.statement.signing_keys)}
    for other, data in stated.owns.items():
        known = _own(other, data)
        taken = {
            stated.directory_keys[other].keyid,
            *(key.public for key in known.signing_keys),
        }
        if other != agency and offered & taken:
            raise AdmissionRefused(f"{agency} offers a key of {other}; every agency has its own")
        returns = agency in stated.federation.revoked_agencies and other == agency
        if returns and (offered & taken or _authorities(known) & _authorities(request.statement)):
            raise AdmissionRefused(
                f"{agency} was revoked and offers keys from before; let it make all keys anew"
            )


def _check_authorities(stated: Stated, request: Request, now: datetime) -> list[str]:
    agency, own = request.claims.agency, request.statement
    offered = [(Kind.NODE, der) for der in own.node_cas]
    offered += [(Kind.OPERATOR, der) for der in own.operator_cas]
    others = [
        (other, der)
        for other, data in stated.owns.items()
        if other != agency
        for der in _authorities(_own(other, data))
    ]
    remarks = []
    for place, (kind, der) in enumerate(offered):
        beside = [(agency, ca) for at, (_, ca) in enumerate(offered) if at != place]
        checked = check_offered_authority(der, kind=kind, others=[*others, *beside], now=now)
        remarks += [f"{kind.value} CA {checked.subject}: {remark}" for remark in checked.remarks]
    return remarks


def _own(agency: str, data: bytes) -> OwnStatement:
    return statements.parse(OwnStatement, data, statements.own_path(agency))


def _authorities(own: OwnStatement) -> set[bytes]:
    return {*own.node_cas, *own.operator_cas}


def set_group(stated: Stated, name: str, agencies: Sequence[str]) -> Stated:
    """Make a group of these members, or change it to them; every change raises its version."""
    identifiers.check_code(name, "group")
    members = tuple(sorted({known_agency(stated, agency) for agency in agencies}))
    if not members:
        raise UsageError(f"group {name} needs at least one member")
    for agency in members:
        if agency in stated.federation.revoked_agencies:
            raise RefusedError(f"{agency} is revoked and joins no group; admit it again first")
    return _with_groups(stated, {name: members})


def _with_groups(stated: Stated, changed: dict[str, tuple[str, ...]]) -> Stated:
    groups = dict(stated.federation.groups)
    for name, members in changed.items():
        before = groups.get(name)
        if before is None or before.members != members:
            version = before.version + 1 if before else 1
            groups[name] = GroupStatement(version=version, members=members)
    return replace(stated, federation=_federation(stated, groups=groups))


def set_agreement(stated: Stated, agency: str, basis: str) -> Stated:
    """State the legal basis under which an agency outside the union asks and is told."""
    known_agency(stated, agency)
    if not basis.strip():
        raise UsageError("--basis is empty; name the agreement, for example 'EU-US MLA 2003'")
    agreements = {**stated.federation.agreements, agency: basis.strip()}
    return replace(stated, federation=_federation(stated, agreements=agreements))


def set_purpose(stated: Stated, code: str, text: str) -> Stated:
    """State a purpose code, or reword it."""
    identifiers.check_code(code, "purpose")
    if not text.strip():
        raise UsageError(f"purpose {code} needs its text")
    purposes = {**stated.federation.purposes, code: text.strip()}
    return replace(stated, federation=_federation(stated, purposes=purposes))


def revoke_agency(stated: Stated, agency: str) -> Stated:
    """Revoke an agency: its certificates and signatures count no more, and it leaves all groups."""
    known_agency(stated, agency)
    revoked = tuple(sorted({*stated.federation.revoked_agencies, agency}))
    left = {
        name: tuple(member for member in group.members if member != agency)
        for name, group in stated.federation.groups.items()
    }
    after = replace(stated, federation=_federation(stated, revoked_agencies=revoked))
    return _with_groups(after, left)


def revoke_serial(stated: Stated, agency: str, serial: int) -> Stated:
    """Revoke one certificate that an agency's CAs issued."""
    known_agency(stated, agency)
    serials = dict(stated.federation.revoked_serials)
    serials[agency] = serials.get(agency, frozenset()) | {serial}
    return replace(stated, federation=_federation(stated, revoked_serials=serials))


def known_agency(stated: Stated, agency: str) -> str:
    """Return ``agency`` when it is a member; raise UnknownAgency with near names."""
    if agency not in stated.agencies:
        raise UnknownAgency(
            f"agency {agency[:64]!r} is not admitted; " + suggest(agency, stated.agencies)
        )
    return agency


def _federation(stated: Stated, **changed: Collection[object]) -> FederationStatement:
    document = {**dict(stated.federation), **changed}
    return statements.check(FederationStatement, document, "the federation's statement")
