"""DSSE: the specification's vector, securesystemslib as oracle, and every way to be refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib import dsse
from securesystemslib.signer import CryptoSigner, SSlibKey
from tieline_client import envelopes, keys, limits
from tieline_client.envelopes import Envelope, Signature
from tieline_client.errors import InvalidInput, SignatureRefused

KEY, OTHER = keys.generate(), keys.generate()
TRUSTED = {keys.keyid(KEY): keys.public_der(KEY)}
KIND = "application/vnd.tieline.v1.referral+protobuf"

SIGNED = envelopes.sign(KIND, b"a series and its case", KEY)
"""One for all examples: ECDSA signatures differ in length from run to run."""

kinds = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=100)


def test_the_vector_of_the_specification() -> None:
    assert (
        envelopes.pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@given(kind=st.text(max_size=60), payload=st.binary(max_size=300))
def test_the_encoding_is_that_of_securesystemslib(kind: str, payload: bytes) -> None:
    # Its own encoder measures the type in characters; the specification says bytes.
    if kind.isascii():
        assert envelopes.pae(kind, payload) == dsse.Envelope(payload, kind, {}).pae()
    else:
        assert envelopes.pae(kind, payload).startswith(b"DSSEv1 %d " % len(kind.encode()))


def _sslib_key() -> SSlibKey:
    return SSlibKey.from_crypto(KEY.public_key(), keyid=keys.keyid(KEY))


@settings(max_examples=30, deadline=None)
@given(kind=kinds, payload=st.binary(max_size=300))
def test_each_library_accepts_what_the_other_signed(kind: str, payload: bytes) -> None:
    ours = envelopes.sign(kind, payload, KEY)
    (signature,) = ours.signatures
    theirs = dsse.Envelope.from_dict(
        {
            "payload": _base64(payload),
            "payloadType": kind,
            "signatures": [{"keyid": signature.keyid, "sig": _base64(signature.sig)}],
        }
    )
    assert set(theirs.verify([_sslib_key()], 1)) == {signature.keyid}

    foreign = dsse.Envelope(payload, kind, {})
    made = foreign.sign(CryptoSigner(KEY, _sslib_key()))
    envelope = Envelope(kind, payload, (Signature(made.keyid, bytes.fromhex(made.signature)),))
    assert envelopes.verify(envelope, TRUSTED) == keys.keyid(KEY)


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


def test_an_unknown_key_beside_a_trusted_one_is_ignored() -> None:
    mine = envelopes.sign(KIND, b"payload", KEY)
    both = replace(
        mine, signatures=envelopes.sign(KIND, b"payload", OTHER).signatures + mine.signatures
    )
    assert envelopes.verify(both, TRUSTED) == keys.keyid(KEY)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_altered_bit_is_refused(data: st.DataObject) -> None:
    envelope = SIGNED
    (signature,) = envelope.signatures
    part = data.draw(st.sampled_from(["payload", "type", "sig"]))
    source = {"payload": envelope.payload, "type": KIND.encode(), "sig": signature.sig}[part]
    changed = bytearray(source)
    bits = 7 if part == "type" else 8
    changed[data.draw(st.integers(0, len(source) - 1))] ^= 1 << data.draw(st.integers(0, bits - 1))
    altered = {
        "payload": lambda: replace(envelope, payload=bytes(changed)),
        "type": lambda: replace(envelope, payload_type=changed.decode()),
        "sig": lambda: replace(envelope, signatures=(replace(signature, sig=bytes(changed)),)),
    }[part]()
    with pytest.raises(SignatureRefused):
        envelopes.verify(altered, TRUSTED)


def test_type_and_payload_cannot_trade_bytes() -> None:
    envelope = envelopes.sign("ab", b"c", KEY)
    with pytest.raises(SignatureRefused):
        envelopes.verify(replace(envelope, payload_type="a", payload=b"bc"), TRUSTED)


def test_a_signature_by_a_key_that_is_not_listed_is_refused() -> None:
    with pytest.raises(SignatureRefused, match="no signature is by a key"):
        envelopes.verify(envelopes.sign(KIND, b"payload", OTHER), TRUSTED)
    with pytest.raises(SignatureRefused, match="no signature is by a key"):
        envelopes.verify(envelopes.sign(KIND, b"payload", KEY), {})


def test_anothers_signature_under_a_trusted_id_is_refused() -> None:
    (forged,) = envelopes.sign(KIND, b"payload", OTHER).signatures
    envelope = Envelope(KIND, b"payload", (replace(forged, keyid=keys.keyid(KEY)),))
    with pytest.raises(SignatureRefused, match="does not match"):
        envelopes.verify(envelope, TRUSTED)


def test_a_broken_signature_refuses_even_beside_a_good_one() -> None:
    good = envelopes.sign(KIND, b"payload", KEY)
    (bad,) = envelopes.sign(KIND, b"other", OTHER).signatures
    both = replace(good, signatures=(*good.signatures, bad))
    trusted = TRUSTED | {keys.keyid(OTHER): keys.public_der(OTHER)}
    with pytest.raises(SignatureRefused):
        envelopes.verify(both, trusted)
    assert envelopes.verify(both, TRUSTED) == keys.keyid(KEY)


def test_a_key_listed_under_a_wrong_id_is_refused() -> None:
    envelope = envelopes.sign(KIND, b"payload", KEY)
    with pytest.raises(SignatureRefused, match="fetch the directory"):
        envelopes.verify(envelope, {keys.keyid(KEY): keys.public_der(OTHER)})


def test_a_listed_key_of_another_type_is_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = (
        Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    envelope = Envelope(KIND, b"payload", (Signature(keys.keyid(der), b"\x00" * 64),))
    with pytest.raises(SignatureRefused):
        envelopes.verify(envelope, {keys.keyid(der): der})


@pytest.mark.parametrize("count", [0, 2, limits.SIGNATURES_PER_ENVELOPE + 1])
def test_no_signature_the_same_twice_or_too_many_are_refused(count: int) -> None:
    envelope = envelopes.sign(KIND, b"payload", KEY)
    with pytest.raises(SignatureRefused, match="1 to 4 signatures"):
        envelopes.verify(replace(envelope, signatures=envelope.signatures * count), TRUSTED)


def test_four_signatures_are_not_too_many() -> None:
    others = tuple(
        envelopes.sign(KIND, b"payload", keys.generate()).signatures[0]
        for _ in range(limits.SIGNATURES_PER_ENVELOPE - 1)
    )
    envelope = envelopes.sign(KIND, b"payload", KEY)
    full = replace(envelope, signatures=others + envelope.signatures)
    assert envelopes.verify(full, TRUSTED) == keys.keyid(KEY)


def test_the_caps_hold_at_their_edges() -> None:
    largest = bytes(limits.ENVELOPE_BYTES)
    assert envelopes.verify(envelopes.sign(KIND, largest, KEY), TRUSTED)
    with pytest.raises(InvalidInput, match="attachment chunks"):
        envelopes.sign(KIND, largest + b"\0", KEY)
    longest = "t" * limits.PAYLOAD_TYPE_CHARS
    assert envelopes.verify(envelopes.sign(longest, b"", KEY), TRUSTED)
    for bad in ("", longest + "t", "type\udc80", "typé"):
        with pytest.raises(InvalidInput):
            envelopes.sign(bad, b"", KEY)
        with pytest.raises(SignatureRefused):
            envelopes.verify(Envelope(bad, b"", (Signature("0" * 64, b"\0"),)), TRUSTED)
    (signature,) = envelopes.sign(KIND, b"", KEY).signatures
    padded = replace(signature, sig=signature.sig.ljust(limits.SIGNATURE_BYTES + 1, b"\0"))
    with pytest.raises(SignatureRefused, match="longer than"):
        envelopes.verify(Envelope(KIND, b"", (padded,)), TRUSTED)
