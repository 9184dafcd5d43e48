"""Witnesses, holds, sketches, and entries by a word: one contract, on either database."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import pytest
from tieline_client.audit_search import Search
from tieline_client.checkpoints import Checkpoint, Countersignature
from tieline_client.identifiers import new_id
from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.log_retention import Hold
from tieline_server.domain.ports import AnsweredQuery, Store, Tx
from tieline_server.domain.ports.sketches import AskedSketch
from tieline_server.domain.witness import Equivocation, Finding
from tieline_server.storage.witness import DOUBTS_PER_AGENCY

from tests.storage.building import NOON

DAY = timedelta(days=1)


def head(agency: str = "es-pn", size: int = 3, *, age: timedelta = timedelta(0)) -> Checkpoint:
    return Checkpoint(agency, size, bytes([size % 256]) * 32, "e" * 32, NOON + age, new_id(), b"e")


def by(witness: str, size: int, *, age: timedelta = timedelta(0)) -> Countersignature:
    return Countersignature(witness, "pt-pj", size, b"r" * 32, b"d" * 32, NOON + age, b"e")


def proof(kind: Finding = Finding.FORK, *, epoch: str = "e" * 32) -> Equivocation:
    return Equivocation(
        id=new_id(),
        agency="es-pn",
        kind=kind,
        epoch=epoch,
        first=b"one",
        second=b"two",
        source="fr-of",
        found=NOON,
        why="two roots of one size",
    )


# --- checkpoints of peers -------------------------------------------------------------------------


def test_of_each_day_the_last_head_stays(store: Store) -> None:
    heads = [head(size=1), head(size=2), head(size=3, age=DAY)]
    for one, at in zip(heads, (NOON, NOON + DAY / 4, NOON + DAY), strict=True):
        store.write(lambda tx, one=one, at=at: tx.witness.follow(one, at))  # type: ignore[misc]
    assert store.read(lambda tx: tx.witness.head("es-pn")) == heads[2]
    assert store.read(lambda tx: tx.witness.head("fr-of")) is None
    other = head("fr-of", 9)
    store.write(lambda tx: tx.witness.follow(other, NOON + DAY))
    assert list(store.read(lambda tx: tx.witness.heads("pt-pj", 10))) == [other, heads[2]]
    assert list(store.read(lambda tx: tx.witness.heads("fr-of", 10))) == [heads[2]]
    assert list(store.read(lambda tx: tx.witness.heads("pt-pj", 1))) == [other]


def test_a_doubt_is_kept_once_and_ends_either_way(store: Store) -> None:
    true, false = head(size=4), head(size=5)
    for one in (true, false):
        assert store.write(lambda tx, one=one: tx.witness.doubt(one, NOON))  # type: ignore[misc]
    assert not store.write(lambda tx: tx.witness.doubt(true, NOON))
    assert store.read(lambda tx: tx.witness.head("es-pn")) is None, "a doubt is no head"
    assert list(store.read(lambda tx: tx.witness.doubted("es-pn"))) == [true, false]

    def settle(tx: Tx) -> None:
        tx.witness.settle(true, holds=True)
        tx.witness.settle(false, holds=False)

    store.write(settle)
    assert not store.read(lambda tx: tx.witness.doubted("es-pn"))
    assert not store.write(lambda tx: tx.witness.doubt(false, NOON)), "it is refuted already"
    assert store.write(lambda tx: tx.witness.doubt(true, NOON)), "what held is not remembered"


def test_an_agency_cannot_fill_the_table_with_doubts(store: Store) -> None:
    def work(tx: Tx) -> list[bool]:
        return [tx.witness.doubt(head(size=n), NOON) for n in range(DOUBTS_PER_AGENCY + 2)]

    assert store.write(work) == [True] * DOUBTS_PER_AGENCY + [False] * 2
    assert store.write(lambda tx: tx.witness.doubt(head("fr-of"), NOON)), "others still can"


# --- countersignatures and proofs -----------------------------------------------------------------


def test_of_each_day_and_witness_the_last_countersignature_stays(store: Store) -> None:
    told = [by("es-pn", 1), by("fr-of", 1), by("es-pn", 2, age=DAY / 4), by("es-pn", 3, age=DAY)]
    for one in told:
        store.write(lambda tx, one=one: tx.witness.countersigned(one))  # type: ignore[misc]
    assert list(store.read(lambda tx: tx.witness.countersignatures())) == told[1:]


def test_the_same_head_may_be_countersigned_again(store: Store) -> None:
    """A log that stood still: the newer signature takes the older one's place."""
    store.write(lambda tx: tx.witness.countersigned(by("es-pn", 1)))
    later = by("es-pn", 1, age=DAY)
    store.write(lambda tx: tx.witness.countersigned(later))
    assert list(store.read(lambda tx: tx.witness.countersignatures())) == [later]


def test_one_proof_of_an_epoch_is_kept_and_a_restore_beside_it(store: Store) -> None:
    first = proof()
    assert store.write(lambda tx: tx.witness.accuse(first))
    assert not store.write(lambda tx: tx.witness.accuse(proof()))
    restored = replace(proof(Finding.RESTORED), found=NOON + DAY)
    assert store.write(lambda tx: tx.witness.accuse(restored))
    assert not store.write(lambda tx: tx.witness.accuse(proof(Finding.RESTORED)))
    other = replace(proof(epoch="f" * 32), found=NOON + 2 * DAY)
    assert store.write(lambda tx: tx.witness.accuse(other))
    assert list(store.read(lambda tx: tx.witness.equivocations())) == [first, restored, other]


def test_nothing_of_a_transaction_that_fails_stays(store: Store) -> None:
    def work(tx: Tx) -> None:
        tx.witness.follow(head(), NOON)
        tx.witness.countersigned(by("es-pn", 1))
        tx.witness.accuse(proof())
        tx.holds.add(Hold(new_id(), "why", "", "", "", "dora", NOON))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.write(work)
    left = store.read(
        lambda tx: (
            tx.witness.head("es-pn"),
            list(tx.witness.countersignatures()),
            list(tx.witness.equivocations()),
            list(tx.holds.find()),
        )
    )
    assert left == (None, [], [], [])


# --- holds and sketches ---------------------------------------------------------------------------


def test_holds_come_back_by_time_and_end_once(store: Store) -> None:
    later = Hold(new_id(), "DPA 7/26", "C-1", "ana", "es-pn", "dora", NOON + DAY)
    first = Hold(new_id(), "court", "", "", "", "dora", NOON)
    for one in (later, first):
        store.write(lambda tx, one=one: tx.holds.add(one))  # type: ignore[misc]
    assert list(store.read(lambda tx: tx.holds.find())) == [first, later]
    assert store.write(lambda tx: tx.holds.remove(first.id))
    assert not store.write(lambda tx: tx.holds.remove(first.id))
    assert list(store.read(lambda tx: tx.holds.find())) == [later]


def test_sketches_come_back_newest_first_and_are_erased_by_time(store: Store) -> None:
    made = [
        AskedSketch("es-pn", f"q{n}", "ana", "deconfliction", n, bytes([n]) * 64, NOON + n * DAY)
        for n in range(4)
    ]
    for one in (*made, replace(made[0], peer="fr-of")):
        store.write(lambda tx, one=one: tx.sketches.put(one))  # type: ignore[misc]
    again = replace(made[1], records=77)
    store.write(lambda tx: tx.sketches.put(again))
    query = AnsweredQuery(
        *("q2", "es-pn", "ana", "deconfliction", "C-2", b"\x01" * 32, b"header", 2, 0),
        *(b"receipt", NOON),
    )
    for agency in ("es-pn", "fr-of"):
        answered = replace(query, peer=agency, case_ref=query.case_ref + agency)
        store.write(lambda tx, one=answered: tx.queries.finish(one))  # type: ignore[misc]
    recent = store.read(lambda tx: tx.sketches.recent("es-pn", NOON + DAY, 10))
    cases = ["", "C-2es-pn", ""]
    assert list(recent) == list(zip((made[3], made[2], again), cases, strict=True))
    (newest,) = store.read(lambda tx: tx.sketches.recent("es-pn", NOON, 1))
    assert newest.asked == made[3]
    assert store.read(lambda tx: tx.sketches.any_before(NOON + DAY))
    assert store.write(lambda tx: tx.sketches.erase_before(NOON + DAY)) == 2
    assert not store.read(lambda tx: tx.sketches.any_before(NOON + DAY))


# --- entries by a word ----------------------------------------------------------------------------


def settled(store: Store, size: int) -> None:
    """Wait until the entries have their positions: on PostgreSQL another thread gives them."""
    deadline = time.monotonic() + 120
    while store.read(lambda tx: tx.audit.size()) < size:
        assert time.monotonic() < deadline, "entries got no position"
        time.sleep(0.01)


def _entry(number: int, person: str = "") -> AuditEntry:
    return AuditEntry(
        f"action-{number}", NOON, "pt-pj", person=person, subjects=(f"series-{number}",)
    )


def test_entries_are_found_by_a_word_oldest_first(store: Store) -> None:
    for number in range(12):
        entry = _entry(number, person="ana" if number % 2 else "Zoë")
        store.write(lambda tx, one=entry: tx.audit.append(one))  # type: ignore[misc]
    settled(store, 12)
    found = store.read(lambda tx: tx.audit.mentioning("series-1", 10))
    assert [json.loads(one.leaf)["action"] for one in found] == [
        "action-1",
        "action-10",
        "action-11",
    ]
    assert [one.position for one in found] == [1, 10, 11]
    assert len(store.read(lambda tx: tx.audit.mentioning("series-1", 2))) == 2
    assert not store.read(lambda tx: tx.audit.mentioning("series-%", 10)), "no pattern"
    store.write(lambda tx: tx.audit.erase(10, 10))
    assert [one.position for one in store.read(lambda tx: tx.audit.mentioning("series-1", 9))] == [
        1,
        11,
    ]


def test_an_erased_entry_keeps_its_hash_and_the_root(store: Store) -> None:
    for number in range(5):
        entry = _entry(number)
        store.write(lambda tx, one=entry: tx.audit.append(one))  # type: ignore[misc]
    settled(store, 5)
    root, kept = store.read(lambda tx: (tx.audit.root(), tx.audit.records(0, 5)))
    store.write(lambda tx: tx.audit.erase(1, 2))
    after = store.read(lambda tx: tx.audit.records(0, 5))
    assert store.read(lambda tx: tx.audit.root()) == root
    assert [one.leaf_hash for one in after] == [one.leaf_hash for one in kept]
    assert [bool(one.leaf) for one in after] == [True, False, False, True, True]
    assert after[1].shown == b'{"erased":"%b"}' % kept[1].leaf_hash.hex().encode()


# --- search ---------------------------------------------------------------------------------------


def test_a_search_finds_what_matches_and_no_pattern(store: Store) -> None:
    """The store may return more than what matches, never less."""
    names = ["ana", 'a"b', "Zoë", "50%", "a_b", "ana"]
    for number, name in enumerate(names):
        entry = AuditEntry(
            "query.asked" if number % 2 else "query",
            NOON + number * DAY,
            "pt-pj",
            person=name,
            peer=f"peer-{number}",
            purpose="deconfliction",
            case_ref=f"case {name}",
            subjects=(f"es-pn/{number}",),
            detail={"references": [f"siena:{number}", "icse:7"], "reason": '"person":"ana"'},
        )
        store.write(lambda tx, one=entry: tx.audit.append(one))  # type: ignore[misc]
    settled(store, len(names))

    def found(start: int = 0, end: int = 99, limit: int = 99, **wanted: Any) -> list[int]:
        search = Search(**wanted)
        records = store.read(lambda tx: tx.audit.search(search, start, end, limit))
        return [one.position for one in records if search.matches(json.loads(one.leaf))]

    assert found() == [0, 1, 2, 3, 4, 5]
    assert found(person="ana") == [0, 5]
    for number, name in enumerate(names[1:5], start=1):
        assert found(person=name) == [number], name
        assert found(case_ref=f"case {name}") == [number]
    assert found(action="query") == [0, 1, 2, 3, 4, 5]
    assert found(action="query.asked") == [1, 3, 5]
    assert found(subject="es-pn/2") == [2]
    assert found(peer="peer-3", purpose="deconfliction") == [3]
    assert found(peer="peer-3", person="ana") == []
    assert found(siena="4") == [4]
    assert found(siena="7") == [], "an ICSE number is no SIENA number"
    assert found(since=NOON + DAY) == [1, 2, 3, 4, 5]
    assert found(until=NOON + DAY) == [0]
    assert found(since=NOON + DAY, until=NOON + DAY + timedelta(microseconds=1)) == [1]
    assert found(since=NOON + DAY, until=NOON + DAY) == []
    elsewhere = (NOON + 2 * DAY).astimezone(timezone(timedelta(hours=5)))
    assert found(since=elsewhere) == [2, 3, 4, 5]
    assert found(start=1, end=5, person="ana") == []
    assert found(limit=2) == [0, 1]
    store.write(lambda tx: tx.audit.erase(0, 0))
    assert found(person="ana") == [5]
