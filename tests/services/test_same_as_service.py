"""Series of two agencies that are one: proposed by what is shared, linked by persons."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from tieline.v1 import (
    links_pb2,
    operator_links_pb2,
    operator_pb2,
    payload_pb2,
    series_pb2,
    series_work_pb2,
)
from tieline_client.errors import InvalidInput, NotFound, PolicyRefused, WrongState
from tieline_client.identifiers import new_id, new_series_id
from tieline_client.payloads import timestamp
from tieline_server.services.comparing import Comparison
from tieline_server.services.merging import Merging
from tieline_server.services.proposing import Proposing
from tieline_server.services.purging import Purging
from tieline_server.services.retracting import Retracting
from tieline_server.services.same_as import Linking
from tieline_server.services.series_work import SeriesWork

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    FR,
    HUB,
    PT,
    PURPOSE,
    Bench,
    Running,
    records,
)

WHY: dict[str, Any] = {"purpose": "deconfliction", "case_ref": CASE}


def _look(node: Running) -> int:
    node.store.index.refresh(wait=True)
    return Proposing(node.node).look()


def _links(node: Running, series: str = "") -> list[operator_links_pb2.SameAsView]:
    return Linking(node.node).find(series)


def _answer(node: Running, link: str, *, confirm: bool = True, **why: str) -> None:
    request = operator_links_pb2.AnswerSameAsRequest(id=link, confirm=confirm, **why)
    Linking(node.node).answer(ANA, request)


def _both(bench: Bench, shared: int = 8) -> tuple[str, str]:
    """A series of Spain's that Portugal was told, and its own of which much is the same."""
    es, pt = bench[ES], bench[PT]
    theirs = es.series(records(range(10)), "Azul")
    ours = pt.series(records(range(10 - shared, 20 - shared)), "Verde")
    es.refer(theirs, agency=PT)
    bench.flow()
    return ours, theirs


def test_what_is_shared_proposes_and_nobody_is_told(bench: Bench) -> None:
    ours, theirs = _both(bench)
    es, pt = bench[ES], bench[PT]
    assert (_look(pt), _look(pt), _look(es)) == (1, 0, 0)
    (link,) = _links(pt, ours)
    assert (link.own, link.other, link.agency) == (ours, theirs, ES)
    assert (link.state, link.ours, link.theirs) == ("pending", "pending", "pending")
    assert (link.shared, link.own_items, link.other_items) == (8, 10, 10)
    assert [one.id for one in SeriesWork(pt.node).get(theirs).same_as] == [link.id]
    (logged,) = pt.audit("same_as.proposed")
    assert (logged["subjects"], logged["peer"]) == ([ours, theirs], ES)
    bench.flow()
    assert (_links(es), es.audit("same_as.received")) == ([], [])


def test_too_little_proposes_nothing(bench: Bench) -> None:
    _both(bench, shared=4)
    assert _look(bench[PT]) == 0
    assert _links(bench[PT]) == []


def test_both_confirm_and_see_each_others_references(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    theirs = es.series(records(range(10)), "Azul")
    made = operator_pb2.CreateSeriesRequest(name="Verde", case_ref=CASE)
    made.references.add(scheme="icse", value="4711")
    ours = SeriesWork(pt.node).create(ANA, made).notice.id
    pt.load(records(range(10)), series="Verde")
    es.refer(theirs, agency=PT)
    bench.flow()
    _look(pt)
    (link,) = _links(pt)
    _answer(pt, link.id, **WHY)
    assert _links(pt)[0].state == "pending"
    bench.flow()
    (told,) = _links(es)
    assert (told.own, told.other, told.agency) == (theirs, ours, PT)
    assert (told.state, told.ours, told.theirs) == ("pending", "pending", "confirmed")
    assert (told.shared, told.own_items, told.other_items) == (10, 10, 10)
    assert list(told.references) == ["icse:4711"]
    assert told.contact.name == "desk pt-pj"
    _answer(es, told.id)  # purpose and case are those of the word that it answers
    bench.flow()
    for node, own in ((pt, ours), (es, theirs)):
        (shown,) = SeriesWork(node.node).get(own).same_as
        assert (shown.state, shown.ours_person, shown.theirs_person) == ("confirmed", "ana", "ana")
        lines = [one for one in SeriesWork(node.node).get(own).history if one.kind == "same_as"]
        assert sorted(one.agency for one in lines) == [ES, PT]
        (said,) = node.audit("same_as.confirmed")
        assert (said["purpose"], said["case"]) == ("deconfliction", CASE)
        assert said["rules"]
    with pytest.raises(WrongState, match="already"):
        _answer(pt, link.id, **WHY)


def test_both_confirm_at_once(bench: Bench) -> None:
    ours, _ = _both(bench)
    es, pt = bench[ES], bench[PT]
    pt.refer(ours, agency=ES)
    bench.flow()
    assert (_look(es), _look(pt)) == (1, 1)
    for node in (es, pt):
        _answer(node, _links(node)[0].id, **WHY)
    bench.flow()
    for node in (es, pt):
        (link,) = _links(node)
        assert link.state == "confirmed"


def test_a_refusal_is_kept_and_not_proposed_again(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    _both(bench)
    _look(pt)
    (link,) = _links(pt)
    _answer(pt, link.id, confirm=False)
    bench.flow()
    assert es.audit("same_as.received") == []  # it knows of nothing
    pt.load(records([90]), series="Verde")
    assert _look(pt) == 0
    assert [one.state for one in _links(pt)] == ["refused"]


def test_a_refusal_reaches_who_confirms_later(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    ours, _ = _both(bench)
    pt.refer(ours, agency=ES)
    bench.flow()
    _look(es), _look(pt)
    _answer(pt, _links(pt)[0].id, confirm=False)
    _answer(es, _links(es)[0].id, **WHY)
    bench.flow()
    assert [_links(node)[0].state for node in (es, pt)] == ["refused", "refused"]
    bench.now += timedelta(minutes=1)
    _answer(pt, _links(pt)[0].id)  # a person there thinks again
    bench.flow()
    assert [_links(node)[0].state for node in (es, pt)] == ["confirmed", "confirmed"]


def test_telling_needs_a_purpose_and_policy(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    ours, _ = _both(bench)
    _look(pt)
    (link,) = _links(pt)
    with pytest.raises(InvalidInput, match="--purpose"):
        _answer(pt, link.id)
    with pytest.raises(InvalidInput, match="case"):
        _answer(pt, link.id, purpose="deconfliction")
    with pytest.raises(PolicyRefused):
        _answer(pt, link.id, purpose="prosecution", case_ref=CASE)
    with pytest.raises(NotFound):
        _answer(pt, new_id(), **WHY)
    narrow = operator_pb2.RetractSeriesRequest(
        series=ours, kind="narrow", reason="x", limited=True, only=[FR]
    )
    Retracting(pt.node).retract(ANA, narrow)
    with pytest.raises(WrongState, match="taken back"):
        _answer(pt, link.id, **WHY)
    bench.flow()
    assert (_links(pt)[0].ours, _links(pt)[0].theirs) == ("withdrawn", "pending")
    assert _links(es) == []


@pytest.mark.parametrize(
    "order", list(permutations(["merge", "refer back", "flow", "look"])), ids=", ".join
)
def test_a_merge_on_one_side_while_the_other_refers_ends_linked(
    bench: Bench, order: tuple[str, ...]
) -> None:
    es, pt = bench[ES], bench[PT]
    kept, part = es.series(records(range(30, 33)), "Azul"), es.series(records(range(10)), "Verde")
    ours = pt.series(records(range(2, 12)), "Novo")
    es.refer(part, agency=PT)
    bench.flow()
    for act in order:
        if act == "merge":
            request = series_work_pb2.MergeSeriesRequest(series=kept, merged=part)
            Merging(es.node).merge(ANA, request)
        elif act == "refer back":
            pt.refer(ours, agency=ES)
        elif act == "look":
            _look(es), _look(pt)
        else:
            bench.flow()
    bench.flow()
    _look(es), _look(pt)
    for node in (pt, es):
        (link,) = _links(node)
        if link.ours == "pending":
            _answer(node, link.id, **WHY)
        bench.flow()
    for node, own, other in ((es, kept, ours), (es, part, ours), (pt, ours, kept)):
        (shown,) = SeriesWork(node.node).get(own).same_as
        assert (shown.state, shown.other) == ("confirmed", other)
    # nothing is lost: items, both ids, both referrals
    assert SeriesWork(es.node).get(part).notice.items == 13
    assert SeriesWork(es.node).get(ours).notice.items == 10
    assert SeriesWork(pt.node).get(part).notice.items == 10
    assert SeriesWork(pt.node).get(part).part_of == kept
    assert [one.series.notice.id for one in es.inbox()] == [ours]
    assert [one.series.notice.id for one in pt.inbox()] == [part]
    # and taking the whole back reaches who was told by the link alone
    withdraw = operator_pb2.RetractSeriesRequest(series=kept, kind="withdraw", reason="court")
    Retracting(es.node).retract(ANA, withdraw)
    bench.flow()
    assert {one.state for one in _links(es)} == {"withdrawn"}
    assert {one.state for one in _links(pt)} <= {"withdrawn"}


def test_a_retraction_reaches_who_was_told_by_a_link_alone(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    ours, _ = _both(bench)
    _look(pt)
    _answer(pt, _links(pt)[0].id, **WHY)
    bench.flow()
    assert _links(es)[0].other == ours
    withdraw = operator_pb2.RetractSeriesRequest(series=ours, kind="withdraw", reason="court")
    Retracting(pt.node).retract(ANA, withdraw)
    bench.flow()
    Purging(es.node).run()
    bench.flow()
    assert _links(es) == []
    (told,) = SeriesWork(pt.node).get(ours).retraction.recipients
    assert (told.agency, told.state) == (ES, "confirmed")
    for message in es.store.read(lambda tx: tx.inbox.by_subject(ours)):
        assert message.kind != "same_as" or message.envelope == b""


def test_only_owners_speak_and_only_of_what_is_here(bench: Bench) -> None:
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    ours, theirs = _both(bench)
    third = fr.series(records([40]))

    def said(by: Running, series: str, other: str, **more: str) -> str:
        body = links_pb2.SameAsWord(
            series=series, other=other, state=more.get("state", "confirmed")
        )
        body.handling.CopyFrom(
            series_pb2.Handling(tlp=3, source="X", information=4, retain_until="2029-01-01")
        )
        body.say_time.CopyFrom(timestamp(bench.now))
        payload = payload_pb2.Payload(same_as=body, purpose=more.get("purpose", PURPOSE))
        reply = by.deliver(by.seal(payload, PT), PT)
        return f"{reply.reason} {reply.text}".strip()

    assert "sender's own" in said(fr, theirs, ours)  # Spain's series, by France
    assert "one of the recipient's" in said(fr, third, theirs)  # none of Portugal's
    assert "no such series" in said(fr, third, new_series_id(PT))
    assert "confirmed or refused" in said(fr, third, ours, state="pending")
    assert said(fr, third, ours, purpose="prosecution").startswith("POLICY_REFUSED")
    assert _links(pt) == []
    assert said(fr, third, ours) == ""
    assert [one.theirs for one in _links(pt, ours)] == ["confirmed"]
    withdraw = operator_pb2.RetractSeriesRequest(series=ours, kind="withdraw", reason="x")
    Retracting(pt.node).retract(ANA, withdraw)
    assert said(es, theirs, ours).startswith("POLICY_REFUSED")


def test_whose_references_are_released_proposes_from_what_it_compares(bench: Bench) -> None:
    hub, pt = bench[HUB], bench[PT]
    theirs = pt.series(records(range(20)), "Verde")
    own = hub.series(records(range(12)), "Hub")
    hub.store.index.refresh(wait=True)
    request = operator_pb2.CompareCollectionRequest(peers=[PT], **WHY)

    def compared() -> operator_pb2.PeerEnd:
        comparison = Comparison(hub.node, ANA, request)
        (end,) = [one.end.end for one in comparison.compare() if one.HasField("end")]
        comparison.close()
        assert end.status == "answered"
        return end

    waits = compared().request
    assert _links(hub) == []
    pt.release(waits)
    assert compared().request == ""
    (link,) = _links(hub)
    assert (link.own, link.other, link.shared) == (own, theirs, 12)
    assert (link.own_items, link.other_items) == (12, 20)
