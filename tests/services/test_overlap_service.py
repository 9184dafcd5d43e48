"""Asking and answering: equal to set intersection, bounded by policy, proven by receipts.

The second half is a rogue that answers: whatever does not fit together makes that peer refused,
and none of its hits is shown.
"""

from __future__ import annotations

import hashlib
import random
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest
from tieline.v1 import digests_pb2, exchange_pb2, payload_pb2, series_pb2
from tieline_client import limits
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind, pack
from tieline_client.errors import (
    InvalidDigest,
    InvalidInput,
    MalformedMessage,
    PolicyRefused,
    RequestIdReused,
    SignatureRefused,
    TielineError,
)
from tieline_client.formats.record import Record
from tieline_client.payloads import Audience
from tieline_server.services import answering

from tests.services.bench import (
    CASE,
    ES,
    FBI,
    HUB,
    ICE,
    INTERPOL,
    PT,
    PURPOSE,
    Bench,
    Tamper,
    record,
    records,
)

Responses = Iterator[exchange_pb2.OverlapResponse]
KINDS = ("md5", "sha1", "sha256")


# --- honest ---------------------------------------------------------------------------------------


def _partial(rng: random.Random, number: int) -> Record:
    """A record with some of its digests, as different agencies have different tools."""
    kept = rng.sample(KINDS, rng.randint(1, 3))
    return record(number, kinds=" ".join(kept))


def test_hits_equal_set_intersection_on_any_shared_digest(bench: Bench) -> None:
    rng = random.Random(7)
    held = [_partial(rng, number) for number in range(0, 400)]
    asked = [_partial(rng, number) for number in range(200, 600)]
    bench[PT].load(held)
    ends, overlaps = bench[ES].ask(asked, PT)
    theirs = {kind: {getattr(one, kind) for one in held} - {None} for kind in KINDS}
    expected = {
        one.number
        for one in asked
        if any(getattr(one, kind) in theirs[kind] for kind in KINDS if getattr(one, kind))
    }
    assert {one.record for one in overlaps[PT]} == expected
    assert len(overlaps[PT]) == len(expected)
    assert (ends[PT].status, ends[PT].reason) == (
        "answered",
        f"more waits for a person at {PT}",
    )
    assert {one.disclosure for one in overlaps[PT]} == {"hit"}


def test_near_is_within_31_bits_and_says_how_far(bench: Bench) -> None:
    def flipped(digest: bytes, bits: int) -> bytes:
        return (int.from_bytes(digest) ^ ((1 << bits) - 1)).to_bytes(32)

    base = record(1, kinds="pdq").pdq
    assert base is not None
    bench[PT].load([record(1, kinds="pdq")])
    asked = [record(n, kinds="", pdq=flipped(base, n)) for n in (0, 1, 31, 32)]
    _, overlaps = bench[ES].ask(asked, PT, near=True)
    assert {one.record: one.distance for one in overlaps[PT]} == {0: 0, 1: 1, 31: 31}
    assert {one.match for one in overlaps[PT]} == {"near"}


def test_perceptual_hashes_stay_here_in_an_exact_question(bench: Bench) -> None:
    bench[PT].load([record(1, kinds="pdq sha1")])
    ends, overlaps = bench[ES].ask([record(1, kinds="pdq")], PT)
    assert overlaps == {}
    assert ends[PT].reason == "nothing was asked"


@pytest.mark.parametrize("asker", [HUB, ES])
def test_a_hit_is_learnt_at_once_and_references_after_a_person(bench: Bench, asker: str) -> None:
    series = bench[PT].series(records(range(3)))
    ends, overlaps = bench[asker].ask(records(range(3)), PT)
    assert {one.disclosure for one in overlaps[PT]} == {"hit"}
    assert [list(one.series) for one in overlaps[PT]] == [[], [], []]
    assert ends[PT].reason == f"more waits for a person at {PT}"
    bench[PT].release(ends[PT].request)
    _, overlaps = bench[asker].ask(records(range(3)), PT)
    assert {one.disclosure for one in overlaps[PT]} == {"reference"}
    shown = overlaps[PT][0].series[0]
    assert (shown.id, shown.name) == (series, "")
    assert shown.contact_email == f"duty@{PT}.example"


@pytest.mark.parametrize("first", [0, 3])
def test_of_holdings_of_one_case_the_strictest_answers(bench: Bench, first: int) -> None:
    """Whichever came first, and whether the item is in a series or in none."""
    for code in (first, 3 - first):
        handling = series_pb2.Handling(code=code, restriction="for nobody else")
        name = "R" if code else ""
        bench[PT].load(records(range(2)), series=name, handling=handling)
    _, overlaps = bench[ES].ask(records(range(3)), PT)
    assert overlaps == {}
    bench[PT].load(records(range(1)), case_ref="another")
    _, overlaps = bench[ES].ask(records(range(3)), PT)
    assert [one.record for one in overlaps[PT]] == [0]


def test_md5_hits_on_conflicting_items_are_flagged(bench: Bench) -> None:
    md5 = record(1).md5
    bench[PT].load([record(1, kinds="sha1", md5=md5), record(2, kinds="sha1", md5=md5)])
    _, overlaps = bench[ES].ask([record(9, kinds="", md5=md5), record(1, kinds="sha1")], PT)
    assert {one.record: one.ambiguous for one in overlaps[PT]} == {9: True, 1: False}


def test_excluded_records_are_never_asked(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    ends, overlaps = bench[ES].ask([record(0), record(1, votes=())], PT)
    assert [one.record for one in overlaps[PT]] == [0]
    (entry,) = [one for one in bench[ES].audit("query.asked") if one["purpose"]]
    assert entry["detail"]["records"] == 1  # type: ignore[index]
    assert entry["detail"]["excluded"] == 1  # type: ignore[index]
    assert ends[PT].receipt


def test_one_peer_that_is_away_does_not_delay_the_others(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    bench.offline.add(FBI)
    ends, overlaps = bench[ES].ask(records(range(3)), PT, ICE)
    assert ends[ICE].status == "unreachable"
    assert len(overlaps[PT]) == 3


def test_both_sides_log_the_question_the_misses_are_in_neither(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    bench[ES].ask(records(range(2, 6)), PT)
    answered = bench[PT].audit("query.answered")[0]
    disclosed = bench[PT].audit("query.disclosed")[0]
    result = bench[ES].audit("query.result")[0]
    assert (answered["person"], answered["peer"]) == ("ana", ES)
    assert (answered["purpose"], answered["case"]) == (PURPOSE, CASE)
    assert len(disclosed["detail"]["items"]) == 1  # type: ignore[index]
    # One record, by each of its three digests.
    assert result["detail"]["overlaps"] == 3  # type: ignore[index]
    miss = record(5).sha1
    assert miss is not None
    for running in (bench[PT], bench[ES]):
        assert all(miss.hex() not in str(entry) for entry in running.audit())


@pytest.mark.parametrize("purpose", ["prosecution", "data-quality"])
def test_other_purposes_learn_hits_on_unrestricted_data(bench: Bench, purpose: str) -> None:
    bench[PT].load(records(range(2)))
    ends, overlaps = bench[ES].ask(records(range(2)), PT, purpose=purpose)
    assert ends[PT].status == "answered"
    assert len(overlaps[PT]) == 2


def test_whom_policy_does_not_list_is_refused_before_anything_is_sent(bench: Bench) -> None:
    bench[FBI].load(records(range(2)))
    bench[PT].load(records(range(2)))
    ends, overlaps = bench[ES].ask(records(range(2)), FBI, PT)
    assert ends[FBI].status == "refused"
    assert "agreement" in ends[FBI].reason
    assert FBI not in overlaps
    assert bench[FBI].audit("query.answered") == []
    assert len(overlaps[PT]) == 2


def test_a_purpose_that_no_rule_lists_asks_nobody(bench: Bench) -> None:
    ends, _ = bench[ES].ask(records(range(2)), PT, purpose="new-code")
    assert ends[PT].status == "refused"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"purpose": "no-such"}, "not in the directory"),
        ({"case_ref": "  "}, "case reference"),
        ({"deadline_seconds": limits.QUERY_SECONDS_MOST + 1}, "at most"),
        ({"peers": (ES,)}, "is this node"),
    ],
)
def test_a_question_that_cannot_be_asked(
    bench: Bench, header: dict[str, object], words: str
) -> None:
    bench[PT]
    with pytest.raises(TielineError, match=words):
        bench[ES].ask(records(range(2)), PT, **header)


# --- a rogue asks ---------------------------------------------------------------------------------


def _header(lists: dict[DigestKind, bytes], **changes: Any) -> payload_pb2.Payload:
    digest = hashlib.sha256(b"".join(lists[kind] for kind in sorted(lists))).digest()
    fields: dict[str, Any] = {
        "mode": payload_pb2.QUERY_MODE_EXACT,
        "records": 3,
        "counts": [len(lists.get(kind, b"")) // kind.width for kind in DigestKind],
        "list_digest": digest,
    }
    return payload_pb2.Payload(query=payload_pb2.QueryHeader(**(fields | changes)))


def _rogue_asks(
    bench: Bench,
    lists: list[tuple[DigestKind, bytes]],
    *,
    announced: dict[DigestKind, bytes] | None = None,
    **changes: Any,
) -> list[exchange_pb2.OverlapResponse]:
    asker, _ = bench[ES], bench[PT]
    told = announced if announced is not None else dict(lists)
    header = asker.seal(_header(told, **changes), PT)
    batches = [DigestBatch.of(kind, packed) for kind, packed in lists]
    return list(asker.node.peers.overlap(PT, header, batches, 5.0))


def _sha1(*numbers: int) -> bytes:
    return pack(DigestKind.SHA1, [record(n).sha1 or b"" for n in numbers])


def _receipts(bench: Bench) -> int:
    return len(bench[PT].audit("query.answered"))


def test_an_honest_question_by_hand_gets_a_receipt(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    answer = _rogue_asks(bench, [(DigestKind.SHA1, _sha1(0, 1, 2))])
    assert answer[-1].HasField("end")
    assert _receipts(bench) == 1


@pytest.mark.parametrize(
    ("lists", "announced"),
    [
        ([(DigestKind.SHA1, _sha1(0, 1))], {DigestKind.SHA1: _sha1(0, 1, 2)}),
        ([(DigestKind.SHA1, _sha1(0, 1, 2))], {DigestKind.SHA1: _sha1(0, 1)}),
        ([(DigestKind.SHA1, _sha1(0, 1, 2))], {DigestKind.SHA1: _sha1(3, 4, 5)}),
        ([], {DigestKind.SHA1: _sha1(0)}),
        ([(DigestKind.SHA1, _sha1(0))], {DigestKind.MD5: b"\x01" * 16}),
    ],
    ids=["fewer", "more", "others", "none", "another kind"],
)
def test_a_body_that_differs_from_its_header_gets_no_receipt(
    bench: Bench,
    lists: list[tuple[DigestKind, bytes]],
    announced: dict[DigestKind, bytes],
) -> None:
    bench[PT].load(records(range(3)))
    with pytest.raises(InvalidInput, match="header announces"):
        _rogue_asks(bench, lists, announced=announced)
    assert _receipts(bench) == 0


def test_pdq_in_an_exact_question_is_refused(bench: Bench) -> None:
    packed = record(1, kinds="pdq").pdq or b""
    with pytest.raises(InvalidInput, match="near queries only"):
        _rogue_asks(bench, [(DigestKind.PDQ, packed)])


def test_digests_are_ascending_within_and_across_batches(bench: Bench) -> None:
    one, two = sorted([_sha1(0), _sha1(1)])
    for lists in ([(DigestKind.SHA1, two + one)], [(DigestKind.SHA1, one + one)]):
        with pytest.raises(InvalidDigest, match="ascending"):
            _rogue_asks(bench, lists)
    split = [(DigestKind.SHA1, two), (DigestKind.SHA1, one)]
    with pytest.raises(InvalidDigest, match="across batches"):
        _rogue_asks(bench, split, announced={DigestKind.SHA1: one + two})
    order = [(DigestKind.SHA1, one), (DigestKind.MD5, b"\x01" * 16)]
    with pytest.raises(MalformedMessage, match="in order"):
        _rogue_asks(bench, order)


def test_bytes_with_the_look_of_a_picture_are_no_digests(bench: Bench) -> None:
    # The opening of a JFIF file, made up and cut into 20-byte pieces (threats.md 26).
    head = bytes.fromhex("ffd8ffe000104a46494600010101004800480000ffdb004300")
    disguised = (head + bytes(range(256)) * 4)[:1000]
    with pytest.raises(InvalidDigest):
        _rogue_asks(bench, [(DigestKind.SHA1, disguised)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": payload_pb2.QUERY_MODE_UNSPECIFIED}, "mode"),
        ({"records": limits.RECORDS_PER_QUERY + 1}, "at most"),
        ({"mode": payload_pb2.QUERY_MODE_NEAR, "radius": 32}, "radius"),
    ],
)
def test_a_header_over_the_bounds(bench: Bench, changes: dict[str, Any], words: str) -> None:
    bench[PT]
    with pytest.raises(InvalidInput, match=words):
        _rogue_asks(bench, [(DigestKind.SHA1, _sha1(0))], **changes)


def test_a_header_of_another_kind_or_for_another_is_refused(bench: Bench) -> None:
    asker, _ = bench[ES], bench[PT]
    step = asker.seal(payload_pb2.Payload(referral_step=payload_pb2.ReferralStep()), PT)
    with pytest.raises(MalformedMessage, match="query header"):
        list(asker.node.peers.overlap(PT, step, [], 5.0))
    elsewhere = asker.seal(_header({}), HUB)
    with pytest.raises(SignatureRefused, match="somebody else"):
        list(asker.node.peers.overlap(PT, elsewhere, [], 5.0))


def test_a_question_without_a_person_a_purpose_or_a_case_is_refused(bench: Bench) -> None:
    asker, _ = bench[ES], bench[PT]
    for field, error in (
        ("person", InvalidInput),
        ("purpose", InvalidInput),
        ("case_ref", InvalidInput),
    ):
        payload = _header({})
        payload.person, payload.purpose, payload.case_ref = "ana", PURPOSE, CASE
        setattr(payload, field, "")
        header = asker.node.sealer.seal(payload, Audience(agency=PT), bench.now)
        with pytest.raises(error):
            list(asker.node.peers.overlap(PT, header, [], 5.0))


def test_who_may_not_ask_is_refused_by_the_asked_side_too(bench: Bench) -> None:
    asker, holder = bench[INTERPOL], bench[PT]
    holder.load(records(range(3)))
    header = asker.seal(_header({DigestKind.SHA1: _sha1(0)}), PT)
    with pytest.raises(PolicyRefused, match="may not ask"):
        list(asker.node.peers.overlap(PT, header, [], 5.0))


def test_a_request_id_belongs_to_one_header(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    asker = bench[ES]
    lists = {DigestKind.SHA1: _sha1(0, 1)}
    first = asker.seal(_header(lists), PT)
    batch = DigestBatch.of(DigestKind.SHA1, lists[DigestKind.SHA1])
    assert list(asker.node.peers.overlap(PT, first, [batch], 5.0))
    # The very same question again is answered again: its first answer may have been lost.
    assert list(asker.node.peers.overlap(PT, first, [batch], 5.0))
    other = _header(lists)
    other.id = payload_pb2.Payload.FromString(first.payload).id
    other.case_ref = "another case"
    with pytest.raises(RequestIdReused):
        list(asker.node.peers.overlap(PT, asker.seal(other, PT), [batch], 5.0))


# --- a rogue answers ------------------------------------------------------------------------------


def _rewritten(change: object) -> Tamper:
    """Change each response in place; the answer's digest then no longer fits."""

    def tamper(answer: Responses) -> Iterable[exchange_pb2.OverlapResponse]:
        for response in answer:
            change(response)  # type: ignore[operator]
            yield response

    return tamper


def _on_hits(change: object) -> Tamper:
    def each(response: exchange_pb2.OverlapResponse) -> None:
        if response.HasField("hits"):
            change(response.hits)  # type: ignore[operator]

    return _rewritten(each)


def _before_end(*extra: exchange_pb2.OverlapResponse) -> Tamper:
    def tamper(answer: Responses) -> Iterable[exchange_pb2.OverlapResponse]:
        for response in answer:
            if response.HasField("end"):
                yield from extra
            yield response

    return tamper


def _without_end(answer: Responses) -> Iterable[exchange_pb2.OverlapResponse]:
    return (response for response in answer if not response.HasField("end"))


def _without_hits(answer: Responses) -> Iterable[exchange_pb2.OverlapResponse]:
    return (response for response in answer if not response.HasField("hits"))


def _boast(response: exchange_pb2.OverlapResponse) -> None:
    if response.HasField("end"):
        response.end.disclosure = "detail"


def _name_a_series(hits: exchange_pb2.HitBatch) -> None:
    hits.series.extend([7] * len(hits.positions))


def _hit(kind: Any, position: int, *distances: int) -> Tamper:
    batch = exchange_pb2.HitBatch(kind=kind, positions=[position], distances=distances)
    return _before_end(exchange_pb2.OverlapResponse(hits=batch))


_SHA1, _PDQ = digests_pb2.DIGEST_KIND_SHA1, digests_pb2.DIGEST_KIND_PDQ
_SHA256 = digests_pb2.DIGEST_KIND_SHA256

ROGUES: dict[str, tuple[Tamper, str]] = {
    "a position that was not asked": (_hit(_SHA1, 10**6), "position"),
    "a kind that was not asked": (_hit(_PDQ, 0, 1), "kind"),
    "a series that it did not send": (_on_hits(_name_a_series), "series"),
    "columns of different length": (_on_hits(lambda hits: hits.series.append(1)), "columns"),
    "distances of exact hits": (_on_hits(lambda hits: hits.distances.append(1)), "columns"),
    "a hit less than the receipt says": (_without_hits, "receipt"),
    "a hit more": (_hit(_SHA256, 7), "receipt"),
    "a hit again": (_hit(_SHA1, 0), "ascend"),
    "an altered hit": (_on_hits(lambda hits: hits.positions.pop()), "receipt"),
    "no receipt": (_without_end, "without a receipt"),
    "a disclosure that its receipt does not state": (_rewritten(_boast), "receipt"),
}


@pytest.mark.parametrize("case", ROGUES)
def test_an_answer_that_does_not_hold_is_dropped_whole(bench: Bench, case: str) -> None:
    tamper, words = ROGUES[case]
    bench[PT].load(records(range(5)))
    bench[FBI].load(records(range(5)))
    bench.tampering[PT] = tamper
    ends, overlaps = bench[ES].ask(records(range(8)), PT)
    assert ends[PT].status == "refused"
    assert words in ends[PT].reason
    assert "\n" not in ends[PT].reason
    assert not ends[PT].receipt
    assert overlaps == {}
    entry = bench[ES].audit("query.result")[-1]
    assert entry["detail"]["status"] == "refused"  # type: ignore[index]
    assert entry["detail"]["overlaps"] == 0  # type: ignore[index]


def test_a_near_hit_beyond_the_radius_is_none(bench: Bench) -> None:
    bench[PT].load([record(1, kinds="pdq")])
    bench.tampering[PT] = _hit(_PDQ, 0, limits.NEAR_RADIUS + 1)
    ends, overlaps = bench[ES].ask([record(1, kinds="pdq")], PT, near=True)
    assert ends[PT].status == "refused"
    assert "distance" in ends[PT].reason
    assert overlaps == {}


def test_series_without_end_are_cut_off(bench: Bench) -> None:
    def flood(answer: Responses) -> Iterable[exchange_pb2.OverlapResponse]:
        for index in range(1, limits.SERIES_PER_ANSWER + 2):
            entry = exchange_pb2.SeriesEntry(index=index)
            yield exchange_pb2.OverlapResponse(series=entry)
        yield from answer

    bench[PT].load(records(range(2)))
    bench.tampering[PT] = flood
    ends, overlaps = bench[ES].ask(records(range(2)), PT)
    assert ends[PT].status == "refused"
    assert "series" in ends[PT].reason
    assert overlaps == {}


def test_the_receipt_of_another_question_is_none_for_this(bench: Bench) -> None:
    bench[PT].load(records(range(5)))
    kept: list[exchange_pb2.OverlapResponse] = []

    def keep(answer: Responses) -> Iterable[exchange_pb2.OverlapResponse]:
        for response in answer:
            kept.append(response)
            yield response

    bench.tampering[PT] = keep
    ends, _ = bench[ES].ask(records(range(5)), PT)
    assert ends[PT].receipt
    bench.tampering[PT] = lambda _answer: kept
    ends, overlaps = bench[ES].ask(records(range(5)), PT)
    assert ends[PT].status == "refused"
    assert "not for this question" in ends[PT].reason
    assert overlaps == {}


def test_a_receipt_that_another_agency_signed_is_none(bench: Bench) -> None:
    bench[PT].load(records(range(5)))
    bench[FBI]

    def resign(answer: Responses) -> Iterable[exchange_pb2.OverlapResponse]:
        for response in answer:
            if response.HasField("end"):
                payload = payload_pb2.Payload.FromString(response.end.receipt.payload)
                response.end.receipt.CopyFrom(bench[FBI].seal(payload, ES))
            yield response

    bench.tampering[PT] = resign
    ends, overlaps = bench[ES].ask(records(range(5)), PT)
    assert ends[PT].status == "refused"
    assert f"signed by {FBI}" in ends[PT].reason
    assert overlaps == {}


def test_the_others_hits_stand(bench: Bench) -> None:
    bench[PT].load(records(range(5)))
    bench[HUB].load(records(range(5)))
    bench.tampering[PT] = _without_end
    ends, overlaps = bench[ES].ask(records(range(5)), PT, HUB)
    assert ends[PT].status == "refused"
    assert len(overlaps[HUB]) == 5


def _watched(bench: Bench, seen: list[tuple[int, int]]) -> Tamper:
    """Note as hits leave how many have left by now, and how many items are logged."""

    def watch(
        answer: Iterator[exchange_pb2.OverlapResponse],
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        left = 0
        for one in answer:
            if one.HasField("hits"):
                left += len(one.hits.positions)
                entries = bench[PT].audit("query.disclosed")
                items = [item for entry in entries for item in entry["detail"]["items"]]  # type: ignore[index]
                seen.append((left, len(set(items))))
            yield one

    return watch


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, and few hits that are logged while the rest comes."""
    monkeypatch.setattr(limits, "DIGESTS_PER_BATCH", 20)
    monkeypatch.setattr(answering, "_HITS_RELEASED", 30)


@pytest.mark.usefixtures("early")
def test_hits_are_logged_while_the_rest_comes_and_leave_only_then(bench: Bench) -> None:
    seen: list[tuple[int, int]] = []
    bench[PT].load(records(range(200), kinds="sha1 md5"))
    bench.tampering[PT] = _watched(bench, seen)
    _, overlaps = bench[ES].ask(records(range(400), kinds="sha1 md5"), PT)
    assert [one.record for one in overlaps[PT]] == list(range(200))
    assert seen[-1][0] == 400  # each by both of its digests
    assert len(bench[PT].audit("query.disclosed")) > 1, "all was logged at the end"
    assert seen[-1][1] == 200
    assert all(items * 2 >= left for left, items in seen)


@pytest.mark.usefixtures("early")
def test_no_hit_leaves_that_could_not_be_logged(bench: Bench) -> None:
    seen: list[tuple[int, int]] = []
    bench[PT].load(records(range(200), kinds="sha1"))
    bench.tampering[PT] = _watched(bench, seen)
    with closing(sqlite3.connect(bench[PT].path)) as database:
        database.execute(
            "CREATE TRIGGER no BEFORE INSERT ON audit_leaves BEGIN SELECT RAISE(FAIL, 'full'); END"
        )
    ends, overlaps = bench[ES].ask(records(range(400), kinds="sha1"), PT)
    assert (ends[PT].status, overlaps, seen) == ("refused", {}, [])
