"""Whether a question is answered at all: its units are taken, then policy is asked."""

from __future__ import annotations

from dataclasses import replace

from tieline.v1 import payload_pb2
from tieline_client.errors import TielineError

from tieline_server.domain.budget import units_of
from tieline_server.domain.policy import Action, Decision
from tieline_server.services.budgeting import Charge
from tieline_server.services.context import Node, clean
from tieline_server.services.list_secrets import header_mark
from tieline_server.services.vital_interests import check_stated, endangered, standing


class AnswerAdmission:
    """A part of `answering.Answerer`."""

    _node: Node

    def _admit(
        self, peer: str, payload: payload_pb2.Payload, request_digest: bytes
    ) -> tuple[Charge, Decision, bool]:
        """Take the units, then ask policy; what policy refuses costs nothing.

        Returns also whether it is allowed on the vital interests that the asker states alone.
        """
        node, query = self._node, payload.query
        units = units_of(query.records, query.counts)
        mark = header_mark(node, request_digest)
        charge = node.budgets.charge(peer, payload.purpose, payload.id, mark, units)
        try:
            decision = node.may_ask(
                *(peer, node.agency, payload.purpose),
                asked=units,
                spent=charge.spent,
                budget=charge.budget,
            )
            stated = not decision.allowed and query.HasField("vital_interests")
            if stated:
                check_stated(query.vital_interests)
                question = node.question(
                    Action.ASK, asker=peer, holder=node.agency, purpose=payload.purpose
                )
                question = replace(question, asked=units, spent=charge.spent, budget=charge.budget)
                decision = node.policy.decide(endangered(question))
            node.allowed(decision, f"{peer} may not ask {node.agency}")
        except TielineError:
            node.budgets.refund(charge, forget=True)
            raise
        return charge, decision, stated

    def _answers_endangered(self, peer: str, payload: payload_pb2.Payload) -> bool:
        """Whether the answer to a question that was asked on the exception may go on it too.

        Into the union it may, on the asker's word: no rule of the union keeps data out. Out of it
        two officers of this agency have to say so (`tieline requests vital-interests`).
        """
        node = self._node
        if node.party(peer).union:
            return True
        case_ref = clean(payload.case_ref)
        return (
            node.store.read(lambda tx: standing(node, tx, peer, payload.purpose, case_ref))
            is not None
        )
