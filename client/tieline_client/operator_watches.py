"""Standing queries, as methods of OperatorClient."""

from __future__ import annotations

from collections.abc import Sequence

from tieline.v1 import operator_watches_pb2 as pb

from tieline_client import limits
from tieline_client.asked_list import AskedList
from tieline_client.operator_connection import OperatorConnection, make
from tieline_client.watch_list import WatchOptions, add_watch


class WatchCalls(OperatorConnection):
    """The methods of OperatorService about standing queries."""

    def add_watch(self, asked: AskedList, options: WatchOptions) -> pb.WatchView:
        """Have a list watched until its day."""
        return add_watch(self, asked, options)

    def list_watches(self, *, ended: bool = False) -> Sequence[pb.WatchView]:
        """Standing queries, those of the highest priority first."""
        request = make(pb.ListWatchesRequest, ended=ended)
        return self.call(self.stub.ListWatches, request, limits.ACTION_SECONDS).watches

    def get_watch(self, watch: str, *, matches: bool = False) -> pb.GetWatchResponse:
        """One with its notices, and what matched."""
        request = make(pb.GetWatchRequest, watch=watch, matches=matches)
        return self.call(self.stub.GetWatch, request, limits.ACTION_SECONDS)

    def remove_watch(self, watch: str) -> pb.WatchView:
        """End one, and erase its list."""
        request = make(pb.RemoveWatchRequest, watch=watch)
        return self.call(self.stub.RemoveWatch, request, limits.ACTION_SECONDS).watch

    def run_watches(self, watches: Sequence[str] = ()) -> Sequence[pb.WatchRun]:
        """Ask now what peers have that is new."""
        request = make(pb.RunWatchesRequest, watches=watches)
        return self.call(self.stub.RunWatches, request, limits.WATCH_RUN_SECONDS).runs
