"""Notes of other agencies on series that are here, or linked with one that is.

1. On another agency's series only who shares it with this node may write; its owner always may. A
   note of anybody else waits, as it does where the series is not here: nobody learns which.
2. Without the series, or a link with it, a note waits for what brings it.
3. Policy is asked the sender's question again, and the owner's restrictions of the series hold.
"""

from __future__ import annotations

from dataclasses import dataclass

from tieline_client.errors import PolicyRefused, WrongState
from tieline_client.identifiers import check_id, series_owner

from tieline_server.domain.ports import Tx
from tieline_server.domain.series import SeriesStatus
from tieline_server.domain.series_note import SeriesNote
from tieline_server.services.context import Node
from tieline_server.services.incoming import Handled, Message, NotYet, stated_time
from tieline_server.services.notes import (
    check_room,
    check_text,
    note_question,
    shares,
    unshared,
)
from tieline_server.services.notices import handling_in
from tieline_server.services.restricting import why_excluded


@dataclass(frozen=True, slots=True)
class IncomingNotes:
    """Handles note."""

    node: Node

    def note(self, message: Message) -> Handled:
        """A person of another agency writes about a series."""
        node, payload, body = self.node, message.payload, message.payload.note
        owner = series_owner(body.series)
        node.check_purpose(payload.purpose, payload.case_ref)
        note = SeriesNote(
            id=check_id(body.id, "note"),
            series=body.series,
            agency=message.peer,
            person=payload.person,
            at=stated_time(node, body.note_time),
            text=check_text(body.text),
        )
        stated = handling_in(body.handling)

        def effect(tx: Tx) -> None:
            series = tx.series.get(body.series)
            for agency in (node.agency, message.peer):
                why = why_excluded(tx, body.series, agency)
                if why:
                    raise PolicyRefused(f"nothing of it is kept: {why}")
            # 1
            others = owner not in (node.agency, message.peer)
            if others and not shares(node, tx, body.series, message.peer):
                raise NotYet(unshared(message.peer))
            # 2
            linked = owner == message.peer and bool(tx.same_as.of(body.series))
            if series is None and not linked:
                raise NotYet("the series of this note is not here yet")
            if series is not None and series.status is SeriesStatus.WITHDRAWN:
                raise WrongState("the series is withdrawn")
            # 3
            handling = stated if series is None else series.handling
            question = note_question(
                node, owner, handling, message.peer, node.agency, payload.purpose
            )
            node.allow(question, f"a note of {message.peer}")
            check_room(tx, body.series)
            tx.notes.add(note)

        return body.series, effect
