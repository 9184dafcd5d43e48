"""Referrals must be seen: alarms are set with them, raised in time, told to the hub, and passed to
another agency in the end (falling_back.py).

The times stand in storage, so that an alarm survives a restart; what is due is raised once, in the
transaction of its audit entry. What follows outside (the log, the agency's own command) may come
twice when the node ends in between, never not at all within a node's life.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import structlog
from tieline.v1 import operator_pb2, payload_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput, StorageCorrupt, StorageUnavailable, TielineError
from tieline_client.identifiers import check_agency, check_country, check_id, new_id, series_owner
from tieline_client.payloads import moment, timestamp

from tieline_server.domain.alarm import (
    ABOUT_QUESTIONS,
    WAITS_FOR_A_WORD,
    Alarm,
    AlarmKind,
)
from tieline_server.domain.policy import Action
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import (
    UNACKNOWLEDGED,
    Direction,
    Referral,
    ReferralState,
    ReferralStep,
    Urgency,
    is_corrected,
)
from tieline_server.domain.targets import NEXT
from tieline_server.services import falling_back
from tieline_server.services.context import Node
from tieline_server.services.incoming import Handled, Message
from tieline_server.services.sending import send

_log = structlog.get_logger(__name__)

_AT_ONCE = 100
_TOLD = (AlarmKind.ESCALATED, AlarmKind.DECONFLICTION)
"""Of what others did; no referral of this agency waits for a person."""


class Alarms:
    """Raises what is due, and shows what is open."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def next_due(self) -> datetime | None:
        """Return the time of the next alarm that is set."""
        return self._node.store.read(lambda tx: tx.alarms.next_due())

    def raise_due(self) -> Sequence[Alarm]:
        """Raise alarms whose time has come; return them. Durable on return."""
        now = self._node.clock()
        due = self._node.store.read(lambda tx: tx.alarms.due(now, 1))
        if not due:
            return ()
        raised, woken = self._node.store.write(self._raise)
        for alarm in self._node.store.read(lambda tx: tx.alarms.due(now, _AT_ONCE)):
            if alarm.kind is not AlarmKind.FALLBACK:
                continue
            try:
                more, told = self._pass_on(alarm)
            except (StorageUnavailable, StorageCorrupt) as error:  # it comes again
                _log.error("alarm.waits", error=type(error).__name__, text=error.message)
                break
            raised, woken = [*raised, *more], woken | told
        for agency in sorted(woken):
            self._node.wake(agency)
        return raised

    def _pass_on(self, alarm: Alarm) -> tuple[list[Alarm], set[str]]:
        """Tell another agency; where that fails, people here hear that nobody was told, and the
        alarms behind it are raised."""
        node = self._node
        try:
            fallback = falling_back.prepare(node, alarm)
            return node.store.write(partial(self._fall_back, alarm, fallback))
        except (StorageUnavailable, StorageCorrupt):
            raise
        except TielineError as error:
            _log.error("alarm.nobody_told", referral=alarm.referral, text=error.message)
            return node.store.write(partial(self._fall_back, alarm, None))

    def _fall_back(
        self, alarm: Alarm, fallback: falling_back.Fallback | None, tx: Tx
    ) -> tuple[list[Alarm], set[str]]:
        """Raise one alarm whose end is that another agency is told."""
        node, now = self._node, self._node.clock()
        if all(one.id != alarm.id for one in tx.alarms.due(now, _AT_ONCE)):
            return [], set()  # ended, or raised by another process, meanwhile
        referral = tx.referrals.get(alarm.referral)
        if referral is None or referral.state not in UNACKNOWLEDGED:
            tx.alarms.end(alarm.referral, now)
            return [], set()
        tx.alarms.raise_at(alarm.id, now)
        told = falling_back.tell(node, tx, referral, fallback) if fallback else set()
        named = [fallback.agency] if fallback else []
        _log_entry(node, tx, alarm, referral.purpose, referral.case_ref, named)
        return [replace(alarm, raised=now)], told

    def _raise(self, tx: Tx) -> tuple[list[Alarm], set[str]]:
        node, now = self._node, self._node.clock()
        raised: list[Alarm] = []
        woken: set[str] = set()
        for alarm in tx.alarms.due(now, _AT_ONCE):
            if alarm.kind in _TOLD or alarm.kind in ABOUT_QUESTIONS:
                # Somebody else's referral, or none: nothing of it is here.
                tx.alarms.raise_at(alarm.id, now)
                _log_entry(node, tx, alarm, "", "", ())
                raised.append(replace(alarm, raised=now))
                continue
            if alarm.kind is AlarmKind.FALLBACK:
                continue  # by itself: it may have items to send
            referral = tx.referrals.get(alarm.referral)
            over = referral is None or (
                alarm.kind in WAITS_FOR_A_WORD and referral.state not in UNACKNOWLEDGED
            )
            if referral is None or over or not _is_late(tx, referral):
                tx.alarms.end(alarm.referral, now)
                continue
            tx.alarms.raise_at(alarm.id, now)
            hubs: set[str] = set()
            if alarm.kind is AlarmKind.UNACKNOWLEDGED:
                tx.referrals.add_step(
                    ReferralStep(
                        id=new_id(),
                        referral=referral.id,
                        state=ReferralState.ESCALATED,
                        agency=node.agency,
                        person="",
                        at=now,
                    )
                )
                if referral.direction is Direction.OUT:
                    hubs = self._tell_hubs(tx, referral)
            woken |= hubs
            _log_entry(node, tx, alarm, referral.purpose, referral.case_ref, sorted(hubs))
            raised.append(replace(alarm, raised=now))
        return raised, woken

    def _tell_hubs(self, tx: Tx, referral: Referral) -> set[str]:
        """Tell every hub that may know of the series; return them."""
        node = self._node
        series = tx.series.get(referral.series)
        if series is None:
            return set()
        told = set()
        for member in node.directory().active_members():
            hub = member.agency
            if str(member.role) != "hub" or hub in (node.agency, referral.recipient):
                continue
            own = series.owner == node.agency
            question = node.question(
                Action.BE_TOLD if own else Action.PASS_ON,
                asker=hub if own else node.agency,
                holder=node.agency if own else hub,
                purpose=referral.purpose,
                handling=series.handling,
                owner=series.owner,
            )
            if not node.policy.decide(question).allowed:
                continue
            payload = payload_pb2.Payload(
                person=referral.person,
                purpose=referral.purpose,
                case_ref=referral.case_ref,
                escalation=payload_pb2.Escalation(
                    id=new_id(),
                    referral=referral.id,
                    series=series.id,
                    recipient=referral.recipient,
                    country=referral.country,
                    refer_time=timestamp(referral.created),
                    state=referral.state.value,
                ),
            )
            send(
                *(node, tx, payload),
                recipient=hub,
                lane=Urgency.IMMEDIATE,
                subject=referral.id,
            )
            told.add(hub)
        return told

    def open(self) -> list[operator_pb2.AlarmView]:
        """Return alarms that nobody has ended yet, newest first."""
        since = self._node.clock() - limits.ALARM_SHOWN
        found = self._node.store.read(lambda tx: tx.alarms.open(since, limits.ALARMS_SHOWN))
        return [alarm_view(one) for one in found]


@dataclass(frozen=True, slots=True)
class IncomingEscalations:
    """Handles escalation, at a hub."""

    node: Node

    def escalation(self, message: Message) -> Handled:
        """Nobody acknowledged an immediate referral of the sender's."""
        node, body = self.node, message.payload.escalation
        check_id(body.id, "escalation")
        check_id(body.referral, "referral")
        series_owner(body.series)
        check_agency(body.recipient)
        if body.country:
            check_country(body.country)
        if moment(body.refer_time) > node.clock() + limits.CLOCK_TOLERANCE:
            raise InvalidInput("the referral is dated in the future")
        now = node.clock()
        alarm = Alarm(
            id=f"{message.peer}/{body.referral}/{AlarmKind.ESCALATED.value}",
            kind=AlarmKind.ESCALATED,
            referral=body.referral,
            series=body.series,
            sender=message.peer,
            recipient=body.recipient,
            due=now,
        )

        def effect(tx: Tx) -> None:
            tx.alarms.set(alarm)

        return body.referral, effect


def _is_late(tx: Tx, referral: Referral) -> bool:
    """Whether anything is still waited for: not where its country stands no longer."""
    waits = referral.state in NEXT and referral.state is not ReferralState.PASSED_ON
    return waits and not is_corrected(referral.country, tx.referrals.steps(referral.id))


def _log_entry(
    node: Node, tx: Tx, alarm: Alarm, purpose: str, case_ref: str, hubs: Sequence[str]
) -> None:
    other = alarm.sender if alarm.recipient == node.agency else alarm.recipient
    tx.audit.append(
        node.entry(
            f"alarm.{alarm.kind.value}",
            peer=other,
            purpose=purpose,
            case_ref=case_ref,
            subjects=tuple(one for one in (alarm.referral, alarm.series) if one),
            told=list(hubs),
        )
    )


def alarm_view(alarm: Alarm) -> operator_pb2.AlarmView:
    """Return an alarm as people see it."""
    return operator_pb2.AlarmView(
        kind=alarm.kind.value,
        referral=alarm.referral,
        series=alarm.series,
        sender=alarm.sender,
        recipient=alarm.recipient,
        raise_time=timestamp(alarm.raised or alarm.due),
    )
