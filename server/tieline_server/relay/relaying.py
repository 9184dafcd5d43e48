"""All that a node has to do with nodes that only call out, put together.

Every node has a switchboard and bridges. One that itself only calls out has streams to its peers
besides, and listens on a socket of this machine instead of a port.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tieline.v1 import operator_pb2
from tieline_client.directory import Directory
from tieline_client.payloads import timestamp
from tieline_client.peer_client import PeerClient

from tieline_server.domain.ports import Clock, Store
from tieline_server.relay.attaching import Attaching
from tieline_server.relay.bridge import Bridges
from tieline_server.services.relaying import Switchboard


class Pool(Protocol):
    """The node's channels, as far as they matter here."""

    def fresh(self, agency: str) -> PeerClient: ...
    def retry(self, agency: str) -> None: ...


class Relaying:
    """``heard`` is told of a peer that is there; it may be called from any thread."""

    def __init__(
        self,
        agency: str,
        directory: Callable[[], Directory],
        clock: Clock,
        pool: Pool,
        heard: Callable[[str], None],
        *,
        outbound_only: bool,
        hubs_only: bool,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tieline-"))  # mode 0700; short, as sockets ask

        def there(peer: str) -> None:
            pool.retry(peer)
            heard(peer)

        self.board = Switchboard(agency, directory, clock, there)
        self.bridges = Bridges(agency, self._folder, directory, self.board, pool.fresh)
        self._listener = self._folder / "listener.sock"
        self._attaching = (
            Attaching(
                agency, directory, clock, pool.fresh, there, self._listener, hubs_only=hubs_only
            )
            if outbound_only
            else None
        )

    @property
    def listener(self) -> str:
        """Where a node that only calls out listens, as gRPC names it."""
        return f"unix:{self._listener}"

    def start(self) -> None:
        """Attach to peers, where this node only calls out."""
        if self._attaching is not None:
            self._attaching.start()

    def stop(self) -> None:
        """End what stands for long, so that the listener can come to its end."""
        if self._attaching is not None:
            self._attaching.stop()
        self.board.close()

    def close(self) -> None:
        """End bridges and take the folder away; after the listener and the pool."""
        self.bridges.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def keep_house(self, store: Store, clock: Clock) -> None:
        """Cut off whoever was revoked; write what was counted."""
        self.board.review()
        self.board.write_due(store, clock())

    def tell(self, status: operator_pb2.GetStatusResponse) -> None:
        """Say who is attached here, and where this node is attached."""
        for here in self.board.attached():
            status.attached_here.add(agency=here.agency, since=timestamp(here.since))
        for there in self._attaching.states() if self._attaching is not None else ():
            told = status.attached_to.add(agency=there.agency, reason=there.reason[:500])
            if there.since is not None:
                told.since.CopyFrom(timestamp(there.since))
