"""Deconfliction: agencies that work on the same series are both told at once.

1. They meet by a question for the purpose `deconfliction` that hits, by the answer "ours" to a
   broadcast, or by a person's word that two series are one.
2. Each side sets a notice of its own (domain/meeting.py:meeting), in the transaction that records
   the meeting. It names the other agency, and a reference that both have.
3. More than that follows as it always does: the numbers of series and whom to call with the answer
   where policy lets them go, otherwise once a person has released them (`tieline requests`).
"""

from __future__ import annotations

from collections.abc import Iterable

from tieline_client import limits

from tieline_server.domain.alarm import Alarm
from tieline_server.domain.meeting import meeting
from tieline_server.services.context import Node

PURPOSE = "deconfliction"


def met_by_question(
    node: Node, reference: str, case_ref: str, asker: str, holder: str, series: Iterable[str]
) -> list[Alarm]:
    """Return the notices of a question that hit in these series; one where none is known."""
    named = sorted(set(series))[: limits.DECONFLICTION_SERIES] or [""]
    now = node.clock()
    return [meeting(reference, one, asker, holder, now, apart=case_ref) for one in named]
