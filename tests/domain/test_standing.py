"""What a word is worth: random histories of a node, its images and twins, against a plain oracle.

The observer hears words of a node whose states form a tree: every state knows the one it grew out
of. A word is sound when it was spoken after the question that it answers. The oracle needs no
numbers: a sound word is in order exactly when its state has grown out of everything that was heard
before the question, or when it speaks in an epoch that was never heard before.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tieline_server.domain.standing import (
    BAD,
    BELIEVED,
    Finding,
    Judgement,
    Known,
    LaneKnown,
    LaneWord,
    Ranges,
    Trouble,
    Word,
    gaps_of,
    judge,
    missing,
    settle_range,
)

LANES = (1, 2, 3)
_ids = iter(range(10**9))


def name() -> str:
    return f"id-{next(_ids)}"


@dataclass
class State:
    """One state of a node's storage; ``grown`` are the ids of all states before it."""

    epoch: str
    start: int
    life: str
    lanes: dict[int, LaneWord]
    number: int = field(default_factory=lambda: next(_ids))
    grown: frozenset[int] = frozenset()

    def next(self, **changes: object) -> State:
        fields = {"grown": self.grown | {self.number}, "number": next(_ids)} | changes
        return replace(self, **fields)  # type: ignore[arg-type]

    def word(self) -> Word:
        return Word(self.epoch, self.start, self.life, self.lanes)


def begun() -> State:
    return State(name(), 1, name(), dict.fromkeys(LANES, LaneWord()))


class OneHistory(RuleBasedStateMachine):
    """A healthy node: starts, sends, settles, resynchronises; words come late and in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.known = begun(), Known()
        self.under_way: list[tuple[Word, Known | None]] = []
        self.last: Judgement | None = None

    @rule()
    def restart(self) -> None:
        self.state = self.state.next(start=self.state.start + 1, life=name())

    @rule(lane=st.sampled_from(LANES), what=st.sampled_from(["sent", "applied", "gap"]))
    def work(self, lane: int, what: str) -> None:
        one = self.state.lanes[lane]
        if what == "sent":
            one = replace(one, sent=one.sent + 1)
        elif what == "applied":
            applied = one.applied + 1
            one = replace(one, applied=applied, highest=max(one.highest, applied))
        else:
            one = replace(one, highest=one.highest + 2)
        self.state = self.state.next(lanes={**self.state.lanes, lane: one})

    @rule()
    def renew(self) -> None:
        self.state = self.state.next(epoch=name(), start=self.state.start + 1, life=name())

    @rule()
    def speak_unasked(self) -> None:
        self.under_way.append((self.state.word(), None))

    @rule()
    def speak_asked(self) -> None:
        self.under_way.append((self.state.word(), self.known))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.under_way) - 1))
        word, asked = self.under_way.pop(at)
        self.last = judge(self.known, word, asked)
        self.known = self.last.known

    @invariant()
    def is_never_found_bad(self) -> None:
        assert self.last is None or self.last.finding not in BAD, self.last

    @invariant()
    def a_fresh_word_is_always_believed(self) -> None:
        assert judge(self.known, self.state.word(), self.known).finding in BELIEVED


TestOneHistory = OneHistory.TestCase
TestOneHistory.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_word_asked_for_before_a_renewal_does_not_bring_the_old_epoch_back() -> None:
    """Found by the machine above: two answers under way, the newer heard first."""
    first = begun()
    second = first.next(epoch=name(), start=2, life=name())
    known = judge(Known(), second.word(), Known()).known
    late = judge(known, first.word(), Known())
    assert (late.finding, late.known) == (Finding.STALE, known)
    assert judge(known, second.word(), known).finding in BELIEVED


class Images(RuleBasedStateMachine):
    """A node of which old images come back, or live beside it; every word is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.branches, self.known = [begun()], Known()
        self.images = [self.branches[0]]
        self.heard: set[int] = set()
        """States heard of."""

    def _any(self, data: st.DataObject) -> int:
        return data.draw(st.integers(0, len(self.branches) - 1))

    @rule(data=st.data())
    def copy(self, data: st.DataObject) -> None:
        self.images.append(self.branches[self._any(data)])

    @precondition(lambda self: len(self.branches) < 4)
    @rule(data=st.data())
    def start_image(self, data: st.DataObject) -> None:
        image = data.draw(st.sampled_from(self.images))
        self.branches.append(image.next(start=image.start + 1, life=name()))

    @rule(data=st.data(), lane=st.sampled_from(LANES), count=st.integers(1, 3))
    def send(self, data: st.DataObject, lane: int, count: int) -> None:
        at = self._any(data)
        one = self.branches[at].lanes[lane]
        lanes = {**self.branches[at].lanes, lane: replace(one, sent=one.sent + count)}
        self.branches[at] = self.branches[at].next(lanes=lanes)

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        at = self._any(data)
        state = self.branches[at]
        self.branches[at] = state.next(start=state.start + 1, life=name())

    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        state = self.branches[self._any(data)]
        judged = judge(self.known, state.word(), self.known)
        lost = {one for one in self.heard if one != state.number and one not in state.grown}
        if judged.finding in BAD:
            assert lost, f"nothing was lost, but {judged}"
            return
        assert judged.finding in {Finding.FIRST, Finding.SAME, Finding.RESTARTED}
        # An image may come back unseen only where it started more often than was seen, and says
        # no less than was heard: then nothing that the observer took or gave is lost to it.
        for lane, before in self.known.lanes.items():
            assert state.lanes[lane].sent >= before.sent
        if lost:
            assert state.start > self.known.lives[-1][0]
            self.heard.clear()  # from now on this is the branch that is known
        self.heard.add(state.number)
        self.known = judged.known

    @rule(data=st.data())
    def a_life_that_comes_back_is_a_fork(self, data: st.DataObject) -> None:
        if len(self.known.lives) < 2:
            return
        start, life = data.draw(st.sampled_from(self.known.lives[:-1]))
        word = Word(self.known.epoch, start, life, {})
        assert judge(self.known, word, self.known).finding is Finding.FORK


TestImages = Images.TestCase
TestImages.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# --- single words ---

LANE = {2: LaneKnown(received=5, sent=5, applied=7, highest=9)}
KNOWN = Known("e1", ((3, "c"), (4, "d")), frozenset({"e0"}), LANE)
GOOD = {2: LaneWord(5, 7, 9)}


@pytest.mark.parametrize(
    ("word", "finding"),
    [
        (Word("e1", 4, "d", GOOD), Finding.SAME),
        (Word("e1", 5, "e", GOOD), Finding.RESTARTED),
        (Word("e1", 4, "other", GOOD), Finding.SET_BACK),
        (Word("e1", 3, "other", GOOD), Finding.SET_BACK),
        (Word("e1", 3, "c", GOOD), Finding.FORK),
        (Word("e1", 5, "e", {2: LaneWord(4, 7, 9)}), Finding.SET_BACK),
        (Word("e1", 5, "e", {2: LaneWord(5, 6, 9)}), Finding.SET_BACK),
        (Word("e1", 5, "e", {2: LaneWord(5, 7, 8)}), Finding.SET_BACK),
        (Word("e1", 5, "e", {}), Finding.SET_BACK),
        (Word("e0", 9, "z", GOOD), Finding.LEFT_BEHIND),
        (Word("e2", 1, "y", {}), Finding.RENEWED),
    ],
)
def test_each_finding(word: Word, finding: Finding) -> None:
    asked = judge(KNOWN, word, KNOWN)
    assert asked.finding is finding
    unasked = judge(KNOWN, word)
    sure = finding in {Finding.SAME, Finding.RESTARTED}
    assert unasked.finding is (finding if sure else Finding.STALE)
    assert (asked.known == KNOWN) == (finding in BAD or finding is Finding.SAME)
    if not sure:
        assert unasked.known is KNOWN


def test_a_new_epoch_ends_quarantine_and_retires_the_old() -> None:
    held = replace(KNOWN, trouble=Trouble.FORK, reason="two")
    after = judge(held, Word("e2", 1, "y", {2: LaneWord(1, 2, 2)}), held).known
    assert (after.trouble, after.reason, after.epoch) == (Trouble.NONE, "", "e2")
    assert after.retired == {"e0", "e1"} and after.lives == ((1, "y"),)
    # What it had sent before is not held against it: it is told only now how far it was.
    assert after.lanes[2] == LaneKnown(0, 1, 2, 2)
    assert judge(after, Word("e2", 1, "y", {2: LaneWord(1, 2, 2)}), after).finding is Finding.SAME


def test_a_late_word_changes_nothing() -> None:
    later = replace(KNOWN, lanes={2: LaneKnown(9, 9, 9, 9)}, lives=((4, "d"), (5, "e")))
    judged = judge(later, Word("e1", 4, "d", GOOD), KNOWN)
    assert judged.finding is Finding.LATE and judged.known is later


# --- ranges ---


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 6)), max_size=40),
    st.integers(0, 70),
)
def test_ranges_are_the_set_of_what_was_settled(spans: list[tuple[int, int]], sent: int) -> None:
    applied = 0
    ranges: Ranges = ()
    settled: set[int] = set()
    for first, more in spans:
        applied, ranges = settle_range(applied, ranges, first, first + more)
        settled |= set(range(first, first + more + 1))
    assert set(range(1, applied + 1)) <= settled and applied + 1 not in settled
    above = {n for first, last in ranges for n in range(first, last + 1)}
    assert above == {n for n in settled if n > applied}
    assert all(a[1] + 1 < b[0] for a, b in pairwise(ranges))
    gaps = gaps_of(applied, ranges)
    word = LaneWord(applied=applied, highest=max(settled, default=0), gaps=gaps)
    lacking = {n for first, last in missing(word, sent) for n in range(first, last + 1)}
    assert lacking == set(range(1, sent + 1)) - settled
