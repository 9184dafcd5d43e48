"""The parts of a running node, by name: what listeners, housekeeping and status are wired to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from tieline_server.config import Home, NodeConfig
from tieline_server.delivery.alarm_clock import AlarmClock
from tieline_server.delivery.contacts import Contacts
from tieline_server.delivery.engine import DeliveryEngine
from tieline_server.domain.ports import Store
from tieline_server.relay.relaying import Relaying
from tieline_server.services.context import Node
from tieline_server.services.log_retention import LogRetention
from tieline_server.services.processes import Processes
from tieline_server.services.purging import Purging
from tieline_server.services.refusals import Refusals
from tieline_server.services.watch_runs import WatchRuns
from tieline_server.trust.directory_refresh import DirectoryRefresher
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.node_identity import NodeIdentity
from tieline_server.trust.online_half import OnlineHalf
from tieline_server.trust.peer_pool import PeerPool


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that ``main`` has put together. Nothing here runs before ``start``."""

    home: Home
    config: NodeConfig
    started: datetime
    directory: DirectoryStore
    identity: NodeIdentity
    store: Store
    refusals: Refusals
    peers: PeerPool
    relaying: Relaying
    node: Node
    processes: Processes | None
    """Those that share the database, where several may."""
    purging: Purging
    delivery: DeliveryEngine
    alarms: AlarmClock
    contacts: Contacts
    retention: LogRetention
    watches: WatchRuns
    online: OnlineHalf
    refresher: DirectoryRefresher
    reviews: list[Callable[[], object]] = field(default_factory=list)
    """What ends open calls that the directory would not let begin any more."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set once the node is to end: whatever runs in a thread of its own looks at it."""
    index_damage: list[str] = field(default_factory=list)
    """What was found damaged in the index files since the start, and was built anew."""

    def others(self) -> list[str]:
        """Return the active members but this agency; none when it is revoked itself."""
        own, directory = self.config.agency, self.directory.current()
        if directory.member(own).revoked:
            return []
        return [one.agency for one in directory.active_members() if one.agency != own]

    def greeted_by(self, agency: str) -> None:
        """Act on a connection that a peer made: it may have been away, upgraded, restored."""
        if agency == self.config.agency:
            return  # whoever calls with our own certificate has no standing to exchange
        self.delivery.heard_from(agency)
        self.contacts.greeted_by(agency)

    def ready(self, agency: str) -> None:
        """Act on a peer that takes and gives again: its mail goes now."""
        self.delivery.wake(agency)
        self.delivery.heard_from(agency)
