"""What a node remembers of its backups, so that it can say how old the last one is."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tieline_server.domain.ports import Tx

KEPT = 50
"""Backups remembered; at one a day, what is older has mostly expired."""
_KEY = "backups"


class Record(BaseModel):
    """One backup: where it was written to, when, and until when it may be used."""

    model_config = ConfigDict(frozen=True)

    file: Annotated[str, Field(max_length=4096)]
    created: AwareDatetime
    expires: AwareDatetime


_RECORDS = TypeAdapter(list[Record])


def remember(tx: Tx, record: Record) -> None:
    """Add a backup; the oldest beyond KEPT is forgotten."""
    records = [*known(tx), record][-KEPT:]
    tx.meta.set(_KEY, _RECORDS.dump_json(records).decode())


def known(tx: Tx) -> list[Record]:
    """Return the backups that are remembered, oldest first."""
    text = tx.meta.get(_KEY)
    try:
        return _RECORDS.validate_json(text) if text else []
    except ValidationError:
        return []


def last(tx: Tx) -> Record | None:
    """Return the newest backup."""
    return max(known(tx), key=lambda one: one.created, default=None)


def overdue(tx: Tx, now: datetime) -> list[Record]:
    """Return backups that have expired and are still where they were written to.

    A file that was moved away is not seen: whoever moved it deletes it.
    """
    return [one for one in known(tx) if one.expires <= now and Path(one.file).is_file()]
