"""What is kept of an answer: the log's entries, the sketch, the request that waits for a person."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
from tieline_client import limits
from tieline_client.errors import StorageUnavailable, WrongState
from tieline_client.identifiers import new_id
from tieline_client.packed import distinct

from tieline_server.domain.alarm import Alarm
from tieline_server.domain.ports import Ids, Record
from tieline_server.domain.ports.sketches import AskedSketch
from tieline_server.domain.request import Request, RequestKind, Side
from tieline_server.services import deconflicting
from tieline_server.services.answer_state import Answer
from tieline_server.services.budgeting import SPOILT, reused
from tieline_server.services.context import Node, clean
from tieline_server.services.legal_basis import legal_basis
from tieline_server.services.list_secrets import list_mark
from tieline_server.services.vital_interests import standing, stated_out

_ITEMS_LOGGED = 10_000
"""Item ids named in one audit entry; more go into further entries."""


class AnswerRecords:
    """A part of `answering.Answerer`."""

    _node: Node

    def _log_items(self, tx: Record, peer: str, answer: Answer, *, reserved: bool = False) -> None:
        """Log the items that waiting hits disclose, unless some may have been erased meanwhile;
        ``reserved``: the question's id stands in storage."""
        payload = answer.payload
        if answer.waiting_items and tx.erasures() != answer.erasures:
            raise WrongState(
                "holdings were erased, moved or restricted while the question was answered;"
                " ask again"
            )
        if self._node.matching.life != answer.life:
            raise WrongState(
                "the index was dropped or made anew while the question was answered; ask again"
            )
        items = distinct_items(answer.waiting_items).tolist()
        if not (reserved or answer.reserved or answer.charge.stored):
            answer.known = not tx.queries.reserve(
                payload.id, peer, answer.charge.header_digest, self._node.clock()
            )
        for start in range(0, len(items), _ITEMS_LOGGED):
            tx.audit.append(
                self._node.entry(
                    "query.disclosed",
                    person=payload.person,
                    peer=peer,
                    purpose=payload.purpose,
                    case_ref=payload.case_ref,
                    subjects=(payload.id,),
                    rules=tuple(sorted(answer.disclosing.rules)),
                    disclosure=answer.disclosing.level.label,
                    items=items[start : start + _ITEMS_LOGGED],
                )
            )

    def _log_early(self, tx: Record, peer: str, answer: Answer) -> None:
        """Log what leaves before the list is whole; until it is, no other call may use the id, at
        whichever process."""
        charge, request = answer.charge, answer.payload.id
        if not answer.early:
            known = tx.queries.header_digest(peer, request)
            told = charge.stored and tx.queries.answered(peer, request) is not None
            if told or known == SPOILT:
                raise reused(request)
            tx.queries.spoil(peer, request, self._node.clock())
        self._log_items(tx, peer, answer, reserved=True)

    def _settle_id(self, tx: Record, peer: str, answer: Answer) -> None:
        """The list is whole: the id is good for it again, unless another call told of another."""
        charge, request = answer.charge, answer.payload.id
        if answer.early:
            tx.queries.forget(peer, request)
            tx.queries.reserve(request, peer, charge.header_digest, self._node.clock())
            return
        apart = charge.repeat and charge.told is None
        if apart and tx.queries.header_digest(peer, request) == SPOILT:
            raise reused(request)

    def _sketch(self, peer: str, answer: Answer) -> AskedSketch | None:
        payload = answer.payload
        if answer.sketcher is None:
            return None
        return AskedSketch(
            peer,
            payload.id,
            payload.person,
            payload.purpose,
            payload.query.records,
            answer.sketcher.sketch() + list_mark(self._node, answer.list_digest.digest()),
            self._node.clock(),
        )

    def _logged_digest(self, answer: Answer) -> bytes:
        """What the log's salted digest is made of: a salt that stands beside it keeps nobody from
        guessing a list by its bare digest."""
        if answer.payload.query.salted:
            return answer.payload.query.list_digest
        return list_mark(self._node, answer.list_digest.digest())

    def _broke_off(self, peer: str, answer: Answer) -> None:
        """Keep the sketch of a list that did not come to its end: it was looked up all the same."""
        sketcher = answer.sketcher
        if sketcher is None:
            return
        for look_up in answer.looked_up:
            with contextlib.suppress(Exception):  # what failed was not looked up
                if (least := look_up().least) is not None:
                    sketcher.keep(least)
        answer.looked_up.clear()
        sketch = self._sketch(peer, answer)
        if sketch is not None:
            with contextlib.suppress(StorageUnavailable):  # what was told is in the log already
                self._node.store.note(lambda tx: tx.sketches.put(sketch))

    def _met(self, peer: str, answer: Answer) -> list[Alarm]:
        """The notices that the asker works on what is in series here."""
        node, payload = self._node, answer.payload
        if payload.purpose != deconflicting.PURPOSE or not answer.hits:
            return []
        numbers = sorted(answer.disclosing.met)[: limits.DECONFLICTION_SERIES]
        found = node.store.read(lambda tx: tx.series.disclosable(numbers)) if numbers else {}
        series = {one.id for one in found.values()}
        return deconflicting.met_by_question(
            node, payload.id, payload.case_ref, peer, node.agency, series
        )

    def _basis(self, peer: str, answer: Answer) -> dict[str, object]:
        """On what law an answer goes outside the union."""
        node, payload = self._node, answer.payload
        if node.party(peer).union or not answer.disclosing.endangered:
            return legal_basis(node, [peer])
        own = node.store.read(
            lambda tx: standing(node, tx, peer, payload.purpose, clean(payload.case_ref))
        )
        return legal_basis(node, [peer], stated_out(own) if own else None)

    def _wait(
        self, tx: Record, peer: str, answer: Answer, items: int, series: dict[int, int]
    ) -> str:
        """Note what waits for a person, where something does; return the request's id."""
        if not items:
            return ""
        payload, now = answer.payload, self._node.clock()
        request = Request(
            id=new_id(),
            kind=RequestKind.RELEASE,
            side=Side.IN,
            peer=peer,
            person=payload.person,
            purpose=payload.purpose,
            case_ref=clean(payload.case_ref),
            created=now,
            expires=now + limits.REQUEST_LIFE,
            level=answer.disclosing.wish,
            items=items,
        )
        return tx.requests.wait(request, series)


def distinct_items(items: Sequence[Ids]) -> Ids:
    """Return each item once, ascending."""
    return distinct(np.concatenate(items)) if items else np.empty(0, dtype=np.int64)
