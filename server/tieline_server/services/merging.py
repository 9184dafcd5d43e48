"""Merging own series: decided here, told to everybody who knows the part (linking.py).

1. Which may become part of which: domain/merging.py:check_merge.
2. In one transaction: the alias, the history of both, the whole's status, references, judgements
   and handling (the stricter of both), a SeriesMerge to everybody who was told the part, and the
   audit entry.
3. A retraction of the whole is one of each part (retracting.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tieline.v1 import operator_pb2, series_work_pb2
from tieline_client import limits
from tieline_client.handling import stricter
from tieline_client.identifiers import new_id

from tieline_server.domain.merging import Alias, check_merge, status_of_both
from tieline_server.domain.ports import Tx
from tieline_server.domain.series import Assessment, Series, SeriesStatus
from tieline_server.domain.series_life import EventKind, SeriesEvent
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.correcting import correct
from tieline_server.services.legal_basis import RECTIFIED, legal_basis
from tieline_server.services.likely import standing_countries
from tieline_server.services.linking import tell_merge
from tieline_server.services.restricting import restriction_of
from tieline_server.services.retracting import agencies_told
from tieline_server.services.series_life import advance, detailed_view
from tieline_server.services.views import find_series


class Merging:
    """Merges own series."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def merge(
        self, person: Person, request: series_work_pb2.MergeSeriesRequest
    ) -> operator_pb2.SeriesView:
        """Make one series part of another. Raises NotFound, InvalidInput or WrongState."""
        node, at = self._node, self._node.clock()
        text = clean(request.text)[: limits.FREE_TEXT_CHARS]

        def work(tx: Tx) -> tuple[operator_pb2.SeriesView, set[str]]:
            kept, part = find_series(tx, request.series), find_series(tx, request.merged)
            check_merge(
                node.agency,
                kept,
                part,
                restriction_of(tx, kept.id),
                restriction_of(tx, part.id),
            )
            alias = Alias(part.id, kept.id, new_id(), person.name, at)
            tx.aliases.add(alias)
            for one in (kept, part):
                tx.history.add(
                    SeriesEvent(
                        id=new_id(),
                        series=one.id,
                        kind=EventKind.MERGED,
                        agency=node.agency,
                        person=person.name,
                        at=at,
                        before=part.id,
                        after=kept.id,
                        text=text,
                    )
                )
            who = {"agency": node.agency, "person": person.name}
            advance(tx, kept, status_of_both(kept.status, part.status), at=at, **who)
            advance(tx, part, SeriesStatus.CLOSED, at=at, **who)
            told = {
                agency
                for each in tx.aliases.family(part.id)
                for agency in agencies_told(node, tx, each)
            }
            for agency in sorted(told):
                tell_merge(node, tx, alias, agency)
            told |= _bring_together(node, tx, kept, part, person)
            basis: Any = legal_basis(node, sorted(told), otherwise=RECTIFIED)
            tx.audit.append(
                node.entry(
                    "series.merged",
                    person=person.name,
                    case_ref=kept.case_ref,
                    subjects=(kept.id, part.id),
                    told=sorted(told),
                    **basis,
                )
            )
            return detailed_view(tx, find_series(tx, kept.id)), told

        view, told = node.store.write(work)
        for agency in told:
            node.wake(agency)
        return view


def _bring_together(node: Node, tx: Tx, kept: Series, part: Series, person: Person) -> set[str]:
    """Give the whole what was known of the part; return whom a correction is told to."""
    strict = stricter(kept.handling, part.handling)
    for one in (kept, part):
        tx.series.set_handling(one.id, strict)
    tx.items.restricted()
    fresh = [one for one in part.references if one not in kept.references]
    room = max(limits.REFERENCES_PER_SERIES - len(kept.references), 0)
    tx.series.add_references(kept.id, fresh[:room])
    if part.identified > kept.identified:
        tx.series.set_identified(kept.id, part.identified)
    before = standing_countries(tx, kept.id)
    # What was copied when the part was split off (splitting.py) is known of the whole already.
    known = {_word(one, kept.id) for one in tx.series.assessments(kept.id)}
    for judged in tx.series.assessments(part.id):
        if judged.clues or _word(judged, kept.id) not in known:
            tx.series.add_assessment(replace(judged, id=new_id(), series=kept.id))
    return correct(node, tx, kept.id, before, person=person.name)


def _word(judged: Assessment, series: str) -> Assessment:
    """Return what was judged of a series, whatever its id and the clues that it rests on."""
    return replace(judged, id="", series=series, clues=())
