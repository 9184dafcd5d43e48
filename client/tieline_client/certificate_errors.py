"""Why a certificate was refused: one class per reason that somebody can act on."""

from __future__ import annotations

from tieline_client.errors import TrustError


class CertificateRefused(TrustError):
    """The base of all refusals of a certificate; ``metadata["check"]`` repeats the reason."""

    reason = "CERTIFICATE_REFUSED"

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message, **{"check": self.reason} | metadata)


class CertificateMissing(CertificateRefused):
    """The other side showed no certificate."""

    reason = "CERTIFICATE_MISSING"


class CertificateMalformed(CertificateRefused):
    """Not one X.509 v3 certificate, or with critical extensions nobody here understands."""

    reason = "CERTIFICATE_MALFORMED"


class CertificateName(CertificateRefused):
    """The subject alternative names are not those of an identity of this system."""

    reason = "CERTIFICATE_NAME"


class CertificateFederation(CertificateRefused):
    """An identity of another federation."""

    reason = "CERTIFICATE_FEDERATION"


class CertificateKind(CertificateRefused):
    """A person's certificate where a node's is needed, or the other way round."""

    reason = "CERTIFICATE_KIND"


class CertificateAgency(CertificateRefused):
    """An agency that is not the one expected, or that the directory pins no CA for."""

    reason = "CERTIFICATE_AGENCY"


class CertificateIssuer(CertificateRefused):
    """Not issued by a CA that the directory pins to the agency it names."""

    reason = "CERTIFICATE_ISSUER"


class CertificateAuthority(CertificateRefused):
    """The pinned CA itself is no CA, too weak, expired or not yet valid."""

    reason = "CERTIFICATE_AUTHORITY"


class CertificateUsage(CertificateRefused):
    """Issued for something else: a CA, or without the purpose it is used for."""

    reason = "CERTIFICATE_USAGE"


class CertificateWeak(CertificateRefused):
    """A key or a signature hash below the floor."""

    reason = "CERTIFICATE_WEAK"


class CertificateNotYetValid(CertificateRefused):
    """Its validity begins in the future."""

    reason = "CERTIFICATE_NOT_YET_VALID"


class CertificateExpired(CertificateRefused):
    """Its validity is over."""

    reason = "CERTIFICATE_EXPIRED"


class CertificateRevoked(CertificateRefused):
    """Its serial number is revoked in the directory."""

    reason = "CERTIFICATE_REVOKED"
