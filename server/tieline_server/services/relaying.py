"""The switchboard: nodes that only call out, attached here, and connections to them.

A node that only calls out keeps a stream open to its peers. Somebody who wants to reach it offers a
connection: the *asker*, a member that came over the wire (this node is then a relay), or this node
itself. The id of the connection goes down the standing stream; the node takes the connection up
with a call of its own; from then on each side gets what the other sends, record by record, and
nothing is kept. What is relayed is the two nodes' own TLS, so all that a relay can do is to count,
delay and drop.

Each side's records are read by whoever writes to the other side, so a side that does not read
holds up the other, and no memory grows. When either side ends, however it ends, the other's records
end, and so both calls do.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from queue import Empty, SimpleQueue

from tieline_client import limits
from tieline_client.directory import Directory
from tieline_client.errors import (
    LimitExceeded,
    NotFound,
    PolicyRefused,
    TielineError,
    Unreachable,
)
from tieline_client.identifiers import new_id

from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.ports import Store, Tx
from tieline_server.domain.relaying import RelayCount, RelayEvent, RelayLog


@dataclass(eq=False, slots=True)
class Party:
    """One member's call: whose, under which certificate, how to cut it off, and how to be told when
    it is over (False: it is already)."""

    agency: str
    serial: int
    cancel: Callable[[], None]
    on_end: Callable[[Callable[[], None]], bool]


@dataclass(frozen=True, slots=True)
class Attached:
    """A node that is attached here."""

    agency: str
    since: datetime


@dataclass(eq=False, slots=True)
class _Standing:
    party: Party
    since: datetime
    wanted: SimpleQueue[str | None] = field(default_factory=SimpleQueue)
    """Connections to take up; None ends the stream."""


@dataclass(eq=False, slots=True)
class _Connection:
    """``asker`` is None where this node itself is."""

    id: str
    asker: Party | None
    target: str
    from_asker: Iterable[bytes]
    carrier: Party | None = None
    from_target: Iterable[bytes] = ()
    taken: threading.Event = field(default_factory=threading.Event)


class Switchboard:
    """Thread-safe. ``heard`` is told of every node that attaches."""

    def __init__(
        self,
        agency: str,
        directory: Callable[[], Directory],
        clock: Callable[[], datetime],
        heard: Callable[[str], None],
    ) -> None:
        self._agency, self._directory, self._clock, self._heard = agency, directory, clock, heard
        self._log = RelayLog()
        self._changed = threading.Condition()
        self._standing: dict[str, list[_Standing]] = {}
        self._left: dict[str, float] = {}
        """When a node's last stream ended (monotonic)."""
        self._connections: dict[str, _Connection] = {}
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._reviewed: Directory | None = None
        self._closed = False

    # --- nodes that only call out ---

    def attach(self, party: Party) -> Iterator[str]:
        """Yield ids of connections that the caller is to take up, and "" as a sign of life.

        The first comes at once. Raises PolicyRefused for a member that others can call.
        """
        if not self._directory().member(party.agency).outbound_only:
            raise PolicyRefused(
                f"the directory does not say that {party.agency} only calls out; nobody else "
                "may attach"
            )
        standing = _Standing(party, self._clock())
        if not party.on_end(lambda: standing.wanted.put(None)):
            return
        self._enter(standing)
        until = time.monotonic() + limits.ATTACH_SECONDS
        try:
            yield ""
            self._heard(party.agency)
            while time.monotonic() < until:
                try:
                    wanted = standing.wanted.get(timeout=limits.ATTACH_BEAT_SECONDS)
                except Empty:
                    wanted = ""
                if wanted is None:
                    return
                yield wanted
        finally:
            self._leave(standing)

    def _enter(self, standing: _Standing) -> None:
        agency = standing.party.agency
        with self._changed:
            if self._closed:
                raise Unreachable("this node stops; attach again later")
            held = self._standing.setdefault(agency, [])
            held.append(standing)
            old, held[:] = held[: -limits.ATTACHED_PER_PEER], held[-limits.ATTACHED_PER_PEER :]
            self._changed.notify_all()
        for one in old:
            one.wanted.put(None)
        self._note(RelayEvent.ATTACHED, "", agency, opened=True)

    def _leave(self, standing: _Standing) -> None:
        agency = standing.party.agency
        with self._changed:
            held = self._standing.get(agency, [])
            if standing in held:
                held.remove(standing)
            if not held:
                self._standing.pop(agency, None)
                self._left[agency] = time.monotonic()
        self._note(RelayEvent.ATTACHED, "", agency, opened=False)

    def attached(self) -> tuple[Attached, ...]:
        """Return who is attached, by agency id, since when."""
        with self._changed:
            return tuple(
                Attached(agency, held[-1].since) for agency, held in sorted(self._standing.items())
            )

    # --- connections to them ---

    def has(self, agency: str) -> bool:
        """Whether a node is attached, or was a moment ago and may be again in another."""
        with self._changed:
            return agency in self._standing or self._gap(agency) > 0

    def reach(
        self, agency: str, asker: Party | None, outgoing: Iterable[bytes]
    ) -> Generator[bytes]:
        """Connect to an attached node: yield b"" once it has taken the connection up, then what it
        sends. What the asker sends is read from ``outgoing`` from then on.

        Raises Unreachable when it is not attached or does not answer, LimitExceeded.
        """
        connection = _Connection(new_id(), asker, agency, outgoing)
        standing = self._offer(connection)
        try:
            standing.wanted.put(connection.id)
            if not connection.taken.wait(limits.RELAY_ANSWER_SECONDS):
                raise Unreachable(
                    f"{agency} is attached to {self._agency} but did not take up the connection; "
                    "try again"
                )
            yield b""
            yield from connection.from_target
        finally:
            self._end(connection)

    def _offer(self, connection: _Connection) -> _Standing:
        agency, asker = connection.target, self._asker(connection)
        with self._changed:
            self._changed.wait_for(lambda: agency in self._standing, self._gap(agency))
            held = self._standing.get(agency)
            if not held or self._closed:
                raise Unreachable(
                    f"{agency} only calls out and is not attached to {self._agency} now; "
                    "it will be reached when it calls"
                )
            if self._pairs[asker, agency] >= limits.RELAY_STREAMS_PER_PAIR:
                raise LimitExceeded(
                    f"{limits.RELAY_STREAMS_PER_PAIR} connections of {asker} to {agency} are open "
                    "already; use them",
                    check="CONCURRENCY",
                )
            self._pairs[asker, agency] += 1
            self._connections[connection.id] = connection
        self._note(RelayEvent.CONNECTED, asker, agency, opened=True)
        return held[-1]

    def carry(self, party: Party, connection_id: str, outgoing: Iterable[bytes]) -> Iterator[bytes]:
        """Take up a connection: yield what the asker sends; it gets what ``outgoing`` yields.

        Raises NotFound for a connection that is gone, taken, or another member's.
        """
        with self._changed:
            connection = self._connections.get(connection_id)
            if (
                connection is None
                or connection.target != party.agency
                or connection.carrier is not None
            ):
                raise NotFound("there is no such connection for you; the asker may have left")
            connection.carrier, connection.from_target = party, outgoing
        connection.taken.set()
        yield from connection.from_asker

    def _end(self, connection: _Connection) -> None:
        asker = self._asker(connection)
        with self._changed:
            del self._connections[connection.id]
            pair = (asker, connection.target)
            self._pairs[pair] -= 1
            if self._pairs[pair] <= 0:
                del self._pairs[pair]
        self._note(RelayEvent.CONNECTED, asker, connection.target, opened=False)

    def _asker(self, connection: _Connection) -> str:
        return connection.asker.agency if connection.asker is not None else self._agency

    def _gap(self, agency: str) -> float:
        """Seconds for which a node that is not attached is waited for."""
        left = self._left.get(agency)
        return max(left + limits.ATTACH_GAP_SECONDS - time.monotonic(), 0.0) if left else 0.0

    # --- who may no longer ---

    def review(self) -> None:
        """Cut off whoever the directory no longer lets; cheap while it is the same."""
        directory = self._directory()
        if directory is self._reviewed:
            return
        self._reviewed = directory
        with self._changed:
            standing = [one.party for held in self._standing.values() for one in held]
            pairs = [(one.asker, one.carrier) for one in self._connections.values()]
        for party in standing:
            if _revoked(directory, party) or not directory.member(party.agency).outbound_only:
                party.cancel()
        for pair in pairs:
            parties = [party for party in pair if party is not None]
            if any(_revoked(directory, party) for party in parties):
                for party in parties:
                    party.cancel()

    def close(self) -> None:
        """End every stream; nothing new is taken."""
        with self._changed:
            self._closed = True
            held = [one for each in self._standing.values() for one in each]
            ends = [p for c in self._connections.values() for p in (c.asker, c.carrier) if p]
        for one in held:
            one.wanted.put(None)
        for party in ends:
            party.cancel()

    # --- the audit log ---

    def _note(self, event: RelayEvent, asker: str, target: str, *, opened: bool) -> None:
        self._log.add(event, asker, target, self._clock(), opened=opened)

    def write_due(self, store: Store, now: datetime | None) -> None:
        """Write what was counted in minutes that are over; without ``now`` all of it."""
        counts = self._log.due(now) if now is not None else self._log.flush()
        if not counts:
            return
        entries = [self._entry(count) for count in counts]

        def work(tx: Tx) -> None:
            for entry in entries:
                tx.audit.append(entry)

        store.write(work)

    def _entry(self, count: RelayCount) -> AuditEntry:
        return AuditEntry(
            action=str(count.event),
            at=count.at,
            agency=self._agency,
            peer=count.target,
            detail={
                "asker": count.asker,
                "opened": count.opened,
                "closed": count.closed,
                "last": count.last.isoformat(),
            },
        )


def _revoked(directory: Directory, party: Party) -> bool:
    return directory.is_revoked(party.agency, party.serial)


def until_fault(source: Iterable[bytes], faults: list[TielineError]) -> Iterator[bytes]:
    """Yield what a side sends until it ends or fails; a refusal is kept for that side's own call.

    Whoever writes to the other side reads this, and must not be blamed.
    """
    try:
        yield from source
    except TielineError as error:
        faults.append(error)
