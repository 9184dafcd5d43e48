"""A country that no member serves is told by other means, and the clock runs on.

1. Whom nobody serves, `series refer` tells the hub; its officers, or those of a repository with its
   national bureaus, or the owner's own, tell the country outside Tieline.
2. An officer records under which reference: on the referral that stands here, or, where there is
   none, as a telling of its own, a referral to no agency. Policy is asked as before any disclosure.
3. One transaction holds the step, the signed ToldOutside to the other side of the referral and to
   the series' owner, and the audit entry. From then on an outcome is waited for.

A retraction reaches these by other means as well: they stand as withdrawn in the clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tieline.v1 import operator_clock_pb2, operator_pb2, payload_pb2
from tieline_client.countries import check_known_country
from tieline_client.errors import InvalidInput, PolicyRefused
from tieline_client.identifiers import new_id, series_owner
from tieline_client.payloads import timestamp

from tieline_server.domain import referral as clock
from tieline_server.domain.policy import Action
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import (
    Direction,
    Referral,
    ReferralState,
    ReferralStep,
    Urgency,
)
from tieline_server.domain.series import Series, SeriesStatus
from tieline_server.domain.series_life import BEFORE_REFERRED
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.held_under import with_items
from tieline_server.services.legal_basis import country_basis, legal_basis
from tieline_server.services.likely import standing_countries
from tieline_server.services.restricting import still, why_excluded
from tieline_server.services.sending import send
from tieline_server.services.series_life import advance
from tieline_server.services.views import find_series, referral_view


class TellingOutside:
    """Records that countries were told by other means."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def tell(
        self, person: Person, request: operator_clock_pb2.TellOutsideRequest
    ) -> operator_pb2.ReferralView:
        """Record it on a referral, or for a series. The same reference is recorded once.

        Raises NotFound, InvalidInput (a member serves the country; no country, or several),
        WrongState (withdrawn, or an outcome is there), PolicyRefused.
        """
        node = self._node
        reference = clean(request.reference)
        if not reference:
            raise InvalidInput(
                "a reference is needed, such as the number of the message; say --reference TEXT"
            )

        def work(tx: Tx) -> tuple[operator_pb2.ReferralView, set[str]]:
            known = tx.referrals.get(request.id)
            series = find_series(tx, known.series if known else request.id)
            country = self._country(tx, series, known, request.country)
            known = known or _standing(tx, node.agency, series.id, country)
            told = _told_under(tx, known, reference)
            if known is not None and told:
                return referral_view(tx, known), set()
            purpose, case_ref = _why(request, known)
            rules = self._allow(tx, series, purpose, case_ref)
            referral = known or self._new(tx, person, series, country, purpose, case_ref)
            told_on = country_basis(referral.country, clean(request.basis))
            woken = self._record(
                tx, person, referral, reference, (purpose, case_ref), rules, told_on
            )
            if series.status in BEFORE_REFERRED:
                who = {"agency": node.agency, "person": person.name}
                advance(tx, series, SeriesStatus.REFERRED, at=node.clock(), **who)
            return referral_view(tx, tx.referrals.get(referral.id) or referral), woken

        view, woken = node.store.write(work)
        for agency in woken:
            node.wake(agency)
        return view

    def _country(self, tx: Tx, series: Series, known: Referral | None, wanted: str) -> str:
        """Return the country that was told: one that no member serves."""
        directory = self._node.directory()
        wanted = check_known_country(wanted) if wanted else ""
        if known is not None and not known.country:
            raise InvalidInput(
                f"the referral names no country; record it for its series, {series.id} --country CC"
            )
        if known is not None:
            if wanted and wanted != known.country:
                raise InvalidInput(f"the referral is about {known.country}, not {wanted}")
            wanted = known.country
        if not wanted:
            likely = standing_countries(tx, series.id)
            unserved = [one for one in likely if not directory.serving(one)]
            if len(unserved) != 1:
                what = " and ".join(unserved) or "no likely country"
                raise InvalidInput(f"{what}: say which country was told, --country CC")
            (wanted,) = unserved
        serving = " and ".join(member.agency for member in directory.serving(wanted))
        if serving:
            raise InvalidInput(f"{serving} serves {wanted}; tell it with `tieline series refer`")
        return wanted

    def _allow(self, tx: Tx, series: Series, purpose: str, case_ref: str) -> tuple[str, ...]:
        node = self._node
        node.check_purpose(purpose, case_ref)
        still(tx, series)
        for part in tx.aliases.family(series.id):
            if why := why_excluded(tx, part, ""):
                raise PolicyRefused(f"nobody else may be told: {why}")
        question = node.question(
            Action.TELL_OUTSIDE,
            asker=node.agency,
            holder=node.agency,
            purpose=purpose,
            handling=with_items(tx, series).handling,
            owner=series.owner,
        )
        return node.allow(question, "telling a country by other means")

    def _new(
        self, tx: Tx, person: Person, series: Series, country: str, purpose: str, case_ref: str
    ) -> Referral:
        """Add a referral to no agency."""
        identifier = new_id()
        referral = Referral(
            id=identifier,
            root=identifier,
            series=series.id,
            direction=Direction.OUTSIDE,
            sender=self._node.agency,
            recipient="",
            country=country,
            urgency=Urgency.ROUTINE,
            purpose=purpose,
            case_ref=case_ref,
            person=person.name,
            created=self._node.clock(),
        )
        tx.referrals.add(referral)
        return referral

    def _record(
        self,
        tx: Tx,
        person: Person,
        referral: Referral,
        reference: str,
        why: tuple[str, str],
        rules: tuple[str, ...],
        told_on: Mapping[str, str],
    ) -> set[str]:
        node = self._node
        clock.check_step(referral.state, ReferralState.TOLD_OUTSIDE)
        step = ReferralStep(
            id=new_id(),
            referral=referral.id,
            state=ReferralState.TOLD_OUTSIDE,
            agency=node.agency,
            person=person.name,
            at=node.clock(),
            text=reference,
        )
        tx.referrals.add_step(step)
        recipients = self._recipients(referral)
        for recipient in sorted(recipients):
            payload = payload_pb2.Payload(
                person=person.name,
                purpose=why[0],
                case_ref=why[1],
                told_outside=payload_pb2.ToldOutside(
                    id=step.id,
                    referral=referral.id,
                    root=referral.root,
                    series=referral.series,
                    country=referral.country,
                    reference=reference,
                    tell_time=timestamp(step.at),
                    alone=referral.direction is Direction.OUTSIDE,
                ),
            )
            send(
                *(node, tx, payload),
                recipient=recipient,
                lane=referral.urgency,
                subject=referral.id,
            )
        basis: Any = legal_basis(node, sorted(recipients))
        if told_on:
            basis = {"legal_basis": {**basis.get("legal_basis", {}), **told_on}}
        tx.audit.append(
            node.entry(
                "referral.told_outside",
                person=person.name,
                purpose=why[0],
                case_ref=why[1],
                subjects=(referral.id, referral.series),
                rules=rules,
                country=referral.country,
                reference=reference,
                told=sorted(recipients),
                **basis,
            )
        )
        return recipients

    def _recipients(self, referral: Referral) -> set[str]:
        """The other side of a referral, and the series' owner."""
        own, owner = self._node.agency, series_owner(referral.series)
        if referral.direction is Direction.OUT:
            if referral.root != referral.id:
                raise InvalidInput(
                    "record it on the referral that came in, not on the one passed on"
                )
            return {referral.recipient}
        return {owner, referral.sender} - {own}


def _why(request: operator_clock_pb2.TellOutsideRequest, known: Referral | None) -> tuple[str, str]:
    """Return purpose and case: those given, else the referral's."""
    purpose, case_ref = request.purpose, clean(request.case_ref)
    if known is not None:
        return purpose or known.purpose, case_ref or known.case_ref
    return purpose, case_ref


def _standing(tx: Tx, agency: str, series: str, country: str) -> Referral | None:
    """Return what says already that this agency told the country by other means."""
    family = tx.aliases.family(series)
    for known in (one for each in family for one in tx.referrals.find(Direction.OUTSIDE, each)):
        same = (known.sender, known.country) == (agency, country)
        if same and known.stands:
            return known
    return None


def _told_under(tx: Tx, known: Referral | None, reference: str) -> bool:
    if known is None:
        return False
    return any(
        step.state is ReferralState.TOLD_OUTSIDE and step.text == reference
        for step in tx.referrals.steps(known.id)
    )
