"""Requests that a person decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from tieline_server.domain.request import (
    Grant,
    Request,
    RequestedSeries,
    RequestKind,
    RequestState,
    SeriesState,
    Side,
)


class RequestRepository(Protocol):
    def add(self, request: Request, series: Sequence[RequestedSeries] = ()) -> bool:
        """Add a request with its series; False, and nothing is changed, when its id is known."""
        ...

    def put(self, request: Request) -> None:
        """Replace what is known of a request, but for its series."""
        ...

    def get(self, request: str) -> Request | None: ...
    def series_of(self, request: str) -> list[RequestedSeries]:
        """Return the series of a request, those with the most items first."""
        ...

    def put_series(self, request: str, series: RequestedSeries) -> None: ...
    def mark(self, request: str, series: Sequence[str], state: SeriesState) -> None: ...
    def find(
        self,
        *,
        sides: Sequence[Side] = (),
        states: Sequence[RequestState] = (),
        kind: RequestKind | None = None,
        series: str = "",
        limit: int = 1000,
    ) -> list[Request]:
        """Return requests, newest first; of a series, where that is given."""
        ...

    def wait(self, request: Request, hits: Mapping[int, int]) -> str:
        """Note that an asker waits for the release of series, by their numbers in holdings (0: of
        items in none) with how many items of each.

        Where the asker waits for the same purpose and case already, that request grows, and its id
        is returned instead.
        """
        ...

    def refusal(self, peer: str, purpose: str, case_ref: str, now: datetime) -> Request | None:
        """Return the last refusal by a peer of a release that this agency asked for, which holds
        at ``now``."""
        ...

    def grants(self, peer: str, purpose: str, case_ref: str, now: datetime) -> dict[int, Grant]:
        """Return what was decided for an asker, by the number of a series in holdings."""
        ...

    def used(self, peer: str, purpose: str, now: datetime) -> dict[int, datetime]:
        """Return until when a peer may use series for a purpose, by their numbers in holdings."""
        ...

    def numbers(self, series: Sequence[str]) -> dict[str, int]:
        """Return the numbers of series in holdings, of those that have one."""
        ...

    def released_to(self, series: str) -> list[str]:
        """Return whom this agency released references of a series to."""
        ...

    def sweep(self, now: datetime, limit: int) -> int:
        """Erase what is kept no longer: requests without effect whose time is over, and what was
        released of series past their retention date. Returns how many."""
        ...
