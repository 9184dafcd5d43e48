"""Uploads: deposits in a repository, and the repository's steps up to its own series number.

A second upload of a grown series carries only what is new since the last one; of an unchanged
series there is none: the known deposit is shown again. The repository numbers additions to a series
it has numbered before at once, under the same number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tieline.v1 import operator_pb2, payload_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput, NotFound, PolicyRefused, RoleRefused
from tieline_client.identifiers import new_id
from tieline_client.payloads import timestamp

from tieline_server.domain import upload as states
from tieline_server.domain.messages import OutState
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction, Urgency
from tieline_server.domain.request import Use
from tieline_server.domain.series import Series
from tieline_server.domain.upload import Upload, UploadState, UploadStep
from tieline_server.services.attachments import Packed, pack_series
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.deposit_reports import report
from tieline_server.services.grown import grew_by_a_merge
from tieline_server.services.held_under import with_items
from tieline_server.services.legal_basis import legal_basis
from tieline_server.services.notices import logged_references, series_out
from tieline_server.services.permissions import Held, forward_question, held, hint
from tieline_server.services.restricting import still
from tieline_server.services.retracting import accompany
from tieline_server.services.sending import send
from tieline_server.services.views import find_held, upload_view


@dataclass(frozen=True, slots=True)
class _Deposit:
    series: Series
    generation: int
    last: Upload | None
    packed: Packed | None
    rules: tuple[str, ...]
    permission: Held | None


class Uploading:
    """The depositor's side and the repository's side."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def upload(
        self, person: Person, request: operator_pb2.UploadSeriesRequest
    ) -> list[operator_pb2.UploadView]:
        """Deposit each series. Raises InvalidInput, NotFound or PolicyRefused; then none is."""
        node = self._node
        node.check_purpose(request.purpose, request.case_ref)
        repository = node.directory().member(request.repository)
        if str(repository.role) != "repository":
            raise InvalidInput(f"{request.repository} is no repository; see `tieline peers`")
        if not request.series:
            raise InvalidInput("name at least one series")
        deposits = [self._prepare(name, request) for name in request.series]
        views = node.store.write(
            lambda tx: [self._deposit(tx, person, one, request) for one in deposits]
        )
        node.wake(request.repository)
        return views

    def _prepare(self, name: str, request: operator_pb2.UploadSeriesRequest) -> _Deposit:
        node = self._node
        series, last, generation = node.store.read(
            lambda tx: (
                (found := with_items(tx, find_held(tx, name))),
                self._last(tx, found.id, request.repository),
                tx.items.generation(),
            )
        )
        to, purpose = request.repository, request.purpose
        question = forward_question(node, Use.UPLOAD, node.agency, to, series, purpose)
        permission = node.store.read(
            lambda tx: held(node, tx, series.id, Use.UPLOAD, (to,), purpose)
        )
        decision = node.policy.decide(replace(question, permission=permission is not None))
        if not decision.allowed:
            raise PolicyRefused(
                f"depositing {series.id} in {to}: {decision.why}"
                f"{hint(node, question, Use.UPLOAD, series.id, to, request.case_ref)}",
                rules=" ".join(decision.rules),
            )
        since = last.generation if last else 0
        if last and node.store.read(lambda tx: grew_by_a_merge(tx, series.id, last.created)):
            since = 0  # the items of its new part came before the last deposit
        packed = pack_series(node, series.id, request.repository, since, series.handling)
        if packed is None and last is None:
            raise InvalidInput(f"series {series.id} has no items; import some first")
        return _Deposit(series, generation, last, packed, decision.rules, permission)

    @staticmethod
    def _last(tx: Tx, series: str, repository: str) -> Upload | None:
        """The latest deposit of a series there that stands; one that was refused never was."""
        standing = [
            one
            for one in tx.uploads.find(Direction.OUT, series)
            if one.repository == repository and one.state is not UploadState.WITHDRAWN
            if not _refused(tx, one)
        ]
        return max(standing, key=lambda one: (one.generation, one.id), default=None)

    def _deposit(
        self,
        tx: Tx,
        person: Person,
        one: _Deposit,
        request: operator_pb2.UploadSeriesRequest,
    ) -> operator_pb2.UploadView:
        node = self._node
        last = self._last(tx, one.series.id, request.repository)
        if last is not None and (one.packed is None or last != one.last):
            return upload_view(tx, last, unchanged=True)
        if one.packed is None:
            raise InvalidInput(f"series {one.series.id} has no items; import some first")
        series = still(tx, one.series, request.repository)
        items = one.packed.attachment.items
        upload = Upload(
            id=new_id(),
            series=one.series.id,
            direction=Direction.OUT,
            sender=node.agency,
            repository=request.repository,
            purpose=request.purpose,
            case_ref=clean(request.case_ref),
            person=person.name,
            created=node.clock(),
            items=items,
            generation=one.generation,
        )
        tx.uploads.add(upload)
        total = tx.items.count_of_series(one.series.id)
        assessments = list(tx.series.assessments(one.series.id))
        payload = payload_pb2.Payload(
            person=person.name,
            purpose=upload.purpose,
            case_ref=upload.case_ref,
            upload=payload_pb2.Upload(
                id=upload.id,
                series=series_out(series, assessments, total, with_name=False),
                items=one.packed.reference(),
                permission=one.permission.envelope if one.permission else None,
            ),
        )
        send(
            node,
            tx,
            payload,
            recipient=request.repository,
            lane=Urgency.ROUTINE,
            subject=upload.id,
            items=one.packed,
        )
        accompany(node, tx, series.id, request.repository)
        tx.audit.append(
            node.entry(
                "upload.sent",
                person=person.name,
                peer=request.repository,
                purpose=upload.purpose,
                case_ref=upload.case_ref,
                subjects=(upload.id, one.series.id),
                rules=one.rules,
                items=items,
                references=logged_references(one.series.references),
                **({"permission": one.permission.request} if one.permission else {}),
                **legal_basis(node, [request.repository]),
            )
        )
        return upload_view(tx, upload)

    def find(self) -> list[operator_pb2.UploadView]:
        """Deposits made or received, newest first."""
        return self._node.store.read(
            lambda tx: [upload_view(tx, one) for one in reversed(tx.uploads.find())]
        )

    # --- the repository's side ---

    def step(
        self, person: Person, request: operator_pb2.StepUploadRequest
    ) -> operator_pb2.UploadView:
        """Move a received deposit on. Raises RoleRefused, NotFound, InvalidInput, WrongState."""
        node = self._node
        if str(node.directory().member(node.agency).role) != "repository":
            raise RoleRefused("only the repository moves an upload on")
        try:
            wanted = UploadState(request.state)
        except ValueError:
            raise InvalidInput(f"{request.state!r} is no state of an upload") from None

        def work(tx: Tx) -> tuple[operator_pb2.UploadView, set[str]]:
            upload = tx.uploads.get(request.id)
            if upload is None or upload.direction is not Direction.IN:
                raise NotFound(f"no upload {request.id[:40]!r} came in; see `tieline uploads`")
            take_step(node, tx, upload, wanted, clean(request.reference), person.name)
            woken = {upload.sender}
            if wanted is UploadState.NUMBERED:
                woken |= report(node, tx, upload.series, person.name)
            return upload_view(tx, tx.uploads.get(upload.id) or upload), woken

        view, woken = node.store.write(work)
        for agency in sorted(woken):
            node.wake(agency)
        return view


def take_step(
    node: Node, tx: Tx, upload: Upload, wanted: UploadState, reference: str, person: str
) -> None:
    """Record a repository's step and tell the depositor. A number is made where none is given."""
    if wanted is UploadState.NUMBERED:
        reference = _number(node, tx, upload.series, reference)
    states.check_step(upload.state, wanted, reference)
    step = UploadStep(
        id=new_id(),
        upload=upload.id,
        state=wanted,
        agency=node.agency,
        person=person,
        at=node.clock(),
        reference=reference,
    )
    tx.uploads.add_step(step)
    if wanted is UploadState.NUMBERED:
        tx.series.set_number(upload.series, reference)
    payload = payload_pb2.Payload(
        person=person,
        purpose=upload.purpose,
        case_ref=upload.case_ref,
        upload_step=payload_pb2.UploadStep(
            id=step.id,
            upload=upload.id,
            state=wanted.value,
            reference=reference,
            step_time=timestamp(step.at),
        ),
    )
    send(
        node,
        tx,
        payload,
        recipient=upload.sender,
        lane=Urgency.ROUTINE,
        subject=upload.id,
    )
    tx.audit.append(
        node.entry(
            f"upload.{wanted.value}",
            person=person,
            peer=upload.sender,
            purpose=upload.purpose,
            case_ref=upload.case_ref,
            subjects=(upload.id, upload.series),
            reference=reference,
        )
    )


def _refused(tx: Tx, upload: Upload) -> bool:
    """Whether the repository's node did not take a deposit."""
    sent = (one for one in tx.outbox.of_subject(upload.id) if one.kind == "upload")
    return any(one.state is OutState.REFUSED for one in sent)


def _number(node: Node, tx: Tx, series_id: str, given: str) -> str:
    """Return the number of a series: the given one, the one that it has, or the next.

    The next one is taken in the caller's transaction, and no series bears it: one that a person
    gave is passed over from then on. Raises InvalidInput.
    """
    if len(given) > limits.SERIES_NUMBER_CHARS:
        raise InvalidInput(f"a series number has at most {limits.SERIES_NUMBER_CHARS} characters")
    series = tx.series.get(series_id)
    given = given or (series.number if series else "")
    numbering = node.defaults.numbering
    if given:
        tx.uploads.number_used(numbering.own(node.agency, given) or 0)
        return given
    tx.uploads.number_used(numbering.first - 1)
    while True:
        number = numbering.text(node.agency, node.clock().year, tx.uploads.next_number())
        if not tx.series.numbered(number):
            return number
