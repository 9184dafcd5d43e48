"""Clues and tips at whole nodes: published, brought in, judged, relayed, taken back."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from tieline.v1 import operator_clues_pb2 as pb
from tieline.v1 import operator_pb2, payload_pb2, series_pb2
from tieline_client import limits
from tieline_client.clue_list import write_list
from tieline_client.errors import (
    InvalidInput,
    LimitExceeded,
    NotFound,
    PolicyRefused,
    WrongState,
)
from tieline_client.identifiers import new_id
from tieline_client.payloads import timestamp
from tieline_client.tip_import import import_tips
from tieline_server.domain.messages import Reply
from tieline_server.domain.ports import Store
from tieline_server.services.clues import ClueDesk, support
from tieline_server.services.purging import Purging
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.tips import TipDesk

from tests.services.bench import ANA, CASE, ES, FR, HUB, PT, PURPOSE, Bench, Running, records

WORDS = "Blue school bag with a white anchor"


def _actions(store: Store) -> Counter[str]:
    leaves = store.read(lambda tx: [one.leaf for one in tx.audit.records(0, 100_000)])
    return Counter(json.loads(leaf)["action"] for leaf in leaves)


def _clue(node: Running, series: str, text: str = WORDS, kind: str = "object") -> str:
    request = pb.AddClueRequest(series=series, text=text, kind=kind)
    return ClueDesk(node.node).add(ANA, request).id


def _publish(node: Running, clue: str, **more: object) -> pb.ClueView:
    fields: dict[str, object] = {"purpose": PURPOSE, "case_ref": CASE} | more
    request = pb.PublishClueRequest(clue=clue, **fields)  # type: ignore[arg-type]
    return ClueDesk(node.node).publish(ANA, request)


def _published(node: Running) -> list[pb.PublishedClue]:
    return list(ClueDesk(node.node).published(ANA).clues)


def _bring(node: Running, clue: str, *texts: str, **more: object) -> list[str]:
    tips = [pb.NewTip(clue=clue, text=text, **more) for text in texts]  # type: ignore[arg-type]
    return TipDesk(node.node).add(ANA, tips)


def _tips(node: Running, clue: str = "", state: str = "") -> list[pb.TipView]:
    return list(TipDesk(node.node).find(ANA, pb.ListTipsRequest(clue=clue, state=state)).tips)


def _judge(node: Running, tip: str, state: str = "verified", **more: str) -> pb.TipView:
    return TipDesk(node.node).judge(ANA, pb.JudgeTipRequest(tip=tip, state=state, **more))


def _relay(node: Running, *tips: str, **more: str) -> pb.RelayTipsResponse:
    fields = {"purpose": PURPOSE, "case_ref": CASE} | more
    return TipDesk(node.node).relay(ANA, pb.RelayTipsRequest(tips=tips, **fields))


def _withdraw(node: Running, series: str) -> None:
    request = operator_pb2.RetractSeriesRequest(series=series, kind="withdraw", reason="wrong")
    Retracting(node.node).retract(ANA, request)


def test_a_clue_is_words_on_a_series_that_is_here(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CLUES_PER_SERIES", 4)
    pt = bench[PT]
    series = pt.series(records(range(2)))
    _clue(pt, "Azul")
    with pytest.raises(NotFound):
        _clue(pt, "Roxo")
    with pytest.raises(InvalidInput, match="link"):
        _clue(pt, series, "see www.example.org")
    with pytest.raises(InvalidInput):
        _clue(pt, series, kind="no code!")
    for number in range(limits.CLUES_PER_SERIES - 1):
        _clue(pt, series, f"thing {number}")
    with pytest.raises(LimitExceeded):
        _clue(pt, series, "one more")
    assert _actions(pt.store)["clue.added"] == limits.CLUES_PER_SERIES
    _withdraw(pt, series)
    with pytest.raises(WrongState):
        _clue(pt, series)


def test_the_published_list_holds_words_and_a_random_id(bench: Bench, tmp_path: Path) -> None:
    pt = bench[PT]
    series = pt.series(records(range(2)))
    clue, secret = _clue(pt, series), _clue(pt, series, "A room seen in Azul")
    with pytest.raises(InvalidInput, match="name the series"):
        _publish(pt, secret)
    with pytest.raises(InvalidInput, match="name the series"):
        _publish(pt, secret, text=f"a room of {CASE.upper()}")
    with pytest.raises(PolicyRefused):
        _publish(pt, clue, purpose="deconfliction")
    with pytest.raises(InvalidInput, match="case"):
        _publish(pt, clue, case_ref=" ")
    assert _published(pt) == []
    first = _publish(pt, clue)
    second = _publish(pt, clue, text="<b>Bag</b> with an anchor")
    assert first.public_id == second.public_id and len(first.public_id) == 20
    (shown,) = _published(pt)
    assert shown.text == "<b>Bag</b> with an anchor" and shown.public_id == first.public_id
    files = [tmp_path / f"list.{form}" for form in ("json", "csv", "html")]
    for file in files:
        write_list(file, [shown])
        text = file.read_text()
        assert first.public_id in text
        for hidden in (series, clue, "Azul", PT, CASE, "ana"):
            assert hidden not in text, (file, hidden)
    assert json.loads(files[0].read_text())["clues"][0]["text"] == shown.text
    page = files[2].read_text()
    assert (
        "<b>" not in page and "&lt;b&gt;" in page and "http" not in page.replace("http-equiv", "")
    )
    assert "src=" not in page and "<script" not in page and "default-src 'none'" in page
    _publish(pt, clue, take_back=True)
    assert _published(pt) == []
    with pytest.raises(WrongState):
        _publish(pt, clue, take_back=True)
    counts = _actions(pt.store)
    assert (counts["clue.published"], counts["clue.taken_back"]) == (2, 1)
    assert counts["clues.exported"] == 3


def test_what_was_withdrawn_or_restricted_since_is_on_no_list(bench: Bench) -> None:
    pt = bench[PT]
    for name, change in (("Roxo", {"kind": "withdraw"}), ("Verde", {"kind": "narrow", "tlp": 5})):
        series = pt.series(records(range(2)), name=name)
        _publish(pt, _clue(pt, series))
        assert len(_published(pt)) == 1
        request = operator_pb2.RetractSeriesRequest(series=series, reason="r", **change)
        Retracting(pt.node).retract(ANA, request)
        assert _published(pt) == []


def test_another_agencys_series_is_for_the_public_only_under_clear(bench: Bench) -> None:
    es, hub = bench[ES], bench[HUB]
    amber = es.series(records(range(2)), name="Roxo")
    handling = series_pb2.Handling(code=0, tlp=1, source="X", information=4)
    (clear,) = es.load(records(range(4, 6)), series="Verde", handling=handling).series
    for series in (amber, clear):
        es.refer(series, agency=HUB)
    bench.flow()
    _publish(hub, _clue(hub, clear))
    with pytest.raises(PolicyRefused, match="TLP:CLEAR"):
        _publish(hub, _clue(hub, amber))
    assert len(_published(hub)) == 1


def test_tips_come_in_once_each_and_so_many_a_day(bench: Bench) -> None:
    pt = bench[PT]
    clue = _clue(pt, pt.series(records(range(2))))
    public = _publish(pt, clue).public_id
    assert _bring(pt, public, "Sold in Porto", "sold in  PORTO ", "Seen in Vigo") == [
        *("added", "known", "added")
    ]
    assert _bring(pt, clue, "Sold in Porto", contact="Ana") == ["added"]
    assert _bring(pt, clue, "sold in porto", contact=" ana ") == ["known"]
    assert _bring(pt, new_id(), "Sold") == ["unknown_clue"]
    (why,) = _bring(pt, clue, "see www.example.org/bag")
    assert "link" in why
    (why,) = _bring(pt, clue, "x", country="P1")
    assert "country" in why
    late = timestamp(bench.now + timedelta(days=3))
    (why,) = _bring(pt, clue, "tomorrow", receive_time=late)
    assert "future" in why
    many = [f"it is number {number}" for number in range(limits.TIPS_PER_SOURCE_DAY + 5)]
    fates = Counter(_bring(pt, clue, *many, source="flood"))
    assert fates == {"added": limits.TIPS_PER_SOURCE_DAY, "limited": 5}
    assert _bring(pt, clue, "again", source="Flood") == ["limited"]
    assert _bring(pt, clue, "mine", source="other") == ["added"]
    bench.now += timedelta(days=1)
    assert _bring(pt, clue, "again", source="flood") == ["added"]
    (view,) = ClueDesk(pt.node).find(ANA, "").clues
    added = limits.TIPS_PER_SOURCE_DAY + 5
    assert (view.tips, view.fresh, view.known, view.limited) == (added, added, 2, 6)
    for column in ("contact", "source"):
        kept = pt.store.read(lambda tx: [getattr(one, column) for one in tx.clues.tips()])  # noqa: B023
        assert not {"ana", "flood", "other"} & {one.casefold() for one in kept}


def test_a_person_judges_and_only_that_counts(bench: Bench) -> None:
    pt = bench[PT]
    series = pt.series(records(range(2)))
    clue = _clue(pt, series)
    _bring(pt, clue, "one", "two", "three", "four", country="PT")
    one, two, three, four = (tip.id for tip in _tips(pt, clue))
    assert pt.store.read(lambda tx: support(tx, series)) == {}
    _judge(pt, one, supports="PT")
    _judge(pt, two, supports="PT")
    _judge(pt, three, eliminates="ES")
    _judge(pt, four, "dismissed", reason="another bag")
    assert pt.store.read(lambda tx: support(tx, series)) == {"PT": 2, "ES": -1}
    _judge(pt, two, "dismissed", reason="a mistake")
    assert pt.store.read(lambda tx: support(tx, series)) == {"PT": 1, "ES": -1}
    with pytest.raises(WrongState):
        _judge(pt, one, supports="PT")
    for wrong in ({"supports": "XX1"}, {}, {"supports": "PT", "eliminates": "ES"}):
        with pytest.raises(InvalidInput):
            _judge(pt, one, **wrong)
    with pytest.raises(NotFound):
        _judge(pt, new_id(), supports="PT")
    assert [tip.id for tip in _tips(pt, clue, "dismissed")] == [two, four]
    shown = ClueDesk(pt.node).find(ANA, series)
    assert {(s.country, s.supporting, s.eliminating) for s in shown.support} == {
        *(("PT", 1, 0), ("ES", 0, 1))
    }
    assert _actions(pt.store)["tip.verified"] == 3


def test_a_tip_goes_to_its_countrys_agency_which_judges_for_itself(bench: Bench) -> None:
    pt, es = bench[PT], bench[ES]
    series = pt.series(records(range(3)))
    clue = _clue(pt, series)
    _bring(pt, clue, "Sold in Vigo", "Seen in Lyon", "Nothing")
    vigo, lyon, nothing = (tip.id for tip in _tips(pt, clue))
    _judge(pt, vigo, supports="ES")
    with pytest.raises(PolicyRefused, match="refer the series first"):
        _relay(pt, vigo)
    with pytest.raises(InvalidInput, match="names no country"):
        _relay(pt, nothing)
    _judge(pt, nothing, "dismissed", reason="r")
    with pytest.raises(InvalidInput, match="dismissed"):
        _relay(pt, nothing, agency=ES)
    pt.refer(series, country="ES")
    told = _relay(pt, vigo)
    assert list(told.tips[0].relayed_to) == [ES]
    partly = _relay(pt, vigo, lyon, agency=ES)
    assert not partly.refused
    bench.flow()
    came = {tip.id: tip for tip in _tips(es)}
    assert set(came) == {vigo, lyon}
    assert (came[vigo].state, came[vigo].said, came[vigo].origin) == ("new", "verified +ES", PT)
    assert es.store.read(lambda tx: support(tx, series)) == {}
    _judge(es, vigo, supports="ES")
    assert es.store.read(lambda tx: support(tx, series)) == {"ES": 1}
    (theirs,) = ClueDesk(es.node).find(ANA, series).clues
    assert (theirs.text, theirs.origin, theirs.id) == (WORDS, PT, clue)
    with pytest.raises(InvalidInput, match=PT):
        _publish(es, clue)
    assert _actions(pt.store)["tip.relayed"] == 2
    assert _actions(es.store)["tip.received"] == 2


def test_a_hub_gives_an_owner_the_tips_on_its_series(bench: Bench) -> None:
    es, hub = bench[ES], bench[HUB]
    series = es.series(records(range(3)))
    es.refer(series, agency=HUB)
    bench.flow()
    clue = _clue(hub, series)
    _bring(hub, clue, "Sold in Vigo", country="ES")
    (tip,) = _tips(hub)
    _relay(hub, tip.id)
    bench.flow()
    assert [one.text for one in _tips(es)] == ["Sold in Vigo"]


def test_a_withdrawn_series_takes_its_clues_and_tips_with_it(bench: Bench) -> None:
    pt, es = bench[PT], bench[ES]
    series = pt.series(records(range(3)))
    clue = _clue(pt, series)
    _bring(pt, clue, "Sold in Vigo", "Sold in Lugo", country="ES")
    first, second = (tip.id for tip in _tips(pt))
    pt.refer(series, country="ES")
    _relay(pt, first)
    bench.flow()
    assert len(_tips(es)) == 1
    _relay(pt, second)
    assert [one.kind for one in pt.queued(ES)] == ["tip"]
    _withdraw(pt, series)
    assert "tip" not in [one.kind for one in pt.queued(ES)]
    with pytest.raises(WrongState):
        _relay(pt, second, agency=ES)
    bench.flow()
    Purging(es.node).run()
    assert _tips(es) == [] and not ClueDesk(es.node).find(ANA, "").clues
    assert WORDS.encode() not in es.path.read_bytes()


def _forged(**changes: object) -> payload_pb2.Payload:
    fields: dict[str, object] = {
        "id": new_id(),
        "series": f"{PT}/{new_id()}",
        "clue": new_id(),
        "clue_kind": "object",
        "clue_text": WORDS,
        "text": "Sold in Vigo",
        "state": "new",
    } | changes
    return payload_pb2.Payload(tip=payload_pb2.TipRelay(**fields))  # type: ignore[arg-type]


def test_what_a_peer_relays_is_held_against_the_same_rules(bench: Bench) -> None:
    pt, es, fr = bench[PT], bench[ES], bench[FR]
    series = pt.series(records(range(3)))
    pt.refer(series, agency=ES)
    bench.flow()

    def reply(sender: Running = pt, **changes: object) -> Reply:
        body = _forged(series=series, **changes)
        body.tip.receive_time.CopyFrom(timestamp(bench.now))
        return Reply(sender.deliver(sender.seal(body, ES), ES).reply)

    assert reply() is Reply.APPLIED
    assert reply(text="see https://example.org/x") is Reply.REFUSED
    assert reply(clue_text="bag.jpg") is Reply.REFUSED
    assert reply(state="dismissed") is Reply.REFUSED
    assert reply(country="P1") is Reply.REFUSED
    assert reply(id="x") is Reply.REFUSED
    unknown = _forged()
    unknown.tip.receive_time.CopyFrom(timestamp(bench.now))
    assert Reply(fr.deliver(fr.seal(unknown, ES), ES).reply) is Reply.RETRY
    assert len(_tips(es)) == 1


def test_a_night_of_tips_costs_no_more_at_its_end_than_at_its_beginning(
    bench: Bench, tmp_path: Path
) -> None:
    """The release of November 2020: 26,000 tips."""
    pt = bench[PT]
    clues = [_clue(pt, pt.series(records([n]), name=f"S{n}"), f"thing {n}") for n in range(5)]
    file = tmp_path / "tips.csv"
    with file.open("w") as out:
        out.write("clue;text;contact;source;country\n")
        for number in range(26_000):
            if number % 1000 == 7:
                out.write("broken row\n")
            else:
                place = number % 13_000 if number % 10 == 0 else number
                out.write(f"{clues[number % 5]};place {place};;site-{number % 900};PT\n")
    desk = TipDesk(pt.node)
    spent: list[float] = []

    class Client:
        def add_tips(self, tips: list[pb.NewTip]) -> list[str]:
            began = time.thread_time()
            added = desk.add(ANA, tips)
            spent.append(time.thread_time() - began)
            return added

    report = import_tips(Client(), file)  # type: ignore[arg-type]
    assert report.fates == {"added": 24_674, "known": 1_300, "rejected": 26}
    assert [one.record for one in report.rejected] == [8 + 1000 * n for n in range(26)]
    part = len(spent) // 4
    assert part and sum(spent[-part:]) < 4 * sum(spent[:part]), spent


def test_verified_tips_part_countries_that_are_even_and_correct_what_was_told(
    bench: Bench,
) -> None:
    pt, es, fr = bench[PT], bench[ES], bench[FR]
    series = pt.series(records(range(3)))
    for country in ("ES", "FR"):
        request = operator_pb2.AssessSeriesRequest(
            series=series, country=country, confidence=2, grounds="tiles"
        )
        shown = SeriesWork(pt.node).assess(ANA, request)
    assert list(shown.likely_countries) == ["ES", "FR"]
    assert {one.recipient for one in pt.refer(series)} == {ES, FR}
    bench.flow()
    clue = _clue(pt, series)
    _bring(pt, clue, "Sold in Lyon")
    (tip,) = _tips(pt)
    assert list(SeriesWork(pt.node).get(series).likely_countries) == ["ES", "FR"]
    _judge(pt, tip.id, supports="FR")
    assert list(SeriesWork(pt.node).get(series).likely_countries) == ["FR"]
    bench.flow()
    assert [list(one.referral.likely_countries) for one in es.inbox()] == [["FR"]]
    assert not fr.inbox()[0].referral.corrected
    assert _actions(pt.store)["referral.corrected"] == 1
