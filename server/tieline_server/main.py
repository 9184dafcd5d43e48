"""Wiring only: the one place that knows every part of a node.

``serve`` takes the home's lock, opens trust, storage, index and policy, builds the services over
them, opens both listeners, starts delivery, says ``ready``, and undoes all of it on SIGTERM. What
the parts are wired to stands in ``wiring/``: the ports in ``listeners``, what is looked after every
few seconds in ``housekeeping``, what `node status` says in ``status``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog
from tieline_client import limits
from tieline_client.directory import Directory
from tieline_client.errors import ConfigurationError, TielineError, UnknownAgency
from tieline_client.payloads import Sealer
from tieline_client.tls import forget_proxies

from tieline_server import at_rest, own_database
from tieline_server.allocator import keep_freed_memory
from tieline_server.backup.scratch import BACKUP_PREFIX, sweep
from tieline_server.config import Home, NodeConfig
from tieline_server.delivery.alarm_clock import AlarmClock
from tieline_server.delivery.contacts import Contacts
from tieline_server.delivery.engine import DeliveryEngine
from tieline_server.domain.ports import Tx
from tieline_server.matching.matcher import Matcher
from tieline_server.policy.engine import PolicyEngine
from tieline_server.policy.loading import default_folder
from tieline_server.relay.relaying import Relaying
from tieline_server.services.context import Node
from tieline_server.services.importing import leftovers
from tieline_server.services.list_secrets import forget_bare_digests
from tieline_server.services.log_retention import LogRetention
from tieline_server.services.processes import Processes
from tieline_server.services.purging import Purging
from tieline_server.services.refusals import Refusals
from tieline_server.services.watch_runs import WatchRuns
from tieline_server.storage.engine import open_store
from tieline_server.storage.tombstone_ledger import FileLedger
from tieline_server.trust.directory_refresh import DirectoryRefresher
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.node_identity import NodeIdentity
from tieline_server.trust.online_half import OnlineHalf
from tieline_server.trust.own_statement import OwnStatements
from tieline_server.trust.peer_pool import PeerPool
from tieline_server.wiring import process
from tieline_server.wiring.beginnings import erase_leftovers, greet_peers
from tieline_server.wiring.clock import utc_now
from tieline_server.wiring.directory import directory_changed, log_keys
from tieline_server.wiring.erasing import Eraser
from tieline_server.wiring.heartbeat import Heartbeat, process_id, process_name
from tieline_server.wiring.housekeeping import Housekeeper, jobs
from tieline_server.wiring.listeners import federation_port, operator_port
from tieline_server.wiring.metrics import MetricsPort
from tieline_server.wiring.parts import Parts

_log = structlog.get_logger(__name__)


class RunningNode:
    """A whole node. Built at once; ``start`` opens it, ``stop`` ends it."""

    def __init__(self, home: Home, config: NodeConfig, held: ExitStack) -> None:
        self._held = held
        purge_due = threading.Event()
        self.parts = parts = _put_together(home, config, held, purge_due)
        self._eraser = Eraser(parts, purge_due)
        self._heartbeat = Heartbeat(parts.processes) if parts.processes is not None else None
        self.peer_endpoint, self.operator_endpoint = federation_port(parts), operator_port(parts)
        self._endpoints = (self.operator_endpoint, self.peer_endpoint)
        self._housekeeper = Housekeeper(jobs(parts, self._endpoints), parts.stopping)
        self._metrics = MetricsPort(parts) if config.metrics_listen else None

    def start(self) -> None:
        """Open both ports; peers and people are answered from here on."""
        parts = self.parts
        parts.store.index.start()
        parts.store.known_good.start()
        if self._heartbeat is not None:  # from here on erasures wait for this process, too
            self._heartbeat.start()
            parts.purging.rewrite()
        forget_bare_digests(parts.node)
        parts.purging.erase()  # what a restored backup brought back is gone before anybody asks
        under_way = parts.store.read(lambda tx: frozenset(tx.attachments.staged_imports()))
        left = leftovers(parts.store, under_way)
        for endpoint in self._endpoints:
            endpoint.start()
            endpoint.set_serving(True)
        self._log_life("node.started")
        parts.store.look_through()
        parts.delivery.start()
        parts.alarms.start()
        parts.contacts.start()
        parts.relaying.start()
        parts.refresher.start()
        greet_peers(parts, parts.others())
        log_keys(parts)
        self._eraser.start()
        self._housekeeper.start()
        erase_leftovers(parts, left)
        if self._metrics is not None:
            self._metrics.start()

    def stop(self) -> None:
        """End calls, delivery and storage in this order; what was acknowledged is durable."""
        parts = self.parts
        parts.stopping.set()
        parts.watches.stop()
        self._housekeeper.hurry()
        parts.relaying.stop()
        parts.refresher.stop()
        if self._metrics is not None:
            self._metrics.stop()
        for endpoint in (self.peer_endpoint, self.operator_endpoint):
            endpoint.stop(limits.STOP_SECONDS / 2)
        parts.contacts.stop()
        parts.alarms.stop()
        parts.delivery.stop(parts.peers.close)
        self._eraser.stop()
        if self._heartbeat is not None:
            self._heartbeat.stop()
        parts.refusals.flush()
        parts.node.budgets.close()
        parts.relaying.board.write_due(parts.store, None)
        try:
            self._log_life("node.stopped")
        except TielineError as error:  # a full or damaged disk must not keep it from ending
            _log.warning("node.stop_not_logged", reason=error.reason, text=error.message)
        self._held.close()

    def look_now(self) -> None:
        """Look after everything at once: the directory, here and at peers, the leaf (SIGHUP)."""
        self._housekeeper.hurry()
        self.parts.refresher.soon()

    def _log_life(self, action: str) -> None:
        parts = self.parts
        entry = parts.node.entry(action, directory=parts.directory.current().version)
        parts.store.write(lambda tx: tx.audit.append(entry))


def _put_together(
    home: Home, config: NodeConfig, held: ExitStack, purge_due: threading.Event
) -> Parts:
    """Build every part over those before it; ``held`` closes them in the other order."""
    started = utc_now()
    trust = DirectoryStore(home.path)
    directory = _joined(trust, config)
    identity = NodeIdentity(
        home.keys,
        home.certs,
        config.agency,
        directory.federation,
        node_ca_key=config.node_ca_key,
        operator_ca_key=config.operator_ca_key,
    )
    identity.renew_if_due(utc_now())
    damaged: list[str] = []
    matching = _open_index(home.indexes, held, damaged)
    known_good = _open_index(home.indexes / "known-good", held, damaged)
    url = home.database_url(config)
    own_database.check_there(home, url)
    store = open_store(url, clock=utc_now, matching=matching, known_good=known_good)
    held.callback(store.close)
    own_database.check_own(home, store)

    def heard_from(agency: str) -> None:
        delivery.heard_from(agency)

    peers = PeerPool(
        config.agency, trust.current, lambda: identity.identity, utc_now, config.proxy_url()
    )
    relaying = Relaying(
        config.agency,
        trust.current,
        utc_now,
        peers,
        heard_from,
        outbound_only=config.outbound_only,
        hubs_only=config.attach == "hub",
    )
    peers.ways = relaying.bridges
    held.callback(relaying.close)
    held.callback(peers.close)
    online = OnlineHalf(home.path, trust)
    refresher = DirectoryRefresher(config.agency, trust, online, peers, utc_now)
    peers.catch_up = refresher.catch_up
    own = OwnStatements(home.path, config.agency, trust)
    refresher.hand_in = lambda: own.hand_in(peers, online, utc_now())
    node = Node(
        agency=config.agency,
        federation=directory.federation,
        store=store,
        matching=matching,
        policy=PolicyEngine(Path(config.policies) if config.policies else default_folder()),
        directory=trust.current,
        sealer=Sealer(directory.federation, config.agency, identity.signing_key),
        clock=utc_now,
        defaults=config.defaults(),
        peers=peers,
        epoch=store.write(_begin_life),
        ledger=FileLedger(home.tombstones),
        purge=purge_due.set,
        audit_key=identity.audit_key,
        scratch=home.path,
        renewed=store.read(lambda tx: tx.standings.renewed()),
    )
    delivery = DeliveryEngine(node)
    alarms = AlarmClock(node, config.alarm_command)

    def others() -> list[str]:
        return parts.others()

    contacts = Contacts(node, others)
    processes = None
    if store.shared:
        place = process_id(home.indexes)
        processes = Processes(store, place, process_name(home.path))
    parts = Parts(
        home=home,
        config=config,
        started=started,
        directory=trust,
        identity=identity,
        store=store,
        refusals=Refusals(config.agency, store),
        peers=peers,
        relaying=relaying,
        node=node,
        processes=processes,
        index_damage=damaged,
        purging=Purging(node, processes),
        delivery=delivery,
        alarms=alarms,
        contacts=contacts,
        online=online,
        refresher=refresher,
        retention=LogRetention(node, timedelta(days=config.audit_keep_days)),
        watches=WatchRuns(node, config.watch_hour, contacts.contact),
    )
    refresher.changed = partial(directory_changed, parts)
    node.wake = delivery.wake
    node.alarmed = alarms.wake
    node.contact = peers.on_greeted = contacts.soon
    node.ready = parts.ready
    return parts


def _joined(store: DirectoryStore, config: NodeConfig) -> Directory:
    if not store.joined:
        raise ConfigurationError(
            f"{config.agency} has joined no federation; run `tieline node join HOME`"
        )
    try:
        directory = store.refresh(utc_now())
    except TielineError as error:
        _log.warning("directory.refused", reason=error.message)
        directory = store.current()
    try:
        directory.member(config.agency)
    except UnknownAgency:
        raise ConfigurationError(
            f"{config.agency} is not admitted to {directory.federation} yet; "
            "have its authority run `tieline federation admit`"
        ) from None
    return directory


def _open_index(folder: Path, held: ExitStack, damaged: list[str]) -> Matcher:
    def found(words: str) -> None:
        _log.error("index.damaged", text=words)
        damaged.append(words)

    folder.mkdir(mode=0o700, exist_ok=True)
    matcher = Matcher.open(folder, found)
    if (words := matcher.stats()["damage"]) is not None:
        found(words)
    held.callback(matcher.close)
    return matcher


def _begin_life(tx: Tx) -> str:
    """Register this start of the node; return its epoch."""
    tx.standings.begin_life()
    return tx.standings.epoch()


@contextmanager
def running(path: Path) -> Iterator[RunningNode]:
    """Start a node from its home, and stop it afterwards."""
    home = Home(path)
    config = home.config()
    at_rest.check(home)
    with ExitStack() as held:
        held.enter_context(process.only_one(home))
        sweep(home.path, BACKUP_PREFIX)
        try:
            node = RunningNode(home, config, held)
        except ConfigurationError as error:
            if why := at_rest.cut_off(home):
                raise ConfigurationError(f"{error.message}; {why}") from None
            raise
        node.start()
        try:
            yield node
        finally:
            node.stop()


def serve(path: Path) -> None:
    """Run a node until SIGTERM or SIGINT; prints ``ready`` on stderr once both ports answer."""
    keep_freed_memory()
    at_rest.forbid_core_dumps()
    process.configure_log()
    forget_proxies()
    ended = process.ended_by_signal()
    with running(path) as node:
        process.on_hangup(node.look_now)
        process.settle_memory()
        process.say_ready()
        process.wait_for(ended)
