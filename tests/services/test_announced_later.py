"""A list that comes in before its SHA-256 is known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain

import pytest
from tieline.v1 import operator_pb2
from tieline_client import limits
from tieline_client.asked_list import AskedList, AskTerms, ListBuilder
from tieline_client.errors import InvalidInput, MalformedMessage
from tieline_server.services.asking import Question

from tests.services.bench import ABUSE, ES, HUB, PT, Bench, record, records, wait_for


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, and peers asked as soon as one is here and the digest is known."""
    monkeypatch.setattr(limits, "DIGESTS_PER_BATCH", 50)
    monkeypatch.setattr(limits, "EARLY_BYTES", 0)
    monkeypatch.setattr(limits, "EARLY_SECONDS", 3600.0)


def _list(numbers: range) -> AskedList:
    builder = ListBuilder(AskTerms(frozenset({ABUSE})), near=False)
    for one in records(numbers):
        builder.add(one)
    return builder.build()


def _announced(bench: Bench) -> list[dict[str, object]]:
    return [dict(one["detail"]) for one in bench[ES].audit("query.asked")]  # type: ignore[call-overload]


def _hits(answer: Iterator[operator_pb2.AskOverlapResponse]) -> dict[str, int]:
    hits: dict[str, int] = {}
    for one in answer:
        if one.HasField("hits"):
            hits[one.hits.agency] = hits.get(one.hits.agency, 0) + len(one.hits.hits.positions)
    return hits


def _take(question: Question, asked: AskedList) -> None:
    for batch in asked.batches():
        question.take(batch)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("after", [0, 1, 5, 17, 18])
def test_nobody_is_asked_before_the_digest_is_known(bench: Bench, after: int) -> None:
    bench[PT].load(records(range(0, 400, 2)))
    bench[HUB].load(records(range(0, 400, 3)))
    asked = _list(range(300))
    question = bench[ES].question(asked, peers=[PT, HUB], list_digest=b"")
    batches = list(asked.batches())
    assert len(batches) == 18
    for batch in batches[:after]:
        question.take(batch)
    assert _announced(bench) == []
    question.announce(asked.digest)
    for batch in batches[after:]:
        question.take(batch)
        wait_for("the question is logged", lambda: len(_announced(bench)) == 1)
    answer = list(chain.from_iterable(question.answer()))
    question.close()
    assert _hits(iter(answer)) == {PT: 3 * 150, HUB: 3 * 100}
    (said,) = _announced(bench)
    salt = bytes.fromhex(str(said["list_salt"]))
    assert said["list_digest"] == hashlib.sha256(salt + asked.digest).hexdigest()
    for peer in (PT, HUB):
        assert len(bench[peer].audit("query.answered")) == 1


@pytest.mark.usefixtures("eager")
def test_a_digest_that_is_not_the_lists_asks_nobody_where_all_of_it_is_here(bench: Bench) -> None:
    bench[PT].load(records(range(300)))
    asked = _list(range(300))
    question = bench[ES].question(asked, peers=[PT], list_digest=b"")
    _take(question, asked)
    question.announce(bytes(31) + b"1")
    with pytest.raises(InvalidInput, match="not those that the header announces; ask again"):
        list(chain.from_iterable(question.answer()))
    question.close()
    assert _announced(bench) == bench[PT].audit("query.answered") == []


@pytest.mark.usefixtures("eager")
def test_a_digest_that_is_not_the_lists_breaks_it_off_everywhere(bench: Bench) -> None:
    bench[PT].load(records(range(300)))
    asked = _list(range(300))
    question = bench[ES].question(asked, peers=[PT], list_digest=b"")
    first, *rest = asked.batches()
    question.take(first)
    question.announce(bytes(31) + b"1")
    with pytest.raises(InvalidInput, match="not those that the header announces; ask again"):
        for batch in rest:
            question.take(batch)
        list(chain.from_iterable(question.answer()))
    question.close()
    assert len(_announced(bench)) == 1
    assert bench[PT].audit("query.answered") == []


@pytest.mark.parametrize("early", [False, True])
def test_without_a_digest_nobody_is_asked(
    bench: Bench, early: bool, request: pytest.FixtureRequest
) -> None:
    if early:
        request.getfixturevalue("eager")
    bench[PT].load(records(range(300)))
    asked = _list(range(300))
    question = bench[ES].question(asked, peers=[PT], list_digest=b"")
    _take(question, asked)
    with pytest.raises(MalformedMessage, match="the digest of the list did not come"):
        list(chain.from_iterable(question.answer()))
    question.close()
    assert _announced(bench) == []
    assert bench[PT].audit("query.answered") == []


@pytest.mark.parametrize("twice", ["in the header", "after it"])
def test_a_list_has_one_digest(bench: Bench, twice: str) -> None:
    bench[PT].load(records(range(3)))
    asked = _list(range(3))
    header = {} if twice == "in the header" else {"list_digest": b""}
    question = bench[ES].question(asked, peers=[PT], **header)
    if header:
        question.announce(asked.digest)
    with pytest.raises(MalformedMessage, match="a list has one digest"):
        question.announce(asked.digest)
    question.close()
    assert _announced(bench) == []


@pytest.mark.usefixtures("eager")
def test_what_is_known_good_is_told_before_anybody_is_asked(bench: Bench) -> None:
    bench[PT].load(records(range(300)))
    bench[ES].load([record(5, kinds="sha1")], exclusions=True)
    asked = _list(range(300))
    question = bench[ES].question(asked, peers=[PT], list_digest=b"")
    question.announce(asked.digest)
    _take(question, asked)
    answer = list(chain.from_iterable(question.answer()))
    question.close()
    assert [one.WhichOneof("part") for one in answer] == ["known_good"]
    assert _announced(bench) == []


def test_a_large_list_that_comes_slowly_is_held_against_its_digest_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EARLY_BYTES", 0)
    monkeypatch.setattr(limits, "EARLY_SECONDS", 0.0)
    monkeypatch.setattr(limits, "DIGESTS_PER_BATCH", 50)
    bench[PT].load(records(range(300)))
    asked = _list(range(300))
    question = bench[ES].question(asked, peers=[PT], list_digest=bytes(32))
    _take(question, asked)
    with pytest.raises(InvalidInput, match="not those that the header announces; ask again"):
        list(chain.from_iterable(question.answer()))
    question.close()
    assert _announced(bench) == bench[PT].audit("query.answered") == []
