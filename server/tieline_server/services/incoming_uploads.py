"""Deposits that come in at a repository, and its steps that come back to the depositor."""

from __future__ import annotations

from dataclasses import dataclass

from tieline_client.errors import InvalidInput, NotFound, SignatureRefused
from tieline_client.identifiers import check_id
from tieline_client.payloads import moment

from tieline_server.domain.policy import Action
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction
from tieline_server.domain.request import Use
from tieline_server.domain.series import Origin
from tieline_server.domain.upload import Upload, UploadState, UploadStep
from tieline_server.services.context import Node, clean
from tieline_server.services.incoming import (
    Handled,
    Message,
    claim_items,
    keep_series,
    stated_time,
    told_series,
)
from tieline_server.services.permissions import proven
from tieline_server.services.uploading import take_step


@dataclass(frozen=True, slots=True)
class IncomingUploads:
    """Handles upload and upload_step."""

    node: Node

    def upload(self, message: Message) -> Handled:
        """A deposit; an addition to a series that is numbered already is numbered at once."""
        node, payload, body = self.node, message.payload, message.payload.upload
        check_id(body.id, "upload")
        node.check_purpose(payload.purpose, payload.case_ref)
        series = told_series(node, body.series, Origin.UPLOAD, payload.case_ref)
        question = node.question(
            Action.ACCEPT_UPLOAD,
            asker=message.peer,
            holder=node.agency,
            purpose=payload.purpose,
            handling=series.handling,
            owner=series.owner,
            permission=proven(node, message, body.permission, series=series.id, use=Use.UPLOAD),
        )
        node.allow(question, f"a deposit of {message.peer}")
        upload = Upload(
            id=body.id,
            series=series.id,
            direction=Direction.IN,
            sender=message.peer,
            repository=node.agency,
            purpose=payload.purpose,
            case_ref=payload.case_ref,
            person=payload.person,
            created=moment(payload.issue_time),
            items=body.items.items,
        )

        def effect(tx: Tx) -> None:
            if tx.uploads.get(upload.id) is not None:
                raise InvalidInput("an upload of this id is known")
            kept = keep_series(node, tx, series, [(message.peer, body.series)], message.woken)
            if body.HasField("items"):
                claim_items(tx, message, body.items, kept)
            tx.uploads.add(upload)
            known = tx.series.get(series.id)
            if known is not None and known.number:
                take_step(node, tx, upload, UploadState.NUMBERED, known.number, "")

        return upload.id, effect

    def upload_step(self, message: Message) -> Handled:
        """What the repository did with a deposit of ours."""
        payload, body = message.payload, message.payload.upload_step
        check_id(body.id, "step")
        try:
            state = UploadState(body.state)
        except ValueError:
            raise InvalidInput(f"{body.state!r} is no state of an upload") from None
        if state is UploadState.ANNOUNCED:
            raise InvalidInput("announcing is the depositor's step")
        step = UploadStep(
            id=body.id,
            upload=body.upload,
            state=state,
            agency=message.peer,
            person=payload.person,
            at=stated_time(self.node, body.step_time),
            reference=clean(body.reference),
        )
        if state is UploadState.NUMBERED and not step.reference:
            raise InvalidInput("a numbered upload needs the repository's series number")

        def effect(tx: Tx) -> None:
            upload = tx.uploads.get(body.upload)
            if upload is None or upload.direction is not Direction.OUT:
                raise NotFound("this upload is not known here")
            if upload.repository != message.peer:
                raise SignatureRefused(f"{message.peer} is not the repository of this upload")
            tx.uploads.add_step(step)

        return body.upload, effect
