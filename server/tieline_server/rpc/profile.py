"""ProfileService: what a person's profile asks of its node by itself. Translates and calls."""

from __future__ import annotations

import grpc
from tieline.v1 import operator_access_pb2 as pb
from tieline.v1 import operator_access_pb2_grpc

from tieline_server.rpc.call import caller_of
from tieline_server.rpc.identity import caller_key
from tieline_server.services.context import Person
from tieline_server.services.people import People


class ProfileServicer(operator_access_pb2_grpc.ProfileServiceServicer):
    """One method per RPC."""

    def __init__(self, people: People) -> None:
        self._people = people

    def RenewCertificate(
        self, request: pb.RenewCertificateRequest, context: grpc.ServicerContext
    ) -> pb.RenewCertificateResponse:
        """A certificate of the next operator CA, while one replaces the other."""
        caller = caller_of(context)
        person = Person(caller.operator or "", caller.roles)
        leaf = self._people.renew(person, caller.serial, caller_key(context))
        return pb.RenewCertificateResponse(certificate=b"" if leaf is None else leaf.certificate)
