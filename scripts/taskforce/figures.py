"""The release's figures, read back from the nodes' own databases after all is done.

Nothing here is counted by whoever played the parts: each figure is a set of series (or tips) that a
query finds, and where two sides know of a step, both must.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from taskforce.cast import HUB, REPOSITORY
from tests.e2e.federation import Federation, Node

SECOND = 1_000_000
"""Times are kept in microseconds."""

_STEP = """
SELECT DISTINCT referrals.series FROM referrals
JOIN referral_steps ON referral_steps.referral = referrals.id
WHERE referrals.direction = ? AND referral_steps.state = ?
"""
_OUTSIDE = """
SELECT DISTINCT referrals.series FROM referrals
JOIN referral_steps ON referral_steps.referral = referrals.id
WHERE referral_steps.state = 'told_outside' AND referral_steps.text <> ''
"""
_HUBS = "SELECT id FROM series WHERE id LIKE ?"
_LOCALISED = "SELECT series, MIN(at) FROM series_events WHERE after = 'localised' GROUP BY series"
_DELIVERED = """
SELECT referrals.series, MIN(referral_steps.at) FROM referrals
JOIN referral_steps ON referral_steps.referral = referrals.id
WHERE referrals.direction = 'in' AND referral_steps.state = 'delivered' GROUP BY referrals.series
"""
_NUMBERED = "SELECT DISTINCT series FROM uploads WHERE direction = ? AND state = 'numbered'"
_OUTCOME = """
SELECT DISTINCT referrals.series FROM referrals
JOIN referral_steps ON referral_steps.referral = referrals.id
WHERE referrals.direction = ? AND referral_steps.state = 'outcome' AND referral_steps.{} > 0
"""


def _set(node: Node, sql: str, *values: object) -> set[str]:
    return {str(row[0]) for row in node.rows(sql, *values)}


def _both(hub: Node, others: Iterable[Node], sql: str, *words: str) -> set[str]:
    """Series of which the hub knows it, as sender, and whoever it told knows it too."""
    received = [_set(node, sql, "in", *words) for node in others]
    return _set(hub, sql, "out", *words) & set().union(*received)


def report(nodes: Federation) -> dict[str, Any]:
    """Return the figures, in the order and under the names of the issue."""
    hub = nodes[HUB]
    others = [node for node in nodes if node.agency != HUB]
    told = [node for node in others if node.agency != REPOSITORY]
    localised = dict(hub.rows(_LOCALISED))
    delivered = _both(hub, told, _STEP, "delivered")
    waited = [(at - localised[series]) / SECOND for series, at in _arrivals(told).items()]
    return {
        "agencies": sum(bool(_set(node, _HUBS, f"{HUB}/%")) for node in others),
        "series": len(_set(hub, "SELECT id FROM series WHERE origin = 'own'")),
        "localised": len(localised),
        "delivered": len(delivered),
        "told_outside": len(_set(hub, _OUTSIDE)),
        "acknowledged": len(_both(hub, told, _STEP, "acknowledged")),
        "uploaded": len(_both(hub, [nodes[REPOSITORY]], _NUMBERED)),
        "identified": len(_both(hub, told, _OUTCOME.format("identified"))),
        "tentative": len(_both(hub, told, _OUTCOME.format("tentative"))),
        "tips": hub.rows("SELECT COUNT(*) FROM tips")[0][0],
        "median_seconds_localised_to_delivered": round(statistics.median(waited), 3),
    }


def _arrivals(told: Iterable[Node]) -> dict[str, int]:
    """When each series had reached every agency of its country, by the recipients' own clocks."""
    arrived: dict[str, int] = {}
    for node in told:
        for series, at in node.rows(_DELIVERED):
            arrived[series] = max(at, arrived.get(series, at))
    return arrived
