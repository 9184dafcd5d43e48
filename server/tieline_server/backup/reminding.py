"""What `tieline node status` says of backups."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from tieline_server.backup import records
from tieline_server.backup.reviving import RESTORED, restored_on
from tieline_server.domain.ports import Store

OVERDUE = timedelta(days=7)
"""A last backup older than this is worth a word."""


def warnings(store: Store, now: datetime) -> Iterator[str]:
    """Say that there is no backup, that the last one is old, and which have outlived themselves."""
    last, gone, restored = store.read(
        lambda tx: (records.last(tx), records.overdue(tx, now), tx.meta.get(RESTORED))
    )
    if last is None:
        since = (
            f"made since it was restored on {restored_on(restored)}" if restored else "ever made"
        )
        yield f"no backup was {since}; run `tieline node backup HOME FILE`"
    elif last.expires <= now:
        yield f"the last backup expired on {last.expires:%Y-%m-%d}; make another"
    elif now - last.created > OVERDUE:
        yield f"the last backup is {(now - last.created).days} days old; make another"
    for one in gone:
        yield f"the backup {one.file} expired on {one.expires:%Y-%m-%d}: delete it"
