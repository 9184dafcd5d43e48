"""Splits of series: what a list picks out, and that every node ends with the same view."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tieline_client import limits
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput, LimitExceeded
from tieline_server.domain.merging import follow
from tieline_server.domain.series import SeriesStatus
from tieline_server.domain.splitting import (
    MARK_BYTES,
    Digests,
    Sorter,
    Split,
    choose,
    mark,
    pack_marks,
    status_of_new,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MD5, SHA1 = DigestKind.MD5, DigestKind.SHA1


def _md5(number: int) -> bytes:
    return hashlib.md5(bytes([number])).digest()


def _item(number: int) -> Digests:
    return {MD5: _md5(number), SHA1: hashlib.sha1(bytes([number])).digest()}


HELD = {number: _item(number) for number in range(6)}


def test_a_list_picks_items_by_any_digest() -> None:
    chosen = choose([{MD5: _md5(0)}, _item(2)], HELD, "A")
    assert chosen.items == {0, 2}
    assert set(chosen.digests) == {*HELD[0].items(), *HELD[2].items()}
    # the strongest known digest says which one is meant
    mixed = {MD5: _md5(1), SHA1: HELD[3][SHA1]}
    assert choose([mixed], HELD, "A").items == {3}


def test_what_a_list_must_not_hold() -> None:
    with pytest.raises(InvalidInput, match="names no item"):
        choose([], HELD, "A")
    with pytest.raises(InvalidInput, match=r"2 of 3 .*record 2, 3"):
        choose([_item(0), _item(40), _item(41)], HELD, "A")
    many = [_item(100 + number) for number in range(limits.SPLIT_RECORDS_NAMED + 1)]
    with pytest.raises(InvalidInput, match=r"11 of 11 .*, \.\.\.\)"):
        choose(many, HELD, "A")
    with pytest.raises(InvalidInput, match="all 6 items"):
        choose(list(HELD.values()), HELD, "A")
    with pytest.raises(LimitExceeded, match="several goes"):
        choose([_item(0)] * (limits.SPLIT_ITEMS + 1), HELD, "A")


def test_a_digest_that_one_who_stays_shares_marks_nothing() -> None:
    held = {1: {MD5: _md5(1), SHA1: _item(1)[SHA1]}, 2: {MD5: _md5(1), SHA1: _item(2)[SHA1]}}
    with pytest.raises(InvalidInput, match="1 of 1 listed items share"):
        choose([{MD5: _md5(1)}], held, "A")
    assert choose([held[1]], held, "A").digests == ((SHA1, _item(1)[SHA1]),)


def test_marks_say_nothing_of_another_split_or_kind() -> None:
    one = mark("a", MD5, _md5(1))
    assert len(one) == MARK_BYTES
    assert (
        len({one, mark("b", MD5, _md5(1)), mark("a", SHA1, _md5(1)), mark("a", MD5, _md5(2))}) == 4
    )
    assert _md5(1) not in pack_marks("a", [(MD5, _md5(1))])


def test_nobody_was_told_of_the_new_series() -> None:
    for status in SeriesStatus:
        new = status_of_new(status, likely=True)
        told = status in (SeriesStatus.REFERRED, SeriesStatus.IDENTIFIED, SeriesStatus.CLOSED)
        assert new is (SeriesStatus.LOCALISED if told else status)
    assert status_of_new(SeriesStatus.REFERRED, likely=False) is SeriesStatus.UNDER_EVALUATION


# --- every order, with duplicates and delays ---


@dataclass(frozen=True)
class _Told:
    """A referral, packed at some time, of what a series and its parts held then."""

    series: str
    items: frozenset[int]


@dataclass(frozen=True)
class _Merged:
    merged: str
    series: str


_Message = _Told | _Merged | Split


@dataclass
class _Node:
    """What a node keeps: which item under which series, splits, and what is part of what."""

    held: set[tuple[str, int]] = field(default_factory=set)
    splits: dict[str, Split] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def take(self, message: _Message) -> None:
        if isinstance(message, _Told):
            self.held |= {(message.series, item) for item in message.items}
        elif isinstance(message, _Merged):
            self.aliases.setdefault(message.merged, message.series)
        else:
            self.splits.setdefault(message.id, message)
        self.settle()

    def settle(self) -> None:
        while moved := {
            (series, item): (made, item)
            for series, item in self.held
            if (made := self._sorter(series).place(_item(item)))
        }:
            self.held = (self.held - moved.keys()) | set(moved.values())

    def _sorter(self, series: str) -> Sorter:
        return Sorter(one for one in self.splits.values() if one.series == series)

    def view(self) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for series, item in self.held:
            found.setdefault(item, set()).add(follow(self.aliases, series))
        return found


@dataclass
class _Owner(_Node):
    said: list[_Message] = field(default_factory=list)

    def whole(self, name: str) -> str:
        return follow(self.aliases, name)

    def family(self, series: str) -> list[str]:
        names = {name for name, _ in self.held} | self.aliases.keys() | set(self.aliases.values())
        return sorted(name for name in names | {series} if self.whole(name) == series)

    def items(self, series: str) -> set[int]:
        return {item for name, item in self.held if self.whole(name) == series}

    def refer(self, name: str) -> None:
        """The whole, or a part under its own id before it was merged."""
        series = self.whole(name)
        self.said.append(_Told(series, frozenset(self.items(series))))

    def merge(self, kept: str, part: str) -> None:
        kept, part = self.whole(kept), self.whole(part)
        if kept != part:
            self.aliases[part] = kept
            self.said.append(_Merged(part, kept))

    def split(self, name: str, some: set[int], made: str) -> None:
        series = self.whole(name)
        held = {item: _item(item) for item in self.items(series)}
        listed = [held[item] for item in sorted(some & held.keys())]
        if not listed or len(listed) == len(held):
            return
        chosen = choose(listed, held, series)
        at = NOON + timedelta(minutes=len(self.said))
        for part in self.family(series):
            split = f"{made}/{part}"
            marks = pack_marks(split, chosen.digests)
            word = Split(split, part, made, "ana", at, at, marks)
            self.splits[split] = word
            self.said.append(word)
        self.settle()


_ITEMS = st.sets(st.integers(0, 7), min_size=1)
_ACT = st.one_of(
    st.tuples(st.just("refer"), st.integers(0, 9)),
    st.tuples(st.just("merge"), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.just("split"), st.integers(0, 9), _ITEMS),
)


@settings(max_examples=150, deadline=None)
@given(acts=st.lists(_ACT, min_size=2, max_size=10), data=st.data())
def test_every_node_ends_with_the_same_view(
    acts: list[tuple[object, ...]], data: st.DataObject
) -> None:
    owner = _Owner(held={("A", item) for item in range(5)} | {("B", item) for item in range(5, 8)})
    names = ["A", "B"]
    for number, (act, *more) in enumerate(acts):
        if act == "refer":
            owner.refer(_of(names, more[0]))
        elif act == "merge":
            owner.merge(_of(names, more[0]), _of(names, more[1]))
        else:
            names.append(f"S{number}")
            some = more[1]
            assert isinstance(some, set)
            owner.split(_of(names[:-1], more[0]), some, names[-1])
    truth = owner.view()
    assert all(len(series) == 1 for series in truth.values()), "an item is of one series"
    told = {item for one in owner.said if isinstance(one, _Told) for item in one.items}
    again = data.draw(st.lists(st.sampled_from(owner.said), max_size=6)) if owner.said else []
    node = _Node()
    for message in data.draw(st.permutations([*owner.said, *again])):
        node.take(message)
    assert node.view() == {item: truth[item] for item in told}, "nothing lost, nothing wrong"


def _of(names: list[str], choice: object) -> str:
    assert isinstance(choice, int)
    return names[choice % len(names)]
