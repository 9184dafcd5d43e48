"""The directory over the wire, at real nodes: no folder is copied after the join.

The hub holds the online keys. What it publishes reaches everybody within seconds, with the hub
down one member tells the next, and whoever is revoked is cut off in the middle of a call.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from tieline_client import keys
from tieline_client.directory import Directory
from tieline_client.errors import TielineError
from tieline_client.profile import Profile, utc_now
from tieline_client.tls import Identity
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.peer_pool import PeerPool

from tests.e2e.federation import WHY, Federation, Node, tieline, wait_for
from tests.e2e.silence import silent_questions

MEMBERS = (
    ("europol-ec3", "hub"),
    ("pt-pj", "national", "PT"),
    ("es-gc", "national", "ES"),
)


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Three nodes; each joined from a folder that is gone by the time it starts."""
    made = Federation(tmp_path_factory.mktemp("directory")).found()
    for agency, role, *countries in MEMBERS:
        made.init(agency, role, *countries)
    shutil.copytree(made.authority / "public", made.root / "old")
    for node in made:
        handed = shutil.copytree(made.authority / "public", made.root / f"for-{node.agency}")
        tieline("node", "join", node.home, "--federation", handed).ok()
        shutil.rmtree(handed)
    made.change("publish", "--home", made["europol-ec3"].home)
    try:
        yield made.start()
    finally:
        made.close()


def publish(made: Federation, *change: object) -> None:
    """Change what the authority states, and hand it to the hub, which is told to look."""
    hub = made["europol-ec3"]
    made.change(*change)
    made.change("publish", "--home", hub.home)
    hub.hurry()


def status(node: Node) -> Any:
    """What `tieline node status` says."""
    return tieline("node", "status", node.home, "--json").ok().json


def directory(node: Node) -> Directory:
    """The node's own copy, read beside it."""
    return DirectoryStore(node.home).current()


def leaf_serial(node: Node) -> int:
    """Serial of the leaf that the node uses."""
    pem = (node.home / "certs" / "node.pem").read_bytes()
    return x509.load_pem_x509_certificate(pem).serial_number


def test_what_is_published_to_the_hub_reaches_everybody(joined: Federation) -> None:
    publish(joined, "purpose", "training", "A rehearsal")
    joined.wait_directory()
    told = status(joined["pt-pj"])
    assert told["directory"]["source"] == "europol-ec3"
    assert told["directory"]["online"] is False
    assert status(joined["europol-ec3"])["directory"]["online"] is True
    assert {part["role"] for part in told["directory"]["parts"]} == {
        "root", "targets", "snapshot", "timestamp",
    }  # fmt: skip


def test_an_agency_revokes_a_certificate_of_its_own_and_all_hear_of_it(joined: Federation) -> None:
    before = joined.directory_version()
    told = tieline("node", "revoke", joined["pt-pj"].home, "5f3a", "--json").ok().json
    assert told["waits"] is None and told["version"] > before
    own = leaf_serial(joined["pt-pj"])
    assert tieline("node", "revoke", joined["pt-pj"].home, f"{own:x}").code == 3

    def heard() -> bool:
        return all(directory(node).is_revoked("pt-pj", 0x5F3A) for node in joined)

    wait_for("every node holds the revoked serial", heard)


def person(node: Node, name: str) -> Path:
    """Add a person of a node who runs; return their profile."""
    out = node.home.with_name(f"{name}.json")
    node.run("operator", "add", name, "--role", "analyst", "--out", out).ok()
    return out


def may_work(profile: Path) -> bool:
    """Whether the node answers to a profile."""
    return tieline("hashes", "stats", "--profile", profile).code == 0


def test_keys_roll_over_with_an_overlap_and_what_was_queued_arrives(joined: Federation) -> None:
    es, pt, hub = joined["es-gc"], joined["pt-pj"], joined["europol-ec3"]
    ana, rui = person(es, "ana"), person(es, "rui")
    pt.stop()
    file = joined.root / "one.txt"
    file.write_text("ab" * 20 + "\n")
    es.import_file(file, "--series", "Azul")
    es.run("series", "refer", "Azul", "--agency", "pt-pj", *WHY).ok()
    begun = tieline("node", "rekey", es.home, "--ca", "--signing", "--json").ok().json
    assert begun["under_way"] == ["ca", "signing"] and begun["waits"] is None
    assert directory(es).version >= begun["version"]
    wait_for("the hub has both CAs", lambda: len(directory(hub).member("es-gc").node_cas) == 2)
    # People refresh their profiles meanwhile; new ones know both CAs from the start.
    shown = tieline("operator", "refresh", ana, "--json").ok().json
    assert (shown["changed"], shown["node_cas"]) == (["node_ca"], 2)
    eva = person(es, "lia")
    # Too early for a node that runs: it is asked to stop first.
    assert tieline("node", "rekey", es.home, "--finish").code == 1
    old_ca = (es.home / "certs" / "node-ca.pem").read_bytes()
    es.stop()
    done = tieline("node", "rekey", es.home, "--finish", "--json").ok().json
    # So soon after the first the hub may put it off: then the node hands it in once it runs.
    assert done["under_way"] == [] and "come again" in (done["waits"] or "come again")
    assert (es.home / "certs" / "node-ca.pem").read_bytes() != old_ca
    # pt-pj was away for all of it and knows the old CA alone: it asks the hub.
    joined.start("es-gc", "pt-pj")
    # Signed with the key of before; it verifies all the same.
    (entry,) = wait_for("the referral arrives", pt.inbox)
    assert entry["referral"]["sender"] == "es-gc"
    member = wait_for(
        "pt-pj has the new CA alone",
        lambda: one if len((one := directory(pt).member("es-gc")).node_cas) == 1 else None,
    )
    assert len(member.signing_keys) == 2 and member.signing_keys[0].not_after is not None
    for asker, asked in ((pt, "es-gc"), (es, "pt-pj")):
        assert asker.ask(file, "--peer", asked).code == 0
    # Who refreshed works on, who did not needs a new profile.
    assert may_work(ana) and may_work(eva) and not may_work(rui)
    assert tieline("operator", "refresh", rui).code != 0
    shown = tieline("operator", "refresh", ana, "--json").ok().json
    assert (shown["node_cas"], may_work(ana)) == (1, True)


def _own(profile: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Profile.load(profile).certificate.encode())


def test_people_follow_a_change_of_the_operator_ca(joined: Federation) -> None:
    pt = joined["pt-pj"]
    ana, rui = person(pt, "zita"), person(pt, "nuno")
    old_admin = joined.root / "of-before.json"
    old_admin.write_bytes(pt.profile.read_bytes())
    old_admin.chmod(0o600)
    old_zita = joined.root / "zita-of-before.json"
    old_zita.write_bytes(ana.read_bytes())
    old_zita.chmod(0o600)
    first = _own(ana).issuer
    begun = tieline("node", "rekey", pt.home, "--operator-ca", "--json").ok().json
    assert begun["under_way"] == ["operator-ca"]
    pt.hurry()
    behind = wait_for(
        "the running node has taken up the next CA",
        lambda: [one for one in status(pt)["warnings"] if "operator CA is being replaced" in one],
    )
    assert "zita" in behind[0] and "nuno" in behind[0]
    # Old profiles go on; who refreshes gets a certificate of the next CA, and so does who is new.
    assert may_work(ana) and may_work(rui)
    shown = tieline("operator", "refresh", ana, "--json").ok().json
    assert shown["changed"] == ["certificate"] and _own(ana).issuer != first
    assert tieline("operator", "refresh", ana, "--json").ok().json["changed"] == []
    eva = person(pt, "iris")
    assert _own(eva).issuer == _own(ana).issuer
    assert may_work(ana) and may_work(eva) and may_work(rui)
    # Of a profile that never arrived the old one is still there, and is asked with again.
    assert may_work(old_zita)
    pt.stop()
    refused = tieline("node", "rekey", pt.home, "--finish")
    assert refused.code == 1 and "nuno would be locked out" in refused.err
    done = tieline("node", "rekey", pt.home, "--finish", "--leave-behind", "--json").ok().json
    assert done["under_way"] == []
    pt.start()
    assert may_work(ana) and may_work(eva) and may_work(pt.profile)
    # Under the old CA nobody comes in: not who stayed behind, nor the old files of who did not.
    for profile in (rui, old_zita, old_admin):
        assert not may_work(profile)
        assert tieline("operator", "refresh", profile).code != 0
    pt.run(
        "operator", "add", "nuno", "--role", "analyst", "--out", joined.root / "nuno-anew.json"
    ).ok()
    assert may_work(joined.root / "nuno-anew.json")


def test_with_the_hub_down_members_tell_one_another(joined: Federation) -> None:
    pt, es, hub = joined["pt-pj"], joined["es-gc"], joined["europol-ec3"]
    hub.stop()
    file = joined.root / "directory.json"
    tieline("node", "directory", "export", pt.home, file).ok()
    joined.change("purpose", "hub-lost", "The hub is lost")
    joined.change("publish", "--after", file)
    brought = tieline(
        "node", "directory", "import", pt.home, joined.authority / "public", "--json"
    ).ok().json  # fmt: skip
    assert brought["version"] > brought["before"] and not brought["expired"]
    wait_for("es-gc has it from pt-pj", lambda: "hub-lost" in directory(es).purposes)
    told = status(es)["directory"]
    assert told["source"] == "pt-pj" and told["problem"] is None
    # The hub comes back, hears of it, and signs on from there.
    hub.start()
    wait_for("the hub has it", lambda: "hub-lost" in directory(hub).purposes)
    # An older file, and one that was altered, are refused; nothing changes.
    assert tieline("node", "directory", "import", pt.home, file).code == 3
    broken = joined.root / "broken.json"
    broken.write_text(file.read_text().replace("pt-pj", "xx-xx"))
    assert tieline("node", "directory", "import", es.home, broken).code == 3


def test_a_revoked_member_is_cut_off_in_the_middle_of_a_call(joined: Federation) -> None:
    es = joined["es-gc"]
    store = DirectoryStore(es.home)
    identity = Identity(
        (es.home / "certs" / "node.pem").read_bytes(),
        keys.private_pem(keys.load(es.home / "keys" / "node.key")),
    )
    pool = PeerPool("es-gc", store.current, lambda: identity, utc_now)
    client = pool.client("pt-pj")
    try:
        with silent_questions(client) as ended:
            publish(joined, "revoke", "es-gc")
            wait_for("an open one is cut off", lambda: grpc.StatusCode.CANCELLED in ended)
        assert directory(joined["pt-pj"]).is_revoked("es-gc", 1)
        with pytest.raises(TielineError):
            pool.fresh("pt-pj").hello()
    finally:
        pool.close()
    refused = joined["pt-pj"].ask(joined.root / "one.txt", "--peer", "es-gc")
    assert refused.code != 0


def test_people_of_a_revoked_agency_keep_their_own_node(joined: Federation) -> None:
    es = joined["es-gc"]
    ana = person(es, "teo")
    # Peers refuse it, so it hears of its revocation by file.
    tieline("node", "directory", "import", es.home, joined.authority / "public").ok()
    es.hurry()
    wait_for("es-gc knows", lambda: directory(es).member("es-gc").revoked)
    warned = [one for one in status(es)["warnings"] if one.startswith("es-gc is revoked")]
    assert len(warned) == 1 and f"directory version {directory(es).version}" in warned[0]
    found = tieline("doctor", "--home", es.home, "--json").json["findings"]
    (failed,) = (one for one in found if one["text"].startswith("es-gc is revoked"))
    assert failed["check"] == "directory" and failed["state"] == "failed"
    wait_for("the log says it", lambda: "agency.revoked" in es.log.read_text())
    assert may_work(ana) and may_work(person(es, "leo"))
    assert es.run("audit", "search").code == 0
    asked = es.ask(joined.root / "one.txt", "--peer", "pt-pj")
    assert asked.code == 3 and "es-gc is revoked" in asked.out + asked.err
    # It serves on after a restart, and a join says why there is nothing to join.
    es.stop()
    again = tieline("node", "join", es.home, "--federation", joined.authority / "public")
    assert again.code == 3 and "es-gc is revoked" in again.err
    es.start()
    assert may_work(ana)


def test_who_joins_later_gets_the_rest_from_a_member(joined: Federation) -> None:
    hub, pt = joined["europol-ec3"], joined["pt-pj"]
    fr = joined.init("fr-pn", "national", "FR")
    # The folder is of before its admission, and so is what the hub has.
    words = ("node", "join", fr.home, "--federation", joined.root / "old")
    assert tieline(*words).code == 1
    assert tieline(*words, "--hub", hub.address).code == 4
    publish(joined, "purpose", "fourth", "Somebody joins")
    joined.wait_directory("europol-ec3", "pt-pj")
    assert tieline(*words, "--hub", "no address").code == 2
    assert tieline(*words, "--hub", fr.address).code == 4  # nobody listens there
    assert not (fr.home / "certs" / "node.pem").exists()
    # The hub, or any member.
    for member in (hub, pt):
        before = directory(member).version
        done = tieline(*words, "--hub", member.address, "--json").ok().json
        # The hub may sign anew while somebody joins.
        assert before <= done["version"] <= directory(member).version
    assert (fr.home / "certs" / "node.pem").exists() and fr.profile.exists()
