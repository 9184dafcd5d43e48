"""Where an agency's CA keys are: a file in the home, a PKCS#11 token, or not here (offline).

A CA that is offline or belongs to an existing PKI has its certificate in the home and its key
elsewhere: what it is to certify leaves as a request (certificate_requests.py), and what it
certified is checked before it is taken (leaf_import.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys
from tieline_client.certificate_parts import load_authority
from tieline_client.certificates import Kind
from tieline_client.errors import ConfigurationError

from tieline_server.trust.authority import AgencyAuthority, load_agency_authority
from tieline_server.trust.token_key import TokenKey, TokenUri


@dataclass(frozen=True, slots=True)
class OwnAuthority:
    """One CA of the agency. ``authority`` is None where its key is not within reach."""

    kind: Kind
    certificate: x509.Certificate
    authority: AgencyAuthority | None

    @property
    def der(self) -> bytes:
        """The certificate as the directory pins it."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def fingerprint(self) -> str:
        """What says of a person's certificate which CA issued it."""
        return ca_fingerprint(self.der)

    def require(self, instead: str) -> AgencyAuthority:
        """Return it with its key; raise ConfigurationError that says what to do ``instead``."""
        if self.authority is None:
            raise ConfigurationError(
                f"the key of the {self.kind.value} CA is not on this node; {instead}"
            )
        return self.authority


def ca_fingerprint(der: bytes) -> str:
    """Return the first half of the SHA-256 of a CA's certificate, as hex."""
    return hashlib.sha256(der).hexdigest()[:32]


def ca_key(
    folder: Path, kind: Kind, uri: str, passphrase: bytes | None, *, upcoming: bool = False
) -> keys.PrivateKey | None:
    """Return a CA's key: of its token when ``uri`` names one, of its file in ``folder``, or None.

    Raises ConfigurationError for a wrong URI or an unusable file; a token is not opened yet.
    """
    if uri:
        return TokenKey(TokenUri.parse(uri))
    path = folder / f"{kind.value}-ca{'.next' if upcoming else ''}.key"
    return keys.load(path, passphrase) if path.exists() else None


def load_own_authority(
    kind: Kind,
    federation: str,
    agency: str,
    *,
    keys_folder: Path,
    certs: Path,
    uri: str,
    passphrase: bytes | None,
    upcoming: bool = False,
) -> OwnAuthority:
    """Read a CA of this home, or the one that is to take its place (rollover.py).

    Raises ConfigurationError, or TrustError when it is no usable CA.
    """
    path = certs / f"{kind.value}-ca{'.next' if upcoming else ''}.pem"
    try:
        pem = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(pem)
    except (OSError, ValueError):
        raise ConfigurationError(
            f"{path} is no certificate that can be read; restore it from a backup"
        ) from None
    load_authority(certificate.public_bytes(Encoding.DER))
    key = ca_key(keys_folder, kind, uri, passphrase, upcoming=upcoming)
    if key is None:
        return OwnAuthority(kind, certificate, None)
    if isinstance(key, TokenKey):
        public = certificate.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey) or public.key_size != key.key_size:
            raise ConfigurationError(f"{path} is not ECDSA P-256, which a token's key must be")
        # Its public half is compared when it signs: the token may be in a drawer until then.
        return OwnAuthority(
            kind, certificate, AgencyAuthority(kind, federation, agency, certificate, key)
        )
    return OwnAuthority(
        kind, certificate, load_agency_authority(kind, federation, agency, pem, key)
    )
