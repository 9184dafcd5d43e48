"""Random histories of adding, erasing, merging, rebuilding and restarting, against a model."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tieline_client.digests import EXACT_KINDS, DigestKind
from tieline_server.domain.ports import HoldingSet
from tieline_server.matching import matcher as matchers
from tieline_server.matching import upkeep
from tieline_server.matching.compiled import I64, U8
from tieline_server.matching.matcher import Matcher

from tests.matching.brute import as_answers, exact_pairs, flipped, near_answers, random_digests

_RNG = np.random.default_rng(1)
_POOL = {kind: random_digests(_RNG, kind, 24) for kind in DigestKind}
_POOL[DigestKind.PDQ][8:] = flipped(
    _RNG, _POOL[DigestKind.PDQ][np.arange(16) % 8], _RNG.integers(0, 40, 16)
)
_SETS: list[HoldingSet] = [(), ((1, 0),), ((1, 0), (2, 7)), ((3, 1),)]
_PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 23)), min_size=1, max_size=12)


class History(RuleBasedStateMachine):
    """The model is the set of pairs; the log stands for storage's changes, one number each."""

    @initialize()
    def begin(self) -> None:
        self.walked = matchers._WALKED_ROWS
        matchers._WALKED_ROWS = 6  # so that small segments come and go
        self.folder = Path(tempfile.mkdtemp())
        self.matcher = Matcher(self.folder)
        self.model: set[tuple[DigestKind, int, int]] = set()
        self.held: dict[int, HoldingSet] = {}
        self.log: list[tuple[str, DigestKind, list[tuple[int, int]]]] = []

    def teardown(self) -> None:
        if hasattr(self, "matcher"):
            self.matcher.close()
            shutil.rmtree(self.folder)
            matchers._WALKED_ROWS = self.walked

    def apply(self, what: str, kind: DigestKind, pairs: list[tuple[int, int]]) -> None:
        ids = np.array([item for item, _ in pairs], dtype=np.int64)
        if what == "add":
            self.matcher.add(kind, ids, _POOL[kind][[at for _, at in pairs]])
        elif what == "hold":
            self.matcher.hold(ids, self.matcher.holding_numbers([_SETS[at] for _, at in pairs]))
        elif what == "restate":
            self.matcher.restate(ids, {kind: (ids, _POOL[kind][[at for _, at in pairs]])})
        else:
            self.matcher.erase(ids)

    def change(self, what: str, kind: DigestKind, pairs: list[tuple[int, int]]) -> None:
        self.log.append((what, kind, pairs))
        self.apply(what, kind, pairs)
        self.matcher.set_applied(len(self.log))
        if what == "add":
            self.model |= {(kind, item, at) for item, at in pairs}
        elif what == "hold":
            self.held |= {item: _SETS[at] for item, at in pairs}
        elif what == "restate":
            gone = {item for item, _ in pairs}
            self.model = {entry for entry in self.model if entry[1] not in gone}
            self.model |= {(kind, item, at) for item, at in pairs}
        else:
            gone = {item for item, _ in pairs}
            self.held |= dict.fromkeys(gone, ())
            self.model = {entry for entry in self.model if entry[1] not in gone}

    @rule(kind=st.sampled_from(DigestKind), pairs=_PAIRS)
    def add(self, kind: DigestKind, pairs: list[tuple[int, int]]) -> None:
        self.change("add", kind, pairs)

    @rule(kind=st.sampled_from(DigestKind), pairs=_PAIRS)
    def restate(self, kind: DigestKind, pairs: list[tuple[int, int]]) -> None:
        self.change("restate", kind, pairs)

    @rule(ids=st.lists(st.integers(0, 12), min_size=1, max_size=4))
    def erase(self, ids: list[int]) -> None:
        self.change("erase", DigestKind.MD5, [(item, 0) for item in ids])

    @rule(pairs=st.lists(st.tuples(st.integers(0, 90_000), st.integers(0, 3)), max_size=6))
    def hold(self, pairs: list[tuple[int, int]]) -> None:
        self.change("hold", DigestKind.MD5, pairs)

    @rule()
    def merge_some(self) -> None:
        self.matcher.merge(whole=False)
        assert not any(self.matcher.stats()["pending"].values())

    @rule()
    def merge(self) -> None:
        self.matcher.merge()
        stats = self.matcher.stats()
        assert sum(stats["rows"].values()) == len(self.model)
        assert not any(stats["pending"].values())
        assert stats["erased"] == 0

    @rule(settle=st.booleans())
    def restart(self, settle: bool) -> None:
        self.matcher.close(settle=settle)
        self.matcher = Matcher.open(self.folder)
        for number, change in enumerate(self.log, 1):
            if number > self.matcher.applied:
                self.apply(*change)
                self.matcher.set_applied(number)

    @rule()
    def rebuild(self) -> None:
        def source() -> Iterator[tuple[DigestKind, I64, U8]]:
            ids = np.array(list(self.held), dtype=np.int64)
            self.matcher.hold(ids, self.matcher.holding_numbers(self.held.values()))
            for kind, item, at in self.model:
                yield kind, np.array([item], dtype=np.int64), _POOL[kind][[at]]

        self.matcher.rebuild(source(), len(self.log))

    @invariant()
    def answers_equal_the_model(self) -> None:
        if not hasattr(self, "model"):
            return
        items = np.array([-1, 10**9, *range(13), *self.held], dtype=np.int64)
        held_as = [self.matcher.holding_set(n) for n in self.matcher.holdings(items).tolist()]
        assert held_as == [self.held.get(item, ()) for item in items.tolist()]
        for series in (7, 1, 99):
            held_so = [no for one in self.held.values() for no, named in one if named == series]
            assert set(held_so) <= self.matcher.imports_of(series)
            for imports in ({1, 2}, {3}, {2, 3}):
                expected = sum(no in imports for no in held_so)  # no set names a series twice
                assert self.matcher.count_of(series, imports) == expected
        for kind in EXACT_KINDS:
            held = [(item, _POOL[kind][at].tobytes()) for k, item, at in self.model if k is kind]
            hits = self.matcher.exact(kind, _POOL[kind])
            found = list(zip(hits.positions.tolist(), hits.item_ids.tolist(), strict=True))
            assert found == exact_pairs(held, _POOL[kind])
        pdq = _POOL[DigestKind.PDQ]
        entries = [(item, at) for kind, item, at in self.model if kind is DigestKind.PDQ]
        ids = np.array([item for item, _ in entries], dtype=np.int64)
        rows = pdq[[at for _, at in entries]] if entries else pdq[:0]
        assert as_answers(self.matcher.near(pdq, cap=5)) == near_answers(ids, rows, pdq, cap=5)


TestHistory = History.TestCase
TestHistory.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_erased_vanishes_at_once_and_comes_back_only_with_what_is_added_again() -> None:
    rng = np.random.default_rng(2)
    kind = DigestKind.SHA1
    digests, ids = random_digests(rng, kind, 100), np.arange(100)
    matcher = Matcher(None)
    matcher.add(kind, ids, digests)
    matcher.merge()
    matcher.erase(ids[:50])
    assert matcher.exact(kind, digests).item_ids.tolist() == list(range(50, 100))
    matcher.add(kind, ids[:10], digests[50:60])
    expected = sorted([*range(50, 100), *range(10)])
    for _ in range(2):
        hits = matcher.exact(kind, digests)
        assert sorted(hits.item_ids.tolist()) == expected
        assert hits.positions.min() == 50
        matcher.merge()
    matcher.close()


def test_readers_see_every_stable_digest_while_everything_changes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    kind = DigestKind.SHA1
    stable, coming = random_digests(rng, kind, 2_000), random_digests(rng, kind, 20_000)
    near = random_digests(rng, DigestKind.PDQ, 2_000)
    matcher = Matcher(tmp_path)
    matcher.add(kind, np.arange(2_000), stable)
    matcher.add(DigestKind.PDQ, np.arange(2_000), near)
    asked = np.concatenate([stable, coming])
    done, wrong = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            hits = matcher.exact(kind, asked)
            if hits.positions[:2_000].tolist() != list(range(2_000)) or not np.array_equal(
                hits.positions, hits.item_ids
            ):
                wrong.append("exact")
            found = matcher.near(near[:64])
            if found.item_ids.tolist() != list(range(64)):
                wrong.append("near")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for start in range(0, 20_000, 500):
            ids = np.arange(start, start + 500)
            matcher.add(kind, ids + 2_000, coming[ids])
            fresh = random_digests(rng, DigestKind.PDQ, 500)
            matcher.add(DigestKind.PDQ, ids + 2_000, fresh)
            mine = matcher.exact(kind, coming[ids])
            assert mine.item_ids.tolist() == (ids + 2_000).tolist()  # read your own writes
            if start % 4_000 == 0:
                matcher.merge()
            if start % 3_000 == 0:
                matcher.erase(ids + 2_000)
                assert len(matcher.exact(kind, coming[ids]).item_ids) == 0
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert not wrong
    matcher.close()


def test_a_merge_runs_in_the_background_when_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_DUE_LEAST", 100)
    rng = np.random.default_rng(4)
    matcher = Matcher(tmp_path)
    matcher.add(DigestKind.MD5, np.arange(99), random_digests(rng, DigestKind.MD5, 99))
    assert not matcher.merge_if_due()
    matcher.add(DigestKind.MD5, np.array([200]), random_digests(rng, DigestKind.MD5, 1))
    matcher.set_applied(5)
    assert matcher.merge_if_due()
    assert matcher._background is not None
    matcher._background.join()
    assert matcher.stats()["snapshot_applied"] == 5
    assert matcher.stats()["merge_failure"] is None
    assert not matcher.merge_if_due()
    matcher.close()


def test_a_merge_for_which_no_thread_can_be_had_is_none_to_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    matcher = Matcher(None)
    with monkeypatch.context() as patch:
        patch.setattr(matcher, "merge_due", lambda: True)
        patch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError):
            matcher.merge_if_due()
    matcher.wait_for_room()
    matcher.close()
