"""What storage keeps of series that are one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tieline_server.domain.same_as import SameAs, Word


class SameAsRepository(Protocol):
    def add(self, link: SameAs) -> bool:
        """Add a link; the first of a pair of series stands. False when there was one."""
        ...

    def get(self, link: str) -> SameAs | None: ...
    def between(self, own: str, other: str) -> SameAs | None: ...
    def of(self, series: str) -> list[SameAs]:
        """The links that name a series, on either side, oldest first."""
        ...

    def find(self) -> list[SameAs]:
        """All links, oldest first."""
        ...

    def say(self, link: str, word: Word, purpose: str, case_ref: str) -> None:
        """Keep this agency's word."""
        ...

    def heard(self, link: SameAs) -> None:
        """Keep the other side's word, with what came with it."""
        ...

    def told(self, series: str) -> frozenset[str]:
        """Whom this agency told of an own series by its word."""
        ...

    def wholes(self) -> Mapping[int, str]:
        """The series that each number of holdings stands for; none that is withdrawn."""
        ...
