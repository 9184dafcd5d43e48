"""Which item a record is: random imports against an oracle that merges at once, in plain Python."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import example as known
from hypothesis import strategies as st
from tieline_client.columns import of_records
from tieline_client.digests import DigestKind
from tieline_client.formats.record import Record
from tieline_client.identifiers import new_series_id
from tieline_server.domain.ports import Store

from tests.storage.building import answered_pairs, begin, complete, discard, record, stage, visible

Names = dict[str, str]
EXACT = ("md5", "sha1", "sha256")
KINDS = (*EXACT, "pdq")


@dataclass(eq=False)
class OracleItem:
    """One item: what it is called by each kind, and the series (one a record) that it holds."""

    names: Names
    perceptual: bool
    series: set[str] = field(default_factory=set)


class Oracle:
    """The rules of resolve.py, one record after another, with nothing clever."""

    def __init__(self) -> None:
        self.items: list[OracleItem] = []

    def take(self, names: Names, series: str) -> None:
        perceptual = not any(kind in names for kind in EXACT)
        kinds = ("pdq",) if perceptual else EXACT
        stated = {k: v for k, v in names.items() if k in kinds}
        alike = [
            item
            for item in self.items
            if item.perceptual == perceptual
            and any(item.names.get(k) == v for k, v in stated.items())
            and all(item.names.get(k, v) == v for k, v in stated.items())
        ]
        strong = [
            item
            for item in alike
            if any(item.names.get(k) == v for k, v in stated.items() if k != "md5")
        ]
        chosen: list[OracleItem] = []
        for group in (alike, strong):
            if group and not chosen and self._one([stated, *(i.names for i in group)], kinds):
                chosen = group
        if not chosen:
            chosen = [i for i in alike if stated.items() <= i.names.items()][:1]
        if not chosen:
            chosen = [OracleItem({}, perceptual)]
            self.items.append(chosen[0])
        base = chosen[0]
        for other in chosen[1:]:
            base.names = other.names | base.names
            base.series |= other.series
            self.items.remove(other)
        base.names = names | base.names
        base.series.add(series)

    @staticmethod
    def _one(all_names: list[Names], kinds: tuple[str, ...]) -> bool:
        return all(len({n[k] for n in all_names if k in n}) < 2 for k in kinds)

    def state(self, example: int) -> set[tuple[object, ...]]:
        made = [(item.series, make(item.names, example)) for item in self.items]
        return {(frozenset(series), m.md5, m.sha1, m.sha256, m.pdq) for series, m in made}


def make(names: Names, example: int) -> Record:
    """Return a record whose digests belong to this example alone."""
    fields: dict[str, Any] = {kind: f"{example}/{name}" for kind, name in names.items()}
    return record(**fields)


def stored_state(store: Store, series: list[str]) -> set[tuple[object, ...]]:
    """Return what the store holds in the oracle's terms."""
    by_item: dict[int, set[str]] = {}
    digests: dict[int, tuple[object, ...]] = {}
    for one in series:
        for row in store.read(lambda tx, s=one: tx.items.of_series(s, after=0, limit=99)):  # type: ignore[misc]
            by_item.setdefault(row.id, set()).add(one)
            digests[row.id] = (row.md5, row.sha1, row.sha256, row.pdq)
    return {(frozenset(by_item[item]), *digests[item]) for item in by_item}


def last_item(store: Store) -> int:
    """Return the highest number of an item that is visible by any of its digests, or 0."""
    return max((max(visible(store, kind, 10_000), default=0) for kind in DigestKind), default=0)


def check_index(store: Store, example: int, after: int) -> None:
    """What the index finds of this example is what is visible of it, kind by kind.

    Its items come behind ``after``; those of other examples are not paged through again.
    PDQ only describes an item: where two imports state two, both are found.
    """
    for kind in DigestKind:
        stated = {getattr(make({kind.label: n}, example), kind.label) for n in NAMES}
        shown = visible(store, kind, page_size=2, after=after)
        seen = {pair for pair in shown.items() if pair[1] in stated}
        found = answered_pairs(store, kind, stated)
        if kind is DigestKind.PDQ:
            assert {item for item, _ in found} == {item for item, _ in seen}
            assert found >= seen
        else:
            assert found == seen


NAMES = "abc"
name = st.sampled_from(NAMES)
record_names = st.dictionaries(st.sampled_from(KINDS), name, min_size=1)
batch = st.tuples(st.booleans(), st.lists(record_names, min_size=1, max_size=5))
"""Whether it is staged as columns, and its records."""
batches = st.lists(batch, min_size=1, max_size=3)
imports = st.lists(st.tuples(st.booleans(), batches), min_size=1, max_size=4)
EXAMPLES = itertools.count()
"""Each example has digests of its own, so that all can share one store."""

FILLED_IN_TWICE: list[tuple[Names, int]] = [
    ({"sha1": "a", "sha256": "c", "md5": "b", "pdq": "a"}, 2),
    ({"sha256": "a"}, 0),
    ({"pdq": "a", "md5": "a"}, 1),
    ({"md5": "b", "pdq": "b", "sha1": "b", "sha256": "a"}, 0),
    ({"md5": "c"}, 2),
    ({"sha1": "b", "pdq": "b", "md5": "a", "sha256": "b"}, 2),
    ({"md5": "a", "sha1": "c", "pdq": "a", "sha256": "a"}, 2),
    ({"sha1": "a"}, 0),
    ({"md5": "b", "pdq": "b", "sha1": "b", "sha256": "a"}, 0),
    ({"sha1": "b", "pdq": "b", "md5": "a", "sha256": "b"}, 0),
    ({"sha256": "b"}, 2),
    ({"sha1": "c", "pdq": "b", "md5": "c", "sha256": "a"}, 2),
]
"""Two imports fill in the same item: a page of digests once passed over the item after it."""

quick = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def stage_as_columns(store: Store, key: str, records: list[Record], series: list[str]) -> None:
    named = [replace(one, series=name) for one, name in zip(records, series, strict=True)]
    columns = of_records(named)
    store.write(lambda tx: tx.imports.stage_columns(key, columns, columns.series_names, "pt-pj"))


@quick
@given(plan=imports)
def test_imports_one_after_another_match_the_oracle(
    store: Store, plan: list[tuple[bool, list[tuple[bool, list[Names]]]]]
) -> None:
    oracle, all_series, example = Oracle(), [], next(EXAMPLES)
    before, first = store.read(lambda tx: tx.items.stats()), last_item(store)
    for kept, staged in plan:
        key = begin(store)
        for as_columns, rows in staged:
            given_series = [new_series_id("pt-pj") for _ in rows]
            records = [make(names, example) for names in rows]
            if as_columns:
                stage_as_columns(store, key, records, given_series)
            else:
                store.write(lambda tx: tx.imports.stage(key, records, given_series, "pt-pj"))  # noqa: B023
            all_series += given_series
            if kept:
                for names, one in zip(rows, given_series, strict=True):
                    oracle.take(names, one)
        if kept:
            complete(store, key)
        else:
            discard(store, key, limit=3)
        assert stored_state(store, all_series) == oracle.state(example)
        check_index(store, example, first)
    after = store.read(lambda tx: tx.items.stats())
    assert after.items - before.items == len(oracle.items)
    assert after.holdings - before.holdings == sum(len(i.series) for i in oracle.items)
    for kind in KINDS:
        grown = after.by_kind[kind] - before.by_kind[kind]
        assert grown == sum(kind in i.names for i in oracle.items)


@quick
@given(plan=st.lists(st.tuples(record_names, st.integers(0, 2)), min_size=1, max_size=12),
       fates=st.tuples(st.booleans(), st.booleans(), st.booleans()),
       order=st.permutations([0, 1, 2]))  # fmt: skip
@known(plan=FILLED_IN_TWICE, fates=(True, True, True), order=[0, 2, 1])
def test_interleaved_imports_lose_no_digest_and_contradict_none(
    store: Store,
    plan: list[tuple[Names, int]],
    fates: tuple[bool, bool, bool],
    order: list[int],
) -> None:
    example, first = next(EXAMPLES), last_item(store)
    keys = [begin(store) for _ in range(3)]
    told: list[tuple[Record, int, str]] = []
    for names, which in plan:
        series = new_series_id("pt-pj")
        told.append((make(names, example), which, series))
        stage(store, keys[which], [told[-1][0]], series)
    for which in order:
        if fates[which]:
            complete(store, keys[which])
        else:
            discard(store, keys[which], limit=2)
        check_index(store, example, first)
    rows = {
        series: store.read(lambda tx, s=series: tx.items.of_series(s, after=0, limit=9))  # type: ignore[misc]
        for _, _, series in told
    }
    stated: set[tuple[str, bytes]] = set()
    for one, which, series in told:
        if not fates[which]:
            assert rows[series] == []
            continue
        (row,) = rows[series]
        for kind in EXACT:
            digest = getattr(one, kind)
            assert digest is None or getattr(row, kind) == digest
            stated |= {(kind, digest)} if digest is not None else set()
    seen = {
        (kind, getattr(row, kind)) for found in rows.values() for row in found for kind in EXACT
    }
    assert {pair for pair in seen if pair[1] is not None} == stated
