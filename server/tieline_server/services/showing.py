"""A series as `series show` has it: beside what every view holds, what takes reading.

Items are counted here and not in the views that a change returns, since that happens within the
transaction of the change.
"""

from __future__ import annotations

from tieline.v1 import operator_pb2, series_work_pb2
from tieline_client import limits

from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction
from tieline_server.domain.series import Origin, Series, SeriesStatus
from tieline_server.services.context import Node
from tieline_server.services.deposit_reports import views as deposit_views
from tieline_server.services.grown import grew_since
from tieline_server.services.notes import notes_of
from tieline_server.services.same_as import links_of
from tieline_server.services.series_life import detailed_view


def shown(node: Node, tx: Tx, series: Series) -> operator_pb2.SeriesView:
    """A series with its history, how its items were judged, what repositories say of it, what it is
    one with, what agencies wrote about it, and who was told less of it than there is."""
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
    if series.origin is Origin.OWN and series.status is not SeriesStatus.WITHDRAWN:
        view.grown_since_told.extend(_told_less(tx, series.id))
    return view


def _told_less(tx: Tx, series: str) -> list[str]:
    """Agencies that have not been told a series since it grew."""
    told = {
        one.recipient: one.created for one in tx.referrals.find(Direction.OUT, series) if one.stands
    }
    grew = {at: grew_since(tx, series, at) for at in set(told.values())}
    return sorted(agency for agency, at in told.items() if grew[at])
