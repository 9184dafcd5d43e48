"""Under which restrictions an item is held in one way: its import's, and its series' own.

A holding is a pair of numbers, of an import and of a series (0 for none), as the index gives them.
The stricter of what the import was made under and of what the series is under now decides, so that
a series which its owner tightens is tighter in the next answer, whatever it was imported as.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tieline_client.handling import Handling, Tlp, stricter
from tieline_client.identifiers import series_owner

from tieline_server.domain.ports import Tx
from tieline_server.domain.series import Series
from tieline_server.services.context import Node

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Under:
    """``only`` are the agencies that may learn of it besides its owner; None: policy alone says."""

    handling: Handling
    case_ref: str
    only: frozenset[str] | None = None
    owner: str = ""
    """The agency that provided it."""
    generation: int = 0
    """The generation from which its import counts."""

    def excludes(self, agency: str) -> bool:
        """Whether this agency may learn nothing of it."""
        return self.only is not None and agency not in self.only


def held_under(node: Node, pairs: Iterable[Pair]) -> dict[Pair, Under]:
    """Return of pairs those that count for peers: complete, answerable, not withdrawn."""
    wanted = list(pairs)
    return node.store.read(lambda tx: held_now(tx, wanted)) if wanted else {}


def held_now(tx: Tx, wanted: Iterable[Pair]) -> dict[Pair, Under]:
    """As `held_under`, within a transaction."""
    wanted = list(wanted)
    imports = tx.items.held_under({import_no for import_no, _ in wanted})
    series = tx.series.terms({number for _, number in wanted if number})
    found: dict[Pair, Under] = {}
    for pair in wanted:
        held, terms = imports.get(pair[0]), series.get(pair[1])
        if held is None or (terms is not None and terms.withdrawn):
            continue
        if terms is None:
            found[pair] = Under(
                held.handling, held.case_ref, owner=held.agency, generation=held.generation
            )
        else:
            handling = stricter(held.handling, terms.handling)
            owner = series_owner(terms.id)
            found[pair] = Under(handling, held.case_ref, terms.only, owner, held.generation)
    return found


def with_items(tx: Tx, series: Series) -> Series:
    """Return a series as it is told with its items: under the highest code and TLP of its own and
    of every import that holds some of them. Until when it is kept is its own, and so is a mark up
    to AMBER, which imports without other word have and which keeps nothing from any agency."""
    own = handling = series.handling
    for one in tx.exports.imports_of(series.id):
        tlp = one.handling.tlp if one.handling.tlp > Tlp.AMBER else own.tlp
        handling = stricter(handling, replace(one.handling, tlp=tlp))
    return replace(series, handling=replace(handling, retain_until=own.retain_until))
