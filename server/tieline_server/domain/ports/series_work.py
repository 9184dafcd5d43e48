"""What is kept of the work on a series, besides the series itself."""

from __future__ import annotations

from typing import Protocol

from tieline_server.domain.series_life import SeriesEvent


class HistoryRepository(Protocol):
    def add(self, event: SeriesEvent) -> None: ...
    def of(self, series: str) -> list[SeriesEvent]:
        """The latest lines of a series' history, oldest first."""
        ...
