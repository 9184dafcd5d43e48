"""Corrections of referrals: whoever was told a country learns that another one stands by now.

1. Whatever changes a series' standing likely countries calls `correct` in its transaction, with
   what stood before.
2. Each referral that went out and that the change concerns gets a step, and its recipient a signed
   ReferralCorrection with the countries that stand now and the new judgements.
3. Where policy would not let the recipient be told today, it learns no more than whether its own
   country stands; where the series was withdrawn or narrowed, nothing.
4. A recipient that judges otherwise by what it learnt, and passed the referral on, corrects in its
   turn: it too comes by `correct`.

The referral stays what it is: a correction is a mark on it, and no state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tieline.v1 import payload_pb2
from tieline_client import limits
from tieline_client.identifiers import new_id
from tieline_client.payloads import timestamp

from tieline_server.domain.policy import Action, Question
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import (
    Direction,
    Referral,
    ReferralState,
    ReferralStep,
    correction,
    needs_correction,
)
from tieline_server.domain.series import Assessment, Series, SeriesStatus
from tieline_server.services.context import Node
from tieline_server.services.legal_basis import RECTIFIED, legal_basis
from tieline_server.services.likely import standing_countries
from tieline_server.services.notices import assessment_out
from tieline_server.services.restricting import why_excluded
from tieline_server.services.sending import send

_MOMENT = timedelta(microseconds=1)


def correct(
    node: Node, tx: Tx, series_id: str, before: Sequence[str], *, person: str = ""
) -> set[str]:
    """Tell those whose referral the change concerns; return who has mail now."""
    woken: set[str] = set()
    sent = [one for each in tx.aliases.family(series_id) for one in _sent(tx, each)]
    if not sent:
        return woken
    after = standing_countries(tx, series_id)
    series = tx.series.get(series_id)
    if series is None or series.status is SeriesStatus.WITHDRAWN or after == tuple(before):
        return woken
    for referral in sent:
        steps = tx.referrals.steps(referral.id)
        if not needs_correction(referral, steps, before, after):
            continue
        if node.cut_off(referral.recipient) or why_excluded(
            tx, referral.series, referral.recipient
        ):
            continue
        last = correction(steps)
        said = _tell(node, tx, referral, series, after, last, person)
        if said:
            woken.add(referral.recipient)
    return woken


def was_told(tx: Tx, series_id: str) -> bool:
    """Whether a referral of a series, or of a part of it, went out: else nothing is to correct."""
    return any(tx.referrals.was_sent(each) for each in tx.aliases.family(series_id))


def _sent(tx: Tx, series: str) -> list[Referral]:
    return tx.referrals.find(Direction.OUT, series)


def may_learn(node: Node, series: Series, referral: Referral) -> Question:
    """The question whether the recipient of a referral may learn of its series today."""
    own = series.owner == referral.sender
    return node.question(
        Action.BE_TOLD if own else Action.PASS_ON,
        asker=referral.recipient if own else referral.sender,
        holder=referral.sender if own else referral.recipient,
        purpose=referral.purpose,
        handling=series.handling,
        owner=series.owner,
    )


def _tell(
    node: Node,
    tx: Tx,
    referral: Referral,
    series: Series,
    after: tuple[str, ...],
    last: ReferralStep | None,
    person: str,
) -> bool:
    decision = node.policy.decide(may_learn(node, series, referral))
    grounds: list[Assessment] = []
    if decision.allowed:
        grounds = _news(tx.series.assessments(series.id), referral.created)
    else:
        after = tuple(country for country in after if country == referral.country)
    if last is not None and last.countries == after:
        return False
    at = node.clock()
    if last is not None:  # a clock that was set back must not bring back what was said before
        at = max(at, last.at + _MOMENT)
    step = ReferralStep(
        id=new_id(),
        referral=referral.id,
        state=ReferralState.CORRECTED,
        agency=node.agency,
        person=person,
        at=at,
        countries=after,
    )
    tx.referrals.add_step(step)
    payload = payload_pb2.Payload(
        person=person,
        purpose=referral.purpose,
        case_ref=referral.case_ref,
        referral_correction=payload_pb2.ReferralCorrection(
            id=step.id,
            referral=referral.id,
            countries=after,
            correct_time=timestamp(at),
            assessments=[assessment_out(replace(one, series=referral.series)) for one in grounds],
        ),
    )
    send(
        node,
        tx,
        payload,
        recipient=referral.recipient,
        lane=referral.urgency,
        subject=referral.id,
    )
    tx.audit.append(
        node.entry(
            "referral.corrected",
            person=person,
            peer=referral.recipient,
            purpose=referral.purpose,
            case_ref=referral.case_ref,
            subjects=(referral.id, series.id),
            rules=decision.rules,
            country=referral.country,
            countries=list(after),
            **legal_basis(node, [referral.recipient], otherwise=RECTIFIED),
        )
    )
    return True


def _news(assessments: Sequence[Assessment], since: datetime) -> list[Assessment]:
    """The judgements since a referral was made, the newest first where not all fit."""
    kept: list[Assessment] = []
    room = limits.CORRECTION_TEXT_CHARS
    for one in sorted(assessments, key=lambda a: (a.made, a.id), reverse=True):
        room -= len(one.grounds)
        if one.made < since or room < 0 or len(kept) == limits.CORRECTION_ASSESSMENTS:
            break
        kept.append(one)
    return kept[::-1]
