"""A process that writes until it is killed or its disk is full, telling what was acknowledged.

``python -m tests.storage.writing kill URL`` prints the number of each write after it returned.
``python -m tests.storage.writing full URL BYTES`` limits every file of its own to BYTES.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import threading
from functools import partial

from tieline_client.errors import StorageUnavailable
from tieline_client.identifiers import new_id
from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.ports import Store, Tx

from tests.storage.building import NOON, load, opened, record
from tests.storage.test_storage_exchange import message

WRITERS = 4
PAD = b"\x5a" * 20_000


def one(tx: Tx, name: str, envelope: bytes = b"signed") -> None:
    """Write what belongs together: an effect, a message about it, its audit entry."""
    tx.meta.set(name, "done")
    tx.outbox.add(message(subject=name, envelope=envelope))
    tx.audit.append(AuditEntry(name, NOON, "pt-pj"))


def kill(store: Store) -> None:
    """Write from several threads, for ever."""
    run = new_id()

    def go(writer: int) -> None:
        for number in range(10**9):
            name = f"{run}/w{writer}-{number}"
            store.write(partial(one, name=name))
            if number % 7 == 0:
                load(store, [record(md5=name, sha1=name)])
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()

    threads = [threading.Thread(target=go, args=(n,), daemon=True) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    threads[0].join()


def full(store: Store, limit: int) -> dict[str, object]:
    """Write to a disk that fills up, then to one with room again; tell what happened."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    acknowledged, refused = [], ""
    for number in range(1_000):
        try:
            store.write(partial(one, name=f"n{number}", envelope=PAD))
        except StorageUnavailable as error:
            refused = str(error)
            break
        acknowledged.append(f"n{number}")
    readable = store.read(lambda tx: tx.meta.get("n0"))
    again = ""
    try:
        store.write(lambda tx: tx.outbox.add(message(envelope=PAD * 50)))
    except StorageUnavailable as error:
        again = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.write(partial(one, name="resumed"))
    return {
        "acknowledged": [*acknowledged, "resumed"],
        "refused": refused,
        "again": again,
        "readable": readable,
    }


if __name__ == "__main__":
    with opened(sys.argv[2]) as store:
        if sys.argv[1] == "kill":
            kill(store)
        else:
            sys.stdout.write(json.dumps(full(store, int(sys.argv[3]))))
