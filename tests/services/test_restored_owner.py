"""An owner that was restored tells what it took back again, and its recipients know the word."""

from __future__ import annotations

from typing import Any

import pytest
from tieline.v1 import operator_pb2
from tieline_server.services.purging import Purging
from tieline_server.services.retracting import Retracting
from tieline_server.services.tombstones import reapply

from tests.services.bench import ANA, ES, FR, PT, Bench, Running, records
from tests.services.test_standing_service import contact

_H3: dict[str, Any] = {"kind": "narrow", "code": 3, "restriction": "not in court before May"}


def _purge(node: Running) -> None:
    for _ in range(3):
        Purging(node.node).run()


@pytest.mark.parametrize("said", [{"kind": "withdraw", "reason": "mistake"}, _H3])
def test_what_is_told_again_after_a_restore_is_taken(bench: Bench, said: dict[str, Any]) -> None:
    """The reason, and what a restriction says, stand in no ledger: they make it no other word."""
    pt, es, fr = bench[PT], bench[ES], bench[FR]
    series = pt.series(records(range(3)))
    pt.refer(series, agency=ES, country="ES")
    pt.refer(series, agency=FR, country="FR")
    bench.flow()
    since, backup = bench.now, bench.image(PT)
    bench.offline.add(FR)
    request = operator_pb2.RetractSeriesRequest(series=series, **({"reason": "why"} | said))
    Retracting(pt.node).retract(ANA, request)
    bench.flow()
    _purge(es)
    bench.flow()

    pt = bench.set_back(PT, backup)
    assert reapply(pt.store, pt.node.ledger, since) == 1
    pt = bench.resync(PT)
    _purge(pt)  # before the first contact, as at a start
    bench.offline.clear()
    for _ in range(2):
        for peer in (ES, FR):
            contact(pt, peer)
            contact(bench[peer], PT)
        bench.flow()
        for one in (es, fr):
            _purge(one)
        bench.flow()
    (known,) = pt.store.read(lambda tx: tx.retractions.of_series(series))
    told = pt.store.read(lambda tx: tx.retractions.recipients(known))
    assert {one.agency: one.confirmed is not None for one in told} == {ES: True, FR: True}
    sent = [one for one in pt.store.read(lambda tx: tx.outbox.find()) if one.kind == "retraction"]
    assert {one.state.value for one in sent} == {"delivered"}, [one.reason for one in sent]
