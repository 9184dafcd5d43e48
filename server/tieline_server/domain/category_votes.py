"""What agencies' category votes on items amount to.

A vote is (agency, scheme, code). It counts once an agency and only as that agency's own: from its
own import, or from items that it sent itself; nobody sends votes of others, and whoever does is
refused (services/item_chunks.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tieline_client import limits

Given = tuple[str, str, str]
"""(agency, scheme, code)."""


@dataclass(frozen=True, slots=True)
class VoteCount:
    """How a series' items were judged: ``items`` under this code by ``agencies`` in all, of which
    so many are trusted, or disputed by a vote for another code of the same scheme."""

    scheme: str
    code: str
    items: int
    agencies: int
    trusted: int
    disputed: int


def distribution(votes: Mapping[int, Iterable[Given]]) -> tuple[VoteCount, ...]:
    """Return the counts of items' votes, by scheme and code.

    Trusted: at least VOTES_TRUSTED agencies for one code, and none for another of that scheme. An
    agency that votes for two codes of a scheme disputes itself.
    """
    voters: dict[tuple[str, str], set[str]] = defaultdict(set)
    items: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    for given in votes.values():
        by_scheme: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for agency, scheme, code in given:
            by_scheme[scheme][code].add(agency)
            voters[scheme, code].add(agency)
        for scheme, codes in by_scheme.items():
            disputed = len(codes) > 1
            for code, agencies in codes.items():
                trusted = not disputed and len(agencies) >= limits.VOTES_TRUSTED
                items[scheme, code].append((trusted, disputed))
    return tuple(
        VoteCount(
            *key,
            len(marks),
            len(voters[key]),
            sum(trusted for trusted, _ in marks),
            sum(disputed for _, disputed in marks),
        )
        for key, marks in sorted(items.items())
    )
