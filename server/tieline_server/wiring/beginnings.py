"""What a node does behind its start: greet its peers, erase what ended imports left."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue

import structlog
from tieline_client import limits
from tieline_client.errors import TielineError

from tieline_server.services.importing import discard
from tieline_server.wiring.parts import Parts

_log = structlog.get_logger(__name__)


def greet_peers(parts: Parts, agencies: Sequence[str]) -> None:
    """Say Hello to these, so that what waits for this node, or in it, goes now and not when some
    back-off ends, and a newer directory is heard of."""
    left = SimpleQueue[str]()
    for agency in agencies:
        left.put(agency)

    def work() -> None:
        while not parts.stopping.is_set():
            try:
                agency = left.get_nowait()
                parts.peers.greet(agency)
            except Empty:
                return
            except (TielineError, ValueError):  # away, or this node stops meanwhile
                continue
            parts.delivery.heard_from(agency)

    for _ in range(min(limits.GREETERS, left.qsize())):
        threading.Thread(target=work, name="greeting", daemon=True).start()


def erase_leftovers(parts: Parts, left: Sequence[str]) -> None:
    """Erase what imports left that ended with their process; nothing of it counts meanwhile."""
    if not left:
        return

    def work() -> None:
        parts.store.index.refresh(wait=True)
        for import_id in left:
            discard(parts.store, import_id)
        _log.info("import.leftovers_erased", imports=len(left))

    threading.Thread(target=work, name="leftovers", daemon=True).start()
