"""What a CA that is not on the node is asked to certify: PKCS#10 requests (RFC 2986).

The request carries the names and usages that the certificate must have, so that a CA which copies
extensions makes what every peer accepts (certificates.py); for one that does not, operations.md
says what to write. Whatever comes back is checked all the same.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.identifiers import SpiffeId, dns_name

from tieline_server.trust.authority import leaf_key_usage


def node_request(key: keys.PrivateKey, federation: str, agency: str) -> bytes:
    """Return a PEM request for the node's leaf."""
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(str(SpiffeId(federation, agency))),
        x509.DNSName(dns_name(agency, federation)),
    ]
    return _request(key, Kind.NODE, names, federation, agency, f"{agency} node")


def operator_request(key: keys.PrivateKey, federation: str, agency: str, name: str) -> bytes:
    """Return a PEM request for a person's certificate."""
    spiffe = SpiffeId(federation, agency, name)
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(spiffe))]
    return _request(key, Kind.OPERATOR, names, federation, agency, name)


def _request(
    key: keys.PrivateKey,
    kind: Kind,
    names: list[x509.GeneralName],
    federation: str,
    agency: str,
    common_name: str,
) -> bytes:
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if kind is Kind.NODE:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, federation),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, agency),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(leaf_key_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
