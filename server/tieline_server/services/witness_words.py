"""Checkpoints as they are told, and what people have to know of logs that do not hold."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError
from tieline.v1 import envelope_pb2, payload_pb2
from tieline_client import limits
from tieline_client.checkpoints import Checkpoint

from tieline_server.domain.ports import Tx


def witness_troubles(tx: Tx) -> list[str]:
    """What the node's people have to know of logs that do not hold, a line for each proof."""
    return [
        f"audit log: {one.why}; the proof is kept: `tieline audit witnesses --proof {one.id} FILE`"
        for one in tx.witness.equivocations()
    ]


def stated(envelope: envelope_pb2.Envelope) -> tuple[str, str, int, bytes]:
    """What it says it is, unverified: good enough to pass over what was verified before."""
    try:
        payload = payload_pb2.Payload.FromString(envelope.payload)
    except DecodeError:
        return "", "", 0, b""  # never remembered, so refused in its turn
    said = payload.checkpoint
    return payload.issuer, said.epoch, said.size, said.root


def heads_told(tx: Tx, peer: str) -> list[Checkpoint]:
    """Return the heads that a peer is told: its own, so that it learns if its log is another now,
    and the newest of others."""
    own = tx.witness.head(peer)
    others = tx.witness.heads(peer, limits.HEADS_TOLD - 1)
    return [*([own] if own else []), *others]


def envelopes_of(heads: Sequence[Checkpoint]) -> list[envelope_pb2.Envelope]:
    """Return them as they were signed."""
    return [envelope_pb2.Envelope.FromString(one.envelope) for one in heads]
