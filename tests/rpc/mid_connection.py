"""What happens to connections that stand when trust ends: cases against real listeners.

Each case opens a connection (or a stream on it) over mutual TLS to a listener behind the node's own
guard, or from the node's own client to a server, and sees it work; then something changes; then the
same connection is used once more. ``outcome`` is what it got.
"""

from __future__ import annotations

import base64
import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any
from unittest import mock

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from grpc.experimental import session_cache  # type: ignore[attr-defined]
from tieline.v1 import envelope_pb2, exchange_pb2, exchange_pb2_grpc, operator_pb2, payload_pb2
from tieline.v1.operator_pb2_grpc import OperatorServiceStub
from tieline_client import keys, limits, tls
from tieline_client.certificates import LeafCache
from tieline_client.digest_batch import DigestBatch
from tieline_client.directory import Role, SigningKey
from tieline_client.errors import TielineError
from tieline_client.identifiers import SpiffeId
from tieline_client.payloads import Audience, Sealer
from tieline_client.peer_client import PeerClient
from tieline_server.rpc.identity import OperatorIdentifier
from tieline_server.rpc.methods import Listener
from tieline_server.trust.authority import issue_node_leaf

from tests.e2e.rogue import Impostor, serving
from tests.rpc.guarded import (
    FBI,
    FEDERATION,
    ICE,
    OWN,
    SECONDS,
    Agency,
    Listening,
    World,
    error_infos,
    listening,
    make_world,
)
from tests.rpc.mid_connection_relay import rows as relay_rows

SERVED = "served"
HELLO = exchange_pb2.HelloRequest(nonce=bytes(range(32)), wire_version="v1.2")
HEADER = exchange_pb2.OverlapRequest(header=envelope_pb2.Envelope(payload_type="t"))


@dataclass(frozen=True)
class Case:
    """``side`` is who is looked at; ``run`` returns what the connection got, ``expected`` what it
    must get."""

    side: str
    name: str
    run: Callable[[], str]
    expected: str


def outcome(call: Callable[[], object]) -> str:
    """SERVED, or CODE/REASON/CHECK of the one ErrorInfo."""
    try:
        call()
    except grpc.RpcError as error:
        failed: Any = error
        (info,) = error_infos(failed)
        parts = (failed.code().name, info.reason, info.metadata.get("check", ""))
        return "/".join(part for part in parts if part)
    return SERVED


# --- what changes ---------------------------------------------------------------------------------


def _member(world: World, agency: str, **changes: Any) -> None:
    """Put a directory in place in which one member is another."""
    members = tuple(
        one.model_copy(update=changes) if one.agency == agency else one
        for one in world.directory.members
    )
    world.revise(members=members)


def _serial_revoked(world: World, agency: str = ICE) -> None:
    serial = world.agencies[agency].leaf.serial_number
    world.revise(revoked_serials={agency: frozenset({serial})})


def _serial_revoked_by_itself(world: World) -> None:
    serial = world.agencies[ICE].leaf.serial_number
    _member(world, ICE, revoked_serials=frozenset({serial}))


def _agency_revoked(world: World) -> None:
    _member(world, ICE, revoked=True)


def _agency_removed(world: World) -> None:
    world.revise(members=tuple(one for one in world.directory.members if one.agency != ICE))


def _ca_replaced(world: World, agency: str = ICE) -> None:
    _member(world, agency, node_cas=(Agency(agency, world.now).node_ca.der,))


def _ca_removed(world: World) -> None:
    _member(world, ICE, node_cas=())


def _ca_rolled_over(world: World, agency: str = ICE) -> None:
    successor = Agency(agency, world.now).node_ca.der
    _member(world, agency, node_cas=(world.agencies[agency].node_ca.der, successor))


def _leaf_ended(world: World) -> None:
    world.revise(expires=world.now + timedelta(days=60))
    world.now += timedelta(days=8)


def _clock_far_back(world: World) -> None:
    world.now -= timedelta(days=3)


def _directory_ended(world: World) -> None:
    world.revise(expires=world.now - timedelta(seconds=1))


def _other_member_revoked(world: World) -> None:
    _serial_revoked(world, FBI)


def _ca_ended(world: World, agency: str = ICE) -> None:
    """The CA that the directory pins ends before the leaf does.

    An agency may have its CA certified anew under the same key and name, for less long; whoever
    connected before did so under the longer one. The time is this node's own.
    """
    ca, ends = world.agencies[agency].node_ca, world.now + timedelta(hours=1)
    old = ca.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(ends)
    )
    for one in old.extensions:
        builder = builder.add_extension(one.value, one.critical)
    shorter = builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.DER)
    _member(world, agency, node_cas=(shorter,))
    world.now = ends + timedelta(seconds=1)


def _role_changed(world: World, agency: str = ICE) -> None:
    """What may be asked and told is another thing from now on; who calls is the same."""
    _member(world, agency, role=Role.REPOSITORY, countries=())


def _nothing(_world: World) -> None:
    """The control."""


# --- callers at the federation port ---------------------------------------------------------------


def _unary(change: Callable[[World], None]) -> str:
    world = make_world()
    with listening(world) as port, port.peer() as channel:
        stub: Any = exchange_pb2_grpc.ExchangeServiceStub(channel)
        stub.Hello(HELLO, timeout=SECONDS)
        change(world)
        before = port.exchange.bodies
        told = outcome(lambda: stub.Hello(HELLO, timeout=SECONDS))
        assert (port.exchange.bodies > before) == (told == SERVED)
        return told


def _streamed(change: Callable[[World], None]) -> str:
    """A stream that was let in goes on; then the next message meets another world."""
    world = make_world()
    with listening(world) as port, port.peer() as channel:
        messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stub: Any = exchange_pb2_grpc.ExchangeServiceStub(channel)
        call = stub.Overlap(iter(messages.get, None), timeout=SECONDS)
        messages.put(HEADER)
        next(call)
        change(world)
        messages.put(HEADER)
        try:
            return outcome(lambda: next(call))
        finally:
            messages.put(None)


def _answered(change: Callable[[World], None]) -> str:
    """A standing answer: the caller says nothing more, and what is sent to it must end too."""
    world = make_world()
    with listening(world) as port, port.peer() as channel:
        ready: queue.SimpleQueue[None] = queue.SimpleQueue()

        def answers(requests: Iterator[Any], _context: Any) -> Iterator[Any]:
            next(requests)
            while True:
                yield exchange_pb2.OverlapResponse()
                ready.get()

        port.exchange.on_overlap = answers
        messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stub: Any = exchange_pb2_grpc.ExchangeServiceStub(channel)
        call = stub.Overlap(iter(messages.get, None), timeout=SECONDS)
        messages.put(HEADER)
        next(call)
        change(world)
        ready.put(None)
        try:
            return outcome(lambda: next(call))
        finally:
            ready.put(None)
            messages.put(None)


def _resumed(change: Callable[[World], None]) -> str:
    """A session ticket from before: the new connection is resumed, not proved anew."""
    world = make_world()
    with listening(world) as port:
        cache = session_cache.ssl_session_cache_lru(4)
        own, ice = world.agencies[OWN], world.agencies[ICE].identity
        credentials = grpc.ssl_channel_credentials(
            tls.to_pem([own.node_ca.der]), ice.key_pem, ice.leaf_pem
        )
        options = [
            *tls.channel_options(f"{OWN}.{FEDERATION}.invalid"),
            ("grpc.ssl_session_cache", cache),
        ]
        seen: list[bytes] = []

        def on_hello(_request: Any, context: Any) -> Any:
            seen.extend(context.auth_context().get("ssl_session_reused", ()))
            return exchange_pb2.HelloResponse()

        port.exchange.on_hello = on_hello

        def call() -> None:
            with grpc.secure_channel(port.address, credentials, options) as channel:
                stub: Any = exchange_pb2_grpc.ExchangeServiceStub(channel)
                stub.Hello(HELLO, timeout=SECONDS)

        call()
        call()
        assert seen == [b"false", b"true"]  # the second did resume the first
        change(world)
        return outcome(call)


def _second_connection(change: Callable[[World], None]) -> str:
    """Two connections with one leaf: both end."""
    world = make_world()
    with listening(world) as port, port.peer() as first, port.peer() as second:
        stubs: list[Any] = [exchange_pb2_grpc.ExchangeServiceStub(one) for one in (first, second)]
        for stub in stubs:
            stub.Hello(HELLO, timeout=SECONDS)
        change(world)
        told = {outcome(partial(stub.Hello, HELLO, timeout=SECONDS)) for stub in stubs}
        (only,) = told
        return only


def _twin(of: str) -> str:
    """A second node of the same agency, with a leaf of its own, is connected beside the first.

    ``of`` says whose serial number is revoked then, and so whose call is looked at: the other's
    goes on. With one leaf in both nothing tells them apart here: that is for the standings.
    """
    world = make_world()
    ice = world.agencies[ICE]
    key = keys.generate()
    leaf = issue_node_leaf(ice.node_ca, key.public_key(), now=world.now)
    twin = tls.Identity(leaf.public_bytes(Encoding.PEM), keys.private_pem(key))
    with listening(world) as port, port.peer() as first, port.channel(twin) as second:
        stubs: dict[str, Any] = {
            "first": exchange_pb2_grpc.ExchangeServiceStub(first),
            "twin": exchange_pb2_grpc.ExchangeServiceStub(second),
        }
        serials = {"first": ice.leaf.serial_number, "twin": leaf.serial_number}
        for stub in stubs.values():
            stub.Hello(HELLO, timeout=SECONDS)
        if of in serials:
            world.revise(revoked_serials={ICE: frozenset({serials[of]})})
        told = {
            name: outcome(partial(stub.Hello, HELLO, timeout=SECONDS))
            for name, stub in stubs.items()
        }
        looked_at = told.pop(of, told["twin"])
        assert set(told.values()) == {SERVED}
        return looked_at


def _back_again() -> str:
    """Past a directory's end, then with a fresh one: the same connection is served again."""
    world = make_world()
    with listening(world) as port, port.peer() as channel:
        stub: Any = exchange_pb2_grpc.ExchangeServiceStub(channel)
        stub.Hello(HELLO, timeout=SECONDS)
        _directory_ended(world)
        assert outcome(lambda: stub.Hello(HELLO, timeout=SECONDS)) != SERVED
        world.revise(expires=world.now + timedelta(days=14))
        return outcome(lambda: stub.Hello(HELLO, timeout=SECONDS))


# --- people at the operator port ------------------------------------------------------------------


@dataclass
class _Office:
    world: World
    port: Listening
    revoked: set[int]
    cas: list[tuple[bytes, ...]]

    def put(self, **changes: Any) -> None:
        known = self.world.operators["ana"]
        self.world.operators["ana"] = replace(known, **changes)


def _office(work: Callable[[_Office, Any], str]) -> str:
    world = make_world()
    revoked: set[int] = set()
    cas: list[tuple[bytes, ...]] = [(world.agencies[OWN].operator_ca.der,)]
    identifier = OperatorIdentifier(
        OWN,
        FEDERATION,
        lambda: cas[0],
        world.operators.get,
        clock=world.clock,
        is_revoked=lambda _agency, serial: serial in revoked,
    )
    with (
        listening(world, Listener.OPERATOR, identifier=identifier) as port,
        port.person() as channel,
    ):
        return work(_Office(world, port, revoked, cas), OperatorServiceStub(channel))


def _person(change: Callable[[_Office], None]) -> str:
    def work(office: _Office, stub: Any) -> str:
        request = operator_pb2.GetStatsRequest()
        stub.GetStats(request, timeout=SECONDS)
        change(office)
        return outcome(lambda: stub.GetStats(request, timeout=SECONDS))

    return _office(work)


def _importing(change: Callable[[_Office], None]) -> str:
    """An import under way; people are looked up again every second, here at each message."""

    def work(office: _Office, stub: Any) -> str:
        messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        call = stub.Import(iter(messages.get, None), timeout=SECONDS)
        messages.put(operator_pb2.ImportRequest())
        next(call)
        change(office)
        messages.put(operator_pb2.ImportRequest())
        try:
            return outcome(lambda: next(call))
        finally:
            messages.put(None)

    with mock.patch.object(limits, "RECHECK_SECONDS", 0.0):
        return _office(work)


def _revoke_person(office: _Office) -> None:
    office.put(revoked=office.world.now, serials=())


def _replace_person(office: _Office) -> None:
    office.put(serials=(4711,))


def _take_role(office: _Office) -> None:
    office.put(roles=("auditor",))


def _take_all_roles(office: _Office) -> None:
    office.put(roles=())


def _forget_person(office: _Office) -> None:
    del office.world.operators["ana"]


def _revoke_person_serial(office: _Office) -> None:
    office.revoked.update(office.world.operators["ana"].serials)


def _roll_operator_ca(office: _Office) -> None:
    """The next one is trusted beside it (trust/operator_cas.py)."""
    office.cas[0] = (*office.cas[0], Agency(OWN, office.world.now).operator_ca.der)


def _end_rolled_operator_ca(office: _Office) -> None:
    """Both were trusted; the one of this person's certificate ends."""
    _roll_operator_ca(office)
    office.cas[0] = office.cas[0][1:]


def _replace_operator_ca(office: _Office) -> None:
    office.cas[0] = (Agency(OWN, office.world.now).operator_ca.der,)


def _end_person_certificate(office: _Office) -> None:
    office.world.now += timedelta(days=366)


# --- servers, as the node's own client meets them -------------------------------------------------


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
        _member(self.world, ICE, signing_keys=(signing,))
        self.sealer = Sealer(FEDERATION, ICE, key)
        self.leaf = tls.to_der(self.agency.identity.leaf_pem)
        self.impostor = Impostor(self._hello, lambda _method, _sent: [b""])
        address = held.enter_context(
            serving(
                self.impostor,
                "127.0.0.1:0",
                self.agency.identity,
                [self.world.agencies[OWN].node_ca.der],
            )
        )
        self.client = held.enter_context(
            closing(
                PeerClient(
                    own_agency=OWN,
                    agency=ICE,
                    endpoints=[address],
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


def _asking(change: Callable[[Server], None]) -> str:
    """A question under way: its later batches stay here."""
    with ExitStack() as held:
        server = Server(held)
        sent: queue.SimpleQueue[None] = queue.SimpleQueue()
        batch = mock.Mock(spec=DigestBatch)
        batch.message = b"\x12\x00"
        late = mock.Mock(spec=DigestBatch)
        late.message = b"what must not leave"

        def batches() -> Iterator[Any]:
            yield batch
            while not any(message == batch.message for _, message in server.impostor.seen):
                pass
            change(server)
            yield late

        header = envelope_pb2.Envelope(payload_type="t")
        told = _told(lambda: list(server.client.overlap(header, batches(), SECONDS)))
        sent.put(None)
        leaked = any(message == late.message for _, message in server.impostor.seen)
        assert leaked == (told == SERVED)
        return told


def _on_world(change: Callable[[World], None]) -> Callable[[Server], None]:
    return lambda server: change(server.world)


def _signing_key_withdrawn(server: Server) -> None:
    _member(server.world, ICE, signing_keys=())


def _renewed(server: Server) -> None:
    server.renewed()
    server.world.revise()


REVOKED = "UNAUTHENTICATED/UNTRUSTED/CERTIFICATE_REVOKED"
NO_MEMBER = "UNAUTHENTICATED/UNTRUSTED/CERTIFICATE_AGENCY"
ISSUER = "UNAUTHENTICATED/UNTRUSTED/CERTIFICATE_ISSUER"
ENDED = "UNAUTHENTICATED/UNTRUSTED/CERTIFICATE_EXPIRED"
EARLY = "UNAUTHENTICATED/UNTRUSTED/CERTIFICATE_AUTHORITY"
STALE = "FAILED_PRECONDITION/DIRECTORY_EXPIRED"

_CALLER = "node that calls"
_PERSON = "person"
_SERVER = "server"
_RELAYED = "node that only calls out"


def cases() -> list[Case]:
    """All of them, in the order of the table."""
    made: list[Case] = []

    def add(side: str, name: str, run: Callable[[], str], expected: str) -> None:
        made.append(Case(side, name, run, expected))

    changes: list[tuple[str, Callable[[World], None], str]] = [
        ("nothing changes", _nothing, SERVED),
        ("the authority revokes its serial number", _serial_revoked, REVOKED),
        ("its own agency revokes the serial number", _serial_revoked_by_itself, REVOKED),
        ("its agency is revoked", _agency_revoked, NO_MEMBER),
        ("its agency is no member any more", _agency_removed, NO_MEMBER),
        ("its CA is replaced", _ca_replaced, ISSUER),
        ("its CA is removed", _ca_removed, NO_MEMBER),
        ("its CA rolls over, both are listed", _ca_rolled_over, SERVED),
        ("its leaf ends", _leaf_ended, ENDED),
        ("its CA ends, its leaf does not", _ca_ended, EARLY),
        ("its role changes", _role_changed, SERVED),
        ("the clock goes back before its leaf and CA", _clock_far_back, EARLY),
        ("the directory ends", _directory_ended, STALE),
        ("another member's leaf is revoked", _other_member_revoked, SERVED),
    ]
    for name, change, expected in changes:
        add(_CALLER, f"next call: {name}", partial(_unary, change), expected)
    for name, change, expected in changes:
        if change not in (_clock_far_back, _ca_removed, _serial_revoked_by_itself):
            add(_CALLER, f"stream begun before: {name}", partial(_streamed, change), expected)
    for name, change, expected in changes:
        if change in (_nothing, _serial_revoked, _agency_revoked, _directory_ended, _ca_ended):
            run = partial(_answered, change)
            add(_CALLER, f"standing answer: {name}", run, expected)
            add(_CALLER, f"resumed session: {name}", partial(_resumed, change), expected)
    add(
        _CALLER,
        "two connections: its serial number",
        lambda: _second_connection(_serial_revoked),
        REVOKED,
    )
    add(_CALLER, "next call: the directory ends, then a fresh one comes", _back_again, SERVED)

    for of, name, expected in (
        ("", "with a leaf of its own is connected too", SERVED),
        ("twin", "is revoked by its serial number", REVOKED),
        ("first", "goes on, the first one's serial number is revoked", REVOKED),
    ):
        add(_CALLER, f"next call: a twin {name}", partial(_twin, of), expected)
    for name, run, expected in relay_rows():
        add(_RELAYED, name, run, expected)

    people: list[tuple[str, Callable[[_Office], None], str]] = [
        ("access is revoked", _revoke_person, REVOKED),
        ("a newer certificate is given", _replace_person, REVOKED),
        ("the node forgets the person", _forget_person, REVOKED),
        ("the directory revokes the serial number", _revoke_person_serial, REVOKED),
        ("the operator CA is replaced", _replace_operator_ca, ISSUER),
        ("the operator CA rolls over, both are trusted", _roll_operator_ca, SERVED),
        ("the operator CA ends after a rollover", _end_rolled_operator_ca, ISSUER),
        ("the certificate ends", _end_person_certificate, ENDED),
        ("every role is taken away", _take_all_roles, "PERMISSION_DENIED/ROLE_REFUSED"),
    ]
    for name, alter, expected in people:
        add(_PERSON, f"next call: {name}", partial(_person, alter), expected)
        add(_PERSON, f"import under way: {name}", partial(_importing, alter), expected)
    refused = "PERMISSION_DENIED/ROLE_REFUSED"
    add(
        _PERSON, "import under way: the role is taken away", lambda: _importing(_take_role), refused
    )

    servers: list[tuple[str, Callable[[Server], None], str]] = [
        ("nothing changes", _on_world(_nothing), SERVED),
        ("its serial number is revoked", _on_world(_serial_revoked), "CERTIFICATE_REVOKED"),
        ("its agency is revoked", _on_world(_agency_revoked), "SIGNATURE_REFUSED"),
        ("its CA is replaced", _on_world(_ca_replaced), "CERTIFICATE_ISSUER"),
        ("its CA rolls over, both are listed", _on_world(_ca_rolled_over), SERVED),
        ("its CA ends, its leaf does not", _on_world(_ca_ended), "CERTIFICATE_AUTHORITY"),
        ("its role changes", _on_world(_role_changed), SERVED),
        ("its leaf ends", _on_world(_leaf_ended), "CERTIFICATE_EXPIRED"),
        ("its leaf is renewed", _renewed, SERVED),
        ("its signing key is withdrawn", _signing_key_withdrawn, "SIGNATURE_REFUSED"),
        ("the directory ends", _on_world(_directory_ended), "DIRECTORY_EXPIRED"),
    ]
    for name, alter_server, expected in servers:
        add(_SERVER, f"next call: {name}", partial(_server, alter_server), expected)
    under_way = {"its agency is revoked": "CERTIFICATE_AGENCY", "its signing key is withdrawn": ""}
    for name, alter_server, expected in servers:
        meets = under_way.get(name, expected)
        if meets and name != "its leaf is renewed":
            add(_SERVER, f"question under way: {name}", partial(_asking, alter_server), meets)
    return made
