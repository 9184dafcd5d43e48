"""How a peer stands towards us: whether what it says of itself can follow what it said before.

A node's *life* is (epoch, start, life id): the epoch is made when the node is made, restored or
resynchronised; the start counts the starts of its processes; the life id is made at each. All that
a node says of its lanes only ever grows: what it gave a sequence to, what it settled. So a word
that is less than one before it was either long on its way, or its speaker was set back to an older
image, or there are two speakers.

Which of the two it is can be told only where the word was surely spoken *after* what it is compared
with: an answer to a question that we asked when we knew that already. `judge` therefore takes what
is known now, and what was known when the question was asked (None when the word came unasked):

1. A word that can follow what is known now is believed.
2. One that cannot, unasked, is STALE: the speaker is asked to say it again.
3. One that cannot follow even what was known when it was asked for is trouble: SET_BACK, FORK (a
   life came back after a newer one was seen: two speak), LEFT_BEHIND (an epoch that was given up).
4. One that can follow that, but not what is known now, is merely LATE: it says nothing new.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

LIVES_KEPT = 16
"""Earlier lives of a peer that are remembered, to tell a fork from an old image."""

Ranges = tuple[tuple[int, int], ...]
"""First and last of ranges of sequences, ascending, apart from one another."""


class Finding(enum.Enum):
    """What a word turned out to be."""

    FIRST = "first"
    SAME = "same"
    RESTARTED = "restarted"
    RENEWED = "renewed"
    """A new epoch: the peer was restored, or resynchronised, by its operator's word."""
    LATE = "late"
    STALE = "stale"
    SET_BACK = "set back"
    FORK = "fork"
    LEFT_BEHIND = "left behind"


BELIEVED = frozenset({Finding.FIRST, Finding.SAME, Finding.RESTARTED, Finding.RENEWED})
BAD = frozenset({Finding.SET_BACK, Finding.FORK, Finding.LEFT_BEHIND})


class Trouble(enum.StrEnum):
    """What one side holds against the other (`trouble` of delivery.proto)."""

    NONE = ""
    SET_BACK = "SET_BACK"
    FORK = "FORK"
    LEFT_BEHIND = "LEFT_BEHIND"


@dataclass(frozen=True, slots=True)
class LaneWord:
    """One lane as a node says it. Its three numbers only grow within an epoch.

    ``sent``: the highest sequence it gave to a message for us. ``applied``: every sequence of ours
    up to it was settled there; ``highest``: the highest that was; ``gaps`` lie between the two.
    ``voids`` are those of its sequences that we lack and that will never come.
    """

    sent: int = 0
    applied: int = 0
    highest: int = 0
    gaps: Ranges = ()
    voids: Ranges = ()


@dataclass(frozen=True, slots=True)
class Word:
    """What a node says of itself."""

    epoch: str
    start: int
    life: str
    lanes: Mapping[int, LaneWord] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LaneKnown:
    """One lane as we know it: the highest sequence that came in the peer's epoch, and its word.

    ``voids`` are those of our sequences that we told it will never come.
    """

    received: int = 0
    sent: int = 0
    applied: int = 0
    highest: int = 0
    voids: Ranges = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a peer. ``lives`` are (start, life) seen in its epoch, the latest last.

    ``trouble`` is what we hold against it, ``told`` what it holds against us. ``recovered`` is our
    own epoch in which the peer has given back what an older image of us lacks.
    """

    epoch: str = ""
    lives: tuple[tuple[int, str], ...] = ()
    retired: frozenset[str] = frozenset()
    lanes: Mapping[int, LaneKnown] = field(default_factory=dict)
    trouble: Trouble = Trouble.NONE
    reason: str = ""
    since: datetime | None = None
    told: str = ""
    told_since: datetime | None = None
    recovered: str = ""
    wire: str = ""
    capabilities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a word is, why, and what is known after it (as before, unless it is believed)."""

    finding: Finding
    why: str
    known: Known


def judge(known: Known, word: Word, asked: Known | None = None) -> Judgement:
    """Judge a word against what is ``known`` now and what was known when it was ``asked`` for."""
    finding, why = _compare(known, word)
    if finding is Finding.RENEWED and (asked is None or asked.epoch != known.epoch):
        # Two epochs may follow one another while a word of the first is on its way, asked for or
        # not: one that was asked for before the second was known proves nothing against it.
        return Judgement(Finding.STALE, why, known)  # 2
    if finding not in BAD:
        return Judgement(finding, why, _after(known, word, finding))  # 1
    if asked is None:
        return Judgement(Finding.STALE, why, known)  # 2
    finding, why = _compare(asked, word)
    if finding in BAD:
        return Judgement(finding, why, known)  # 3
    return Judgement(Finding.LATE, "", known)  # 4


def _compare(known: Known, word: Word) -> tuple[Finding, str]:
    """What a word would be if it was spoken after all that is known."""
    if word.epoch in known.retired:
        return Finding.LEFT_BEHIND, "it speaks in an epoch that its agency has given up"
    if known.epoch and word.epoch != known.epoch:
        return Finding.RENEWED, "its agency restored or resynchronised it"
    start, life = known.lives[-1] if known.lives else (0, "")
    if known.lives and (word.start, word.life) != (start, life) and word.start <= start:
        if (word.start, word.life) in known.lives:
            return Finding.FORK, f"life {word.start} spoke again after life {start}: two run"
        return Finding.SET_BACK, f"it was seen at start {start} and is at start {word.start} anew"
    for lane, one in sorted(known.lanes.items()):
        said = word.lanes.get(lane, LaneWord())
        for what, now, before in (
            ("sent", said.sent, max(one.received, one.sent)),
            ("applied", said.applied, one.applied),
            ("has settled", said.highest, one.highest),
        ):
            if now < before:
                why = f"in lane {lane} it {what} {before} messages and now knows of {now} only"
                return Finding.SET_BACK, why
    if not known.lives:
        return Finding.FIRST, ""
    return (Finding.RESTARTED if word.start > start else Finding.SAME), ""


def _after(known: Known, word: Word, finding: Finding) -> Known:
    lives = () if finding is Finding.RENEWED else known.lives
    if not lives or lives[-1] != (word.start, word.life):
        lives = (*lives, (word.start, word.life))[-LIVES_KEPT:]
    lanes = dict(known.lanes)
    for lane, said in word.lanes.items():
        # A restored peer says how far it sent before it was told how far it had come.
        came = 0 if finding is Finding.RENEWED or lane not in lanes else lanes[lane].received
        told = lanes[lane].voids if lane in lanes else ()
        lanes[lane] = LaneKnown(came, said.sent, said.applied, said.highest, told)
    after = replace(known, epoch=word.epoch, lives=lives, lanes=lanes)
    if finding is Finding.RENEWED:
        retired = known.retired | {known.epoch}
        after = replace(after, retired=retired, trouble=Trouble.NONE, reason="", since=None)
    return after


def missing(word: LaneWord, sent: int) -> Ranges:
    """The ranges of ``sent`` sequences that a peer has not settled, by its word; ascending."""
    inner = tuple((first, min(last, sent)) for first, last in word.gaps if first <= sent)
    beyond = max(word.highest, word.applied)
    return inner if beyond >= sent else (*inner, (beyond + 1, sent))


def settle_range(applied: int, ranges: Ranges, first: int, last: int) -> tuple[int, Ranges]:
    """Add a settled range: return the watermark, and the ranges above it, merged."""
    if last <= applied or first > last:
        return applied, ranges
    merged: list[tuple[int, int]] = []
    for low, high in sorted((*ranges, (first, last))):
        if low <= applied + 1:
            applied = max(applied, high)
        elif merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return applied, tuple(merged)


def gaps_of(applied: int, ranges: Ranges) -> Ranges:
    """The gaps between a watermark and the ranges above it."""
    gaps, after = [], applied
    for first, last in ranges:
        gaps.append((after + 1, first - 1))
        after = last
    return tuple(gaps)
