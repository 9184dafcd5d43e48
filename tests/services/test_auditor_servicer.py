"""The auditor's service as called: what is searched, and that reading is logged before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tieline.v1 import auditor_pb2 as pb
from tieline.v1 import operator_requests_pb2
from tieline_client.errors import MalformedMessage, StorageUnavailable
from tieline_client.payloads import timestamp
from tieline_server.rpc import auditor as rpc_auditor
from tieline_server.rpc import operator_requests
from tieline_server.rpc.auditor import AuditorServicer
from tieline_server.rpc.operator_requests import RequestMethods
from tieline_server.services.auditing import Auditing
from tieline_server.services.context import Person
from tieline_server.services.deciding import Requests
from tieline_server.services.log_retention import LogRetention

from tests.services.bench import ANA, ES, FR, PT, PURPOSE, Bench, records

NOBODY = cast(grpc.ServicerContext, None)


@pytest.fixture(autouse=True)
def ana(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Who calls is the interceptors' business (test_guard_callers.py)."""

    def person(_context: Any) -> Person:
        return ANA

    monkeypatch.setattr(rpc_auditor, "_person", person)
    monkeypatch.setattr(operator_requests, "_person", person)
    yield


@pytest.fixture
def auditor(bench: Bench) -> AuditorServicer:
    node = bench[PT].node
    return AuditorServicer(Auditing(node, dict), LogRetention(node))


def test_every_criterion_reaches_the_search(bench: Bench, auditor: AuditorServicer) -> None:
    node = bench[PT].node
    entry = node.entry(
        "query.asked",
        person="rui",
        peer=ES,
        purpose="deconfliction",
        case_ref="C-9",
        subjects=("pt-pj/1",),
        references=["siena:77"],
    )
    bench[PT].store.write(lambda tx: tx.audit.append(entry))
    bench[PT].store.drain()

    def positions(**changes: Any) -> list[int]:
        fields: dict[str, Any] = {
            "person": "rui",
            "peer": ES,
            "purpose": "deconfliction",
            "case_ref": "C-9",
            "action": "query",
            "subject": "pt-pj/1",
            "siena": "77",
            "since": timestamp(bench.now),
            "until": timestamp(bench.now + timedelta(seconds=1)),
        }
        request = pb.SearchEntriesRequest(**(fields | changes))
        return [one.position for one in auditor.SearchEntries(request, NOBODY).entries]

    (found,) = positions()
    others = {"peer": FR, "purpose": PURPOSE, "action": "export"}  # what nobody knows is refused
    for field in ("person", "peer", "purpose", "case_ref", "action", "subject", "siena"):
        assert positions(**{field: others.get(field, "other")}) == [], field
    assert positions(since=timestamp(bench.now + timedelta(seconds=1))) == []
    assert positions(until=timestamp(bench.now)) == []
    assert positions(start=found) == [found]
    assert positions(start=found + 1) == []
    with pytest.raises(MalformedMessage):
        positions(since=Timestamp(seconds=2**60))


def test_reading_is_logged_with_who_read_what(bench: Bench, auditor: AuditorServicer) -> None:
    bench[PT].series(records(range(5)))
    bench[ES].ask(records(range(3)), PT)
    (waiting,) = Requests(bench[PT].node).find(sent=False, decided=False)
    desk = cast(Any, RequestMethods)(bench[PT].node)
    desk.ListRequests(operator_requests_pb2.ListRequestsRequest(), NOBODY)
    desk.GetRequest(operator_requests_pb2.GetRequestRequest(id=waiting.id), NOBODY)
    auditor.ListWitnesses(pb.ListWitnessesRequest(), NOBODY)
    auditor.ListHolds(pb.ListHoldsRequest(), NOBODY)
    auditor.GetInclusionProof(pb.GetInclusionProofRequest(position=1), NOBODY)
    auditor.GetConsistencyProof(pb.GetConsistencyProofRequest(first=1), NOBODY)
    (answered,) = bench[PT].audit("query.answered")
    question = cast(list[str], answered["subjects"])[0]
    auditor.GetReceipt(pb.GetReceiptRequest(id=question), NOBODY)
    expected = {
        "requests.listed": [[waiting.id]],
        "request.read": [[waiting.id]],
        "audit.witnesses": [[]],
        "audit.holds": [[]],
        "audit.proof": [["1"], ["1", "0"]],
        "audit.receipt": [[question]],
    }
    for action, subjects in expected.items():
        logged = bench[PT].audit(action)
        assert [one["subjects"] for one in logged] == subjects, action
        assert {one["person"] for one in logged} == {"ana"}


def test_what_cannot_be_logged_is_not_shown(bench: Bench, auditor: AuditorServicer) -> None:
    desk = cast(Any, RequestMethods)(bench[PT].node)
    bench[PT].store.close()
    for call, request in (
        (desk.ListRequests, operator_requests_pb2.ListRequestsRequest()),
        (auditor.ListWitnesses, pb.ListWitnessesRequest()),
        (auditor.SearchEntries, pb.SearchEntriesRequest()),
        (auditor.GetInclusionProof, pb.GetInclusionProofRequest()),
    ):
        with pytest.raises(StorageUnavailable):
            call(cast(Any, request), NOBODY)
