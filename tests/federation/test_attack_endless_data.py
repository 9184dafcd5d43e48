"""Endless data: files without end, roots without end, silence without end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tieline_client.errors import DirectoryError, TielineError, Unreachable
from tieline_server.trust.peer_files import PeerFiles
from tuf.api.metadata import Metadata, Root

from tests.federation.building import NOW
from tests.federation.hostile_repository import Scene, signed


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize(
    "name", ["timestamp.json", ".snapshot.json", ".targets.json", ".pt-pj.json", ".federation.json"]
)
def test_a_file_longer_than_what_was_signed(scene: Scene, name: str) -> None:
    new = scene.change()
    scene.peer.serve(scene.bound(new, roles=new.roles))
    for known in scene.store.copy().files:
        scene.peer.files.pop(known, None)  # nothing is at hand already
    scene.peer.serve(new)
    for served in scene.peer.files:
        if served.endswith(name):
            scene.peer.files[served] += b" " * (3 * 1024 * 1024)
    if name == ".pt-pj.json":
        assert scene.take().version == new.parsed_snapshot.version  # unchanged: not asked for
        assert not any(asked.endswith(name) for asked in scene.peer.asked)
    else:
        scene.refused("length|Length|hash|larger|than|incomplete|bytes")


def test_a_root_longer_than_any(scene: Scene) -> None:
    scene.peer.serve(scene.change())
    scene.peer.files["metadata/2.root.json"] = b"{" + b" " * (3 * 1024 * 1024)
    scene.refused("root|length|incomplete|bytes")


def test_roots_without_end_are_an_end(scene: Scene) -> None:
    root = Metadata[Root].from_bytes(scene.federation.published().roots[1])

    def more(names: Sequence[str]) -> None:
        for name in names:
            if name.endswith(".root.json"):
                root.signed.version = int(name.split("/")[1].partition(".")[0])
                scene.peer.files[name] = signed(root, scene.holder(1), scene.holder(2))

    scene.peer.serve(scene.change())
    scene.peer.before = more
    # Properly signed: they are taken, and no more than python-tuf takes in one go.
    scene.take()
    assert len([name for name in scene.peer.asked if name.endswith(".root.json")]) <= 257


def test_a_slow_peer_has_one_end_for_all_its_files(scene: Scene) -> None:
    scene.peer.serve(scene.change())
    now = 0.0

    def slow(_names: Sequence[str]) -> None:
        nonlocal now
        now += 9.0

    scene.peer.before = slow
    known = scene.store.copy()
    files = PeerFiles(scene.peer, known, seconds=30.0, monotonic=lambda: now)
    with pytest.raises(Unreachable, match="within its time"):
        scene.store.take(files.read, "mallory", NOW)
    assert now <= 39.0
    assert scene.store.current() == scene.first


@pytest.mark.parametrize("error", [Unreachable("gone"), DirectoryError("out of order")])
def test_a_peer_that_fails_half_way_leaves_what_was(scene: Scene, error: TielineError) -> None:
    scene.peer.serve(scene.change())

    def fail(names: Sequence[str]) -> None:
        if any(name.endswith(".targets.json") for name in names):
            raise error

    scene.peer.before = fail
    scene.refused(error.message, type(error))
    scene.peer.before = lambda _names: None
    assert scene.take().version == scene.first.version + 1
