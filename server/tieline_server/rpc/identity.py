"""Who makes a call: the leaf of the connection, checked again on every call.

The handshake alone lets through what it should not (threats.md 10), and a connection outlives a
revocation. So each call's leaf goes through the numbered checks of certificates.py against the
directory, or the operators, as they are now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

import grpc
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tieline_client import tls
from tieline_client.certificate_errors import CertificateKind, CertificateRevoked
from tieline_client.certificate_parts import parse_certificate
from tieline_client.certificates import (
    IsRevoked,
    Kind,
    LeafCache,
    LeafIdentity,
    Pinned,
    Purpose,
)
from tieline_client.directory import Directory
from tieline_client.directory_client import VERSION_KEY
from tieline_client.errors import InvalidInput
from tieline_client.identifiers import SpiffeId
from tieline_client.limits import LEAF_CACHE_ENTRIES

from tieline_server.domain.ports import Clock, Operator
from tieline_server.rpc.call import Caller

AuthContext = Mapping[str, Iterable[bytes]]
_VERSION_DIGITS = 18


class Identifier(Protocol):
    """Tells who makes a call on one listener."""

    def identify(self, context: grpc.ServicerContext) -> Caller:
        """Return the caller; raise a TrustError that names the check which failed."""
        ...

    def check_fresh(self) -> None:
        """Raise DirectoryExpired when this listener must not answer for want of a directory."""
        ...

    def ground(self) -> object:
        """What a caller's identity rests on; another object once it may be another one."""
        ...


@dataclass(slots=True)
class _View:
    """A directory and what is derived from it, once per version. ``callers`` have passed under it,
    by their leaf as gRPC gives it: of them only the time is looked at again."""

    directory: Directory
    pinned: Pinned
    callers: dict[bytes, tuple[LeafIdentity, Caller]] = field(default_factory=dict)


class PeerIdentifier:
    """On the federation port: nodes of active members.

    1. TLS 1.3.
    2. A leaf, which passes the checks for a node that calls, under the CAs that the current
       directory pins to the agency it names.
    """

    def __init__(self, directory: Callable[[], Directory], clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        first = directory()
        self._leaves = LeafCache(first.federation)
        self._view = _View(first, first.pinned_node_cas())

    def identify(self, context: grpc.ServicerContext) -> Caller:
        """Return the member whose node calls. Raises a TrustError."""
        auth = _auth_context(context)
        tls.check_tls_version(auth)  # 1
        view, now = self._current(), self._clock()
        shown = tuple(auth.get("x509_pem_cert", ()))
        known = view.callers.get(shown[0]) if len(shown) == 1 else None
        if known is not None and known[0].covers(now):
            return known[1]
        identity = self._leaves.check(  # 2
            tls.caller_leaf(auth),
            version=view.directory.version,
            kind=Kind.NODE,
            purpose=Purpose.CALLER,
            pinned=view.pinned,
            is_revoked=view.directory.is_revoked,
            now=now,
        )
        caller = Caller(identity.agency, None, frozenset(), identity.serial, identity.digest)
        if len(view.callers) >= LEAF_CACHE_ENTRIES:
            view.callers.clear()
        view.callers[shown[0]] = identity, caller
        return caller

    def check_fresh(self) -> None:
        """Raise DirectoryExpired past the directory's expiry."""
        self._directory().check_fresh(self._clock())

    def ground(self) -> object:
        """The directory."""
        return self._directory()

    def _current(self) -> _View:
        directory, view = self._directory(), self._view
        if view.directory is not directory:
            view = self._view = _View(directory, directory.pinned_node_cas())
        return view


def _never_revoked(_agency: str, _serial: int) -> bool:
    return False


class OperatorIdentifier:
    """On the operator port: people of the own agency.

    1. TLS 1.3.
    2. A leaf, which passes the checks for a person who calls, under the own operator CAs.
    3. Storage knows the person, who is not revoked, and the serial number among the person's.

    The directory's expiry does not matter here, nor that it revokes the agency: people must be able
    to mend what is broken, and to read what their node holds and logged.
    """

    def __init__(
        self,
        agency: str,
        federation: str,
        operator_cas: Callable[[], tuple[bytes, ...]],
        operators: Callable[[str], Operator | None],
        *,
        clock: Clock,
        is_revoked: IsRevoked = _never_revoked,
    ) -> None:
        """``operator_cas`` are DER; ``is_revoked`` is the directory's word on single serial
        numbers."""
        self._agency = agency
        self._operator_cas = operator_cas
        self._operators = operators
        self._clock = clock
        self._is_revoked = is_revoked
        self._leaves = LeafCache(federation)

    def identify(self, context: grpc.ServicerContext) -> Caller:
        """Return the person who calls, with the roles held now. Raises a TrustError."""
        leaf = _leaf(context)  # 1
        authorities = self._operator_cas()
        identity = self._leaves.check(  # 2
            leaf,
            version=_version_of(authorities),
            kind=Kind.OPERATOR,
            purpose=Purpose.CALLER,
            pinned={self._agency: authorities},
            is_revoked=self._is_revoked,
            now=self._clock(),
            agency=self._agency,
        )
        name = identity.spiffe.operator
        if name is None:
            raise CertificateKind(f"{identity.spiffe} does not name a person")
        operator = self._operators(name)  # 3
        if operator is None or operator.revoked is not None:
            raise CertificateRevoked(
                f"{name} has no access to this node (any more); ask an admin of {self._agency}"
            )
        if identity.serial not in operator.serials:
            raise CertificateRevoked(
                f"certificate {identity.serial:x} of {name} was replaced; use the newer profile"
            )
        return Caller(
            identity.agency, name, frozenset(operator.roles), identity.serial, identity.digest
        )

    def check_fresh(self) -> None:
        """People work past the directory's expiry too."""

    def ground(self) -> object:
        """Nothing that shows a change by itself: people are looked up every second."""
        return None


def claimed_agency(context: grpc.ServicerContext) -> str:
    """Return the agency that a caller's certificate names, unproven, or ""."""
    for value in _auth_context(context).get("peer_spiffe_id", ()):
        try:
            return SpiffeId.parse(value.decode()).agency
        except (InvalidInput, UnicodeDecodeError):
            continue
    return ""


def _is_number(value: str | bytes) -> bool:
    return value.isascii() and value.isdigit()


def stated_version(context: grpc.ServicerContext) -> int:
    """Return the directory version that the caller says it works with; 0 where it says none."""
    for key, value in context.invocation_metadata() or ():
        if key == VERSION_KEY and len(value) <= _VERSION_DIGITS and _is_number(value):
            return int(value)
    return 0


def caller_key(context: grpc.ServicerContext) -> bytes:
    """Return the public key (SubjectPublicKeyInfo) of the leaf that the caller proved to hold."""
    leaf = parse_certificate(_leaf(context))
    return leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _leaf(context: grpc.ServicerContext) -> bytes:
    auth = _auth_context(context)
    tls.check_tls_version(auth)
    return tls.caller_leaf(auth)


def _auth_context(context: grpc.ServicerContext) -> AuthContext:
    # The type stub says bytes; gRPC gives a list of them for each key.
    return cast("AuthContext", context.auth_context())


def _version_of(authorities: tuple[bytes, ...]) -> int:
    """A number that changes with the set of CAs, as a directory's version does."""
    return int.from_bytes(hashlib.sha256(b"".join(authorities)).digest()[:8])
