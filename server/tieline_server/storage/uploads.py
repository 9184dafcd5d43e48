"""Uploads and their steps. The state kept is always the fold of the steps kept."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, insert, select
from tieline_client.errors import NotFound

from tieline_server.domain.referral import Direction
from tieline_server.domain.upload import Upload, UploadState, UploadStep, fold
from tieline_server.storage.schema import upload_steps, uploads
from tieline_server.storage.session import Session


class Uploads:
    """`UploadRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def add(self, upload: Upload) -> None:
        """Add an upload. Raises AlreadyStored when the id exists."""
        row = asdict(upload)
        row |= {"direction": upload.direction.value, "state": upload.state.value}
        self._run(insert(uploads).values(**row))

    def get(self, upload: str) -> Upload | None:
        """Return an upload; in a writing transaction it stays as it is until the end."""
        found = self._session.locked(select(uploads).where(uploads.c.id == upload))
        row = self._run(found).one_or_none()
        return None if row is None else _upload(row)

    def find(self, direction: Direction | None = None, series: str = "") -> list[Upload]:
        """Return uploads in order of time, of one direction or series when given."""
        found = select(uploads).order_by(uploads.c.created, uploads.c.id)
        if direction is not None:
            found = found.where(uploads.c.direction == direction.value)
        if series:
            found = found.where(uploads.c.series == series)
        return [_upload(row) for row in self._run(found)]

    def add_step(self, step: UploadStep) -> bool:
        """Add a step, store the folded state and reference; False when the id is known.

        Raises NotFound.
        """
        if self.get(step.upload) is None:
            raise NotFound(f"upload {step.upload[:80]} does not exist; copy the id from its list")
        if not self._session.insert_new(upload_steps, {**asdict(step), "state": step.state.value}):
            return False
        state, reference = fold(self.steps(step.upload))
        values = {"state": state.value, "reference": reference}
        self._session.change(uploads, step.upload, values, "upload")
        return True

    def steps(self, upload: str) -> list[UploadStep]:
        """Return an upload's steps in order of their times."""
        found = select(upload_steps).where(upload_steps.c.upload == upload)
        return [
            UploadStep(**{**row._mapping, "state": UploadState(row.state)})
            for row in self._run(found.order_by(upload_steps.c.at, upload_steps.c.id))
        ]

    def next_number(self) -> int:
        """Return a repository's next series number, from 1; it comes back on a rollback."""
        return self._session.next("series_number")

    def number_used(self, number: int) -> None:
        """Let the next number be above this one."""
        lacking = number - self._session.counter("series_number")
        if lacking > 0:
            self._session.next("series_number", lacking)


def _upload(row: Row[Any]) -> Upload:
    return Upload(
        **{
            **row._mapping,
            "direction": Direction(row.direction),
            "state": UploadState(row.state),
        }
    )
