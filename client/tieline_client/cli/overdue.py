"""When the next step of a referral is due. Published taskforce results show how far telling a
country lags behind knowing it; a step that is late must be seen.

The times are expectations, not rules: nothing is refused or undone when they pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

_HOURS: Mapping[str, Mapping[str, int]] = {
    # after this state, so many hours until the next step, by urgency
    "referred": {"immediate": 1, "urgent": 4, "routine": 24},
    "delivered": {"immediate": 4, "urgent": 24, "routine": 5 * 24},
    "acknowledged": {"immediate": 24, "urgent": 3 * 24, "routine": 14 * 24},
    "accepted": {"immediate": 7 * 24, "urgent": 30 * 24, "routine": 90 * 24},
}
_NEXT = {
    "referred": "delivered",
    "delivered": "acknowledged",
    "acknowledged": "accepted, declined or passed_on",
    "accepted": "outcome",
}


def next_step(state: str) -> str:
    """Return what is waited for after a state, "" where nothing is."""
    return _NEXT.get(state, "")


def due(state: str, urgency: str, since: datetime) -> datetime | None:
    """Return when the step after ``state``, reached at ``since``, is due; None where none is."""
    hours = _HOURS.get(state, {}).get(urgency)
    return None if hours is None else since + timedelta(hours=hours)


def is_overdue(state: str, urgency: str, since: datetime, now: datetime) -> bool:
    """Whether the step after ``state`` is late at ``now``."""
    moment = due(state, urgency, since)
    return moment is not None and now > moment
