"""Operations, in storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from tieline_server.domain.operation import Evaluation, Operation, Progress


class OperationRepository(Protocol):
    def add(self, operation: Operation) -> None:
        """Add an operation. Raises AlreadyStored when the id exists."""
        ...

    def get(self, name_or_id: str) -> Operation | None:
        """By its id, or its name."""
        ...

    def find(self) -> Sequence[Operation]:
        """All, the latest first."""
        ...

    def add_series(self, operation: str, series: str, person: str, at: datetime) -> bool:
        """Add a series; False when it is in already."""
        ...

    def series(self, operation: str) -> Sequence[str]:
        """Ids, in order."""
        ...

    def assign(self, evaluation: Evaluation) -> bool:
        """Keep a task; False when that person has it already."""
        ...

    def finish(self, evaluation: Evaluation) -> None:
        """Keep when a task was done, by whom, and what was found. Raises NotFound."""
        ...

    def evaluations(self, operation: str) -> Sequence[Evaluation]:
        """All tasks, in order of time."""
        ...

    def progress(self, series: Sequence[str], since: datetime) -> Mapping[str, Progress]:
        """What was done with each of these series since a time."""
        ...

    def overlaps(self, series: Sequence[str]) -> Mapping[str, set[str]]:
        """Agencies that hold items of these series: by series that came from them, and by questions
        of theirs that hit."""
        ...

    def new_clues(self, series: Sequence[str]) -> Mapping[str, int]:
        """Clues and verified tips by series since it was evaluated last, in any operation."""
        ...
