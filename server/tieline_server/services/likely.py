"""Which countries stand for a series, as all that is known of it says."""

from __future__ import annotations

from collections import Counter

from tieline_server.domain.clue import net
from tieline_server.domain.ports import Tx
from tieline_server.domain.series import likely_countries


def standing_countries(tx: Tx, series: str) -> tuple[str, ...]:
    """Return the standing likely countries of a series (domain/series.py has the rule).

    Verified tips on clues of its parts support as those on its own do.
    """
    assessments = tx.series.assessments(series)
    if len(assessments) < 2:
        return likely_countries(assessments)
    support: Counter[str] = Counter()
    for part in tx.aliases.family(series):
        support.update(net(tx.clues.support(part)))
    return likely_countries(assessments, support)
