"""Series that two agencies hold as one, on the operator port."""

from __future__ import annotations

import grpc
from tieline.v1 import operator_links_pb2 as pb
from tieline.v1 import operator_pb2_grpc

from tieline_server.rpc.call import caller_of
from tieline_server.services.consulting import Consultations
from tieline_server.services.context import Node, Person
from tieline_server.services.notes import NoteDesk
from tieline_server.services.same_as import Linking


class LinkMethods(operator_pb2_grpc.OperatorServiceServicer):
    """A part of `operator.OperatorServicer`."""

    _linking: Linking
    _notes: NoteDesk
    _reads: Consultations

    def _take_links(self, node: Node) -> None:
        """Make what the methods call."""
        self._linking, self._notes = Linking(node), NoteDesk(node)

    def ListSameAs(
        self, request: pb.ListSameAsRequest, context: grpc.ServicerContext
    ) -> pb.ListSameAsResponse:
        """Links and proposals of links."""
        found = self._linking.find(request.series)
        self._reads.note(_person(context), "same_as.read", [one.own for one in found])
        return pb.ListSameAsResponse(links=found)

    def AnswerSameAs(
        self, request: pb.AnswerSameAsRequest, context: grpc.ServicerContext
    ) -> pb.AnswerSameAsResponse:
        """A person's word on a link."""
        return pb.AnswerSameAsResponse(link=self._linking.answer(_person(context), request))

    def AddNote(
        self, request: pb.AddNoteRequest, context: grpc.ServicerContext
    ) -> pb.AddNoteResponse:
        """A note to those who share a series."""
        return self._notes.add(_person(context), request)


def _person(context: grpc.ServicerContext) -> Person:
    caller = caller_of(context)
    return Person(caller.operator or "", caller.roles)
