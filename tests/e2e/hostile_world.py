"""A real federation for certificates that cheat: one node that serves on, and forged leaves.

``es-gc`` runs; callers meet its two listeners. The leaves claim to be ``pt-pj``, whose home has
joined but whose node does not run, so that an impostor can take its place. ``us-ice`` is another
member, ``fr-ofmin`` one whose CA comes from an existing PKI and has no path length. pt-pj pins a
second CA, which has expired since: the authority's own check at admission is told the day on which
it had not.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
from tieline.v1 import delivery_pb2, exchange_pb2
from tieline_client import keys, tls
from tieline_client.certificates import Kind, LeafCache
from tieline_client.directory import Contact, Role, SigningKey
from tieline_client.errors import TielineError, TrustError, UnknownAgency, Unreachable
from tieline_client.payloads import Sealer
from tieline_client.peer_client import PeerClient
from tieline_client.profile import utc_now
from tieline_server.config import Home
from tieline_server.trust import federation_edits, offered_ca, request
from tieline_server.trust.statements import AgencyStatement, OwnStatement

from tests.e2e.federation import Federation, Node, free_port, tieline
from tests.e2e.rogue import HELLO, SECONDS, Impostor, Rogue, infos, serving
from tests.trust.forging import World, make_world
from tests.trust.handshakes import ACCEPTED, hostile_identity
from tests.trust.hostile import HANDSHAKE, HostileCase

NODE, VICTIM, OTHER, EXISTING_PKI = "es-gc", "pt-pj", "us-ice", "fr-ofmin"


@dataclass
class HostileFederation:
    """The federation, the forger's world around its CAs, and the keys of those who do not run."""

    federation: Federation
    world: World
    rogues: dict[str, Rogue]

    @property
    def node(self) -> Node:
        """The node that runs."""
        return self.federation[NODE]


@contextmanager
def hostile_federation(root: Path) -> Iterator[HostileFederation]:
    """Make and start it."""
    made = Federation(root).found()
    name = made.name
    made.init(NODE, "national", "ES")
    made.init(OTHER, "national", "US")
    spare = make_world(name)
    assert spare.stale is not None and spare.unbounded is not None
    _admit_victim(made, spare.stale.der)
    foreign_key = _admit_existing_pki(made, spare.unbounded.der)
    made.change("agreement", OTHER, "--basis", "trial agreement")
    made.change("revoke", VICTIM, "--serial", f"{spare.revoked_serial:x}")
    for node in made:
        made.join(node)
    rogues = {agency: Rogue(made[agency], name) for agency in (NODE, VICTIM, OTHER)}
    # It has no home, so it speaks through another's, under its own key.
    rogues[EXISTING_PKI] = foreign = copy.copy(rogues[VICTIM])
    foreign.sealer = Sealer(name, EXISTING_PKI, foreign_key)
    world = World(
        federation=name,
        now=datetime.now(UTC).replace(microsecond=0),
        victim=rogues[VICTIM].authority(),
        victim_operators=rogues[VICTIM].authority(Kind.OPERATOR),
        other=rogues[OTHER].authority(),
        unbounded=spare.unbounded,
        pki=spare.pki,
        stale=spare.stale,
    )
    try:
        made.start(NODE)
        yield HostileFederation(made, world, rogues)
    finally:
        made.close()


def _admit_victim(made: Federation, stale: bytes) -> None:
    """Admit pt-pj with a second, expired CA in its request."""
    node = made.nodes[VICTIM] = Node(made.root / VICTIM, VICTIM, free_port(), free_port())
    tieline(
        *("node", "init", node.home, "--agency", VICTIM, "--name", "Unit", "--role", "national"),
        *("--country", "PT", "--listen", node.address),
        *("--operator-listen", node.operator_address),
    ).ok()
    home = Home(node.home)
    asked = request.verify(home.request_file.read_bytes(), utc_now())
    both = asked.statement.model_copy(update={"node_cas": (*asked.statement.node_cas, stale)})
    directory_key = keys.load(home.keys / "directory.key")
    again = request.build(asked.claims, both, directory_key, utc_now() + timedelta(seconds=1))
    home.request_file.write_bytes(again.to_json())
    honest = offered_ca.check_offered_authority

    def as_it_was(der: bytes, **options: Any) -> offered_ca.OfferedAuthority:
        if der == stale:
            options["now"] = utc_now() - timedelta(days=3999)
        return honest(der, **options)

    with mock.patch.object(federation_edits, "check_offered_authority", as_it_was):
        made.change(
            *("admit", home.request_file, "--role", "national", "--country", "PT"),
            *("--fingerprint", again.fingerprint),
        )


def _admit_existing_pki(made: Federation, ca: bytes) -> keys.PrivateKey:
    """Admit fr-ofmin, which has no home here: its CA is its country's. Return its signing key."""
    operators = make_world(made.name).victim_operators
    signing, directory_key = keys.generate(), keys.generate()
    public = keys.public_der(signing)
    now = utc_now().replace(microsecond=0)
    asked = request.build(
        AgencyStatement(agency=EXISTING_PKI, name="Unit", role=Role.NATIONAL, countries=("FR",)),
        OwnStatement(
            agency=EXISTING_PKI,
            endpoints=(f"127.0.0.1:{free_port()}",),
            node_cas=(ca,),
            operator_cas=(operators.der,),
            signing_keys=(
                SigningKey(
                    keyid=keys.keyid(public),
                    public=base64.b64encode(public).decode(),
                    not_before=now,
                ),
            ),
            contact=Contact(),
        ),
        directory_key,
        now,
    )
    file = made.root / "existing-pki.json"
    file.write_bytes(asked.to_json())
    made.change(
        *("admit", file, "--role", "national", "--country", "FR"),
        *("--fingerprint", asked.fingerprint),
    )
    return signing


def outcome_of(call: Any) -> str:
    """ACCEPTED, HANDSHAKE, or the check that the one ErrorInfo of UNAUTHENTICATED names."""
    try:
        call()
    except grpc.RpcError as error:
        failed: Any = error
        if failed.code() is grpc.StatusCode.UNAVAILABLE:
            assert infos(failed) == []
            return HANDSHAKE
        assert failed.code() is grpc.StatusCode.UNAUTHENTICATED, failed
        (info,) = infos(failed)
        assert (info.domain, info.reason) == ("tieline", "UNTRUSTED")
        return str(info.metadata["check"])
    return ACCEPTED


def as_caller(stage: HostileFederation, identity: tls.Identity) -> str:
    """Call the running node's federation port with a forged leaf."""
    hello = exchange_pb2.HelloRequest(nonce=bytes(32)).SerializeToString()
    with stage.rogues[VICTIM].channel(stage.node, identity) as channel:
        call = channel.unary_unary(HELLO, None, None)
        return outcome_of(lambda: call(hello, timeout=SECONDS))


def as_server(stage: HostileFederation, case: HostileCase) -> str:
    """Let the node's client meet a forged leaf; it must send nothing but a Hello.

    The impostor holds the agency's signing key as well, where that agency has a home here.
    """
    node, signer = stage.rogues[NODE], stage.rogues.get(case.agency, stage.rogues[VICTIM])
    leaf = tls.to_der(case.leaf_pem)
    impostor = Impostor(lambda asked: signer.hello(asked, NODE, leaf), lambda *_: [b""])
    with serving(
        impostor, "127.0.0.1:0", hostile_identity(case), [node.authority().der]
    ) as address:
        outcome = _meet(node, case.agency, address)
    if outcome != ACCEPTED:
        assert impostor.seen == [], case.name
        assert len(impostor.hellos) == (0 if outcome in (HANDSHAKE, UnknownAgency.reason) else 1)
    return outcome


def _meet(node: Rogue, agency: str, address: str) -> str:
    """Deliver with the product's own client; return what became of it."""
    try:
        client = PeerClient(
            own_agency=NODE,
            agency=agency,
            endpoints=[address],
            directory=lambda: node.directory,
            identity=node.identity,
            leaves=LeafCache(node.federation),
            clock=utc_now,
        )
        with closing(client):
            client.deliver(delivery_pb2.DeliverRequest(epoch="secret"))
    except Unreachable:
        return HANDSHAKE
    except TrustError as error:
        return error.metadata.get("check", error.reason)
    except TielineError as error:
        return error.reason
    return ACCEPTED
