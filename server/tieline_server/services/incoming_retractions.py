"""Retractions that come in, from a series' owner or from who told it on, and receipts of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tieline.v1 import payload_pb2
from tieline_client.errors import InvalidInput, NotFound, SignatureRefused
from tieline_client.identifiers import check_agency, check_id
from tieline_client.payloads import timestamp

from tieline_server.domain.ports import Purge, Tx
from tieline_server.domain.retraction import PurgeCause, Retraction
from tieline_server.domain.series import SeriesStatus
from tieline_server.services.context import Node
from tieline_server.services.incoming import Handled, Message, innermost, stated_time
from tieline_server.services.owners_word import owners_word
from tieline_server.services.retracting import LANE, carry_out, read
from tieline_server.services.sending import send
from tieline_server.services.tombstones import restriction_entry

_SOME = "in words"
"""In the place of what a restriction says, where two words are compared."""


@dataclass(frozen=True, slots=True)
class IncomingRetractions:
    """Handles retraction and purge_receipt."""

    node: Node

    def retraction(self, message: Message) -> Handled:
        """An owner takes a series back, or restricts it; who told it on shows the owner's word."""
        node = self.node
        owners = owners_word(node, message, "retraction")
        retraction = replace(
            read(owners, stated_time(node, owners.retraction.retract_time)),
            sender=message.peer,
            envelope=message.request.envelope.SerializeToString(),
        )

        def effect(tx: Tx) -> None:
            known = tx.retractions.get(retraction.id, retraction.series)
            if known is not None and known.envelope:
                if _said(known) != _said(retraction):
                    raise InvalidInput("a retraction of this id said something else before")
                tx.retractions.add_source(retraction, message.peer)
                purge = tx.retractions.purge(retraction.id, retraction.series)
                if purge is None or purge.ended is not None:
                    answer(node, tx, retraction, erased=retraction.excludes(node.agency))
                return
            tx.retractions.put(retraction)
            tx.retractions.add_source(retraction, message.peer)
            self._take_effect(tx, retraction)

        return retraction.id, effect

    def _take_effect(self, tx: Tx, retraction: Retraction) -> None:
        node = self.node
        carry_out(node, tx, retraction)
        if not retraction.excludes(node.agency):
            node.ledger.append(restriction_entry(retraction, node.clock(), own=False))
            answer(node, tx, retraction, erased=False)
            return
        # From here on it is in no answer; the erasing itself is purging.py's.
        if tx.series.get(retraction.series) is not None:
            tx.series.set_status(retraction.series, SeriesStatus.WITHDRAWN)
        tx.retractions.begin_purge(
            Purge(retraction.id, PurgeCause.RETRACTION, retraction.series, node.clock())
        )

    def purge_receipt(self, message: Message) -> Handled:
        """Who was told by this node, or by whom it told, holds nothing any more that it may not."""
        node, body = self.node, message.payload.purge_receipt
        check_id(body.retraction, "retraction")
        said = message.payload
        if body.HasField("original"):
            said = innermost(node, body.original, message.peer, "purge_receipt")
        stated, author = said.purge_receipt, said.issuer
        if (stated.retraction, stated.series) != (body.retraction, body.series):
            raise SignatureRefused("the envelope inside is about something else")
        forwarded = [check_agency(agency) for agency in stated.forwarded]
        at = stated_time(node, stated.purge_time)

        def effect(tx: Tx) -> None:
            retraction = tx.retractions.get(body.retraction, body.series)
            if retraction is None:
                raise NotFound("this retraction is not known here")
            told = {one.agency for one in tx.retractions.recipients(retraction)}
            if message.peer not in told:
                raise SignatureRefused(f"{message.peer} was not told of it")
            if retraction.excludes(author) and not stated.erased:
                raise InvalidInput(f"{author} may not keep the series")
            if author != message.peer:
                tx.retractions.tell(retraction, author, via=message.peer)
            fresh = tx.retractions.confirm(retraction, author, at, erased=stated.erased)
            for agency in forwarded:
                if agency not in (node.agency, retraction.sender):
                    tx.retractions.tell(retraction, agency, via=author)
            if fresh:
                self._relay(tx, retraction, message)

        return body.retraction, effect

    def _relay(self, tx: Tx, retraction: Retraction, message: Message) -> None:
        """Hand a receipt to who told this node, down to the owner."""
        for source in tx.retractions.sources(retraction):
            payload = payload_pb2.Payload(
                person=message.payload.person,
                purge_receipt=payload_pb2.PurgeReceipt(
                    retraction=retraction.id,
                    series=retraction.series,
                    original=message.request.envelope,
                ),
            )
            send(self.node, tx, payload, recipient=source, lane=LANE, subject=retraction.id)


def answer(node: Node, tx: Tx, retraction: Retraction, *, erased: bool) -> list[str]:
    """Queue this node's receipt for everybody who waits for one; return who."""
    now = node.clock()
    forwarded = [one.agency for one in tx.retractions.recipients(retraction) if not one.via]
    waiting = tx.retractions.sources(retraction, waiting=True)
    for source in waiting:
        payload = payload_pb2.Payload(
            purge_receipt=payload_pb2.PurgeReceipt(
                retraction=retraction.id,
                series=retraction.series,
                erased=erased,
                forwarded=forwarded,
                purge_time=timestamp(now),
            )
        )
        send(node, tx, payload, recipient=source, lane=LANE, subject=retraction.id)
        tx.retractions.answered(retraction, source, now)
    return waiting


def _said(retraction: Retraction) -> Retraction:
    """What the owner said, whoever brought it: what it does, without the words that say why. An
    owner that was restored has lost those, and says the rest again (tombstones.py)."""
    handling = retraction.handling
    if handling is not None and handling.restriction:
        handling = replace(handling, restriction=_SOME)
    plain = replace(retraction, reason="", person="", handling=handling)
    return replace(plain, sender="", envelope=b"")
