"""The work on series on the operator port."""

from __future__ import annotations

import grpc
from tieline.v1 import operator_pb2 as pb
from tieline.v1 import operator_pb2_grpc, series_work_pb2

from tieline_server.rpc.call import caller_of
from tieline_server.services.context import Person
from tieline_server.services.merging import Merging
from tieline_server.services.series_life import SeriesLife
from tieline_server.services.splitting import Splitting


class SeriesMethods(operator_pb2_grpc.OperatorServiceServicer):
    """A part of `operator.OperatorServicer`."""

    _life: SeriesLife
    _merging: Merging
    _splitting: Splitting

    def SetSeriesStatus(
        self, request: series_work_pb2.SetSeriesStatusRequest, context: grpc.ServicerContext
    ) -> pb.SetSeriesStatusResponse:
        """A step in a series' life."""
        return pb.SetSeriesStatusResponse(series=self._life.move(_person(context), request))

    def MergeSeries(
        self, request: series_work_pb2.MergeSeriesRequest, context: grpc.ServicerContext
    ) -> pb.MergeSeriesResponse:
        """One series becomes part of another."""
        return pb.MergeSeriesResponse(series=self._merging.merge(_person(context), request))

    def SplitSeries(
        self, request: series_work_pb2.SplitSeriesRequest, context: grpc.ServicerContext
    ) -> pb.SplitSeriesResponse:
        """Some items of a series become a new one."""
        return self._splitting.split(_person(context), request)


def _person(context: grpc.ServicerContext) -> Person:
    caller = caller_of(context)
    return Person(caller.operator or "", caller.roles)
