"""Reports of a repository on series that this agency deposited there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tieline_client.errors import InvalidInput, NotFound, PolicyRefused, SignatureRefused
from tieline_client.identifiers import check_id, series_owner

from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction
from tieline_server.domain.series import Series, SeriesStatus
from tieline_server.domain.series_life import EventKind, SeriesEvent
from tieline_server.services.context import Node, clean
from tieline_server.services.deposit_reports import in_words, learning, standing
from tieline_server.services.incoming import Handled, Message, stated_time
from tieline_server.services.series_life import advance


@dataclass(frozen=True, slots=True)
class IncomingReports:
    """Handles deposit_report."""

    node: Node

    def report(self, message: Message) -> Handled:
        """Where a series of ours stands at a repository."""
        node, payload, body = self.node, message.payload, message.payload.deposit_report
        check_id(body.id, "report")
        series_owner(body.series)
        node.check_purpose(payload.purpose, payload.case_ref)
        try:
            status = SeriesStatus(body.status)
        except ValueError:
            raise InvalidInput(f"series status {body.status!r} is unknown") from None
        at = stated_time(node, body.report_time)

        def effect(tx: Tx) -> None:
            series = self._deposited(tx, message)
            question = learning(node, series, node.agency, message.peer, payload.purpose)
            node.allow(question, f"a report of {message.peer}")
            if body.number and not series.number:
                tx.series.set_number(series.id, clean(body.number))
            before = series.status
            if status is SeriesStatus.IDENTIFIED:
                _identified(tx, series, message, at)
            tx.history.add(
                SeriesEvent(
                    id=body.id,
                    series=series.id,
                    kind=EventKind.REPOSITORY,
                    agency=message.peer,
                    person=payload.person,
                    at=at,
                    before=before.value,
                    after=status.value,
                    text=clean(in_words(body)),
                )
            )

        return body.series, effect

    def _deposited(self, tx: Tx, message: Message) -> Series:
        """The series, where it is deposited with the sender and that stands."""
        named = message.payload.deposit_report.series
        uploads = [
            one
            for each in tx.aliases.family(named)
            for one in tx.uploads.find(Direction.OUT, each)
            if one.repository == message.peer
        ]
        if not uploads:
            raise NotFound("no deposit of this series is known here")
        series = tx.series.get(tx.aliases.current(named)) or tx.series.get(named)
        member = self.node.directory().member(message.peer)
        if str(member.role) != "repository":
            raise SignatureRefused(f"{message.peer} is no repository")
        gone = series is None or series.status is SeriesStatus.WITHDRAWN
        here = {one.id for one in standing(tx, Direction.OUT, {one.series for one in uploads})}
        if series is None or gone or not here & {one.id for one in uploads}:
            raise PolicyRefused("the series was taken back from this repository")
        return series


def _identified(tx: Tx, series: Series, message: Message, at: datetime) -> None:
    """Raise the series to identified; what is closed stays so."""
    body = message.payload.deposit_report
    if body.identified > series.identified:
        tx.series.set_identified(series.id, body.identified)
    if series.status is not SeriesStatus.CLOSED:
        person = message.payload.person
        advance(tx, series, SeriesStatus.IDENTIFIED, agency=message.peer, person=person, at=at)
