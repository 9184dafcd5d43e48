"""Signed heads of audit logs, and what peers signed about them.

A checkpoint and its countersignatures prove for years what a log was like, so their own expiry says
nothing: each is judged at the time at which it was signed, by the keys that were in use then.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from tieline.v1 import envelope_pb2, payload_pb2

from tieline_client import constraints
from tieline_client.directory import Directory
from tieline_client.errors import MalformedMessage, SignatureRefused
from tieline_client.payloads import Audience, moment, open_payload

SIZE_MOST = 2**62


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of ``agency``'s log. ``envelope`` is the serialised Envelope that it signed."""

    agency: str
    size: int
    root: bytes
    epoch: str
    issued: datetime
    id: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Countersignature:
    """``witness`` saw that ``agency``'s log had this head and extended what it had seen before."""

    witness: str
    agency: str
    size: int
    root: bytes
    checkpoint_digest: bytes
    issued: datetime
    envelope: bytes


def open_checkpoint(
    envelope: envelope_pb2.Envelope,
    directory: Directory,
    *,
    issuer: str | None = None,
    now: datetime | None = None,
) -> Checkpoint:
    """Verify a checkpoint; ``now`` None: as of the time at which it says it was signed.

    Raises SignatureRefused, MalformedMessage.
    """
    payload = open_payload(
        envelope,
        directory=directory,
        issuer=issuer,
        audience=Audience(),
        now=now or signing_time(envelope),
    )
    if payload.WhichOneof("body") != "checkpoint":
        raise MalformedMessage("what is shown as a checkpoint is another message")
    said = payload.checkpoint
    if said.size > SIZE_MOST or len(said.root) != hashlib.sha256().digest_size:
        raise MalformedMessage("a checkpoint states no size and root")
    return Checkpoint(
        payload.issuer,
        said.size,
        said.root,
        said.epoch,
        moment(payload.issue_time),
        payload.id,
        envelope.SerializeToString(deterministic=True),
    )


def open_countersignature(
    envelope: envelope_pb2.Envelope,
    directory: Directory,
    *,
    agency: str,
    issuer: str | None = None,
    now: datetime | None = None,
) -> Countersignature:
    """Verify what a witness signed of the log of ``agency``; otherwise as `open_checkpoint`."""
    payload = open_payload(
        envelope,
        directory=directory,
        issuer=issuer,
        audience=Audience(agency=agency),
        now=now or signing_time(envelope),
    )
    if payload.WhichOneof("body") != "countersignature":
        raise MalformedMessage("what is shown as a countersignature is another message")
    said = payload.countersignature
    if said.agency != agency or payload.issuer == agency:
        raise SignatureRefused(f"a countersignature is of another log than {agency}'s")
    return Countersignature(
        payload.issuer,
        said.agency,
        said.size,
        said.root,
        said.checkpoint_digest,
        moment(payload.issue_time),
        envelope.SerializeToString(deterministic=True),
    )


def signing_time(envelope: envelope_pb2.Envelope) -> datetime:
    """Return the time that a payload states; whether it is signed is not looked at."""
    return moment(constraints.open_nested(envelope.payload, payload_pb2.Payload).issue_time)


def checkpoint_digest(envelope: bytes) -> bytes:
    """Return the SHA-256 of the payload inside a serialised envelope."""
    return hashlib.sha256(envelope_pb2.Envelope.FromString(envelope).payload).digest()
