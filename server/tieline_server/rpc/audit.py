"""AuditService: peers that watch this node's audit log, and have theirs watched."""

from __future__ import annotations

import grpc
from tieline.v1 import audit_pb2, audit_pb2_grpc

from tieline_server.rpc.call import caller_of
from tieline_server.services.witnessing import Witnessing


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Translates and calls."""

    def __init__(self, witnessing: Witnessing) -> None:
        self._witnessing = witnessing

    def SwapCheckpoints(
        self, request: audit_pb2.SwapCheckpointsRequest, context: grpc.ServicerContext
    ) -> audit_pb2.SwapCheckpointsResponse:
        """The newest head, and what is held of others."""
        return self._witnessing.swap(caller_of(context).agency, request)

    def Countersign(
        self, request: audit_pb2.CountersignRequest, context: grpc.ServicerContext
    ) -> audit_pb2.CountersignResponse:
        """Countersign the caller's head."""
        return self._witnessing.countersign(caller_of(context).agency, request)

    def GetConsistency(
        self, request: audit_pb2.GetConsistencyRequest, context: grpc.ServicerContext
    ) -> audit_pb2.GetConsistencyResponse:
        """Prove that one size extends another."""
        return self._witnessing.consistency(request)
