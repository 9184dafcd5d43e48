"""Tips that another agency relays.

1. Both sides hold the series; without it the tip waits for the referral that brings it. So does
   that of who does not share it: nobody learns whether another agency's series is here.
2. Policy is asked the sender's question again, and the owner's restrictions of the series hold.
3. The words pass the same check as those of the public here.
4. The clue comes with its first tip, under its origin's id, and the tip under its own; an id that
   is another's word here already is given up for a new one. It counts for nothing until a person of
   this agency has verified the tip, whatever the sender made of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tieline.v1 import payload_pb2
from tieline_client.errors import InvalidInput, PolicyRefused
from tieline_client.identifiers import (
    check_code,
    check_country,
    check_id,
    new_id,
    series_owner,
)

from tieline_server.domain.clue import Clue, Tip, TipState, check_words
from tieline_server.domain.ports import Tx
from tieline_server.services.clues import check_room
from tieline_server.services.context import Node
from tieline_server.services.incoming import Handled, Message, NotYet, stated_time
from tieline_server.services.notes import shares, unshared
from tieline_server.services.restricting import why_excluded
from tieline_server.services.tips import parse_state, relay_question


@dataclass(frozen=True, slots=True)
class IncomingTips:
    """Handles tip."""

    node: Node

    def tip(self, message: Message) -> Handled:
        """A tip of the public on a series that is here too."""
        node, payload, body = self.node, message.payload, message.payload.tip
        check_id(body.clue, "clue")
        owner = series_owner(body.series)
        node.check_purpose(payload.purpose, payload.case_ref)
        # 3
        tip = self._read(message, body)
        kind = check_code(body.clue_kind, "kind")
        words = check_words(body.clue_text, "a clue")

        def effect(tx: Tx) -> None:
            # 1, 2
            series = tx.series.get(body.series)
            why = why_excluded(tx, body.series, node.agency)
            if why:
                raise PolicyRefused(f"it may not be kept here: {why}")
            others = owner not in (node.agency, message.peer)
            if others and not shares(node, tx, body.series, message.peer):
                raise NotYet(unshared(message.peer))
            if series is None:
                raise NotYet("the series of this tip is not here yet")
            question = relay_question(node, series, message.peer, node.agency, payload.purpose)
            node.allow(question, f"a tip of {message.peer}")
            # 4
            told = Clue(
                body.clue, series.id, kind, words, message.peer, payload.person, node.clock()
            )
            clue = self._clue(tx, told)
            known = tx.clues.tip(tip.id)
            taken = known is not None and (known.clue, known.text) != (clue, tip.text)
            tx.clues.add_tip(replace(tip, id=new_id() if taken else tip.id, clue=clue))

        return body.series, effect

    def _clue(self, tx: Tx, told: Clue) -> str:
        """Return the id here of the clue that a tip is on, after adding it where it is new."""
        known = tx.clues.get(told.id)
        if known is not None and not _is(known, told, self.node.agency):
            told = replace(told, id=new_id())
            mine = [one for one in tx.clues.find(told.series) if one.origin == told.origin]
            known = next((one for one in mine if one.text == told.text), None)
        if known is not None:
            return known.id
        check_room(tx, told.series)
        tx.clues.add(told)
        return told.id

    def _read(self, message: Message, body: payload_pb2.TipRelay) -> Tip:
        said = parse_state(body.state)
        if said is TipState.DISMISSED:
            raise InvalidInput("a dismissed tip is not relayed")
        for country in (body.country, body.supports, body.eliminates):
            if country:
                check_country(country)
        named = body.supports or body.eliminates
        sign = "+" if body.supports else "-"
        return Tip(
            id=check_id(body.id, "tip"),
            clue=body.clue,
            text=check_words(body.text, "a tip"),
            contact="",
            source=f"agency:{message.peer}",
            received=stated_time(self.node, body.receive_time),
            origin=message.peer,
            country=body.country or named,
            said=f"{said.value} {sign}{named}" if named else said.value,
        )


def _is(known: Clue, told: Clue, own: str) -> bool:
    """Whether a clue that is known under an id is the one that is told: of that series, and by
    whoever told it first, or in its words."""
    return known.series == told.series and (
        known.origin in (own, told.origin) or known.text == told.text
    )
