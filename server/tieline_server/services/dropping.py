"""Deposits through a folder, as the node keeps them: they go through an upload's states too.

1. A drop is recorded once it stands in the folder; its name, which follows from its content, is
   the reference of the announcing step, so that recording it again changes nothing. The export
   behind it asked policy; it is asked again here, where the deposit comes to be.
2. What the database says comes in a file. Each thing it says of a series has an id that follows
   from what is said, so that the same file read twice, or one half applied before a crash, adds
   nothing twice: the number is a step of the deposit, the rest a line of the series' history.
3. Items of an identified victim make the series identified, as a report by message does.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid5

from tieline.v1 import operator_deposits_pb2 as pb
from tieline.v1 import operator_pb2
from tieline_client.errors import InvalidInput, NotFound, PolicyRefused
from tieline_client.identifiers import new_id

from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction
from tieline_server.domain.request import Use
from tieline_server.domain.series import Series, SeriesStatus
from tieline_server.domain.series_life import EventKind, SeriesEvent
from tieline_server.domain.upload import Upload, UploadState, UploadStep
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.permissions import forward_question, held, hint
from tieline_server.services.restricting import still
from tieline_server.services.series_life import advance
from tieline_server.services.views import find_held, upload_view

_SAID = UUID("6f1d8a52-6a43-5c8e-9b53-0c1f6f0f7a10")
"""Namespace of what files of repositories say."""


def drop_of(tx: Tx, upload: Upload) -> str:
    """Return the drop that a deposit was made with; "" for one that went as a message."""
    announced = (
        s.reference for s in tx.uploads.steps(upload.id) if s.state is UploadState.ANNOUNCED
    )
    return next(announced, "")


class Drops:
    """Records drops, and what comes back of them."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def record(
        self, person: Person, request: pb.RecordDropRequest
    ) -> list[operator_pb2.UploadView]:
        """Keep a drop as deposits. Raises InvalidInput, NotFound, WrongState, PolicyRefused."""
        node = self._node
        node.check_purpose(request.purpose, request.case_ref)
        self._check(request.repository)
        if not request.drop or not request.series:
            raise InvalidInput("name the drop and its series")
        return node.store.write(
            lambda tx: [self._record(tx, person, one, request) for one in request.series]
        )

    def _check(self, repository: str) -> None:
        member = self._node.directory().member(repository)
        if str(member.role) != "repository":
            raise InvalidInput(f"{repository} is no repository; see `tieline peers`")

    def _record(
        self, tx: Tx, person: Person, one: pb.DroppedSeries, request: pb.RecordDropRequest
    ) -> operator_pb2.UploadView:
        node, to = self._node, request.repository
        series = still(tx, find_held(tx, one.series), to)
        drop = clean(request.drop)
        for known in tx.uploads.find(Direction.OUT, series.id):
            if known.repository == to and drop_of(tx, known) == drop:
                return upload_view(tx, known, unchanged=True)
        rules, permission = self._allow(tx, series, request)
        upload = Upload(
            id=new_id(),
            series=series.id,
            direction=Direction.OUT,
            sender=node.agency,
            repository=to,
            purpose=request.purpose,
            case_ref=clean(request.case_ref),
            person=person.name,
            created=node.clock(),
            items=one.records,
        )
        tx.uploads.add(upload)
        tx.uploads.add_step(self._step(upload, new_id(), UploadState.ANNOUNCED, drop, person))
        tx.audit.append(
            node.entry(
                "upload.dropped",
                person=person.name,
                peer=to,
                purpose=upload.purpose,
                case_ref=upload.case_ref,
                subjects=(upload.id, series.id),
                rules=rules,
                items=one.records,
                drop=drop,
                **({"permission": permission} if permission else {}),
            )
        )
        return upload_view(tx, tx.uploads.get(upload.id) or upload)

    def _allow(
        self, tx: Tx, series: Series, request: pb.RecordDropRequest
    ) -> tuple[tuple[str, ...], str]:
        node, to, purpose = self._node, request.repository, request.purpose
        question = forward_question(node, Use.UPLOAD, node.agency, to, series, purpose)
        permission = held(node, tx, series.id, Use.UPLOAD, (to,), purpose)
        decision = node.policy.decide(replace(question, permission=permission is not None))
        if not decision.allowed:
            ask = hint(node, question, Use.UPLOAD, series.id, to, request.case_ref)
            why = f"depositing {series.id} in {to}: {decision.why}{ask}"
            raise PolicyRefused(why, rules=" ".join(decision.rules))
        return decision.rules, permission.request if permission else ""

    def _step(
        self, upload: Upload, identifier: str, state: UploadState, reference: str, person: Person
    ) -> UploadStep:
        ours = state is UploadState.ANNOUNCED
        return UploadStep(
            id=identifier,
            upload=upload.id,
            state=state,
            agency=self._node.agency if ours else upload.repository,
            person=person.name,
            at=self._node.clock(),
            reference=reference,
        )

    def answer(self, person: Person, request: pb.TakeAnswerRequest) -> int:
        """Apply what a repository's file says; return how many things were new.

        Raises InvalidInput, or NotFound for a series without a recorded drop; then nothing is.
        """
        self._check(request.repository)

        def work(tx: Tx) -> int:
            return sum(self._take(tx, person, request.repository, one) for one in request.answers)

        return self._node.store.write(work)

    def _take(self, tx: Tx, person: Person, repository: str, said: pb.SeriesAnswer) -> int:
        if said.held > said.deposited:
            raise InvalidInput("more items are held than were dropped")
        series = find_held(tx, said.series)
        if series.status is SeriesStatus.WITHDRAWN:
            return 0
        dropped = [
            one
            for one in tx.uploads.find(Direction.OUT, series.id)
            if one.repository == repository and drop_of(tx, one)
        ]
        if not dropped:
            raise NotFound(f"no drop of {series.id} is recorded here; run `upload drop` once more")
        number = clean(said.number)
        news = 0
        for upload in dropped:
            if number and upload.state is not UploadState.WITHDRAWN:
                identifier = str(uuid5(UUID(upload.id), f"numbered {number}"))
                step = self._step(upload, identifier, UploadState.NUMBERED, number, person)
                news += tx.uploads.add_step(step)
        if number and not series.number:
            tx.series.set_number(series.id, number)
        news += self._line(tx, person, repository, series, said)
        if news:
            self._log(tx, person, dropped[-1], said)
        return news

    def _line(
        self, tx: Tx, person: Person, repository: str, series: Series, said: pb.SeriesAnswer
    ) -> int:
        """Add what is said to the history, unless it is there, and what follows of it."""
        identified = said.identified > 0
        number = f"{said.number}, " if said.number else ""
        words = (
            f"{number}{said.held} of {said.deposited} items held, "
            f"{said.submissions} submissions, {said.baseline} items baseline, "
            f"{said.identified} of an identified victim; by file"
        )
        identifier = str(uuid5(_SAID, f"{repository} {series.id} {words}"))
        if any(one.id == identifier for one in tx.history.of(series.id)):
            return 0
        at = self._node.clock()
        tx.history.add(
            SeriesEvent(
                id=identifier,
                series=series.id,
                kind=EventKind.REPOSITORY,
                agency=repository,
                person=person.name,
                at=at,
                before=series.status.value,
                after=SeriesStatus.IDENTIFIED.value if identified else "",
                text=clean(words),
            )
        )
        if identified and series.status is not SeriesStatus.CLOSED:
            who = {"agency": repository, "person": person.name}
            advance(tx, series, SeriesStatus.IDENTIFIED, at=at, **who)
        return 1

    def _log(self, tx: Tx, person: Person, upload: Upload, said: pb.SeriesAnswer) -> None:
        tx.audit.append(
            self._node.entry(
                "upload.answer-read",
                person=person.name,
                peer=upload.repository,
                purpose=upload.purpose,
                case_ref=upload.case_ref,
                subjects=(upload.id, upload.series),
                number=clean(said.number),
                held=said.held,
                submissions=said.submissions,
                baseline=said.baseline,
                identified=said.identified,
            )
        )
