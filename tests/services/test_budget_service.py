"""What a peer may ask in a day: charged before the look-up, once, whatever is typed or found."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from tieline.v1 import envelope_pb2, exchange_pb2, payload_pb2
from tieline_client import limits
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind, pack
from tieline_client.errors import (
    BudgetExceeded,
    InvalidInput,
    LimitExceeded,
    PolicyRefused,
    RequestIdReused,
    TielineError,
    UnknownAgency,
)
from tieline_client.identifiers import new_id
from tieline_server.domain.budget import Budgets
from tieline_server.services import answering
from tieline_server.services.alarms import Alarms
from tieline_server.services.answering import Answerer
from tieline_server.services.budget_views import BudgetDesk
from tieline_server.services.budgeting import Budgeting

from tests.policy.test_policy_engine import engine_with
from tests.services.bench import ANA, ES, FR, HUB, PT, PURPOSE, Bench, Running, record, records

DAY = timedelta(days=1)
Responses = list[exchange_pb2.OverlapResponse]


def _budget(bench: Bench, units: int, **more: Any) -> Running:
    """PT with items 0 to 99, at which everybody has so many units a day."""
    pt = bench[PT]
    pt.load(records(range(100)))
    pt.node.budgets.configured = Budgets(units, **more)
    return pt


def _restart(pt: Running, *, orderly: bool = False) -> None:
    """What a process knew is gone; it had a word before only if ``orderly``."""
    if orderly:
        pt.node.budgets.close()
    node = pt.node
    node.budgets = Budgeting(
        node.agency, node.store, node.clock, node.budgets.configured, lambda: None
    )


def _used(pt: Running, peer: str = ES) -> int:
    (view,) = [one for one in BudgetDesk(pt.node).find().peers if one.agency == peer]
    assert view.spent + view.left == view.budget or view.spent > view.budget
    return view.spent


def _list(numbers: Iterable[int]) -> DigestBatch:
    packed = pack(DigestKind.SHA1, [record(n).sha1 or b"" for n in numbers])
    return DigestBatch.of(DigestKind.SHA1, packed)


def _in_two(numbers: Iterable[int]) -> tuple[DigestBatch, DigestBatch]:
    """A list in two batches, the last digest by itself."""
    digests, width = _list(numbers).digests, DigestKind.SHA1.width
    return (
        DigestBatch.of(DigestKind.SHA1, digests[:-width]),
        DigestBatch.of(DigestKind.SHA1, digests[-width:]),
    )


def _header(
    asker: Running, numbers: Iterable[int], *, request: str = "", purpose: str = PURPOSE
) -> envelope_pb2.Envelope:
    batch = _list(numbers)
    query = payload_pb2.QueryHeader(
        mode=payload_pb2.QUERY_MODE_EXACT,
        records=len(batch),
        counts=[0, len(batch)],
        list_digest=hashlib.sha256(batch.digests).digest(),
        epoch=asker.node.epoch,
    )
    payload = payload_pb2.Payload(id=request or new_id(), purpose=purpose, query=query)
    return asker.seal(payload, PT)


def _send(
    pt: Running, header: envelope_pb2.Envelope, numbers: Iterable[int], peer: str = ES
) -> Responses:
    first = exchange_pb2.OverlapRequest(header=header)
    return list(pt.answerer.answer(peer, [first, _list(numbers)]))


def _hits(answer: Responses) -> int:
    return sum(len(one.hits.positions) for one in answer)


# --- what is charged ------------------------------------------------------------------------------


def test_hits_and_misses_cost_the_same_whatever_purpose_is_typed(bench: Bench) -> None:
    pt = _budget(bench, 30)
    ends, _ = bench[ES].ask(records(range(10)), PT)
    assert ends[PT].status == "answered" and _used(pt) == 10
    bench[ES].ask(records(range(1_000, 1_010)), PT, purpose="deconfliction")
    assert _used(pt) == 20
    bench[ES].ask(records(range(5)), PT, purpose="data-quality")  # nested in the first
    bench[ES].ask(records(range(5, 10)), PT, purpose="prosecution")
    assert _used(pt) == 30
    ends, overlaps = bench[ES].ask(records([0]), PT)
    assert (ends[PT].status, overlaps) == ("refused", {})
    assert "30" in ends[PT].reason and "2026-03-02" in ends[PT].reason
    ends, _ = bench[FR].ask(records([0]), PT)  # somebody else's budget
    assert ends[PT].status == "answered"


def test_a_perceptual_hash_costs_ten(bench: Bench) -> None:
    pt = _budget(bench, 25)
    asked = [record(n, kinds="sha1 pdq") for n in range(2)]
    bench[ES].ask(asked, PT, near=True)
    assert _used(pt) == 20
    ends, _ = bench[ES].ask(asked[:1], PT, near=True)
    assert ends[PT].status == "refused"
    ends, _ = bench[ES].ask(asked[:1], PT)
    assert ends[PT].status == "answered"


def test_what_is_over_is_refused_before_anything_is_looked_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pt = _budget(bench, 5)
    looked: list[object] = []
    monkeypatch.setattr(answering.Answerer, "_look_up", lambda *words: looked.append(words))
    with pytest.raises(BudgetExceeded) as refusal:
        _send(pt, _header(bench[ES], range(6)), range(6))
    told = refusal.value.metadata
    assert (told["budget"], told["left"]) == ("5", "5")
    assert datetime.fromisoformat(told["resets"]) == datetime(2026, 3, 2, tzinfo=UTC)
    assert float(told["retry_after"]) == 12 * 3600
    assert (told["purpose"], told["person"]) == (PURPOSE, "ana")  # for the audit entry
    assert looked == [] and _used(pt) == 0


def test_another_day_has_another_budget(bench: Bench) -> None:
    pt = _budget(bench, 5)
    _send(pt, _header(bench[ES], range(5)), range(5))
    bench.now += timedelta(hours=11, minutes=59)
    with pytest.raises(BudgetExceeded):
        _send(pt, _header(bench[ES], range(1)), range(1))
    bench.now += timedelta(minutes=1)
    assert _hits(_send(pt, _header(bench[ES], range(5)), range(5))) == 5
    assert _used(pt) == 5


def test_a_purpose_may_have_a_narrower_cap(bench: Bench) -> None:
    pt = _budget(bench, 20, purposes={"deconfliction": 3})
    header = _header(bench[ES], range(4), purpose="deconfliction")
    with pytest.raises(BudgetExceeded, match="for today and deconfliction"):
        _send(pt, header, range(4))
    assert _used(pt) == 0
    _send(pt, _header(bench[ES], range(3), purpose="deconfliction"), range(3))
    _send(pt, _header(bench[ES], range(17)), range(17))
    assert _used(pt) == 20


def test_a_list_that_is_not_the_announced_one_is_charged_and_uses_its_id_up(bench: Bench) -> None:
    pt = _budget(bench, 100)
    header = _header(bench[ES], range(10))
    with pytest.raises(InvalidInput):
        _send(pt, header, range(10, 20))
    assert _used(pt) == 10
    for _ in range(2):
        with pytest.raises(RequestIdReused):
            _send(pt, header, range(10))
        _restart(pt, orderly=True)
    assert _used(pt) == 10


def test_what_policy_refuses_costs_nothing(bench: Bench, tmp_path: Path) -> None:
    """Policy sees what is asked, with the day's reservations and the budget."""
    pt = _budget(bench, 100)
    pt.node.policy = engine_with(
        tmp_path / "rules",
        'few: forbid (principal, action == Action::"ask", resource)'
        " when { context.asked > 5 || context.budget != 100 || context.spent < context.asked }",
        defaults=True,
    )
    header = _header(bench[ES], range(6))
    for _ in range(2):
        with pytest.raises(PolicyRefused):
            _send(pt, header, range(6))
    assert _used(pt) == 0
    assert _hits(_send(pt, _header(bench[ES], range(5)), range(5))) == 5
    assert _used(pt) == 5


def test_a_reset_without_a_purpose_ends_every_cap(bench: Bench) -> None:
    pt, es, desk = _budget(bench, 100), bench[ES], BudgetDesk(bench[PT].node)

    def may_ask(purpose: str = PURPOSE) -> bool:
        ends, _ = es.ask(records(range(3)), PT, purpose=purpose)
        return ends[PT].status == "answered"

    desk.set(ANA, FR, PURPOSE, 1)
    view = desk.set(ANA, ES, PURPOSE, 2)
    assert {one.purpose: one.budget for one in view.purposes} == {PURPOSE: 2}
    desk.set(ANA, ES, "deconfliction", 1)
    assert not may_ask() and not may_ask("deconfliction")
    desk.set(ANA, ES, "deconfliction", None)  # that cap alone
    assert may_ask("deconfliction") and not may_ask()
    view = desk.set(ANA, ES, "", None)
    assert not [one for one in view.purposes if one.HasField("budget")]
    assert may_ask()
    last: Any = pt.audit("budget.set")[-1]["detail"]
    assert last["caps_dropped"] == [PURPOSE]
    (other,) = (one for one in desk.find().peers if one.agency == FR)
    assert [one.budget for one in other.purposes] == [1]


def test_a_collection_is_charged_like_any_question(bench: Bench) -> None:
    from tieline.v1 import operator_pb2
    from tieline_server.services.comparing import Comparison

    pt = _budget(bench, 100)
    bench[ES].load(records(range(50, 90)))
    request = operator_pb2.CompareCollectionRequest(purpose=PURPOSE, case_ref="C", peers=[PT])
    (end,) = [
        one.end for one in Comparison(bench[ES].node, ANA, request).compare() if one.HasField("end")
    ]
    assert (end.end.status, end.shared) == ("answered", 40)
    assert _used(pt) == 40


# --- once -----------------------------------------------------------------------------------------


def _broken_off(pt: Running, header: envelope_pb2.Envelope, numbers: Iterable[int]) -> None:
    """Send header and half of a list, then go away as a lost connection does."""

    class Gone(Exception):
        """As rpc/streams.py's."""

    def requests() -> Iterator[exchange_pb2.OverlapRequest | DigestBatch]:
        yield exchange_pb2.OverlapRequest(header=header)
        raise Gone

    with pytest.raises(Gone):
        list(pt.answerer.answer(ES, requests()))


@pytest.mark.parametrize("budget", [10, 1_000_000])  # reserved by itself, or from a block
@pytest.mark.parametrize("restarted", [False, True])
def test_the_same_question_after_a_broken_connection_is_charged_once(
    bench: Bench, budget: int, restarted: bool
) -> None:
    pt = _budget(bench, budget)
    if budget > 10:
        _send(pt, _header(bench[ES], [0]), [0])  # a block is there
    before = _used(pt)
    header = _header(bench[ES], range(10))
    _broken_off(pt, header, range(10))
    assert _used(pt) == before + 10
    for _ in range(3):
        if restarted:
            _restart(pt, orderly=True)
        assert _hits(_send(pt, header, range(10))) == 10
        assert _used(pt) == before + 10


def test_the_same_id_with_another_header_is_refused_and_reveals_nothing(bench: Bench) -> None:
    pt = _budget(bench, 100)
    request = new_id()
    _send(pt, _header(bench[ES], range(10), request=request), range(10))
    with pytest.raises(RequestIdReused):
        _send(pt, _header(bench[ES], range(20), request=request), range(20))
    assert _used(pt) == 10


def test_one_payment_does_not_buy_several_lists(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hits of a long answer leave early; those of a repeat only when its whole list has proved
    right."""
    monkeypatch.setattr(answering, "_HITS_RELEASED", 1)
    monkeypatch.setattr(answering, "_HITS_WAITING", 1)
    monkeypatch.setattr(limits, "HITS_PER_BATCH", 1)
    monkeypatch.setattr(limits, "LOOKUPS_AHEAD", 0)
    pt = _budget(bench, 100)
    header = _header(bench[ES], range(10))
    told: list[int] = []

    def told_to_a_liar(numbers: Iterable[int]) -> int:
        first = exchange_pb2.OverlapRequest(header=header)
        hits = 0
        with pytest.raises(TielineError):
            for one in pt.answerer.answer(ES, [first, *_in_two(numbers)]):
                hits += len(one.hits.positions)
        return hits

    _broken_off(pt, header, range(10))  # paid, and known
    told = [told_to_a_liar(range(start, start + 10)) for start in (20, 30, 40)]
    assert told == [0, 0, 0]
    other = _header(bench[ES], range(10, 20))
    header = other
    assert told_to_a_liar(range(50, 60)) == 9  # released while the last comes: paid for
    assert told_to_a_liar(range(60, 70)) == 0  # and never again under this id
    assert _used(pt) == 20


def _left_in_the_middle(pt: Running, header: envelope_pb2.Envelope, numbers: Iterable[int]) -> int:
    """Send header and list, and go when all but the last digest is answered; return the hits."""
    first = exchange_pb2.OverlapRequest(header=header)
    answer = pt.answerer.answer(ES, chain([first], _in_two(numbers)))
    told = 0
    for one in answer:
        told += len(one.hits.positions)
        if told == 9:
            break
    answer.close()  # type: ignore[attr-defined]
    return told


@pytest.fixture
def answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hits leave as soon as there are any."""
    for name in ("_HITS_RELEASED", "_HITS_WAITING"):
        monkeypatch.setattr(answering, name, 1)
    monkeypatch.setattr(limits, "LOOKUPS_AHEAD", 0)


@pytest.mark.usefixtures("answered_at_once")
@pytest.mark.parametrize("process", ["the same", "another"])
@pytest.mark.parametrize("first", ["the announced", "the other"])
def test_a_question_under_way_is_not_asked_a_second_time_for_another_list(
    bench: Bench, process: str, first: str
) -> None:
    """One call holds back the end of one list, another one has the announced list answered."""
    pt = _budget(bench, 100)
    header = _header(bench[ES], range(10))
    told = []

    there = pt.answerer if process == "the same" else Answerer(replace(pt.node))

    def beside() -> None:
        first = exchange_pb2.OverlapRequest(header=header)
        with contextlib.suppress(TielineError):
            told.append(_hits(list(there.answer(ES, [first, _list(range(10))]))))

    def another() -> Iterator[exchange_pb2.OverlapRequest | DigestBatch]:
        yield exchange_pb2.OverlapRequest(header=header)
        if first == "the announced":
            beside()
        yield from _in_two(range(50, 60))

    with contextlib.suppress(TielineError):
        for one in pt.answerer.answer(ES, another()):
            if first == "the other" and not told:
                beside()
            told.append(len(one.hits.positions))
    assert sum(told) == (10 if first == "the announced" else 9)
    assert _used(pt) == 10


@pytest.mark.usefixtures("answered_at_once")
@pytest.mark.parametrize("known", ["in memory", "in storage"])
def test_who_left_with_half_of_another_answer_has_none_of_the_announced_one(
    bench: Bench, known: str
) -> None:
    pt = _budget(bench, 100)
    header = _header(bench[ES], range(10))
    assert _left_in_the_middle(pt, header, range(50, 60)) == 9
    if known == "in storage":
        _restart(pt)
    with pytest.raises((InvalidInput, RequestIdReused)):
        _send(pt, header, range(10))
    with pytest.raises(RequestIdReused):  # and the id is used up
        _send(pt, header, range(10))


@pytest.mark.usefixtures("answered_at_once")
def test_what_a_question_asked_again_finds_is_bounded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hits wait in memory for the end of its list."""
    monkeypatch.setattr(limits, "REPEATED_HITS_MOST", 5)
    pt = _budget(bench, 100)
    header = _header(bench[ES], range(10))
    _broken_off(pt, header, range(10))
    with pytest.raises(LimitExceeded, match="as a new one"):
        _send(pt, header, range(10))
    assert _hits(_send(pt, _header(bench[ES], range(10)), range(10))) == 10


@pytest.mark.usefixtures("answered_at_once")
def test_who_left_with_half_of_the_answer_has_all_of_it_for_nothing(bench: Bench) -> None:
    pt = _budget(bench, 100)
    header = _header(bench[ES], range(10))
    assert _left_in_the_middle(pt, header, range(10)) == 9
    for _ in range(2):
        assert _hits(_send(pt, header, range(10))) == 10
    assert _used(pt) == 10


def test_what_a_killed_process_had_reserved_ahead_counts_as_spent(bench: Bench) -> None:
    pt = _budget(bench, 1_000_000)
    _send(pt, _header(bench[ES], [0]), [0])
    assert _used(pt) == 1
    _restart(pt)  # without a word
    assert _used(pt) == 1 + limits.BUDGET_BLOCK_UNITS
    _send(pt, _header(bench[ES], [1]), [1])
    _restart(pt, orderly=True)
    assert _used(pt) == 2 + limits.BUDGET_BLOCK_UNITS


def test_most_questions_need_no_commit_for_their_budget(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pt = _budget(bench, 1_000_000)
    notes: list[object] = []
    note = pt.store.note

    def counted(work: Any) -> Any:
        notes.append(work)
        return note(work)

    monkeypatch.setattr(pt.store, "note", counted)
    for number in range(50):
        _send(pt, _header(bench[ES], [number]), [number])
    assert len(notes) == 50 + 1
    assert _used(pt) == 50


def test_two_processes_know_of_one_anothers_questions(bench: Bench) -> None:
    """Two sets of services over one store, as two processes over one PostgreSQL."""
    pt = _budget(bench, 12)
    header = _header(bench[ES], range(10))
    _broken_off(pt, header, range(10))
    _restart(pt)
    other = Answerer(pt.node)
    first = exchange_pb2.OverlapRequest(header=header)
    assert _hits(list(other.answer(ES, [first, _list(range(10))]))) == 10
    assert _used(pt) == 10


# --- what people see ------------------------------------------------------------------------------


def test_at_eighty_percent_both_sides_are_told_and_an_alarm_is_raised(bench: Bench) -> None:
    pt = _budget(bench, 100)
    ends, _ = bench[ES].ask(records(range(79)), PT)
    left = ends[PT].budget
    assert left is not None and (left.left, left.budget) == (21, 100)
    assert list(BudgetDesk(pt.node).warnings()) == []
    assert Alarms(pt.node).raise_due() == ()
    bench[ES].ask(records([0]), PT)
    assert [one.kind.value for one in Alarms(pt.node).raise_due()] == ["budget-low"]
    (entry,) = pt.audit("alarm.budget-low")
    assert entry["peer"] == ES
    (open_alarm,) = Alarms(pt.node).open()
    assert (open_alarm.kind, open_alarm.sender) == ("budget-low", ES)
    assert list(BudgetDesk(pt.node).warnings()) == [f"{ES} has used 80 of its 100 units of today"]
    (told,) = BudgetDesk(bench[ES].node).warnings()
    assert told.startswith(f"this agency had 20 of 100 units left at {PT}")
    assert f"as {PT} said last, at 2026-03-01T" in told
    bench[ES].ask(records(range(21)), PT)
    bench[ES].ask(records(range(21)), PT)
    assert [one.kind.value for one in Alarms(pt.node).raise_due()] == ["budget-spent"]
    bench.now += DAY
    assert list(BudgetDesk(pt.node).warnings()) == []
    assert list(BudgetDesk(bench[ES].node).warnings()) == []


def test_the_asker_knows_what_is_left_from_answers_and_refusals(bench: Bench) -> None:
    _budget(bench, 10)
    asker = bench[ES]
    assert list(BudgetDesk(asker.node).find().own) == []
    asker.ask(records(range(7)), PT)
    (own,) = BudgetDesk(asker.node).find().own
    assert (own.agency, own.left, own.budget) == (PT, 3, 10)
    bench[PT].node.budgets.configured = Budgets(8)
    asker.ask(records(range(2)), PT)
    (own,) = BudgetDesk(asker.node).find().own
    assert (own.left, own.budget) == (1, 8)
    bench.now += DAY
    (own,) = BudgetDesk(asker.node).find().own
    assert (own.left, own.budget) == (8, 8)


def test_an_admins_word_holds_at_once_and_is_logged(bench: Bench) -> None:
    pt = _budget(bench, 1_000_000)
    desk = BudgetDesk(pt.node)
    _send(pt, _header(bench[ES], range(5)), range(5))
    view = desk.set(ANA, ES, "", 7)
    assert (view.budget, view.spent, view.left, view.stated_by) == (7, 5, 2, "admin")
    with pytest.raises(BudgetExceeded):
        _send(pt, _header(bench[ES], range(3)), range(3))
    desk.set(ANA, ES, "data-quality", 1)
    with pytest.raises(BudgetExceeded, match="data-quality"):
        _send(pt, _header(bench[ES], range(2), purpose="data-quality"), range(2))
    view = desk.set(ANA, ES, "", None)
    assert (view.budget, view.stated_by) == (1_000_000, "default")
    assert [(one.purpose, one.spent, one.HasField("budget")) for one in view.purposes] == [
        ("data-quality", 0, False),
        (PURPOSE, 5, False),
    ]
    entries = pt.audit("budget.set")
    assert [one["person"] for one in entries] == ["ana"] * 3
    with pytest.raises(UnknownAgency):
        desk.set(ANA, "xx-no", "", 1)
    with pytest.raises(InvalidInput):
        desk.set(ANA, PT, "", 1)
    with pytest.raises(InvalidInput):
        desk.set(ANA, ES, "", limits.POLICY_NUMBER_MOST + 1)
    assert len(pt.audit("budget.set")) == 3


# --- small sets -----------------------------------------------------------------------------------


def test_no_count_is_told_of_few(bench: Bench) -> None:
    """With references come counts: of a question, and of a series."""
    least = limits.COUNT_LEAST
    bench[PT].load(records(range(least)), series="large")
    bench[PT].load(records(range(100, 99 + least)), series="small")
    ends, _ = bench[HUB].ask(records([*range(least), 100]), PT)
    assert ends[PT].count is None  # a hit is all that it learns
    bench[PT].release(ends[PT].request)
    ends, overlaps = bench[HUB].ask(records([*range(least), 100]), PT)
    assert ends[PT].count == least + 1
    told = {series.id: series.items for one in overlaps[PT] for series in one.series}
    assert sorted(told.values(), key=str) == [least, None]
    ends, _ = bench[HUB].ask(records(range(least - 1)), PT)
    assert ends[PT].count is None
