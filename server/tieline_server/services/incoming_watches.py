"""A peer's word that its standing query matched what this node answered for.

1. It is about a question of that peer which this node answered, with hits.
2. Policy is asked the sender's question again: whether that agency may ask here for this purpose.
3. People are alarmed, once a day for each standing query; the log has who may be called, and that
   it matched by so much. Nothing else is kept: the message itself is in the inbox.
"""

from __future__ import annotations

from dataclasses import dataclass

from tieline_client.errors import InvalidInput
from tieline_client.identifiers import check_id

from tieline_server.domain.alarm import Alarm, AlarmKind
from tieline_server.domain.budget import day_of
from tieline_server.domain.ports import Tx
from tieline_server.domain.watch import percent
from tieline_server.services.context import Node, clean
from tieline_server.services.incoming import Handled, Message


@dataclass(frozen=True, slots=True)
class IncomingWatches:
    """Handles watch_notice."""

    node: Node

    def watch_notice(self, message: Message) -> Handled:
        """A standing query of the sender's matched here."""
        node, payload, body = self.node, message.payload, message.payload.watch_notice
        check_id(body.id, "notice")
        check_id(body.watch, "standing query")
        check_id(body.request, "question")
        node.check_purpose(payload.purpose, payload.case_ref)
        if not 0 < body.matched <= body.records or body.priority > 255:
            raise InvalidInput("a notice says how many of how many matched, and a priority to 255")
        decision = node.may_ask(message.peer, node.agency, payload.purpose)
        rules = node.allowed(decision, f"{message.peer} may not ask {node.agency}")  # 2
        now = node.clock()

        def effect(tx: Tx) -> None:
            answered = tx.queries.answered(message.peer, body.request)  # 1
            if answered is None or not answered.hits:
                raise InvalidInput("the notice is about no question that had hits here")
            tx.alarms.set(
                Alarm(
                    id=f"{message.peer}/{body.watch}/{day_of(now)}/{AlarmKind.WATCHED.value}",
                    kind=AlarmKind.WATCHED,
                    referral=body.watch,
                    series="",
                    sender=message.peer,
                    recipient=node.agency,
                    due=now,
                )
            )
            tx.audit.append(
                node.entry(
                    "watch.told",
                    person=payload.person,
                    peer=message.peer,
                    purpose=payload.purpose,
                    case_ref=payload.case_ref,
                    subjects=(body.watch, body.id, body.request),
                    rules=rules,
                    matched=body.matched,
                    records=body.records,
                    percent=percent(body.matched, body.records),
                    priority=body.priority,
                    reference=clean(body.reference),
                    contact=", ".join(
                        filter(
                            None,
                            map(clean, (body.contact_name, body.contact_email, body.contact_phone)),
                        )
                    ),
                )
            )

        return body.watch, effect
