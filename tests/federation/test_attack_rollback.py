"""Rollback: a peer that serves what was once right."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from tieline_server.trust import statements
from tieline_server.trust.directory_store import DirectoryOlder
from tuf.api.metadata import Metadata, Root

from tests.federation.building import NOW
from tests.federation.hostile_repository import PJ, Scene, signed


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_everything_older_is_nothing_to_take(scene: Scene) -> None:
    old = scene.federation.published()
    scene.peer.serve(scene.change())
    assert scene.take().version == scene.first.version + 1
    scene.peer.serve(old)
    scene.peer.asked.clear()
    scene.refused("older", DirectoryOlder)
    # Told by one small file, and a look for a newer root, which would make it right.
    assert scene.peer.asked[0] == "metadata/timestamp.json"
    assert set(scene.peer.asked) == {"metadata/timestamp.json", "metadata/2.root.json"}


def test_a_number_raised_by_hand_is_no_signature(scene: Scene) -> None:
    old = scene.federation.published()
    scene.peer.serve(scene.change())
    scene.take()
    scene.peer.serve(old)
    head, _, number = old.timestamp.rpartition(b'"version":')
    raised = head + b'"version":9' + number
    scene.peer.files["metadata/timestamp.json"] = raised
    scene.refused("signed by 0/1 keys")


def test_a_snapshot_that_goes_back(scene: Scene) -> None:
    old = scene.federation.published()
    scene.peer.serve(scene.change())
    scene.take()
    # Whoever stole the online keys numbers it anew, around targets of before.
    new = scene.federation.published()
    scene.peer.serve(scene.bound(new, targets=old.targets, contents=old.contents))
    scene.refused("targets.json version")


def test_an_agency_that_goes_back(scene: Scene) -> None:
    old = scene.federation.published()
    later = NOW + timedelta(hours=1)
    made = PJ.request(later, endpoints=("10.1.1.1:7443",))
    scene.federation.accept("pt-pj", made.role, made.own, NOW)
    new = scene.federation.published()
    scene.peer.serve(new)
    assert scene.take().member("pt-pj").endpoints == ("10.1.1.1:7443",)
    path = statements.own_path("pt-pj")
    scene.peer.serve(
        scene.bound(
            new,
            roles={**new.roles, "pt-pj": old.roles["pt-pj"]},
            contents={**new.contents, path: old.contents[path]},
        )
    )
    scene.refused("pt-pj.json version")


def test_a_root_that_goes_back(scene: Scene) -> None:
    before = scene.federation.published()
    scene.federation.propose_root(NOW, online=True)
    rotated = scene.sign()
    scene.peer.serve(rotated)
    scene.take()
    # The root before, numbered as the next one and signed by the holders of both.
    again = Metadata[Root].from_bytes(before.roots[1])
    again.signed.version = 2
    scene.peer.files["metadata/2.root.json"] = signed(again, scene.holder(1), scene.holder(2))
    assert scene.take().version == rotated.parsed_snapshot.version  # it is known, nobody asks
    again.signed.version = 1
    scene.peer.files["metadata/3.root.json"] = signed(again, scene.holder(1), scene.holder(2))
    scene.peer.swap("timestamp.json", scene.bound(rotated).timestamp)
    scene.refused("root|version")
