"""The agency's own people on the operator port: who they are, and how they reach the node."""

from __future__ import annotations

from collections.abc import Callable

import grpc
from tieline.v1 import operator_access_pb2, operator_pb2_grpc
from tieline.v1 import operator_pb2 as pb

from tieline_server.rpc.call import caller_of
from tieline_server.services.context import Person
from tieline_server.services.people import People

Access = Callable[[], operator_access_pb2.GetAccessResponse]
"""What profiles need of the node, at this moment."""


class PeopleMethods(operator_pb2_grpc.OperatorServiceServicer):
    """A part of `operator.OperatorServicer`."""

    _people: People
    _access: Access

    def AddOperator(
        self, request: pb.AddOperatorRequest, context: grpc.ServicerContext
    ) -> pb.AddOperatorResponse:
        """A person's certificate, and what a profile needs."""
        leaf = self._people.add(
            _person(context),
            request.name,
            tuple(request.roles),
            request.public_key,
            request.certificate,
        )
        access = self._access()
        return pb.AddOperatorResponse(
            certificate=leaf.certificate,
            node_ca=access.node_cas[0],
            address=access.address,
            target_name=access.target_name,
            node_cas=access.node_cas,
        )

    def GetAccess(
        self, request: operator_access_pb2.GetAccessRequest, context: grpc.ServicerContext
    ) -> operator_access_pb2.GetAccessResponse:
        """What `tieline operator refresh` writes into a profile."""
        return self._access()

    def ListOperators(
        self, request: pb.ListOperatorsRequest, context: grpc.ServicerContext
    ) -> pb.ListOperatorsResponse:
        """The people."""
        return pb.ListOperatorsResponse(operators=self._people.find())

    def RevokeOperator(
        self, request: pb.RevokeOperatorRequest, context: grpc.ServicerContext
    ) -> pb.RevokeOperatorResponse:
        """End a person's access."""
        self._people.revoke(_person(context), request.name)
        return pb.RevokeOperatorResponse()


def _person(context: grpc.ServicerContext) -> Person:
    caller = caller_of(context)
    return Person(caller.operator or "", caller.roles)
