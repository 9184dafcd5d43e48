"""What shows that an own series and another agency's are one: proposed here, by the system.

1. Items that came from another agency (a referral, a broadcast) and that are in an own series too:
   the index knows how many items each two series share (`Matching.held`), so that looking costs
   next to nothing; it is done whenever the index has changed.
2. An answer to `overlap --collection` that names the other side's series and their sizes.

A proposal is this agency's own knowledge. Nobody is told before a person confirms it (linking it:
same_as.py), and a pair that was refused is not proposed again.
"""

from __future__ import annotations

from collections.abc import Iterable

from tieline_client.identifiers import new_id, series_owner

from tieline_server.domain.ports import Tx
from tieline_server.domain.same_as import Overlap, SameAs, overlaps
from tieline_server.services.context import Node


class Proposing:
    """Proposes links; one for a node, called by one thread at a time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._looked = -1

    def look(self) -> int:
        """Look at what the index holds if it has changed; return how many links are new."""
        applied = self._node.matching.applied
        if applied == self._looked:
            return 0
        found = self._overlaps()
        made = propose(self._node, found) if found else 0
        self._looked = applied
        return made

    def _overlaps(self) -> list[Overlap]:
        node = self._node
        held = [
            ({series for _, series in pairs} - {0}, count) for pairs, count in node.matching.held()
        ]
        if not any(len(series) > 1 for series, _ in held):
            return []
        wholes = node.store.read(lambda tx: tx.same_as.wholes())
        return overlaps(held, wholes, node.agency)


def propose(node: Node, found: Iterable[Overlap]) -> int:
    """Propose the links that overlaps show and that nobody knew of; return how many."""
    likeness = node.defaults.likeness
    one = [each for each in found if likeness.is_one(each.shared, each.own_items, each.other_items)]
    fresh = node.store.read(lambda tx: [each for each in one if not _known(tx, each)])
    if not fresh:
        return 0
    return node.store.write(lambda tx: sum(_add(node, tx, each) for each in fresh))


def _known(tx: Tx, found: Overlap) -> bool:
    """Whether any part of the one is linked with any part of the other."""
    others = set(tx.aliases.family(found.other))
    parts = tx.aliases.family(found.own)
    return any(link.other in others for part in parts for link in tx.same_as.of(part))


def _add(node: Node, tx: Tx, found: Overlap) -> bool:
    if _known(tx, found):
        return False
    link = SameAs(
        id=new_id(),
        own=found.own,
        other=found.other,
        found=node.clock(),
        shared=found.shared,
        own_items=found.own_items,
        other_items=found.other_items,
    )
    if not tx.same_as.add(link):
        return False
    tx.audit.append(
        node.entry(
            "same_as.proposed",
            peer=series_owner(found.other),
            subjects=(found.own, found.other),
            shared=found.shared,
        )
    )
    return True
