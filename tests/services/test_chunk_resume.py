"""A large referral whose sending breaks off at any chunk goes on where it was, and counts once."""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest
from tieline.v1 import delivery_pb2
from tieline_client import limits
from tieline_client.errors import Unreachable

from tests.services.bench import ES, PT, Bench, records, wait_for

ITEMS, IN_CHUNK, CHUNKS = 65, 10, 7


@pytest.mark.parametrize("lost", ["request", "reply"])
@pytest.mark.parametrize("broken", range(CHUNKS + 1))  # 0 asks where to begin
def test_a_break_at_any_call_is_gone_on_from(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, broken: int, lost: str
) -> None:
    monkeypatch.setattr(limits, "ITEMS_PER_CHUNK", IN_CHUNK)
    pt, es = bench[PT], bench[ES]
    series = pt.series(records(range(ITEMS)))
    line, calls, came = pt.node.peers, count(), Counter[int]()
    put, breaks = line.put_chunk, []

    def breaking(
        agency: str, request: delivery_pb2.PutChunkRequest
    ) -> delivery_pb2.PutChunkResponse:
        call = next(calls)

        def broke(at: str) -> bool:
            if (call, lost) != (broken, at):
                return False
            breaks.append(call)
            pt.engine.heard_from(ES)  # the line is there again: no back-off is waited out
            return True

        if broke("request"):
            raise Unreachable(f"{agency} went away")
        response = put(agency, request)
        came.update([request.index] if request.chunk else [])
        # What has come is durable and counts for nothing yet.
        assert es.store.read(lambda tx: tx.items.stats()).holdings == 0
        if broke("reply"):
            raise Unreachable(f"{agency} went away")
        return response

    monkeypatch.setattr(line, "put_chunk", breaking)
    pt.refer(series, country="ES")
    bench.flow()
    assert breaks == [broken]
    assert came == Counter(range(CHUNKS)), "each chunk is stored once, none is sent again"
    (entry,) = wait_for("it arrived", es.inbox)
    assert entry.referral.series == series
    stats = es.store.read(lambda tx: tx.items.stats())
    assert (stats.items, stats.holdings) == (ITEMS, ITEMS)
    assert len(es.audit("referral.received")) == 1
