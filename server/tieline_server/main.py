"""Wiring only: the one place that knows every part of a node.

``serve`` takes the home's lock, opens trust, storage, index and policy, builds the services over
them, opens both listeners, starts delivery, says ``ready``, and undoes all of it on SIGTERM.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

import structlog
from tieline.v1 import (
    delivery_pb2_grpc,
    exchange_pb2_grpc,
    operator_pb2,
    operator_pb2_grpc,
    relay_pb2_grpc,
)
from tieline_client import keys, limits
from tieline_client.directory import Directory, Role
from tieline_client.errors import (
    ConfigurationError,
    HomeInUse,
    TielineError,
    UnknownAgency,
)
from tieline_client.identifiers import dns_name
from tieline_client.payloads import Sealer, timestamp
from tieline_client.tls import forget_proxies, server_credentials

from tieline_server.allocator import keep_freed_memory
from tieline_server.backup import records, reminding
from tieline_server.backup.scratch import BACKUP_PREFIX, sweep
from tieline_server.config import Home, NodeConfig
from tieline_server.delivery.alarm_clock import AlarmClock
from tieline_server.delivery.contacts import Contacts
from tieline_server.delivery.engine import DeliveryEngine
from tieline_server.domain.ports import Matching, Tx
from tieline_server.matching.matcher import Matcher
from tieline_server.policy.engine import PolicyEngine
from tieline_server.policy.loading import default_folder
from tieline_server.relay.relaying import Relaying
from tieline_server.rpc.delivery import DeliveryServicer
from tieline_server.rpc.exchange import ExchangeServicer
from tieline_server.rpc.identity import OperatorIdentifier, PeerIdentifier
from tieline_server.rpc.interceptors import Guard
from tieline_server.rpc.methods import Listener
from tieline_server.rpc.operator import NodeFacts, OperatorServicer
from tieline_server.rpc.rates import Rates
from tieline_server.rpc.relay import RelayServicer
from tieline_server.rpc.server import Endpoint, build_server, standing_threads
from tieline_server.services.alarms import Alarms
from tieline_server.services.answering import Answerer
from tieline_server.services.attachments import Receiver, drop_stale
from tieline_server.services.context import Node
from tieline_server.services.importing import discard, leftovers
from tieline_server.services.people import People
from tieline_server.services.purging import Purging
from tieline_server.services.receiving import Receiving
from tieline_server.services.refusals import Refusals
from tieline_server.services.standing_answers import StandingAnswers
from tieline_server.services.standing_words import troubles
from tieline_server.storage.engine import open_store
from tieline_server.storage.tombstone_ledger import FileLedger
from tieline_server.trust import files
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.node_identity import ListenerMaterial, MemberCas, NodeIdentity
from tieline_server.trust.peer_pool import PeerPool

_log = structlog.get_logger(__name__)

_HOUSEKEEPING_SECONDS = 5.0
_SIGNAL_SECONDS = 0.5
_COLLECTED_AFTER = 10_000
"""Objects made and not gone again after which the collector looks for cycles."""


def utc_now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)


class RunningNode:
    """A whole node. Built by ``start``; ``stop`` ends it."""

    def __init__(self, home: Home, config: NodeConfig, held: ExitStack) -> None:
        self._home, self._config = home, config
        self._held = held
        self._started = utc_now()
        self._stopping = threading.Event()
        self._purge_due = threading.Event()
        self.directory = DirectoryStore(home.path)
        directory = self._joined(self.directory, config)
        self.identity = NodeIdentity(home.keys, home.certs, config.agency, directory.federation)
        self.identity.renew_if_due(utc_now())
        matching = self._open_index(home.indexes)
        self.store = open_store(
            home.database_url(config),
            clock=utc_now,
            matching=matching,
            known_good=self._open_index(home.indexes / "known-good"),
        )
        held.callback(self.store.close)
        self._refusals = Refusals(config.agency, self.store)
        self.node = self._wire(directory, matching)
        self.purging = Purging(self.node)
        self._purger = threading.Thread(target=self._purge, name="purging", daemon=True)
        self.delivery = DeliveryEngine(self.node)
        self.node.wake = self.delivery.wake
        self.alarms = AlarmClock(self.node, config.alarm_command)
        self.node.alarmed = self.alarms.wake
        self.contacts = Contacts(self.node, self._others)
        self.node.contact = self._peers.on_greeted = self.contacts.soon
        self.node.ready = self._ready
        self.peer_endpoint, self.operator_endpoint = self._listeners()

    @staticmethod
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

    def _wire(self, directory: Directory, matching: Matching) -> Node:
        config = self._config
        policies = Path(config.policies) if config.policies else default_folder()
        pool = PeerPool(
            config.agency,
            self.directory.current,
            lambda: self.identity.identity,
            utc_now,
            config.proxy_url(),
        )
        self.relaying = Relaying(
            config.agency,
            self.directory.current,
            utc_now,
            pool,
            self._heard_from,
            outbound_only=config.outbound_only,
            hubs_only=config.attach == "hub",
        )
        pool.ways = self.relaying.bridges
        self._held.callback(self.relaying.close)
        self._held.callback(pool.close)
        self._peers = pool
        return Node(
            agency=config.agency,
            federation=directory.federation,
            store=self.store,
            matching=matching,
            policy=PolicyEngine(policies),
            directory=self.directory.current,
            sealer=Sealer(directory.federation, config.agency, self.identity.signing_key),
            clock=utc_now,
            defaults=config.defaults(),
            peers=pool,
            epoch=self.store.write(_begin_life),
            ledger=FileLedger(self._home.tombstones),
            purge=self._purge_due.set,
            scratch=self._home.path,
            renewed=self.store.read(lambda tx: tx.standings.renewed()),
        )

    def _heard_from(self, agency: str) -> None:
        self.delivery.heard_from(agency)

    def _ready(self, agency: str) -> None:
        self.delivery.wake(agency)
        self.delivery.heard_from(agency)

    def _greeted_by(self, agency: str) -> None:
        """A peer made a connection to us: it may have been away, upgraded, restored."""
        self.delivery.heard_from(agency)
        self.contacts.soon(agency)

    def _others(self) -> list[str]:
        own = self._config.agency
        members = self.directory.current().active_members()
        return [one.agency for one in members if one.agency != own]

    def _open_index(self, folder: Path) -> Matcher:
        folder.mkdir(mode=0o700, exist_ok=True)
        matcher = Matcher.open(folder, lambda words: _log.error("index.damaged", text=words))
        self._held.callback(matcher.close)
        return matcher

    def _listeners(self) -> tuple[Endpoint, Endpoint]:
        node, config = self.node, self._config
        members = MemberCas(self.directory)
        own_operators = (self.identity.operator_ca.der,)
        exchange = ExchangeServicer(
            node,
            Answerer(node),
            lambda: self.identity.leaf_der,
            self._greeted_by,
        )
        delivery = DeliveryServicer(
            Receiving(node, self._refusals.note), Receiver(node), StandingAnswers(node)
        )
        relay = RelayServicer(self.relaying.board, lambda: config.role is Role.HUB)
        standing = standing_threads()
        peers = build_server(
            self.relaying.listener if config.outbound_only else config.listen or "",
            server_credentials(ListenerMaterial(self.identity, members)),
            [
                Guard(
                    Listener.FEDERATION,
                    PeerIdentifier(self.directory.current, utc_now),
                    utc_now,
                    self._refusals.note,
                    standing_threads=standing,
                    rates=Rates(config.peer_calls_per_second),
                    heard=self.delivery.heard_from,
                )
            ],
            [
                partial(exchange_pb2_grpc.add_ExchangeServiceServicer_to_server, exchange),
                partial(delivery_pb2_grpc.add_DeliveryServiceServicer_to_server, delivery),
                partial(relay_pb2_grpc.add_RelayServiceServicer_to_server, relay),
            ],
            age_seconds=(
                limits.RELAYED_AGE_SECONDS
                if config.outbound_only
                else limits.CONNECTION_AGE_SECONDS
            ),
            standing=standing,
        )
        issue = lambda name, key: self.identity.issue_operator(name, key, utc_now())  # noqa: E731
        operator = OperatorServicer(node, People(node, issue), self._facts())
        people = OperatorIdentifier(
            config.agency,
            node.federation,
            lambda: own_operators,
            lambda name: self.store.recall(("operator", name), lambda tx: tx.operators.get(name)),
            clock=utc_now,
            is_revoked=lambda agency, serial: self.directory.current().is_revoked(agency, serial),
        )
        own = build_server(
            config.operator_listen,
            server_credentials(ListenerMaterial(self.identity, lambda: own_operators)),
            [Guard(Listener.OPERATOR, people, utc_now, self._refusals.note)],
            [partial(operator_pb2_grpc.add_OperatorServiceServicer_to_server, operator)],
            grace_seconds=limits.IMPORT_SECONDS,
        )
        return peers, own

    def _facts(self) -> NodeFacts:
        config = self._config
        return NodeFacts(
            listen=config.listen or "",
            operator_address=config.operator_listen,
            target_name=dns_name(config.agency, self.node.federation),
            node_ca=self.identity.node_ca.der,
            status=self._status,
        )

    def _status(self) -> operator_pb2.GetStatusResponse:
        config, directory = self._config, self.directory.current()
        member = directory.member(config.agency)
        status = operator_pb2.GetStatusResponse(
            agency=config.agency,
            federation=directory.federation,
            role=str(member.role),
            countries=list(member.countries),
            directory_version=directory.version,
            directory_expire_time=timestamp(directory.expires),
            leaf_expire_time=timestamp(self.identity.expires),
            listen="" if config.outbound_only else config.listen or "",
            start_time=timestamp(self._started),
        )
        for destination in self.store.read(lambda tx: list(tx.outbox.destinations())):
            status.queued[destination.agency] = destination.queued
        for purge in self.store.read(lambda tx: tx.retractions.open_purges()):
            status.purges.add(
                series=purge.series,
                cause=purge.cause.value,
                state=purge.state.value,
                holdings=purge.holdings,
                create_time=timestamp(purge.created),
                reason=purge.reason,
            )
        status.alarms.extend(Alarms(self.node).open())
        last = self.store.read(records.last)
        if last is not None:
            status.backup_time.CopyFrom(timestamp(last.created))
            status.backup_expire_time.CopyFrom(timestamp(last.expires))
        status.warnings.extend(self._warnings(directory))
        self.relaying.tell(status)
        return status

    def _warnings(self, directory: Directory) -> Iterator[str]:
        if keys.passphrase_from_environment() is None:
            yield "private keys are plain files; set TIELINE_PASSPHRASE_FILE for real use"
        reflected, stored = self.store.index.reflected(), self.store.index.stored()
        if reflected < stored:
            yield (
                f"the index is being brought up to date: answers reflect generation {reflected} "
                f"of {stored}"
            )
        if self.store.index.failure:
            yield f"the index cannot follow the database: {self.store.index.failure}"[:500]
        yield from self.store.read(troubles)
        for warning in reminding.warnings(self.store, utc_now()):
            yield warning[:500]
        if self.directory.problem:
            yield self.directory.problem[:500]
        try:
            directory.check_fresh(utc_now())
        except TielineError as error:
            yield error.message[:500]

    # --- life ---

    def start(self) -> None:
        """Open both ports; peers and people are answered from here on."""
        self.store.index.start()
        self.store.known_good.start()
        self.purging.erase()  # what a restored backup brought back is gone before anybody asks
        left = leftovers(self.store, self._attachments_under_way())
        for endpoint in (self.operator_endpoint, self.peer_endpoint):
            endpoint.start()
            endpoint.set_serving(True)
        self._log_life("node.started")
        self.store.look_through()
        self.delivery.start()
        self.alarms.start()
        self.contacts.start()
        self.relaying.start()
        self._greet_peers()
        self._purger.start()
        threading.Thread(target=self._keep_house, name="housekeeping", daemon=True).start()
        if left:
            threading.Thread(
                target=self._erase_leftovers, args=(left,), name="leftovers", daemon=True
            ).start()

    def _erase_leftovers(self, left: Sequence[str]) -> None:
        """Erase what imports left that ended with their process; nothing of it counts meanwhile."""
        self.store.index.refresh(wait=True)
        for import_id in left:
            discard(self.store, import_id)
        _log.info("import.leftovers_erased", imports=len(left))

    def _greet_peers(self) -> None:
        """Say Hello to all, so that what waits for this node, or in it, goes now and not when some
        back-off ends."""
        own = self._config.agency
        members = self.directory.current().active_members()
        left = SimpleQueue[str]()
        for member in members:
            if member.agency != own:
                left.put(member.agency)

        def work() -> None:
            while not self._stopping.is_set():
                try:
                    agency = left.get_nowait()
                    self._peers.greet(agency)
                except Empty:
                    return
                except (TielineError, ValueError):  # away, or this node stops meanwhile
                    continue
                self.delivery.heard_from(agency)

        for _ in range(min(limits.GREETERS, left.qsize())):
            threading.Thread(target=work, name="greeting", daemon=True).start()

    def stop(self) -> None:
        """End calls, delivery and storage in this order; what was acknowledged is durable."""
        self._stopping.set()
        self._purge_due.set()
        self.relaying.stop()
        for endpoint in (self.peer_endpoint, self.operator_endpoint):
            endpoint.stop(limits.STOP_SECONDS / 2)
        self.contacts.stop()
        self.alarms.stop()
        self.delivery.stop(self._peers.close)
        if self._purger.is_alive():
            self._purger.join(limits.STOP_SECONDS)
        self._refusals.flush()
        self.relaying.board.write_due(self.store, None)
        try:
            self._log_life("node.stopped")
        except TielineError as error:  # a full or damaged disk must not keep it from ending
            _log.warning("node.stop_not_logged", reason=error.reason, text=error.message)
        self._held.close()

    def _log_life(self, action: str) -> None:
        entry = self.node.entry(action, directory=self.directory.current().version)
        self.store.write(lambda tx: tx.audit.append(entry))

    def _attachments_under_way(self) -> frozenset[str]:
        return self.store.read(lambda tx: frozenset(tx.attachments.staged_imports()))

    def _purge(self) -> None:
        """Carry erasures out as they come, and what was left of them; see services/purging.py."""
        while not self._stopping.is_set():
            self._purge_due.clear()
            try:
                for agency in self.store.read(lambda tx: tx.outbox.waiting()):
                    self.delivery.wake(agency)  # retractions that were just forwarded
                self.purging.run()
            except TielineError as error:
                _log.warning("purging.waits", reason=error.reason, text=error.message)
            except Exception as error:  # noqa: BLE001 - the next round tries again
                _log.error("purging.failed", error=type(error).__name__, text=str(error))
            self._purge_due.wait(_HOUSEKEEPING_SECONDS)

    def _keep_house(self) -> None:
        """Every few seconds: the directory, the leaf, counted refusals, the index."""
        while not self._stopping.wait(_HOUSEKEEPING_SECONDS):
            for work in (
                self._close_if_damaged,
                lambda: self.directory.refresh(utc_now()),
                lambda: self.identity.renew_if_due(utc_now()),
                lambda: self._refusals.write_due(utc_now()),
                lambda: self.relaying.keep_house(self.store, utc_now),
                lambda: drop_stale(self.node),
                self.contacts.hourly,
                self.delivery.start,
                self.store.index.refresh,
                self.node.matching.tidy_if_idle,
                self.store.known_good.tidy_if_idle,
            ):
                try:
                    work()
                except TielineError as error:
                    _log.warning("housekeeping.waits", reason=error.reason, text=error.message)
                except Exception as error:  # noqa: BLE001 - the next round tries again
                    _log.error("housekeeping.failed", error=type(error).__name__, text=str(error))

    def _close_if_damaged(self) -> None:
        """Let health checks see it too; every call is refused already."""
        if self.store.damaged:
            for endpoint in (self.peer_endpoint, self.operator_endpoint):
                endpoint.set_serving(False)


def _begin_life(tx: Tx) -> str:
    """Register this start of the node; return its epoch."""
    tx.standings.begin_life()
    return tx.standings.epoch()


@contextmanager
def running(path: Path) -> Iterator[RunningNode]:
    """Start a node from its home, and stop it afterwards."""
    home = Home(path)
    config = home.config()
    with ExitStack() as held:
        held.enter_context(only_one(home))
        sweep(home.path, BACKUP_PREFIX)
        node = RunningNode(home, config, held)
        node.start()
        try:
            yield node
        finally:
            node.stop()


@contextmanager
def only_one(home: Home) -> Iterator[None]:
    """Hold a home, so that no other process serves or changes it; raise HomeInUse."""
    try:
        held = ExitStack()
        held.enter_context(files.locked(home.lock_file, str(home.path)))
    except HomeInUse:
        raise HomeInUse(f"another process serves {home.path}; stop it first") from None
    with held:
        yield


def serve(path: Path) -> None:
    """Run a node until SIGTERM or SIGINT; prints ``ready`` on stderr once both ports answer."""
    keep_freed_memory()
    _configure_log()
    forget_proxies()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with running(path):
        # What is there by now stays: the collector need not go through it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECTED_AFTER)
        # As the log writes: a line of its own, whatever other threads have to say just now.
        structlog.WriteLogger(sys.stderr).msg("ready")
        # The system may hand a signal to any thread; only this one runs its handler, once awake.
        while not ended.wait(_SIGNAL_SECONDS):
            pass


def _configure_log() -> None:
    """One JSON line per event on stderr; control characters are escaped by JSON."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
