"""The ledger holds each restriction of an own series that took effect, none that was refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tieline.v1 import operator_pb2, series_work_pb2
from tieline_client.errors import StorageUnavailable
from tieline_client.split_list import read_items
from tieline_server.services.purging import SWEEP, Purging
from tieline_server.services.restricting import restriction_of
from tieline_server.services.retracting import Retracting
from tieline_server.services.splitting import Splitting
from tieline_server.services.tombstones import reapply
from tieline_server.storage import sqlite as writer

from tests.services.bench import ANA, ES, PT, Bench, Running, records
from tests.services.test_standing_service import contact


class _Killed(BaseException):
    """The process ends here."""


def _withdraw(pt: Running, series: str) -> None:
    request = operator_pb2.RetractSeriesRequest(series=series, kind="withdraw", reason="by mistake")
    Retracting(pt.node).retract(ANA, request)


def _narrow(pt: Running, series: str) -> None:
    request = operator_pb2.RetractSeriesRequest(
        series=series, kind="narrow", reason="x", limited=True, only=[ES]
    )
    Retracting(pt.node).retract(ANA, request)


def _split(pt: Running, series: str) -> None:
    request = series_work_pb2.SplitSeriesRequest(series=series, name="Outra", text="another child")
    request.items.extend(read_items(records([0])).chunks())
    Splitting(pt.node).split(ANA, request)


def _restricted(pt: Running, series: str) -> bool:
    return pt.store.read(lambda tx: restriction_of(tx, series)).withdrawn


def _killed_before_the_ledger(pt: Running, series: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The withdrawal has committed, and the process ends before it is in the ledger."""

    def killed(entry: Mapping[str, Any]) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(pt.node.ledger, "append", killed)
        with pytest.raises(_Killed):
            _withdraw(pt, series)


@pytest.mark.parametrize("step", [_withdraw, _split])
def test_what_was_refused_leaves_no_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: Callable[[Running, str], None]
) -> None:
    pt = bench[PT]
    series = pt.series(records(range(3)))
    pt.refer(series, agency=ES, country="ES")
    _narrow(pt, series)  # and so is what is split from it
    before = pt.node.ledger.entries()
    backup, since = bench.image(PT), bench.now

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "place", full)  # the last thing before the commit
        with pytest.raises(StorageUnavailable):
            step(pt, series)
    assert pt.node.ledger.entries() == before
    Purging(pt.node).erase()
    pt = bench.set_back(PT, backup)
    reapply(pt.store, pt.node.ledger, since)
    assert not _restricted(pt, series)
    step(pt, series)  # what it says now is in the ledger
    assert len(pt.node.ledger.entries()) == len(before) + 1


def test_a_node_that_was_killed_before_it_wrote_does_so_at_its_next_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pt = bench[PT]
    series = pt.series(records(range(3)))
    backup, since = bench.image(PT), bench.now
    _killed_before_the_ledger(pt, series, monkeypatch)
    pt = bench.set_back(PT, bench.image(PT))
    assert _restricted(pt, series) and pt.node.ledger.entries() == []
    Purging(pt.node).erase()  # as a node does before it opens its ports
    (entry,) = pt.node.ledger.entries()
    assert (entry["kind"], entry["series"]) == ("withdrawn", series)

    pt = bench.set_back(PT, backup)
    assert not _restricted(pt, series)
    reapply(pt.store, pt.node.ledger, since)
    assert _restricted(pt, series)
    Purging(pt.node).erase()
    assert len(pt.node.ledger.entries()) == 1


def test_where_the_database_is_lost_as_well_who_was_told_gives_the_word_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pt, es = bench[PT], bench[ES]
    series = pt.series(records(range(3)))
    pt.refer(series, agency=ES, country="ES")
    bench.flow()
    backup, since = bench.image(PT), bench.now
    _killed_before_the_ledger(pt, series, monkeypatch)
    bench.flow()  # it was on its way already
    assert es.store.read(lambda tx: tx.retractions.of_series(series))

    pt = bench.set_back(PT, backup)
    reapply(pt.store, pt.node.ledger, since)
    pt = bench.resync(PT)
    assert not _restricted(pt, series)
    contact(pt, ES)
    assert _restricted(pt, series)
    Purging(pt.node).erase()
    assert len(pt.node.ledger.entries()) == 1


def test_a_ledger_that_cannot_be_written_is_written_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told that it holds; it does, and is in the ledger once there is room."""
    pt = bench[PT]
    series = pt.series(records(range(3)))

    def full(line: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pt.node.ledger, "_write", full)
        with pytest.raises(StorageUnavailable, match="make room"):
            _withdraw(pt, series)
        purging = Purging(pt.node)
        purging.erase()
        assert pt.node.ledger.entries() == []
    bench.now += SWEEP
    purging.erase()
    assert [one["series"] for one in pt.node.ledger.entries()] == [series]
