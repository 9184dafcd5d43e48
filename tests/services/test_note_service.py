"""Notes between agencies on a series: who is told, what they see, what takes them back."""

from __future__ import annotations

from datetime import timedelta
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
from tieline_client import limits
from tieline_client.errors import InvalidInput, PolicyRefused, WrongState
from tieline_client.identifiers import new_id
from tieline_client.payloads import timestamp
from tieline_server.services.merging import Merging
from tieline_server.services.notes import NoteDesk
from tieline_server.services.purging import Purging
from tieline_server.services.referring import Referring
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_work import SeriesWork

from tests.services.bench import ANA, CASE, ES, FR, HUB, PT, PURPOSE, Bench, Running, records

WHY: dict[str, Any] = {"purpose": PURPOSE, "case_ref": CASE}


def _note(node: Running, series: str, text: str, **more: Any) -> list[str]:
    request = operator_links_pb2.AddNoteRequest(series=series, text=text, **(WHY | more))
    return list(NoteDesk(node.node).add(ANA, request).note.told)


def _texts(node: Running, series: str) -> list[tuple[str, str]]:
    return [(one.agency, one.text) for one in SeriesWork(node.node).get(series).notes]


def _told(bench: Bench) -> str:
    series = bench[ES].series(records(range(3)))
    bench[ES].refer(series, agency=PT)
    bench.flow()
    return series


def test_both_see_all_notes_in_order(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = _told(bench)
    bench.offline.add(PT)
    assert _note(es, series, "first") == [PT]
    bench.now += timedelta(minutes=1)
    assert _note(pt, series, "second") == [ES]
    bench.now += timedelta(minutes=1)
    _note(es, series, "third")
    bench.offline.clear()
    bench.flow()
    said = [(ES, "first"), (PT, "second"), (ES, "third")]
    assert _texts(es, series) == _texts(pt, series) == said
    (logged,) = pt.audit("series.noted")
    assert (logged["purpose"], logged["case"], logged["rules"] != []) == (PURPOSE, CASE, True)
    assert len(pt.audit("note.received")) == 2


def test_a_note_reaches_everybody_who_shares_it_or_one_of_them(bench: Bench) -> None:
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    series = _told(bench)
    request = operator_pb2.StepReferralRequest(id=pt.inbox()[0].id, state="passed_on", passed_to=FR)
    Referring(pt.node).step(ANA, request)
    bench.flow()
    assert _note(pt, series, "to both") == [ES, FR]
    assert _note(pt, series, "to one", agency=FR) == [FR]
    assert _note(fr, series, "back") == [ES, PT]
    bench.flow()
    assert {text for _, text in _texts(es, series)} == {"to both", "back"}
    assert {text for _, text in _texts(fr, series)} == {"to both", "to one", "back"}
    with pytest.raises(InvalidInput, match="does not have"):
        _note(es, series, "x", agency=FR)


def test_a_note_on_a_whole_reaches_who_was_told_a_part(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    part = _told(bench)
    kept = es.series(records(range(9, 12)), "Verde")
    Merging(es.node).merge(ANA, series_work_pb2.MergeSeriesRequest(series=kept, merged=part))
    _note(es, kept, "one room")
    bench.flow()
    assert _texts(pt, part) == [(ES, "one room")]
    _note(pt, part, "seen")
    bench.flow()
    assert [text for _, text in _texts(es, kept)] == ["one room", "seen"]


def test_what_is_not_written(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    alone = es.series(records([50]), "Alone")
    with pytest.raises(WrongState, match="no other agency"):
        _note(es, alone, "x")
    series = _told(bench)
    for text in ("", "  ", "\u200b", "x" * (limits.FREE_TEXT_CHARS + 1)):
        with pytest.raises(InvalidInput):
            _note(es, series, text)
    with pytest.raises(InvalidInput):
        _note(es, series, "x", purpose="")
    with pytest.raises(PolicyRefused):
        _note(es, series, "x", purpose="prosecution")
    bench.flow()
    assert _texts(pt, series) == _texts(es, series) == []
    assert es.audit("series.noted") == []


def test_a_retraction_reaches_notes(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = _told(bench)
    _note(es, series, "our words")
    _note(pt, series, "their words")
    bench.flow()
    withdraw = operator_pb2.RetractSeriesRequest(series=series, kind="withdraw", reason="x")
    Retracting(es.node).retract(ANA, withdraw)
    bench.flow()
    assert Purging(pt.node).run()
    bench.flow()
    assert pt.store.read(lambda tx: tx.notes.of(series)) == []
    for message in pt.store.read(lambda tx: tx.inbox.by_subject(series)):
        assert message.envelope == b""
    with pytest.raises(WrongState, match="withdrawn"):
        _note(es, series, "x")


def test_nobody_learns_by_a_note_or_a_tip_who_else_was_told_of_a_series(bench: Bench) -> None:
    """Its owner told two of three agencies; one of them tries the other two."""
    pt, es, fr = bench[PT], bench[ES], bench[FR]
    series = pt.series(records(range(3)))
    for agency in (FR, ES):
        pt.refer(series, agency=agency)
    assert bench[HUB]
    bench.flow()
    note = links_pb2.Note(series=series, text="x", note_time=timestamp(bench.now))
    note.handling.CopyFrom(
        series_pb2.Handling(tlp=3, source="X", information=4, retain_until="2029-01-01")
    )
    tip = payload_pb2.TipRelay(
        series=series,
        clue_kind="object",
        clue_text="a lamp",
        text="seen there",
        state="new",
        receive_time=timestamp(bench.now),
    )
    for body in (note, tip):
        answers = []
        for to in (ES, HUB):
            body.id = new_id()
            payload = payload_pb2.Payload()
            if isinstance(body, payload_pb2.TipRelay):
                body.clue = new_id()
                payload.tip.CopyFrom(body)
            else:
                payload.note.CopyFrom(body)
            reply = fr.deliver(fr.seal(payload, to), to)
            answers.append((reply.reply, reply.reason, reply.text))
        assert answers[0] == answers[1]
    assert _texts(es, series) == []


def test_who_does_not_share_it_writes_nothing(bench: Bench) -> None:
    fr, pt = bench[FR], bench[PT]
    series = _told(bench)

    def said(**more: Any) -> str:
        body = links_pb2.Note(id=new_id(), series=series, text="x")
        body.note_time.CopyFrom(timestamp(bench.now))
        body.handling.CopyFrom(
            series_pb2.Handling(tlp=3, source="X", information=4, retain_until="2029-01-01")
        )
        for name, value in more.items():
            setattr(body, name, value)
        reply = fr.deliver(fr.seal(payload_pb2.Payload(note=body), PT), PT)
        return f"{reply.reason} {reply.text}"

    assert "does not share" in said()
    assert "words" in said(text=" ")
    assert "not here yet" in said(series=f"fr-ofmin/{new_id()}")
    assert _texts(pt, series) == []
