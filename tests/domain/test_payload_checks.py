"""The numbered checks of a signed payload, each broken alone; the time is an argument."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tieline.v1 import envelope_pb2, payload_pb2
from tieline_client import envelopes, keys, limits
from tieline_client.directory import Directory, Member, Role, SigningKey
from tieline_client.errors import InvalidInput, MalformedMessage, SignatureRefused, TielineError
from tieline_client.identifiers import new_id
from tieline_client.payloads import (
    Audience,
    Sealer,
    kind_of,
    moment,
    open_payload,
    payload_type,
    timestamp,
    to_proto,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLACK = limits.CLOCK_TOLERANCE
KEYS = {agency: keys.generate() for agency in ("pt-pj", "us-ice", "old-key")}
TO_PT = Audience(agency="pt-pj")


def _key(name: str, *, start: datetime, end: datetime | None = None) -> SigningKey:
    public = keys.public_der(KEYS[name])
    return SigningKey(
        keyid=keys.keyid(public),
        public=base64.b64encode(public).decode(),
        not_before=start,
        not_after=end,
    )


def _member(agency: str, *signing: SigningKey, revoked: bool = False) -> Member:
    return Member(
        agency=agency, name=agency, role=Role.NATIONAL, signing_keys=signing, revoked=revoked
    )


def _directory(*, ice_revoked: bool = False) -> Directory:
    year = timedelta(days=365)
    return Directory(
        federation="demo",
        version=3,
        expires=NOW + timedelta(days=14),
        members=(
            _member("pt-pj", _key("pt-pj", start=NOW - year)),
            _member(
                "us-ice",
                _key("old-key", start=NOW - 2 * year, end=NOW - timedelta(days=10)),
                _key("us-ice", start=NOW - timedelta(days=10)),
                revoked=ice_revoked,
            ),
        ),
    )


DIRECTORY = _directory()


def _step() -> payload_pb2.Payload:
    return payload_pb2.Payload(referral_step=payload_pb2.ReferralStep(id=new_id()))


def _sealed(
    payload: payload_pb2.Payload | None = None,
    *,
    at: datetime = NOW,
    life: timedelta = limits.ENVELOPE_LIFE,
    by: str = "us-ice",
    audience: Audience = TO_PT,
) -> envelope_pb2.Envelope:
    sealer = Sealer("demo", "us-ice", KEYS[by])
    return sealer.seal(payload or _step(), audience, at, life)


def _resigned(
    change: Callable[[payload_pb2.Payload], object], *, kind: str = "referral_step"
) -> envelope_pb2.Envelope:
    """An envelope whose payload was changed before it was signed by its own agency's key."""
    payload = payload_pb2.Payload.FromString(_sealed().payload)
    change(payload)
    signed = envelopes.sign(payload_type(kind), payload.SerializeToString(), KEYS["us-ice"])
    return to_proto(signed)


def _open(
    envelope: envelope_pb2.Envelope,
    *,
    directory: Directory = DIRECTORY,
    issuer: str | None = "us-ice",
    audience: Audience = TO_PT,
    now: datetime = NOW,
) -> payload_pb2.Payload:
    return open_payload(envelope, directory=directory, issuer=issuer, audience=audience, now=now)


def test_what_was_sealed_opens() -> None:
    opened = _open(_sealed())
    assert (opened.issuer, opened.audience, opened.version) == ("us-ice", "pt-pj", "v1")
    assert opened.expire_time.ToDatetime(tzinfo=UTC) == NOW + limits.ENVELOPE_LIFE


def test_an_id_that_is_set_stays() -> None:
    payload = _step()
    payload.id = identifier = new_id()
    assert _open(_sealed(payload)).id == identifier


SEALED = _sealed().SerializeToString()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_altered_bit_passes(data: st.DataObject) -> None:  # 1
    envelope = envelope_pb2.Envelope.FromString(SEALED)
    field = data.draw(st.sampled_from(["payload", "sig"]))
    signature = envelope.signatures[0]
    holder = bytearray(envelope.payload if field == "payload" else signature.sig)
    place = data.draw(st.integers(0, len(holder) - 1))
    holder[place] ^= 1 << data.draw(st.integers(0, 7))
    if field == "payload":
        envelope.payload = bytes(holder)
    else:
        signature.sig = bytes(holder)
    with pytest.raises(SignatureRefused):
        _open(envelope)


def test_the_type_must_be_one_of_ours() -> None:  # 0
    for kind in ("application/json", "", "application/vnd.tieline.v2.referral_step+protobuf"):
        envelope = _sealed()
        envelope.payload_type = kind
        with pytest.raises(SignatureRefused, match="type"):
            _open(envelope)
        assert kind_of(envelope) == ""


def test_a_signature_for_one_type_is_none_for_another() -> None:  # 0, 1
    envelope = _sealed()
    envelope.payload_type = payload_type("referral")
    with pytest.raises(SignatureRefused, match="does not match"):
        _open(envelope)


def test_a_strangers_key_is_no_signature() -> None:  # 1
    envelope = to_proto(
        envelopes.sign(payload_type("referral_step"), _sealed().payload, keys.generate())
    )
    with pytest.raises(SignatureRefused, match="no signature is by a key"):
        _open(envelope)


def test_a_revoked_agencys_key_is_no_signature() -> None:  # 1
    with pytest.raises(SignatureRefused):
        _open(_sealed(), directory=_directory(ice_revoked=True))


def test_another_agencys_envelope_is_not_the_callers() -> None:  # 2
    with pytest.raises(SignatureRefused, match="signed by us-ice, but it came from pt-pj"):
        _open(_sealed(), issuer="pt-pj")


def test_the_type_and_the_body_must_agree() -> None:  # 3
    with pytest.raises(SignatureRefused, match="something else"):
        _open(_resigned(lambda payload: None, kind="referral"))


def test_a_payload_that_does_not_parse() -> None:  # 3
    signed = envelopes.sign(payload_type("referral_step"), b"\x0a\xff\xff", KEYS["us-ice"])
    with pytest.raises(MalformedMessage):
        _open(to_proto(signed))


def test_a_payload_over_a_cap() -> None:  # 3
    def talk(payload: payload_pb2.Payload) -> None:
        payload.referral_step.text = "x" * (limits.FREE_TEXT_CHARS + 1)

    with pytest.raises(MalformedMessage, match="text"):
        _open(_resigned(talk))


@pytest.mark.parametrize(
    ("field", "value"), [("federation", "other"), ("version", "v2"), ("issuer", "pt-pj")]
)
def test_federation_version_and_issuer_must_hold(field: str, value: str) -> None:  # 4
    with pytest.raises(SignatureRefused):
        _open(_resigned(lambda payload: setattr(payload, field, value)))


def test_an_id_must_be_a_uuid7() -> None:  # 4
    with pytest.raises(InvalidInput, match="UUIDv7"):
        _open(_resigned(lambda payload: setattr(payload, "id", "1")))


@pytest.mark.parametrize(
    "audience",
    [
        Audience(agency="us-fbi"),
        Audience(),
        Audience(agency="pt-pj", group="desks", group_version=1),
        Audience(group="desks", group_version=1),
    ],
)
def test_it_must_be_for_this_audience(audience: Audience) -> None:  # 5
    with pytest.raises(SignatureRefused, match="somebody else"):
        _open(_sealed(audience=audience))


def test_a_groups_version_counts() -> None:  # 5
    envelope = _sealed(audience=Audience(group="desks", group_version=2))
    assert _open(envelope, audience=Audience(group="desks", group_version=2))
    with pytest.raises(SignatureRefused, match="somebody else"):
        _open(envelope, audience=Audience(group="desks", group_version=3))


def test_times_are_judged_with_the_tolerance_and_no_more() -> None:  # 6
    second = timedelta(seconds=1)
    assert _open(_sealed(at=NOW + SLACK))
    with pytest.raises(SignatureRefused, match="future"):
        _open(_sealed(at=NOW + SLACK + second))
    life = timedelta(minutes=15)
    past = NOW - SLACK - life
    assert _open(_sealed(at=past, life=life))
    with pytest.raises(SignatureRefused, match="expired"):
        _open(_sealed(at=past - second, life=life))


def test_it_may_not_live_longer_than_messages_do() -> None:  # 6
    with pytest.raises(SignatureRefused, match="longer"):
        _open(_sealed(life=limits.ENVELOPE_LIFE + timedelta(seconds=1)))


def test_times_out_of_range_are_malformed() -> None:  # 6
    with pytest.raises(TielineError) as refusal:
        _open(_resigned(lambda payload: setattr(payload.issue_time, "seconds", 2**60)))
    assert isinstance(refusal.value, MalformedMessage)


def test_a_retired_key_still_verifies_what_it_signed_in_its_time() -> None:  # 7
    assert _open(_sealed(at=NOW - timedelta(days=20), by="old-key"))


def test_a_retired_key_signs_nothing_new() -> None:  # 7
    with pytest.raises(SignatureRefused, match="outside the time"):
        _open(_sealed(by="old-key"))


def test_a_signature_cannot_be_dated_back_under_a_key_long_retired() -> None:  # 7
    # The messages of a retired key have all expired by then, so this one is forged.
    later = NOW - timedelta(days=10) + limits.ENVELOPE_LIFE + SLACK + timedelta(minutes=1)
    back_dated = _sealed(at=NOW - timedelta(days=11), by="old-key")
    with pytest.raises(SignatureRefused):
        _open(back_dated, now=later)


def test_a_new_key_does_not_date_back() -> None:  # 7
    with pytest.raises(SignatureRefused, match="outside the time"):
        _open(_sealed(at=NOW - timedelta(days=12)))


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))
def test_a_time_survives_the_wire(when: datetime) -> None:
    assert moment(timestamp(when)) == when
