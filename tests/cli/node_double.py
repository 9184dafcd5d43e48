"""A node's operator port as the client sees it: real gRPC over real mutual TLS, canned answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import grpc
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf import message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status
from tieline.v1 import auditor_pb2, auditor_pb2_grpc, operator_watches_pb2
from tieline.v1 import operator_pb2 as pb
from tieline.v1 import operator_pb2_grpc as pb_grpc
from tieline.v1.operator_access_pb2 import DESCRIPTOR as ACCESS
from tieline.v1.operator_access_pb2_grpc import add_ProfileServiceServicer_to_server
from tieline_client import keys, limits
from tieline_client.certificates import Kind
from tieline_client.columns_wire import from_wire
from tieline_client.digests import DigestKind, format_digest, rows
from tieline_client.identifiers import dns_name, new_id
from tieline_client.profile import Profile
from tieline_client.record_stream import to_wire
from tieline_client.tls import (
    Identity,
    ServerMaterial,
    server_credentials,
    server_options,
    to_pem,
)
from tieline_server.trust.authority import (
    AgencyAuthority,
    create_authority,
    issue_node_leaf,
    issue_operator_leaf,
)

FEDERATION, AGENCY, PERSON = "test-eu", "pt-pj", "ana.silva"
METHODS = {
    name: method
    for service in (
        pb.DESCRIPTOR.services_by_name["OperatorService"],
        auditor_pb2.DESCRIPTOR.services_by_name["AuditorService"],
        ACCESS.services_by_name["ProfileService"],
    )
    for name, method in service.methods_by_name.items()
}
_STREAMS = (
    "AddWatch",
    *("Import", "AskOverlap", "AskBrief", "CompareCollection", "ExportSeries"),
    "ReconcileDeposits",
    *("ListAuditEntries", "ListEvidence", "ListAsked"),
)


@dataclass
class Refusal:
    """Makes the double answer with a status and one ErrorInfo."""

    code: grpc.StatusCode
    reason: str
    message: str

    def abort(self, context: grpc.ServicerContext) -> None:
        detail = AnyMessage()
        detail.Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain="tieline"))
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=[detail])
        context.abort_with_status(rpc_status.to_status(status))


class NodeDouble:
    """Remembers requests by method, and gives the answers that a test put there.

    Without an answer a method returns an empty message; a list is used up one by one.
    """

    def __init__(self) -> None:
        self.requests: dict[str, list[Any]] = {}
        self.records: list[pb.ItemRecord] = []
        self.digests: list[str] = []
        """What the last question asked, ``type:hex`` in the order of the list."""
        self.answers: dict[str, Any] = {
            "GetAskTerms": pb.GetAskTermsResponse(records_most=limits.RECORDS_PER_QUERY)
        }
        self.finished: list[bool] = []
        """For each import or question: whether all of it came."""

    def only(self, method: str) -> Any:
        """Return the one request of a method."""
        (request,) = self.requests[method]
        return request

    def unary(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.setdefault(method, []).append(request)
        found = self.answers.get(method)
        if isinstance(found, list):
            found = found.pop(0)
        if isinstance(found, Refusal):
            found.abort(context)
        if found is None and method == "SearchEntries":  # as a node that cannot search
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        kind = message_factory.GetMessageClass(METHODS[method].output_type)
        return kind() if found is None else found

    def _take_import(self, parts: Iterator[Any]) -> list[pb.ItemRecord]:
        records: list[pb.ItemRecord] = []
        finished = False
        try:
            for part in parts:
                kind = part.WhichOneof("part")
                if kind == "records":
                    assert len(part.records.records) <= 2000
                    records.extend(part.records.records)
                elif kind == "columns":
                    records.extend(map(to_wire, from_wire(part.columns).records()))
                else:
                    finished = part.finish.records == len(records)
        except grpc.RpcError:
            pass  # the client cut the stream off
        self.finished.append(finished)
        self.records.extend(records)
        return records

    def _take_question(self, parts: Iterator[Any]) -> None:
        header = next(parts).header
        self.requests.setdefault("AskOverlap", []).append(header)
        came, digest = hashlib.sha256(), header.list_digest
        counts = [0] * len(DigestKind)
        self.digests = []
        try:
            for part in parts:
                if part.list_digest:
                    assert not digest
                    digest = part.list_digest
                    continue
                kind = DigestKind(part.batch.kind)
                came.update(part.batch.digests)
                each = [format_digest(kind, one) for one in rows(kind, part.batch.digests)]
                counts[kind - 1] += len(each)
                self.digests += each
        except grpc.RpcError:
            pass  # the client cut the stream off
        whole = (list(header.counts), digest) == (counts, came.digest())
        self.finished.append(whole)

    def Import(self, parts: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        answer = self.answers.get("Import")
        if isinstance(answer, Refusal):
            answer.abort(context)
        self.requests.setdefault("Import", []).append(next(parts).header)
        if answer is not None and answer.repeated:
            yield pb.ImportResponse(report=answer)
            return
        yield pb.ImportResponse(staged=0)
        records = self._take_import(parts)
        yield pb.ImportResponse(staged=len(records))
        if answer is None:
            answer = pb.ImportReport(records=len(records), items_new=len(records))
            answer.series.append(f"{AGENCY}/{new_id()}")
        yield pb.ImportResponse(report=answer)

    def AskOverlap(self, parts: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        self._take_question(parts)
        answer = self.answers["AskOverlap"]
        if isinstance(answer, Refusal):
            answer.abort(context)
        yield from answer

    def AskBrief(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        parts = [pb.AskOverlapRequest(header=request.header)]
        parts += [pb.AskOverlapRequest(batch=one) for one in request.lists]
        for one in self.AskOverlap(iter(parts), context):
            yield pb.AskBriefResponse(parts=[one])

    def CompareCollection(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.requests.setdefault("CompareCollection", []).append(request)
        answer = self.answers["CompareCollection"]
        if isinstance(answer, Refusal):
            answer.abort(context)
        yield from answer

    def ExportSeries(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.requests.setdefault("ExportSeries", []).append(request)
        answer = self.answers["ExportSeries"]
        if isinstance(answer, Refusal):
            answer.abort(context)
        yield from answer

    def ReconcileDeposits(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.requests.setdefault("ReconcileDeposits", []).append(request)
        yield from self.answers.get("ReconcileDeposits", ())

    def AddWatch(self, parts: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        header = next(parts).header
        self.requests.setdefault("AddWatch", []).append(header)
        self.digests = []
        for part in parts:
            kind = DigestKind(part.column.list.kind)
            each = list(rows(kind, part.column.list.digests))
            assert len(part.column.items) == len(each)
            self.digests += [format_digest(kind, one) for one in each]
        answer = self.answers.get("AddWatch")
        if isinstance(answer, Refusal):
            answer.abort(context)
        yield from answer or [
            operator_watches_pb2.AddWatchResponse(
                watch=operator_watches_pb2.WatchView(header=header)
            )
        ]

    def ListAuditEntries(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        leaves = self.answers["ListAuditEntries"]
        end = min(request.start + (request.limit or len(leaves)), len(leaves))
        for start in range(request.start, end, 3):
            page = leaves[start : min(start + 3, end)]
            yield pb.ListAuditEntriesResponse(start=start, leaves=page)

    def ListEvidence(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield from self.answers.get("ListEvidence", ())

    def ListAsked(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield from self.answers.get("ListAsked", ())


class _Front:
    """What the listener calls; the double behind it changes from test to test."""

    def __init__(self) -> None:
        self.node = NodeDouble()


def _unary(method: str) -> Callable[..., Any]:
    return lambda front, request, context: front.node.unary(method, request, context)


def _stream(method: str) -> Callable[..., Any]:
    return lambda front, parts, context: getattr(front.node, method)(parts, context)


for _method in METHODS:
    setattr(_Front, _method, (_stream if _method in _STREAMS else _unary)(_method))


@dataclass
class People:
    """The agency's two CAs, its node's leaf, and profiles for its people."""

    node_ca: AgencyAuthority
    operator_ca: AgencyAuthority
    leaf: Identity

    def profile(
        self,
        address: str,
        *,
        now: datetime | None = None,
        life: timedelta = timedelta(days=1),
        **changes: Any,
    ) -> Profile:
        key = keys.generate()
        certificate = issue_operator_leaf(
            self.operator_ca, PERSON, key.public_key(), now=now or datetime.now(UTC), life=life
        )
        values: dict[str, Any] = {
            "agency": AGENCY,
            "federation": FEDERATION,
            "operator": PERSON,
            "address": address,
            "target_name": dns_name(AGENCY, FEDERATION),
            "node_ca": to_pem([self.node_ca.der]).decode(),
            "certificate": certificate.public_bytes(Encoding.PEM).decode(),
            "key": keys.private_pem(key).decode(),
        }
        return Profile(**(values | changes))


def make_people() -> People:
    now = datetime.now(UTC)
    node_ca = create_authority(Kind.NODE, FEDERATION, AGENCY, keys.generate(), now=now)
    operator_ca = create_authority(Kind.OPERATOR, FEDERATION, AGENCY, keys.generate(), now=now)
    key = keys.generate()
    leaf = issue_node_leaf(node_ca, key.public_key(), now=now)
    identity = Identity(leaf.public_bytes(Encoding.PEM), keys.private_pem(key))
    return People(node_ca, operator_ca, identity)


@contextmanager
def listening(people: People) -> Iterator[tuple[_Front, str]]:
    """Serve the operator port on loopback; yields the front and its address."""
    front = _Front()
    server = grpc.server(ThreadPoolExecutor(4), options=server_options())
    pb_grpc.add_OperatorServiceServicer_to_server(cast(Any, front), server)
    auditor_pb2_grpc.add_AuditorServiceServicer_to_server(cast(Any, front), server)
    add_ProfileServiceServicer_to_server(cast(Any, front), server)
    material = ServerMaterial(people.leaf, (people.operator_ca.der,))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(lambda: material))
    server.start()
    try:
        yield front, f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@dataclass
class Served:
    """A running double: where it is, and the profile of who may use it."""

    node: NodeDouble
    address: str
    profile: Path
    people: People


@dataclass
class Result:
    """What one command did; ``document`` is stdout with --json."""

    code: int
    out: str
    err: str
    document: Any


Run = Callable[..., Result]
