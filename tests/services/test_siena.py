"""SIENA stays the channel beside this one: its number travels with a series and is in the logs of
both sides (Directive (EU) 2023/977, Art. 13)."""

from __future__ import annotations

import json

import pytest
from tieline.v1 import operator_pb2, payload_pb2
from tieline_client.audit_search import Search, siena_numbers
from tieline_server.services.auditing import Auditing
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.uploading import Uploading

from tests.services.bench import ANA, CASE, ES, HUB, INTERPOL, PT, PURPOSE, Bench, Running, record

SIENA, OTHER = "1234567-1-1", "7654321-9-1"


def _series(node: Running, number: str = SIENA) -> str:
    references = (("siena", number), ("icse", "4711"))
    (made,) = node.load([record(n, series="Azul", references=references) for n in range(3)]).series
    return made


def _logged(node: Running, number: str = SIENA) -> dict[str, list[str]]:
    """Actions and subjects of what `tieline audit search --siena NUMBER` shows."""
    node.store.drain()
    page = Auditing(node.node, dict).search(ANA, Search(siena=number), 0, 0)
    entries = [json.loads(one.leaf) for one in page.entries]
    assert all(number in siena_numbers(one) for one in entries)
    return {one["action"]: one["subjects"] for one in entries}


def _told(node: Running, recipient: str, kind: str) -> list[tuple[str, str]]:
    """Numbers in the series of the newest message as it was signed."""
    payload = payload_pb2.Payload.FromString(node.sent(recipient, kind).payload)
    return [(one.scheme, one.value) for one in getattr(payload, kind).series.references]


def test_a_referral_carries_the_number_to_the_series_and_the_log_over_there(bench: Bench) -> None:
    pt, es = bench[PT], bench[ES]
    series = _series(pt)
    pt.refer(series, country="ES")
    assert _told(pt, ES, "referral") == [("siena", SIENA), ("icse", "4711")]
    bench.flow()
    kept = es.store.read(lambda tx: tx.series.get(series))
    assert kept is not None
    assert [(one.scheme, one.value) for one in kept.references] == [
        ("siena", SIENA),
        ("icse", "4711"),
    ]
    assert series in _logged(pt)["referral.sent"]
    assert series in _logged(es)["referral.received"]
    assert not _logged(es, OTHER)


def test_a_series_without_a_number_is_told_without_one(bench: Bench) -> None:
    pt, es = bench[PT], bench[ES]
    series = pt.series([record(1)])
    pt.refer(series, country="ES")
    assert _told(pt, ES, "referral") == []
    bench.flow()
    (entry,) = es.audit("referral.received")
    assert series in entry["subjects"]  # type: ignore[operator]
    assert "references" not in entry["detail"]  # type: ignore[operator]


@pytest.mark.parametrize("owner", [ES, HUB])
def test_a_broadcast_carries_it(bench: Bench, owner: str) -> None:
    """In the owner's own envelope where it passes the hub on, in the hub's where it is its own."""
    hub, pt = bench[HUB], bench[PT]
    series = _series(bench[owner])
    if owner != HUB:
        bench[owner].refer(series, agency=HUB)
        bench.flow()
    request = operator_pb2.BroadcastSeriesRequest(
        series=[series], group="desks", purpose=PURPOSE, case_ref=CASE
    )
    Broadcasting(hub.node).broadcast(ANA, request)
    bench.flow()
    assert series in _logged(hub)["broadcast.sent"]
    assert series in _logged(pt)["broadcast.received"]


def test_a_deposit_carries_it(bench: Bench) -> None:
    pt, repository = bench[PT], bench[INTERPOL]
    series = _series(pt)
    request = operator_pb2.UploadSeriesRequest(
        series=[series], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
    )
    Uploading(pt.node).upload(ANA, request)
    assert _told(pt, INTERPOL, "upload")[0] == ("siena", SIENA)
    bench.flow()
    assert series in _logged(pt)["upload.sent"]
    assert series in _logged(repository)["upload.received"]
