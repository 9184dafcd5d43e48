"""The side that only calls out: streams held open to its peers, over which it can be reached.

One thread for each member that it is to be attached to. When a connection is announced, it calls
back, connects to its own listener (a socket in a folder of this process, so nothing listens on the
network), and lets the bytes pass: what arrives there is an ordinary connection of the peer, with
its own TLS and all checks. Each connection is carried by a call on a channel of its own, which so
begins its age with it, and holds up no other.

Streams are renewed before their connections come of age, and opened again with a back-off when they
break. A new stream tells delivery that the peer is there.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog
from tieline_client import limits
from tieline_client.directory import Directory, Member, Role
from tieline_client.errors import TielineError, UnknownMethod
from tieline_client.peer_client import RELAY, PeerClient
from tieline_client.relay_client import frames, pump

from tieline_server.domain.ports import Clock
from tieline_server.relay.sockets import connected

_log = structlog.get_logger(__name__)
_LOOK_SECONDS = 1.0
_MANY = 20
"""Failures in a row after which the pause is the longest."""


@dataclass(frozen=True, slots=True)
class AttachedTo:
    """One member that this node is to be attached to. ``since`` is None while it is not."""

    agency: str
    since: datetime | None
    reason: str


class Attaching:
    """Keeps the streams; ``start`` and ``stop``. Thread-safe.

    ``hubs_only`` attaches to hubs alone; else to every member that can be called. ``fresh`` makes a
    client with a channel of its own, ``heard`` is told of each member whose stream begins.
    """

    def __init__(
        self,
        agency: str,
        directory: Callable[[], Directory],
        clock: Clock,
        fresh: Callable[[str], PeerClient],
        heard: Callable[[str], None],
        listener: Path,
        *,
        hubs_only: bool,
    ) -> None:
        self._agency, self._directory, self._clock = agency, directory, clock
        self._fresh, self._heard, self._listener = fresh, heard, listener
        self._hubs_only = hubs_only
        self._stopping = threading.Event()
        self._streams: dict[str, _Stream] = {}
        self._room = threading.BoundedSemaphore(limits.RELAY_STREAMS_PER_PEER)
        self._thread = threading.Thread(target=self._run, name="attaching", daemon=True)

    def start(self) -> None:
        """Attach, and stay attached."""
        self._thread.start()

    def stop(self) -> None:
        """End every stream and every connection."""
        self._stopping.set()
        for stream in list(self._streams.values()):
            stream.end()

    def states(self) -> tuple[AttachedTo, ...]:
        """Return where this node is attached, and where not and why, by agency id."""
        return tuple(
            AttachedTo(agency, stream.since, "" if stream.since else stream.reason)
            for agency, stream in sorted(self._streams.items())
        )

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
            except TielineError as error:
                _log.warning("attach.waits", reason=error.reason, text=error.message)
            self._stopping.wait(_LOOK_SECONDS)

    def _look(self) -> None:
        """Begin streams that are missing, end those that no longer should be, or are silent."""
        wanted = {member.agency for member in self._relays()}
        for agency in wanted - self._streams.keys():
            stream = _Stream(self, agency)
            self._streams = {**self._streams, agency: stream}
            stream.thread.start()
        for agency, stream in self._streams.items():
            if agency not in wanted:
                stream.end()
            elif stream.silent():
                stream.cut("it gave no sign of life")
        self._streams = {
            agency: stream
            for agency, stream in self._streams.items()
            if agency in wanted or stream.thread.is_alive()
        }

    def _relays(self) -> Sequence[Member]:
        members = [
            member
            for member in self._directory().active_members()
            if member.agency != self._agency
            and member.endpoints
            and not member.outbound_only
            and (member.role is Role.HUB or not self._hubs_only)
        ]
        members.sort(key=lambda member: member.role is not Role.HUB)
        return members[: limits.ATTACH_TO_MOST]

    # --- used by the streams ---

    def listen_to(self, stream: _Stream, client: PeerClient) -> None:
        """One standing stream from its beginning to its end."""
        client.hello()
        if RELAY not in client.capabilities:
            raise UnknownMethod(f"the version of {stream.agency} knows no nodes that only call out")
        for connection in client.attach():
            if stream.since is None:
                stream.since = self._clock()
                _log.info("attach.standing", peer=stream.agency)
                self._heard(stream.agency)
            stream.heard = time.monotonic()
            if stream.over.is_set() or self._stopping.is_set():
                return
            if connection and self._room.acquire(blocking=False):
                threading.Thread(
                    target=self._carry, args=(stream.agency, connection), name="carry", daemon=True
                ).start()

    def open(self, agency: str) -> PeerClient:
        """Return a client of its own."""
        return self._fresh(agency)

    @property
    def stopping(self) -> threading.Event:
        """Set when the node stops."""
        return self._stopping

    def _carry(self, relay: str, connection: str) -> None:
        try:
            with connected(self._listener) as own:
                client = self._fresh(relay)
                try:
                    pump(client.carry(connection, frames(own)), own)
                finally:
                    client.close()
        except (TielineError, OSError) as error:
            # The peer finds its connection ended, and tries again.
            _log.warning("carry.ended", peer=relay, text=str(error)[: limits.REFERENCE_CHARS])
        finally:
            self._room.release()


class _Stream:
    """One member that this node is to be attached to."""

    def __init__(self, attaching: Attaching, agency: str) -> None:
        self.agency = agency
        self.since: datetime | None = None
        self.heard = time.monotonic()
        self.reason = "not yet"
        self.over = threading.Event()
        self._attaching = attaching
        self._client: PeerClient | None = None
        self.thread = threading.Thread(target=self._run, name=f"attach-{agency}", daemon=True)

    def silent(self) -> bool:
        """Whether a stream has given no sign of life for too long. Between two there is none."""
        quiet = time.monotonic() - self.heard
        return self._client is not None and quiet > limits.ATTACH_SILENCE_SECONDS

    def cut(self, why: str) -> None:
        """Give the stream up; the next is tried after a back-off."""
        self.reason, client = why, self._client
        if client is not None:
            client.close()

    def end(self) -> None:
        """End for good."""
        self.over.set()
        self.cut("it ends")

    def _run(self) -> None:
        failures = 0
        while not (self.over.is_set() or self._attaching.stopping.is_set()):
            self.heard = time.monotonic()
            try:
                client = self._client = self._attaching.open(self.agency)
                try:
                    self._attaching.listen_to(self, client)
                finally:
                    self._client = None
                    client.close()
                self.reason, most = "between two streams", limits.ATTACH_RETRY_MOST_SECONDS
            except UnknownMethod as error:  # only an upgrade changes that
                self.reason, most = error.message, limits.RETRY_MOST_SECONDS
                failures = _MANY
            except (TielineError, ValueError) as error:  # ValueError: cut before it was used
                self.reason = getattr(error, "message", "the channel was closed")
                most = limits.ATTACH_RETRY_MOST_SECONDS
            failures = 0 if self.since is not None else failures + 1
            self.since = None
            if failures:
                _log.info("attach.waits", peer=self.agency, text=self.reason)
            self.over.wait(_pause_seconds(failures, most))


def _pause_seconds(failures: int, most: float) -> float:
    """How long to wait before the next stream; spread, since all lose a hub at the same moment."""
    doubled = limits.RETRY_FIRST_SECONDS * 2.0 ** min(failures, _MANY)
    return min(doubled, most) * random.uniform(0.2, 1.0)  # noqa: S311 - spreads load, no secret
