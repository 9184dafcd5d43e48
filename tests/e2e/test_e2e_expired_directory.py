"""A directory past its expiry, at real nodes: all but the directory itself is closed, nothing is
lost, and whoever brings a fresh one, a peer or the hub, mends everything.

The authority's clock alone is moved: it signs directories that end in a moment, or have ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from tieline_client import keys, limits
from tieline_client.profile import utc_now
from tieline_client.status import from_rpc_error
from tieline_client.tls import Identity
from tieline_server import federation_cli
from tieline_server.rpc.methods import RULES, Listener
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.peer_pool import PeerPool

from tests.e2e.federation import WHY, Federation, Node, tieline, wait_for
from tests.e2e.silence import silent_questions
from tests.faults.world import faked_time

HEALTH = "/grpc.health.v1.Health/Check"
HELLO = "/tieline.v1.ExchangeService/Hello"
FETCH = "/tieline.v1.DirectoryService/FetchFiles"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Two nodes that run, and a hub that has not come up yet."""
    made = Federation(tmp_path_factory.mktemp("over")).found()  # warnings name this path
    made.init("europol-ec3", "hub")
    made.init("pt-pj", "national", "PT")
    made.init("es-gc", "national", "ES")
    made.change("publish", "--home", made["europol-ec3"].home)
    for node in made:
        made.join(node)
        # From now on directories come by hand or from peers.
        (node.home / "directory" / "source").unlink()
    try:
        yield made.start("pt-pj", "es-gc")
    finally:
        made.close()


def publish(made: Federation, monkeypatch: pytest.MonkeyPatch, life: timedelta) -> datetime:
    """Publish what members hold once more, to end after ``life``; return when."""
    held = made.root / "held.json"
    tieline("node", "directory", "export", made["pt-pj"].home, held).ok()
    then = utc_now() + life - limits.DIRECTORY_ONLINE_LIFE
    with monkeypatch.context() as clock:
        clock.setattr(federation_cli, "_now", lambda: then)
        done = made.change("publish", "--after", held, "--json").json
    return datetime.fromisoformat(done["expires"])


def bring(made: Federation, *agencies: str) -> None:
    """Import what is published at these nodes, which run."""
    for agency in agencies:
        node = made[agency]
        tieline("node", "directory", "import", node.home, made.authority / "public").ok()
        node.hurry()


def expired(node: Node) -> bool:
    return DirectoryStore(node.home).current().expires <= datetime.now(UTC)


def warnings(node: Node) -> str:
    """What the node's status warns of."""
    return "\n".join(tieline("node", "status", node.home, "--json").ok().json["warnings"])


class Caller:
    """Calls of pt-pj to es-gc as they come over the wire, whatever pt-pj itself thinks of them."""

    def __init__(self, node: Node) -> None:
        identity = Identity(
            (node.home / "certs" / "node.pem").read_bytes(),
            keys.private_pem(keys.load(node.home / "keys" / "node.key")),
        )
        self._pool = PeerPool(
            node.agency, DirectoryStore(node.home).current, lambda: identity, utc_now
        )
        self.client = self._pool.client("es-gc")

    def close(self) -> None:
        self._pool.close()

    def call(self, method: str, request: bytes = b"") -> Any:
        """Return the first answer to one message, or the reason why there is none."""
        call = self.client._channel.stream_stream(method, None, None)(iter([request]), timeout=60)
        try:
            return next(iter(call), b"")
        except grpc.RpcError as error:
            return from_rpc_error(error).reason


@pytest.fixture
def caller(made: Federation) -> Iterator[Caller]:
    one = Caller(made["pt-pj"])
    try:
        yield one
    finally:
        one.close()


def test_past_its_expiry_all_is_closed_but_the_directory(
    made: Federation, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    pt, es = made["pt-pj"], made["es-gc"]
    file = made.root / "one.txt"
    file.write_text("ab" * 20 + "\n")
    assert pt.import_file(file, "--series", "Azul")["items_new"] == 1
    with silent_questions(caller.client) as ended:
        publish(made, monkeypatch, timedelta(seconds=2))
        bring(made, "pt-pj", "es-gc")
        wait_for("an open one is cut off", lambda: grpc.StatusCode.CANCELLED in ended)
    assert expired(es) and expired(pt)
    # Every call of a peer is refused with the reason, whatever it holds.
    served = {
        method: rule for method, rule in RULES.items() if Listener.FEDERATION in rule.listeners
    }
    open_still = {method for method, rule in served.items() if rule.past_expiry}
    assert open_still == {HEALTH, FETCH, "/tieline.v1.DirectoryService/SubmitOwn"}
    for method in served.keys() - open_still:
        assert caller.call(method) == "DIRECTORY_EXPIRED", method
    answer = health_pb2.HealthCheckResponse.FromString(caller.call(HEALTH))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    (timestamp,) = caller.client.directory_files().fetch(["metadata/timestamp.json"]).values()
    assert timestamp == DirectoryStore(es.home).copy().timestamp
    # People work on, and are told.
    assert "expired" in warnings(pt)
    asked = pt.ask(file, "--peer", "es-gc")
    (peer,) = asked.json["peers"]
    assert (asked.code, peer["status"]) == (4, "unreachable")
    assert "expired" in peer["reason"]
    pt.run("series", "refer", "Azul", "--agency", "es-gc", *WHY).ok()
    assert [one["state"] for one in pt.run("outbox").ok().json["entries"]] == ["queued"]
    assert es.inbox() == []


def test_a_fresh_one_at_a_peer_ends_it_with_the_hub_down(
    made: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    pt, es = made["pt-pj"], made["es-gc"]
    publish(made, monkeypatch, limits.DIRECTORY_ONLINE_LIFE)
    bring(made, "pt-pj")
    # es-gc is told nothing: it finds it at pt-pj, and what waited arrives.
    (entry,) = wait_for("the referral arrives", es.inbox)
    assert entry["referral"]["sender"] == "pt-pj"
    assert not expired(es)
    assert pt.ask(made.root / "one.txt", "--peer", "es-gc").code == 0


def test_the_hub_comes_back_and_signs_a_fresh_one_by_itself(
    made: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    pt, es, hub = made["pt-pj"], made["es-gc"], made["europol-ec3"]
    # Nobody has a directory that counts: this one ended an hour ago.
    publish(made, monkeypatch, -timedelta(hours=1))
    bring(made, "pt-pj", "es-gc")
    assert expired(pt) and expired(es)
    es.run("series", "create", "Verde").ok()
    es.run("series", "refer", "Verde", "--agency", "pt-pj", *WHY).ok()
    es.stop()
    hub.launch()
    es.launch()  # it starts past the expiry, too
    for node in (hub, es):
        node.wait_ready()
    wait_for("pt-pj has a fresh one", lambda: not expired(pt))
    (entry,) = wait_for("the other referral arrives", pt.inbox)
    assert entry["referral"]["sender"] == "es-gc"
    confirmed = tieline("node", "status", pt.home, "--json").ok().json["directory"]
    assert confirmed["source"] in {"europol-ec3", "es-gc"}
    wait_for("no warning of it is left", lambda: "expired" not in warnings(pt))
    assert len(es.inbox()) == 1  # nothing came twice


def test_a_node_that_was_away_for_a_month_is_mended_by_itself(made: Federation) -> None:
    """Its leaf, its directory, and the leaves it knew ended weeks ago; the others went on."""
    pt, es, hub = made["pt-pj"], made["es-gc"], made["europol-ec3"]
    pt.run("series", "create", "Preto").ok()
    es.stop()
    (told,) = pt.run("series", "refer", "Preto", "--agency", "es-gc", *WHY).ok().json["referrals"]
    old_leaf = (es.home / "certs" / "node.pem").read_bytes()
    later = faked_time("+31d")
    then = datetime.now(UTC) + timedelta(days=31)
    for node in (pt, hub):
        node.stop()
        node.launch(**later)
    for node in (pt, hub):
        node.wait_ready()
    wait_for("the others go on", lambda: DirectoryStore(pt.home).current().expires > then)
    assert DirectoryStore(es.home).current().expires < then
    es.start(**later)
    # People's clients are a month behind here, so what it has is read beside it.
    wait_for("it has a fresh one", lambda: DirectoryStore(es.home).current().expires > then)
    wait_for(
        "what waited for it arrives",
        lambda: es.rows("SELECT 1 FROM referrals WHERE id = ?", told["id"]),
    )
    assert (es.home / "certs" / "node.pem").read_bytes() != old_leaf
    assert "Traceback" not in es.log.read_text("utf-8", "replace")
