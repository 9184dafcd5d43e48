"""Notes between agencies on a series that they share.

1. A person writes; it goes to every agency that has the series as far as this node knows (or to one
   of them), each under the id by which it knows the series, where policy allows it and no
   restriction keeps it from that agency.
2. In one transaction: the note here, a signed Note to each, the audit entry.
3. A note is about the series and goes where the series goes: whoever is told to erase that erases
   its notes (storage/series_notes.py:erase).
"""

from __future__ import annotations

from tieline.v1 import links_pb2, operator_links_pb2, payload_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput, LimitExceeded, PolicyRefused, WrongState
from tieline_client.handling import Handling
from tieline_client.identifiers import new_id
from tieline_client.payloads import timestamp

from tieline_server.domain.policy import Action, Question
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction, Urgency
from tieline_server.domain.series import Series, SeriesStatus
from tieline_server.domain.series_note import SeriesNote
from tieline_server.services.context import Node, Person, about, clean
from tieline_server.services.legal_basis import legal_basis
from tieline_server.services.notices import handling_out
from tieline_server.services.restricting import still
from tieline_server.services.sending import send
from tieline_server.services.split_items import led_to
from tieline_server.services.tips import holders
from tieline_server.services.views import find_series


class NoteDesk:
    """What people write."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def add(
        self, person: Person, request: operator_links_pb2.AddNoteRequest
    ) -> operator_links_pb2.AddNoteResponse:
        """Write a note. Raises NotFound, InvalidInput, WrongState, LimitExceeded, or PolicyRefused
        when nobody may be told; where only some may not, they are named with the reason."""
        node = self._node
        node.check_purpose(request.purpose, request.case_ref)
        text = check_text(request.text)

        def work(tx: Tx) -> operator_links_pb2.AddNoteResponse:
            series = find_series(tx, request.series)
            if series.status is SeriesStatus.WITHDRAWN:
                raise WrongState("the series is withdrawn; nothing is written about it any more")
            check_room(tx, series.id)
            allowed, refused, rules = self._recipients(tx, series, request)
            note = SeriesNote(
                id=new_id(),
                series=series.id,
                agency=node.agency,
                person=person.name,
                at=node.clock(),
                text=text,
                told=tuple(sorted(allowed)),
            )
            tx.notes.add(note)
            for agency, known in sorted(allowed.items()):
                _send(node, tx, note, series.handling, agency, known, request)
            tx.audit.append(
                node.entry(
                    "series.noted",
                    person=person.name,
                    peer="",
                    purpose=request.purpose,
                    case_ref=clean(request.case_ref),
                    subjects=(series.id, note.id),
                    rules=rules,
                    told=sorted(allowed),
                    **legal_basis(node, allowed),
                )
            )
            return operator_links_pb2.AddNoteResponse(note=note_view(note), refused=refused)

        with about(request.purpose, request.case_ref, person.name):
            response = node.store.write(work)
        for agency in response.note.told:
            node.wake(agency)
        return response

    def _recipients(
        self, tx: Tx, series: Series, request: operator_links_pb2.AddNoteRequest
    ) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
        """Return who is told, each with the id by which it knows the series; who is not, and why;
        and the rules that allow it."""
        node, known = self._node, partners(self._node, tx, series.id)
        if request.agency:
            if request.agency not in known:
                raise InvalidInput(f"{request.agency} does not have the series; refer it first")
            known = {request.agency: known[request.agency]}
        if not known:
            raise WrongState("no other agency has the series; refer it first")
        allowed: dict[str, str] = {}
        refused: dict[str, str] = {}
        rules: set[str] = set()
        for agency, name in known.items():
            try:
                current = still(tx, series, agency)
                question = note_question(
                    node, current.owner, current.handling, node.agency, agency, request.purpose
                )
                rules.update(node.allow(question, f"a note on {series.id}"))
            except PolicyRefused as error:
                refused[agency] = error.message
            else:
                allowed[agency] = name
        if not allowed:
            why = "; ".join(f"{agency}: {reason}" for agency, reason in sorted(refused.items()))
            raise PolicyRefused(f"nobody may be told: {why}")
        return allowed, refused, tuple(sorted(rules))


def check_text(text: str) -> str:
    """Return a note's text as it may be kept; raise InvalidInput for an empty or too long one."""
    kept = clean(text).strip()
    if not kept:
        raise InvalidInput("a note needs its words; say --text TEXT")
    if len(kept) > limits.FREE_TEXT_CHARS:
        raise InvalidInput(f"a note holds at most {limits.FREE_TEXT_CHARS} characters")
    return kept


def check_room(tx: Tx, series: str) -> None:
    """Raise LimitExceeded where a series has as many notes as one may have."""
    if len(tx.notes.of(series)) >= limits.NOTES_PER_SERIES:
        raise LimitExceeded(f"a series holds at most {limits.NOTES_PER_SERIES} notes")


def partners(node: Node, tx: Tx, series: str) -> dict[str, str]:
    """Return who has a series or a part of it, each with the id by which it knows it."""
    found: dict[str, str] = {}
    for part in tx.aliases.family(series):
        one = tx.series.get(part)
        if one is None:
            continue
        asked = {each.sender for each in tx.broadcasts.find(Direction.IN, part)}
        for agency in sorted(holders(node, tx, one) | asked):
            found.setdefault(agency, part)
    return found


def shares(node: Node, tx: Tx, series: str, agency: str) -> bool:
    """Whether an agency has a series, or one that it was split from, as far as this node knows."""
    named = (series, *(one.series for one in led_to(tx, series)))
    return any(agency in partners(node, tx, one) for one in named)


def unshared(agency: str) -> str:
    """What is answered about another agency's series to who does not share it, whether it is here
    or not: who else was told of it is for its owner to say."""
    return f"{agency} does not share the series with this agency, or it is not here yet"


def note_question(
    node: Node, owner: str, handling: Handling, sender: str, recipient: str, purpose: str
) -> Question:
    """What policy is asked on both sides: words on one's own series, or to its owner, are a
    referral's; words on another's are passing on."""
    direct = owner in (sender, recipient)
    return node.question(
        Action.BE_TOLD if direct else Action.PASS_ON,
        asker=recipient if direct else sender,
        holder=sender if direct else recipient,
        purpose=purpose,
        handling=handling,
        owner=owner,
    )


def _send(
    node: Node,
    tx: Tx,
    note: SeriesNote,
    handling: Handling,
    agency: str,
    known: str,
    request: operator_links_pb2.AddNoteRequest,
) -> None:
    body = links_pb2.Note(
        id=note.id,
        series=known,
        text=note.text,
        note_time=timestamp(note.at),
        handling=handling_out(handling),
    )
    payload = payload_pb2.Payload(
        person=note.person,
        purpose=request.purpose,
        case_ref=clean(request.case_ref),
        note=body,
    )
    send(node, tx, payload, recipient=agency, lane=Urgency.URGENT, subject=known)


def notes_of(tx: Tx, series: Series) -> list[operator_links_pb2.NoteView]:
    """The notes on a series, its parts and what it is linked with, in their order."""
    parts = tx.aliases.family(series.id)
    links = [one for part in parts for one in tx.same_as.of(part)]
    named = {*parts, *(one.own for one in links), *(one.other for one in links)}
    found = [note for one in sorted(named) for note in tx.notes.of(one)]
    found.sort(key=lambda note: (note.at, note.id))
    return [note_view(note) for note in found[-limits.NOTES_PER_SERIES :]]


def note_view(note: SeriesNote) -> operator_links_pb2.NoteView:
    """A note as people see it."""
    return operator_links_pb2.NoteView(
        id=note.id,
        series=note.series,
        agency=note.agency,
        person=note.person,
        note_time=timestamp(note.at),
        text=note.text,
        told=note.told,
    )
