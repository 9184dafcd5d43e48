"""Taking an import back: at once out of answers, then out of every file, and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import timedelta

import pytest
from tieline.v1 import operator_imports_pb2 as pb
from tieline.v1 import operator_pb2, operator_requests_pb2
from tieline_client.columns import of_records
from tieline_client.errors import InvalidInput, NotFound, RoleRefused, WrongState
from tieline_client.formats.record import Vote
from tieline_client.identifiers import new_id
from tieline_server.domain.ports import Erased, Purge, Tx
from tieline_server.rpc.call import Caller
from tieline_server.rpc.methods import Listener, find_rule
from tieline_server.services import purging
from tieline_server.services.deciding import Requests
from tieline_server.services.import_desk import ImportDesk
from tieline_server.services.importing import Import
from tieline_server.services.purging import Purging
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.tombstones import reapply

from tests.services.bench import (
    ABUSE,
    ANA,
    CASE,
    ES,
    FR,
    PT,
    RUI,
    Bench,
    Running,
    finish,
    record,
    records,
)

WHY = "the file was of another case"


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewritings of the database may follow one another at once."""
    monkeypatch.setattr("tieline_server.storage.scrubbing.PAUSE", 0)


def remove(running: Running, import_id: str, reason: str = WHY) -> pb.RemoveImportResponse:
    request = pb.RemoveImportRequest(id=import_id, reason=reason)
    return ImportDesk(running.node).remove(RUI, request)


def listed(running: Running) -> list[pb.ImportView]:
    return list(ImportDesk(running.node).latest(0).imports)


def state(running: Running, import_id: str) -> str:
    (one,) = [view for view in listed(running) if view.id == import_id]
    return one.state


def found(bench: Bench, numbers: Iterable[int], at: str = PT) -> set[int]:
    """Which of these records another agency finds there."""
    asked = records(numbers)
    _, overlaps = bench[ES].ask(asked, at)
    return {one.record for one in overlaps.get(at, [])}


def items(running: Running) -> int:
    return running.store.read(lambda tx: tx.items.stats()).items


def test_a_peer_finds_no_more_what_only_the_removed_import_held(bench: Bench) -> None:
    pt = bench[PT]
    wrong = pt.load(records(range(4)), series="Azul")
    pt.load(records(range(2, 6)), case_ref="another")
    assert found(bench, range(6)) == {0, 1, 2, 3, 4, 5}
    answer = remove(pt, wrong.import_id)
    assert (answer.repeated, answer.removed.state, answer.removed.stored) == (False, "removing", 4)
    assert list(answer.again) == []
    assert found(bench, range(6)) == {2, 3, 4, 5}, "at once, before anything is erased"
    assert Purging(pt.node).run()
    assert found(bench, range(6)) == {2, 3, 4, 5}
    assert items(pt) == 4
    assert state(pt, wrong.import_id) == "removed"
    (entry,) = pt.audit("import.removed")
    assert (entry["person"], entry["case"]) == (RUI.name, CASE)
    assert entry["subjects"] == [wrong.import_id, *wrong.series]
    assert entry["detail"]["reason"] == WHY  # type: ignore[index]
    assert entry["detail"]["stored"] == 4  # type: ignore[index]
    series, erased = pt.audit("removal.erased")
    assert (series["subjects"], series["detail"]) == (entry["subjects"], {"series": 1})
    assert (erased["subjects"], erased["detail"]) == ([wrong.import_id], {"holdings": 4})


def test_another_cases_items_keep_the_categories_that_its_own_file_states(bench: Bench) -> None:
    pt = bench[PT]
    wrong = pt.load(records(range(10)), series="R one", case_ref="R1")
    (kept,) = pt.load(records(range(5, 15)), series="R two", case_ref="R2").series
    remove(pt, wrong.import_id)
    assert Purging(pt.node).run()
    (count,) = SeriesWork(pt.node).get(kept).votes
    assert (count.code, count.items) == (ABUSE.code, 10)


def test_nothing_of_it_is_left_in_the_database(bench: Bench) -> None:
    pt = bench[PT]
    wrong = pt.load(records(range(50)), source="seizure-4711.txt")
    remove(pt, wrong.import_id)
    assert Purging(pt.node).run()
    files = list(bench.folder.glob(f"{PT}.sqlite3*"))
    assert files
    kept = b"".join(path.read_bytes() for path in files)
    for one in records(range(50)):
        assert one.sha1 is not None and one.sha1 not in kept
    with closing(sqlite3.connect(pt.path)) as database:
        assert database.execute("SELECT source, case_ref FROM imports").fetchall() == [("", "")]


def test_the_list_is_newest_first_and_says_what_is_known(bench: Bench) -> None:
    pt = bench[PT]
    first = pt.load(records(range(3)), series="Azul", source="a.txt")
    second = pt.load(records(range(2, 5)), series="Azul", source="b.txt")
    known = pt.load(records(range(20, 24)), exclusions=True, source="nsrl.txt")
    bench[ES].refer(bench[ES].series(records(range(70, 72))), agency=PT)
    bench.flow()
    views = listed(pt)
    assert [one.id for one in views] == [known.import_id, second.import_id, first.import_id]
    assert [one.source for one in views] == ["nsrl.txt", "b.txt", "a.txt"]
    assert [(one.items_new, one.items_known) for one in views] == [(4, 0), (2, 1), (3, 0)]
    assert [one.stored for one in views] == [12, 2, 3]  # digests of a list, holdings otherwise
    assert [one.exclusions for one in views] == [True, False, False]
    assert list(views[2].series) == list(first.series)
    assert (views[2].person, views[2].case_ref) == ("ana", CASE)
    assert views[2].retain_until == "2029-02-28" and not views[0].retain_until
    assert {one.state for one in views} == {"counts"}
    two = ImportDesk(pt.node).latest(2)
    assert (len(two.imports), two.more) == (2, True)


def test_a_wrong_exclusion_list_excludes_no_more(bench: Bench) -> None:
    pt = bench[PT]
    wrong = pt.load(records(range(3)), exclusions=True)
    right = pt.load(records(range(8, 10)), exclusions=True)
    report = pt.load(records(range(5)), series="Azul")
    assert (report.items_new, report.known_good) == (2, 3)
    assert bench[ES].load(records(range(10)))
    assert sum(len(one) for one in pt.ask(records(range(10)), ES)[1].values()) == 5
    answer = remove(pt, wrong.import_id)
    assert [one.id for one in answer.again] == [report.import_id], "it lacks what was left out"
    assert sum(len(one) for one in pt.ask(records(range(10)), ES)[1].values()) == 8
    again = pt.load(records(range(5)), series="Azul")
    assert (again.items_new, again.items_known, again.excluded) == (3, 2, 0)
    assert found(bench, range(10)) == {0, 1, 2, 3, 4}
    assert Purging(pt.node).run()
    assert pt.store.read(lambda tx: tx.items.stats()).exclusions == 6
    assert found(bench, range(10)) == {0, 1, 2, 3, 4}
    assert state(pt, wrong.import_id) == "removed"
    assert state(pt, right.import_id) == "counts"
    assert pt.load(records(range(7, 10))).known_good == 2
    restarted = bench.set_back(PT, bench.image(PT))  # its index of lists is made anew
    assert restarted.load(records([0, 1, 2, 8], kinds="md5"), case_ref="x").known_good == 1


def test_lists_that_share_digests_are_named_since_they_are_stored_once(bench: Bench) -> None:
    pt = bench[PT]
    wrong = pt.load(records(range(4)), exclusions=True)
    later = pt.load(records(range(2, 6)), exclusions=True)
    apart = pt.load(records(range(20, 22)), exclusions=True)
    assert [one.id for one in remove(pt, wrong.import_id).again] == [later.import_id]
    assert pt.load(records(range(2, 6)), exclusions=True).items_new == 2
    assert pt.load(records(range(8))).known_good == 4
    assert state(pt, apart.import_id) == "counts"


def test_what_a_later_import_did_not_store_again_is_named_and_comes_back(bench: Bench) -> None:
    pt = bench[PT]
    wrong = pt.load(records(range(4)))
    later = pt.load(records(range(2, 6)))
    other = pt.load(records(range(30, 32)))
    assert [one.id for one in remove(pt, wrong.import_id).again] == [later.import_id]
    again = pt.load(records(range(2, 6)))  # while the erasure is still to come
    assert not again.repeated
    assert Purging(pt.node).run()
    assert found(bench, range(6)) == {2, 3, 4, 5}
    assert state(pt, other.import_id) == "counts"


@pytest.mark.parametrize("exclusions", [False, True])
def test_a_crash_in_the_middle_loses_nothing_of_the_removal(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, exclusions: bool
) -> None:
    pt = bench[PT]
    wrong = pt.load(records(range(9)), exclusions=exclusions)
    pt.load(records(range(6, 12)), case_ref="another", exclusions=exclusions)
    monkeypatch.setattr(purging, "HOLDINGS_AT_ONCE", 2)
    whole, batches = Purging._batch, iter(range(2))

    def crash(self: Purging, tx: Tx, purge: Purge) -> Erased:
        if next(batches, None) is None:
            raise KeyboardInterrupt
        return whole(self, tx, purge)

    monkeypatch.setattr(Purging, "_batch", crash)
    remove(pt, wrong.import_id)
    with pytest.raises(KeyboardInterrupt):
        Purging(pt.node).run()
    monkeypatch.setattr(Purging, "_batch", whole)
    restarted = bench.set_back(PT, bench.image(PT))
    assert state(restarted, wrong.import_id) == "removing"
    left = listed(restarted)[1].stored
    assert left == (15 if exclusions else 5), "two batches of two were erased"
    if exclusions:
        assert restarted.load(records(range(5)), case_ref="x").known_good == 0
    else:
        assert found(bench, range(12)) == set(range(6, 12))
    assert Purging(restarted.node).run()
    assert listed(restarted)[-1].stored == 0
    assert state(restarted, wrong.import_id) == "removed"
    if not exclusions:
        assert found(bench, range(12)) == set(range(6, 12))
        assert items(restarted) == 6


def test_a_restored_backup_erases_it_again(bench: Bench) -> None:
    pt = bench[PT]
    wrong = pt.load(records(range(4)))
    known = pt.load(records(range(20, 22)), exclusions=True)
    image, made = bench.image(PT), bench.now
    bench.now += timedelta(minutes=1)
    for one in (wrong, known):
        remove(pt, one.import_id)
    assert Purging(pt.node).run()
    restored = bench.set_back(PT, image)
    assert found(bench, range(4)) == {0, 1, 2, 3}
    assert reapply(restored.store, restored.node.ledger, made) == 2
    assert found(bench, range(4)) == set()
    assert restored.load(records(range(20, 22))).items_new == 2
    Purging(restored.node).erase()
    assert items(restored) == 2
    assert restored.store.read(lambda tx: tx.items.stats()).exclusions == 0


def test_what_others_were_told_is_withdrawn_first(bench: Bench) -> None:
    pt = bench[PT]
    told = pt.load(records(range(4)), series="Azul")
    (series,) = told.series
    pt.refer(series, agency=ES)
    assert bench[ES]
    with pytest.raises(WrongState, match=f"{ES} was told.*tieline series withdraw {series}"):
        remove(pt, told.import_id)
    bench.flow()
    with pytest.raises(WrongState, match="series withdraw"):
        remove(pt, told.import_id)
    assert found(bench, range(4)) == {0, 1, 2, 3}
    assert pt.audit("import.removed") == []
    request = operator_pb2.RetractSeriesRequest(series=series, kind="withdraw", reason="x")
    Retracting(pt.node).retract(ANA, request)
    assert remove(pt, told.import_id).removed.state == "removing"
    bench.flow()
    for agency in (PT, ES):
        assert Purging(bench[agency].node).run()
    bench.flow()
    assert items(pt) == items(bench[ES]) == 0
    assert SeriesWork(pt.node).get(series).retraction.recipients[0].state == "confirmed"


def test_a_series_that_the_import_made_goes_and_one_that_was_worked_with_stays(
    bench: Bench,
) -> None:
    pt = bench[PT]
    named = [record(n, series=f"S{n}") for n in range(4)]
    wrong = pt.load(named)
    ids = {one.name: one.id for one in pt.store.read(lambda tx: tx.series.find())}
    assert set(ids) == {"S0", "S1", "S2", "S3"}
    pt.load([record(50, series="S1")], case_ref="another")
    SeriesWork(pt.node).assess(
        ANA,
        operator_pb2.AssessSeriesRequest(
            series=ids["S2"], country="PT", confidence=1, grounds="a coat of arms"
        ),
    )
    remove(pt, wrong.import_id)
    assert Purging(pt.node).run()
    left = {one.name for one in pt.store.read(lambda tx: tx.series.find())}
    assert left == {"S1", "S2"}
    again = pt.load(named)
    assert {*again.series} > {ids["S1"], ids["S2"]}


def test_a_request_that_waits_is_about_its_other_series_from_then_on(bench: Bench) -> None:
    pt = bench[PT]
    wrong = pt.load(records(range(3)), series="Wrong")
    right = pt.series(records(range(5, 8)), name="Right")
    assert found(bench, range(8)) == {0, 1, 2, 5, 6, 7}
    (waiting,) = Requests(pt.node).find(sent=False, decided=False)
    assert {one.id for one in waiting.series} == {*wrong.series, right}
    remove(pt, wrong.import_id)
    assert Purging(pt.node).run()
    (waiting,) = Requests(pt.node).find(sent=False, decided=False)
    assert [one.id for one in waiting.series] == [right]
    pt.release(waiting.id)
    assert [one.state for one in Requests(pt.node).get(waiting.id).series] == ["released"]


def test_a_request_of_which_nothing_is_left_can_be_refused(bench: Bench) -> None:
    pt = bench[PT]
    wrong = pt.load(records(range(3)), series="Wrong")
    assert found(bench, range(3))
    remove(pt, wrong.import_id)
    assert Purging(pt.node).run()
    (waiting,) = Requests(pt.node).find(sent=False, decided=False)
    decision = operator_requests_pb2.DecideRequestRequest(id=waiting.id, reason="taken back")
    assert Requests(pt.node).decide(RUI, decision).state == "refused"


def test_twice_is_an_answer_and_what_is_not_there_says_so(bench: Bench) -> None:
    pt = bench[PT]
    wrong = pt.load(records(range(3)))
    remove(pt, wrong.import_id)
    assert remove(pt, wrong.import_id).repeated
    assert Purging(pt.node).run()
    again = remove(pt, wrong.import_id)
    assert (again.repeated, again.removed.state, again.removed.stored) == (True, "removed", 0)
    assert len(pt.audit("import.removed")) == 1
    with pytest.raises(NotFound, match="tieline hashes imports"):
        remove(pt, new_id())
    with pytest.raises(InvalidInput, match="--reason"):
        remove(pt, wrong.import_id, " \u200b")


def test_what_came_to_its_day_is_gone_already(bench: Bench) -> None:
    pt = bench[PT]
    old = pt.load(records(range(3)))
    bench.now += timedelta(days=1_100)
    assert Purging(pt.node).run()
    answer = remove(pt, old.import_id)
    assert (answer.repeated, answer.removed.state) == (True, "erased")
    assert pt.audit("import.removed") == []


def test_an_import_that_does_not_count_yet_is_refused(bench: Bench) -> None:
    pt = bench[PT]
    header = operator_pb2.ImportHeader(source="file", case_ref=CASE, file_digest=bytes(32))
    work = Import(pt.node, ANA, header)
    work.add(records(range(3)))
    (view,) = listed(pt)
    assert view.state == "staged"
    with pytest.raises(WrongState, match="hashes import"):
        remove(pt, work.head.id)
    finish(work, 3)
    assert not remove(pt, work.head.id).repeated


def test_what_came_from_others_is_not_removed_like_an_import(bench: Bench) -> None:
    bench[ES].refer(bench[ES].series(records(range(2))), agency=PT)
    assert bench[PT]
    bench.flow()
    (row,) = bench[PT].store.read(lambda tx: tx.imports.latest(ES, 9))
    with pytest.raises(InvalidInput, match=f"{ES} withdraws"):
        remove(bench[PT], row.id)
    assert listed(bench[PT]) == []


def test_only_an_officer_removes() -> None:
    method = "/tieline.v1.OperatorService/RemoveImport"
    for role in ("analyst", "auditor", "admin"):
        caller = Caller(PT, "ana", frozenset({role}), 1, bytes(32))
        with pytest.raises(RoleRefused, match="officer"):
            find_rule(method, Listener.OPERATOR, caller)
    find_rule(method, Listener.OPERATOR, Caller(PT, "rui", frozenset({"officer"}), 1, bytes(32)))


@pytest.mark.parametrize("columns", [False, True])
def test_an_import_says_what_a_list_left_out_and_a_list_what_is_held(
    bench: Bench, columns: bool
) -> None:
    pt = bench[PT]
    held = pt.load(records(range(3)), source="found.txt")
    bench[FR].refer(bench[FR].series(records(range(60, 62))), agency=PT)
    bench.flow()

    def load(what: list, **header: object) -> operator_pb2.ImportReport:  # type: ignore[type-arg]
        if not columns:
            return pt.load(what, **header)
        digest = bytes([len(what)]) * 32
        made = operator_pb2.ImportHeader(case_ref=CASE, file_digest=digest, **header)  # type: ignore[arg-type]
        work = Import(pt.node, ANA, made)
        work.add_columns(of_records(what))
        return finish(work, len(what))

    known = load(records([1, 2, 3, 4, 60]), exclusions=True, source="nsrl.txt")
    assert (known.items_new, known.held) == (5, 2)
    assert [(one.id, one.source) for one in known.holders] == [(held.import_id, "found.txt")]
    assert found(bench, range(5)) == {0, 1, 2}, "what was held stays held and answered"
    other = Vote("vics-us", "3")
    mixed = [*records(range(3, 6)), *records(range(6, 8), votes=(other,))]
    report = load(mixed, source="next.txt")
    assert (report.items_new, report.excluded, report.known_good) == (1, 4, 2)
    assert [(one.id, one.source) for one in report.lists] == [(known.import_id, "nsrl.txt")]
    assert (report.held, list(report.holders)) == (0, [])
