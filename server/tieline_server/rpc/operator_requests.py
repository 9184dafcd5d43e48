"""Requests on the operator port. Translates and calls."""

from __future__ import annotations

import grpc
from tieline.v1 import operator_pb2_grpc
from tieline.v1 import operator_requests_pb2 as pb

from tieline_server.rpc.call import caller_of
from tieline_server.services.consulting import Consultations
from tieline_server.services.context import Node, Person, about
from tieline_server.services.deciding import Requests


def _person(context: grpc.ServicerContext) -> Person:
    caller = caller_of(context)
    return Person(caller.operator or "", caller.roles)


class RequestMethods(operator_pb2_grpc.OperatorServiceServicer):
    """The methods of OperatorService about requests."""

    def __init__(self, node: Node) -> None:
        self._requests = Requests(node)
        self._reads = Consultations(node)

    def ListRequests(
        self, request: pb.ListRequestsRequest, context: grpc.ServicerContext
    ) -> pb.ListRequestsResponse:
        """What waits."""
        found = self._requests.find(sent=request.sent, decided=request.all)
        self._reads.note(_person(context), "requests.listed", (one.id for one in found))
        return pb.ListRequestsResponse(requests=found)

    def GetRequest(
        self, request: pb.GetRequestRequest, context: grpc.ServicerContext
    ) -> pb.GetRequestResponse:
        """One of them."""
        found = self._requests.get(request.id)
        self._reads.note(_person(context), "request.read", (found.id,))
        return pb.GetRequestResponse(request=found)

    def DecideRequest(
        self, request: pb.DecideRequestRequest, context: grpc.ServicerContext
    ) -> pb.DecideRequestResponse:
        """Approve or refuse."""
        return pb.DecideRequestResponse(request=self._requests.decide(_person(context), request))

    def AskPermission(
        self, request: pb.AskPermissionRequest, context: grpc.ServicerContext
    ) -> pb.AskPermissionResponse:
        """Ask a provider."""
        with about(request.purpose, request.case_ref):
            made = self._requests.ask_permission(_person(context), request)
        return pb.AskPermissionResponse(request=made)

    def StateVitalInterests(
        self, request: pb.StateVitalInterestsRequest, context: grpc.ServicerContext
    ) -> pb.StateVitalInterestsResponse:
        """A child is in danger."""
        with about(request.purpose, request.case_ref):
            made = self._requests.state_vital_interests(_person(context), request)
        return pb.StateVitalInterestsResponse(request=made)
