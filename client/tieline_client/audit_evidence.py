"""What makes an audit log more than self-consistent: what its agency and its peers signed of it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError
from tieline.v1 import envelope_pb2

from tieline_client.audit_log import Head
from tieline_client.checkpoints import open_checkpoint, open_countersignature
from tieline_client.directory import Directory
from tieline_client.directory_files import wanted
from tieline_client.errors import InvalidInput, SignatureRefused


@dataclass(slots=True)
class Evidence:
    """As a node gives it out, and as an export carries it."""

    checkpoint: envelope_pb2.Envelope | None = None
    countersignatures: list[envelope_pb2.Envelope] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "checkpoint": encoded(self.checkpoint) if self.checkpoint else "",
            "countersignatures": [encoded(one) for one in self.countersignatures],
            "directory": {name: data.decode() for name, data in sorted(self.files.items())},
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Evidence:
        """Take it out of an export. Raises InvalidInput for what is none."""
        try:
            own = document.get("checkpoint") or ""
            return cls(
                decoded(own) if own else None,
                [decoded(one) for one in document.get("countersignatures") or ()],
                {
                    name: text.encode()
                    for name, text in (document.get("directory") or {}).items()
                    if wanted(name)
                },
            )
        except (AttributeError, TypeError, ValueError):
            raise InvalidInput("the export's evidence cannot be read; export it anew") from None


@dataclass(frozen=True, slots=True)
class Witnessed:
    """Heads that somebody vouches for. ``witnesses`` are peers, by id."""

    heads: tuple[Head, ...]
    witnesses: tuple[str, ...]
    size: int
    """Up to where peers vouch for the log."""


def witnessed(
    evidence: Evidence,
    directory: Directory,
    agency: str,
    more: Iterable[envelope_pb2.Envelope] = (),
) -> Witnessed:
    """Verify every signature; ``more`` are checkpoints of this log that a peer handed over.

    Raises SignatureRefused, MalformedMessage: evidence that does not hold is not passed over.
    """
    heads: list[Head] = []
    witnesses: set[str] = set()
    most = 0
    for envelope in evidence.countersignatures:
        by = open_countersignature(envelope, directory, agency=agency)
        heads.append((by.size, by.root, by.witness))
        witnesses.add(by.witness)
        most = max(most, by.size)
    own = [evidence.checkpoint] if evidence.checkpoint else []
    for envelope in (*own, *more):
        said = open_checkpoint(envelope, directory)
        if said.agency != agency:
            raise SignatureRefused(f"a checkpoint is of the log of {said.agency}, not of {agency}")
        heads.append((said.size, said.root, f"a checkpoint that {agency} signed"))
    return Witnessed(tuple(heads), tuple(sorted(witnesses)), most)


def encoded(envelope: envelope_pb2.Envelope) -> str:
    """Return an envelope as base64."""
    return base64.b64encode(envelope.SerializeToString(deterministic=True)).decode()


def decoded(text: str) -> envelope_pb2.Envelope:
    """Return an envelope of base64. Raises InvalidInput."""
    try:
        return envelope_pb2.Envelope.FromString(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, DecodeError):
        raise InvalidInput("a signed message cannot be read; it is not base64 of one") from None
