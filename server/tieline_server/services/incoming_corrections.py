"""Corrections of referrals that came in: their sender says which countries are likely by now."""

from __future__ import annotations

from dataclasses import dataclass

from tieline_client.errors import InvalidInput, NotFound, PolicyRefused, SignatureRefused
from tieline_client.identifiers import check_country, check_id

from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction, ReferralState, ReferralStep
from tieline_server.services import judgements
from tieline_server.services.context import Node
from tieline_server.services.correcting import correct, may_learn
from tieline_server.services.incoming import Handled, Message, stated_time
from tieline_server.services.likely import standing_countries
from tieline_server.services.restricting import why_excluded


@dataclass(frozen=True, slots=True)
class IncomingCorrections:
    """Handles referral_correction."""

    node: Node

    def correction(self, message: Message) -> Handled:
        """Mark the referral, keep the new judgements, correct what was passed on."""
        node, payload, body = self.node, message.payload, message.payload.referral_correction
        check_id(body.id, "correction")
        check_id(body.referral, "referral")
        countries = tuple(check_country(one) for one in body.countries)
        if list(countries) != sorted(set(countries)):
            raise InvalidInput("the countries of a correction are each named once, in order")
        step = ReferralStep(
            id=body.id,
            referral=body.referral,
            state=ReferralState.CORRECTED,
            agency=message.peer,
            person=payload.person,
            at=stated_time(node, body.correct_time),
            countries=countries,
        )
        stated = body.assessments

        def effect(tx: Tx) -> None:
            referral = tx.referrals.get(body.referral)
            if referral is None:
                raise NotFound("this referral is not known here yet")
            if referral.direction is not Direction.IN or referral.sender != message.peer:
                raise SignatureRefused(f"{message.peer} did not send this referral")
            why = why_excluded(tx, referral.series, node.agency)
            if why:
                raise PolicyRefused(f"it may not be kept here: {why}")
            tx.referrals.add_step(step)
            series = tx.series.get(referral.series)
            if not stated or series is None:
                return
            fresh = judgements.news(node, tx, series, [(message.peer, stated)])
            if not node.policy.decide(may_learn(node, series, referral)).allowed:
                return
            before = standing_countries(tx, referral.series)
            judgements.keep(node, tx, fresh)
            message.woken.update(correct(node, tx, referral.series, before))

        return body.referral, effect
