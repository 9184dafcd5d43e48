"""Operations, their series, and who evaluates them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, or_, select, update
from tieline_client.errors import NotFound

from tieline_server.domain.operation import Evaluation, Operation, Progress
from tieline_server.storage import operation_facts as facts
from tieline_server.storage.schema import evaluations, operation_series, operations
from tieline_server.storage.session import Session


class Operations:
    """`OperationRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def add(self, operation: Operation) -> None:
        """Add an operation. Raises AlreadyStored when the id exists."""
        row = asdict(operation) | {"participants": json.dumps(operation.participants)}
        self._run(insert(operations).values(**row))

    def get(self, name_or_id: str) -> Operation | None:
        """Return an operation by its id or name."""
        c = operations.c
        found = select(operations).where(or_(c.id == name_or_id, c.name == name_or_id))
        rows = self._run(self._session.locked(found)).all()
        named = sorted(rows, key=lambda row: row.id != name_or_id)
        return _operation(named[0]) if named else None

    def find(self) -> list[Operation]:
        """Return all, the latest first."""
        found = select(operations).order_by(operations.c.created.desc(), operations.c.id.desc())
        return [_operation(row) for row in self._run(found)]

    def add_series(self, operation: str, series: str, person: str, at: datetime) -> bool:
        """Add a series; False when it is in."""
        row = {"operation": operation, "series": series, "person": person, "at": at}
        return self._session.insert_new(operation_series, row)

    def series(self, operation: str) -> list[str]:
        """Return the ids of an operation's series."""
        c = operation_series.c
        found = select(c.series).where(c.operation == operation).order_by(c.series)
        return list(self._session.connection.scalars(found))

    def assign(self, evaluation: Evaluation) -> bool:
        """Keep a task; False when it is there."""
        return self._session.insert_new(evaluations, asdict(evaluation))

    def finish(self, evaluation: Evaluation) -> None:
        """Keep what came of a task."""
        c = evaluations.c
        done = self._run(
            update(evaluations)
            .where(
                c.operation == evaluation.operation,
                c.series == evaluation.series,
                c.agency == evaluation.agency,
                c.person == evaluation.person,
            )
            .values(done=evaluation.done, done_by=evaluation.done_by, text=evaluation.text)
        )
        if not done.rowcount:
            raise NotFound(f"nobody of {evaluation.agency} was assigned to {evaluation.series}")

    def evaluations(self, operation: str) -> list[Evaluation]:
        """Return an operation's tasks in order of time."""
        c = evaluations.c
        found = (
            select(evaluations)
            .where(c.operation == operation)
            .order_by(c.assigned, c.series, c.agency, c.person)
        )
        return [Evaluation(**row._mapping) for row in self._run(found)]

    def progress(self, series: Sequence[str], since: datetime) -> Mapping[str, Progress]:
        """See the port."""
        return facts.progress(self._session, series, since)

    def overlaps(self, series: Sequence[str]) -> Mapping[str, set[str]]:
        """See the port."""
        return facts.overlaps(self._session, series)

    def new_clues(self, series: Sequence[str]) -> Mapping[str, int]:
        """See the port."""
        return facts.new_clues(self._session, series)


def _operation(row: Row[Any]) -> Operation:
    values = dict(row._mapping)
    return Operation(**(values | {"participants": tuple(json.loads(values["participants"]))}))


def erase(session: Session, series: str) -> None:
    """Take a series out of every operation, with who was to evaluate it and what was found."""
    session.connection.execute(delete(evaluations).where(evaluations.c.series == series))
    session.connection.execute(delete(operation_series).where(operation_series.c.series == series))
