"""Who leads where several agencies of one country were told the same series.

Whoever told them says so, since it alone sees what all of them do: a claim goes before an
acceptance, earlier before later, and who declined or passed it on does not lead. The word of the
sender is a mark on each referral, and no state; its latest one counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tieline_server.domain.referral import Referral, ReferralState, ReferralStep

_S = ReferralState
_LEAVES = frozenset({_S.DECLINED, _S.PASSED_ON, _S.WITHDRAWN})


def lead_said(referral: Referral, steps: Iterable[ReferralStep]) -> ReferralStep | None:
    """Return the sender's latest word on who leads; None where it said none."""
    said = (one for one in steps if one.state is _S.LEAD and one.agency == referral.sender)
    return max(said, key=lambda one: (one.at, one.id), default=None)


def lead_of(referral: Referral, steps: Iterable[ReferralStep]) -> str:
    """Return who leads, as both sides of a referral know it; "" where nobody does."""
    said = lead_said(referral, steps)
    return said.passed_to if said is not None else ""


def choose_lead(told: Sequence[tuple[Referral, Sequence[ReferralStep]]]) -> str:
    """Return who leads among those who were told, by what each of them did; "" for nobody."""
    ranked = [
        (step.state is not _S.LEAD, step.at, step.id, referral.recipient)
        for referral, steps in told
        if referral.state not in _LEAVES
        for step in steps
        if step.state in (_S.LEAD, _S.ACCEPTED) and step.agency == referral.recipient
    ]
    return min(ranked)[-1] if ranked else ""
