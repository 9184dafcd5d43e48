"""A real node asks, and what answers is not what it should be: nothing of content leaves it.

es-gc runs. At pt-pj's address an impostor listens that holds pt-pj's TLS key and, unless a case
says otherwise, its signing key; it lies in its Hello. It notes every byte that it is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tieline.v1 import exchange_pb2, payload_pb2
from tieline_client import limits, tls
from tieline_client.identifiers import SpiffeId
from tieline_client.payloads import Audience

from tests.e2e.federation import wait_for
from tests.e2e.hostile_world import (
    NODE,
    OTHER,
    VICTIM,
    HostileFederation,
    hostile_federation,
)
from tests.e2e.rogue import Impostor, Rogue, serving
from tests.trust.forging import DAY, Forger
from tests.trust.handshakes import hostile_identity
from tests.trust.hostile import HANDSHAKE, HostileCase, hostile_cases

SECRET = hashlib.sha1(b"what nobody else may see").hexdigest()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileFederation]:
    with hostile_federation(tmp_path_factory.mktemp("servers")) as made:
        made.node.import_file(_list(made.node.home.parent), "--series", "Azul")
        yield made


def _list(folder: Path) -> Path:
    path = folder / "secret.txt"
    path.write_text(f"sha1:{SECRET}\n")
    return path


def _ask(stage: HostileFederation, *words: str) -> Any:
    result = stage.node.ask(_list(stage.federation.root), "--peer", VICTIM, *words)
    (peer,) = result.json["peers"]
    assert result.code == {"answered": 0, "refused": 3, "unreachable": 4}[peer["status"]]
    assert "\n" not in peer["reason"]
    return peer


@pytest.fixture(scope="module")
def impostor(stage: HostileFederation) -> Iterator[Impostor]:
    """pt-pj's place, with pt-pj's own certificate."""
    rogue = stage.rogues[VICTIM]
    made = Impostor(lambda _asked: b"")
    with serving(made, rogue.address, rogue.identity, [stage.rogues[NODE].authority().der]):
        # The node has tried to greet pt-pj before there was anybody. An honest Hello would do for
        # as long as the connection stands, so there is none until the end.
        wait_for("es-gc reaches pt-pj", lambda: _ask(stage)["status"] != "unreachable")
        yield made


def _replayed(stage: HostileFederation) -> Callable[[bytes], bytes]:
    """The honest answer to a Hello of yesterday."""
    earlier = exchange_pb2.HelloRequest(nonce=b"\x07" * 32).SerializeToString()
    answer = stage.rogues[VICTIM].hello(earlier, NODE)
    return lambda _asked: answer


def _sealed(
    rogue: Rogue, asked: bytes, *, to: str = NODE, federation: str = "", step: bool = False
) -> bytes:
    """A proof that is addressed, named or filled otherwise than ``Rogue.hello`` does."""
    nonce = exchange_pb2.HelloRequest.FromString(asked).nonce
    payload = payload_pb2.Payload(
        hello=payload_pb2.HelloProof(
            nonce=nonce,
            caller=str(SpiffeId(rogue.federation, NODE)),
            leaf=tls.to_der(rogue.identity.leaf_pem),
        )
    )
    if step:
        payload = payload_pb2.Payload(
            receipt=payload_pb2.Receipt(request_digest=bytes(32), answer_digest=bytes(32))
        )
    before = rogue.sealer.federation
    rogue.sealer.federation = federation or before
    try:
        proof = rogue.sealer.seal(
            payload, Audience(agency=to), datetime.now(UTC), limits.QUERY_LIFE
        )
    finally:
        rogue.sealer.federation = before
    return exchange_pb2.HelloResponse(proof=proof).SerializeToString()


def _lies(stage: HostileFederation) -> dict[str, tuple[Callable[[bytes], bytes], str]]:
    """Each lie with words of the reason that the person who asked must be told."""
    me, other, world = stage.rogues[VICTIM], stage.rogues[OTHER], stage.world
    node = Forger(world, world.victim.certificate, world.victim.key)

    def leaf(**changes: Any) -> bytes:
        return tls.to_der(node.leaf(VICTIM, **changes).pem)

    expired = leaf(start=-9 * DAY, end=-2 * DAY)
    revoked = leaf(serial=world.revoked_serial)
    others = tls.to_der(other.identity.leaf_pem)
    elsewhere = str(SpiffeId("elsewhere", NODE))
    return {
        "a wrong nonce": (lambda a: me.hello(a, NODE, nonce=bytes(32)), "somebody else's Hello"),
        "an earlier answer": (_replayed(stage), "somebody else's Hello"),
        "another caller": (
            lambda a: me.hello(a, NODE, caller=str(SpiffeId(me.federation, OTHER))),
            "somebody else's Hello",
        ),
        "a caller elsewhere": (
            lambda a: me.hello(a, NODE, caller=elsewhere),
            "somebody else's Hello",
        ),
        "an expired leaf": (lambda a: me.hello(a, NODE, expired), "ended at"),
        "a revoked leaf": (lambda a: me.hello(a, NODE, revoked), "revoked"),
        "another agency's leaf": (lambda a: me.hello(a, NODE, others), VICTIM),
        "no leaf": (lambda a: me.hello(a, NODE, b"\x30\x00"), "certificate does not parse"),
        "another agency's signature": (lambda a: other.hello(a, NODE), f"signed by {OTHER}"),
        "a proof for somebody else": (lambda a: _sealed(me, a, to=OTHER), "somebody else"),
        "another federation's proof": (
            lambda a: _sealed(me, a, federation="elsewhere"),
            "another federation",
        ),
        "something else, signed": (lambda a: _sealed(me, a, step=True), "something else"),
        "an empty answer": (lambda _a: b"", "type"),
        "bytes that are no answer": (lambda _a: b"\xff" * 30, "no such message"),
    }


@pytest.mark.parametrize(
    "lie",
    [
        "a wrong nonce",
        "an earlier answer",
        "another caller",
        "a caller elsewhere",
        "an expired leaf",
        "a revoked leaf",
        "another agency's leaf",
        "no leaf",
        "another agency's signature",
        "a proof for somebody else",
        "another federation's proof",
        "something else, signed",
        "an empty answer",
        "bytes that are no answer",
    ],
)
def test_a_lie_in_the_hello_ends_it(stage: HostileFederation, impostor: Impostor, lie: str) -> None:
    impostor.hello, words = _lies(stage)[lie]
    impostor.seen.clear()
    impostor.hellos.clear()
    peer = _ask(stage)
    assert (peer["status"], peer["overlaps"]) == ("refused", []), peer
    assert words in peer["reason"]
    assert impostor.seen == []
    # A Hello holds a nonce and versions; nothing of what was asked, nor by whom.
    (hello,) = impostor.hellos
    asked = exchange_pb2.HelloRequest.FromString(hello)
    assert len(asked.nonce) == 32
    assert asked.ByteSize() < 64


def test_every_hello_has_a_nonce_of_its_own(stage: HostileFederation, impostor: Impostor) -> None:
    impostor.hello = lambda _asked: b""
    impostor.hellos.clear()
    for _ in range(3):
        _ask(stage)
    nonces = {exchange_pb2.HelloRequest.FromString(one).nonce for one in impostor.hellos}
    assert len(nonces) == 3


def test_no_answer_to_a_hello_is_not_waited_for_long(
    stage: HostileFederation, impostor: Impostor
) -> None:
    impostor.hello = lambda _asked: None
    impostor.seen.clear()
    peer = _ask(stage)
    assert peer["status"] == "unreachable"
    assert impostor.seen == []


def test_a_server_that_knows_no_hello(stage: HostileFederation, impostor: Impostor) -> None:
    def fail(_asked: bytes) -> bytes:
        raise RuntimeError("no such method")

    impostor.hello = fail
    impostor.seen.clear()
    peer = _ask(stage)
    assert peer["status"] in ("refused", "unreachable")
    assert impostor.seen == []


def test_nothing_queued_leaves_for_an_impostor(
    stage: HostileFederation, impostor: Impostor
) -> None:
    """A referral waits as well: neither its envelope nor its items are sent."""
    impostor.hello = lambda asked: stage.rogues[OTHER].hello(asked, NODE)
    impostor.seen.clear()
    impostor.hellos.clear()
    with stage.node.client() as client:
        (series,) = [one.notice.id for one in client.list_series()]
        client.refer_series(
            series, agency=VICTIM, urgency=1, purpose="victim-identification", case_ref="C-1"
        )

        def tried() -> bool:
            outbox = client.list_outbox()
            told = [one.reason for one in outbox.entries]
            told += [one.last_error for one in outbox.destinations]
            return any(f"signed by {OTHER}" in one for one in told)

        wait_for("delivery has tried", tried)
        assert [one.state for one in client.list_outbox().entries] == ["queued"]
    assert impostor.hellos
    assert impostor.seen == []


def test_the_same_server_with_an_honest_hello_is_told(
    stage: HostileFederation, impostor: Impostor
) -> None:
    """The control: it was the lies that kept the question back."""
    impostor.hello = lambda asked: stage.rogues[VICTIM].hello(asked, NODE)
    impostor.seen.clear()
    _ask(stage)
    assert any(bytes.fromhex(SECRET) in message for _, message in impostor.seen)


def _case(stage: HostileFederation, name: str) -> HostileCase:
    (found,) = [one for one in hostile_cases(stage.world) if one.name == name]
    return found


@pytest.mark.parametrize("name", ["no-eku", "two-uris", "revoked", "wrong-ca", "expired"])
def test_a_forged_certificate_in_the_others_place(stage: HostileFederation, name: str) -> None:
    """The whole table is measured in test_e2e_hostile_callers.py; here the running node asks."""
    case, other = _case(stage, name), stage.rogues[OTHER]
    # us-ice's place is free: the same forgery, made for it.
    authority = other.authority()
    forger = Forger(stage.world, authority.certificate, authority.key)
    changes: dict[str, dict[str, Any]] = {
        "no-eku": {"extended": ()},
        "expired": {"start": -9 * DAY, "end": -2 * DAY},
    }
    forged = forger.leaf(OTHER, **changes.get(name, {}))
    identity = tls.Identity(forged.pem, forged.key_pem)
    if name not in changes:
        identity = hostile_identity(case)
    impostor = Impostor(lambda asked: other.hello(asked, NODE, tls.to_der(identity.leaf_pem)))
    with serving(impostor, other.address, identity, [stage.rogues[NODE].authority().der]):
        result = stage.node.ask(_list(stage.federation.root), "--peer", OTHER)
        (peer,) = result.json["peers"]
    assert peer["status"] in ("refused", "unreachable")
    assert peer["overlaps"] == []
    assert impostor.seen == []
    if case.as_server == HANDSHAKE:
        assert impostor.hellos == []


def test_the_node_serves_on(stage: HostileFederation) -> None:
    assert stage.node.running
    assert "Traceback" not in stage.node.log.read_text("utf-8", "replace")
    results = [entry["detail"] for entry in stage.node.audit("--action", "query.result")]
    assert {one["status"] for one in results} >= {"refused", "unreachable"}
    assert stage.node.run("audit", "verify").ok().json["verified"]
