"""The index follows the database: across restarts, groups, processes, damage and failures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tieline_client.columns import of_records
from tieline_client.digests import DigestKind
from tieline_client.errors import StorageUnavailable
from tieline_client.identifiers import new_series_id
from tieline_server.domain.ports import Store, Tx
from tieline_server.matching.matcher import Matcher
from tieline_server.storage.engine import open_store
from tieline_server.storage.index_feed import AT_ONCE

from tests.postgres import PostgresCluster
from tests.storage.building import (
    answered,
    begin,
    complete,
    discard,
    load,
    md5,
    now,
    opened,
    record,
    sha1,
    stage,
    visible,
)

MD5 = DigestKind.MD5
SERIES = new_series_id("pt-pj")


def found(store: Store, names: str) -> set[bytes]:
    """Return which of these the index answers at this moment, without catching up first."""
    wanted = {md5(name) for name in names}
    matching = store.index.matching  # type: ignore[attr-defined]
    hits = [matching.exact(MD5, _row(value)).item_ids for value in sorted(wanted)]
    held = [
        bool(len(ids)) and matching.holding_set(int(matching.holdings(ids)[0])) != ()
        for ids in hits
    ]
    return {value for value, is_held in zip(sorted(wanted), held, strict=True) if is_held}


def _row(value: bytes) -> Any:
    return np.frombuffer(value, dtype=np.uint8).reshape(1, -1)


def test_a_node_that_starts_answers_from_its_snapshot_and_says_how_old_it_is(
    store_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "indexes"
    with ExitStack() as stack:
        matching = stack.enter_context(closing(Matcher(folder)))
        store = stack.enter_context(closing(open_store(store_url, clock=now, matching=matching)))
        load(store, [record(1, md5="a"), record(2, md5="b")], SERIES)
        assert set(answered(store, MD5, map(md5, "ab")).values()) == {md5("a"), md5("b")}
        matching.merge()
    with opened(store_url) as store:
        for number in range(AT_ONCE + 5):
            load(store, [record(md5=f"later {number}")])
        load(store, [record(md5="c")])
        ids = {value: item for item, value in visible(store, MD5).items()}
        store.write(lambda tx: tx.items.erase_items([ids[md5("a")]]))
    with ExitStack() as stack:
        matching = stack.enter_context(closing(Matcher(folder)))
        store = stack.enter_context(closing(open_store(store_url, clock=now, matching=matching)))
        feed: Any = store.index
        with feed._lock:  # the catch-up in the background waits
            store.index.start()
            assert store.index.refresh() == store.index.reflected() == 1
            assert store.index.stored() == AT_ONCE + 8
            assert found(store, "abc") == {md5("b")}
            with pytest.raises(StorageUnavailable, match="brought up to date"):
                load(store, [record(md5="d")])
        assert store.index.refresh(wait=True) == AT_ONCE + 8
        assert found(store, "abc") == {md5("b"), md5("c")}
        load(store, [record(md5="d")])
        assert found(store, "abcd") == {md5("b"), md5("c"), md5("d")}


def test_a_lost_index_is_rebuilt_before_anything_is_staged_or_answered(store_url: str) -> None:
    with opened(store_url) as store:
        for number in range(AT_ONCE + 1):
            load(store, [record(md5=f"{number}", sha1=f"{number}")], SERIES)
        load(store, [record(md5="0", sha256="0")])  # a fill
    with ExitStack() as stack:
        matching = stack.enter_context(closing(Matcher(None)))
        store = stack.enter_context(closing(open_store(store_url, clock=now, matching=matching)))
        feed: Any = store.index
        with feed._lock:
            store.index.start()
            with pytest.raises(StorageUnavailable):
                begin_and_stage(store)
            with pytest.raises(StorageUnavailable, match="node status"):
                store.index.refresh()
        assert store.index.refresh(wait=True) == AT_ONCE + 2
        counts = begin_and_stage(store)
        assert (counts.new, counts.known) == (0, 1)
        for kind in DigestKind:
            seen = visible(store, kind)
            assert answered(store, kind, [*seen.values(), b"\x01" * kind.width]) == seen


def begin_and_stage(store: Store) -> Any:
    return stage(store, begin(store), [record(md5="1")])


def test_works_that_share_a_commit_see_each_others_items(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/database.sqlite3") as store:
        keys = [begin(store) for _ in range(3)]

        def staging(key: str, *, fails: bool = False) -> Callable[[Tx], Any]:
            def work(tx: Tx) -> Any:
                name = "lost" if fails else "x"
                counts = tx.imports.stage(key, [record(md5=name)], [None], "pt-pj")
                if fails:
                    raise ZeroDivisionError
                return counts

            return work

        works = [staging(keys[0], fails=True), staging(keys[1]), staging(keys[2])]
        results = run_as_group(store, works)
        assert isinstance(results[0], ZeroDivisionError)
        assert sorted((one.new, one.known) for one in results[1:]) == [(0, 1), (1, 0)]
        for key in keys:
            complete(store, key)
        assert list(answered(store, MD5, [md5("x"), md5("lost")]).values()) == [md5("x")]
        assert store.read(lambda tx: tx.items.stats()).items == 1


def run_as_group(store: Store, works: list[Callable[[Tx], Any]]) -> list[Any]:
    """Run works behind one that holds the writer, in their order, so that they share a commit."""
    gate, running = threading.Event(), threading.Event()
    results: list[Any] = [None] * len(works)
    waiting: Any = store._turns  # type: ignore[attr-defined]

    def hold(_: Tx) -> None:
        running.set()
        assert gate.wait(120)

    def run(place: int) -> None:
        try:
            results[place] = store.write(works[place])
        except Exception as error:  # noqa: BLE001 - it is what the caller got
            results[place] = error

    first = threading.Thread(target=lambda: store.write(hold))
    first.start()
    assert running.wait(120)
    threads = []
    for place in range(len(works)):
        before = len(waiting)
        threads.append(threading.Thread(target=run, args=(place,)))
        threads[-1].start()
        while len(waiting) == before:
            threading.Event().wait(0.001)
    gate.set()
    for thread in [first, *threads]:
        thread.join()
    return results


def test_what_the_index_was_not_told_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit stands although the index fails: memory may be short for a moment."""
    with opened(f"sqlite:///{tmp_path}/database.sqlite3") as store:
        key = begin(store)
        with monkeypatch.context() as patch:
            patch.setattr(Matcher, "add", _no_memory)
            stage(store, key, [record(md5="a")])
            assert store.index.failure == "no memory"
        counts = stage(store, key, [record(md5="a"), record(2, md5="b")])
        assert (counts.new, counts.known) == (1, 1)
        complete(store, key)
        assert len(answered(store, MD5, [md5("a"), md5("b")])) == 2


def _no_memory(*_: object) -> None:
    raise MemoryError("no memory")


@pytest.mark.parametrize("way", ["records", "columns"])
def test_a_discarded_import_leaves_the_index_as_it_was(store: Store, way: str) -> None:
    load(store, [record(md5="a"), record(2, md5="b", sha1="b")], SERIES)
    key = begin(store)
    records = [record(1, md5="a", sha1="a"), record(2, md5="c"), record(3, md5="b")]
    if way == "columns":
        columns = of_records(records)
        store.write(lambda tx: tx.imports.stage_columns(key, columns, (), "pt-pj"))
    else:
        stage(store, key, records)
    assert set(answered(store, MD5, map(md5, "abc")).values()) == {md5("a"), md5("b")}
    discard(store, key, limit=1)
    store.index.refresh(wait=True)
    assert found(store, "abc") == {md5("a"), md5("b")}
    assert visible(store, MD5) == answered(store, MD5, map(md5, "abc"))
    counts = stage(store, begin(store), [record(md5="c"), record(2, sha1="a")])
    assert (counts.new, counts.known) == (2, 0)


@pytest.mark.postgres
def test_processes_that_share_a_database_agree_on_what_one_item_is(
    postgres_cluster: PostgresCluster, postgres_url: str
) -> None:
    with opened(postgres_url) as one, opened(postgres_url) as other:
        for number in range(6):
            mine, theirs = (one, other) if number % 2 else (other, one)
            load(mine, [record(md5=f"{number}"), record(2, md5="both")], case=f"C-{number}")
            counts = stage(theirs, begin(theirs), [record(md5=f"{number}"), record(2, md5="both")])
            assert (counts.new, counts.known) == (0, 2)
        names = [md5("both"), *(md5(f"{number}") for number in range(6))]
        assert answered(one, MD5, names) == answered(other, MD5, names) == visible(one, MD5)
        assert len(visible(one, MD5)) == 7


def test_what_is_committed_while_somebody_sees_nothing_new_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A catch-up is at its end, so nobody is told of the commit; who looked just before says that
    the index has all."""
    with opened(f"sqlite:///{tmp_path}/database.sqlite3") as store:
        load(store, [record(md5="a")])
        key = begin(store)
        stage(store, key, [record(md5="b")])
        feed: Any = store.index
        feed._told = -1
        looks: list[int] = []

        def look() -> int:
            found: int = behind()
            looks.append(found)
            if len(looks) == 2:
                feed._thread = threading.current_thread()
                complete(store, key)
                feed._thread = None
            return found

        behind = feed._behind
        monkeypatch.setattr(feed, "_behind", look)
        store.index.refresh()
        assert len(looks) >= 2
        assert store.index.refresh() == store.index.stored()


@pytest.mark.parametrize("way", ["discarded", "united"])
def test_what_stays_held_is_found_at_every_moment(
    store: Store, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A question that comes while the index is told of a change finds what is held before and
    after it."""
    load(store, [record(1, md5="a"), record(2, sha1="b")], SERIES)
    key = begin(store, case="another")
    stage(store, key, [record(md5="a", sha1="b")] if way == "united" else [record(md5="a")])
    feed: Any = store.index
    matching = feed.matching
    missing: list[str] = []
    asked = [(MD5, md5("a")), (DigestKind.SHA1, sha1("b"))]

    def look_after(name: str) -> None:
        told = getattr(matching, name)

        def tell(*arguments: Any) -> Any:
            result = told(*arguments)
            for kind, value in asked:
                ids = matching.exact(kind, _row(value)).item_ids
                if not any(matching.holding_set(n) for n in matching.holdings(ids).tolist()):
                    missing.append(f"{kind.label} after {name}")
            return result

        monkeypatch.setattr(matching, name, tell)

    for name in ("add", "erase", "restate", "hold"):
        look_after(name)
    if way == "united":
        complete(store, key)
    else:
        discard(store, key)
    store.index.refresh(wait=True)
    assert missing == []
    assert set(answered(store, MD5, [md5("a")]).values()) == {md5("a")}
