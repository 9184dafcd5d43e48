"""What another agency says of a series of its own and one of this agency's: that they are one.

1. The first series is the sender's own, the second this agency's, and neither was taken back.
2. Policy is asked the sender's question again, under the handling that comes with the word.
3. Its latest word counts (domain/same_as.py:later); what this agency's people say is theirs to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tieline_client.errors import InvalidInput, NotFound, PolicyRefused
from tieline_client.identifiers import new_id, series_owner

from tieline_server.domain.meeting import meeting
from tieline_server.domain.policy import Action
from tieline_server.domain.ports import Tx
from tieline_server.domain.same_as import LinkState, SameAs, Word, later
from tieline_server.domain.series import SeriesStatus
from tieline_server.services.context import Node
from tieline_server.services.incoming import Handled, Message, stated_time
from tieline_server.services.notices import contact_in, handling_in, reference_in
from tieline_server.services.restricting import why_excluded
from tieline_server.services.same_as import event_of, say_again


@dataclass(frozen=True, slots=True)
class IncomingSameAs:
    """Handles same_as."""

    node: Node

    def same_as(self, message: Message) -> Handled:
        """The other side confirms or refuses that two series are one."""
        node, payload, body = self.node, message.payload, message.payload.same_as
        # 1
        if series_owner(body.series) != message.peer or series_owner(body.other) != node.agency:
            raise InvalidInput(
                "it is said of a series of the sender's own and one of the recipient's"
            )
        node.check_purpose(payload.purpose, payload.case_ref)
        if body.state not in (LinkState.CONFIRMED, LinkState.REFUSED):
            raise InvalidInput("a link is confirmed or refused")
        word = Word(LinkState(body.state), stated_time(node, body.say_time), payload.person)
        # 2
        question = node.question(
            Action.LEARN_REFERENCE,
            asker=node.agency,
            holder=message.peer,
            purpose=payload.purpose,
            handling=handling_in(body.handling),
            owner=message.peer,
        )
        node.allow(replace(question, confirmed=True), f"a reference of {message.peer}")
        references = tuple(reference_in(one) for one in body.references)
        contact = contact_in(body.contact)

        def effect(tx: Tx) -> None:
            self._check_both(tx, body.other, body.series)
            known = tx.same_as.between(body.other, body.series)
            if known is None:
                known = SameAs(new_id(), body.other, body.series, node.clock())
                tx.same_as.add(known)
            elif later(known.theirs, word) is not word:
                return
            untold = known.ours.at is not None and not known.purpose
            link = replace(
                known,
                theirs=word,
                shared=known.shared or body.shared,
                other_items=known.other_items or body.items,
                purpose=known.purpose or payload.purpose,
                case_ref=known.case_ref or payload.case_ref,
                references=references or known.references,
                contact=contact if body.HasField("contact") else known.contact,
            )
            tx.same_as.heard(link)
            tx.history.add(event_of(message.peer, body.other, body.series, word))
            if word.state is LinkState.CONFIRMED:
                met = meeting(payload.id, body.other, message.peer, node.agency, node.clock())
                tx.alarms.set(met)
            # 3
            if untold and say_again(node, tx, link):
                message.woken.add(message.peer)

        return body.series, effect

    def _check_both(self, tx: Tx, own: str, other: str) -> None:
        """Raise unless both series may be spoken of."""
        series = tx.series.get(own)
        if series is None:
            if self.node.renewed:  # its recipients bring it back
                raise NotFound("the series is not here yet")
            raise InvalidInput("this agency has no such series")
        why = why_excluded(tx, other, self.node.agency)
        if why:
            raise PolicyRefused(f"it may not be kept here: {why}")
        why = why_excluded(tx, own, series_owner(other))
        if why or series.status is SeriesStatus.WITHDRAWN:
            raise PolicyRefused("the series was taken back by its owner")
