"""What a repository tells the agencies that deposited a series, and what they make of it.

1. Series that bear one number of the repository are one there, whoever deposited them. How many
   agencies and deposits brought it is its number of submissions.
2. When a person of the repository numbers a series or moves it on (`series status`), each agency
   with a deposit of it that stands gets a signed report on its own series. Policy is asked whether
   it may learn a reference, the person's act being the confirmation; whoever may not is passed
   over, and the log says so.
3. The depositor asks policy the same question. A report is a line of the series' history, applied
   once by its id; the message itself is kept, and the latest one is what `series show` says of the
   repository. *Identified* there raises the own series to identified; no other status does.
4. A withdrawn deposit gets no report, and one that crosses with the withdrawal is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tieline.v1 import deposits_pb2, envelope_pb2, payload_pb2
from tieline_client.identifiers import new_id
from tieline_client.payloads import timestamp

from tieline_server.domain.messages import Reply
from tieline_server.domain.policy import Action, Question
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction, Urgency
from tieline_server.domain.series import Series, SeriesStatus
from tieline_server.domain.upload import Upload, UploadState
from tieline_server.services.context import Node
from tieline_server.services.legal_basis import legal_basis
from tieline_server.services.restricting import why_excluded
from tieline_server.services.sending import send

KIND = "deposit_report"


def is_repository(node: Node) -> bool:
    """Whether this node is a repository's."""
    return str(node.directory().member(node.agency).role) == "repository"


def one_there(tx: Tx, series: Series) -> list[str]:
    """Return the ids of all series that are one with this in the repository: parts, and those of
    the same number."""
    numbered = tx.series.numbered(series.number) if series.number else []
    ids = dict.fromkeys([series.id, *numbered])
    return list(dict.fromkeys(part for one in ids for part in tx.aliases.family(one)))


def standing(tx: Tx, direction: Direction, series: Iterable[str]) -> list[Upload]:
    """Return the deposits of series that are not withdrawn."""
    found = (one for each in series for one in tx.uploads.find(direction, each))
    return [one for one in found if one.state is not UploadState.WITHDRAWN]


def learning(node: Node, series: Series, depositor: str, repository: str, purpose: str) -> Question:
    """The question whether a depositor may learn where its series stands."""
    question = node.question(
        Action.LEARN_REFERENCE,
        asker=depositor,
        holder=repository,
        purpose=purpose,
        handling=series.handling,
        owner=series.owner,
    )
    return replace(question, confirmed=True)


@dataclass(frozen=True, slots=True)
class _Count:
    agencies: int
    deposits: int
    baseline: int


def _count(tx: Tx, series: Series) -> _Count:
    together = one_there(tx, series)
    uploads = standing(tx, Direction.IN, together)
    baseline = tx.deposits.held(together).baseline
    return _Count(len({one.sender for one in uploads}), len(uploads), baseline)


def compose(node: Node, tx: Tx, series: Series) -> deposits_pb2.DepositReport:
    """Return what this repository says of a series now."""
    count = _count(tx, series)
    return deposits_pb2.DepositReport(
        id=new_id(),
        series=series.id,
        number=series.number,
        status=series.status.value,
        identified=series.identified,
        items=tx.deposits.held(tx.aliases.family(series.id)).items,
        agencies=count.agencies,
        deposits=count.deposits,
        baseline=count.baseline,
        report_time=timestamp(node.clock()),
    )


def report(node: Node, tx: Tx, series_id: str, person: str) -> set[str]:
    """Tell every depositor of a series, and of those that are one with it; return who has mail."""
    first = tx.series.get(series_id)
    if first is None or first.status is SeriesStatus.WITHDRAWN:
        return set()
    woken = set()
    for one in one_there(tx, first):
        series = tx.series.get(one)
        if series is None or series.status is SeriesStatus.WITHDRAWN:
            continue
        last = {upload.sender: upload for upload in standing(tx, Direction.IN, [one])}
        for upload in last.values():
            if _tell(node, tx, series, upload, person):
                woken.add(upload.sender)
    return woken


def _tell(node: Node, tx: Tx, series: Series, upload: Upload, person: str) -> bool:
    if node.cut_off(upload.sender) or why_excluded(tx, series.id, upload.sender):
        return False
    question = learning(node, series, upload.sender, node.agency, upload.purpose)
    decision = node.policy.decide(question)
    body = compose(node, tx, series)
    tx.audit.append(
        node.entry(
            "deposit.reported" if decision.allowed else "deposit.not-reported",
            person=person,
            peer=upload.sender,
            purpose=upload.purpose,
            case_ref=upload.case_ref,
            subjects=(upload.id, series.id),
            rules=decision.rules,
            status=body.status,
            number=body.number,
            **legal_basis(node, [upload.sender]),
        )
    )
    if not decision.allowed:
        return False
    payload = payload_pb2.Payload(
        person=person, purpose=upload.purpose, case_ref=upload.case_ref, deposit_report=body
    )
    send(node, tx, payload, recipient=upload.sender, lane=Urgency.ROUTINE, subject=series.id)
    return True


def views(node: Node, tx: Tx, series: Series) -> list[deposits_pb2.RepositoryView]:
    """Return what is known of a series in repositories: here, or as each last said."""
    if is_repository(node):
        if not standing(tx, Direction.IN, one_there(tx, series)):
            return []
        said = compose(node, tx, series)
        said.ClearField("id")
        return [deposits_pb2.RepositoryView(repository=node.agency, report=said)]
    latest: dict[str, deposits_pb2.RepositoryView] = {}
    for message in tx.inbox.by_subject(series.id):
        if message.kind != KIND or message.reply is not Reply.APPLIED or not message.envelope:
            continue
        envelope = envelope_pb2.Envelope.FromString(message.envelope)
        payload = payload_pb2.Payload.FromString(envelope.payload)
        one = deposits_pb2.RepositoryView(
            repository=message.sender, report=payload.deposit_report, person=payload.person
        )
        known = latest.get(message.sender)
        if known is None or _when(known) <= _when(one):
            latest[message.sender] = one
    return [latest[agency] for agency in sorted(latest)]


def _when(view: deposits_pb2.RepositoryView) -> tuple[int, int]:
    at = view.report.report_time
    return at.seconds, at.nanos


def in_words(body: deposits_pb2.DepositReport) -> str:
    """Return a report as a line of a history."""
    number = f"{body.number}, " if body.number else ""
    brought = f"{body.deposits} submissions by {body.agencies} agencies"
    return f"{number}{body.items} items held, {brought}, {body.baseline} items baseline"
