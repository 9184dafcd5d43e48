"""Linking an own series with another agency's: a person on each side says whether they are one.

1. A person confirms (or refuses) a link that the system proposed (proposing.py) or that the other
   side confirmed. Confirming tells the other agency of the own series, as a person's release of a
   reference does: policy is asked so, and the other side asks it again.
2. In one transaction: the word, the history of the series, the signed SameAsWord, what goes along
   with telling a series (narrowings, merges), the audit entry. A refusal of what the other side
   does not know of is told to nobody.
3. The other side's word comes with its series' references and duty contact (incoming_same_as.py).
4. Whom the word told is told of a retraction of the series (retracting.py), which ends the link.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tieline.v1 import links_pb2, operator_links_pb2, payload_pb2, series_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput, NotFound, PolicyRefused, WrongState
from tieline_client.identifiers import new_id
from tieline_client.payloads import timestamp

from tieline_server.domain.meeting import meeting
from tieline_server.domain.policy import Action, Question
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Urgency
from tieline_server.domain.same_as import LinkState, SameAs, Word, combined
from tieline_server.domain.series import Series
from tieline_server.domain.series_life import EventKind, SeriesEvent
from tieline_server.services.context import Node, Person, about, clean
from tieline_server.services.legal_basis import legal_basis
from tieline_server.services.notices import contact_out, handling_out
from tieline_server.services.restricting import still
from tieline_server.services.retracting import accompany
from tieline_server.services.sending import send
from tieline_server.services.views import find_series


@dataclass(frozen=True, slots=True)
class _Said:
    """A word that is about to be said, why, and under which rules it may be."""

    word: Word
    purpose: str
    case_ref: str
    rules: tuple[str, ...] = ()
    tells: bool = False


class Linking:
    """What people do with links."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def find(self, series: str = "") -> list[operator_links_pb2.SameAsView]:
        """The links of a series, or all, newest first. Raises NotFound."""

        def work(tx: Tx) -> list[operator_links_pb2.SameAsView]:
            if series:
                return links_of(tx, find_series(tx, series))
            found = _combined(tx, tx.same_as.find())
            return [link_view(tx, one) for one in found[: -limits.SAME_AS_SHOWN - 1 : -1]]

        return self._node.store.read(work)

    def answer(
        self, person: Person, request: operator_links_pb2.AnswerSameAsRequest
    ) -> operator_links_pb2.SameAsView:
        """Confirm or refuse a link. Raises NotFound, InvalidInput, WrongState or PolicyRefused."""
        node = self._node
        wanted = LinkState.CONFIRMED if request.confirm else LinkState.REFUSED

        def work(tx: Tx) -> tuple[operator_links_pb2.SameAsView, str]:
            link = tx.same_as.get(request.id)
            if link is None:
                raise NotFound(
                    f"no link {request.id[:40]!r} here; see `tieline series same-as list`"
                )
            told = say(node, tx, link, wanted, person.name, request.purpose, request.case_ref)
            return link_view(tx, _as_one(tx, tx.same_as.get(link.id) or link)), told

        with about(request.purpose, request.case_ref, person.name):
            view, told = node.store.write(work)
        if told:
            node.wake(told)
            node.alarmed()
        return view


def say(
    node: Node,
    tx: Tx,
    link: SameAs,
    wanted: LinkState,
    person: str,
    purpose: str,
    case_ref: str,
) -> str:
    """Say this agency's word on a link; return whom it is told to, "" for nobody.

    Raises InvalidInput without a purpose where this begins the telling, WrongState for what is said
    already or withdrawn, PolicyRefused.
    """
    whole = _as_one(tx, link)
    if whole.state is LinkState.WITHDRAWN:
        raise WrongState("one of the two series was taken back; there is nothing to say any more")
    if whole.ours.state is wanted:
        raise WrongState(f"the link is {wanted.value} by this agency already")
    series = tx.series.get(link.own)
    if series is None:
        raise NotFound("the own series of this link is no longer here")
    said = _judge(
        node, tx, link, whole, series, Word(wanted, node.clock(), person), purpose, case_ref
    )
    tx.same_as.say(link.id, said.word, said.purpose if said.tells else "", said.case_ref)
    tx.history.add(event_of(node.agency, link.own, link.other, said.word))
    if said.tells:
        _send(node, tx, link, series, said)
    tx.audit.append(
        node.entry(
            f"same_as.{wanted.value}",
            person=person,
            peer=link.peer,
            purpose=said.purpose,
            case_ref=said.case_ref,
            subjects=(link.own, link.other),
            rules=said.rules,
            **(legal_basis(node, [link.peer]) if said.tells else {}),
        )
    )
    return link.peer if said.tells else ""


def claim(
    node: Node, tx: Tx, own: str, other: str, person: str, purpose: str, case_ref: str
) -> str:
    """Say that another agency's series is one with an own one, as the answer "ours" does; return
    whom it is told to: nobody where it was said before, or may not be told."""
    link = tx.same_as.between(own, other)
    if link is None:
        link = SameAs(new_id(), own, other, node.clock())
        tx.same_as.add(link)
    try:
        return say(node, tx, link, LinkState.CONFIRMED, person, purpose, case_ref)
    except (PolicyRefused, WrongState):
        return ""


def _judge(
    node: Node,
    tx: Tx,
    link: SameAs,
    whole: SameAs,
    series: Series,
    word: Word,
    purpose: str,
    case_ref: str,
) -> _Said:
    """Decide what a word tells and whether it may."""
    known = whole.theirs.at is not None or link.peer in tx.same_as.told(link.own)
    if word.state is LinkState.REFUSED and not known:
        return _Said(word, purpose, clean(case_ref))
    purpose, case_ref = purpose or whole.purpose, clean(case_ref) or whole.case_ref
    if not purpose:
        raise InvalidInput("this tells another agency of the series; say --purpose CODE")
    node.check_purpose(purpose, case_ref)
    current = still(tx, series, link.peer)
    question = link_question(node, current, link.peer, purpose)
    rules = node.allow(question, f"telling {link.peer} of {series.id}")
    return _Said(word, purpose, case_ref, rules, tells=True)


def say_again(node: Node, tx: Tx, link: SameAs) -> bool:
    """Tell the other side of a refusal that it was not told of, now that it says something itself;
    whether it may be told."""
    series = tx.series.get(link.own)
    if series is None:
        return False
    try:
        said = _judge(node, tx, link, link, series, link.ours, link.purpose, link.case_ref)
    except (PolicyRefused, WrongState):
        return False
    _send(node, tx, link, series, said)
    return True


def link_question(node: Node, series: Series, asker: str, purpose: str) -> Question:
    """What policy is asked on both sides: a person at the series' owner releases its reference."""
    question = node.question(
        Action.LEARN_REFERENCE,
        asker=asker,
        holder=series.owner,
        purpose=purpose,
        handling=series.handling,
        owner=series.owner,
    )
    return replace(question, confirmed=True)


def _send(node: Node, tx: Tx, link: SameAs, series: Series, said: _Said) -> None:
    body = links_pb2.SameAsWord(
        series=link.own,
        other=link.other,
        state=said.word.state.value,
        say_time=timestamp(said.word.at or node.clock()),
        handling=handling_out(series.handling),
    )
    if said.word.state is LinkState.CONFIRMED:
        body.contact.CopyFrom(contact_out(series.contact))
        body.references.extend(
            series_pb2.ExternalReference(scheme=one.scheme, value=one.value)
            for one in series.references
        )
        if min(link.shared, link.own_items) >= node.defaults.count_least:
            body.shared, body.items = link.shared, link.own_items
    payload = payload_pb2.Payload(
        person=said.word.person,
        purpose=said.purpose,
        case_ref=said.case_ref,
        same_as=body,
    )
    sent = send(node, tx, payload, recipient=link.peer, lane=Urgency.URGENT, subject=link.own)
    if said.word.state is LinkState.CONFIRMED:
        tx.alarms.set(meeting(sent.id, link.own, node.agency, link.peer, node.clock()))
    accompany(node, tx, link.own, link.peer)


def event_of(agency: str, series: str, other: str, word: Word) -> SeriesEvent:
    """What a series' history says of a word."""
    assert word.at is not None
    return SeriesEvent(
        id=new_id(),
        series=series,
        kind=EventKind.SAME_AS,
        agency=agency,
        person=word.person,
        at=word.at,
        before=other,
        after=word.state.value,
    )


def _as_one(tx: Tx, link: SameAs) -> SameAs:
    """Return what all links between the two wholes amount to, under this link's id."""
    others = set(tx.aliases.family(tx.aliases.current(link.other)))
    parts = tx.aliases.family(tx.aliases.current(link.own))
    found = [one for part in parts for one in tx.same_as.of(part) if one.other in others]
    return combined(found) if found else link


def _combined(tx: Tx, links: Iterable[SameAs]) -> list[SameAs]:
    """Return one link for each two wholes."""
    groups: dict[tuple[str, str], list[SameAs]] = {}
    for one in links:
        wholes = tx.aliases.current(one.own), tx.aliases.current(one.other)
        groups.setdefault(wholes, []).append(one)
    return [combined(group) for group in groups.values()]


def links_of(tx: Tx, series: Series) -> list[operator_links_pb2.SameAsView]:
    """The links of an own or a received series, newest first."""
    found = {one.id: one for part in tx.aliases.family(series.id) for one in tx.same_as.of(part)}
    return [link_view(tx, one) for one in reversed(_combined(tx, found.values()))]


def link_view(tx: Tx, link: SameAs) -> operator_links_pb2.SameAsView:
    """A link as people of this agency see it, with what the other side is known by."""
    other = tx.series.get(tx.aliases.current(link.other)) or tx.series.get(link.other)
    own = tx.aliases.current(link.own)
    # A link that began with the other side's word has no own size: nobody counted here.
    own_items = link.own_items or tx.items.count_of_series(own)
    references = dict.fromkeys((*(other.references if other else ()), *link.references))
    return operator_links_pb2.SameAsView(
        id=link.id,
        own=own,
        other=tx.aliases.current(link.other),
        agency=link.peer,
        state=link.state.value,
        ours=link.ours.state.value,
        ours_person=link.ours.person,
        theirs=link.theirs.state.value,
        theirs_person=link.theirs.person,
        shared=link.shared,
        own_items=own_items,
        other_items=link.other_items,
        references=[f"{one.scheme}:{one.value}" for one in references],
        contact=contact_out(link.contact),
        find_time=timestamp(link.found),
    )
