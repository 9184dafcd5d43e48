"""The node's channels to its peers: made when first needed, made anew when trust changed.

A channel is pinned to what the directory said of the peer when it was opened. When the peer's CAs
or endpoints change, or when this node's own leaf is renewed, the next call opens a new one and
calls on the old one end in their own time; when the peer is revoked, they end at once. The channel
of a peer that only calls out leads to an address on this machine (relay/bridge.py); TLS, names and
checks are the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tieline.v1 import audit_pb2, delivery_pb2, envelope_pb2, exchange_pb2
from tieline_client import limits
from tieline_client.certificates import LeafCache
from tieline_client.digest_batch import DigestBatch
from tieline_client.directory import Directory, Member
from tieline_client.directory_client import DirectoryCalls
from tieline_client.errors import TrustError, Unreachable
from tieline_client.peer_client import PeerClient
from tieline_client.tls import Identity

from tieline_server.domain.ports import Clock
from tieline_server.trust.directory_status import revoked_words


@dataclass(frozen=True, slots=True)
class _Pinned:
    client: PeerClient
    member: Member
    identity: Identity


class Ways(Protocol):
    """Addresses on this machine of peers that only call out."""

    def address(self, agency: str) -> str: ...
    def failure(self, agency: str) -> str:
        """Why there was no connection, or ""."""
        ...


class PeerPool:
    """Implements services.context.Peers over PeerClient. Thread-safe."""

    def __init__(
        self,
        agency: str,
        directory: Callable[[], Directory],
        identity: Callable[[], Identity],
        clock: Clock,
        proxy: str = "",
    ) -> None:
        """``proxy`` is the URL of the HTTP proxy that every connection goes through, or ""."""
        self.ways: Ways | None = None
        self._proxy = proxy
        self._agency, self._directory, self._identity, self._clock = (
            agency,
            directory,
            identity,
            clock,
        )
        self._leaves = LeafCache(directory().federation)
        self.on_greeted: Callable[[str], None] = lambda _agency: None
        """Called when a peer was greeted on a new connection."""
        self.catch_up: Callable[[str, int], bool] = lambda _agency, _version: False
        """See PeerClient.catch_up."""
        self._lock = threading.Lock()
        self._open: dict[str, _Pinned] = {}
        self._retired: list[tuple[PeerClient, float]] = []

    def client(self, agency: str) -> PeerClient:
        """Return the client of a peer; raise UnknownAgency, TrustError or Unreachable."""
        self._check_own()
        return self._client(agency)

    def _check_own(self) -> None:
        """Raise TrustError when this agency is revoked: nothing is asked or sent then."""
        if why := revoked_words(self._directory(), self._agency):
            raise TrustError(why)

    def _client(self, agency: str) -> PeerClient:
        member = self._directory().member(agency)
        identity = self._identity()
        if member.revoked:
            self.drop(agency)
            raise TrustError(f"{agency} is revoked; nothing is sent to it")
        with self._lock:
            known = self._open.get(agency)
            if known and known.identity is identity and _same_trust(known.member, member):
                return known.client
            client = self._bridged(agency) if member.outbound_only else self._called(member)
            client.on_greeted = lambda: self.on_greeted(agency)
            client.catch_up = self.catch_up
            self._open[agency] = _Pinned(client, member, identity)
            if known is not None:
                # Calls that run on it end in their own time: a new leaf costs no call.
                self._retired.append((known.client, time.monotonic() + limits.RETIRED_SECONDS))
        self.tidy()
        return client

    def tidy(self) -> None:
        """Close channels that others took the place of, once no call runs on them."""
        if not self._retired:
            return
        now = time.monotonic()
        with self._lock:
            done = [one for one, since in self._retired if since <= now and one.idle]
            self._retired = [one for one in self._retired if one[0] not in done]
        for client in done:
            client.close()

    def fresh(self, agency: str) -> PeerClient:
        """Return a client with a channel of its own, which the caller closes."""
        self._check_own()
        member = self._directory().member(agency)
        if member.revoked:
            raise TrustError(f"{agency} is revoked; nothing is sent to it")
        return self._called(member)

    def _called(self, member: Member) -> PeerClient:
        if not member.endpoints:
            raise Unreachable(f"the directory lists no endpoint of {member.agency}")
        return PeerClient(
            own_agency=self._agency,
            agency=member.agency,
            endpoints=member.endpoints,
            directory=self._directory,
            identity=self._identity(),
            leaves=self._leaves,
            clock=self._clock,
            proxy=self._proxy,
        )

    def _bridged(self, agency: str) -> PeerClient:
        ways = self.ways
        if ways is None:
            raise Unreachable(f"the directory lists no endpoint of {agency}")
        return PeerClient(
            own_agency=self._agency,
            agency=agency,
            endpoints=(ways.address(agency),),
            directory=self._directory,
            identity=self._identity(),
            leaves=self._leaves,
            clock=self._clock,
            idle_seconds=limits.RELAY_IDLE_SECONDS,
            why_unreachable=lambda: ways.failure(agency),
        )

    def retry(self, agency: str) -> None:
        """A peer is there: forget a channel that waits before it connects again."""
        with self._lock:
            known = self._open.get(agency)
        if known is not None and not known.client.connected:
            self.drop(agency)

    def directory_files(self, agency: str) -> DirectoryCalls:
        """Return the calls for a peer's copy of the directory; they work past its expiry, and for
        an agency that is revoked: it learns so that it was admitted again."""
        return self._client(agency).directory_files()

    def connected(self) -> list[str]:
        """Return the peers to which there is a connection that was greeted."""
        with self._lock:
            return [agency for agency, one in self._open.items() if one.client.connected]

    def review(self) -> None:
        """Close channels, with the calls on them, to peers that are not to be called any more:
        revoked, gone, or known by a leaf that is revoked or of a CA that is pinned no more."""
        directory, now = self._directory(), self._clock()
        with self._lock:
            known = list(self._open.items())
        for agency, one in known:
            member = directory.by_agency.get(agency)
            leaf = one.client.leaf
            if (
                member is None
                or member.revoked
                or not set(one.member.node_cas) & set(member.node_cas)
                or (leaf is not None and directory.is_revoked(agency, leaf.serial))
                or (leaf is not None and not leaf.covers(now))
            ):
                self.drop(agency)

    def drop(self, agency: str) -> None:
        """Close a peer's channel, if there is one."""
        with self._lock:
            known = self._open.pop(agency, None)
            clients = [one for one, _ in self._retired if one.agency == agency]
            self._retired = [one for one in self._retired if one[0] not in clients]
        for client in (*clients, *((known.client,) if known is not None else ())):
            client.close()

    def close(self) -> None:
        """Close every channel."""
        with self._lock:
            clients = [one.client for one in self._open.values()]
            clients += [one for one, _ in self._retired]
            self._open.clear()
            self._retired.clear()
        for client in clients:
            client.close()

    def greet(self, agency: str) -> None:
        """Say Hello to a peer; raise a TielineError when it does not answer as itself."""
        self.client(agency).hello()

    def overlap(
        self,
        agency: str,
        header: envelope_pb2.Envelope,
        batches: Iterable[DigestBatch],
        timeout: float,
        salt: bytes = b"",
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        """Ask a peer; see PeerClient.overlap."""
        return self.client(agency).overlap(header, batches, timeout, salt)

    def overlap_brief(
        self,
        agency: str,
        header: envelope_pb2.Envelope,
        batches: Iterable[DigestBatch],
        timeout: float,
        salt: bytes = b"",
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        """Ask a peer few digests; see PeerClient.overlap_brief."""
        return self.client(agency).overlap_brief(header, batches, timeout, salt)

    def overlap_at_hand(
        self,
        agency: str,
        header: envelope_pb2.Envelope,
        batches: Iterable[DigestBatch],
        timeout: float,
        salt: bytes,
    ) -> Iterator[exchange_pb2.OverlapResponse] | None:
        """Ask a peer that is at hand; see PeerClient.overlap_at_hand."""
        return self.client(agency).overlap_at_hand(header, batches, timeout, salt)

    def deliver(
        self, agency: str, request: delivery_pb2.DeliverRequest
    ) -> delivery_pb2.DeliverResponse:
        """Deliver a message; see PeerClient.deliver."""
        return self.client(agency).deliver(request)

    def deliver_batch(
        self, agency: str, request: delivery_pb2.DeliverBatchRequest
    ) -> delivery_pb2.DeliverBatchResponse:
        """Deliver several messages; see PeerClient.deliver_batch."""
        return self.client(agency).deliver_batch(request)

    def contact(
        self, agency: str, request: delivery_pb2.ContactRequest
    ) -> delivery_pb2.ContactResponse:
        """Exchange standings; see PeerClient.contact."""
        return self.client(agency).contact(request)

    def fetch_sent(
        self, agency: str, request: delivery_pb2.FetchSentRequest
    ) -> Iterator[delivery_pb2.FetchSentResponse]:
        """Fetch what a peer holds of ours; see PeerClient.fetch_sent."""
        return self.client(agency).fetch_sent(request)

    def swap_checkpoints(
        self, agency: str, request: audit_pb2.SwapCheckpointsRequest
    ) -> audit_pb2.SwapCheckpointsResponse:
        """Swap checkpoints with a peer; see PeerClient.swap_checkpoints."""
        return self.client(agency).swap_checkpoints(request)

    def countersign(
        self, agency: str, request: audit_pb2.CountersignRequest
    ) -> audit_pb2.CountersignResponse:
        """Have a checkpoint countersigned; see PeerClient.countersign."""
        return self.client(agency).countersign(request)

    def log_consistency(
        self, agency: str, request: audit_pb2.GetConsistencyRequest
    ) -> audit_pb2.GetConsistencyResponse:
        """Ask for a consistency proof; see PeerClient.log_consistency."""
        return self.client(agency).log_consistency(request)

    def abilities(self, agency: str) -> tuple[str, frozenset[str]]:
        """Return the wire version and the capabilities that a peer states in its Hello."""
        client = self.client(agency)
        client.hello()
        return client.wire_version, client.capabilities

    def put_chunk(
        self, agency: str, request: delivery_pb2.PutChunkRequest
    ) -> delivery_pb2.PutChunkResponse:
        """Send a chunk; see PeerClient.put_chunk."""
        return self.client(agency).put_chunk(request)


def _same_trust(before: Member, now: Member) -> bool:
    return before is now or (before.node_cas, before.endpoints, before.outbound_only) == (
        now.node_cas,
        now.endpoints,
        now.outbound_only,
    )
