"""What an import restricts more than the series it went into: restricted on every way out of it."""

from __future__ import annotations

from typing import Any

import pytest
from tieline.v1 import operator_deposits_pb2, operator_pb2, operator_requests_pb2, series_pb2
from tieline_client.errors import PolicyRefused, WrongState
from tieline_server.services import uploading
from tieline_server.services.attachments import Packed, pack_series
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.deciding import Requests
from tieline_server.services.reconciling import Reconciling
from tieline_server.services.referring import Referring
from tieline_server.services.uploading import Uploading

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    FR,
    HUB,
    INTERPOL,
    PT,
    PURPOSE,
    RUI,
    Bench,
    Running,
    records,
)

H2 = {"code": 2, "tlp": 3}
RED = {"tlp": 5}


def _held(bench: Bench, restricted: dict[str, int], agency: str = PT) -> str:
    """A series of three items without restrictions, and two of an import that has some."""
    series = bench[agency].series(records(range(3)))
    _import_more(bench[agency], **restricted)
    return series


def _import_more(node: Running, **restricted: object) -> None:
    terms = {"source": "B", "information": 2, "retain_until": "2028-01-01"} | restricted
    handling = series_pb2.Handling(**terms)  # type: ignore[arg-type]
    node.load(records(range(3, 5)), series="Azul", case_ref="another", handling=handling)


def _refer(bench: Bench, series: str, to: str) -> series_pb2.Handling:
    """Refer it; return what it is under there."""
    assert bench[to]
    bench[PT].refer(series, agency=to)
    bench.flow()
    (came,) = bench[to].inbox()
    assert came.series.notice.items == 5
    return came.series.notice.handling


def _deposit(node: Running, series: str) -> list[operator_pb2.UploadView]:
    wanted = operator_pb2.UploadSeriesRequest(
        series=[series], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
    )
    return Uploading(node.node).upload(ANA, wanted)


def _broadcast(node: Running, series: str) -> list[operator_pb2.BroadcastView]:
    wanted = operator_pb2.BroadcastSeriesRequest(
        series=[series], group="desks", purpose=PURPOSE, case_ref=CASE
    )
    return Broadcasting(node.node).broadcast(ANA, wanted)


@pytest.mark.parametrize("restricted", [H2, RED], ids=["H2", "RED"])
def test_who_is_told_the_series_gets_the_stricter_of_both(
    bench: Bench, restricted: dict[str, int]
) -> None:
    handling = _refer(bench, _held(bench, restricted), ES)
    assert (handling.code, handling.tlp) == (restricted.get("code", 0), restricted["tlp"])
    # and so passes it on to nobody without permission
    (came,) = bench[ES].inbox()
    step = operator_pb2.StepReferralRequest(id=came.id, state="passed_on", passed_to=FR)
    with pytest.raises(PolicyRefused, match="requests ask"):
        Referring(bench[ES].node).step(ANA, step)


@pytest.mark.parametrize("restricted", [H2, RED], ids=["H2", "RED"])
def test_it_is_not_deposited_before_it_is_permitted(
    bench: Bench, restricted: dict[str, int]
) -> None:
    series, pt = _held(bench, restricted), bench[PT]
    assert bench[INTERPOL]
    with pytest.raises(PolicyRefused, match="requests ask"):
        _deposit(pt, series)
    wanted = operator_requests_pb2.AskPermissionRequest(
        series=series, action="upload", agencies=[INTERPOL], purpose=PURPOSE, case_ref=CASE
    )
    request = Requests(pt.node).ask_permission(ANA, wanted).id
    decision = operator_requests_pb2.DecideRequestRequest(id=request, approve=True)
    Requests(pt.node).decide(RUI, decision)
    _deposit(pt, series)
    bench.flow()
    there = bench[INTERPOL].store.read(lambda tx: tx.series.get(series))
    assert there is not None
    assert int(there.handling.code) == restricted.get("code", 0)
    assert int(there.handling.tlp) == restricted["tlp"]


def test_what_came_after_a_deposit_is_not_added_to_it(bench: Bench) -> None:
    pt = bench[PT]
    series = pt.series(records(range(3)))
    assert bench[INTERPOL]
    _deposit(pt, series)
    bench.flow()
    _import_more(pt, **H2)
    with pytest.raises(PolicyRefused, match="requests ask"):
        _deposit(pt, series)
    # nor shown in the question what of it the repository holds
    asked = operator_deposits_pb2.ReconcileDepositsRequest(
        repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
    )
    (row,) = [one.row for one in Reconciling(pt.node, ANA, asked).run()]
    assert "not asked" in row.differences[0]
    assert bench[INTERPOL].audit("query.answered") == []


@pytest.mark.parametrize("restricted", [H2, RED], ids=["H2", "RED"])
def test_the_hub_does_not_broadcast_it(bench: Bench, restricted: dict[str, int]) -> None:
    series = _held(bench, restricted, HUB)
    assert bench[ES]
    with pytest.raises(PolicyRefused):
        _broadcast(bench[HUB], series)


def test_what_came_under_more_restrictions_is_not_relayed_under_fewer(bench: Bench) -> None:
    """The referral that came first, without restrictions, does not speak for what came later."""
    pt, hub = bench[PT], bench[HUB]
    series = pt.series(records(range(3)))
    assert bench[ES]
    pt.refer(series, agency=HUB)
    bench.flow()
    _import_more(pt, **H2)
    pt.refer(series, agency=HUB, urgency=1)
    bench.flow()
    assert len(hub.inbox()) == 2
    with pytest.raises(PolicyRefused):
        _broadcast(hub, series)


def test_an_import_without_other_word_does_not_raise_the_mark_of_the_series(bench: Bench) -> None:
    pt, es = bench[PT], bench[ES]
    green = series_pb2.Handling(code=1, tlp=2, source="B", information=2)
    (series,) = pt.load(records(range(3)), series="Azul", handling=green).series
    pt.load(records(range(3, 5)), series="Azul", case_ref="another")
    pt.refer(series, agency=ES)
    bench.flow()
    (came,) = es.inbox()
    handling = came.series.notice.handling
    assert (handling.code, handling.tlp) == (1, 2)


def test_who_has_the_series_already_has_it_under_more_from_then_on(bench: Bench) -> None:
    pt, es = bench[PT], bench[ES]
    series = pt.series(records(range(3)))
    pt.refer(series, agency=ES)
    bench.flow()
    _import_more(pt, **H2)
    pt.refer(series, agency=ES, urgency=1)
    bench.flow()
    held = es.store.read(lambda tx: tx.series.get(series))
    assert held is not None
    assert (int(held.handling.code), int(held.handling.tlp)) == (2, 3)


def test_nothing_leaves_under_less_than_policy_was_asked_about(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items that come in between are not taken along."""
    pt = bench[PT]
    series = pt.series(records(range(3)))
    assert bench[INTERPOL]

    def later(*given: Any) -> Packed | None:
        _import_more(pt, **H2)
        return pack_series(*given)

    monkeypatch.setattr(uploading, "pack_series", later)
    with pytest.raises(WrongState, match="more restrictions"):
        _deposit(pt, series)
