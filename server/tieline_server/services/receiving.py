"""Messages in: from a verified envelope to one durable effect and a stored reply.

1. The envelope is the caller's, for us (or for a group that we are in), in time.
2. A known id gets its stored reply; a known id with other bytes is refused.
3. Its kind has a handler; without one the message is UNSUPPORTED (looked at first) and nothing is
   stored, so that it can come again after an upgrade.
4. The handler checks what the message says (policy, series, steps) and, in one transaction with the
   inbox row and the audit entry, gives it effect.
5. What will never be applied is REFUSED: stored, logged, and its items erased. What cannot be
   applied yet is RETRY: nothing is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from tieline.v1 import delivery_pb2, payload_pb2, series_pb2
from tieline_client.errors import (
    InvalidInput,
    NotFound,
    RefusedError,
    RequestIdReused,
    SignatureRefused,
    TielineError,
    WrongState,
)
from tieline_client.identifiers import check_country, check_id, series_owner
from tieline_client.payloads import Audience, kind_of, moment, open_payload

from tieline_server.domain.broadcast import Broadcast, BroadcastRecipientState
from tieline_server.domain.messages import InMessage, Reply
from tieline_server.domain.policy import Action
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import (
    Direction,
    Referral,
    ReferralState,
    ReferralStep,
)
from tieline_server.domain.series import Assessment, Confidence, Origin, Series
from tieline_server.domain.upload import Upload, UploadState, UploadStep
from tieline_server.services import attachments
from tieline_server.services.broadcasting import ACKNOWLEDGE, answer_in
from tieline_server.services.context import Node, clean
from tieline_server.services.indexing import IndexKeeper
from tieline_server.services.notices import assessment_in, series_in
from tieline_server.services.referring import apply_outcome, parse_urgency
from tieline_server.services.series_work import add_assessment
from tieline_server.services.uploading import take_step
from tieline_server.services.views import outcome_in


@dataclass(frozen=True, slots=True)
class _Message:
    """A verified message."""

    peer: str
    payload: payload_pb2.Payload
    request: delivery_pb2.DeliverRequest

    @property
    def kind(self) -> str:
        """The name of its body."""
        return self.payload.WhichOneof("body") or ""


_Effect = Callable[[Tx], None]


class _NotYet(TielineError):
    """It cannot be applied now; the sender tries again."""

    reason = "WRONG_STATE"


class Receiving:
    """Applies messages of peers."""

    def __init__(self, node: Node, keeper: IndexKeeper) -> None:
        self._node, self._keeper = node, keeper
        self._handlers: dict[str, Callable[[_Message], tuple[str, _Effect]]] = {
            "referral": self._referral,
            "referral_step": self._referral_step,
            "broadcast": self._broadcast,
            "broadcast_answer": self._broadcast_answer,
            "upload": self._upload,
            "upload_step": self._upload_step,
        }

    def deliver(
        self, peer: str, request: delivery_pb2.DeliverRequest
    ) -> delivery_pb2.DeliverResponse:
        """Apply one message of ``peer``; the answer is durable when this returns.

        Raises SignatureRefused (nothing can be said of who sent it) and StorageUnavailable.
        """
        # 3, first: a body of a newer version need not even parse here
        kind = kind_of(request.envelope)
        if kind and kind not in self._handlers:
            return self._reply(Reply.UNSUPPORTED, "UNKNOWN_METHOD", f"no {kind[:64]} here yet")
        # 1
        message = _Message(peer, self._verify(peer, request), request)
        digest = hashlib.sha256(request.envelope.payload).digest()
        # 2
        known = self._node.store.read(lambda tx: tx.inbox.get(peer, message.payload.id))
        if known is not None:
            return self._again(known, digest)
        # 4, 5
        try:
            parse_urgency(request.lane)
            subject, effect = self._handlers[message.kind](message)
            response = self._apply(message, digest, subject, effect)
        except (_NotYet, NotFound) as error:
            return self._reply(Reply.RETRY, error.reason, error.message)
        except (InvalidInput, RefusedError, WrongState) as error:
            return self._refuse(message, digest, error)
        self._keeper.refresh()
        if message.kind == "upload":  # a known series is numbered at once: its step goes out now
            self._node.wake(peer)
        return response

    def _verify(self, peer: str, request: delivery_pb2.DeliverRequest) -> payload_pb2.Payload:
        node, directory = self._node, self._node.directory()

        def ours(audience: Audience) -> bool:
            if not audience.group:
                return audience == Audience(agency=node.agency)
            return not audience.agency and node.agency in directory.group(audience.group).members

        return open_payload(
            request.envelope,
            directory=directory,
            issuer=peer,
            audience=ours,
            now=node.clock(),
        )

    # 2
    def _again(self, known: InMessage, digest: bytes) -> delivery_pb2.DeliverResponse:
        if known.digest != digest:
            raise RequestIdReused(f"message {known.id} came before with another body")
        if known.reply is Reply.APPLIED:
            return self._reply(Reply.DUPLICATE, "", "applied before")
        return self._reply(known.reply, known.reason, "")

    # 4
    def _apply(
        self, message: _Message, digest: bytes, subject: str, effect: _Effect
    ) -> delivery_pb2.DeliverResponse:
        def work(tx: Tx) -> delivery_pb2.DeliverResponse:
            known = tx.inbox.get(message.peer, message.payload.id)
            if known is not None:
                return self._again(known, digest)
            effect(tx)
            self._store(tx, message, digest, subject, Reply.APPLIED, "")
            return self._reply(Reply.APPLIED, "", "")

        return self._node.store.write(work)

    # 5
    def _refuse(
        self, message: _Message, digest: bytes, error: TielineError
    ) -> delivery_pb2.DeliverResponse:
        def work(tx: Tx) -> None:
            if tx.inbox.get(message.peer, message.payload.id) is None:
                self._store(tx, message, digest, "", Reply.REFUSED, error.reason)

        self._node.store.write(work)
        reference = _items_of(message.payload)
        if reference is not None:
            attachments.drop_incoming(self._node, message.peer, reference.id)
        return self._reply(Reply.REFUSED, error.reason, error.message)

    def _store(
        self, tx: Tx, message: _Message, digest: bytes, subject: str, reply: Reply, reason: str
    ) -> None:
        payload, request = message.payload, message.request
        tx.inbox.add(
            InMessage(
                id=payload.id,
                sender=message.peer,
                lane=parse_urgency(request.lane),
                sequence=request.sequence,
                kind=message.kind,
                subject=subject,
                digest=digest,
                envelope=request.envelope.SerializeToString(),
                received=self._node.clock(),
                reply=reply,
                reason=reason,
            )
        )
        tx.audit.append(
            self._node.entry(
                f"{message.kind}.received" if reply is Reply.APPLIED else "refusal",
                person=payload.person,
                peer=message.peer,
                purpose=payload.purpose,
                case_ref=payload.case_ref,
                subjects=(payload.id, *((subject,) if subject else ())),
                kind=message.kind,
                reply=reply.name.lower(),
                reason=reason,
            )
        )

    def _reply(self, reply: Reply, reason: str, text: str) -> delivery_pb2.DeliverResponse:
        return delivery_pb2.DeliverResponse(
            reply=int(reply),  # type: ignore[arg-type]
            reason=reason,
            text=text[:2000],
            epoch=self._node.epoch,
        )

    # --- handlers: each checks, then returns the subject and the effect ---

    def _referral(self, message: _Message) -> tuple[str, _Effect]:
        node, payload, body = self._node, message.payload, message.payload.referral
        check_id(body.id, "referral")
        check_id(body.root, "referral root")
        node.check_purpose(payload.purpose, payload.case_ref)
        series = self._told_series(body.series, Origin.REFERRAL, payload.case_ref)
        self._check_source(message, series, body)
        node.allow(
            node.question(
                Action.BE_TOLD,
                asker=node.agency,
                holder=message.peer,
                purpose=payload.purpose,
                handling=series.handling,
                owner=series.owner,
            )
            if series.owner == message.peer
            else node.question(
                Action.PASS_ON,
                asker=message.peer,
                holder=node.agency,
                purpose=payload.purpose,
                handling=series.handling,
                owner=series.owner,
            ),
            f"a referral of {series.owner} from {message.peer}",
        )
        referral = Referral(
            id=body.id,
            root=body.root,
            series=series.id,
            direction=Direction.IN,
            sender=message.peer,
            recipient=node.agency,
            country=check_country(body.country) if body.country else "",
            urgency=parse_urgency(body.urgency),
            purpose=payload.purpose,
            case_ref=payload.case_ref,
            person=payload.person,
            created=moment(payload.issue_time),
            note=clean(body.note),
        )

        def effect(tx: Tx) -> None:
            if tx.referrals.get(referral.id) is not None:
                raise InvalidInput("a referral of this id is known")
            self._keep_series(tx, series, body.series)
            self._claim(tx, message, body.items if body.HasField("items") else None, series)
            tx.referrals.add(referral)
            tx.referrals.add_step(
                ReferralStep(
                    id=payload.id,
                    referral=referral.id,
                    state=ReferralState.DELIVERED,
                    agency=node.agency,
                    person="",
                    at=node.clock(),
                )
            )

        return referral.id, effect

    def _check_source(self, message: _Message, series: Series, body: payload_pb2.Referral) -> None:
        """Only the owner refers its series; who passes it on shows the owner's signed referral.

        The inner envelope was made for whoever passes it on, and names the same series and root.
        """
        if series.owner == message.peer:
            return
        if series.owner == self._node.agency:
            raise InvalidInput("the series is this agency's own")
        if not body.HasField("original"):
            raise SignatureRefused(f"a series of {series.owner} comes without its own envelope")
        inner = open_payload(
            body.original,
            directory=self._node.directory(),
            issuer=series.owner,
            audience=Audience(agency=message.peer),
            now=self._node.clock(),
        )
        if (
            inner.WhichOneof("body") != "referral"
            or inner.referral.series.id != series.id
            or inner.referral.root != body.root
            or inner.referral.series.handling != body.series.handling
        ):
            raise SignatureRefused("the envelope inside is about something else")

    def _referral_step(self, message: _Message) -> tuple[str, _Effect]:
        payload, body = message.payload, message.payload.referral_step
        check_id(body.id, "step")
        try:
            state = ReferralState(body.state)
        except ValueError:
            raise InvalidInput(f"{body.state!r} is no step of a referral") from None
        at = moment(body.step_time)

        def effect(tx: Tx) -> None:
            known = tx.referrals.get(body.referral) or tx.referrals.get(body.root)
            if known is None or known.direction is not Direction.OUT:
                raise NotFound("this referral is not known here")
            if known.id == body.referral and known.recipient != message.peer:
                raise SignatureRefused(f"{message.peer} is not who was told")
            if known.id != body.referral and state is not ReferralState.OUTCOME:
                stated = f"{message.peer}: {state.value}. {clean(body.text)}"
                tx.referrals.add_step(
                    ReferralStep(
                        id=body.id,
                        referral=known.id,
                        state=ReferralState.PASSED_ON,
                        agency=message.peer,
                        person=payload.person,
                        at=at,
                        text=stated[:2000],
                        passed_to=body.passed_to,
                    )
                )
                return
            outcome = outcome_in(body.outcome) if body.HasField("outcome") else None
            tx.referrals.add_step(
                ReferralStep(
                    id=body.id,
                    referral=known.id,
                    state=state,
                    agency=message.peer,
                    person=payload.person,
                    at=at,
                    text=clean(body.text),
                    passed_to=body.passed_to,
                    outcome=outcome,
                )
            )
            apply_outcome(tx, known.series, outcome)

        return body.referral, effect

    def _broadcast(self, message: _Message) -> tuple[str, _Effect]:
        node, payload, body = self._node, message.payload, message.payload.broadcast
        check_id(body.id, "broadcast")
        node.check_purpose(payload.purpose, payload.case_ref)
        notice = body.series
        if body.HasField("original"):
            inner = open_payload(
                body.original,
                directory=node.directory(),
                issuer=None,
                audience=Audience(agency=message.peer),
                now=node.clock(),
            )
            if inner.WhichOneof("body") != "referral":
                raise SignatureRefused("the envelope inside is no referral")
            if series_owner(inner.referral.series.id) != inner.issuer:
                raise SignatureRefused("the envelope inside is not by the series' owner")
            notice = inner.referral.series
        elif series_owner(notice.id) != message.peer:
            raise SignatureRefused("a series of somebody else comes without its own envelope")
        series = self._told_series(notice, Origin.BROADCAST, payload.case_ref)
        node.allow(
            node.question(
                Action.RECEIVE_BROADCAST,
                asker=node.agency,
                holder=message.peer,
                purpose=payload.purpose,
                handling=series.handling,
                owner=series.owner,
            ),
            f"a broadcast of {message.peer}",
        )
        broadcast = Broadcast(
            id=body.id,
            series=series.id,
            direction=Direction.IN,
            sender=message.peer,
            originator=series.owner,
            group=payload.audience_group,
            group_version=payload.audience_group_version,
            purpose=payload.purpose,
            case_ref=payload.case_ref,
            person=payload.person,
            question=clean(body.question),
            created=moment(payload.issue_time),
            state=BroadcastRecipientState.DELIVERED,
        )

        def effect(tx: Tx) -> None:
            if tx.broadcasts.get(broadcast.id) is not None:
                raise InvalidInput("a broadcast of this id is known")
            self._keep_series(tx, series, notice)
            self._claim(tx, message, body.items if body.HasField("items") else None, series)
            tx.broadcasts.add(broadcast, [node.agency])
            tx.broadcasts.set_recipient(
                broadcast.id, node.agency, BroadcastRecipientState.DELIVERED
            )

        return broadcast.id, effect

    def _broadcast_answer(self, message: _Message) -> tuple[str, _Effect]:
        payload, body = message.payload, message.payload.broadcast_answer
        check_id(body.id, "answer")
        acknowledged = body.kind == ACKNOWLEDGE
        answer = None if acknowledged else answer_in(body, message.peer, payload.person)

        def effect(tx: Tx) -> None:
            broadcast = tx.broadcasts.get(body.broadcast)
            if broadcast is None or broadcast.direction is not Direction.OUT:
                raise NotFound("this broadcast is not known here")
            if message.peer not in tx.broadcasts.recipients(broadcast.id):
                raise SignatureRefused(f"{message.peer} was not asked")
            state = (
                BroadcastRecipientState.ACKNOWLEDGED
                if acknowledged
                else BroadcastRecipientState.ANSWERED
            )
            tx.broadcasts.set_recipient(broadcast.id, message.peer, state)
            if answer is None:
                return
            tx.broadcasts.add_answer(answer)
            series = tx.series.get(broadcast.series)
            if series is not None and answer.country:
                add_assessment(tx, series, _assessment(message, answer.country, series.id))

        return body.broadcast, effect

    def _upload(self, message: _Message) -> tuple[str, _Effect]:
        node, payload, body = self._node, message.payload, message.payload.upload
        check_id(body.id, "upload")
        node.check_purpose(payload.purpose, payload.case_ref)
        series = self._told_series(body.series, Origin.UPLOAD, payload.case_ref)
        node.allow(
            node.question(
                Action.ACCEPT_UPLOAD,
                asker=message.peer,
                holder=node.agency,
                purpose=payload.purpose,
                handling=series.handling,
                owner=series.owner,
            ),
            f"a deposit of {message.peer}",
        )
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
            self._keep_series(tx, series, body.series)
            self._claim(tx, message, body.items if body.HasField("items") else None, series)
            tx.uploads.add(upload)
            known = tx.series.get(series.id)
            if known is not None and known.number:
                take_step(node, tx, upload, UploadState.NUMBERED, known.number, "")

        return upload.id, effect

    def _upload_step(self, message: _Message) -> tuple[str, _Effect]:
        payload, body = message.payload, message.payload.upload_step
        check_id(body.id, "step")
        try:
            state = UploadState(body.state)
        except ValueError:
            raise InvalidInput(f"{body.state!r} is no state of an upload") from None
        step = UploadStep(
            id=body.id,
            upload=body.upload,
            state=state,
            agency=message.peer,
            person=payload.person,
            at=moment(body.step_time),
            reference=clean(body.reference),
        )

        def effect(tx: Tx) -> None:
            upload = tx.uploads.get(body.upload)
            if upload is None or upload.direction is not Direction.OUT:
                raise NotFound("this upload is not known here")
            if upload.repository != message.peer:
                raise SignatureRefused(f"{message.peer} is not the repository of this upload")
            tx.uploads.add_step(step)

        return body.upload, effect

    # --- shared ---

    def _told_series(
        self, notice: series_pb2.SeriesNotice, origin: Origin, case_ref: str
    ) -> Series:
        series = series_in(notice, origin, case_ref)
        if series.handling.retain_until <= self._node.clock().date():
            raise InvalidInput("its retention date is past")
        return series

    def _keep_series(self, tx: Tx, series: Series, notice: series_pb2.SeriesNotice) -> None:
        """Add a received series, or add what is new of it: references and assessments."""
        known = tx.series.get(series.id)
        if known is None:
            tx.series.add(series)
        else:
            fresh = [one for one in series.references if one not in known.references]
            tx.series.add_references(series.id, fresh)
        have = {one.id for one in tx.series.assessments(series.id)}
        for message in notice.assessments:
            assessment = assessment_in(message)
            if assessment.series != series.id:
                raise InvalidInput("an assessment of another series")
            if assessment.id not in have:
                tx.series.add_assessment(assessment)

    def _claim(
        self,
        tx: Tx,
        message: _Message,
        reference: series_pb2.AttachmentRef | None,
        series: Series,
    ) -> None:
        if reference is None:
            return
        try:
            attachments.claim(
                tx,
                message.peer,
                reference,
                series=series.id,
                case_ref=message.payload.case_ref,
                handling=replace(series.handling),
            )
        except WrongState as error:
            raise _NotYet(error.message) from None


def _items_of(payload: payload_pb2.Payload) -> series_pb2.AttachmentRef | None:
    body = getattr(payload, payload.WhichOneof("body") or "", None)
    if isinstance(body, payload_pb2.Referral | payload_pb2.Broadcast | payload_pb2.Upload):
        return body.items if body.HasField("items") else None
    return None


def _assessment(message: _Message, country: str, series: str) -> Assessment:
    body = message.payload.broadcast_answer
    return Assessment(
        id=body.id,
        series=series,
        agency=message.peer,
        person=message.payload.person,
        country=country,
        confidence=Confidence(body.confidence or int(Confidence.MEDIUM)),
        grounds=clean(body.text) or "answer to a broadcast",
        confirmed=False,
        eliminated=body.kind == "eliminate",
        made=moment(body.answer_time),
    )
