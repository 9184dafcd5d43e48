"""Standing queries between whole nodes: nothing twice, nothing missed, everything resumed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from tieline.v1 import exchange_pb2, operator_pb2
from tieline_client import limits
from tieline_client.errors import NotFound, WrongState
from tieline_server.domain.alarm import AlarmKind
from tieline_server.domain.budget import Budgets
from tieline_server.domain.ports import Tx
from tieline_server.services.alarms import Alarms
from tieline_server.services.purging import Purging
from tieline_server.services.retracting import Retracting
from tieline_server.services.watch_runs import WatchRuns
from tieline_server.services.watches import WatchDesk

from tests.services.bench import ANA, ES, FR, PT, Bench, record, records, wait_for
from tests.services.watching_here import (
    by_hand,
    by_night,
    greet,
    peer,
    view,
    watch,
)

Part = exchange_pb2.OverlapResponse


@pytest.fixture
def pair(bench: Bench) -> Bench:
    """Two nodes, the second of which holds items 1 to 5."""
    bench[PT], bench[ES].series(records(range(1, 6)))
    greet(bench, PT, ES)
    return bench


def _asked(bench: Bench, agency: str = ES) -> list[dict[str, object]]:
    return bench[agency].audit("query.answered")


def test_a_list_is_asked_whole_then_for_what_is_new(pair: Bench) -> None:
    pt, es = pair[PT], pair[ES]
    number = watch(pt, records(range(1, 11)), peers=(ES,))
    first = by_hand(pt)[ES]
    assert (first.status, first.fresh, first.since) == ("answered", 5, False)
    assert peer(pt, number, ES).percent == 50
    es.load(records([7, 20]))
    greet(pair, PT, ES)
    second = by_hand(pt)[ES]
    assert (second.status, second.fresh, second.since) == ("answered", 1, True)
    assert (peer(pt, number, ES).matched, peer(pt, number, ES).percent) == (6, 60)
    told = _asked(pair)
    assert told[0]["detail"]["hits"] == 15  # type: ignore[index]
    assert "since" not in str(told[0])
    assert told[1]["detail"]["hits"] == 3, "three digests of the one item that is new"  # type: ignore[index]
    newest, oldest = view(pt, number).notices
    assert (newest.fresh, newest.matched, newest.percent) == (1, 6, 60)
    assert (oldest.fresh, oldest.matched, oldest.records) == (5, 5, 10)


def _pdq(number: int) -> bytes:
    return bytes(record(number, kinds="pdq").pdq or b"")


def _near(number: int, bits: int) -> bytes:
    """The PDQ of record ``number`` with so many of its bits turned."""
    turned = int.from_bytes(_pdq(number)) ^ ((1 << bits) - 1)
    return turned.to_bytes(32)


def test_a_near_match_counts_as_one_and_only_what_is_new_is_asked(pair: Bench) -> None:
    """A picture close to a watched one: no exact digest of it is shared."""
    pt, es = pair[PT], pair[ES]
    watched = records(range(50, 54), kinds="pdq")
    number = watch(pt, watched, peers=(ES,), near=True)
    es.load([record(70, kinds="md5 pdq", pdq=_near(50, 31)), record(71, pdq=_near(51, 32))])
    greet(pair, PT, ES)
    first = by_hand(pt)[ES]
    assert (first.status, first.fresh, first.since) == ("answered", 1, False), "31 bits, not 32"
    es.load([record(72, kinds="sha1 pdq", pdq=_near(52, 5)), record(73, pdq=_near(50, 3))])
    greet(pair, PT, ES)
    second = by_hand(pt)[ES]
    assert (second.status, second.fresh, second.since) == ("answered", 1, True)
    assert (peer(pt, number, ES).matched, peer(pt, number, ES).percent) == (2, 50)
    asked = [one["detail"] for one in _asked(pair)]
    assert [one["hits"] for one in asked] == [1, 2], "two that are new there, one of them news"  # type: ignore[index]
    assert "since" not in asked[0] and "since" in asked[1]  # type: ignore[operator]
    newest, oldest = view(pt, number, matches=True).notices
    assert (oldest.fresh, newest.fresh, newest.matched) == (1, 1, 2)
    es.load([record(74, pdq=_pdq(53))])
    pair.now += timedelta(days=1)
    greet(pair, PT, ES)
    assert by_night(pt)[ES].fresh == 1, "the same PDQ is the nearest"
    pair.now += timedelta(days=1)
    greet(pair, PT, ES)
    assert not by_night(pt) and by_hand(pt)[ES].status == "unchanged"
    assert len(_asked(pair)) == 3


def test_nothing_is_asked_twice_for_one_generation(pair: Bench) -> None:
    pt = pair[PT]
    watch(pt, records(range(1, 11)), peers=(ES,))
    by_night(pt)
    for _ in range(3):
        pair.now += timedelta(days=1)
        greet(pair, PT, ES)
        assert not by_night(pt) and by_hand(pt)[ES].status == "unchanged"
    assert len(_asked(pair)) == 1
    pair[ES].load(records([8]))
    greet(pair, PT, ES)
    assert by_night(pt)[ES].fresh == 1
    pair[ES].load(records([9]))
    greet(pair, PT, ES)
    assert not by_night(pt), "once a night, unless a person says so"
    assert by_hand(pt)[ES].fresh == 1


def test_what_lands_while_it_is_asked_is_found_the_next_time(pair: Bench) -> None:
    """The peer's index grows after the question came in and before its answer leaves."""
    pt, es = pair[PT], pair[ES]
    watch(pt, records(range(1, 11)), peers=(ES,))

    def growing(answer: Iterator[Part]) -> Iterable[Part]:
        for number, part in enumerate(answer):
            if not number:
                es.load(records([9]))
            yield part

    pair.tampering[ES] = growing
    assert by_hand(pt)[ES].fresh == 5
    pair.tampering.clear()
    greet(pair, PT, ES)
    assert by_hand(pt)[ES].fresh == 1
    assert by_hand(pt)[ES].status == "unchanged"


def test_what_is_told_twice_counts_once(pair: Bench) -> None:
    """A known item that is held once more is new at the peer, and no news here."""
    pt, es = pair[PT], pair[ES]
    number = watch(pt, records(range(1, 11)), peers=(ES,))
    by_hand(pt)
    es.series(records([1, 2]), "Other")
    greet(pair, PT, ES)
    again = by_hand(pt)[ES]
    assert (again.status, again.fresh, again.since) == ("answered", 0, True)
    assert _asked(pair)[1]["detail"]["hits"] == 6  # type: ignore[index]
    assert len(view(pt, number).notices) == 1 and peer(pt, number, ES).matched == 5


def test_a_budget_that_ends_half_way_resumes_with_the_rest(
    pair: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WATCH_PART_RECORDS", 4)
    pt, es = pair[PT], pair[ES]
    es.node.budgets.configured = Budgets(peers={PT: 9})
    number = watch(pt, records(range(1, 11)), peers=(ES,))
    stopped = by_hand(pt)[ES]
    assert (stopped.status, stopped.fresh) == ("refused", 5)
    assert "budget" in stopped.reason and peer(pt, number, ES).part == 2
    assert not by_night(pt), "not before the budget counts anew"
    es.load(records([1, 10]))
    pair.now += timedelta(days=1)
    ended = by_night(pt)[ES]
    assert (ended.status, ended.fresh) == ("answered", 1)
    assert [one["detail"]["records"] for one in _asked(pair)] == [4, 4, 2]  # type: ignore[index]
    assert peer(pt, number, ES).part == 0
    greet(pair, PT, ES)
    pair.now += timedelta(days=1)
    assert by_night(pt)[ES].since, "item 1 came after the first part: the next round begins there"


def test_a_run_that_was_killed_goes_on_where_it_was(
    pair: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node dies after the first part; the claim of the dead run ends by itself."""
    monkeypatch.setattr(limits, "WATCH_PART_RECORDS", 4)
    pt = pair[PT]
    number = watch(pt, records(range(1, 11)), peers=(ES,))
    run = WatchRuns(pt.node)
    answers = iter(range(9))

    monkeypatch.setattr(run, "_let_go", lambda *_: None)
    original = run._ask

    def killed(*arguments: object) -> Iterator[object]:
        if next(answers):
            raise KeyboardInterrupt
        yield from original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "_ask", killed)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    key = pt.node.audit_key
    pt = pair.set_back(PT, pair.image(PT))
    pt.node.audit_key = key
    assert peer(pt, number, ES).part == 1
    assert not by_night(pt), "it is still marked as in hand"
    assert by_hand(pt)[ES].reason == "another run has it in hand"
    pair.now += limits.WATCH_CLAIM + timedelta(seconds=1)
    ended = by_night(pt)[ES]
    assert (ended.status, ended.fresh) == ("answered", 1)
    assert [one["detail"]["records"] for one in _asked(pair)] == [4, 4, 2]  # type: ignore[index]


def test_a_peer_that_is_away_is_tried_again_after_an_hour(pair: Bench) -> None:
    pt = pair[PT]
    number = watch(pt, records(range(1, 11)), peers=(ES,))
    pair.offline.add(ES)
    assert by_night(pt)[ES].status == "unreachable"
    pair.offline.clear()
    assert not by_night(pt)
    pair.now += limits.WATCH_RETRY
    assert by_night(pt)[ES].fresh == 5
    assert peer(pt, number, ES).status == "answered"


def test_a_peer_of_a_new_epoch_is_asked_whole(pair: Bench) -> None:
    """Restored from a backup its generations begin again lower: what came since would be missed."""
    pt = pair[PT]
    watch(pt, records(range(1, 11)), peers=(ES,))
    image = pair.image(ES)
    pair[ES].load(records([6]))
    greet(pair, PT, ES)
    assert by_hand(pt)[ES].fresh == 6
    pair.set_back(ES, image)
    pair.resync(ES).load(records([7]))
    greet(pair, PT, ES)
    again = by_hand(pt)[ES]
    assert (again.status, again.fresh) == ("answered", 1)
    assert _asked(pair)[-1]["detail"]["hits"] == 18, "all that it holds of the list"  # type: ignore[index]


def test_an_older_peer_is_asked_whole_once_a_night(pair: Bench) -> None:
    """Before v1.4 a receipt names no epoch and a contact no generation."""
    pt = pair[PT]
    watch(pt, records(range(1, 11)), peers=(FR,))
    pair[FR].load(records([3]))
    pair[FR].node.epoch = ""  # its receipts say none
    assert by_night(pt)[FR].fresh == 1
    assert not by_night(pt)
    pair.now += timedelta(days=1)
    again = by_night(pt)[FR]
    assert (again.status, again.fresh, again.since) == ("answered", 0, False)


def test_both_sides_learn_of_a_match(pair: Bench) -> None:
    pt, es = pair[PT], pair[ES]
    number = watch(pt, records(range(1, 11)), peers=(ES,), reference="A-7", priority=9)
    by_hand(pt)
    pair.flow()
    kinds = {}
    for running in (pt, es):
        Alarms(running.node).raise_due()
        (alarm,) = Alarms(running.node).open()
        kinds[running.agency] = (alarm.kind, alarm.referral, alarm.sender)
    assert kinds == {
        PT: (AlarmKind.WATCH_MATCH.value, number, ES),
        ES: (AlarmKind.WATCHED.value, number, PT),
    }
    (told,) = es.audit("watch.told")
    assert told["detail"]["percent"] == 50 and told["detail"]["reference"] == "A-7"  # type: ignore[index]
    assert told["case"] == "2026-118" and "duty@pt-pj.example" in told["detail"]["contact"]  # type: ignore[index]
    (kept,) = pt.audit("watch.matched")
    assert kept["detail"]["told"] is True and kept["subjects"][0] == number  # type: ignore[index]


def test_an_ended_one_is_asked_no_more(pair: Bench) -> None:
    pt = pair[PT]
    removed = watch(pt, records(range(1, 11)), peers=(ES,))
    stays = watch(pt, records(range(1, 11)), peers=(ES,), until=pair.now + timedelta(days=2))
    WatchDesk(pt.node).remove(ANA, removed)
    with pytest.raises(WrongState, match="ended already"):
        WatchDesk(pt.node).remove(ANA, removed)
    with pytest.raises(NotFound):
        by_hand(pt, removed)
    assert by_hand(pt)[ES].watch == stays
    pair[ES].load(records([9]))
    pair.now += timedelta(days=2)
    greet(pair, PT, ES)
    assert not by_night(pt), "its day has come, and nobody is asked"
    assert [one["subjects"] for one in pt.audit("watch.expired")] == [[stays]]
    assert [one["subjects"] for one in pt.audit("watch.removed")] == [[removed]]
    assert not pt.store.read(lambda tx: [*tx.watches.pieces(stays), *tx.watches.pieces(removed)])
    assert {one.state for one in WatchDesk(pt.node).find(ended=True)} == {"removed", "expired"}


def test_one_that_is_removed_amid_a_run_ends_it(
    pair: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WATCH_PART_RECORDS", 4)
    pt = pair[PT]
    number = watch(pt, records(range(1, 11)), peers=(ES,))

    def removing(answer: Iterator[Part]) -> Iterable[Part]:
        if view(pt, number).watch.state == "active":
            WatchDesk(pt.node).remove(ANA, number)
        return answer

    pair.tampering[ES] = removing
    ended = by_hand(pt)[ES]
    assert (ended.status, ended.fresh) == ("unchanged", 0)
    assert len(_asked(pair)) == 1 and not view(pt, number).notices


def test_higher_priorities_go_first(pair: Bench) -> None:
    pt, es = pair[PT], pair[ES]
    es.node.budgets.configured = Budgets(peers={PT: 10})
    low = watch(pt, records(range(1, 11)), peers=(ES,), case_ref="low")
    high = watch(pt, records(range(1, 11)), peers=(ES,), case_ref="high", priority=1)
    WatchRuns(pt.node).run()
    assert peer(pt, high, ES).status == "answered" and peer(pt, low, ES).status == "refused"


def test_few_hits_in_what_is_new_are_no_sign_of_enumeration(
    pair: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BUDGET_BLOCK_UNITS", 1)
    pt, es = pair[PT], pair[ES]
    watch(pt, records(range(1, 31)), peers=(ES,))
    by_hand(pt)
    for number in range(3):
        es.load(records([100 + number]))
        greet(pair, PT, ES)
        assert by_hand(pt)[ES].since
    (day,) = [
        one
        for one in es.store.read(lambda tx: tx.budgets.spent("2026-03-01", PT))
        if not one.purpose
    ]
    assert day.asked == 30, "the first answer alone is judged"
    assert day.units >= 4 * 30, "and every one is charged"


def test_a_series_that_is_withdrawn_leaves_notices_and_lists(pair: Bench) -> None:
    """Its owner takes it back: its items leave the list, unless held by other right, and it is
    named in no notice any more."""
    pt, es = pair[PT], pair[ES]
    series = es.series(records(range(50, 54)), "Verde")
    es.refer(series, agency=PT)
    pair.flow()
    pt.load(records([53]))
    number = watch(pt, records([50, 51, 52, 53, 60]), peers=(ES,))
    by_hand(pt)
    (notice,) = view(pt, number).notices
    assert notice.matched == 4
    Retracting(es.node).retract(
        ANA, operator_pb2.RetractSeriesRequest(series=series, kind="withdraw", reason="wrong")
    )
    pair.flow()
    Purging(pt.node).run()
    left = view(pt, number, matches=True)
    assert left.watch.header.records == 2
    assert not any(one.series for one in left.notices)
    (struck,) = pt.audit("watch.struck")
    assert struck["detail"]["items"] == 3  # type: ignore[index]


def test_a_person_s_run_hears_first_who_has_anything_new(pair: Bench) -> None:
    """Contacts are hourly; a run does not wait for the next, nor for a peer that is away."""
    pt = pair[PT]
    watch(pt, records(range(1, 11)), peers=(ES,))
    runs = WatchRuns(pt.node, contact=pt.contacts.contact)
    assert runs.run()[0].fresh == 5
    assert runs.run()[0].status == "unchanged"
    pair[ES].load(records([9]))
    assert runs.run()[0].fresh == 1
    pair.offline.add(ES)
    assert runs.run()[0].status == "unchanged"


def test_an_import_that_lands_between_parts_is_found(
    pair: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Item 2 belongs to the first part, which was answered before it came."""
    monkeypatch.setattr(limits, "WATCH_PART_RECORDS", 4)
    pt = pair[PT]
    watch(pt, records(range(2, 12)), peers=(FR,))
    pair[FR].load(records([11]))
    parts = iter(range(99))

    def growing(answer: Iterator[Part]) -> Iterable[Part]:
        if next(parts) == 1:
            pair[FR].load(records([2]))
        return answer

    pair.tampering[FR] = growing
    assert by_hand(pt)[FR].fresh == 1
    greet(pair, PT, FR)
    assert by_hand(pt)[FR].fresh == 1


def test_a_node_that_starts_frees_what_it_had_in_hand(pair: Bench) -> None:
    """It is alone on its database; housekeeping then asks in a thread of its own."""
    pt = pair[PT]
    number = watch(pt, records(range(1, 11)), peers=(ES,))

    def held(tx: Tx) -> None:
        later = pair.now + limits.WATCH_CLAIM
        tx.watches.put_position(replace(tx.watches.position(number, ES), claimed=later))

    pt.store.write(held)
    runs = WatchRuns(pt.node)
    runs.look()
    wait_for("it was asked", lambda: peer(pt, number, ES).matched == 5)
    runs.stop()
