"""Clues: added by an analyst, published by an officer, and what verified tips on them say.

1. A clue is words on a series that is here; whoever holds the series may add one.
2. Publishing asks policy and looks that the words do not name the series. The public id is random
   and stays when the words are published anew: nothing leads from it to series or agency.
3. The published list asks policy again for each clue, so that what was withdrawn or narrowed since
   is not on it.
"""

from __future__ import annotations

import secrets

from tieline.v1 import operator_clues_pb2 as pb
from tieline_client import limits
from tieline_client.errors import InvalidInput, LimitExceeded, NotFound, WrongState
from tieline_client.identifiers import check_code, new_id
from tieline_client.payloads import timestamp

from tieline_server.domain.clue import Clue, TipCounts, check_publishable, check_words, net
from tieline_server.domain.policy import Action, Question
from tieline_server.domain.ports import Tx
from tieline_server.domain.series import Series, SeriesStatus
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.restricting import why_excluded
from tieline_server.services.views import find_series

_PUBLIC_BYTES = 10


class ClueDesk:
    """What people do with clues."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def add(self, person: Person, request: pb.AddClueRequest) -> pb.ClueView:
        """Add a clue. Raises NotFound, InvalidInput, WrongState or LimitExceeded."""
        node = self._node
        kind = check_code(clean(request.kind) or "object", "kind")
        text = check_words(request.text, "a clue")

        def work(tx: Tx) -> pb.ClueView:
            series = find_series(tx, request.series)
            if series.status is SeriesStatus.WITHDRAWN:
                raise WrongState("the series is withdrawn; nothing is added to it")
            check_room(tx, series.id)
            clue = Clue(new_id(), series.id, kind, text, node.agency, person.name, node.clock())
            tx.clues.add(clue)
            tx.audit.append(
                node.entry(
                    "clue.added",
                    person=person.name,
                    case_ref=series.case_ref,
                    subjects=(clue.id, series.id),
                    kind=kind,
                )
            )
            return clue_view(clue, TipCounts())

        return node.store.write(work)

    def publish(self, person: Person, request: pb.PublishClueRequest) -> pb.ClueView:
        """Publish a clue's words, or take them back.

        Raises NotFound, InvalidInput for words that name the series, PolicyRefused, WrongState.
        """
        node = self._node
        node.check_purpose(request.purpose, request.case_ref)
        words = check_words(request.text, "what is published") if request.text.strip() else ""

        def work(tx: Tx) -> pb.ClueView:
            clue = find_clue(tx, request.clue)
            if request.take_back:
                if not clue.is_public:
                    raise WrongState("the clue is not published")
                tx.clues.take_back(clue.id, node.clock())
                self._log(tx, person, request, "clue.taken_back", clue, ())
            else:
                text = words or clue.text
                rules = self._allow(tx, clue, request.purpose, text)
                tx.clues.set_published(
                    clue.id,
                    public=clue.public or secrets.token_hex(_PUBLIC_BYTES),
                    text=text,
                    person=person.name,
                    purpose=request.purpose,
                    case_ref=clean(request.case_ref),
                    at=node.clock(),
                )
                self._log(tx, person, request, "clue.published", clue, rules, text=text)
            fresh = find_clue(tx, clue.id)
            return clue_view(fresh, tx.clues.counts([clue.id])[clue.id])

        return node.store.write(work)

    def _allow(self, tx: Tx, clue: Clue, purpose: str, text: str) -> tuple[str, ...]:
        series = _standing(self._node, tx, clue)
        if clue.origin != self._node.agency:
            raise InvalidInput(f"the clue is {clue.origin}'s; it publishes it, or add your own")
        rules = self._node.allow(_question(self._node, series, purpose), "publishing a clue")
        names = (series.id, series.name, series.case_ref, series.number)
        check_publishable(text, [*names, *(one.value for one in series.references)])
        return rules

    def _log(
        self,
        tx: Tx,
        person: Person,
        request: pb.PublishClueRequest,
        action: str,
        clue: Clue,
        rules: tuple[str, ...],
        text: str = "",
    ) -> None:
        tx.audit.append(
            self._node.entry(
                action,
                person=person.name,
                purpose=request.purpose,
                case_ref=clean(request.case_ref),
                subjects=(clue.id, clue.series),
                rules=rules,
                text=text,
            )
        )

    def find(self, person: Person, series: str) -> pb.ListCluesResponse:
        """Return clues, of one series when named, with what verified tips on them say."""
        node = self._node

        def work(tx: Tx) -> pb.ListCluesResponse:
            wanted = find_series(tx, series).id if series else ""
            found = tx.clues.find(wanted)
            counts = tx.clues.counts([one.id for one in found])
            total: dict[str, tuple[int, int]] = {}
            for one in sorted({clue.series for clue in found}):
                for country, said in tx.clues.support(one).items():
                    pro, contra = total.get(country, (0, 0))
                    total[country] = pro + said.supporting, contra + said.eliminating
            tx.audit.append(
                node.entry("clues.read", person=person.name, subjects=(wanted,) if wanted else ())
            )
            return pb.ListCluesResponse(
                clues=[clue_view(one, counts[one.id]) for one in found],
                support=[
                    pb.CountrySupport(country=country, supporting=pro, eliminating=contra)
                    for country, (pro, contra) in sorted(total.items())
                ],
            )

        return node.store.write(work)

    def published(self, person: Person) -> pb.ListPublishedCluesResponse:
        """Return what the public may read now, in the order of public ids."""
        node = self._node

        def work(tx: Tx) -> pb.ListPublishedCluesResponse:
            shown, held_back = [], 0
            for clue in tx.clues.find(public=True):
                if not self._still_public(tx, clue):
                    held_back += 1
                    continue
                assert clue.published is not None
                shown.append(
                    pb.PublishedClue(
                        public_id=clue.public,
                        kind=clue.kind,
                        text=clue.published_text,
                        day=clue.published.date().isoformat(),
                    )
                )
            shown.sort(key=lambda one: one.public_id)
            tx.audit.append(
                node.entry(
                    "clues.exported",
                    person=person.name,
                    clues=len(shown),
                    held_back=held_back,
                )
            )
            return pb.ListPublishedCluesResponse(clues=shown)

        return node.store.write(work)

    def _still_public(self, tx: Tx, clue: Clue) -> bool:
        try:
            series = _standing(self._node, tx, clue)
        except (NotFound, WrongState):
            return False
        return self._node.policy.decide(_question(self._node, series, clue.purpose)).allowed


def _question(node: Node, series: Series, purpose: str) -> Question:
    return node.question(
        Action.PUBLISH,
        asker=node.agency,
        holder=node.agency,
        purpose=purpose,
        handling=series.handling,
        owner=series.owner,
    )


def _standing(node: Node, tx: Tx, clue: Clue) -> Series:
    """Return the series of a clue; raise NotFound or WrongState where it is taken back."""
    series = tx.series.get(clue.series)
    if series is None:
        raise NotFound("the series of this clue is gone")
    if series.status is SeriesStatus.WITHDRAWN or why_excluded(tx, series.id, node.agency):
        raise WrongState("the series of this clue is withdrawn")
    return series


def find_clue(tx: Tx, clue: str) -> Clue:
    """Return a clue by id or public id; raise NotFound."""
    found = tx.clues.get(clue)
    if found is None:
        raise NotFound(f"no clue {clue[:40]!r} here; see `tieline clue list`")
    return found


def check_room(tx: Tx, series: str) -> None:
    """Raise LimitExceeded when a series has as many clues as it may."""
    if len(tx.clues.find(series)) >= limits.CLUES_PER_SERIES:
        raise LimitExceeded(f"a series has at most {limits.CLUES_PER_SERIES} clues")


def support(tx: Tx, series: str) -> dict[str, int]:
    """Return by country how many more verified tips speak for it than against it."""
    return net(tx.clues.support(series))


def clue_view(clue: Clue, counts: TipCounts) -> pb.ClueView:
    """A clue as the agency's own people see it."""
    return pb.ClueView(
        id=clue.id,
        series=clue.series,
        kind=clue.kind,
        text=clue.text,
        origin=clue.origin,
        person=clue.person,
        create_time=timestamp(clue.created),
        public_id=clue.public,
        published_text=clue.published_text,
        published_by=clue.published_by,
        publish_time=timestamp(clue.published) if clue.published else None,
        end_time=timestamp(clue.ended) if clue.ended else None,
        tips=counts.tips,
        fresh=counts.new,
        verified=counts.verified,
        dismissed=counts.dismissed,
        relayed=counts.relayed,
        known=clue.known,
        limited=clue.limited,
    )
