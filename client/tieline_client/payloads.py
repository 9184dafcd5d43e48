"""Signed payloads: how one is sealed, and the numbered checks before anyone reads its body.

A sealed payload is a DSSE envelope whose payload is one serialised ``Payload``. Its type names the
body, so that a signature for one kind of message is never one for another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from tieline.v1 import envelope_pb2, payload_pb2

from tieline_client import WIRE_MAJOR, constraints, envelopes, keys, limits
from tieline_client.directory import Directory
from tieline_client.errors import MalformedMessage, SignatureRefused
from tieline_client.identifiers import check_id, new_id

_TYPE = "application/vnd.tieline.v1.{}+protobuf"
_BEFORE, _AFTER = _TYPE.split("{}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Audience:
    """Who a payload is for: one agency, or one version of a group."""

    agency: str = ""
    group: str = ""
    group_version: int = 0


def payload_type(kind: str) -> str:
    """Return the DSSE payload type of a body, such as ``referral``."""
    return _TYPE.format(kind)


def kind_of(envelope: envelope_pb2.Envelope) -> str:
    """Return the body's kind that an envelope's type names, or "" when it names none."""
    text = envelope.payload_type
    if text.startswith(_BEFORE) and text.endswith(_AFTER):
        return text[len(_BEFORE) : -len(_AFTER)]
    return ""


def timestamp(moment: datetime) -> Timestamp:
    """Return a protobuf Timestamp of an aware datetime."""
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def moment(stamp: Timestamp) -> datetime:
    """Return the aware UTC datetime of a Timestamp; raise MalformedMessage out of range."""
    try:
        return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1_000)
    except (ValueError, OverflowError):
        raise MalformedMessage("a time is out of range; send years 1 to 9999") from None


class Sealer:
    """Signs payloads for one agency."""

    def __init__(self, federation: str, agency: str, key: keys.PrivateKey) -> None:
        self.federation, self.agency = federation, agency
        self._key, self._keyid = key, keys.keyid(key)

    def seal(
        self,
        payload: payload_pb2.Payload,
        audience: Audience,
        now: datetime,
        life: timedelta = limits.ENVELOPE_LIFE,
    ) -> envelope_pb2.Envelope:
        """Fill in the common fields of a payload whose body is set, sign it, return the envelope.

        An id that is set stays. Raises MalformedMessage when the payload is over a cap.
        """
        payload.federation, payload.version = self.federation, WIRE_MAJOR
        payload.id = payload.id or new_id()
        payload.issuer = self.agency
        payload.audience = audience.agency
        payload.audience_group = audience.group
        payload.audience_group_version = audience.group_version
        payload.issue_time.CopyFrom(timestamp(now))
        payload.expire_time.CopyFrom(timestamp(now + life))
        constraints.check(payload)
        kind = payload.WhichOneof("body") or ""
        data = payload.SerializeToString()
        return to_proto(envelopes.sign(payload_type(kind), data, self._key, self._keyid))


def is_renewal(one: payload_pb2.Payload, other: payload_pb2.Payload) -> bool:
    """Whether two payloads say the same, signed at different times: a message that waited for
    longer than it was valid is signed anew under its id."""
    return _timeless(one) == _timeless(other)


def _timeless(payload: payload_pb2.Payload) -> payload_pb2.Payload:
    copy = payload_pb2.Payload()
    copy.CopyFrom(payload)
    copy.ClearField("issue_time")
    copy.ClearField("expire_time")
    return copy


def to_proto(envelope: envelopes.Envelope) -> envelope_pb2.Envelope:
    """Return the wire form of an envelope."""
    return envelope_pb2.Envelope(
        payload_type=envelope.payload_type,
        payload=envelope.payload,
        signatures=[
            envelope_pb2.Signature(keyid=one.keyid, sig=one.sig) for one in envelope.signatures
        ],
    )


def _from_proto(envelope: envelope_pb2.Envelope) -> envelopes.Envelope:
    return envelopes.Envelope(
        envelope.payload_type,
        envelope.payload,
        tuple(envelopes.Signature(one.keyid, one.sig) for one in envelope.signatures),
    )


def open_payload(
    envelope: envelope_pb2.Envelope,
    *,
    directory: Directory,
    issuer: str | None,
    audience: Audience | Callable[[Audience], bool],
    now: datetime,
    lasting: bool = False,
) -> payload_pb2.Payload:
    """Verify an envelope and return its payload.

    0. The type names a kind of body.
    1. A key that the directory lists signed these bytes; it belongs to one active agency.
    2. That agency is the expected issuer, where one is expected (the caller of the connection).
    3. The payload parses, inside the caps, and its body is the kind that the type names.
    4. Federation and version are ours; the issuer inside is the agency of the key.
    5. It is for this audience (or one that ``audience`` says is ours).
    6. It is not from the future, not expired, and lives no longer than messages may.
    7. The key was in use when it was signed, and a retired key only reaches back so far.

    What is ``lasting`` may have expired: a word that only takes away, inside an envelope that has
    not.

    Raises SignatureRefused, or MalformedMessage where it does not parse. Times are compared with
    ``limits.CLOCK_TOLERANCE`` on either side.
    """
    # 0
    kind = kind_of(envelope)
    if not kind:
        raise SignatureRefused("the envelope's type is not one of Tieline's")
    # 1
    agency = _signer(envelope, directory)
    # 2
    if issuer is not None and agency != issuer:
        raise SignatureRefused(f"signed by {agency}, but it came from {issuer}")
    # 3
    payload = constraints.open_nested(envelope.payload, payload_pb2.Payload)
    if payload.WhichOneof("body") != kind:
        raise SignatureRefused(f"the envelope says {kind}, its payload something else")
    # 4
    if payload.federation != directory.federation or payload.version != WIRE_MAJOR:
        raise SignatureRefused("signed for another federation or another version of the wire")
    if payload.issuer != agency:
        raise SignatureRefused(f"it says it is by {payload.issuer}, but {agency} signed it")
    check_id(payload.id, "message id")
    # 5
    addressed = Audience(payload.audience, payload.audience_group, payload.audience_group_version)
    if addressed != audience and not (callable(audience) and audience(addressed)):
        raise SignatureRefused("it is addressed to somebody else")
    # 6
    issued, expires = moment(payload.issue_time), moment(payload.expire_time)
    if issued > now + limits.CLOCK_TOLERANCE:
        raise SignatureRefused(
            "signed in the future; compare both clocks with `tieline node status`"
        )
    if expires < now - limits.CLOCK_TOLERANCE and not lasting:
        raise SignatureRefused("it has expired; the sender must send it anew")
    if expires - issued > limits.ENVELOPE_LIFE:
        raise SignatureRefused("it is valid for longer than messages may be")
    # 7
    _check_key_time(envelope, directory, agency, issued, now)
    return payload


def _signer(envelope: envelope_pb2.Envelope, directory: Directory) -> str:
    """Return the agency whose listed key signed the envelope."""
    listed = directory.signers
    named = {one.keyid: listed[one.keyid] for one in envelope.signatures if one.keyid in listed}
    keyid = envelopes.verify(_from_proto(envelope), {k: der for k, (_, der) in named.items()})
    return named[keyid][0]


def _check_key_time(
    envelope: envelope_pb2.Envelope,
    directory: Directory,
    agency: str,
    issued: datetime,
    now: datetime,
) -> None:
    slack = limits.CLOCK_TOLERANCE
    for one in envelope.signatures:
        key = directory.member(agency).signing_key(one.keyid)
        if key is None:
            continue
        early = issued < key.not_before - slack
        late = key.not_after is not None and issued > key.not_after + slack
        retired = key.not_after is not None and now > key.not_after + limits.ENVELOPE_LIFE + slack
        if early or late or retired:
            raise SignatureRefused("signed with a key outside the time in which it was in use")
