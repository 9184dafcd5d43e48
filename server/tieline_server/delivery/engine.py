"""Messages out: one loop per destination, so that a slow or dead peer costs only itself.

A message's life here: a service queued it in the transaction of its effect and woke its
destination. Its loop (loop.py) takes what is due, lanes by urgency and then in order, as much as
goes into one call, and looks again before every call: what is more urgent overtakes, also between
two chunks of a large attachment. handover.py sends chunks from wherever the receiver stands, then
the signed envelopes, several at once where the peer knows how. settling.py writes, in one
transaction for the batch, what came of each, with what it means (a referral is ``delivered``) and
the audit entry.

Replies: APPLIED and DUPLICATE settle; REFUSED settles for good and the operator is told in the
outbox; UNSUPPORTED parks the message and those behind it of the same subject; RETRY puts it off, to
come again later with those behind it of the same subject, while all others go on, and so it is when
the peer does not take a message's chunks now. A status that no retry changes counts as REFUSED. An
answer counts only with a standing that is sound (services/standing.py). What waited for longer than
its signature holds is signed anew before it goes (services/renewing.py). Whoever cannot be reached
is left alone for a while (waits.py): the back-off doubles up to five minutes, with jitter, is kept
in storage, and ends when the peer is heard from, or when an immediate message comes.

Loops share the processor with whoever asks this node something: at most limits.LOOPS_AT_WORK of
them prepare or settle a batch at a time, and none holds its place while it waits for its peer.

Memory: a loop holds one batch (limits.DELIVERY_BATCH messages, limits.DELIVERY_BATCH_BYTES) or one
chunk, however long the queue is. Threads: a loop lives while its destination has mail.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tieline_client import limits

from tieline_server.delivery.loop import Loop
from tieline_server.services.context import Node


class DeliveryEngine:
    """Runs the loops. ``wake`` may be called from any thread, at any time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._loops: dict[str, Loop] = {}
        self._stopping = threading.Event()
        self._at_work = threading.BoundedSemaphore(limits.LOOPS_AT_WORK)

    def start(self) -> None:
        """See to it that every destination with mail has a loop; repeated, it finds what another
        process on the same database has queued."""
        for agency in self._node.store.read(lambda tx: tx.outbox.waiting()):
            with self._lock:
                known = agency in self._loops
            if not known:
                self.wake(agency)

    def wake(self, agency: str) -> None:
        """A destination has mail."""
        with self._lock:
            if self._stopping.is_set():
                return
            loop = self._loops.get(agency)
            if loop is None:
                loop = self._loops[agency] = Loop(
                    self._node, agency, self._stopping, self._at_work, self._retire
                )
                loop.signal.set()
                loop.thread.start()
            else:
                loop.signal.set()

    def heard_from(self, agency: str) -> None:
        """A peer called us, so it is there: its back-off ends."""
        loop = self._loops.get(agency)
        if loop is not None:
            loop.end_wait()

    def stop(self, cut: Callable[[], None] = lambda: None) -> None:
        """End every loop after the call it is in; ``cut`` ends calls that take too long."""
        with self._lock:
            self._stopping.set()
            loops = list(self._loops.values())
        for loop in loops:
            loop.end_wait()
        for seconds, after in ((limits.STOP_SECONDS / 2, cut), (limits.STOP_SECONDS / 2, None)):
            until = time.monotonic() + seconds
            for loop in loops:
                loop.thread.join(max(until - time.monotonic(), 0.0))
            if after is None or not any(loop.thread.is_alive() for loop in loops):
                return
            after()

    def _retire(self, loop: Loop) -> bool:
        """Forget a loop that found nothing to do, unless it was woken meanwhile."""
        with self._lock:
            if loop.signal.is_set() and not self._stopping.is_set():
                return False
            if self._loops.get(loop.agency) is loop:
                del self._loops[loop.agency]
            return True
