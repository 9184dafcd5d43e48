"""Series of two agencies that are one: what shows it, and what each side says of it.

Nothing is united: each agency keeps its series, and a *link* says that they are the same. What is
shared proposes it; it stands once a person on each side has confirmed it. Each side's latest word
counts, so that every order of messages ends alike.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from tieline_client.identifiers import series_owner

from tieline_server.domain.series import DutyContact, ExternalReference


class LinkState(enum.StrEnum):
    """What one side says, and what both amount to."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    """One of the two series was taken back, or narrowed so that the other side may not have it."""


@dataclass(frozen=True, slots=True)
class Word:
    """What a side said last, and who; nobody said anything while it is pending."""

    state: LinkState = LinkState.PENDING
    at: datetime | None = None
    person: str = ""


@dataclass(frozen=True, slots=True)
class SameAs:
    """A link between an own series and another agency's, as this agency sees it.

    ``shared`` items of ``own_items`` and ``other_items``; 0 where a side does not say. What the
    other side told of its series comes with its word.
    """

    id: str
    own: str
    other: str
    found: datetime
    shared: int = 0
    own_items: int = 0
    other_items: int = 0
    ours: Word = field(default_factory=Word)
    theirs: Word = field(default_factory=Word)
    purpose: str = ""
    case_ref: str = ""
    references: tuple[ExternalReference, ...] = ()
    contact: DutyContact = field(default_factory=DutyContact)

    @property
    def peer(self) -> str:
        """The other agency."""
        return series_owner(self.other)

    @property
    def state(self) -> LinkState:
        """What both words amount to."""
        said = {self.ours.state, self.theirs.state}
        for one in (LinkState.WITHDRAWN, LinkState.REFUSED, LinkState.PENDING):
            if one in said:
                return one
        return LinkState.CONFIRMED


_WEIGHT = tuple(LinkState)


def later(known: Word, said: Word) -> Word:
    """Return the word that counts of two of one side: the later one; of two of one moment the more
    careful one. A withdrawal is never said over."""
    if LinkState.WITHDRAWN in (known.state, said.state):
        return known if known.state is LinkState.WITHDRAWN else said
    if known.at is None or said.at is None:
        return said if known.at is None else known
    one, other = (known.at, _WEIGHT.index(known.state)), (said.at, _WEIGHT.index(said.state))
    return said if other > one else known


def combined(links: Sequence[SameAs]) -> SameAs:
    """Return what links between the same two wholes amount to: parts of either may have been
    linked before they became part of it. The oldest one stands for all."""
    first, *more = sorted(links, key=lambda one: (one.found, one.id))
    for one in more:
        fresh = [each for each in one.references if each not in first.references]
        first = replace(
            first,
            ours=later(first.ours, one.ours),
            theirs=later(first.theirs, one.theirs),
            shared=max(first.shared, one.shared),
            own_items=max(first.own_items, one.own_items),
            other_items=max(first.other_items, one.other_items),
            purpose=first.purpose or one.purpose,
            case_ref=first.case_ref or one.case_ref,
            references=(*first.references, *fresh),
            contact=first.contact if first.contact != DutyContact() else one.contact,
        )
    return first


LEAST, OF_SMALLER, OF_LARGER = 5, 50, 10
"""Items, and percent of either size."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """From where on an overlap shows that two series are one: at least so many items are shared,
    and so much of the smaller and of the larger one, in percent."""

    least: int = LEAST
    of_smaller: int = OF_SMALLER
    of_larger: int = OF_LARGER

    def is_one(self, shared: int, own: int, other: int) -> bool:
        """Whether ``shared`` items of series of these sizes are enough."""
        smaller, larger = sorted((own, other))
        return (
            0 < self.least <= shared <= smaller
            and 100 * shared >= self.of_smaller * smaller
            and 100 * shared >= self.of_larger * larger
        )


@dataclass(frozen=True, slots=True)
class Overlap:
    """Items that an own series and another agency's share, and how many each has."""

    own: str
    other: str
    shared: int
    own_items: int
    other_items: int


def overlaps(
    held: Iterable[tuple[Iterable[int], int]], wholes: Mapping[int, str], agency: str
) -> list[Overlap]:
    """Return what own series share with other agencies'.

    ``held``: the series, by number, that some items are in together, and how many items;
    ``wholes``: the series that each number stands for.
    """
    items: Counter[str] = Counter()
    shared: Counter[tuple[str, str]] = Counter()
    for numbers, count in held:
        series = {wholes[number] for number in numbers if number in wholes}
        own = sorted(one for one in series if series_owner(one) == agency)
        others = sorted(series.difference(own))
        items.update(dict.fromkeys(series, count))
        shared.update({(one, other): count for one in own for other in others})
    return [
        Overlap(own, other, count, items[own], items[other])
        for (own, other), count in sorted(shared.items())
    ]
