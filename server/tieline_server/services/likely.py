"""Which countries stand for a series, as all that is known of it says."""

from __future__ import annotations

from tieline_server.domain.clue import net
from tieline_server.domain.ports import Tx
from tieline_server.domain.series import likely_countries


def standing_countries(tx: Tx, series: str) -> tuple[str, ...]:
    """Return the standing likely countries of a series (domain/series.py has the rule)."""
    return likely_countries(tx.series.assessments(series), net(tx.clues.support(series)))
