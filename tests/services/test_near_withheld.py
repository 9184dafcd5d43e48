"""Near answers are capped after policy: what is withheld takes no place, and shows by nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tieline.v1 import operator_pb2, series_pb2
from tieline_client import limits
from tieline_client.formats.record import Record
from tieline_server.services import answering, disclosing
from tieline_server.services.importing import Import

from tests.services.bench import ANA, CASE, ES, PT, Bench, record

BASE = int.from_bytes(record(1, kinds="pdq").pdq or b"")
WITHHELD = series_pb2.Handling(code=3, restriction="for nobody else")
CAP = limits.NEAR_ANSWERS_PER_HASH


def _near(number: int, bits: int) -> Record:
    """An item whose hash is ``bits`` bits away from BASE, the one numbered ``number`` of many."""
    changed = (1 << number % 16) ^ (1 << (16 + number // 16)) ^ (((1 << bits - 2) - 1) << 60)
    return record(1_000 * bits + number, kinds="sha1", pdq=(BASE ^ changed).to_bytes(32))


def _ask(bench: Bench) -> tuple[int, bool]:
    """Ask for BASE; return how many items are told, and whether the answer says it is cut off."""
    asked = [record(999, kinds="", pdq=BASE.to_bytes(32))]
    ends, overlaps = bench[ES].ask(asked, PT, near=True)
    detail = bench[PT].audit("query.answered")[-1]["detail"]
    assert ends[PT].status == "answered" and isinstance(detail, dict)
    assert bool(overlaps) == bool(detail["hits"])
    return int(detail["hits"]), bool(ends[PT].truncated)


def test_nothing_tells_how_much_is_withheld(bench: Bench) -> None:
    bench[PT].load([_near(n, 2) for n in range(CAP + 20)], handling=WITHHELD)
    assert _ask(bench) == (0, False)


def test_what_is_withheld_takes_no_place(bench: Bench) -> None:
    bench[PT].load([_near(n, 2) for n in range(CAP + 20)], handling=WITHHELD)
    bench[PT].load([_near(n, 7) for n in range(3)], case_ref="other")
    told, truncated = _ask(bench)
    assert (told, truncated) == (3, False)


@pytest.mark.parametrize("withheld", [0, 20])
@pytest.mark.parametrize("more", [0, 1])
def test_an_answer_is_cut_off_where_more_may_be_told(
    bench: Bench, withheld: int, more: int
) -> None:
    bench[PT].load([_near(n, 2) for n in range(withheld)] or [record(5)], handling=WITHHELD)
    bench[PT].load([_near(n, 7) for n in range(CAP + more)], case_ref="other")
    assert _ask(bench) == (CAP, bool(more))


def test_many_hashes_are_looked_up_some_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answer whatever fits at once."""
    bench[PT].load([_near(n, 2) for n in range(50)])
    asked = [_near(n, 4) for n in range(30)]
    whole = bench[ES].ask(asked, PT, near=True)[1]
    monkeypatch.setattr(answering, "_NEAR_AT_ONCE", 7)
    assert bench[ES].ask(asked, PT, near=True)[1] == whole
    assert len(whole[PT]) == 30


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked for at once is little."""
    monkeypatch.setattr(limits, "NEAR_ANSWERS_PER_HASH", 3)
    monkeypatch.setattr(disclosing, "_FURTHER_ANSWERS", 5)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("more", [0, 1])
def test_however_much_is_withheld_what_lies_beyond_is_told(bench: Bench, more: int) -> None:
    for case in range(4):
        withheld = [_near(8 * case + n, 2) for n in range(8)]
        bench[PT].load(withheld, handling=WITHHELD, case_ref=f"case {case}")
    bench[PT].load([_near(n, 7) for n in range(3 + more)], case_ref="other")
    assert _ask(bench) == (3, bool(more))


@pytest.mark.usefixtures("few")
def test_however_much_is_staged_what_lies_beyond_is_told(bench: Bench) -> None:
    _stage(bench, *(_near(n, 2) for n in range(30)))
    bench[PT].load([_near(n, 7) for n in range(2)])
    assert _ask(bench) == (2, False)


def _stage(bench: Bench, *records: Record) -> None:
    """Begin an import that is never finished."""
    header = operator_pb2.ImportHeader(source="file", case_ref=CASE, file_digest=bytes(32))
    Import(bench[PT].node, ANA, header).add(records)


def test_what_counts_is_told_though_another_import_has_only_staged_it(bench: Bench) -> None:
    _stage(bench, _near(1, 7))
    assert _ask(bench) == (0, False)
    bench[PT].load([_near(1, 7)])
    assert _ask(bench) == (1, False)


@pytest.mark.parametrize(("counts", "told"), [(20, 1), (40, 0)])
def test_how_near_an_item_is_goes_by_what_counts_of_it(
    bench: Bench, counts: int, told: int
) -> None:
    """Two tools made two hashes of one picture; the nearer one is only staged."""
    _stage(bench, replace(_near(1, counts), pdq=_near(1, 3).pdq))
    bench[PT].load([_near(1, counts)])
    asked = [record(999, kinds="", pdq=BASE.to_bytes(32))]
    _, overlaps = bench[ES].ask(asked, PT, near=True)
    assert [one.distance for one in overlaps.get(PT, ())] == [counts] * told
