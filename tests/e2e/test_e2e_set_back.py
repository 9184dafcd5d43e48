"""Homes set back to old images, and two homes with one identity: seen, told, mended, nothing twice.

Real nodes; an image is a copy of a stopped node's home, put back in its place or run beside it.
Each test has a federation of its own. pt-pj and es-gc are the two sides; fr-ofmin looks on and must
not notice.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.federation import Federation, Node, Result, federation, free_port, tieline, wait_for
from tests.e2e.test_e2e_referral import arrived, becomes, entry_of, make_list, make_series, refer

PT, ES, FR = "pt-pj", "es-gc", "fr-ofmin"
_MEMBERS = [(PT, "national", "PT"), (ES, "national", "ES"), (FR, "national", "FR")]
_A_WHILE = 5.0
"""Seconds in which the two would go on calling, and did."""


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Federation]:
    with federation(tmp_path / "trial", _MEMBERS) as made:
        yield made


@contextmanager
def stopped(node: Node) -> Iterator[None]:
    node.stop()
    yield
    node.start()


def image(node: Node, folder: Path) -> Path:
    """Copy a home while its node does not run."""
    assert not node.running
    return Path(shutil.copytree(node.home, folder))


def set_back(node: Node, before: Path) -> None:
    """Put an image in the place of a stopped node's home."""
    assert not node.running
    shutil.rmtree(node.home)
    shutil.copytree(before, node.home)


def resync(node: Node) -> Result:
    return tieline("node", "resync", node.home, "--yes", "--json")


def tell(node: Node, folder: Path, country: str, *words: object) -> str:
    """Refer a new series; return the referral's id."""
    (made,) = refer(node, make_series(node, folder), "--country", country, *words)
    return str(made["id"])


def told(node: Node, other: Node, folder: Path, country: str) -> str:
    """Refer a new series and wait until both sides have it so."""
    referral = tell(node, folder, country)
    arrived(other, referral)
    becomes(node, referral, "delivered")
    return referral


def alarms(node: Node, peer: str) -> set[str]:
    """Alarms about a peer in the audit log."""
    entries = (one for one in node.audit() if one["peer"] == peer)
    return {one["action"] for one in entries if one["action"].startswith("alarm.")}


def warnings(node: Node) -> str:
    return "\n".join(tieline("node", "status", node.home, "--json").ok().json["warnings"])


def standing_of(node: Node, begins: str) -> str:
    """How the doctor finds the one thing about standings that begins so."""
    document = tieline("doctor", "--home", node.home, "--json").json
    of_standing = [one for one in document["findings"] if one["check"] == "standing"]
    (found,) = [one for one in of_standing if one["text"].startswith(begins)]
    assert "tieline node resync" in found["advice"]
    return str(found["state"])


def settled_alike(sender: Node, receiver: Node) -> bool:
    """Whether both databases hold the same messages of ``sender`` in the same places."""
    out = sender.rows(
        "SELECT id, lane, sequence FROM outbox WHERE recipient = ? AND state = 'delivered'",
        receiver.agency,
    )
    came = receiver.rows(
        "SELECT id, lane, sequence FROM inbox WHERE sender = ? AND reply = 1", sender.agency
    )
    places = [(lane, sequence) for _, lane, sequence in came]
    assert len(places) == len(set(places)), "two messages have one place"
    return sorted(out) == sorted(came)


def all_alike(one: Node, other: Node) -> None:
    """Wait until nothing waits either way and both sides agree on every message."""
    for sender, receiver in ((one, other), (other, one)):
        wait_for(
            f"{receiver} has of {sender} what was sent",
            lambda s=sender, r=receiver: (  # type: ignore[misc]
                not s.rows("SELECT 1 FROM outbox WHERE state IN ('queued', 'parked')")
                and settled_alike(s, r)
            ),
        )


def steps(node: Node, referral: str) -> list[tuple[str, str]]:
    """(state, agency) of each step that a node has of a referral."""
    found = node.rows("SELECT state, agency FROM referral_steps WHERE referral = ?", referral)
    return sorted(found)


def test_a_sender_that_was_set_back_is_stopped_and_gets_its_memory_back(
    trial: Federation, tmp_path: Path
) -> None:
    pt, es, fr = trial[PT], trial[ES], trial[FR]
    first = told(pt, es, tmp_path, "ES")
    with stopped(pt):
        before = image(pt, tmp_path / "image")
    forgotten = [told(pt, es, tmp_path, "ES") for _ in range(3)]
    es.run("inbox", "ack", forgotten[0]).ok()
    becomes(pt, forgotten[0], "acknowledged")
    lived = {one: steps(pt, one) for one in forgotten}

    with stopped(pt):
        set_back(pt, before)
    wait_for("es-gc sees it", lambda: "alarm.set_back" in alarms(es, PT))
    wait_for("pt-pj is told", lambda: "alarm.told_set_back" in alarms(pt, ES))
    assert "quarantined" in warnings(es)
    assert f"{ES} says SET BACK of this node" in warnings(pt)
    assert "node resync" in warnings(pt)
    held = tell(pt, tmp_path, "ES")
    assert told(es, fr, tmp_path, "FR")  # others are not touched
    aside = told(fr, es, tmp_path, "ES")
    refused = pt.ask(make_file(tmp_path), "--peer", ES)
    assert refused.json["peers"][0]["status"] == "refused"
    assert entry_of(es, held) is None

    with stopped(pt):
        resync(pt).ok()
    becomes(pt, held, "delivered")
    all_alike(pt, es)
    bystander = told(pt, fr, tmp_path, "FR")
    all_alike(pt, fr)
    assert {one: steps(pt, one) for one in forgotten} == lived
    assert [one["id"] for one in es.inbox()].count(held) == 1
    assert {one["id"] for one in es.inbox()} == {first, *forgotten, held, aside}
    assert entry_of(fr, bystander)
    assert not warnings(es).count("quarantined")
    assert pt.ask(make_file(tmp_path), "--peer", ES).json["peers"][0]["status"] == "answered"


def make_file(folder: Path) -> Path:
    path = folder / "asked.txt"
    path.write_text(f"sha1:{'ab' * 20}\n")
    return path


def test_a_receiver_that_was_set_back_gets_again_what_it_lacks(
    trial: Federation, tmp_path: Path
) -> None:
    pt, es = trial[PT], trial[ES]
    told(pt, es, tmp_path, "ES")
    with stopped(es):
        before = image(es, tmp_path / "image")
    lost = [told(pt, es, tmp_path, "ES") for _ in range(3)]
    es.run("inbox", "ack", lost[0]).ok()
    becomes(pt, lost[0], "acknowledged")
    lived = {one: (steps(pt, one), steps(es, one)) for one in lost}

    with stopped(es):
        set_back(es, before)
    wait_for("pt-pj sees it", lambda: "alarm.set_back" in alarms(pt, ES))
    wait_for("es-gc is told", lambda: "alarm.told_set_back" in alarms(es, PT))
    held = tell(pt, tmp_path, "ES")
    assert standing_of(pt, f"{ES}: quarantined since") == "failed"
    assert standing_of(es, f"{PT} says SET BACK of this node") == "failed"

    with stopped(es):
        resync(es).ok()
    becomes(pt, held, "delivered")
    all_alike(pt, es)
    wait_for(
        "every step is back",
        lambda: {one: (steps(pt, one), steps(es, one)) for one in lost} == lived,
    )
    assert len(es.inbox()) == 5
    assert {one["id"] for one in es.inbox()} >= {*lost, held}


def twin_of(node: Node, before: Path) -> Node:
    """The node of an image, on ports of its own, under the same identity."""
    twin = Node(before, node.agency, free_port(), free_port())
    config = before / "config.toml"
    text = config.read_text()
    for old, new in (
        (node.address, twin.address),
        (node.operator_address, twin.operator_address),
    ):
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)
    profile = twin.profile
    profile.write_text(profile.read_text().replace(node.operator_address, twin.operator_address))
    return twin


def test_two_nodes_with_one_identity_are_found_and_one_lives_on(
    trial: Federation, tmp_path: Path
) -> None:
    pt, es = trial[PT], trial[ES]
    told(pt, es, tmp_path, "ES")
    with stopped(pt):
        before = image(pt, tmp_path / "twin")
    told(pt, es, tmp_path, "ES")
    twin = twin_of(pt, before).start()
    try:
        forked = {"alarm.fork", "alarm.set_back"}
        wait_for("es-gc sees two", lambda: alarms(es, PT) & forked)
        told_of = {"alarm.told_fork", "alarm.told_set_back"}
        wait_for("one of the two is told", lambda: (alarms(pt, ES) | alarms(twin, ES)) & told_of)
        kept = [tell(pt, tmp_path, "ES")]
        lone = tell(twin, tmp_path, "ES")
        assert not {one["id"] for one in es.inbox()} & {*kept, lone}
    finally:
        twin.stop()

    with stopped(pt):
        resync(pt).ok()
    becomes(pt, kept[0], "delivered")
    all_alike(pt, es)

    twin.start()  # left behind: refused each time, while the other goes on
    try:
        wait_for("es-gc sees it", lambda: "alarm.left_behind" in alarms(es, PT))
        kept.append(told(pt, es, tmp_path, "ES"))
        wait_for("it is told", lambda: "alarm.told_left_behind" in alarms(twin, ES))
        assert standing_of(es, f"{PT}: a copy of it that its agency has given up") == "warning"
        assert standing_of(twin, f"{ES} says LEFT BEHIND of this node") == "failed"
        assert entry_of(es, lone) is None
        asked = make_list(tmp_path, "asked by the copy", 2)
        (answer,) = twin.ask(asked, "--peer", ES).json["peers"]
        assert answer["status"] == "refused"
        assert "given up" in answer["reason"]
        (answer,) = pt.ask(asked, "--peer", ES).ok().json["peers"]
        assert answer["status"] == "answered"
        for node, action in ((es, "alarm.left_behind"), (twin, "alarm.told_left_behind")):
            of = {PT: ES, ES: PT}[node.agency]
            assert [one["action"] for one in node.audit() if one["peer"] == of].count(action) == 1
    finally:
        twin.stop()
    all_alike(pt, es)
    assert {one["id"] for one in es.inbox()} >= set(kept)


def test_a_home_put_back_to_before_its_resync_is_alarmed_once(
    trial: Federation, tmp_path: Path
) -> None:
    """Both call each other on and on, since each is where the other looks for it."""
    pt, es = trial[PT], trial[ES]
    told(pt, es, tmp_path, "ES")
    with stopped(pt):
        before = image(pt, tmp_path / "image")
        resync(pt).ok()
    told(pt, es, tmp_path, "ES")
    with stopped(pt):
        set_back(pt, before)
    wait_for("es-gc sees it", lambda: "alarm.left_behind" in alarms(es, PT))
    wait_for("pt-pj is told", lambda: "alarm.told_left_behind" in alarms(pt, ES))
    held = tell(pt, tmp_path, "ES")
    time.sleep(_A_WHILE)
    for node, peer, action in ((es, PT, "left_behind"), (pt, ES, "told_left_behind")):
        said = [one["action"] for one in node.audit() if one["peer"] == peer]
        assert said.count(f"alarm.{action}") == 1
    assert entry_of(es, held) is None
    with stopped(pt):
        resync(pt).ok()
    becomes(pt, held, "delivered")
    all_alike(pt, es)


def test_resync_needs_a_stopped_node_and_a_word(trial: Federation) -> None:
    running: Any = resync(trial[PT])
    assert running.code == 1 and "another process serves" in running.err
    trial[PT].stop()
    assert tieline("node", "resync", trial[PT].home).code == 2
    epoch = trial[PT].rows("SELECT value FROM meta WHERE key = 'epoch'")
    made = resync(trial[PT]).ok().json
    assert [(made["epoch"],)] == trial[PT].rows("SELECT value FROM meta WHERE key = 'epoch'")
    assert [(made["epoch"],)] != epoch
    trial[PT].start()
    assert [one["action"] for one in trial[PT].audit()].count("node.resynchronised") == 1
