"""Steps in a series' life, each with its line in the history, in the transaction of its cause."""

from __future__ import annotations

from datetime import datetime

from tieline.v1 import operator_pb2, series_work_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput
from tieline_client.identifiers import new_id
from tieline_client.payloads import timestamp

from tieline_server.domain.ports import Tx
from tieline_server.domain.series import Series, SeriesStatus
from tieline_server.domain.series_life import EventKind, SeriesEvent, check_move
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.deposit_reports import is_repository, one_there, report
from tieline_server.services.likely import standing_countries
from tieline_server.services.views import find_series, series_view


def advance(
    tx: Tx,
    series: Series,
    status: SeriesStatus,
    *,
    agency: str,
    person: str,
    at: datetime,
    text: str = "",
) -> None:
    """Set a status and keep who did it; nothing when it is so already."""
    if series.status is status:
        return
    tx.series.set_status(series.id, status)
    tx.history.add(
        SeriesEvent(
            id=new_id(),
            series=series.id,
            kind=EventKind.STATUS,
            agency=agency,
            person=person,
            at=at,
            before=series.status.value,
            after=status.value,
            text=text,
        )
    )


class SeriesLife:
    """What a person says of where a series stands."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def move(
        self, person: Person, request: series_work_pb2.SetSeriesStatusRequest
    ) -> operator_pb2.SeriesView:
        """Take a step; raises NotFound, InvalidInput or WrongState."""
        node = self._node
        try:
            status = SeriesStatus(request.status)
        except ValueError:
            known = ", ".join(SeriesStatus)
            raise InvalidInput(f"{request.status!r} is no status of a series: {known}") from None
        text = clean(request.text)[: limits.FREE_TEXT_CHARS]

        def work(tx: Tx) -> tuple[operator_pb2.SeriesView, set[str]]:
            series = find_series(tx, request.series)
            likely = bool(standing_countries(tx, series.id))
            check_move(series.status, status, likely=likely)
            moved = [series, *self._same(tx, series, status)]
            for one in moved:
                self._step(tx, person, one, status, text)
            woken = report(node, tx, series.id, person.name) if is_repository(node) else set()
            return detailed_view(tx, find_series(tx, series.id)), woken

        view, woken = node.store.write(work)
        for agency in sorted(woken):
            node.wake(agency)
        return view

    def _same(self, tx: Tx, series: Series, status: SeriesStatus) -> list[Series]:
        """The series that a repository holds to be one with this: its victim is identified once."""
        if status is not SeriesStatus.IDENTIFIED or not is_repository(self._node):
            return []
        others = (tx.series.get(one) for one in one_there(tx, series) if one != series.id)
        past = (SeriesStatus.IDENTIFIED, SeriesStatus.CLOSED, SeriesStatus.WITHDRAWN)
        return [one for one in others if one is not None and one.status not in past]

    def _step(
        self, tx: Tx, person: Person, series: Series, status: SeriesStatus, text: str
    ) -> None:
        node, at = self._node, self._node.clock()
        advance(tx, series, status, agency=node.agency, person=person.name, at=at, text=text)
        tx.audit.append(
            node.entry(
                "series.status",
                person=person.name,
                case_ref=series.case_ref,
                subjects=(series.id,),
                before=series.status.value,
                after=status.value,
            )
        )


def detailed_view(tx: Tx, series: Series) -> operator_pb2.SeriesView:
    """A series with its history, as who works on it sees it."""
    view = series_view(tx, series)
    view.history.extend(event_view(one) for one in tx.history.of(series.id))
    return view


def event_view(event: SeriesEvent) -> series_work_pb2.SeriesEvent:
    """A line of the history."""
    return series_work_pb2.SeriesEvent(
        kind=event.kind.value,
        agency=event.agency,
        person=event.person,
        event_time=timestamp(event.at),
        before=event.before,
        after=event.after,
        text=event.text,
    )
