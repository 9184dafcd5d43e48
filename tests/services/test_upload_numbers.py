"""A repository gives its own series numbers by itself: none twice, whatever people gave by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from tieline.v1 import operator_pb2 as pb
from tieline_client.errors import InvalidInput, WrongState
from tieline_client.limits import SERIES_NUMBER_CHARS
from tieline_server.domain.numbering import Numbering
from tieline_server.services.uploading import Uploading

from tests.services.bench import ANA, CASE, ES, INTERPOL, PT, PURPOSE, Bench, records


def deposit(bench: Bench, series: str, agency: str = PT) -> str:
    """Deposit a series, and let it arrive; return the upload's id."""
    request = pb.UploadSeriesRequest(
        series=[series], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
    )
    (made,) = Uploading(bench[agency].node).upload(ANA, request)
    assert bench[INTERPOL]
    bench.flow()
    return made.id


def step(bench: Bench, upload: str, reference: str = "", state: str = "numbered") -> Any:
    request = pb.StepUploadRequest(id=upload, state=state, reference=reference)
    return Uploading(bench[INTERPOL].node).step(ANA, request)


def _deposits(bench: Bench, count: int) -> list[str]:
    series = [bench[PT].series(records([one]), f"S{one}") for one in range(count)]
    return [deposit(bench, one) for one in series]


def test_the_next_number_is_taken_and_told(bench: Bench) -> None:
    first, second = _deposits(bench, 2)
    assert step(bench, first).reference == "INTERPOL-2026-000001"
    assert step(bench, second).reference == "INTERPOL-2026-000002"
    bench.flow()
    told = bench[PT].store.read(lambda tx: tx.uploads.get(second))
    assert told is not None
    assert (told.state.value, told.reference) == ("numbered", "INTERPOL-2026-000002")
    with pytest.raises(WrongState):
        step(bench, first)


def test_the_form_is_the_agencys(bench: Bench) -> None:
    node = bench[INTERPOL].node
    node.defaults = replace(
        node.defaults, numbering=Numbering("ICSE", yearly=False, digits=4, first=700)
    )
    first, second = _deposits(bench, 2)
    assert [step(bench, one).reference for one in (first, second)] == ["ICSE-0700", "ICSE-0701"]


def test_a_number_given_by_hand_is_not_given_again(bench: Bench) -> None:
    ids = _deposits(bench, 4)
    assert step(bench, ids[0], "INTERPOL-2026-000002").reference == "INTERPOL-2026-000002"
    assert step(bench, ids[1], "OLD-2026-7").reference == "OLD-2026-7"
    assert step(bench, ids[2]).reference == "INTERPOL-2026-000003"
    # Given before the form of numbers was changed to this one.
    node = bench[INTERPOL].node
    node.defaults = replace(node.defaults, numbering=Numbering("OLD", digits=1, first=7))
    assert step(bench, ids[3]).reference == "OLD-2026-8"


def test_a_number_of_another_form_is_passed_over(bench: Bench) -> None:
    ids = _deposits(bench, 2)
    step(bench, ids[0], "OLD-1")
    node = bench[INTERPOL].node
    node.defaults = replace(node.defaults, numbering=Numbering("OLD", yearly=False, digits=1))
    assert step(bench, ids[1]).reference == "OLD-2"


def test_a_number_too_long_to_be_shown_is_refused(bench: Bench) -> None:
    (one,) = _deposits(bench, 1)
    with pytest.raises(InvalidInput, match="64 characters"):
        step(bench, one, "x" * (SERIES_NUMBER_CHARS + 1))
    assert step(bench, one).reference == "INTERPOL-2026-000001"


def test_two_contributors_may_share_a_number(bench: Bench) -> None:
    """The repository found that both are one series."""
    here = deposit(bench, bench[PT].series(records([1]), "A"))
    there = deposit(bench, bench[ES].series(records([1]), "B"), ES)
    number = step(bench, here).reference
    assert step(bench, there, number).reference == number


def test_numbered_by_many_at_once_no_number_comes_twice(bench: Bench) -> None:
    ids = _deposits(bench, 8)
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda one: step(bench, one).reference, ids))
    assert sorted(given) == [f"INTERPOL-2026-{n:06d}" for n in range(1, 9)]


def test_what_failed_took_no_number(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = _deposits(bench, 1)
    node = bench[INTERPOL].node

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(type(node), "entry", full)
        with pytest.raises(OSError, match="no space"):
            step(bench, one)
    assert step(bench, one).reference == "INTERPOL-2026-000001"
