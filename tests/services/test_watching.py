"""What a peer asks, looked at for signs of enumeration: alarms, once a day, with what was seen."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest
from tieline_client import limits
from tieline_client.digests import DigestKind
from tieline_client.errors import StorageUnavailable
from tieline_client.formats.record import Record
from tieline_server.services.alarms import Alarms

from tests.services.bench import ABUSE, ES, FR, PT, Bench, record, records


def _looked(bench: Bench) -> list[str]:
    """What PT's housekeeping raises now."""
    pt = bench[PT].node
    pt.watch.look()
    return [one.kind.value for one in Alarms(pt).raise_due()]


def _counted(numbers: Sequence[int]) -> list[Record]:
    """Records whose SHA-1 are numbers, as somebody would make them up."""
    return [Record(n, sha1=n.to_bytes(20), votes=(ABUSE,)) for n in numbers]


def test_crafted_digests_raise_one_alarm_a_day_that_names_the_question(bench: Bench) -> None:
    pt = bench[PT]
    ends, _ = bench[ES].ask(_counted(range(1, 200)), PT)
    assert ends[PT].status == "answered"
    assert _looked(bench) == ["crafted-hashes"]
    (entry,) = pt.audit("query.pattern")
    assert (entry["peer"], entry["person"], entry["case"]) == (ES, "ana", "2026-118")
    detail = entry["detail"]
    assert isinstance(detail, dict) and "equal steps" in detail["why"]
    subjects = entry["subjects"]
    assert isinstance(subjects, list)
    (request,) = subjects
    assert pt.audit("query.answered")[0]["subjects"] == [request]
    (shown,) = Alarms(pt.node).open()
    assert (shown.kind, shown.sender, shown.referral) == ("crafted-hashes", ES, request)
    bench[ES].ask(_counted(range(1, 300)), PT)
    assert _looked(bench) == []
    bench.now += timedelta(days=1)
    bench[ES].ask(_counted(range(1, 400)), PT)
    assert _looked(bench) == ["crafted-hashes"]
    assert len(pt.audit("query.pattern")) == 2


def test_what_is_made_up_one_by_one_is_seen_as_well(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    for number in range(2 * limits.CRAFTED_LEAST - 1):
        bench[ES].ask(_counted([1 + number]), PT)
    assert _looked(bench) == []
    bench[ES].ask(_counted([500]), PT)
    assert _looked(bench) == ["crafted-hashes"]


def test_ordinary_lists_and_single_questions_raise_nothing(bench: Bench) -> None:
    bench[PT].load(records(range(40)))
    bench[ES].ask(records(range(2_000)), PT)  # a seizure with two in a hundred
    for number in range(3 * limits.CRAFTED_LEAST):
        bench[FR].ask(records([number]), PT)
    assert _looked(bench) == []
    assert bench[PT].audit("query.pattern") == []


def test_next_to_no_hits_in_very_much_raise_an_alarm(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOW_HITS_ASKED", 5_000)
    bench[PT].load(records(range(100)))
    bench[FR].ask(records(range(5_000)), PT)  # one in fifty
    assert _looked(bench) == []
    for start in range(10_000, 15_000, 1_000):
        bench[ES].ask(records(range(start, start + 1_000)), PT)
    assert _looked(bench) == ["low-hits"]
    (entry,) = bench[PT].audit("query.pattern")
    assert entry["peer"] == ES
    assert entry["detail"]["why"] == "0 hits in 5000 records asked today"  # type: ignore[index]


def test_the_same_list_every_night_is_nothing(bench: Bench) -> None:
    bench[PT].load(records(range(20)))
    for _ in range(20):
        bench[ES].ask(records(range(300)), PT)
        bench.now += timedelta(days=1)
    for _ in range(20):  # or many times a day
        bench[ES].ask(records(range(300)), PT)
    assert _looked(bench) == []


def test_lists_that_differ_by_one_are_seen_however_long(bench: Bench) -> None:
    """Of a long list of which one digest was exchanged the sketch is mostly the same."""
    bench[PT].load(records(range(20)))
    for missing in range(limits.LISTS_ALIKE_A_DAY + 1):
        kept = [number for number in range(3_000) if number != missing]
        bench[ES].ask(records(kept), PT)
    assert _looked(bench) == ["repeated-lists"]


def test_perceptual_hashes_are_judged_as_well(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever enumerates by near questions: next to no hits in very much, and lists almost alike.

    What they hit is a sign, whatever they look like.
    """
    monkeypatch.setattr(limits, "LOW_HITS_ASKED", 900)
    pt = bench[PT]
    pt.load(records(range(20), kinds="pdq"))
    bench[FR].ask(records(range(900), kinds="pdq"), PT, near=True)  # one in 45
    assert _looked(bench) == []
    for start in range(10_000, 11_000, 250):
        bench[ES].ask(records(range(start, start + 250), kinds="pdq"), PT, near=True)
    assert _looked(bench) == ["low-hits"]
    (entry,) = pt.audit("query.pattern")
    assert entry["peer"] == ES
    for missing in range(limits.LISTS_ALIKE_A_DAY + 1):
        kept = [number for number in range(400) if number != missing]
        bench[FR].ask(records(kept, kinds="pdq"), PT, near=True)
    assert _looked(bench) == ["repeated-lists"]
    assert [one["peer"] for one in pt.audit("query.pattern")] == [ES, FR]
    assert sorted(one.kind for one in Alarms(pt.node).open()) == ["low-hits", "repeated-lists"]


def test_perceptual_hashes_that_are_none_raise_an_alarm(bench: Bench) -> None:
    """Of a picture half the bits are set; random ones, one by one or in a list, are seen."""
    pt = bench[PT]
    pt.load(records(range(20), kinds="pdq"))
    rng = random.Random(5)
    made_up = [Record(n, pdq=rng.randbytes(32), votes=(ABUSE,)) for n in range(1, 300)]
    bench[FR].ask(records(range(300), kinds="pdq"), PT, near=True)
    assert _looked(bench) == []
    bench[ES].ask(made_up[:100], PT, near=True)
    assert _looked(bench) == ["crafted-hashes"]
    (entry,) = pt.audit("query.pattern")
    assert entry["peer"] == ES
    assert "not half the bits are set" in entry["detail"]["why"]  # type: ignore[index]
    for one in made_up[100 : 100 + 2 * limits.CRAFTED_LEAST]:
        bench[FR].ask([one], PT, near=True)
    assert _looked(bench) == ["crafted-hashes"]
    assert [one["peer"] for one in pt.audit("query.pattern")] == [ES, FR]


def test_one_list_under_many_cases_is_seen(bench: Bench) -> None:
    bench[PT].load(records(range(20)))
    for number in range(limits.LISTS_ALIKE_CASES + 1):
        bench[ES].ask(records(range(300)), PT, case_ref=f"C-{number}")
        bench.now += timedelta(days=2)
    assert _looked(bench) == ["repeated-lists"]


def test_somebody_elses_lists_do_not_count(bench: Bench) -> None:
    bench[PT].load(records(range(20)))
    for number in range(limits.LISTS_ALIKE_CASES + 1):
        asker = (ES, FR)[number % 2]
        bench[asker].ask(records(range(300)), PT, case_ref=f"C-{number}")
    assert _looked(bench) == []


def test_a_look_at_a_batch_costs_little(bench: Bench) -> None:
    """At most a part of what looking it up costs: a sample, whatever the batch."""
    import time

    digests = sorted(hashlib.sha1(str(n).encode()).digest() for n in range(50_000))
    rows = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 20)
    watch = bench[PT].node.watch
    times = []
    for _ in range(20):
        began = time.thread_time()
        watch.asked(ES, "r", DigestKind.SHA1, rows)
        times.append(time.thread_time() - began)
    assert sorted(times)[10] < 0.005  # 60 microseconds of the processor, here
    assert record(1).sha1 is not None


def test_what_was_seen_is_told_once_storage_is_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageUnavailable("the disk is full")

    bench[PT].load(records(range(3)))
    bench[ES].ask(_counted(range(1, 200)), PT)
    for name in ("read", "write"):
        with monkeypatch.context() as away:
            away.setattr(bench[PT].node.store, name, full)
            with pytest.raises(StorageUnavailable):
                bench[PT].node.watch.look()
    assert _looked(bench) == ["crafted-hashes"]
