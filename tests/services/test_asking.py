"""A question at the asking node: what is refused, known good, or broken off, and what is logged."""

from __future__ import annotations

import base64
import hashlib
import sqlite3
import tempfile
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pytest
from tieline.v1 import envelope_pb2, exchange_pb2, operator_pb2, payload_pb2
from tieline_client import limits
from tieline_client.asked_list import AskedList, AskTerms, ListBuilder
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind
from tieline_client.errors import (
    InvalidInput,
    LimitExceeded,
    StorageUnavailable,
    TielineError,
    UnknownMethod,
)
from tieline_client.formats.record import Record
from tieline_client.list_salt import committed
from tieline_server.services import asked_lists
from tieline_server.services.asking import Question
from tieline_server.services.list_secrets import salt_of
from tieline_server.services.peer_question import Lists, PeerQuestion, PeerResult
from tieline_server.services.standing import Standings

from tests.services.bench import (
    ABUSE,
    ANA,
    CASE,
    ES,
    FBI,
    FR,
    HUB,
    ICE,
    PT,
    PURPOSE,
    Bench,
    record,
    records,
    wait_for,
)

Responses = Iterator[exchange_pb2.OverlapResponse]


def _list(wanted: Iterable[Record]) -> AskedList:
    builder = ListBuilder(AskTerms(frozenset({ABUSE})), near=False)
    for each in wanted:
        builder.add(each)
    return builder.build()


def _numbers(bench: Bench, agency: str, action: str) -> list[int]:
    return [entry["detail"]["records"] for entry in bench[agency].audit(action)]  # type: ignore[index]


# --- a list that is not the announced one ---------------------------------------------------------

_ONE, _TWO = sorted(hashlib.sha1(bytes([n])).digest() for n in range(2))
_MD5 = hashlib.md5(b"1").digest()

WRONG: dict[str, tuple[list[tuple[DigestKind, bytes]], dict[str, Any]]] = {
    "nothing": ([], {}),
    "too little": ([(DigestKind.SHA1, _ONE)], {}),
    "too much": ([(DigestKind.SHA1, _ONE + _TWO + b"\xff" * 20)], {}),
    "others": ([(DigestKind.SHA1, _ONE + b"\xff" * 20)], {}),
    "another kind": ([(DigestKind.MD5, _MD5)], {}),
    "out of order across batches": ([(DigestKind.SHA1, _TWO), (DigestKind.SHA1, _ONE)], {}),
    "a digest twice": ([(DigestKind.SHA1, _ONE), (DigestKind.SHA1, _ONE)], {}),
    "kinds out of order": (
        [(DigestKind.SHA1, _ONE + _TWO), (DigestKind.MD5, _MD5)],
        {"counts": [1, 2, 0, 0]},
    ),
    "another digest": ([(DigestKind.SHA1, _ONE + _TWO)], {"list_digest": bytes(32)}),
    "no records": ([(DigestKind.SHA1, _ONE + _TWO)], {"records": 0}),
    "fewer records than digests": ([(DigestKind.SHA1, _ONE + _TWO)], {"records": 1}),
    "records without digests": ([], {"counts": [], "list_digest": hashlib.sha256().digest()}),
    "perceptual hashes in an exact question": ([], {"counts": [0, 2, 0, 1]}),
    "a kind that does not exist": ([], {"counts": [0, 2, 0, 0, 1]}),
    "more than a question holds": ([], {"records": limits.RECORDS_PER_QUERY + 1}),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_list_is_refused_and_nothing_is_asked_or_logged(bench: Bench, case: str) -> None:
    batches, header = WRONG[case]
    bench[PT].load(records(range(3)))
    rows = np.frombuffer(_ONE + _TWO, dtype=np.uint8).reshape(-1, 20)
    asked = AskedList.from_digests(DigestKind.SHA1, rows)
    with pytest.raises(TielineError) as raised:
        question = bench[ES].question(asked, peers=[PT], **header)
        try:
            for kind, packed in batches:
                question.take(DigestBatch.of(kind, packed))
            list(chain.from_iterable(question.answer()))
        finally:
            question.close()
    assert isinstance(raised.value, InvalidInput | LimitExceeded)
    assert bench[ES].audit("query.asked") == []
    assert bench[PT].audit("query") == []
    assert bench[PT].audit("query.answered") == []


# --- known good -----------------------------------------------------------------------------------


def test_a_known_good_record_is_not_asked_by_any_of_its_digests(bench: Bench) -> None:
    bench[PT].load(records(range(4), kinds="md5 sha256"))
    bench[ES].load([record(1, kinds="sha1")], exclusions=True)
    ends, overlaps = bench[ES].ask(records(range(4)), PT)
    assert [one.record for one in overlaps[PT]] == [0, 2, 3]
    assert ends[PT].status == "answered"
    (asked,) = bench[ES].audit("query.asked")
    (answered,) = bench[PT].audit("query.answered")
    expected = _list(records((0, 2, 3)))
    (result,) = bench[ES].audit("query.result")
    question = cast(dict[str, str], result["detail"])["question"]
    envelope = envelope_pb2.Envelope.FromString(base64.b64decode(question))
    header = payload_pb2.Payload.FromString(envelope.payload)
    announced = committed(salt_of(bench[ES].node, header.id), expected.digest)
    assert header.query.list_digest == announced
    for entry, digest in ((asked, expected.digest), (answered, announced)):
        assert entry["detail"]["records"] == 3  # type: ignore[index]
        detail = cast(dict[str, str], entry["detail"])
        salt = bytes.fromhex(detail["list_salt"])
        assert detail["list_digest"] == hashlib.sha256(salt + digest).hexdigest()
    assert asked["detail"]["excluded"] == 1  # type: ignore[index]


def test_a_digest_that_others_share_is_still_asked(bench: Bench) -> None:
    shared = record(7).md5
    bench[PT].load([record(7, kinds="md5")])
    bench[ES].load([record(1, kinds="sha1")], exclusions=True)
    wanted = [record(1, kinds="sha1", md5=shared), record(2, kinds="sha1", md5=shared)]
    _, overlaps = bench[ES].ask(wanted, PT)
    assert [one.record for one in overlaps[PT]] == [2]


def test_when_all_is_known_good_nobody_is_asked(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    bench[ES].load(records(range(3), kinds="md5"), exclusions=True)
    ends, overlaps = bench[ES].ask(records(range(3)), PT)
    assert overlaps == {}
    assert (ends[PT].status, ends[PT].reason) == ("answered", "nothing was asked")
    assert _numbers(bench, ES, "query.asked") == [0]
    assert bench[PT].audit("query.answered") == []


def test_what_is_known_good_is_told_in_parts_and_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HITS_PER_BATCH", 3)
    bench[PT].load(records(range(3)))
    bench[ES].load(records(range(10), kinds="sha1"), exclusions=True)
    asked = _list(records(range(20)))
    answer = list(bench[ES].ask_raw(asked, peers=[PT]))
    assert {one.WhichOneof("part") for one in answer} == {"known_good"}
    assert [len(one.known_good.positions) for one in answer] == [3, 3, 3, 1]
    positions = [at for one in answer for at in one.known_good.positions]
    named = {asked.columns[DigestKind.SHA1].digests[at].tobytes() for at in positions}
    assert named == {record(n).sha1 for n in range(10)}
    assert bench[ES].audit("query.asked") == []
    assert bench[PT].audit("query.answered") == []


# --- while the list comes in ----------------------------------------------------------------------


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, and peers asked as soon as one is here."""
    monkeypatch.setattr(limits, "DIGESTS_PER_BATCH", 50)
    monkeypatch.setattr(limits, "EARLY_BYTES", 0)
    monkeypatch.setattr(limits, "EARLY_SECONDS", 3600.0)


@pytest.mark.usefixtures("eager")
def test_peers_are_asked_while_the_list_comes_in(bench: Bench) -> None:
    bench[PT].load(records(range(0, 400, 2)))
    bench[HUB].load(records(range(0, 400, 3)))
    asked = _list(records(range(300)))
    question = bench[ES].question(asked, peers=[PT, HUB])
    batches = asked.batches()
    question.take(next(batches))
    wait_for("the question is logged", lambda: _numbers(bench, ES, "query.asked") == [300])
    for batch in batches:
        question.take(batch)
    ends, overlaps = bench[ES].ask(records(range(300)), PT, HUB)
    answer = list(chain.from_iterable(question.answer()))
    question.close()
    hits = dict.fromkeys((PT, HUB), 0)
    for one in answer:
        if one.HasField("hits"):
            hits[one.hits.agency] += len(one.hits.hits.positions)
    assert hits == {PT: 3 * 150, HUB: 3 * 100}
    assert {agency: len(found) for agency, found in overlaps.items()} == {PT: 150, HUB: 100}
    assert {end.status for end in ends.values()} == {"answered"}


@pytest.mark.usefixtures("eager")
def test_what_cannot_be_logged_is_asked_of_nobody(bench: Bench) -> None:
    bench[PT].load(records(range(300)))
    asked = _list(records(range(300)))
    question = bench[ES].question(asked, peers=[PT])
    with closing(sqlite3.connect(bench[ES].path)) as database:
        database.execute(
            "CREATE TRIGGER no BEFORE INSERT ON audit_leaves BEGIN SELECT RAISE(FAIL, 'full'); END"
        )
    with pytest.raises(StorageUnavailable):
        for batch in asked.batches():
            question.take(batch)
        list(chain.from_iterable(question.answer()))
    question.close()
    assert bench[ES].audit("query.asked") == []
    assert bench[PT].audit("query.answered") == []


@pytest.mark.usefixtures("eager")
def test_who_goes_away_after_the_first_batch_was_heard_by_the_log(bench: Bench) -> None:
    bench[PT].load(records(range(300)))
    asked = _list(records(range(300)))
    question = bench[ES].question(asked, peers=[PT])
    question.take(next(asked.batches()))
    question.close()
    assert _numbers(bench, ES, "query.asked") == [300]
    (result,) = bench[ES].audit("query.result")
    assert "broken off" in result["detail"]["reason"]  # type: ignore[index]


@pytest.mark.usefixtures("eager")
def test_a_list_that_turns_out_wrong_is_broken_off_everywhere(bench: Bench) -> None:
    bench[PT].load(records(range(300)))
    bench[ICE]
    asked = _list(records(range(300)))
    question = bench[ES].question(asked, peers=[PT, ICE])
    batches = list(asked.batches())
    for batch in batches[:-1]:
        question.take(batch)
    kind, packed = batches[-1].kind, bytes(batches[-1].digests)
    with pytest.raises(InvalidInput, match="not those that the header announces; ask again"):
        question.take(DigestBatch.of(kind, packed[: -kind.width] + b"\xff" * kind.width))
        list(chain.from_iterable(question.answer()))
    question.close()
    results = bench[ES].audit("query.result")
    assert {one["peer"] for one in results} == {PT, ICE}
    assert {one["detail"]["status"] for one in results} == {"unreachable"}  # type: ignore[index]
    assert all("broken off" in one["detail"]["reason"] for one in results)  # type: ignore[index]
    assert bench[PT].audit("query.answered") == []


def _without_receipt(answer: Responses) -> Responses:
    for one in answer:
        if not one.HasField("end"):
            yield one


@pytest.mark.usefixtures("eager")
def test_who_gives_no_receipt_for_the_announced_list_is_refused_alone(bench: Bench) -> None:
    bench[PT].load(records(range(300)))
    bench[HUB].load(records(range(300)))
    bench.tampering[PT] = _without_receipt
    ends, overlaps = bench[ES].ask(records(range(300)), PT, HUB)
    assert (ends[PT].status, ends[HUB].status) == ("refused", "answered")
    assert "without a receipt" in ends[PT].reason
    assert {agency: len(found) for agency, found in overlaps.items()} == {HUB: 300}


@pytest.mark.usefixtures("eager")
def test_a_wrong_list_that_no_peer_looked_at_is_found_here(bench: Bench) -> None:
    bench.offline.add(ICE)
    asked = _list(records(range(300)))
    question = bench[ES].question(asked, peers=[ICE], list_digest=bytes(32))
    for batch in asked.batches():
        question.take(batch)
    with pytest.raises(InvalidInput, match="not those that the header announces"):
        list(chain.from_iterable(question.answer()))
    question.close()
    (result,) = bench[ES].audit("query.result")
    assert "broken off" in result["detail"]["reason"]  # type: ignore[index]


@pytest.mark.usefixtures("eager")
def test_with_exclusion_lists_the_whole_list_is_looked_at_first(bench: Bench) -> None:
    bench[PT].load(records(range(300)))
    bench[ES].load([record(1000, kinds="sha1")], exclusions=True)
    asked = _list(records(range(300)))
    question = bench[ES].question(asked, peers=[PT])
    for batch in asked.batches():
        question.take(batch)
        assert bench[ES].audit("query.asked") == []
    assert list(chain.from_iterable(question.answer()))
    question.close()
    assert _numbers(bench, ES, "query.asked") == [300]


# --- ends -----------------------------------------------------------------------------------------


def test_a_caller_that_goes_away_leaves_a_result_for_everyone_asked(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    question = bench[ES].question(_list(records(range(3))), peers=[PT, HUB])
    for batch in _list(records(range(3))).batches():
        question.take(batch)
    groups = question.answer()
    assert next(next(groups)).HasField("started")
    question.close()
    assert sorted(str(one["peer"]) for one in bench[ES].audit("query.result")) == [HUB, PT]
    question.close()
    assert len(bench[ES].audit("query.result")) == 2


def test_every_peer_has_one_result_whatever_became_of_it(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    bench.offline.add(ICE)
    bench[HUB].load(records(range(2)))
    bench[ES].ask(records(range(3)), PT, ICE, HUB)
    results = {str(one["peer"]): one["detail"] for one in bench[ES].audit("query.result")}
    assert len(bench[ES].audit("query.result")) == 3
    overlaps = {peer: detail["overlaps"] for peer, detail in results.items()}  # type: ignore[index]
    assert overlaps == {PT: 9, HUB: 6, ICE: 0}
    assert results[ICE]["status"] == "unreachable"  # type: ignore[index]


# --- one message or a stream ----------------------------------------------------------------------


@dataclass
class _Once:
    """Raises at the first answer, then lets answers pass."""

    error: TielineError
    raised: int = 0

    def __call__(self, answer: Responses) -> Responses:
        if not self.raised:
            self.raised += 1
            raise self.error
        yield from answer


@pytest.mark.parametrize(
    "error", [LimitExceeded("too long", check="BRIEF"), UnknownMethod("no such method")]
)
def test_an_answer_too_long_for_one_message_is_fetched_as_a_stream(
    bench: Bench, error: TielineError
) -> None:
    bench[PT].load(records(range(3)))
    bench.tampering[PT] = once = _Once(error)
    ends, overlaps = bench[ES].ask(records(range(5)), PT)
    assert once.raised == 1
    assert (ends[PT].status, len(overlaps[PT])) == ("answered", 3)


def test_a_peer_that_is_full_is_not_asked_twice(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    bench.tampering[PT] = once = _Once(LimitExceeded("busy", check="CONCURRENCY"))
    ends, _ = bench[ES].ask(records(range(5)), PT)
    assert (once.raised, ends[PT].status, ends[PT].reason) == (1, "refused", "busy")


# --- memory ---------------------------------------------------------------------------------------

_DIGESTS, _AT_ONCE = 2_000_000, 20_000


def _ascending() -> Iterator[bytes]:
    """2 million made-up SHA-1 in order, 40 MB in all, a batch at a time."""
    for start in range(0, _DIGESTS, _AT_ONCE):
        rows = np.zeros((_AT_ONCE, 20), dtype=np.uint8)
        numbers = np.arange(start + 1, start + 1 + _AT_ONCE, dtype=np.uint64) << np.uint64(32)
        rows[:, :8] = numbers.astype(">u8").view(np.uint8).reshape(-1, 8)
        yield rows.tobytes()


def test_a_long_question_takes_no_more_memory_than_its_batches(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    bench[FBI]
    total = hashlib.sha256()
    for packed in _ascending():
        total.update(packed)
    header = operator_pb2.AskHeader(
        purpose=PURPOSE,
        case_ref=CASE,
        peers=[PT],
        records=_DIGESTS,
        counts=[0, _DIGESTS],
        list_digest=total.digest(),
    )
    bench[ES].ask(records(range(3)), PT)  # what is loaded and compiled once is loaded now
    tracemalloc.start()
    try:
        question = Question(bench[ES].node, ANA, header)
        for packed in _ascending():
            question.take(DigestBatch.of(DigestKind.SHA1, packed))
        answer = list(chain.from_iterable(question.answer()))
        question.close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer[-1].end.status == "answered"
    assert peak < 20 * 1024 * 1024


@pytest.mark.parametrize("asked", [10, 200])
def test_a_peer_that_is_slow_holds_nobody_and_no_memory(bench: Bench, asked: int) -> None:
    """The spool is read at each peer's own pace; answers to few digests, which one thread reads,
    get threads of their own behind one that does not come."""
    bench[PT].load(records(range(100)))
    bench[HUB].load(records(range(100)))
    waiting: list[str] = []

    def slow(answer: Responses) -> Responses:
        wait_for("the other peer's end", lambda: bench[ES].audit("query.result") or None)
        waiting.append("waited")
        yield from answer

    bench.tampering[PT] = slow
    ends, overlaps = bench[ES].ask(records(range(asked)), PT, HUB)
    assert waiting == ["waited"]
    assert [len(overlaps[agency]) for agency in (PT, HUB)] == [min(asked, 100)] * 2
    assert {end.status for end in ends.values()} == {"answered"}
    assert [one["peer"] for one in bench[ES].audit("query.result")] == [HUB, PT]


# --- a disk that is full, a peer without end, an asker that goes ----------------------------------


def _full_file(**_: object) -> IO[bytes]:
    return Path("/dev/full").open("w+b")


@pytest.mark.parametrize("items", [20, 2_000])  # less and more than is written at a time
def test_a_full_disk_ends_a_peers_part_of_the_question(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, items: int
) -> None:
    monkeypatch.setattr(limits, "ANSWER_MEMORY_BYTES", 10)
    monkeypatch.setattr(limits, "HITS_PER_BATCH", 1)
    held = records(range(items), kinds="sha1")
    bench[PT].load(held)
    with monkeypatch.context() as full:
        full.setattr(tempfile, "TemporaryFile", _full_file)
        ends, overlaps = bench[ES].ask(held, PT)
        assert ends[PT].status == "unreachable"  # PT refused nothing; exit code 4, asked again soon
        assert ends[PT].reason.startswith(f"this node cannot write what {PT} answers: a temporary")
        assert "make room" in ends[PT].reason
        assert overlaps == {}
        assert [one["detail"]["status"] for one in bench[ES].audit("query.result")] == [  # type: ignore[index]
            ends[PT].status
        ]
    ends, overlaps = bench[ES].ask(held, PT)
    assert ends[PT].status == "answered" and len(overlaps[PT]) == items


def test_a_peers_full_disk_is_told_as_the_peers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageUnavailable("the database cannot be used now (disk is full)")

    monkeypatch.setattr(bench[PT].node.store, "note", full)
    ends, _ = bench[ES].ask(records(range(3)), PT)
    assert (ends[PT].status, ends[PT].reason) == (
        "refused",
        f"{PT}: the database cannot be used now (disk is full)",
    )


def test_what_cannot_be_read_here_is_told_as_this_nodes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageUnavailable("the database cannot be used now (disk I/O error)")

    monkeypatch.setattr(Standings, "check_peer", full)
    ends, _ = bench[ES].ask(records(range(3)), PT)
    assert (ends[PT].status, ends[PT].reason) == (
        "unreachable",
        f"{PT} was not asked: the database cannot be used now (disk I/O error)",
    )


@pytest.mark.parametrize("peers", [(PT,), (PT, FR)])
def test_what_nobody_foresaw_ends_that_peers_part_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, peers: tuple[str, ...]
) -> None:
    ask = PeerQuestion.ask
    for one in peers:
        bench[one].load(records(range(2)))

    def fail(question: PeerQuestion, lists: Lists) -> PeerResult:
        if question._agency == PT:
            raise RuntimeError("a mistake of ours")
        return ask(question, lists)

    monkeypatch.setattr(PeerQuestion, "ask", fail)
    ends, _ = bench[ES].ask(records(range(3)), *peers)
    assert (ends[PT].status, ends[PT].reason) == (
        "unreachable",
        "asking pt-pj failed: RuntimeError",
    )
    assert [ends[one].status for one in peers[1:]] == ["answered"] * (len(peers) - 1)
    assert len(bench[ES].audit("query.result")) == len(peers)


def test_a_peer_that_answers_without_end_is_cut_off(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HITS_PER_ANSWER", 1_000)
    bench[PT].load(records(range(3)))
    sent = 0

    def flood(answer: Responses) -> Responses:
        nonlocal sent
        *_, end = answer
        while sent < 100_000:
            sent += 100
            hits = exchange_pb2.HitBatch(kind=DigestKind.SHA1, positions=[0] * 100)  # type: ignore[arg-type]
            yield exchange_pb2.OverlapResponse(hits=hits)
        yield end

    bench.tampering[PT] = flood
    ends, overlaps = bench[ES].ask(records(range(3), kinds="sha1"), PT)
    most = 1_000 + 3 * limits.HITS_PER_DIGEST
    assert (ends[PT].status, ends[PT].reason) == (
        "refused",
        f"pt-pj answers with over {most} hits; ask for less",
    )
    assert sent == most + 100 and overlaps == {}


def test_a_list_that_peers_were_asked_is_kept_though_its_asker_goes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LIST_IN_ENTRY_BYTES", 10)
    bench[PT].load(records(range(300)))
    asked = _list(records(range(300)))
    question = bench[ES].question(asked, peers=[PT])
    for batch in asked.batches():
        question.take(batch)
    groups = question.answer()
    assert next(next(groups)).HasField("started")
    wait_for("the peer answered", lambda: bench[PT].audit("query.answered"))
    question.close()
    (entry,) = bench[ES].audit("query.asked")
    kept = asked_lists.read(bench[ES].node, entry["subjects"][0])  # type: ignore[index]
    assert [bytes(one.digests) for one in kept] == [bytes(one.digests) for one in asked.batches()]
