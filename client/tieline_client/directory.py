"""The federation's directory as data: who is a member, under which keys, for which countries.

A ``Directory`` is what remains after its signatures were verified (the node's
``trust/directory_store.py`` does that); nothing here does I/O, and the time is an argument. Models
are frozen: a new version is a new object.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)

from tieline_client import identifiers, limits
from tieline_client.errors import DirectoryExpired, InvalidInput, NotFound, UnknownAgency

_ENDPOINT = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\]):(\d{1,5})")
_SERIAL_BITS = 160
"""A certificate's serial has at most 20 octets (RFC 5280, section 4.1.2.2)."""


def _word(check: Callable[[str], str]) -> AfterValidator:
    """Make a check of identifiers.py one that pydantic reports with the field's place."""

    def validate(value: str) -> str:
        try:
            return check(value)
        except InvalidInput as error:
            raise ValueError(error.message) from None

    return AfterValidator(validate)


def check_endpoint(value: str) -> str:
    """Return ``value`` when it is ``host:port`` or ``[v6]:port``; raise InvalidInput otherwise."""
    match = _ENDPOINT.fullmatch(value)
    if not match or not 1 <= int(match[1]) <= 65_535:
        raise InvalidInput(f"endpoint {value[:80]!r} is not HOST:PORT; for example 10.0.0.5:7443")
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("holds characters that do not print")
    return value


def _from_base64(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise ValueError("is not base64") from None


def _from_hex(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_serial(value)
    except InvalidInput as error:
        raise ValueError(error.message) from None


def parse_serial(text: str) -> int:
    """Parse a certificate's serial in hex, with or without colons; raise InvalidInput otherwise."""
    digits = text.replace(":", "").lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{1,40}", digits) or int(digits, 16) == 0:
        raise InvalidInput(
            f"serial {text[:80]!r} is not 1 to 40 hex digits; see `openssl x509 -serial`"
        )
    return int(digits, 16)


def _sorted_serials(serials: Iterable[int]) -> list[str]:
    return [f"{serial:x}" for serial in sorted(serials)]


AgencyId = Annotated[str, _word(identifiers.check_agency)]
FederationName = Annotated[str, _word(identifiers.check_federation)]
Country = Annotated[str, _word(identifiers.check_country)]
Code = Annotated[str, _word(identifiers.check_code)]
Endpoint = Annotated[str, _word(check_endpoint)]
Text = Annotated[str, StringConstraints(max_length=limits.NAME_CHARS), AfterValidator(_printable)]
"""A name or a short statement: bounded, one line, printable."""
Der = Annotated[
    bytes,
    BeforeValidator(_from_base64),
    Field(min_length=1, max_length=limits.CERTIFICATE_BYTES),
    PlainSerializer(lambda der: base64.b64encode(der).decode(), when_used="json"),
]
"""DER bytes; base64 in JSON."""
Serial = Annotated[int, BeforeValidator(_from_hex), Field(gt=0, lt=2**_SERIAL_BITS)]
Serials = Annotated[
    frozenset[Serial],
    Field(max_length=limits.REVOKED_SERIALS_PER_MEMBER),
    PlainSerializer(_sorted_serials, when_used="json"),
]
"""Serial numbers of certificates; sorted lower-case hex in JSON."""
Cas = Annotated[tuple[Der, ...], Field(max_length=limits.CAS_PER_MEMBER)]


class Frozen(BaseModel):
    """A model whose instances do not change and that knows all its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Role(StrEnum):
    """What a member is for (design.md, words)."""

    NATIONAL = "national"
    HUB = "hub"
    REPOSITORY = "repository"


class SigningKey(Frozen):
    """A key that signs the agency's messages, apart from TLS.

    ``public`` is base64 of a DER SubjectPublicKeyInfo; ``not_after`` is None while it is in use.
    """

    keyid: Code
    public: Annotated[str, StringConstraints(min_length=1, max_length=2_048)]
    not_before: AwareDatetime
    not_after: AwareDatetime | None = None

    @model_validator(mode="after")
    def _check(self) -> SigningKey:
        _from_base64(self.public)
        if self.not_after is not None and self.not_after <= self.not_before:
            raise ValueError("not_after is not later than not_before")
        return self

    @property
    def der(self) -> bytes:
        """The DER SubjectPublicKeyInfo."""
        return base64.b64decode(self.public)

    def covers(self, moment: datetime) -> bool:
        """Whether the key was in use at ``moment``; tolerances are the caller's matter."""
        return self.not_before <= moment and (self.not_after is None or moment < self.not_after)


class Contact(Frozen):
    """The duty contact: whom to call about a hit."""

    name: Text = ""
    email: Text = ""
    phone: Text = ""


class Member(Frozen):
    """One agency. Role and countries are the authority's statement; the keys are its own."""

    agency: AgencyId
    name: Text
    role: Role
    countries: Annotated[tuple[Country, ...], Field(max_length=limits.COUNTRIES_PER_MEMBER)] = ()
    agreement: Text | None = None
    """The legal basis under which an agency outside the union asks and is told."""
    endpoints: Annotated[tuple[Endpoint, ...], Field(max_length=limits.ENDPOINTS_PER_MEMBER)] = ()
    outbound_only: bool = False
    node_cas: Cas = ()
    operator_cas: Cas = ()
    signing_keys: Annotated[
        tuple[SigningKey, ...], Field(max_length=limits.SIGNING_KEYS_PER_MEMBER)
    ] = ()
    directory_key: str = ""
    """Id of the key that signs this agency's own part of the directory."""
    revoked_serials: Serials = frozenset()
    contact: Contact = Contact()
    revoked: bool = False

    def signing_key(self, keyid: str) -> SigningKey | None:
        """Return the signing key of that id, or None."""
        return next((key for key in self.signing_keys if key.keyid == keyid), None)


class Group(Frozen):
    """A named group for broadcasts and policy; every change raises ``version``."""

    name: Code
    version: Annotated[int, Field(ge=1)]
    members: Annotated[tuple[AgencyId, ...], Field(min_length=0, max_length=limits.MEMBERS)]


class Directory(Frozen):
    """One verified version of the directory. ``version`` is that of the TUF snapshot."""

    federation: FederationName
    version: Annotated[int, Field(ge=1)]
    expires: AwareDatetime
    members: Annotated[tuple[Member, ...], Field(max_length=limits.MEMBERS)]
    groups: Annotated[tuple[Group, ...], Field(max_length=limits.GROUPS)] = ()
    purposes: Annotated[Mapping[Code, Text], Field(max_length=limits.PURPOSES)] = {}
    revoked_serials: Mapping[AgencyId, Serials] = {}
    """Serials that the authority revoked, by the agency whose CA issued them."""

    @model_validator(mode="after")
    def _index(self) -> Directory:
        if len(self.by_agency) != len(self.members):
            raise ValueError("an agency is listed twice")
        if len({group.name for group in self.groups}) != len(self.groups):
            raise ValueError("a group is listed twice")
        for group in self.groups:
            strangers = set(group.members) - self.by_agency.keys()
            if strangers:
                raise ValueError(f"group {group.name} names {min(strangers)}, who is no member")
        return self

    @cached_property
    def by_agency(self) -> Mapping[str, Member]:
        """All members by id, revoked ones too."""
        return {member.agency: member for member in self.members}

    def member(self, agency: str) -> Member:
        """Return a member, revoked ones too; raise UnknownAgency, which lists near names."""
        found = self.by_agency.get(agency)
        if found is None:
            raise UnknownAgency(
                f"agency {agency[:64]!r} is not in the directory of {self.federation}; "
                + suggest(agency, self.by_agency)
            )
        return found

    def active_members(self) -> tuple[Member, ...]:
        """Return all members that are not revoked, by agency id."""
        active = (member for member in self.members if not member.revoked)
        return tuple(sorted(active, key=lambda member: member.agency))

    @cached_property
    def signers(self) -> Mapping[str, tuple[str, bytes]]:
        """Agency and DER public key by key id, of all signing keys of active members."""
        return {
            key.keyid: (member.agency, key.der)
            for member in self.active_members()
            for key in member.signing_keys
        }

    def serving(self, country: str) -> tuple[Member, ...]:
        """Return the national agencies that serve ``country``, by agency id."""
        return tuple(
            member
            for member in self.active_members()
            if member.role is Role.NATIONAL and country in member.countries
        )

    def hubs(self) -> tuple[Member, ...]:
        """Return the active hubs, by agency id."""
        return tuple(member for member in self.active_members() if member.role is Role.HUB)

    def repositories(self) -> tuple[Member, ...]:
        """Return the active repositories, by agency id."""
        return tuple(member for member in self.active_members() if member.role is Role.REPOSITORY)

    def group(self, name: str) -> Group:
        """Return a group; raise NotFound, which lists the known ones."""
        known = {group.name: group for group in self.groups}
        if name not in known:
            raise NotFound(f"group {name[:80]!r} is not in the directory; {suggest(name, known)}")
        return known[name]

    def purpose(self, code: str) -> str:
        """Return the text of a purpose code; raise InvalidInput, which lists the known ones."""
        if code not in self.purposes:
            known = ", ".join(sorted(self.purposes)) or "none"
            raise InvalidInput(f"purpose {code[:80]!r} is not in the directory; known: {known}")
        return self.purposes[code]

    def check_fresh(self, now: datetime) -> None:
        """Raise DirectoryExpired at and past the expiry."""
        if now >= self.expires:
            expired = f"{self.expires.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            raise DirectoryExpired(
                f"the directory of {self.federation}, version {self.version}, expired {expired}; "
                "let the authority publish a new one and check that this node reaches it"
            )

    def pinned_node_cas(self) -> Mapping[str, tuple[bytes, ...]]:
        """Return the node CAs (DER) of each active member that has any."""
        return self._pinned

    @cached_property
    def _pinned(self) -> Mapping[str, tuple[bytes, ...]]:
        return {m.agency: m.node_cas for m in self.active_members() if m.node_cas}

    def is_revoked(self, agency: str, serial: int) -> bool:
        """Whether a certificate of that agency's CAs must be refused.

        True for an agency that is revoked or not listed at all.
        """
        member = self.by_agency.get(agency)
        return member is None or member.revoked or self.is_serial_revoked(agency, serial)

    def is_serial_revoked(self, agency: str, serial: int) -> bool:
        """Whether this one certificate was revoked, by its agency or by the authority.

        All that counts against people at their own node: they keep it when their agency is revoked.
        """
        member = self.by_agency.get(agency)
        own = member.revoked_serials if member is not None else frozenset()
        return serial in own or serial in self.revoked_serials.get(agency, frozenset())


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: near names, or the first known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name[:64], names, n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return f"known: {shown or 'none'}"
