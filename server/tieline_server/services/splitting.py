"""Splitting an own series: some of its items turn out to show somebody else.

1. Which items a person's list picks out, and whether they may be split off: domain/splitting.py.
2. In one transaction: the new series with this agency's judgements copied as its own statements,
   what the old one was narrowed to, the items moved, the history of both, a signed SeriesSplit to
   everybody who was told items of the old one (split_telling.py), and the audit entry.
3. Referrals, deposits, broadcasts, clues, links, notes and references stay with the old series.
   Who was told of it goes on with that; the new series is referred by a person.
4. What became part of the series (merging.py) was told under its own id, and is split with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from tieline.v1 import digests_pb2, operator_pb2, series_work_pb2
from tieline_client import limits
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput
from tieline_client.identifiers import new_id, new_series_id

from tieline_server.domain.ports import Tx
from tieline_server.domain.retraction import Retraction, RetractionKind
from tieline_server.domain.series import Origin, Series
from tieline_server.domain.splitting import (
    MARK_BYTES,
    Chosen,
    Digests,
    Split,
    check_split,
    choose,
    pack_marks,
    status_of_new,
)
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.item_chunks import decode
from tieline_server.services.legal_basis import RECTIFIED, legal_basis
from tieline_server.services.likely import standing_countries
from tieline_server.services.notices import series_out
from tieline_server.services.restricting import restriction_of
from tieline_server.services.retracting import tell
from tieline_server.services.series_life import detailed_view
from tieline_server.services.split_items import digests_of, held, line_of, settle
from tieline_server.services.split_telling import holders, tell_split
from tieline_server.services.tombstones import write_down
from tieline_server.services.views import find_series, series_view


class Splitting:
    """Splits own series."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def split(
        self, person: Person, request: series_work_pb2.SplitSeriesRequest
    ) -> operator_pb2.SplitSeriesResponse:
        """Move listed items of a series to a new one. Raises NotFound, InvalidInput with counts,
        LimitExceeded or WrongState; nothing is split then."""
        node = self._node
        listed, name = _listed(request.items, node.agency), clean(request.name)

        def work(tx: Tx) -> tuple[operator_pb2.SplitSeriesResponse, set[str], list[Retraction]]:
            old = find_series(tx, request.series)
            check_split(node.agency, old, name)
            if tx.series.by_name(name) is not None:
                raise InvalidInput(f"there is a series of the name {name!r}; choose another name")
            chosen = choose(listed, {one.id: digests_of(one) for one in held(tx, old.id)}, old.id)
            made = self._make(tx, person, old, name)
            text = clean(request.text)[: limits.FREE_TEXT_CHARS]
            told = self._carry_out(tx, person, old, made, chosen, text)
            shown = operator_pb2.SplitSeriesResponse(
                series=detailed_view(tx, find_series(tx, made.id)),
                old=series_view(tx, find_series(tx, old.id)),
                moved=len(chosen.items),
                told=sorted(told),
            )
            return shown, told, tx.retractions.of_series(made.id)

        response, told, narrowed = node.store.write(work)
        node.store.index.refresh()
        write_down(node.ledger, node.agency, narrowed, node.clock())
        for agency in told:
            node.wake(agency)
        return response

    def _make(self, tx: Tx, person: Person, old: Series, name: str) -> Series:
        node, at = self._node, self._node.clock()
        likely = bool(standing_countries(tx, old.id))
        made = Series(
            id=new_series_id(node.agency),
            name=name,
            status=status_of_new(old.status, likely=likely),
            origin=Origin.OWN,
            handling=restriction_of(tx, old.id).on(old.handling),
            contact=old.contact,
            created=at,
            case_ref=old.case_ref,
        )
        tx.series.add(made)
        for judged in tx.series.assessments(old.id):
            if judged.agency == node.agency:  # what others judged was not of these items alone
                copied = replace(judged, id=new_id(), series=made.id, clues=())
                tx.series.add_assessment(copied)
        return made

    def _carry_out(
        self, tx: Tx, person: Person, old: Series, made: Series, chosen: Chosen, text: str
    ) -> set[str]:
        """Keep the splits, move the items, tell; return who was told."""
        node, at = self._node, self._node.clock()
        splits = [
            split
            for part in tx.aliases.family(old.id)
            for split in _splits(part, made, chosen.digests, person.name, at)
        ]
        for split in splits:
            tx.splits.add(split)
        for part in dict.fromkeys(one.series for one in splits):
            settle(node, tx, part)
        for one in (old.id, made.id):
            tx.history.add(line_of(splits[0], one, text))
        told = {
            agency
            for split in splits
            for agency in sorted(holders(node, tx, split.series))
            if tell_split(node, tx, split, agency)
        }
        self._narrow(tx, person, old, made, told)
        basis: Any = legal_basis(node, sorted(told), otherwise=RECTIFIED)
        tx.audit.append(
            node.entry(
                "series.split",
                person=person.name,
                case_ref=old.case_ref,
                subjects=(old.id, made.id),
                items=len(chosen.items),
                told=sorted(told),
                **basis,
            )
        )
        return told

    def _narrow(
        self, tx: Tx, person: Person, old: Series, made: Series, told: Iterable[str]
    ) -> None:
        """The new series is narrowed to whom the old one is narrowed to."""
        only = restriction_of(tx, old.id).only
        if only is None:
            return
        narrowed = Retraction(
            id=new_id(),
            series=made.id,
            kind=RetractionKind.NARROW,
            at=self._node.clock(),
            person=person.name,
            reason=f"as {old.id}, which it was split from",
            limited=True,
            only=only,
        )
        tx.retractions.add(narrowed)
        for agency in sorted(told):
            tell(self._node, tx, narrowed, agency)


def _splits(
    part: str,
    made: Series,
    digests: Sequence[tuple[DigestKind, bytes]],
    person: str,
    at: datetime,
) -> list[Split]:
    """Return the words that move items out of one series, as many as their marks need."""
    notice = series_out(made, [], 0, with_name=False).SerializeToString()
    found = []
    for start in range(0, len(digests), limits.SPLIT_MARKS):
        name = new_id()
        marks = pack_marks(name, digests[start : start + limits.SPLIT_MARKS])
        assert len(marks) <= limits.SPLIT_MARKS * MARK_BYTES
        found.append(Split(name, part, made.id, person, at, at, marks, notice))
    return found


def _listed(chunks: Iterable[digests_pb2.ItemChunk], agency: str) -> list[Digests]:
    """Return what is known of each listed item. Raises InvalidInput where chunks do not hold."""
    listed: list[Digests] = []
    for chunk in chunks:
        columns = decode(chunk, agency)
        records: list[dict[DigestKind, bytes]] = [{} for _ in range(chunk.items)]
        for kind, column in columns.digests.items():
            for at in column.present.nonzero()[0].tolist():
                records[at][kind] = column.rows[at].tobytes()
        listed += records
    return listed
