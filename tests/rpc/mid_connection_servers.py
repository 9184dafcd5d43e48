"""Servers, as the client that nodes use meets them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from functools import partial
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.serialization import Encoding
from grpc.experimental import session_cache  # type: ignore[attr-defined]
from tieline.v1 import envelope_pb2, exchange_pb2, payload_pb2
from tieline_client import keys, limits, tls
from tieline_client.certificates import LeafCache
from tieline_client.digest_batch import DigestBatch
from tieline_client.directory import SigningKey
from tieline_client.errors import TielineError
from tieline_client.identifiers import SpiffeId
from tieline_client.payloads import Audience, Sealer
from tieline_client.peer_client import PeerClient
from tieline_server.trust.authority import issue_node_leaf

from tests.e2e.rogue import Impostor, serving
from tests.rpc.guarded import FEDERATION, ICE, OWN, SECONDS, World, make_world
from tests.rpc.mid_connection_changes import (
    SERVED,
    Rows,
    agency_revoked,
    ca_ended,
    ca_replaced,
    ca_rolled_over,
    directory_ended,
    leaf_ended,
    member,
    nothing,
    role_changed,
    serial_revoked,
)


class Server:
    """us-ice's node as a server that answers as it should, and the client that pt-pj has to it."""

    def __init__(self, held: ExitStack) -> None:
        self.world = make_world()
        self.agency = self.world.agencies[ICE]
        key = keys.generate()
        public = keys.public_der(key)
        signing = SigningKey(
            keyid=keys.keyid(public),
            public=base64.b64encode(public).decode(),
            not_before=self.world.now - timedelta(days=1),
        )
        member(self.world, ICE, signing_keys=(signing,))
        self.sealer = Sealer(FEDERATION, ICE, key)
        self.leaf = tls.to_der(self.agency.identity.leaf_pem)
        self.impostor = Impostor(self._hello, lambda _method, _sent: [b""])
        self._held = held
        self._address = held.enter_context(
            serving(
                self.impostor,
                "127.0.0.1:0",
                self.agency.identity,
                [self.world.agencies[OWN].node_ca.der],
            )
        )
        self.client = self.connect()

    def connect(self) -> PeerClient:
        """Another client of the same node; it connects by itself."""
        return self._held.enter_context(
            closing(
                PeerClient(
                    own_agency=OWN,
                    agency=ICE,
                    endpoints=[self._address],
                    directory=lambda: self.world.directory,
                    identity=self.world.agencies[OWN].identity,
                    leaves=LeafCache(FEDERATION),
                    clock=self.world.clock,
                )
            )
        )

    def _hello(self, request: bytes) -> bytes:
        proof = payload_pb2.HelloProof(
            nonce=exchange_pb2.HelloRequest.FromString(request).nonce,
            caller=str(SpiffeId(FEDERATION, OWN)),
            leaf=self.leaf,
            wire_version="v1.2",
        )
        sealed = self.sealer.seal(
            payload_pb2.Payload(hello=proof),
            Audience(agency=OWN),
            self.world.now,
            limits.QUERY_LIFE,
        )
        return exchange_pb2.HelloResponse(proof=sealed).SerializeToString()

    def renewed(self) -> None:
        public = self.agency.leaf.public_key()
        assert isinstance(public, keys.PublicKey)
        leaf = issue_node_leaf(self.agency.node_ca, public, now=self.world.now)
        self.leaf = leaf.public_bytes(Encoding.DER)


def _told(call: Callable[[], object]) -> str:
    try:
        call()
    except TielineError as error:
        return error.metadata.get("check", error.reason)
    return SERVED


def _server(change: Callable[[Server], None]) -> str:
    """The next call to a server that was greeted: nothing may go to one that is trusted no more."""
    with ExitStack() as held:
        server = Server(held)
        server.client.hello()
        assert len(server.impostor.hellos) == 1, len(server.impostor.hellos)
        change(server)
        batches: list[DigestBatch] = []
        header = envelope_pb2.Envelope(payload_type="t")
        told = _told(lambda: list(server.client.overlap(header, batches, SECONDS)))
        assert (server.impostor.seen == []) == (told != SERVED), server.impostor.seen
        return told


def _resumed(change: Callable[[Server], None]) -> str:
    """A session ticket from before: the new connection is resumed, not proved anew.

    The node's own channels keep no tickets (`_not_resumed`), so this one's options are added to.
    """
    cache = session_cache.ssl_session_cache_lru(4)
    honest = tls.channel_options

    def keeping(*words: Any, **named: Any) -> Any:
        return [*honest(*words, **named), ("grpc.ssl_session_cache", cache)]

    with ExitStack() as held, mock.patch.object(tls, "channel_options", keeping):
        server = Server(held)
        server.client.hello()
        server.client.close()
        second = server.connect()
        second.hello()
        second.close()
        assert server.impostor.resumed == [False, True]  # the second did resume the first
        change(server)
        batches: list[DigestBatch] = []
        header = envelope_pb2.Envelope(payload_type="t")
        told = _told(lambda: list(server.connect().overlap(header, batches, SECONDS)))
        assert (server.impostor.seen == []) == (told != SERVED), server.impostor.seen
        assert all(server.impostor.resumed[1:]), server.impostor.resumed
        return told


def _not_resumed() -> str:
    """As the node's client is: each connection is proved anew."""
    with ExitStack() as held:
        server = Server(held)
        for client in (server.client, server.connect(), server.connect()):
            client.hello()
            client.close()
        return "resumed" if any(server.impostor.resumed) else SERVED


def _asking(change: Callable[[Server], None]) -> str:
    """A question under way: its later batches stay here."""
    with ExitStack() as held:
        server = Server(held)
        batch = mock.Mock(spec=DigestBatch)
        batch.message = b"\x12\x00"
        late = mock.Mock(spec=DigestBatch)
        late.message = b"what must not leave"

        def batches() -> Iterator[Any]:
            yield batch
            assert server.impostor.was_sent(batch.message, SECONDS)
            change(server)
            yield late

        header = envelope_pb2.Envelope(payload_type="t")
        told = _told(lambda: list(server.client.overlap(header, batches(), SECONDS)))
        leaked = any(message == late.message for _, message in server.impostor.seen)
        assert leaked == (told == SERVED)
        return told


def _on_world(change: Callable[[World], None]) -> Callable[[Server], None]:
    return lambda server: change(server.world)


def _signing_key_withdrawn(server: Server) -> None:
    member(server.world, ICE, signing_keys=())


def _renewed(server: Server) -> None:
    server.renewed()
    server.world.revise()


def rows() -> Rows:
    """What the client does with a server."""
    made: Rows = []

    def add(name: str, run: Callable[[], str], expected: str) -> None:
        made.append((name, run, expected))

    servers: list[tuple[str, Callable[[Server], None], str]] = [
        ("nothing changes", _on_world(nothing), SERVED),
        ("its serial number is revoked", _on_world(serial_revoked), "CERTIFICATE_REVOKED"),
        ("its agency is revoked", _on_world(agency_revoked), "SIGNATURE_REFUSED"),
        ("its CA is replaced", _on_world(ca_replaced), "CERTIFICATE_ISSUER"),
        ("its CA rolls over, both are listed", _on_world(ca_rolled_over), SERVED),
        ("its CA ends, its leaf does not", _on_world(ca_ended), "CERTIFICATE_AUTHORITY"),
        ("its role changes", _on_world(role_changed), SERVED),
        ("its leaf ends", _on_world(leaf_ended), "CERTIFICATE_EXPIRED"),
        ("its leaf is renewed", _renewed, SERVED),
        ("its signing key is withdrawn", _signing_key_withdrawn, "SIGNATURE_REFUSED"),
        ("the directory ends", _on_world(directory_ended), "DIRECTORY_EXPIRED"),
    ]
    for name, alter_server, expected in servers:
        add(f"next call: {name}", partial(_server, alter_server), expected)
    add("new connections of the node's own client: none is resumed", _not_resumed, SERVED)
    for name, alter_server, expected in servers:
        add(f"resumed session: {name}", partial(_resumed, alter_server), expected)
    under_way = {"its agency is revoked": "CERTIFICATE_AGENCY", "its signing key is withdrawn": ""}
    for name, alter_server, expected in servers:
        meets = under_way.get(name, expected)
        if meets and name != "its leaf is renewed":
            add(f"question under way: {name}", partial(_asking, alter_server), meets)
    return made
