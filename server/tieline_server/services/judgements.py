"""Judgements that come in with a series: whose word is taken from whom.

1. They are about the series that they come with.
2. What this agency's own people judged, nobody else says: it is here. After a restore it comes back
   in what this agency signed itself (`given_back`).
3. A peer brings its own word, of a time that has come. So does a series' owner anybody's about it:
   its notice is what all others pass on.
4. Whoever else tells a series brings the word of a third agency as it knows it, unless that agency
   told us the series itself: then it speaks for itself.
5. What an agency says itself takes the place of what was said in its name under the same id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tieline.v1 import series_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput

from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction
from tieline_server.domain.series import Assessment, Series
from tieline_server.services.context import Node
from tieline_server.services.notices import assessment_in
from tieline_server.services.restricting import why_excluded

Stated = Sequence[series_pb2.Assessment]


def keep(node: Node, tx: Tx, fresh: Iterable[tuple[str, Assessment]]) -> None:
    """Keep judgements that `news` found."""
    for teller, one in fresh:
        if teller == one.agency != node.agency:
            tx.series.put_assessment(one)  # 5
        else:
            tx.series.add_assessment(one)


def news(
    node: Node, tx: Tx, series: Series, told: Iterable[tuple[str, Stated]]
) -> list[tuple[str, Assessment]]:
    """Return what is taken and new of what each teller says, with who says it. What this agency
    signed itself is its own memory. Raises InvalidInput."""
    told = [(teller, stated) for teller, stated in told if stated]
    if not told:
        return []
    known = {(one.id, one.agency): one for one in tx.series.assessments(series.id)}
    fresh: dict[tuple[str, str], tuple[str, Assessment]] = {}
    for teller, stated in told:
        for message in stated:
            one = assessment_in(message)
            key = one.id, one.agency
            if one.series != series.id:  # 1
                raise InvalidInput("an assessment of another series")
            if teller != node.agency and not _may_bring(node, tx, series, teller, one):
                continue
            before = fresh[key][1] if key in fresh else known.get(key)
            if before is None or (teller == one.agency and before != one):
                fresh[key] = teller, one
    return list(fresh.values())


def _may_bring(node: Node, tx: Tx, series: Series, teller: str, one: Assessment) -> bool:
    if one.agency == node.agency:  # 2
        return False
    if one.made > node.clock() + limits.CLOCK_TOLERANCE:  # 3
        if one.agency == teller:
            raise InvalidInput("an assessment is dated in the future")
        return False  # who passes it on is not to blame
    return teller in (one.agency, series.owner) or one.agency not in _tellers(tx, series.id)  # 4


def _tellers(tx: Tx, series: str) -> set[str]:
    """Who told this agency a series."""
    tellers = {one.sender for one in tx.referrals.find(Direction.IN, series)}
    tellers |= {one.sender for one in tx.broadcasts.find(Direction.IN, series)}
    return tellers | {one.sender for one in tx.uploads.find(Direction.IN, series)}


def given_back(node: Node, tx: Tx, series: str, stated: Stated) -> None:
    """Put back what this agency's people judged of a series that is here, as it signed it."""
    if tx.series.get(series) is None or why_excluded(tx, series, node.agency):
        return
    for message in stated:
        one = assessment_in(message)
        if one.agency == node.agency and one.series == series:
            tx.series.add_assessment(one)
