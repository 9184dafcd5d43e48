"""What a restored database goes through before it may serve.

Peers have seen more of this node than it now remembers. So it begins a new epoch, by which they
notice; what was erased here since the backup is erased again; and its log says what happened.
"""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from tieline_server import own_database
from tieline_server.backup.container import Header
from tieline_server.config import Home, NodeConfig
from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.ports import Store, Tx
from tieline_server.services.standing_answers import begin_new_epoch
from tieline_server.services.tombstones import reapply
from tieline_server.storage.engine import open_store
from tieline_server.storage.tombstone_ledger import FILE as TOMBSTONES
from tieline_server.storage.tombstone_ledger import FileLedger

RESTORED = "restored"
"""Setting: JSON with ``at``, ``backup`` (when it was made) and ``epoch_before``."""


def restored_on(told: str) -> str:
    """Return the day of a restore, as the setting tells it."""
    return str(json.loads(told)["at"])[:10]


@dataclass(frozen=True, slots=True)
class Revived:
    """The new epoch, and how many entries of the tombstone ledger are applied again: what they
    erase is hidden now, and erased by the node before it opens its ports."""

    epoch: str
    tombstones: int


def revive(home: Home, config: NodeConfig, header: Header, now: datetime) -> Revived:
    """Bring a restored database up to now. Raises StorageUnavailable, StorageTooNew, and
    StorageCorrupt for a damaged ledger: what was erased is not known then."""
    ledger = FileLedger(home.path / TOMBSTONES)
    with closing(open_store(home.database_url(config), clock=lambda: now)) as store:
        own_database.check_own(home, store)
        epoch = begin_new_epoch(store)
        tombstones = reapply(store, ledger, header.created)
        _log(store, config, header, epoch, tombstones, now)
        store.drain()
    return Revived(epoch, tombstones)


def _log(
    store: Store, config: NodeConfig, header: Header, epoch: str, tombstones: int, now: datetime
) -> None:
    told = {
        "at": now.isoformat(),
        "backup": header.created.isoformat(),
        "epoch_before": header.epoch,
    }
    entry = AuditEntry(
        action="node.restored",
        at=now,
        agency=config.agency,
        detail={
            **told,
            "epoch": epoch,
            "tombstones": tombstones,
            "expired": header.expired(now),
            "audit_entries": header.audit_entries,
            "audit_root": header.audit_root,
            "user": os.getuid(),
        },
    )

    def work(tx: Tx) -> None:
        tx.meta.set(RESTORED, json.dumps(told))
        tx.audit.append(entry)

    store.write(work)
