"""A series as `series show` has it: beside what every view holds, what takes reading.

Items are counted here and not in the views that a change returns, since that happens within the
transaction of the change.
"""

from __future__ import annotations

from tieline.v1 import operator_pb2, series_work_pb2
from tieline_client import limits

from tieline_server.domain.ports import Tx
from tieline_server.domain.series import Series
from tieline_server.services.context import Node
from tieline_server.services.deposit_reports import views as deposit_views
from tieline_server.services.notes import notes_of
from tieline_server.services.same_as import links_of
from tieline_server.services.series_life import detailed_view


def shown(node: Node, tx: Tx, series: Series) -> operator_pb2.SeriesView:
    """A series with its history, how its items were judged, what repositories say of it, what it is
    one with, and what agencies wrote about it."""
    view = detailed_view(tx, series)
    view.votes.extend(
        series_work_pb2.VoteCount(
            scheme=one.scheme,
            code=one.code,
            items=one.items,
            agencies=one.agencies,
            trusted=one.trusted,
            disputed=one.disputed,
        )
        for one in tx.votes.of(series.id)[: limits.VOTE_KINDS_SHOWN]
    )
    view.repositories.extend(deposit_views(node, tx, series))
    view.same_as.extend(links_of(tx, series)[: limits.LINKS_SHOWN])
    view.notes.extend(notes_of(tx, series))
    return view
