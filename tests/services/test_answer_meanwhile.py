"""What changes while a question is being answered: it is refused, and nothing half of it told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tieline.v1 import exchange_pb2, operator_pb2, series_pb2
from tieline_client.digest_batch import DigestBatch
from tieline_client.errors import WrongState
from tieline_client.identifiers import new_id
from tieline_server.domain.ports import Purge
from tieline_server.domain.retraction import PurgeCause
from tieline_server.matching import snapshot as snapshots
from tieline_server.matching.files import IndexDamaged
from tieline_server.services.importing import Import
from tieline_server.services.purging import Purging

from tests.services.bench import ANA, CASE, ES, HUB, PT, Bench, record, records
from tests.services.test_budget_service import _header, _hits, _in_two, _send
from tests.services.test_split_service import split


def test_what_another_process_erased_before_the_look_up_is_not_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process on one PostgreSQL: it has committed, and this one's index does not know."""
    pt = bench[PT]
    series = pt.series(records(range(4), kinds="sha1"))
    header = _header(bench[ES], range(4))
    exact = pt.matching.exact
    erased: list[str] = []

    def erase_first(kind, rows):  # type: ignore[no-untyped-def]
        if not erased:
            erased.append(series)
            purge = Purge(new_id(), PurgeCause.RETENTION, series, bench.now)
            pt.store.write(lambda tx: tx.retractions.begin_purge(purge))
            monkeypatch.setattr(pt.store.index, "committed", lambda *_: None)
            Purging(pt.node).erase()
        return exact(kind, rows)

    monkeypatch.setattr(pt.matching, "exact", erase_first)
    with pytest.raises(WrongState, match="erased"):
        _send(pt, header, range(4))
    assert erased and not pt.audit("query.disclosed")


def test_a_series_split_while_a_peer_answers_is_asked_for_once_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pt, es = bench[PT], bench[ES]
    series = pt.series(records(range(4), kinds="sha1"))
    exact = pt.matching.exact
    splits: list[str] = []

    def split_first(kind, rows):  # type: ignore[no-untyped-def]
        if len(splits) < changes:
            splits.append(f"Outra {len(splits)}")
            split(pt, series, records([len(splits)], kinds="sha1"), splits[-1])
        return exact(kind, rows)

    monkeypatch.setattr(pt.matching, "exact", split_first)
    changes = 1
    ends, overlaps = es.ask(records(range(4), kinds="sha1"), PT)
    assert splits and (ends[PT].status, len(overlaps[PT])) == ("answered", 4)
    assert len(pt.audit("query.answered")) == 1
    changes = 3
    ends, overlaps = es.ask(records(range(4), kinds="sha1"), PT)
    assert (ends[PT].status, overlaps) == ("unreachable", {}), "it refused nothing"
    assert ends[PT].reason.endswith("while the question was answered; ask again")


def test_an_index_found_damaged_in_the_middle_gives_no_receipt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pt = bench[PT]
    pt.load(records(range(100), kinds="sha1"))
    pt.matching.merge()
    header = _header(bench[ES], range(100))

    def requests() -> Iterator[exchange_pb2.OverlapRequest | DigestBatch]:
        def bad(_: object) -> None:
            raise IndexDamaged("an index file is altered")

        yield exchange_pb2.OverlapRequest(header=header)
        first, last = _in_two(range(100))
        yield first
        monkeypatch.setattr(snapshots, "verify_all", bad)
        pt.matching._check(pt.matching._snapshot)
        assert pt.matching.applied == 0
        yield last

    with pytest.raises(WrongState, match="ask again"):
        list(pt.answerer.answer(ES, requests()))
    monkeypatch.undo()
    again = _send(pt, _header(bench[ES], range(100)), range(100))  # storage has it all
    assert _hits(again) == 100


def test_a_digest_that_is_only_staged_tells_of_no_series(bench: Bench) -> None:
    pt = bench[PT]
    header = operator_pb2.ImportHeader(source="file", case_ref=CASE, file_digest=bytes(32))
    Import(pt.node, ANA, header).add([record(1, kinds="sha1 md5")])  # never finished
    pt.series([record(1, kinds="sha1"), record(2, kinds="sha1")])
    ends, _ = bench[HUB].ask([record(1, kinds="sha1")], PT)
    bench[PT].release(ends[PT].request)
    assert bench[HUB].ask([record(1, kinds="sha1")], PT)[0][PT].series
    disclosed = len(pt.audit("query.disclosed"))
    ends, overlaps = bench[HUB].ask([record(1, kinds="md5")], PT)
    assert (overlaps, list(ends[PT].series), ends[PT].disclosure) == ({}, [], "nothing")
    assert ends[PT].status == "answered", "and nothing waits for a person"
    assert len(pt.audit("query.disclosed")) == disclosed


def test_an_md5_is_ambiguous_only_by_what_is_told(bench: Bench) -> None:
    pt, md5 = bench[PT], record(1).md5
    withheld = series_pb2.Handling(code=3, restriction="for nobody else")
    pt.load([record(1, kinds="sha1", md5=md5)])
    pt.load([record(2, kinds="sha1", md5=md5)], handling=withheld)
    _, overlaps = bench[ES].ask([record(1, kinds="md5")], PT)
    assert [one.ambiguous for one in overlaps[PT]] == [False]
    pt.load([record(3, kinds="sha1", md5=md5)], case_ref="another")
    _, overlaps = bench[ES].ask([record(1, kinds="md5")], PT)
    assert [one.ambiguous for one in overlaps[PT]] == [True]
