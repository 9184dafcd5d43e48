"""The calling side: an address on this machine for each peer that only calls out.

The peer's channel connects there, in a folder that only this user may enter; what it says is the
two nodes' own TLS, with the peer's name and roots pinned as for any other, so it does not matter
where the bytes go. They go down the peer's standing stream when it is attached to this node, else
through the hubs, in the order of their ids, until one has it attached.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import structlog
from tieline_client import limits
from tieline_client.directory import Directory
from tieline_client.errors import TielineError, Unreachable
from tieline_client.peer_client import PeerClient
from tieline_client.relay_client import end, frames, pump

from tieline_server.relay.sockets import accepted, listening
from tieline_server.services.relaying import Switchboard

Way = Callable[[Iterator[bytes]], Generator[bytes]]
"""Takes what this side sends; yields b"" once the peer is there, then what it sends."""

_log = structlog.get_logger(__name__)


class Bridges:
    """Makes a bridge per peer when first asked. Thread-safe.

    ``folder`` is entered by nobody else. ``fresh`` makes a client with a channel of its own.
    """

    def __init__(
        self,
        agency: str,
        folder: Path,
        directory: Callable[[], Directory],
        board: Switchboard,
        fresh: Callable[[str], PeerClient],
    ) -> None:
        self._agency, self._folder, self._directory = agency, folder, directory
        self._board, self._fresh = board, fresh
        self._lock = threading.Lock()
        self._made: dict[str, _Bridge] = {}

    def address(self, agency: str) -> str:
        """Return the gRPC target that leads to a peer."""
        return f"unix:{self._bridge(agency).path}"

    def failure(self, agency: str) -> str:
        """Return why the last connection to a peer did not come about, or ""."""
        return self._bridge(agency).failure

    def close(self) -> None:
        """End every bridge and what passes over it."""
        with self._lock:
            made = list(self._made.values())
            self._made.clear()
        for bridge in made:
            bridge.close()

    def _bridge(self, agency: str) -> _Bridge:
        with self._lock:
            bridge = self._made.get(agency)
            if bridge is None:
                bridge = self._made[agency] = _Bridge(self, agency, self._folder / agency)
            return bridge

    # --- used by the bridges ---

    def cross(self, agency: str, own: socket.socket) -> None:
        """Let one connection pass to its end; raise Unreachable when no way leads to the peer."""
        ways: list[str] = []
        for name, way in self._ways(agency):
            with closing(way(frames(own))) as incoming:
                try:
                    if next(incoming, None) is None:
                        raise Unreachable("the connection ended before it began")
                except TielineError as error:
                    ways.append(f"by {name}: {error.message}")
                    continue
                self._bridge(agency).failure = ""
                try:
                    pump(incoming, own)
                except TielineError as error:  # the peer's client sees its connection end
                    _log.info("bridge.ended", peer=agency, way=name, text=error.message)
                return
        why = "; ".join(ways) or "and the directory lists no hub that could be asked"
        raise Unreachable(f"{agency} only calls out and cannot be reached now; {why}")

    def _ways(self, agency: str) -> Iterator[tuple[str, Way]]:
        if self._board.has(agency):
            yield self._agency, partial(self._board.reach, agency, None)
        for hub in self._hubs(agency):
            yield hub, partial(self._through, hub, agency)

    def _hubs(self, agency: str) -> Sequence[str]:
        return [
            hub.agency
            for hub in self._directory().hubs()
            if hub.agency not in (self._agency, agency) and hub.endpoints
        ]

    def _through(self, hub: str, agency: str, outgoing: Iterator[bytes]) -> Generator[bytes]:
        client = self._fresh(hub)
        try:
            yield from client.connect(agency, outgoing)
        finally:
            client.close()


class _Bridge:
    """One peer's address, and the connections that pass over it."""

    def __init__(self, bridges: Bridges, agency: str, path: Path) -> None:
        self.path, self.failure = path, ""
        self._bridges, self._agency = bridges, agency
        self._lock = threading.Lock()
        self._passing: set[socket.socket] = set()
        self._closed = False
        self._listener = listening(path)
        threading.Thread(target=self._accept, name=f"bridge-{agency}", daemon=True).start()

    def close(self) -> None:
        """Take no more, and end what passes."""
        with self._lock:
            self._closed = True
            passing = list(self._passing)
        for one in (self._listener, *passing):
            end(one)
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while (own := accepted(self._listener)) is not None:
            with self._lock:
                full = self._closed or len(self._passing) >= limits.RELAY_STREAMS_PER_PAIR
                if not full:
                    self._passing.add(own)
            if full:
                own.close()
                continue
            threading.Thread(target=self._pass, args=(own,), name="bridge", daemon=True).start()

    def _pass(self, own: socket.socket) -> None:
        try:
            self._bridges.cross(self._agency, own)
        except TielineError as error:
            self.failure = error.message
            _log.info("bridge.no_way", peer=self._agency, text=error.message)
        except Exception as error:  # noqa: BLE001 - the peer is tried again; nothing else suffers
            _log.error("bridge.failed", peer=self._agency, exc_info=error)
        finally:
            with self._lock:
                self._passing.discard(own)
            end(own)
            own.close()
