"""Clues and tips on the operator port. Translates and calls."""

from __future__ import annotations

import grpc
from tieline.v1 import operator_clues_pb2 as pb
from tieline.v1 import operator_pb2_grpc

from tieline_server.rpc.call import caller_of
from tieline_server.services.clues import ClueDesk
from tieline_server.services.context import Node, Person, about
from tieline_server.services.tips import TipDesk


def _person(context: grpc.ServicerContext) -> Person:
    caller = caller_of(context)
    return Person(caller.operator or "", caller.roles)


class ClueMethods(operator_pb2_grpc.OperatorServiceServicer):
    """The methods of OperatorService about clues and tips."""

    _clues: ClueDesk
    _tips: TipDesk

    def _take_clues(self, node: Node) -> None:
        """Make what the methods call."""
        self._clues, self._tips = ClueDesk(node), TipDesk(node)

    def AddClue(
        self, request: pb.AddClueRequest, context: grpc.ServicerContext
    ) -> pb.AddClueResponse:
        """A clue."""
        return pb.AddClueResponse(clue=self._clues.add(_person(context), request))

    def PublishClue(
        self, request: pb.PublishClueRequest, context: grpc.ServicerContext
    ) -> pb.PublishClueResponse:
        """To the public, or back."""
        with about(request.purpose, request.case_ref):
            made = self._clues.publish(_person(context), request)
        return pb.PublishClueResponse(clue=made)

    def ListClues(
        self, request: pb.ListCluesRequest, context: grpc.ServicerContext
    ) -> pb.ListCluesResponse:
        """Clues."""
        return self._clues.find(_person(context), request.series)

    def ListPublishedClues(
        self, request: pb.ListPublishedCluesRequest, context: grpc.ServicerContext
    ) -> pb.ListPublishedCluesResponse:
        """What the public may read."""
        return self._clues.published(_person(context))

    def AddTips(
        self, request: pb.AddTipsRequest, context: grpc.ServicerContext
    ) -> pb.AddTipsResponse:
        """Tips."""
        return pb.AddTipsResponse(fates=self._tips.add(_person(context), request.tips))

    def ListTips(
        self, request: pb.ListTipsRequest, context: grpc.ServicerContext
    ) -> pb.ListTipsResponse:
        """A page of them."""
        return self._tips.find(_person(context), request)

    def JudgeTip(
        self, request: pb.JudgeTipRequest, context: grpc.ServicerContext
    ) -> pb.JudgeTipResponse:
        """A person's judgement."""
        return pb.JudgeTipResponse(tip=self._tips.judge(_person(context), request))

    def RelayTips(
        self, request: pb.RelayTipsRequest, context: grpc.ServicerContext
    ) -> pb.RelayTipsResponse:
        """To another agency."""
        return self._tips.relay(_person(context), request)
