"""A profile brought up to date by the node itself: its CAs, where it listens, the certificate.

A profile knows its node by the node's CA. While that CA is being changed, the node says both over
the connection that the old one still vouches for; once the change is finished, the new one vouches
for the word that it stands alone. So a profile that is refreshed between begin and finish goes on
working. While the *operator* CA is being changed, the node certifies the same key anew under the
next one; otherwise the certificate stays as it is. The key always does, encrypted or not.

1. The node is asked over a connection that the profile as it stands accepts.
2. What it says makes a profile: CAs that may sign, one of them known before, the agency's name, a
   certificate of the same person for the same key.
3. A second connection, with the new profile, works; where only the address does not (the person
   comes by another way than the node listens on), the old address is kept.
4. The file is replaced at once: a crash leaves the old one or the new one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from tieline.v1.operator_access_pb2 import GetAccessResponse

from tieline_client.certificate_parts import extension, load_authority, parse_certificate
from tieline_client.errors import (
    ConfigurationError,
    InvalidInput,
    TielineError,
    TrustError,
    UnknownMethod,
)
from tieline_client.operator_client import OperatorClient
from tieline_client.profile import Profile
from tieline_client.tls import to_der, to_pem


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What became of a profile."""

    profile: Profile
    changed: tuple[str, ...]
    """The fields that are others now."""
    kept_address: str = ""
    """Where the node says it listens, if the old address was kept."""


def refresh(path: Path, passphrase: bytes | None) -> Refreshed:
    """Bring a profile up to date, the steps above.

    Raises what loading it and asking the node raise, TrustError for an answer that makes no
    profile, ConfigurationError when the file cannot be replaced; the file is as it was then.
    """
    held = Profile.load(path)
    with OperatorClient(held, passphrase=passphrase) as client:  # 1
        made = renewed(held, client.get_access(), _certificate(client))  # 2
    kept = ""
    if made != held:
        made, kept = _tried(made, held, passphrase)  # 3
    changed = tuple(
        name
        for name in ("node_ca", "address", "certificate")
        if getattr(made, name) != getattr(held, name)
    )
    if changed:
        made.replace(path)  # 4
    return Refreshed(made, changed, kept)


def _certificate(client: OperatorClient) -> bytes:
    try:
        return client.renew_certificate()
    except UnknownMethod:  # a node of before v1.3
        return b""


def renewed(held: Profile, access: GetAccessResponse, certificate: bytes = b"") -> Profile:
    """Return the profile that the node's answer makes; raise TrustError when it makes none."""
    refused = "the node's answer makes no profile, yours stays as it is: "
    if certificate and not _same_person(held.certificate, certificate):
        raise TrustError(f"{refused}its certificate is not yours; ask an admin")
    try:
        for der in access.node_cas:
            load_authority(der)
        if not set(access.node_cas) & set(held.node_cas()):
            raise TrustError(f"{refused}it names none of the CAs that you know it by; ask an admin")
        return replace(
            held,
            node_ca=to_pem(access.node_cas).decode(),
            address=access.address,
            target_name=access.target_name,
            certificate=to_pem([certificate]).decode() if certificate else held.certificate,
        )
    except InvalidInput as error:
        raise TrustError(f"{refused}{error.message}") from None


def _same_person(held: str, certificate: bytes) -> bool:
    """Whether a certificate (DER) says the same names of the same key as the one held (PEM)."""
    try:
        old, new = parse_certificate(to_der(held.encode())), parse_certificate(certificate)
    except TrustError:
        return False
    names = [extension(one, x509.SubjectAlternativeName) for one in (old, new)]
    return names[0] == names[1] is not None and old.public_key() == new.public_key()


def _tried(made: Profile, held: Profile, passphrase: bytes | None) -> tuple[Profile, str]:
    try:
        _try(made, passphrase)
    except TielineError:
        if made.address == held.address:
            raise ConfigurationError(
                "the node cannot be reached with what it says itself; your profile stays as it "
                "is, tell an admin"
            ) from None
        kept = replace(made, address=held.address)
        _try(kept, passphrase)
        return kept, made.address
    return made, ""


def _try(profile: Profile, passphrase: bytes | None) -> None:
    with OperatorClient(profile, passphrase=passphrase) as client:
        client.get_access()
