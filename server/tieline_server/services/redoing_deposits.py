"""What this agency's messages about deposits did to its own records, done again (redoing.py).

As the agency that deposited, and as the repository that numbered: a number that was given out
before the restore is not given out again.
"""

from __future__ import annotations

from tieline_client.payloads import moment

from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction
from tieline_server.domain.series import SeriesStatus
from tieline_server.domain.upload import Upload, UploadState, UploadStep
from tieline_server.services.context import Node
from tieline_server.services.given_back import Told, series_back
from tieline_server.services.series_life import advance


def upload(node: Node, tx: Tx, told: Told) -> None:
    """A series that this agency deposited."""
    payload, body = told.payload, told.payload.upload
    series_back(node, tx, body.series, payload.case_ref)
    if tx.uploads.get(body.id) is None:
        tx.uploads.add(
            Upload(
                id=body.id,
                series=body.series.id,
                direction=Direction.OUT,
                sender=node.agency,
                repository=told.message.recipient,
                purpose=payload.purpose,
                case_ref=payload.case_ref,
                person=payload.person,
                created=told.message.created,
                items=body.items.items,
                # All that the restored node holds was there when it deposited.
                generation=tx.standings.generation_at_epoch(),
            )
        )


def upload_step(node: Node, tx: Tx, told: Told) -> None:
    """A step of a deposit, by whichever side this is; the number that it gave is used."""
    body = told.payload.upload_step
    upload = tx.uploads.get(body.upload)
    state = UploadState(body.state)
    if state is UploadState.NUMBERED:
        _used_number(node, tx, body.reference)
    if upload is None:
        return
    tx.uploads.add_step(
        UploadStep(
            id=body.id,
            upload=body.upload,
            state=state,
            agency=node.agency,
            person=told.payload.person,
            at=moment(body.step_time),
            reference=body.reference,
        )
    )
    if state is UploadState.NUMBERED:
        tx.series.set_number(upload.series, body.reference)


def deposit_report(node: Node, tx: Tx, told: Told) -> None:
    """What this repository said of a series it may have said after the backup: *identified* too."""
    body = told.payload.deposit_report
    series = tx.series.get(body.series)
    _used_number(node, tx, body.number)
    if series is None or series.status in (SeriesStatus.WITHDRAWN, SeriesStatus.CLOSED):
        return
    if body.number and not series.number:
        tx.series.set_number(series.id, body.number)
    if body.status == SeriesStatus.IDENTIFIED.value:
        at, person = moment(body.report_time), told.payload.person
        advance(tx, series, SeriesStatus.IDENTIFIED, agency=node.agency, person=person, at=at)


def _used_number(node: Node, tx: Tx, reference: str) -> None:
    """A number that this repository gave out is not given out again."""
    tx.uploads.number_used(node.defaults.numbering.own(node.agency, reference) or 0)
