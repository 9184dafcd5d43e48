"""A repository tells its contributors where their series stand: once, signed, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from tieline.v1 import deposits_pb2, payload_pb2, series_work_pb2
from tieline.v1 import operator_pb2 as pb
from tieline_client.directory import Directory
from tieline_client.errors import NotFound, WrongState
from tieline_client.exporting import facts_of
from tieline_client.identifiers import new_id, new_series_id
from tieline_client.payloads import timestamp
from tieline_server.domain.messages import Reply
from tieline_server.services.exporting import Export
from tieline_server.services.inbox import Mailbox
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_life import SeriesLife
from tieline_server.services.series_work import SeriesWork

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    ICE,
    INTERPOL,
    PT,
    PURPOSE,
    Bench,
    Running,
    records,
)
from tests.services.test_permission_service import ask
from tests.services.test_release_service import decide
from tests.services.test_upload_numbers import deposit, step

SHARED = records(range(3), baseline=True)


def move(node: Running, series: str, status: str) -> pb.SeriesView:
    request = series_work_pb2.SetSeriesStatusRequest(series=series, status=status)
    return SeriesLife(node.node).move(ANA, request)


def show(node: Running, series: str) -> pb.SeriesView:
    return SeriesWork(node.node).get(series)


def reports(node: Running, series: str) -> list[Any]:
    return [one for one in show(node, series).history if one.kind == "repository"]


def deposited(bench: Bench, agency: str = PT, name: str = "Azul") -> str:
    series = bench[agency].series(SHARED, name)
    deposit(bench, series, agency)
    return series


def test_identified_there_is_identified_here(bench: Bench) -> None:
    here, there = bench[PT], bench[INTERPOL]
    series = deposited(bench)
    assert not show(here, series).repositories
    (live,) = show(there, series).repositories
    assert (live.repository, live.report.items, live.report.baseline) == (INTERPOL, 3, 3)
    move(there, series, "identified")
    bench.flow()
    view = show(here, series)
    assert view.notice.status == "identified"
    (said,) = view.repositories
    assert (said.repository, said.person, said.report.status) == (INTERPOL, "ana", "identified")
    assert (said.report.agencies, said.report.deposits) == (1, 1)
    word, status = sorted(view.history, key=lambda one: one.kind)
    assert (status.kind, status.agency, status.after) == ("status", INTERPOL, "identified")
    assert (word.kind, word.agency, word.before, word.after) == (
        *("repository", INTERPOL, "new", "identified"),
    )
    assert "3 items held, 1 submissions by 1 agencies, 3 items baseline" in word.text
    (news,) = Mailbox(here.node).news()
    assert (news.series, news.name, news.event.after) == (series, "Azul", "identified")
    assert not Mailbox(there.node).news()
    (told,) = there.audit("deposit.reported")
    assert (told["peer"], told["rules"]) == (PT, ["confirmed-release"])


def test_the_same_report_twice_is_one(bench: Bench) -> None:
    here, there = bench[PT], bench[INTERPOL]
    series = deposited(bench)
    bench.offline.add(PT)
    move(there, series, "identified")
    envelope = there.sent(PT, "deposit_report")
    bench.offline.clear()
    replies = [Reply(there.deliver(envelope, PT).reply) for _ in range(3)]
    assert set(replies) <= {Reply.APPLIED, Reply.DUPLICATE}
    assert replies[1:] == [Reply.DUPLICATE] * 2
    bench.flow()
    assert len(reports(here, series)) == 1
    assert len([one for one in show(here, series).history if one.kind == "status"]) == 1


def test_one_number_is_one_series_for_all_contributors(bench: Bench) -> None:
    there = bench[INTERPOL]
    ours, theirs = deposited(bench), bench[ES].series(SHARED[:2], "Verde")
    (first,) = there.store.read(lambda tx: [one.id for one in tx.uploads.find()])
    second = deposit(bench, theirs, ES)
    number = step(bench, first).reference
    step(bench, second, number)
    bench.flow()
    for agency, series, items in ((PT, ours, 3), (ES, theirs, 2)):
        (said,) = show(bench[agency], series).repositories
        assert (said.report.number, said.report.items) == (number, items)
        assert (said.report.deposits, said.report.agencies) == (2, 2)
        assert show(bench[agency], series).number == number
    move(there, ours, "identified")
    bench.flow()
    for agency, series in ((PT, ours), (ES, theirs)):
        assert show(bench[agency], series).notice.status == "identified"
    assert show(there, theirs).notice.status == "identified"


def test_other_steps_are_told_and_move_nothing(bench: Bench) -> None:
    here, there = bench[PT], bench[INTERPOL]
    series = deposited(bench)
    move(there, series, "triaged")
    bench.flow()
    assert show(here, series).notice.status == "new"
    assert [one.after for one in reports(here, series)] == ["triaged"]


def test_what_is_closed_stays_closed(bench: Bench) -> None:
    here, there = bench[PT], bench[INTERPOL]
    series = deposited(bench)
    move(here, series, "closed")
    move(there, series, "identified")
    bench.flow()
    assert show(here, series).notice.status == "closed"
    assert len(reports(here, series)) == 1


def _retract(node: Running, series: str, kind: str) -> None:
    limited = kind == "narrow"
    Retracting(node.node).retract(
        ANA,
        pb.RetractSeriesRequest(
            series=series, kind=kind, reason="x", limited=limited, only=[ES] if limited else []
        ),
    )


@pytest.mark.parametrize("kind", ["withdraw", "narrow"])
def test_a_deposit_taken_back_is_not_reported_on(bench: Bench, kind: str) -> None:
    here, there = bench[PT], bench[INTERPOL]
    series = deposited(bench)
    bench.offline.add(PT)
    move(there, series, "identified")  # crosses with the retraction
    crossing = there.sent(PT, "deposit_report")
    _retract(here, series, kind)
    bench.offline.clear()
    assert Reply(there.deliver(crossing, PT).reply) is not Reply.APPLIED
    kinds = here.store.read(lambda tx: [one.kind.value for one in tx.history.of(series)])
    assert "repository" not in kinds
    bench.flow()
    queued = there.store.read(lambda tx: tx.outbox.find(limit=100))
    states = [one.state.value for one in queued if one.kind == "deposit_report"]
    assert states in (["cancelled"], ["refused"])
    with pytest.raises((WrongState, NotFound)):  # it has to go there
        move(there, series, "closed")
    assert not [one for one in there.queued(PT) if one.kind == "deposit_report"]


def _forged(sender: Running, series: str) -> Reply:
    body = deposits_pb2.DepositReport(
        id=new_id(),
        series=series,
        status="identified",
        report_time=timestamp(sender.bench.now),
    )
    envelope = sender.seal(payload_pb2.Payload(deposit_report=body), PT)
    return Reply(sender.deliver(envelope, PT).reply)


def test_nobody_else_says_that_a_series_is_identified(bench: Bench) -> None:
    here = bench[PT]
    series = deposited(bench)
    assert _forged(bench[ES], series) is not Reply.APPLIED
    alone = here.series(records(range(20, 22)), "Alone")  # never deposited
    assert _forged(bench[INTERPOL], alone) is not Reply.APPLIED
    assert _forged(bench[INTERPOL], new_series_id(PT)) is not Reply.APPLIED
    for one in (series, alone):
        assert show(here, one).notice.status == "new"


def test_who_may_no_longer_learn_is_passed_over_and_the_log_says_so(bench: Bench) -> None:
    there = bench[INTERPOL]
    series = deposited(bench, ICE)
    members = [one.model_copy(update={"agreement": None}) for one in bench.directory.members]
    fields = {name: getattr(bench.directory, name) for name in Directory.model_fields}
    bench.directory = Directory(**(fields | {"members": tuple(members)}))
    move(there, series, "identified")
    (entry,) = there.audit("deposit.not-reported")
    assert entry["peer"] == ICE
    assert not [one for one in there.queued(ICE) if one.kind == "deposit_report"]


def test_a_file_of_the_repository_says_submissions_and_baseline(bench: Bench) -> None:
    there = bench[INTERPOL]
    series = deposited(bench)
    deposit(bench, bench[ES].series(SHARED[:1], "Verde"), ES)
    permission = ask(there, series, "export")
    bench.flow()
    decide(bench[PT], permission)
    bench.flow()
    request = pb.ExportSeriesRequest(
        series=[series], format="icse", purpose=PURPOSE, case_ref=CASE, file="a"
    )
    parts = list(Export(there.node, ANA, request).run())
    counts = [one.submissions for part in parts for one in part.records.records]
    assert sorted(counts) == [1, 1, 2]
    assert all(one.baseline for part in parts for one in part.records.records)
    facts = dict(facts_of(parts[0].series.series).properties)
    assert facts["Repository.interpol.Submissions"] == "1 by 1 agencies"
    assert facts["Repository.interpol.Baseline"] == "3 items"


def test_a_restored_repository_knows_again_what_it_said(bench: Bench) -> None:
    here, there = bench[PT], bench[INTERPOL]
    series = deposited(bench)
    before = bench.image(INTERPOL)
    move(there, series, "identified")
    bench.flow()
    assert show(here, series).notice.status == "identified"
    bench.set_back(INTERPOL, before)
    one = bench.resync(INTERPOL)
    one.contacts.contact(PT)
    bench.flow()
    assert show(one, series).notice.status == "identified"
    assert len(reports(here, series)) == 1
