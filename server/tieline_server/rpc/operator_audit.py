"""The audit log on the operator port, entry by entry."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from tieline.v1 import operator_pb2 as pb
from tieline.v1 import operator_pb2_grpc
from tieline_client import limits

from tieline_server.domain.audit import AuditRecord
from tieline_server.rpc.call import caller_of
from tieline_server.services.context import Node

_AUDIT_PAGE = 500
_AUDIT_PAGE_BYTES = 1024 * 1024


class AuditMethods(operator_pb2_grpc.OperatorServiceServicer):
    """A part of `operator.OperatorServicer`."""

    _node: Node

    def GetAuditHead(
        self, request: pb.GetAuditHeadRequest, context: grpc.ServicerContext
    ) -> pb.GetAuditHeadResponse:
        """Size and root of the log."""
        size, root = self._node.store.read(lambda tx: (tx.audit.size(), tx.audit.root()))
        return pb.GetAuditHeadResponse(size=size, root=root)

    def ListAuditEntries(
        self, request: pb.ListAuditEntriesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ListAuditEntriesResponse]:
        """Entries in order. Reading the log is itself logged."""
        person = caller_of(context).operator or ""
        entry = self._node.entry(
            "audit.read", person=person, start=request.start, limit=request.limit
        )
        end = self._node.store.read(lambda tx: tx.audit.size())
        if request.limit:
            end = min(end, request.start + request.limit)
        self._node.store.write(lambda tx: tx.audit.append(entry))
        start = request.start
        while start < end:
            page = self._audit_page(start, min(_AUDIT_PAGE, end - start))
            if not page:
                return
            yield pb.ListAuditEntriesResponse(
                start=start,
                leaves=[one.shown for one in page],
                hashes=[one.leaf_hash for one in page],
            )
            start += len(page)

    def _audit_page(self, start: int, limit: int) -> list[AuditRecord]:
        """Records from ``start`` that fit into one message, at least one."""
        records = list(self._node.store.read(lambda tx: tx.audit.records(start, limit)))
        total, kept = 0, 0
        for one in records:
            total += len(one.leaf) + 8
            if kept and total > min(_AUDIT_PAGE_BYTES, limits.MESSAGE_BYTES):
                break
            kept += 1
        return records[:kept]
