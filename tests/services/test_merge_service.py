"""Merging series: one whole under both ids, whatever is told of either meanwhile."""

from __future__ import annotations

from itertools import permutations

import pytest
from tieline.v1 import (
    envelope_pb2,
    operator_deposits_pb2,
    operator_pb2,
    operator_requests_pb2,
    payload_pb2,
    series_pb2,
    series_work_pb2,
)
from tieline_client.errors import InvalidInput, NotFound, WrongState
from tieline_client.identifiers import new_id, new_series_id
from tieline_client.payloads import timestamp
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.deciding import Requests
from tieline_server.services.exporting import Export
from tieline_server.services.inbox import Mailbox
from tieline_server.services.merging import Merging
from tieline_server.services.purging import Purging
from tieline_server.services.reconciling import Reconciling
from tieline_server.services.referring import Referring
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_work import SeriesWork
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
    Bench,
    Running,
    records,
)


def _merge(node: Running, kept: str, part: str) -> operator_pb2.SeriesView:
    request = series_work_pb2.MergeSeriesRequest(series=kept, merged=part, text="one room")
    return Merging(node.node).merge(ANA, request)


def _assess(node: Running, series: str, country: str, **more: object) -> operator_pb2.SeriesView:
    fields: dict[str, object] = {"confidence": 2, "grounds": "plates"} | more
    request = operator_pb2.AssessSeriesRequest(series=series, country=country, **fields)  # type: ignore[arg-type]
    return SeriesWork(node.node).assess(ANA, request)


def _get(node: Running, series: str) -> operator_pb2.SeriesView:
    return SeriesWork(node.node).get(series)


def _pass_on(node: Running, to: str) -> None:
    request = operator_pb2.StepReferralRequest(
        id=node.inbox()[0].id, state="passed_on", passed_to=to
    )
    Referring(node.node).step(ANA, request)


def test_both_ids_and_names_stand_for_the_whole(bench: Bench) -> None:
    es = bench[ES]
    kept, part = es.series(records(range(3)), "Azul"), es.series(records(range(2, 7)), "Verde")
    _assess(es, part, "PT")
    view = _merge(es, "Azul", "Verde")
    assert (view.notice.id, view.notice.items, list(view.parts)) == (kept, 7, [part])
    assert (view.notice.status, list(view.likely_countries)) == ("localised", ["PT"])
    for name in (kept, part, "Azul", "Verde"):
        assert _get(es, name).notice.id == kept
    line = view.history[-1] if view.history[-1].kind == "merged" else view.history[-2]
    assert (line.before, line.after, line.person, line.text) == (part, kept, "ana", "one room")
    # what is imported under the old name goes to the whole
    es.load(records(range(10, 12)), series="Verde")
    assert _get(es, part).notice.items == 9
    (told,) = es.refer(part)
    assert (told.series, told.recipient) == (kept, PT)
    bench[PT]
    bench.flow()
    assert bench[PT].inbox()[0].series.notice.items == 9
    (logged,) = es.audit("series.merged")
    assert logged["subjects"] == [kept, part]


def test_hits_name_the_whole(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    kept, part = es.series(records(range(3)), "Azul"), es.series(records(range(2, 7)), "Verde")
    _merge(es, kept, part)
    ends, overlaps = pt.ask(records(range(7)), ES)
    assert ends[ES].status == "answered"
    assert len(overlaps[ES]) == 7
    named = {one.id for hit in overlaps[ES] for one in hit.series}
    assert named <= {kept}


@pytest.mark.parametrize("narrowed", [False, True], ids=["H2", "narrowed"])
def test_a_part_does_not_name_a_whole_that_is_under_more(bench: Bench, narrowed: bool) -> None:
    """At a repository, which holds both: what the whole is restricted to holds for its name too."""
    pt, icse = bench[PT], bench[INTERPOL]
    part = pt.series(records(range(20)), "Azul")
    strict = series_pb2.Handling(code=0 if narrowed else 2, source="B", information=2)
    (whole,) = pt.load(records(range(20, 40)), series="Verde", handling=strict).series
    for series in (part, whole):
        if not narrowed and series == whole:
            _permit(pt, whole)
        wanted = operator_pb2.UploadSeriesRequest(
            series=[series], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
        )
        Uploading(pt.node).upload(ANA, wanted)
    bench.flow()
    _merge(pt, whole, part)
    bench.flow()
    assert _get(icse, part).part_of == whole
    if narrowed:  # the word on the part is still on its way
        limit = payload_pb2.Retraction(id=new_id(), series=whole, kind="narrow", limited=True)
        limit.only.extend([INTERPOL, FR])
        limit.retract_time.CopyFrom(timestamp(bench.now))
        word = pt.seal(payload_pb2.Payload(retraction=limit), INTERPOL)
        assert not pt.deliver(word, INTERPOL, lane=1).reason
    ends, _ = bench[ES].ask(records(range(15)), INTERPOL)
    icse.release(ends[INTERPOL].request)
    _, found = bench[ES].ask(records(range(15)), INTERPOL)
    assert {one.id for hit in found[INTERPOL] for one in hit.series} == {part}
    _, kept = bench[ES].ask(records(range(20, 40)), INTERPOL)
    assert kept == {}


def _permit(node: Running, series: str) -> None:
    wanted = operator_requests_pb2.AskPermissionRequest(
        series=series, action="upload", agencies=[INTERPOL], purpose=PURPOSE, case_ref=CASE
    )
    node.release(Requests(node.node).ask_permission(ANA, wanted).id)


@pytest.mark.parametrize("order", list(permutations(["merge", "pass on", "flow"])), ids=", ".join)
def test_a_merge_on_one_side_while_the_other_refers_ends_linked(
    bench: Bench, order: tuple[str, ...]
) -> None:
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    kept, part = es.series(records(range(3)), "Azul"), es.series(records(range(2, 7)), "Verde")
    es.refer(part, country="PT")
    bench.flow()
    for act in order:
        if act == "merge":
            _merge(es, kept, part)
        elif act == "pass on":
            _pass_on(pt, FR)
        else:
            bench.flow()
    bench.flow()
    # linked everywhere
    for node in (pt, fr):
        assert _get(node, part).part_of == kept
        assert _get(node, part).notice.items == 5
    assert (_get(es, part).notice.id, _get(es, part).notice.items) == (kept, 7)
    # nothing lost: the steps of the part's referral are the whole's
    (view,) = Mailbox(es.node).clock(kept)
    assert (view.series, view.state) == (part, "passed_on")
    found = payload_pb2.Outcome(identified=1)
    request = operator_pb2.StepReferralRequest(id=fr.inbox()[0].id, state="accepted")
    Referring(fr.node).step(ANA, request)
    request = operator_pb2.StepReferralRequest(id=fr.inbox()[0].id, state="outcome", outcome=found)
    Referring(fr.node).step(ANA, request)
    bench.flow()
    assert (_get(es, kept).notice.identified, _get(es, kept).notice.status) == (1, "identified")
    # and the whole is taken back from whoever was told the part
    withdraw = operator_pb2.RetractSeriesRequest(series=kept, kind="withdraw", reason="court")
    Retracting(es.node).retract(ANA, withdraw)
    bench.flow()
    for node in (pt, fr):
        held = node.store.read(lambda tx: tx.series.get(part))
        assert held is None or held.status.value == "withdrawn"


def _exported(node: Running, *series: str) -> list[operator_pb2.ExportedSeries]:
    request = operator_pb2.ExportSeriesRequest(
        series=series, format="csv", file="a.csv", purpose=PURPOSE, case_ref=CASE
    )
    return [one.series for one in Export(node.node, ANA, request).run() if one.HasField("series")]


def test_who_was_told_a_part_has_it_under_the_id_it_came_under(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    kept, part = es.series(records(range(3)), "Azul"), es.series(records(range(2, 7)), "Verde")
    for series in (kept, part):
        es.refer(series, country="PT")
    bench.flow()
    _merge(es, kept, part)
    bench.flow()
    whole, other = _get(pt, kept), _get(pt, part)
    assert (whole.notice.id, whole.notice.items, list(whole.parts)) == (kept, 3, [part])
    assert (other.notice.id, other.notice.items, other.part_of) == (part, 5, kept)
    (only,) = _exported(pt, part)
    assert (only.series.notice.id, only.records, only.withheld) == (part, 5, 0)
    # the whole's file says what it lacks, unless the same file has that too
    (lacks,) = _exported(pt, kept)
    assert (lacks.records, lacks.withheld) == (3, 5)
    assert part in lacks.reason
    assert [(one.records, one.withheld) for one in _exported(pt, kept, part)] == [(3, 0), (5, 0)]


def test_a_hub_broadcasts_a_part_that_it_was_told(bench: Bench) -> None:
    es, hub, pt = bench[ES], bench[HUB], bench[PT]
    kept, part = es.series(records(range(3)), "Azul"), es.series(records(range(2, 7)), "Verde")
    for series in (kept, part):
        es.refer(series, agency=HUB)
    bench.flow()
    _merge(es, kept, part)
    bench.flow()
    for series in (kept, part):
        request = operator_pb2.BroadcastSeriesRequest(
            series=[series], group="desks", purpose=PURPOSE, case_ref=CASE
        )
        (view,) = Broadcasting(hub.node).broadcast(ANA, request)
        assert view.series == series
    bench.flow()
    assert (_get(pt, kept).notice.items, _get(pt, part).notice.items) == (3, 5)
    assert _get(pt, part).part_of == kept


def test_a_part_makes_no_bigger_what_is_told_on_or_deposited_under_another_id(
    bench: Bench,
) -> None:
    """Whoever was told both has told the whole already, and has its deposits of both compared."""
    es, hub, pt, icse = bench[ES], bench[HUB], bench[PT], bench[INTERPOL]
    kept, part = es.series(records(range(3)), "Azul"), es.series(records(range(2, 7)), "Verde")
    for series in (kept, part):
        es.refer(series, agency=HUB)
    bench.flow()
    hub.refer(kept, agency=PT)
    why = {"repository": INTERPOL, "purpose": PURPOSE, "case_ref": CASE}
    deposit = operator_pb2.UploadSeriesRequest(series=[kept, part], **why)
    Uploading(hub.node).upload(ANA, deposit)
    bench.flow()
    _merge(es, kept, part)
    bench.flow()
    (again,) = hub.refer(kept, agency=PT)
    assert "already" in again.reason
    deposited = Uploading(hub.node).upload(ANA, deposit)
    assert [(one.series, one.unchanged) for one in deposited] == [(kept, True), (part, True)]
    request = operator_deposits_pb2.ReconcileDepositsRequest(**why)
    rows = [one.row for one in Reconciling(hub.node, ANA, request).run()]
    assert {row.series: (row.deposited, row.held) for row in rows} == {kept: (3, 3), part: (5, 5)}
    assert (pt.agency, icse.agency) == (PT, INTERPOL)


def test_who_withdraws_a_whole_sees_who_was_told_its_parts(bench: Bench) -> None:
    es, icse = bench[ES], bench[INTERPOL]
    kept, part = es.series(records(range(3)), "Azul"), es.series(records(range(2, 7)), "Verde")
    request = operator_pb2.UploadSeriesRequest(
        series=[part], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
    )
    Uploading(es.node).upload(ANA, request)
    bench.flow()
    _merge(es, kept, part)
    bench.flow()
    withdraw = operator_pb2.RetractSeriesRequest(series=kept, kind="withdraw", reason="court")
    view = Retracting(es.node).retract(ANA, withdraw)
    assert [(one.agency, one.state) for one in view.retraction.recipients] == [(INTERPOL, "queued")]
    bench.flow()
    assert Purging(icse.node).run()
    bench.flow()
    (told,) = _get(es, kept).retraction.recipients
    assert (told.agency, told.state, told.erased) == (INTERPOL, "confirmed", True)


def test_who_was_told_whole_and_part_is_as_far_as_the_slower_of_both(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    kept, part = es.series(records(range(3)), "Azul"), es.series(records(range(2, 7)), "Verde")
    for series in (kept, part):
        es.refer(series, country="PT")
    bench.flow()
    _merge(es, kept, part)
    bench.flow()
    withdraw = operator_pb2.RetractSeriesRequest(series=kept, kind="withdraw", reason="court")
    Retracting(es.node).retract(ANA, withdraw)
    bench.flow()
    (told,) = _get(es, kept).retraction.recipients
    assert (told.agency, told.state) == (PT, "delivered")
    assert Purging(pt.node).run()
    bench.flow()
    (told,) = _get(es, kept).retraction.recipients
    assert (told.agency, told.state, told.erased) == (PT, "confirmed", True)


def test_a_deposit_after_a_merge_brings_the_items_of_the_part(bench: Bench) -> None:
    es, icse = bench[ES], bench[INTERPOL]
    part = es.series(records(range(2, 7)), "Verde")
    kept = es.series(records(range(3)), "Azul")

    def deposit() -> operator_pb2.UploadView:
        request = operator_pb2.UploadSeriesRequest(
            series=[kept], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
        )
        (view,) = Uploading(es.node).upload(ANA, request)
        bench.flow()
        return view

    assert deposit().items == 3
    _merge(es, kept, part)
    assert deposit().items == 7
    assert icse.store.read(lambda tx: tx.items.count_of_series(kept)) == 7


def test_a_changed_assessment_of_the_whole_corrects_who_was_told_the_part(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    kept, part = es.series(records(range(3)), "Azul"), es.series(records(range(2, 7)), "Verde")
    _assess(es, part, "PT")
    es.refer(part)
    bench.flow()
    _merge(es, kept, part)
    _assess(es, kept, "FR", confirmed=True)
    bench.flow()
    (entry,) = pt.inbox()
    assert (entry.referral.corrected, list(entry.referral.likely_countries)) == (True, ["FR"])
    assert list(entry.series.likely_countries) == ["FR"]


def test_what_is_not_merged(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    kept, part = es.series(records(range(3)), "Azul"), es.series(records(range(2, 7)), "Verde")
    es.refer(part, country="PT")
    bench.flow()
    with pytest.raises(InvalidInput, match="one series already"):
        _merge(es, kept, "Azul")
    with pytest.raises(InvalidInput, match="only own"):
        _merge(pt, pt.series(records([50]), "Novo"), part)
    with pytest.raises(NotFound):
        _merge(es, kept, "none")
    narrow = operator_pb2.RetractSeriesRequest(
        series=part, kind="narrow", reason="x", limited=True, only=[PT]
    )
    Retracting(es.node).retract(ANA, narrow)
    with pytest.raises(WrongState, match="narrowed to different"):
        _merge(es, kept, part)
    withdraw = operator_pb2.RetractSeriesRequest(series=part, kind="withdraw", reason="x")
    Retracting(es.node).retract(ANA, withdraw)
    with pytest.raises(WrongState, match="withdrawn"):
        _merge(es, kept, part)
    assert es.audit("series.merged") == []
    assert list(_get(es, kept).parts) == []


def test_only_the_owner_says_what_is_one(bench: Bench) -> None:
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    part = es.series(records(range(3)))
    es.refer(part, country="PT")
    bench.flow()

    def said(series: str) -> envelope_pb2.Envelope:
        body = payload_pb2.SeriesMerge(id=new_id(), series=series, merged=part)
        body.merge_time.CopyFrom(timestamp(bench.now))
        return fr.seal(payload_pb2.Payload(series_merge=body), PT)

    response = fr.deliver(said(new_series_id(ES)), PT)
    assert response.reason == "SIGNATURE_REFUSED"
    response = fr.deliver(said(new_series_id(FR)), PT)
    assert response.reason == "INVALID_INPUT"
    assert _get(pt, part).part_of == ""
