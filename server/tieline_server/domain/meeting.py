"""Two agencies meet over a series: the notice of it that each of them sets."""

from __future__ import annotations

import hashlib
from datetime import datetime

from tieline_server.domain.alarm import Alarm, AlarmKind


def meeting(
    reference: str, series: str, asker: str, holder: str, at: datetime, *, apart: str = ""
) -> Alarm:
    """Return the notice that two agencies work on the same series, as each of the two sets it.

    ``reference`` is what both can name to each other: the id of the question, the broadcast or the
    word by which they met. ``series`` is empty where a side does not learn which. With ``apart``
    (a case) a second meeting of the same day over the same says nothing new.
    """
    key = reference
    if apart:
        day = at.date().isoformat()
        key = hashlib.sha256(f"{asker}/{holder}/{apart}/{day}".encode()).hexdigest()[:32]
    return Alarm(
        id="/".join(filter(None, (key, series, asker, AlarmKind.DECONFLICTION.value))),
        kind=AlarmKind.DECONFLICTION,
        referral=reference,
        series=series,
        sender=asker,
        recipient=holder,
        due=at,
    )
