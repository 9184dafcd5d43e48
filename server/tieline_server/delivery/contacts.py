"""Contact with peers: standings exchanged, and what an older image of this node lacks fetched.

A peer is contacted at the start of every connection to it, when it greets us, hourly, and whenever
a word of it is in doubt. One contact:

1. Our standing goes out, the peer's comes back, and is judged against what we knew when ours went
   out (services/standing.py).
2. Where the peer wants our word said again, it is, under the id that it gave.
3. After our own restore, or `node resync`: our sequences go above all that the peer has seen, and
   it gives back what we signed and it holds (services/recovering.py). Until this is done nothing is
   sent to it.
4. Checkpoints of audit logs are swapped and countersigned (services/witnessing.py).
5. What a peer of another version can do may have changed: what was parked for it goes again.
6. Each says how often its index changed (services/generations.py); standing queries wait for it.

A peer of before v1.1 knows no contact; it is taken as it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue

import structlog
from tieline.v1 import delivery_pb2
from tieline_client import limits
from tieline_client.errors import TielineError, UnknownMethod

from tieline_server.delivery.waits import wait_seconds
from tieline_server.domain.ports import Tx
from tieline_server.services.context import Node
from tieline_server.services.generations import hear
from tieline_server.services.recovering import put_back
from tieline_server.services.standing import Said, Standings, Verdict
from tieline_server.services.standing_answers import blank_archive
from tieline_server.services.witnessing import Witnessing, try_contact

_log = structlog.get_logger(__name__)

_ROUNDS = 3
"""Times that a standing is said again in one contact."""


class Contacts:
    """Contacts peers, in a few threads of its own. Thread-safe."""

    def __init__(self, node: Node, members: Callable[[], list[str]]) -> None:
        """``members`` are the agencies to contact hourly."""
        self._node, self._members = node, members
        self._standings = Standings(node)
        self._witnessing = Witnessing(node)
        self._lock = threading.Lock()
        self._waiting: set[str] = set()
        self._failures: dict[str, tuple[int, float]] = {}
        """Failed contacts in a row, and when the next may be tried (monotonic)."""
        self._later: set[str] = set()
        self._under_way: set[str] = set()
        self._again: set[str] = set()
        """Asked for while a contact was under way: once more after it."""
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        """Whom to contact; None ends a thread. Nobody looks at it for nothing: eight threads that
        did four times a second were half of what an idle node cost."""
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name="contacts", daemon=True)
            for _ in range(limits.GREETERS)
        ]
        self._next_round = time.monotonic() + limits.CONTACT_SECONDS

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the call that is under way."""
        self._stopping.set()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(limits.STOP_SECONDS)

    def soon(self, agency: str) -> None:
        """Contact a peer as soon as a thread is free; asked for twice it is done once.

        After a failure it waits: two nodes that refuse one another's Hello would otherwise greet
        each other without end.
        """
        with self._lock:
            if agency in self._waiting or self._stopping.is_set():
                return
            if time.monotonic() < self._failures.get(agency, (0, 0.0))[1]:
                self._later.add(agency)
                return
            self._waiting.add(agency)
            self._later.discard(agency)
        self._queue.put(agency)

    def greeted_by(self, agency: str) -> None:
        """Contact a peer that greeted us, unless that is under way: two that greet each other at
        their start would else each say everything twice."""
        with self._lock:
            under_way = agency in self._under_way
        if not under_way:
            self.soon(agency)

    def hourly(self) -> None:
        """Contact all when it is time, and let the archive forget; called every few seconds."""
        with self._lock:
            later = list(self._later)
        for agency in later:
            self.soon(agency)
        if time.monotonic() < self._next_round:
            return
        self._next_round = time.monotonic() + limits.CONTACT_SECONDS
        for agency in self._members():
            self.soon(agency)
        blank_archive(self._node)

    def _work(self) -> None:
        while True:
            agency = self._queue.get()
            if agency is None or self._stopping.is_set():
                return
            with self._lock:
                self._waiting.discard(agency)
                if agency in self._under_way:  # nobody waits for it: it may hang
                    self._again.add(agency)
                    continue
                self._under_way.add(agency)
            self._try(agency)
            with self._lock:
                self._under_way.discard(agency)
                again = agency in self._again
                self._again.discard(agency)
            if again:
                self.soon(agency)

    def _try(self, agency: str) -> None:
        try:
            self.contact(agency)
            try_contact(self._witnessing, agency)
            with self._lock:
                self._failures.pop(agency, None)
        except TielineError as error:
            self._failed(agency)
            _log.info("contact.failed", peer=agency, reason=error.reason, text=error.message)
        except Exception as error:  # noqa: BLE001 - a thread that ends would contact nobody
            self._failed(agency)
            _log.error("contact.fault", peer=agency, exc_info=error)

    def _failed(self, agency: str) -> None:
        with self._lock:
            count = self._failures.get(agency, (0, 0.0))[0] + 1
            self._failures[agency] = (count, time.monotonic() + wait_seconds(count))

    # --- one contact ---

    def contact(self, agency: str) -> None:
        """Contact a peer now. Raises a TielineError when it does not answer."""
        self._greeted(agency)
        answer, verdict = "", Verdict(True)
        for _ in range(_ROUNDS):
            said, response = self._exchange(agency, answer)
            if response is None:
                self._old_peer(agency)
                return
            standing = response.standing
            verdict = self._hear(agency, standing, said)  # 1
            if verdict.ok:
                hear(self._node, agency, standing.epoch, response)  # 6
            if not standing.again or standing.again == answer:
                break
            answer = standing.again  # 2
        if verdict.ok and response is not None and self._must_recover(agency):
            self._recover(agency, response.standing)  # 3
            verdict = replace(verdict, wake=True)
        if verdict.wake:
            self._node.ready(agency)

    def _exchange(
        self, agency: str, answer: str
    ) -> tuple[Said, delivery_pb2.ContactResponse | None]:
        said = self._node.store.read(lambda tx: self._standings.mine(tx, agency, answer=answer))
        request = delivery_pb2.ContactRequest(
            standing=said.standing, generation=self._node.store.index.stored()
        )
        try:
            return said, self._node.peers.contact(agency, request)
        except UnknownMethod:
            return said, None

    def _hear(self, agency: str, standing: delivery_pb2.Standing, said: Said) -> Verdict:
        return self._node.store.write(lambda tx: self._standings.heard(tx, agency, standing, said))

    # 5
    def _greeted(self, agency: str) -> None:
        wire, capabilities = self._node.peers.abilities(agency)

        def work(tx: Tx) -> int:
            known = tx.standings.known(agency)
            if (known.wire, known.capabilities) == (wire, capabilities):
                return 0
            tx.standings.put(agency, replace(known, wire=wire, capabilities=capabilities))
            return tx.standings.revive(agency) if known.wire else 0

        if self._node.store.write(work):
            _log.info("messages.revived", peer=agency, wire=wire)
            self._node.ready(agency)

    # 3
    def _must_recover(self, agency: str) -> bool:
        return self._node.store.read(lambda tx: self._standings.must_recover(tx, agency))

    def _recover(self, agency: str, standing: delivery_pb2.Standing) -> None:
        request = self._node.store.write(lambda tx: self._standings.make_room(tx, agency, standing))
        count = 0
        for response in self._node.peers.fetch_sent(agency, request):
            count += self._node.store.write(
                lambda tx, some=response.messages: put_back(  # type: ignore[misc]
                    self._node, tx, agency, some
                )
            )
        self._node.store.write(lambda tx: self._standings.recovered(tx, agency, count))

    def _old_peer(self, agency: str) -> None:
        if self._must_recover(agency):
            self._node.store.write(lambda tx: self._standings.recovered(tx, agency, 0))
            self._node.ready(agency)
