"""Node to node: one channel to one agency, nothing sent before that agency's node proved itself.

TLS alone proves that the server holds a certificate of the agency's CA for the agency's name; a
client cannot see the leaf (threats.md 10). So the first call on every connection is Hello: the
server signs our nonce, the caller as it saw us, and its own leaf, and the same checks are run on
that leaf as a server runs on its callers. A connection that broke is greeted again.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import grpc
from tieline.v1 import exchange_pb2

from tieline_client import WIRE_MAJOR, WIRE_MINOR, constraints, limits, tls
from tieline_client.certificates import Kind, LeafCache, LeafIdentity, Purpose
from tieline_client.directory import Directory
from tieline_client.directory_client import VERSION_KEY, DirectoryCalls
from tieline_client.errors import SignatureRefused, TrustError, Unreachable
from tieline_client.identifiers import SpiffeId
from tieline_client.payloads import Audience, moment, open_payload
from tieline_client.status import from_rpc_error

WIRE_VERSION = f"{WIRE_MAJOR}.{WIRE_MINOR}"
_EXCHANGE = "/tieline.v1.ExchangeService"


class PeerConnection:
    """The connection to one peer. Safe to share between threads; ``close`` ends it.

    Every method raises a TielineError: Unreachable when nobody answers in time, TrustError when the
    server does not prove itself, otherwise what the peer said.
    """

    def __init__(
        self,
        *,
        own_agency: str,
        agency: str,
        endpoints: Sequence[str],
        directory: Callable[[], Directory],
        identity: tls.Identity,
        leaves: LeafCache,
        clock: Callable[[], datetime],
        proxy: str = "",
        idle_seconds: float = 0,
        why_unreachable: Callable[[], str] = lambda: "",
    ) -> None:
        """``proxy`` and ``idle_seconds`` are those of tls.node_channel; ``why_unreachable`` knows
        more than gRPC of why there is no connection, or returns ""."""
        if not endpoints:
            raise Unreachable(f"the directory lists no endpoint of {agency}")
        self.agency = agency
        self._own = own_agency
        self._directory, self._leaves, self._clock = directory, leaves, clock
        self._why_unreachable = why_unreachable
        current = directory()
        self._channel = tls.node_channel(
            endpoints[0],
            agency=agency,
            federation=current.federation,
            roots=current.member(agency).node_cas,
            identity=identity,
            proxy=proxy,
            idle_seconds=idle_seconds,
        )
        # Answers are parsed here, where what does not parse is an error like any other.
        self._hello = self._channel.unary_unary(
            f"{_EXCHANGE}/Hello", exchange_pb2.HelloRequest.SerializeToString, None
        )
        self.capabilities: frozenset[str] = frozenset()
        """What the peer said in its last Hello that it can do."""
        self.wire_version = ""
        self.on_greeted: Callable[[], None] = lambda: None
        """Called after the Hello of each new connection."""
        self.catch_up: Callable[[str, int], bool] = lambda _agency, _version: False
        """Fetches the directory of that version or, for 0, whatever is newer; says whether this
        node's directory changed."""
        self._greeting = threading.Lock()
        self._greeted_version = 0
        self._connected = False
        self._server_leaf = b""
        self._server: LeafIdentity | None = None
        self._trusted: Directory | None = None
        """The directory under which the server's leaf was checked last."""
        self._counting = threading.Lock()
        self._under_way = 0
        self._prepare()
        self.skew = timedelta(0)
        """How far the peer's clock was ahead of ours at the last Hello, give or take half of the
        time that it took."""

    def _prepare(self) -> None:
        """Make what calls on the channel need, once."""

    @property
    def connected(self) -> bool:
        """Whether the peer was greeted on a connection that has not broken since."""
        if self._connected and not tls.is_ready(self._channel):
            self._connected = False
        return self._connected

    def hello(self) -> None:
        """Greet unless this connection was greeted under the current directory.

        1. The server answers with a proof that this agency signed for us.
        2. It holds our nonce, and saw us as who we are.
        3. The leaf it shows passes every check for a server of that agency.
        """
        directory = self._directory()
        directory.check_fresh(self._clock())
        if self._greeted(directory):
            return
        with self._greeting:
            if self._greeted(directory):
                return
            self._greeted_version = self._greet_current(directory)
            anew, self._connected = not self._connected, True
        if anew:
            self.on_greeted()

    @property
    def at_hand(self) -> bool:
        """Whether a call goes out at once: `hello` has nothing to do, and raises nothing."""
        directory = self._directory()
        return self._clock() < directory.expires and self._greeted(directory)

    def _greeted(self, directory: Directory) -> bool:
        """Whether this connection was, under this directory, and the server's leaf still holds."""
        return (
            self.connected
            and self._greeted_version == directory.version
            and self._server is not None
            and self._server.covers(self._clock())
        )

    def greet_again(self) -> None:
        """Say Hello whether or not this connection was greeted: it measures ``skew`` anew."""
        directory = self._directory()
        directory.check_fresh(self._clock())
        with self._greeting:
            self._greet(directory)

    @property
    def leaf(self) -> LeafIdentity | None:
        """Whose leaf the peer showed in its last Hello."""
        return self._server

    def _greet_current(self, directory: Directory) -> int:
        """Greet, and once more where the peer works with a newer directory, or with keys that may
        stand in one; return the version of the directory that it was greeted under."""
        theirs, again = 0, False
        try:
            theirs = self._greet(directory)
        except TrustError:
            if not self.catch_up(self.agency, 0):
                raise
            again = True
        if theirs > directory.version:
            self.catch_up(self.agency, theirs)
        current = self._directory()
        if again or current.version != directory.version:
            current.check_fresh(self._clock())
            self._greet(current)
        return current.version

    def _greet(self, directory: Directory) -> int:
        """Greet under a directory; return the version that the peer works with."""
        now = self._clock()
        nonce = secrets.token_bytes(32)
        request = exchange_pb2.HelloRequest(
            nonce=nonce, wire_version=WIRE_VERSION, directory_version=directory.version
        )
        with self._translated():
            data = self._hello(
                request, timeout=limits.HELLO_SECONDS, metadata=self._stated(directory)
            )
        answered = self._clock()
        answer = constraints.open_nested(data, exchange_pb2.HelloResponse)
        # 1
        payload = open_payload(
            answer.proof,
            directory=directory,
            issuer=self.agency,
            audience=Audience(agency=self._own),
            now=now,
        )
        if payload.WhichOneof("body") != "hello":
            raise SignatureRefused(f"{self.agency} answered a Hello with something else")
        proof = payload.hello
        # 2
        caller = str(SpiffeId(directory.federation, self._own))
        if proof.nonce != nonce or proof.caller != caller:
            raise SignatureRefused(f"{self.agency} answered somebody else's Hello")
        # 3
        self._check_server(proof.leaf, directory, now)
        self.skew = moment(payload.issue_time) - (now + (answered - now) / 2)
        self.capabilities = frozenset(proof.capabilities)
        self.wire_version = proof.wire_version
        return proof.directory_version

    def directory_files(self) -> DirectoryCalls:
        """Return the calls that need no Hello: the peer's copy of the directory."""
        return DirectoryCalls(self.agency, self._channel, self._translated, self._stated)

    def _stated(self, directory: Directory | None = None) -> tuple[tuple[str, str], ...]:
        """Return the metadata of every call: which directory this node works with."""
        return ((VERSION_KEY, str((directory or self._directory()).version)),)

    def _check_server(self, leaf: bytes, directory: Directory, now: datetime) -> None:
        self._server = self._leaves.check(
            leaf,
            version=directory.version,
            kind=Kind.NODE,
            purpose=Purpose.SERVER,
            pinned=directory.pinned_node_cas(),
            is_revoked=directory.is_revoked,
            now=now,
            agency=self.agency,
        )
        self._server_leaf, self._trusted = leaf, directory

    def _check_again(self) -> None:
        """Within a stream: look again at the server once the directory is another one."""
        directory, server = self._directory(), self._server
        if directory is not self._trusted or server is None or not server.covers(self._clock()):
            directory.check_fresh(self._clock())
            self._check_server(self._server_leaf, directory, self._clock())

    def close(self) -> None:
        """Close the channel; calls under way end with Unreachable."""
        self._channel.close()

    @property
    def idle(self) -> bool:
        """Whether no call is under way."""
        return self._under_way == 0

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with self._counting:
            self._under_way += 1
        try:
            yield
        except grpc.RpcError as error:
            told = from_rpc_error(error)
            if isinstance(told, Unreachable) and (why := self._why_unreachable()):
                told = Unreachable(why)
            raise told from None
        finally:
            with self._counting:
                self._under_way -= 1
