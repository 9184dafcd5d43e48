"""What others told by other means: a country that no member serves."""

from __future__ import annotations

from dataclasses import dataclass

from tieline.v1 import payload_pb2
from tieline_client.errors import InvalidInput, NotFound, SignatureRefused
from tieline_client.identifiers import check_country, check_id, series_owner
from tieline_client.payloads import moment

from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import (
    Direction,
    Referral,
    ReferralState,
    ReferralStep,
    Urgency,
)
from tieline_server.services.context import Node, clean
from tieline_server.services.incoming import Handled, Message, NotYet, stated_time
from tieline_server.services.incoming_referrals import record_step
from tieline_server.services.retracting import agencies_told


@dataclass(frozen=True, slots=True)
class IncomingOutside:
    """Handles told_outside."""

    node: Node

    def told_outside(self, message: Message) -> Handled:
        """The other side of a referral, or somebody who has our series, told a country."""
        payload, body = message.payload, message.payload.told_outside
        check_id(body.id, "step")
        check_id(body.referral, "referral")
        check_country(body.country)
        reference = clean(body.reference)
        if not reference:
            raise InvalidInput("a country was told without a reference")
        step = ReferralStep(
            id=body.id,
            referral=body.referral,
            state=ReferralState.TOLD_OUTSIDE,
            agency=message.peer,
            person=payload.person,
            at=stated_time(self.node, body.tell_time),
            text=reference,
        )

        def effect(tx: Tx) -> None:
            if body.alone:
                self._alone(tx, message, payload, body)
                tx.referrals.add_step(step)
                return
            record_step(tx, message.peer, body.root, step)

        return body.referral, effect

    def _alone(
        self,
        tx: Tx,
        message: Message,
        payload: payload_pb2.Payload,
        body: payload_pb2.ToldOutside,
    ) -> None:
        """Keep a telling of its own, of our series, by somebody whom we told it."""
        node, peer = self.node, message.peer
        if series_owner(body.series) != node.agency:
            raise InvalidInput("the series is not this agency's")
        if tx.series.get(body.series) is None:
            raise NotFound("the series is not here")
        if peer not in agencies_told(node, tx, body.series):
            why = f"{peer} was not told this series"
            if node.renewed:  # what was told since the backup may still be on its way back
                raise NotYet(why)
            raise SignatureRefused(why)
        known = tx.referrals.get(body.referral)
        if known is None:
            tx.referrals.add(telling(body, payload, sender=peer))
        elif (known.direction, known.sender, known.series) != (
            Direction.OUTSIDE,
            peer,
            body.series,
        ):
            raise SignatureRefused(f"{peer} did not make this telling")


def telling(
    body: payload_pb2.ToldOutside, payload: payload_pb2.Payload, *, sender: str
) -> Referral:
    """Return a telling of its own as a referral to no agency."""
    return Referral(
        id=body.referral,
        root=body.referral,
        series=body.series,
        direction=Direction.OUTSIDE,
        sender=sender,
        recipient="",
        country=body.country,
        urgency=Urgency.ROUTINE,
        purpose=payload.purpose,
        case_ref=payload.case_ref,
        person=payload.person,
        created=moment(body.tell_time),
    )
