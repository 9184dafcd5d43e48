"""Whether the log of a peer is still the one that was seen before. Without I/O.

1. The first checkpoint of an agency is taken as it is: nothing is known to hold it against.
2. Of one size there is one root.
3. A larger one comes with the proof that it extends the one that is held (RFC 6962, 2.1.2).
4. A smaller one that was signed earlier, or at about the same time, is late, and tells nothing. One
   that was signed clearly later shows that the log lost its tail.
5. What breaks 2 to 4 is equivocation: the agency signed both, and no log can have both heads. Where
   the epoch is another, its node was restored from a backup and says so: entries are lost all
   the same, both checkpoints are kept, and the log is followed from the new head on.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tieline_client import limits
from tieline_client.checkpoints import Checkpoint

from tieline_server.domain import merkle


class Finding(enum.StrEnum):
    """What a checkpoint is worth."""

    FIRST = "first"
    SAME = "same"
    EXTENDS = "extends"
    LATE = "late"
    FORK = "fork"
    SET_BACK = "set_back"
    RESTORED = "restored"


FOLLOWED = frozenset({Finding.FIRST, Finding.EXTENDS, Finding.SAME})
"""What is countersigned."""
BROKEN = frozenset({Finding.FORK, Finding.SET_BACK, Finding.RESTORED})
"""What is kept as proof, with an alarm."""


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Two checkpoints that one agency signed and that no log can have; envelopes, serialised."""

    id: str
    agency: str
    kind: Finding
    epoch: str
    first: bytes
    second: bytes
    source: str
    """Who showed the second: the agency itself, or a peer that was shown another history."""
    found: datetime
    why: str


def judge(known: Checkpoint | None, said: Checkpoint, proof: Sequence[bytes]) -> Finding:
    """Hold a verified checkpoint against the one that is held of the same agency."""
    if known is None:  # 1
        return Finding.FIRST
    if said.size == known.size:  # 2
        if said.root == known.root:
            return Finding.SAME
        return _broken(known, said, Finding.FORK)
    if said.size < known.size:  # 4
        if not clearly_later(said, known):
            return Finding.LATE
        return _broken(known, said, Finding.SET_BACK)
    if follows(known, said, proof):  # 3
        return Finding.EXTENDS
    return _broken(known, said, Finding.FORK)


def judge_moved(
    known: Checkpoint | None, head: Checkpoint, said: Checkpoint, proof: Sequence[bytes]
) -> tuple[Finding, Checkpoint]:
    """Judge when another contact moved the head on from ``known``, which the proof is for.

    Returns what it is worth and against which of the two. The proof says nothing of the new head,
    so a larger one that extends what was known is left to the next contact.
    """
    if said.size <= head.size:
        return judge(head, said, ()), head
    if known is None:
        return Finding.LATE, head
    finding = judge(known, said, proof)
    return (finding if finding in BROKEN else Finding.LATE), known


def clearly_later(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether one was signed after the other, by more than a node's threads may cross."""
    return one.issued > other.issued + limits.CHECKPOINTS_CROSS


def follows(first: Checkpoint, second: Checkpoint, proof: Sequence[bytes]) -> bool:
    """Whether the larger of two checkpoints extends the smaller by this proof."""
    return merkle.verify_consistency(first.size, second.size, proof, first.root, second.root)


def _broken(known: Checkpoint, said: Checkpoint, otherwise: Finding) -> Finding:
    return otherwise if said.epoch == known.epoch else Finding.RESTORED  # 5


def words(kind: Finding, first: Checkpoint, second: Checkpoint) -> str:
    """Say what was found, for the log and the auditor."""
    what = {
        Finding.FORK: "its log has two histories",
        Finding.SET_BACK: "its log lost its tail",
        Finding.RESTORED: "its node was restored and lost entries",
    }[kind]
    return (
        f"{what}: it signed {first.size} entries with root {first.root.hex()[:16]} and"
        f" {second.size} with {second.root.hex()[:16]}, and neither extends the other"
    )
