"""DSSE v1 envelopes: signatures over the exact bytes that travel.

Source: https://github.com/secure-systems-lab/dsse, protocol.md and envelope.md, v1.0.2. What is
signed is PAE(type, payload), so neither can be reinterpreted; the payload is never parsed before
its signature holds and never serialised again. Keys are ECDSA P-256 with SHA-256, signatures DER.

Who may sign what, for whom and until when stands inside the payload and is judged by the caller:
``verify`` says which key signed, nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tieline_client import keys, limits
from tieline_client.errors import InvalidInput, SignatureRefused

_ALGORITHM = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: the 64 hex digits of the key's id and the DER signature, at most 72 bytes."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """What travels: the type that tells how to read the payload, the payload, its signatures."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: ``DSSEv1 SP LEN(type) SP type SP LEN(body) SP body``.

    Lengths are in bytes of UTF-8, decimal ASCII without leading zeros.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(
    payload_type: str, payload: bytes, key: keys.PrivateKey, keyid: str | None = None
) -> Envelope:
    """Return an envelope with one signature; raise InvalidInput when it would be over the caps.

    ``keyid`` is the key's id, where the caller has it at hand.
    """
    envelope = Envelope(payload_type, payload, ())
    _check_size(envelope)
    signature = key.sign(pae(payload_type, payload), _ALGORITHM)
    return Envelope(payload_type, payload, (Signature(keyid or keys.keyid(key), signature),))


def verify(envelope: Envelope, trusted: Mapping[str, bytes]) -> str:
    """Return the id of the trusted key whose signature holds over the envelope's exact bytes.

    ``trusted`` maps key ids to DER SubjectPublicKeyInfo: the keys of the one issuer in question,
    at the time in question. Signatures of other keys are ignored, as DSSE asks, but one that
    names a trusted key and does not hold refuses the whole.

    1. The type, payload and signatures are inside the caps, and no key id stands twice.
    2. At least one signature names a trusted key whose id is the digest of that key.
    3. Every such signature holds.

    Raises SignatureRefused; for a payload or type over the caps too.
    """
    # 1
    try:
        _check_size(envelope)
    except InvalidInput as error:
        raise SignatureRefused(error.message) from None
    named = [signature.keyid for signature in envelope.signatures]
    if not 1 <= len(named) <= limits.SIGNATURES_PER_ENVELOPE or len(set(named)) != len(named):
        raise SignatureRefused(
            f"an envelope needs 1 to {limits.SIGNATURES_PER_ENVELOPE} signatures, each by another"
            " key; its sender must sign it again"
        )
    if any(len(signature.sig) > limits.SIGNATURE_BYTES for signature in envelope.signatures):
        raise SignatureRefused("a signature is longer than ECDSA P-256 can be; sign with P-256")
    # 2
    known = [signature for signature in envelope.signatures if signature.keyid in trusted]
    if not known:
        raise SignatureRefused(
            "no signature is by a key that the directory lists for the issuer; fetch the directory"
            " or ask the issuer which key it uses",
            keyid=named[0][: limits.CODE_CHARS],
        )
    # 3
    message = pae(envelope.payload_type, envelope.payload)
    for signature in known:
        der = trusted[signature.keyid]
        if _keyid(der) != signature.keyid:
            raise SignatureRefused(
                "a listed key does not have the id it is listed under; fetch the directory"
            )
        try:
            keys.load_public(der).verify(signature.sig, message, _ALGORITHM)
        except (InvalidSignature, InvalidInput):
            raise SignatureRefused(
                "a signature does not match the bytes: altered on the way, or by another key",
                keyid=signature.keyid,
            ) from None
    return known[0].keyid


@lru_cache(maxsize=1024)
def _keyid(der: bytes) -> str:
    return keys.keyid(der)


def _check_size(envelope: Envelope) -> None:
    kind = envelope.payload_type
    if not (1 <= len(kind) <= limits.PAYLOAD_TYPE_CHARS and kind.isascii()):
        raise InvalidInput(f"an envelope's type is 1 to {limits.PAYLOAD_TYPE_CHARS} of ASCII")
    if len(envelope.payload) > limits.ENVELOPE_BYTES:
        raise InvalidInput(
            f"a signed payload of {len(envelope.payload)} bytes is over {limits.ENVELOPE_BYTES};"
            " move what is large into attachment chunks"
        )
