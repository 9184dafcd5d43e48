"""Known-good digests and their index: found like a set would, on both databases, whatever happened
to the index in between."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tieline_client.columns import of_records
from tieline_client.digests import EXACT_KINDS, DigestKind
from tieline_client.errors import StorageUnavailable
from tieline_client.formats.record import Record
from tieline_server.domain.ports import Rows, Store, Tx
from tieline_server.matching.matcher import Matcher
from tieline_server.storage import exclusion_feed
from tieline_server.storage.engine import open_store

from tests.storage.building import begin, complete, discard, md5, now, record, sha1, sha256

POOL = [str(number) for number in range(60)]
MADE = {DigestKind.MD5: md5, DigestKind.SHA1: sha1, DigestKind.SHA256: sha256}
Digest = tuple[DigestKind, bytes]


@contextmanager
def listing(url: str, folder: Path | None) -> Iterator[Store]:
    """Open a store whose index of known-good digests is kept in a folder."""
    with (
        closing(Matcher(None)) as items,
        closing(Matcher(folder)) as lists,
        closing(open_store(url, clock=now, matching=items, known_good=lists)) as store,
    ):
        store.index.refresh(wait=True)
        store.known_good.start()
        yield store


def rows_of(kind: DigestKind) -> Rows:
    packed = b"".join(map(MADE[kind], POOL))
    return np.frombuffer(packed, dtype=np.uint8).reshape(-1, kind.width)


def found(store: Store) -> set[Digest]:
    """Return the digests of the pool that are known good."""
    return {
        (kind, MADE[kind](POOL[at]))
        for kind in EXACT_KINDS
        for at in store.read(
            lambda tx, kind=kind: tx.imports.excluded(kind, rows_of(kind))  # type: ignore[misc]
        ).tolist()
    }


def stage(store: Store, key: str, records: list[Record]) -> int:
    return store.write(lambda tx: tx.imports.stage_exclusions(key, of_records(records))).new


def digests_of(records: list[Record]) -> set[Digest]:
    return {
        (kind, value)
        for one in records
        for kind in EXACT_KINDS
        if (value := getattr(one, kind.label)) is not None
    }


def remove(store: Store, key: str, limit: int, left: set[Digest]) -> None:
    """Take a list back; ``left`` is what the others name, at once and however far it is erased."""
    row = store.read(lambda tx: tx.imports.row(key))
    assert row is not None
    assert store.write(lambda tx: tx.imports.stop(row.no))
    assert not store.write(lambda tx: tx.imports.stop(row.no))
    while True:
        assert found(store) == left
        if not store.write(lambda tx: tx.erasure.import_holdings(row.no, limit)).more:
            break
    assert found(store) == left


def some_records(rng: random.Random) -> list[Record]:
    def digests() -> dict[str, Any]:
        return {kind.label: rng.choice(POOL) for kind in rng.sample(EXACT_KINDS, 2)}

    return [record(number, **digests()) for number in range(rng.randrange(1, 6))]


@pytest.mark.parametrize("seed", range(3))
def test_lookups_equal_sets_through_batches_discards_removals_merges_and_restarts(
    store_url: str, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    folder = tmp_path / "known-good"
    counted: dict[str, set[Digest]] = {}
    """What each list that counts stored: what others named already is theirs alone."""
    staged: dict[str, set[Digest]] = {}
    for _ in range(6):
        with listing(store_url, folder) as store:
            for _ in range(12):
                good = set().union(*counted.values())
                act = rng.choice([*["begin", "complete", "discard", "remove"], *["stage"] * 3])
                if act == "remove" and counted:
                    key = rng.choice(list(counted))
                    del counted[key]
                    remove(store, key, rng.choice([1, 100]), set().union(*counted.values()))
                    continue
                if act in ("begin", "remove") or not staged:
                    staged[begin(store, exclusions=True)] = set()
                    continue
                key = rng.choice(list(staged))
                if act == "stage":
                    records = some_records(rng)
                    known, new = good | staged[key], 0
                    for one in records:
                        new += not digests_of([one]) <= known
                        known = known | digests_of([one])
                    assert stage(store, key, records) == new
                    staged[key] |= digests_of(records) - good
                elif act == "complete":
                    complete(store, key)
                    counted[key] = staged.pop(key)
                    good |= counted[key]
                else:
                    discard(store, key, rng.choice([1, 100]))
                    del staged[key]
                assert found(store) == good
            good = set().union(*counted.values())
            assert store.read(lambda tx: tx.items.stats()).exclusions >= len(good)
            if rng.random() < 0.5:
                lists = store.known_good.index  # type: ignore[attr-defined]
                lists.merge(whole=rng.random() < 0.5)
        if rng.random() < 0.3:
            for path in folder.iterdir():
                content = bytearray(path.read_bytes())
                content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
                path.write_bytes(content)


def test_a_list_far_behind_is_caught_up_before_anything_is_asked(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listing(store_url, None) as store:
        key = begin(store, exclusions=True)
        for number in range(10):
            stage(store, key, [record(md5=str(number), sha1=str(number + 1))])
        complete(store, key)
        good = found(store)
    monkeypatch.setattr(exclusion_feed, "AT_ONCE", 3)
    monkeypatch.setattr(exclusion_feed, "PAGE", 4)
    monkeypatch.setattr(exclusion_feed, "PATIENCE_SECONDS", 0.01)
    with (
        closing(Matcher(None)) as lists,
        closing(open_store(store_url, clock=now, known_good=lists)) as store,
    ):
        feed = store.known_good
        with feed._lock:  # type: ignore[attr-defined]  # the catch-up in the background waits
            feed.start()
            with pytest.raises(StorageUnavailable, match="brought up to date"):
                found(store)
            assert not feed.purge(), "nor is it said that no file holds what was erased"
        feed._thread.join()  # type: ignore[attr-defined]
        assert found(store) == good
        assert feed.purge()
        assert lists.stats()["rows"]["sha1"] == 10  # rebuilt, in one piece


def test_a_discarded_list_is_forgotten_by_the_index(store_url: str) -> None:
    with listing(store_url, None) as store:
        key = begin(store, exclusions=True)
        stage(store, key, [record(md5="1", sha1="1")])
        lists = store.known_good.index  # type: ignore[attr-defined]
        assert len(lists.exact(DigestKind.MD5, rows_of(DigestKind.MD5)).item_ids) == 1
        discard(store, key, 100)
        assert len(lists.exact(DigestKind.MD5, rows_of(DigestKind.MD5)).item_ids) == 0
        lists.merge()
        assert not any(lists.stats()["rows"].values())


def test_no_file_of_the_index_holds_a_list_that_was_erased(store_url: str, tmp_path: Path) -> None:
    with listing(store_url, tmp_path / "known-good") as store:
        lists = store.known_good.index  # type: ignore[attr-defined]
        for number in range(2):
            key = begin(store, exclusions=True)
            stage(store, key, [record(md5=str(number)), record(sha1=str(number))])
            complete(store, key)
        lists.merge()
        assert (lists.stats()["rows"]["md5"], lists.stats()["rows"]["sha1"]) == (2, 2)
        remove(store, key, 1, {(DigestKind.MD5, md5("0")), (DigestKind.SHA1, sha1("0"))})
        store.known_good.purge()
        assert (lists.stats()["rows"]["md5"], lists.stats()["rows"]["sha1"]) == (1, 1)
        assert store.read(lambda tx: tx.items.stats()).exclusions == 2
        row = store.read(lambda tx: tx.imports.row(key))
        assert row is not None and row.stored == 0
    with listing(store_url, tmp_path / "known-good") as store:
        assert found(store) == {(DigestKind.MD5, md5("0")), (DigestKind.SHA1, sha1("0"))}


@pytest.mark.postgres
def test_two_processes_on_one_database_find_each_others_lists(postgres_url: str) -> None:
    with listing(postgres_url, None) as one, listing(postgres_url, None) as other:
        first, second = begin(one, exclusions=True), begin(other, exclusions=True)
        assert stage(one, first, [record(md5="1")]) == 1
        assert stage(other, second, [record(md5="1"), record(2, sha1="2")]) == 2
        assert found(one) == found(other) == set()
        complete(one, first)
        assert found(other) == found(one) == {(DigestKind.MD5, md5("1"))}
        assert stage(other, second, [record(md5="1", sha1="2")]) == 0
        complete(other, second)
        assert (
            found(one) == found(other) == {(DigestKind.MD5, md5("1")), (DigestKind.SHA1, sha1("2"))}
        )


def test_what_was_committed_is_said_to_be_though_no_thread_for_a_merge_can_be_had(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three writers meet, and the second brings digests: all return, and none hears an error."""
    start, errors = threading.Thread.start, list[Exception]()

    def none_left(self: threading.Thread) -> None:
        if self.name == "tieline-merge":
            raise RuntimeError("can't start new thread")  # as CPython says at the limit of tasks
        start(self)

    def write(work: Callable[[Tx], object]) -> threading.Thread:
        def run() -> None:
            try:
                store.write(work)
            except Exception as error:  # noqa: BLE001 - whatever they hear
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    with listing(store_url, None) as store:
        key = begin(store, exclusions=True)
        monkeypatch.setattr(Matcher, "merge_due", lambda self: True)
        monkeypatch.setattr(threading.Thread, "start", none_left)
        leads, go_on = threading.Event(), threading.Event()

        def hold_up(tx: Tx) -> None:
            leads.set()
            assert go_on.wait(120.0)

        columns = of_records([record(1, md5="1")])
        threads = [write(hold_up)]
        assert leads.wait(120.0)
        threads.append(write(lambda tx: tx.imports.stage_exclusions(key, columns)))
        threads.append(write(lambda tx: tx.meta.set("third", "yes")))
        go_on.set()
        for one in threads:
            one.join(120.0)
        assert [one.is_alive() for one in threads] == [False] * 3
        assert errors == []
        monkeypatch.undo()
        complete(store, key)
        assert found(store) == {(DigestKind.MD5, md5("1"))}
