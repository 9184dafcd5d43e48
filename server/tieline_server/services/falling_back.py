"""The last step of an escalation: another agency is told in place of one that does not answer.

1. Its time comes after the reminder and the hub (domain/alarm.py). Only the series' owner falls
   back; who passed a series on is alarmed, and a person there decides.
2. The fallback agency is another one that serves the country and was not told yet, else the one
   that config.toml names for the country. Nobody, or telling it fails (the series has grown over
   what goes at once): an alarm, and no more.
3. Policy is asked as by a person. In one transaction: the alarm, the referral under the first one's
   purpose, case and person, its audit entry, and who leads, where that is known already.
"""

from __future__ import annotations

from dataclasses import dataclass

from tieline_client.errors import TielineError
from tieline_client.identifiers import new_id

from tieline_server.domain.alarm import Alarm
from tieline_server.domain.policy import Action
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import (
    UNACKNOWLEDGED,
    Direction,
    Referral,
    ReferralState,
)
from tieline_server.domain.series import Series, SeriesStatus
from tieline_server.services.attachments import Packed, pack_series
from tieline_server.services.context import Node
from tieline_server.services.held_under import with_items
from tieline_server.services.leading import announce
from tieline_server.services.referring import send_referral
from tieline_server.services.restricting import why_excluded

_AT_WORK = frozenset({ReferralState.ACKNOWLEDGED, ReferralState.ACCEPTED, ReferralState.OUTCOME})
"""Somebody in the country has it in hand; nobody else need be told."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """Who is told instead, and with what."""

    agency: str
    series: Series
    rules: tuple[str, ...]
    packed: Packed | None


def prepare(node: Node, alarm: Alarm) -> Fallback | None:
    """Return who may be told in place of a referral's recipient; None for nobody.

    Packing reads many items, so it is done before the transaction that tells.
    """
    found = node.store.read(lambda tx: _candidates(node, tx, alarm))
    if found is None:
        return None
    series, purpose, agencies = found
    for agency in agencies:
        try:
            question = node.question(
                Action.BE_TOLD,
                asker=agency,
                holder=node.agency,
                purpose=purpose,
                handling=series.handling,
                owner=series.owner,
            )
        except TielineError:  # revoked, or no longer a member
            continue
        decision = node.policy.decide(question)
        if decision.allowed:
            packed = pack_series(node, series.id, agency, under=series.handling)
            return Fallback(agency, series, decision.rules, packed)
    return None


def tell(node: Node, tx: Tx, late: Referral, fallback: Fallback) -> set[str]:
    """Refer the series to the fallback agency; return who has mail."""
    identifier = new_id()
    told = Referral(
        id=identifier,
        root=identifier,
        series=fallback.series.id,
        direction=Direction.OUT,
        sender=node.agency,
        recipient=fallback.agency,
        country=late.country,
        urgency=late.urgency,
        purpose=late.purpose,
        case_ref=late.case_ref,
        person=late.person,
        created=node.clock(),
        note=f"{late.recipient} was told on {late.created:%Y-%m-%d %H:%M} UTC and no answer came.",
    )
    send_referral(node, tx, told, fallback.series, fallback.packed, fallback.rules)
    return {fallback.agency} | announce(node, tx, told)


def _candidates(node: Node, tx: Tx, alarm: Alarm) -> tuple[Series, str, list[str]] | None:
    late = tx.referrals.get(alarm.referral)
    if late is None or late.state not in UNACKNOWLEDGED or not late.country:
        return None
    series = tx.series.get(late.series)
    if series is None or series.owner != node.agency or series.status is SeriesStatus.WITHDRAWN:
        return None
    directory = node.directory()
    sent = [
        one
        for part in tx.aliases.family(tx.aliases.current(series.id))
        for one in tx.referrals.find(Direction.OUT, part)
        if one.country == late.country and one.state is not ReferralState.WITHDRAWN
    ]
    if any(one.state in _AT_WORK for one in sent):
        return None
    told = {one.recipient for one in sent}
    agencies = [member.agency for member in directory.serving(late.country)]
    stated = node.defaults.targets.fallbacks.get(late.country, "")
    members = {member.agency for member in directory.active_members()}
    if stated in members:
        agencies.append(stated)
    left = [
        agency
        for agency in dict.fromkeys(agencies)
        if agency not in told | {node.agency} and not why_excluded(tx, series.id, agency)
    ]
    return with_items(tx, series), late.purpose, left
