"""Freeze: a peer that keeps a node on an old version, and what ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from tieline_client import limits
from tieline_client.directory import Directory
from tieline_client.errors import DirectoryExpired, StorageUnavailable, Unreachable
from tieline_server.trust.directory_refresh import DirectoryRefresher
from tieline_server.trust.online_half import OnlineHalf
from tieline_server.trust.peer_files import Files

from tests.federation.building import NOW
from tests.federation.hostile_repository import Hostile, Scene
from tests.services.bench import wait_for


@dataclass
class Peers:
    """Peers by agency; one that is not there is not reached."""

    there: dict[str, Hostile] = field(default_factory=dict)
    called: list[str] = field(default_factory=list)

    def directory_files(self, agency: str) -> Files:
        self.called.append(agency)
        if agency not in self.there:
            raise Unreachable(f"{agency} did not answer in time")
        return self.there[agency]


class Node:
    """A node of es-gc: the scene's store, with a refresher over these peers."""

    def __init__(self, scene: Scene, tmp_path: Path) -> None:
        self.scene, self.peers, self.now = scene, Peers(), NOW
        (scene.store.folder / "source").unlink()  # no folder: peers alone
        self.monotonic = 0.0
        self.told: list[int] = []
        self.refresher = DirectoryRefresher(
            "es-gc",
            scene.store,
            OnlineHalf(scene.store.folder.parent, scene.store),
            self.peers,
            lambda: self.now,
            shuffle=lambda some: some.sort(),
            monotonic=lambda: self.monotonic,
        )
        self.refresher.changed = lambda directory: self.told.append(directory.version)
        self.refresher.note_changes()

    @property
    def version(self) -> int:
        return self.scene.store.current().version


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(Scene(tmp_path), tmp_path)


def test_a_frozen_peer_holds_nobody_back_while_another_answers(node: Node) -> None:
    old = node.scene.federation.published()
    new = node.scene.change()
    node.peers.there = {"pt-pj": Hostile(old), "us-ice": Hostile(new)}
    node.refresher.round()
    assert node.version == new.parsed_snapshot.version
    assert node.told == [node.version]
    assert node.refresher.problem is None


def test_frozen_by_all_it_shows_as_expiry_and_ends_with_the_first_fresh_one(node: Node) -> None:
    old = node.scene.federation.published()
    node.peers.there = {"pt-pj": Hostile(old)}
    node.now = NOW + timedelta(days=15)
    node.refresher.round()
    with pytest.raises(DirectoryExpired):
        node.scene.store.current().check_fresh(node.now)
    node.peers.there["us-ice"] = Hostile(node.scene.federation.publish(node.now))
    node.refresher.round()
    node.scene.store.current().check_fresh(node.now)


def test_a_change_that_could_not_be_logged_is_told_again(node: Node) -> None:
    """Whoever it revokes is refused by then: the log has to say under which version."""
    honest = node.refresher.changed

    def full(_directory: Directory) -> None:
        raise StorageUnavailable("the disk is full")

    node.refresher.changed = full
    node.peers.there = {"pt-pj": Hostile(node.scene.change())}
    node.refresher.round()
    assert node.told == []
    node.refresher.changed = honest
    for _ in range(2):
        node.refresher.look()
    assert node.told == [node.version]


def test_nobody_answers(node: Node) -> None:
    node.refresher.round()
    assert "did not answer" in (node.refresher.problem or "")
    assert set(node.peers.called) == {"pt-pj", "us-ice"}
    assert node.version == node.scene.first.version


def test_a_call_that_shows_a_newer_version_waits_for_it(node: Node) -> None:
    node.refresher.round()
    assert node.refresher.problem and node.peers.called
    node.peers.called.clear()
    new = node.scene.change()
    version = new.parsed_snapshot.version
    node.peers.there = {"pt-pj": Hostile(new)}
    assert not node.refresher.catch_up("pt-pj", node.version)
    assert node.peers.called == []
    assert node.refresher.catch_up("pt-pj", version)
    assert node.version == version
    assert node.told == [version]
    assert node.refresher.problem is None  # what the last round met is over


def test_a_claim_without_a_directory_costs_next_to_nothing(node: Node) -> None:
    peer = node.peers.there["pt-pj"] = Hostile(node.scene.federation.published())
    for _ in range(100):
        assert not node.refresher.catch_up("pt-pj", 10**9)
    assert node.peers.called == ["pt-pj"]
    # After a while it is believed again, and others are believed meanwhile.
    new = node.scene.change()
    peer.serve(new)
    assert not node.refresher.catch_up("pt-pj", new.parsed_snapshot.version)
    node.monotonic += 31
    assert node.refresher.catch_up("pt-pj", new.parsed_snapshot.version)


def test_a_peer_that_hangs_keeps_no_other_from_being_asked(node: Node) -> None:
    new = node.scene.change()
    hanging, released = Hostile(new), threading.Event()

    def hang(_names: Sequence[str]) -> None:
        assert released.wait(120)
        raise Unreachable("it hung")

    hanging.before = hang
    node.peers.there = {"pt-pj": hanging, "us-ice": Hostile(new)}
    asking = threading.Thread(target=node.refresher.round)
    asking.start()
    try:
        assert node.refresher.catch_up("us-ice", new.parsed_snapshot.version)
        assert node.version == new.parsed_snapshot.version
    finally:
        released.set()
        asking.join()


def test_a_clock_off_by_a_day_either_way_changes_nothing(node: Node) -> None:
    for off in (timedelta(days=1), timedelta(days=-1)):
        node.now = NOW + off
        new = node.scene.change(f"training-{off.days + 2}")
        node.peers.there = {"pt-pj": Hostile(new)}
        node.refresher.round()
        current = node.scene.store.current()
        assert current.version == new.parsed_snapshot.version
        current.check_fresh(node.now)


def test_a_folder_that_cannot_be_read_keeps_nobody_from_asking_the_peers(node: Node) -> None:
    """EACCES, ESTALE or EIO of the folder given at join: here a link that leads to itself."""
    folder = node.scene.store.folder
    loop = folder.parent / "gone"
    loop.symlink_to(loop)
    (folder / "source").write_bytes(bytes(loop))
    node.refresher.round()
    assert "the directory's files" in (node.refresher.problem or "")
    new = node.scene.change()
    node.peers.there = {"pt-pj": Hostile(new)}
    node.refresher.round()
    assert node.version == new.parsed_snapshot.version


def test_rounds_go_on_after_the_own_copy_could_not_be_read_for_a_while(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DIRECTORY_POLL_SECONDS", 0.02)
    monkeypatch.setattr(limits, "DIRECTORY_EXPIRED_POLL_SECONDS", 0.02)
    timestamp = node.scene.store.folder / "metadata" / "timestamp.json"
    whole = timestamp.read_bytes()
    node.refresher.start()
    try:
        wait_for("a round", lambda: node.peers.called)
        timestamp.write_bytes(b"{")
        wait_for("it was met", lambda: "is refused" in (node.refresher.problem or ""))
        time.sleep(0.1)
        timestamp.write_bytes(whole)
        new = node.scene.change()
        node.peers.there = {"pt-pj": Hostile(new)}
        wait_for("the new one", lambda: node.version == new.parsed_snapshot.version)
    finally:
        node.refresher.stop()
