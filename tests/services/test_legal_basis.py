"""Whatever leaves the union says on what law it rests, in the entry of that very transfer."""

from __future__ import annotations

from typing import Any

import pytest
from tieline.v1 import operator_clues_pb2, operator_pb2, requests_pb2, series_work_pb2
from tieline_client.directory import Directory
from tieline_server.domain.series import SeriesStatus
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.clues import ClueDesk
from tieline_server.services.legal_basis import legal_basis
from tieline_server.services.merging import Merging
from tieline_server.services.referring import Referring
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.tips import TipDesk
from tieline_server.services.uploading import Uploading

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    FBI,
    HUB,
    ICE,
    INTERPOL,
    PT,
    PURPOSE,
    Bench,
    Running,
    records,
)

AGREED = {ICE: "agreement: trial agreement"}
WHY: dict[str, Any] = {"purpose": PURPOSE, "case_ref": CASE}


def _details(node: Running, action: str) -> list[Any]:
    return [entry["detail"] for entry in node.audit(action)]


def _assess(node: Running, series: str, country: str, *, confirmed: bool = False) -> None:
    request = operator_pb2.AssessSeriesRequest(
        series=series, country=country, confidence=2, grounds="plates", confirmed=confirmed
    )
    SeriesWork(node.node).assess(ANA, request)


def test_a_referral_and_its_correction(bench: Bench) -> None:
    pt = bench[PT]
    assert bench[ICE] and bench[ES]
    series = pt.series(records(range(3)))
    _assess(pt, series, "US")
    pt.refer(series, country="US")
    pt.refer(series, agency=ES)
    abroad, at_home = _details(pt, "referral.sent")
    assert abroad["legal_basis"] == AGREED and "legal_basis" not in at_home
    _assess(pt, series, "FR", confirmed=True)
    corrected: dict[Any, Any] = {
        entry["peer"]: entry["detail"] for entry in pt.audit("referral.corrected")
    }
    assert corrected[ICE]["legal_basis"] == AGREED
    assert "legal_basis" not in corrected.get(ES, {})


def test_what_came_from_outside_and_stays_in_the_union_needs_none(bench: Bench) -> None:
    ice, pt = bench[ICE], bench[PT]
    series = ice.series(records(range(3)))
    ice.refer(series, agency=PT)
    bench.flow()
    (entry,) = pt.inbox()
    step = operator_pb2.StepReferralRequest(id=entry.id, state="passed_on", passed_to=ES)
    Referring(pt.node).step(ANA, step)
    (sent,) = _details(pt, "referral.sent")
    assert "legal_basis" not in sent
    (first,) = _details(ice, "referral.sent")
    assert "legal_basis" not in first  # into the union nothing of it is needed


def test_a_tip(bench: Bench) -> None:
    pt = bench[PT]
    assert bench[ICE]
    series = pt.series(records(range(3)))
    pt.refer(series, agency=ICE)
    words = operator_clues_pb2.AddClueRequest(series=series, text="A blue bag", kind="object")
    clue = ClueDesk(pt.node).add(ANA, words).id
    tip = operator_clues_pb2.NewTip(clue=clue, text="Sold in Ohio", country="US")
    TipDesk(pt.node).add(ANA, [tip])
    (kept,) = TipDesk(pt.node).find(ANA, operator_clues_pb2.ListTipsRequest(clue=clue)).tips
    relay = operator_clues_pb2.RelayTipsRequest(tips=[kept.id], agency=ICE, **WHY)
    TipDesk(pt.node).relay(ANA, relay)
    (relayed,) = _details(pt, "tip.relayed")
    assert relayed["legal_basis"] == AGREED


def test_a_merge(bench: Bench) -> None:
    pt = bench[PT]
    assert bench[ICE]
    whole, part = pt.series(records(range(3)), "Azul"), pt.series(records(range(3, 6)), "Verde")
    pt.refer(part, agency=ICE)
    bench.flow()
    request = series_work_pb2.MergeSeriesRequest(series=whole, merged=part)
    Merging(pt.node).merge(ANA, request)
    (merged,) = _details(pt, "series.merged")
    assert merged["legal_basis"] == AGREED


def test_a_deposit_and_a_broadcast(bench: Bench) -> None:
    hub = bench[HUB]
    assert bench[INTERPOL] and bench[PT] and bench[ES]
    series = hub.series(records(range(3)))
    Uploading(hub.node).upload(
        ANA, operator_pb2.UploadSeriesRequest(series=[series], repository=INTERPOL, **WHY)
    )
    (deposited,) = _details(hub, "upload.sent")
    assert deposited["legal_basis"] == {
        INTERPOL: "international organisation: by the rules named here"
    }
    Broadcasting(hub.node).broadcast(
        ANA, operator_pb2.BroadcastSeriesRequest(series=[series], group="desks", **WHY)
    )
    (told,) = _details(hub, "broadcast.sent")
    # The one unit of the group that is outside has no agreement, and is left out.
    assert FBI not in told.get("legal_basis", {})


def test_a_question_names_it_for_each_that_is_asked_outside(bench: Bench) -> None:
    assert bench[ICE] and bench[ES]
    bench[PT].ask(records(range(3)), ICE, ES)
    (asked,) = _details(bench[PT], "query.asked")
    assert asked["legal_basis"] == AGREED


@pytest.mark.parametrize(
    ("agency", "otherwise", "words"),
    [
        (ICE, "", "agreement: trial agreement"),
        (INTERPOL, "", "international organisation: by the rules named here"),
        (FBI, "", "by the rules named here"),
        (FBI, "a correction", "a correction"),
        (ICE, "a correction", "agreement: trial agreement"),
    ],
)
def test_the_words_for_each_kind(bench: Bench, agency: str, otherwise: str, words: str) -> None:
    node = bench[PT].node
    assert legal_basis(node, [agency, ES], otherwise=otherwise) == {"legal_basis": {agency: words}}
    assert legal_basis(node, [ES, HUB]) == {}
    stated = requests_pb2.VitalInterests(grounds="seen", officer="ana", second_officer="rui")
    assert legal_basis(node, [FBI], stated) == {
        "legal_basis": {FBI: "2016/680 Art. 38(1)(a), vital interests: seen"},
        "officers": ["ana", "rui"],
    }


def test_what_is_taken_back_outside_the_union(bench: Bench) -> None:
    pt = bench[PT]
    assert bench[ICE] and bench[ES]
    series = pt.series(records(range(3)))
    for agency in (ICE, ES):
        pt.refer(series, agency=agency)
    bench.flow()
    request = operator_pb2.RetractSeriesRequest(series=series, kind="withdraw", reason="wrong")
    Retracting(pt.node).retract(ANA, request)
    (taken,) = _details(pt, "series.withdrawn")
    assert taken["legal_basis"] == AGREED


def test_a_recipient_that_was_revoked_since_holds_up_no_merge_and_no_retraction(
    bench: Bench,
) -> None:
    pt = bench[PT]
    assert bench[ICE]
    whole, part = pt.series(records(range(3)), "Azul"), pt.series(records(range(3, 6)), "Verde")
    for series in (whole, part):
        pt.refer(series, agency=ICE)
    bench.flow()
    members = tuple(
        one.model_copy(update={"revoked": True}) if one.agency == ICE else one
        for one in bench.directory.members
    )
    fields = {name: getattr(bench.directory, name) for name in Directory.model_fields}
    bench.directory = Directory(**(fields | {"members": members}))
    Merging(pt.node).merge(ANA, series_work_pb2.MergeSeriesRequest(series=whole, merged=part))
    (merged,) = _details(pt, "series.merged")
    assert merged["legal_basis"] == AGREED
    request = operator_pb2.RetractSeriesRequest(series=whole, kind="withdraw", reason="wrong")
    Retracting(pt.node).retract(ANA, request)
    assert [
        one.status for one in pt.store.read(lambda tx: tx.series.find()) if one.id == whole
    ] == [SeriesStatus.WITHDRAWN]
