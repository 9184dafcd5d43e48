"""Both ways to a repository keep one contract: deposited once, answered once, compared by item."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tieline.v1 import operator_deposits_pb2 as deposits
from tieline.v1 import operator_pb2 as pb
from tieline_client import constraints
from tieline_client.dropping import MANIFEST, PICKED_UP
from tieline_client.errors import InvalidInput, NotFound, PolicyRefused, WrongState
from tieline_client.exporting import ExportOptions, ExportReport, write_export
from tieline_client.formats import Record
from tieline_client.formats.outgoing_tables import IcseWriter
from tieline_client.gateways import FileGateway, IcseGateway, NodeGateway, Why
from tieline_client.operator_client import OperatorClient
from tieline_server.services.dropping import Drops
from tieline_server.services.exporting import Export
from tieline_server.services.reconciling import Reconciling
from tieline_server.services.retracting import Retracting
from tieline_server.services.uploading import Uploading

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    INTERPOL,
    PT,
    PURPOSE,
    Bench,
    Running,
    record,
    records,
)
from tests.services.test_deposit_reports import move, reports, show
from tests.services.test_upload_numbers import step

WHY = Why(PURPOSE, CASE)
SHARED = records(range(3), baseline=True)


class Desk:
    """The calls of OperatorClient that gateways use, past gRPC, through the wire's bytes."""

    def __init__(self, node: Running) -> None:
        self._node = node.node
        self.profile = SimpleNamespace(agency=node.agency)

    def upload_series(
        self, series: Sequence[str], repository: str, *, purpose: str, case_ref: str
    ) -> list[pb.UploadView]:
        request = pb.UploadSeriesRequest(
            series=series, repository=repository, purpose=purpose, case_ref=case_ref
        )
        return Uploading(self._node).upload(ANA, request)

    def export_series(self, options: ExportOptions, path: Path) -> ExportReport:
        request = pb.ExportSeriesRequest(
            series=options.series,
            format=options.format.value,
            purpose=options.purpose,
            case_ref=options.case_ref,
            recipient=options.recipient,
        )
        return write_export(Export(self._node, ANA, request).run(), options, path)

    def record_drop(self, repository: str, drop: str, series: Any, **why: str) -> Any:
        named = [deposits.DroppedSeries(series=one, records=count) for one, count in series]
        request = deposits.RecordDropRequest(repository=repository, drop=drop, series=named, **why)
        constraints.check(request)
        return Drops(self._node).record(ANA, request)

    def take_answer(self, repository: str, answers: Sequence[deposits.SeriesAnswer]) -> int:
        request = deposits.TakeAnswerRequest(repository=repository, answers=answers)
        constraints.check(request)
        return Drops(self._node).answer(ANA, request)

    def reconcile_deposits(self, repository: str, **why: str) -> Iterator[deposits.DepositRow]:
        request = deposits.ReconcileDepositsRequest(repository=repository, **why)
        for response in Reconciling(self._node, ANA, request).run():
            constraints.check(response)
            yield response.row


def client(node: Running) -> OperatorClient:
    return cast(OperatorClient, Desk(node))


def answer(path: Path, held: Sequence[Record], number: str = "ICSE-7", **said: Any) -> Path:
    with path.open("wb") as stream:
        writer = IcseWriter(stream)
        for one in held:
            told = Record(0, md5=one.md5, sha1=one.sha1, series=number, **said)
            writer.add(told)
        writer.finish()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "shared"
    made.mkdir()
    return made


@pytest.fixture(params=["node", "file"])
def gateway(request: pytest.FixtureRequest, bench: Bench, folder: Path) -> IcseGateway:
    assert bench[INTERPOL]
    if request.param == "node":
        return NodeGateway(client(bench[PT]), INTERPOL)
    return FileGateway(client(bench[PT]), INTERPOL, folder, answer=folder / "answer.csv")


def held_there(bench: Bench, folder: Path, gateway: IcseGateway, held: int, number: str) -> None:
    """The repository takes the deposit, holds some of its items, and numbers it."""
    if isinstance(gateway, FileGateway):
        (drop,) = (one for one in folder.iterdir() if one.is_dir())
        (drop / PICKED_UP).write_text("R-1\n")
        said = {"submissions": 4, "baseline": True, "victim_identified": True}
        answer(folder / "answer.csv", SHARED[:held], number, **said)
        return
    bench.flow()
    there = bench[INTERPOL]
    (upload,) = there.store.read(lambda tx: tx.uploads.find())
    step(bench, upload.id, number)
    move(there, upload.series, "identified")
    bench.flow()


def test_a_deposit_is_made_once_and_what_comes_back_counts_once(
    bench: Bench, folder: Path, gateway: IcseGateway
) -> None:
    here = bench[PT]
    series = here.series(SHARED, "Azul")
    (made,) = gateway.deposit([series], WHY)
    assert (made.series, made.state, made.items) == (series, "announced", 3)
    (again,) = gateway.deposit([series], WHY)
    assert (again.id, again.unchanged) == (made.id, True)
    held_there(bench, folder, gateway, 3, "ICSE-7")
    gateway.collect()
    for _ in range(2):
        assert gateway.collect() == 0
    upload = here.store.read(lambda tx: tx.uploads.get(made.id))
    assert upload is not None
    assert (upload.state.value, upload.reference) == ("numbered", "ICSE-7")
    view = show(here, series)
    assert (view.number, view.notice.status) == ("ICSE-7", "identified")
    assert view.history
    assert any("3 items baseline" in one.text for one in reports(here, series))
    assert (
        len([one for one in view.history if one.after == "identified" and one.kind == "status"])
        == 1
    )
    (row,) = gateway.reconcile(WHY)
    assert (row.series, row.deposited, row.held, row.missing_count) == (series, 3, 3, 0)
    assert (list(row.missing), row.number) == ([], "ICSE-7")


def test_what_is_not_there_is_named(bench: Bench, folder: Path) -> None:
    series = bench[PT].series(SHARED, "Azul")
    gateway = FileGateway(client(bench[PT]), INTERPOL, folder, answer=folder / "answer.csv")
    gateway.deposit([series], WHY)
    held_there(bench, folder, gateway, 2, "ICSE-7")
    (row,) = gateway.reconcile(WHY)
    assert (row.deposited, row.held, row.missing_count) == (3, 2, 1)
    assert list(row.missing) == [f"md5:{(SHARED[2].md5 or b'').hex()}"]


def test_what_a_repository_lost_is_named(bench: Bench, folder: Path) -> None:
    """It was set back to before the second deposit."""
    here, gateway = bench[PT], NodeGateway(client(bench[PT]), INTERPOL)
    assert bench[INTERPOL]
    series = here.series(SHARED[:2], "Azul")
    gateway.deposit([series], WHY)
    held_there(bench, folder, gateway, 2, "ICSE-7")
    before = bench.image(INTERPOL)
    here.load(SHARED[2:], series="Azul")
    gateway.deposit([series], WHY)
    bench.flow()
    (row,) = gateway.reconcile(WHY)
    assert (row.deposited, row.held, row.missing_count) == (3, 3, 0)
    assert list(row.differences) == ["its latest report said 2 items, it holds 3"]
    bench.set_back(INTERPOL, before)
    (row,) = gateway.reconcile(WHY)
    assert (row.deposited, row.held, row.missing_count) == (3, 2, 1)
    assert list(row.missing) == [f"sha256:{(SHARED[2].sha256 or b'').hex()}"]


def test_a_series_taken_back_is_not_deposited(bench: Bench, gateway: IcseGateway) -> None:
    here = bench[PT]
    series = here.series(SHARED, "Azul")
    gateway.deposit([series], WHY)
    Retracting(here.node).retract(
        ANA, pb.RetractSeriesRequest(series=series, kind="withdraw", reason="x", limited=False)
    )
    with pytest.raises(WrongState):
        gateway.deposit([series], WHY)
    upload = here.store.read(lambda tx: tx.uploads.find())[0]
    assert upload.state.value == "withdrawn"


def test_policy_decides_on_both_ways(bench: Bench, gateway: IcseGateway) -> None:
    here = bench[PT]
    (series,) = here.load(SHARED, series="Azul", handling={"code": 2}).series
    with pytest.raises(PolicyRefused, match="--permission upload"):
        gateway.deposit([series], WHY)
    assert not here.store.read(lambda tx: tx.uploads.find())


# --- by file ------------------------------------------------------------------------------------


def test_killed_between_the_drop_and_its_record_the_next_run_records_it(
    bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = bench[PT]
    series = here.series(SHARED, "Azul")
    gateway = FileGateway(client(here), INTERPOL, folder, answer=folder / "answer.csv")

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(Desk, "record_drop", killed)
        with pytest.raises(Killed):
            gateway.deposit([series], WHY)
    assert len([one for one in folder.iterdir() if one.is_dir()]) == 1
    assert not here.store.read(lambda tx: tx.uploads.find())
    answer(folder / "answer.csv", SHARED)
    with pytest.raises(NotFound, match="run `upload drop` once more"):
        gateway.collect()
    (made,) = gateway.deposit([series], WHY)
    assert not made.unchanged
    assert len([one for one in folder.iterdir() if one.is_dir()]) == 1
    assert gateway.collect() == 2  # the number, and the line of the history
    assert gateway.collect() == 0
    (sent,) = here.audit("upload.dropped")
    assert (sent["peer"], sent["subjects"]) == (INTERPOL, [made.id, series])
    assert len(here.audit("upload.answer-read")) == 1


def test_what_is_recorded_is_what_was_written(bench: Bench, folder: Path) -> None:
    here = bench[PT]
    assert bench[INTERPOL]
    mixed = here.series([*SHARED, *records(range(20, 25), kinds="sha1")], "Azul")
    other = here.series(records(range(40, 42)), "Verde")
    gateway = FileGateway(client(here), INTERPOL, folder)
    made = {one.series: one.items for one in gateway.deposit([mixed, other], WHY)}
    assert made == {mixed: 3, other: 2}
    (drop,) = folder.iterdir()
    manifest = json.loads((drop / MANIFEST).read_text())
    assert manifest["series"] == [{"id": mixed, "records": 3}, {"id": other, "records": 2}]
    assert [one["detail"]["items"] for one in here.audit("upload.dropped")] == [3, 2]  # type: ignore[index]


@pytest.mark.parametrize("beside", [False, True])
def test_a_series_of_which_nothing_can_be_written_is_no_drop(
    bench: Bench, folder: Path, beside: bool
) -> None:
    here = bench[PT]
    assert bench[INTERPOL]
    bare = here.series(records(range(20, 40), kinds="sha1 sha256"), "Verde")
    named = [here.series(SHARED, "Azul"), bare] if beside else [bare]
    says = f"none of the 20 records of {bare} has an MD5.* by node with `tieline upload`"
    with pytest.raises(InvalidInput, match=says):
        FileGateway(client(here), INTERPOL, folder).deposit(named, WHY)
    assert not list(folder.iterdir())
    assert not here.store.read(lambda tx: tx.uploads.find())


def test_an_answer_for_one_unknown_series_changes_nothing(bench: Bench, folder: Path) -> None:
    here = bench[PT]
    series = here.series(SHARED, "Azul")
    other = here.series(records(range(9, 10)), "Verde")
    gateway = FileGateway(client(here), INTERPOL, folder, answer=folder / "answer.csv")
    gateway.deposit([series], WHY)
    said = [
        deposits.SeriesAnswer(series=one, number="N-1", deposited=3, held=3, identified=1)
        for one in (series, other)
    ]
    with pytest.raises(NotFound):
        client(here).take_answer(INTERPOL, said)
    view = show(here, series)
    assert (view.number, view.notice.status, list(view.history)) == ("", "new", [])
    with pytest.raises(InvalidInput, match="more items are held"):
        client(here).take_answer(
            INTERPOL, [deposits.SeriesAnswer(series=series, deposited=1, held=2)]
        )
    with pytest.raises(InvalidInput, match="no repository"):
        client(here).take_answer(ES, said[:1])


def test_a_later_answer_adds_what_is_new(bench: Bench, folder: Path) -> None:
    here = bench[PT]
    series = here.series(SHARED, "Azul")
    gateway = FileGateway(client(here), INTERPOL, folder, answer=folder / "answer.csv")
    gateway.deposit([series], WHY)
    answer(folder / "answer.csv", SHARED[:1], "")
    assert gateway.collect() == 1
    assert show(here, series).notice.status == "new"
    answer(folder / "answer.csv", SHARED, victim_identified=True)
    assert gateway.collect() == 2
    assert show(here, series).notice.status == "identified"
    assert [one.agency for one in reports(here, series)] == [INTERPOL, INTERPOL]


def test_drops_are_not_asked_of_the_repositorys_node(bench: Bench, folder: Path) -> None:
    here = bench[PT]
    series = here.series(SHARED, "Azul")
    FileGateway(client(here), INTERPOL, folder).deposit([series], WHY)
    assert not list(NodeGateway(client(here), INTERPOL).reconcile(WHY))


# --- by message -----------------------------------------------------------------------------------


def test_an_unreachable_repository_is_a_difference(bench: Bench) -> None:
    here = bench[PT]
    series = here.series(SHARED, "Azul")
    gateway = NodeGateway(client(here), INTERPOL)
    gateway.deposit([series], WHY)
    (row,) = gateway.reconcile(WHY)
    assert row.series == series
    assert not row.receipt
    assert any(one.startswith(f"{INTERPOL} unreachable") for one in row.differences)
    assert any("is queued" in one for one in row.differences)


def test_items_without_an_exact_digest_are_compared_by_what_they_have(bench: Bench) -> None:
    """A PDQ alone is asked near; another picture close by is not the item."""
    here, there = bench[PT], bench[INTERPOL]
    bare = records(range(20, 23), kinds="pdq")
    sha = records(range(30, 31), kinds="sha256")
    series = here.series([*SHARED, *bare, *sha], "Azul")
    gateway = NodeGateway(client(here), INTERPOL)
    gateway.deposit([series], WHY)
    bench.flow()
    (row,) = gateway.reconcile(WHY)
    assert (row.deposited, row.held, row.missing_count) == (7, 7, 0)
    assert not list(row.differences) and row.receipt
    close = bytes([(bare[0].pdq or b"")[0] ^ 1]) + (bare[0].pdq or b"")[1:]
    late = record(40, kinds="pdq", pdq=close)
    here.load([late], series="Azul")
    (row,) = gateway.reconcile(WHY)
    assert (row.deposited, row.held, row.missing_count) == (8, 7, 1)
    assert list(row.missing) == [f"pdq:{close.hex()}"]
    asked = [one["detail"] for one in there.audit("query.answered")]
    assert [one["records"] for one in asked] == [4, 3, 4, 4]  # type: ignore[index]


def test_each_comparison_is_logged_and_receipted(bench: Bench) -> None:
    here = bench[PT]
    assert bench[INTERPOL]
    series = here.series(SHARED, "Azul")
    gateway = NodeGateway(client(here), INTERPOL)
    gateway.deposit([series], WHY)
    bench.flow()
    (row,) = gateway.reconcile(WHY)
    assert row.receipt
    assert not list(row.differences)
    with pytest.raises(InvalidInput, match="no repository"):
        list(NodeGateway(client(here), ES).reconcile(WHY))
