"""Items that a split moved, as they are held here.

`settle` puts what is held under the old id where its splits say. It is done wherever a split or
items come in, in the same transaction, so that no order of them makes a difference. What is put
into a series that this node may not keep is erased there and then, and with it what else a
withdrawal takes (purging.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from tieline.v1 import series_pb2
from tieline_client.digests import DigestKind
from tieline_client.identifiers import new_id, series_owner

from tieline_server.domain.ports import ItemRow, Purge, Tx
from tieline_server.domain.retraction import PurgeCause
from tieline_server.domain.series import Origin
from tieline_server.domain.series_life import EventKind, SeriesEvent
from tieline_server.domain.splitting import Digests, Sorter, Split
from tieline_server.services.context import Node
from tieline_server.services.notices import series_in
from tieline_server.services.restricting import restriction_of, why_excluded

_PAGE = 10_000
_CHAIN_MOST = 32
"""Splits of splits that are followed at once."""


def settle(node: Node, tx: Tx, series: str, depth: int = 0) -> bool:
    """Put what is held under a series where its splits say; whether anything was."""
    splits = tx.splits.of(series)
    own = series_owner(series) == node.agency
    if own:  # of what its owner erased since, nothing is known that could take the items
        splits = [one for one in splits if one.notice]
    if not splits or depth == _CHAIN_MOST:
        return False
    sorter = Sorter(splits)
    found: dict[str, list[int]] = {}
    for item in held(tx, series):
        made = sorter.place(digests_of(item))
        if made:
            found.setdefault(made, []).append(item.id)
    moved = False
    for made, items in sorted(found.items()):
        split = next(one for one in splits if one.made == made)
        if _gone(node, tx, split):
            moved |= tx.splits.drop(series, items) > 0
            _purge_again(node, tx, made)
            continue
        if not tx.splits.move(series, made, items):
            continue
        moved = True
        _make_row(node, tx, split)
        settle(node, tx, made, depth + 1)
    return moved


def held(tx: Tx, series: str) -> Iterator[ItemRow]:
    """Yield the items of a series, with those of its own parts."""
    after = 0
    while page := tx.items.of_series(series, after=after, limit=_PAGE):
        yield from page
        after = page[-1].id


def led_to(tx: Tx, series: str) -> list[Split]:
    """Return the splits that led to a series, those of the series it was split from included."""
    found: dict[tuple[str, str], Split] = {}
    waiting = [series]
    while waiting and len(found) < _CHAIN_MOST:
        made = {(one.id, one.series): one for one in tx.splits.making(waiting.pop())}
        fresh = {key: one for key, one in made.items() if key not in found}
        found |= fresh
        waiting += dict.fromkeys(one.series for one in fresh.values())
    return list(found.values())


def digests_of(item: ItemRow) -> Digests:
    """Return what an item is known by."""
    stated = ((kind, getattr(item, kind.label)) for kind in DigestKind)
    return {kind: value for kind, value in stated if value is not None}


def _gone(node: Node, tx: Tx, split: Split) -> bool:
    """Whether the series that a split made may not be kept here, or was erased."""
    return not split.notice or bool(why_excluded(tx, split.made, node.agency))


def _purge_again(node: Node, tx: Tx, made: str) -> None:
    """What came late of a series that was taken back leaves the files too, and its owner hears."""
    for retraction in tx.retractions.of_series(made):
        if retraction.excludes(node.agency):
            purge = Purge(retraction.id, PurgeCause.RETRACTION, made, node.clock())
            tx.retractions.begin_purge(purge)
            return
    tx.retractions.begin_purge(Purge(new_id(), PurgeCause.RETENTION, made, node.clock()))


def _make_row(node: Node, tx: Tx, split: Split) -> None:
    """Make the series that items were put into, under what its owner restricted it to meanwhile."""
    if tx.series.get(split.made) is not None:
        return
    notice = series_pb2.SeriesNotice.FromString(split.notice)
    old = tx.series.get(split.series)
    own = series_owner(split.made) == node.agency
    origin = Origin.OWN if own else old.origin if old is not None else Origin.REFERRAL
    made = series_in(notice, origin, old.case_ref if old is not None else "")
    tx.series.add(made)
    restriction = restriction_of(tx, made.id)
    tx.series.set_handling(made.id, restriction.on(made.handling))
    tx.history.add(line_of(split, split.made))


def line_of(split: Split, series: str, text: str = "") -> SeriesEvent:
    """What the history of either series says of a split."""
    return SeriesEvent(
        id=new_id(),
        series=series,
        kind=EventKind.SPLIT,
        agency=series_owner(split.series),
        person=split.person,
        at=split.at,
        before=split.series,
        after=split.made,
        text=text,
    )
