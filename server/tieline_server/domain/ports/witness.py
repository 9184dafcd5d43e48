"""What this node holds of the logs of others, and others of its own, in storage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from tieline_client.checkpoints import Checkpoint, Countersignature

from tieline_server.domain.log_retention import Hold
from tieline_server.domain.witness import Equivocation


class WitnessRepository(Protocol):
    def head(self, agency: str) -> Checkpoint | None:
        """The newest checkpoint of an agency that was found to extend those before it."""
        ...

    def heads(self, but: str, limit: int) -> Sequence[Checkpoint]:
        """Such of all agencies but one."""
        ...

    def follow(self, checkpoint: Checkpoint, at: datetime) -> None:
        """Keep a checkpoint as the head; of each day the last stays."""
        ...

    def doubt(self, checkpoint: Checkpoint, at: datetime) -> bool:
        """Keep what a peer showed until its agency has proven it; False when it is known."""
        ...

    def doubted(self, agency: str) -> Sequence[Checkpoint]: ...
    def settle(self, checkpoint: Checkpoint, *, holds: bool) -> None:
        """End a doubt."""
        ...

    def countersigned(self, by: Countersignature) -> None:
        """Keep what a peer signed of the own log; of each day the last stays."""
        ...

    def countersignatures(self) -> Sequence[Countersignature]:
        """Those of the own log, by size."""
        ...

    def accuse(self, equivocation: Equivocation) -> bool:
        """Keep a proof; False when there is one of that agency and epoch already."""
        ...

    def equivocations(self) -> Sequence[Equivocation]: ...


class HoldRepository(Protocol):
    def add(self, hold: Hold) -> None: ...
    def remove(self, hold: str) -> bool:
        """End one; False when there is none."""
        ...

    def find(self) -> Sequence[Hold]: ...
