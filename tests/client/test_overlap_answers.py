"""What the node sends is held against the question; hits of several digests become one record."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tieline.v1 import exchange_pb2
from tieline.v1 import operator_pb2 as pb
from tieline_client import limits
from tieline_client.asked_list import STRONGEST, AskedList, AskTerms, ListBuilder
from tieline_client.digests import DigestKind, format_digest
from tieline_client.errors import MalformedMessage
from tieline_client.formats.record import Record
from tieline_client.overlap_answers import AskStarted, Gathering, PeerAnswer

PEER = "us-ice"
Hit = tuple[DigestKind, int, int, int, bool]
"""Kind, position, distance, series (0 for none), ambiguous."""


def _digest(kind: DigestKind, number: int) -> bytes:
    return hashlib.shake_128(bytes([kind, number])).digest(kind.width)


def _list(records: Sequence[dict[DigestKind, int]]) -> AskedList:
    builder = ListBuilder(AskTerms(), near=True)
    for number, digests in enumerate(records, start=1):
        record = Record(number=number, entire=True)
        for kind, value in digests.items():
            setattr(record, kind.label, _digest(kind, value))
        builder.add(record)
    return builder.build()


ASKED = _list([{DigestKind.SHA1: 1, DigestKind.PDQ: 1}, {DigestKind.SHA1: 2}])


def _started(*peers: str) -> pb.AskOverlapResponse:
    return pb.AskOverlapResponse(started=pb.AskStarted(asked=2, peers=peers or (PEER,)))


def _series(*indexes: int, agency: str = PEER) -> pb.AskOverlapResponse:
    entries = [exchange_pb2.SeriesEntry(index=index, id=f"s{index}") for index in indexes]
    return pb.AskOverlapResponse(series=pb.PeerSeries(agency=agency, series=entries))


def _hits(kind: int = DigestKind.SHA1, *, agency: str = PEER, **columns: Any) -> Any:
    batch = exchange_pb2.HitBatch(kind=kind, **columns)  # type: ignore[arg-type]
    return pb.AskOverlapResponse(hits=pb.PeerHits(agency=agency, hits=batch))


def _end(agency: str = PEER, **values: Any) -> pb.AskOverlapResponse:
    return pb.AskOverlapResponse(end=pb.PeerEnd(agency=agency, status="answered", **values))


def _gather(asked: AskedList, *messages: pb.AskOverlapResponse) -> list[AskStarted | PeerAnswer]:
    gathering = Gathering(asked)
    events = [gathering.take(message) for message in messages]
    return [event for event in events if event is not None]


# --- the honest node ------------------------------------------------------------------------------


@st.composite
def _questions(draw: st.DrawFn) -> tuple[list[dict[DigestKind, int]], list[Hit]]:
    digests = st.dictionaries(st.sampled_from(DigestKind), st.integers(0, 4), min_size=1)
    records = draw(st.lists(digests, min_size=1, max_size=8))
    asked = _list(records)
    hits: set[Hit] = set()
    for kind, column in asked.columns.items():
        for position in range(len(column.digests)):
            for _ in range(draw(st.integers(0, 2))):
                distance = draw(st.integers(0, limits.NEAR_RADIUS)) if kind == DigestKind.PDQ else 0
                ambiguous = kind is DigestKind.MD5 and position % 2 == 1
                hits.add((kind, position, distance, draw(st.integers(0, 3)), ambiguous))
    return records, sorted(hits)


def _as_sent(hits: list[Hit], size: int) -> list[pb.AskOverlapResponse]:
    """Batches of at most ``size`` hits of one kind."""
    messages = []
    for kind in DigestKind:
        mine = [hit for hit in hits if hit[0] is kind]
        for start in range(0, len(mine), size):
            part = mine[start : start + size]
            series = [hit[3] for hit in part]
            messages.append(
                _hits(
                    kind,
                    positions=[hit[1] for hit in part],
                    distances=[hit[2] for hit in part] if kind is DigestKind.PDQ else [],
                    series=series if any(series) else [],
                    ambiguous=sorted({hit[1] for hit in part if hit[4]}),
                )
            )
    return messages


@settings(max_examples=200)
@given(_questions(), st.integers(1, 5))
def test_hits_of_all_digests_of_a_record_become_one_overlap(
    question: tuple[list[dict[DigestKind, int]], list[Hit]], size: int
) -> None:
    records, hits = question
    asked = _list(records)
    sent = [_started(), _series(1, 2, 3), *_as_sent(hits, size), _end(disclosure="reference")]
    _, answer = _gather(asked, *sent)
    assert isinstance(answer, PeerAnswer)
    digest_at = {
        (kind, position): row.tobytes()
        for kind, column in asked.columns.items()
        for position, row in enumerate(column.digests)
    }
    found = list(answer.overlaps())
    expected = []
    for number, digests in enumerate(records, start=1):
        own = {kind: _digest(kind, value) for kind, value in digests.items()}
        mine = [hit for hit in hits if own.get(hit[0]) == digest_at[hit[0], hit[1]]]
        if not mine:
            continue
        best = min(mine, key=lambda hit: (STRONGEST.index(hit[0]), hit[2]))
        strongest = next(kind for kind in STRONGEST if kind in own)
        expected.append(
            (
                format_digest(strongest, own[strongest]),
                number,
                best[0].label,
                "near" if best[0] is DigestKind.PDQ else "exact",
                best[2],
                tuple(f"s{index}" for index in sorted({hit[3] for hit in mine} - {0})),
                best[4],
            )
        )
    assert [
        (
            one.asked,
            one.record,
            one.matched,
            one.match,
            one.distance,
            tuple(series.id for series in one.series),
            one.ambiguous,
        )
        for one in found
    ] == expected
    assert {one.disclosure for one in found} <= {"reference"}


def test_peers_answer_between_one_another() -> None:
    messages = [
        _started("a", "b"),
        _series(1, agency="a"),
        _series(1, agency="b"),
        _hits(positions=[0], series=[1], agency="b"),
        _hits(positions=[1], series=[1], agency="a"),
        _end("b", count=7, receipt="r"),
        _end("a", truncated=True),
    ]
    started, second, first = _gather(ASKED, *messages)
    assert started == AskStarted(2, 0, ("a", "b"))
    assert isinstance(second, PeerAnswer)
    assert isinstance(first, PeerAnswer)
    assert (second.agency, second.count, second.receipt, second.truncated) == ("b", 7, "r", False)
    assert (first.agency, first.count, first.receipt, first.truncated) == ("a", None, "", True)
    assert (len(second.matches), len(first.matches)) == (1, 1)
    assert {one.record for answer in (first, second) for one in answer.overlaps()} == {1, 2}


# --- a node that lies, or is broken ---------------------------------------------------------------

HOSTILE: dict[str, list[pb.AskOverlapResponse]] = {
    "two starts": [_started(), _started()],
    "hits before the start": [_hits(positions=[0])],
    "a peer that was not asked": [_started(), _hits(positions=[0], agency="us-fbi")],
    "series of a peer that was not asked": [_started(), _series(1, agency="us-fbi")],
    "the end of a peer that was not asked": [_started(), _end("us-fbi")],
    "two ends": [_started(), _end(), _end()],
    "hits after the end": [_started(), _end(), _hits(positions=[0])],
    "a position beyond the list": [_started(), _hits(positions=[2])],
    "a position beyond any list": [_started(), _hits(positions=[2**64 - 1])],
    "a flag beyond the list": [_started(), _hits(positions=[0], ambiguous=[2**63])],
    "positions that go back": [_started(), _hits(positions=[1, 0])],
    "a kind that was not asked": [_started(), _hits(DigestKind.MD5, positions=[0])],
    "no kind": [_started(), _hits(0, positions=[0])],
    "a kind that does not exist": [_started(), _hits(9, positions=[0])],
    "an exact hit with a distance": [_started(), _hits(positions=[0], distances=[0])],
    "a near hit without": [_started(), _hits(DigestKind.PDQ, positions=[0])],
    "a distance beyond the radius": [
        _started(),
        _hits(DigestKind.PDQ, positions=[0], distances=[limits.NEAR_RADIUS + 1]),
    ],
    "a distance without end": [
        _started(),
        _hits(DigestKind.PDQ, positions=[0], distances=[2**32 - 1]),
    ],
    "fewer series than hits": [_started(), _series(1), _hits(positions=[0, 1], series=[1])],
    "a series that was not sent": [_started(), _series(1), _hits(positions=[0], series=[2])],
    "a series of another peer": [
        _started("a", "b"),
        _series(1, agency="a"),
        _hits(positions=[0], series=[1], agency="b"),
    ],
    "two series of one index": [_started(), _series(1, 1)],
    "a series without an index": [_started(), _series(0)],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_does_not_fit_the_question_is_refused(case: str) -> None:
    with pytest.raises(MalformedMessage):
        _gather(ASKED, *HOSTILE[case])


def test_series_without_end_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SERIES_PER_ANSWER", 3)
    assert _gather(ASKED, _started(), _series(1, 2, 3), _end())
    with pytest.raises(MalformedMessage):
        _gather(ASKED, _started(), _series(1, 2), _series(3, 4))
