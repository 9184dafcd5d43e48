"""Mix and match: parts of different versions, and one part in place of another."""

from __future__ import annotations

from pathlib import Path

import pytest
from tieline_server.trust import statements
from tuf.api.metadata import Metadata, Targets

from tests.federation.building import NOW, trial
from tests.federation.hostile_repository import ICE, PJ, Scene, signed


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize("part", ["snapshot", "targets"])
def test_an_older_part_under_a_newer_timestamp(scene: Scene, part: str) -> None:
    old = scene.federation.published()
    scene.peer.serve(scene.change())
    scene.peer.swap(f".{part}.json", getattr(old, part))
    scene.refused("length|hash|version")


def test_a_statement_of_another_version(scene: Scene) -> None:
    old = scene.federation.published()
    scene.peer.serve(scene.change())
    scene.peer.swap(".federation.json", old.contents[statements.FEDERATION_PATH])
    scene.refused("length|hash")


def test_one_role_in_place_of_another(scene: Scene) -> None:
    new = scene.change()
    roles = {**new.roles, "pt-pj": new.roles["us-ice"]}
    scene.peer.serve(scene.bound(new, roles=roles))
    scene.refused("pt-pj was signed by 0/1 keys")
    snapshot = new.snapshot
    scene.peer.serve(new)
    scene.peer.files["metadata/timestamp.json"] = snapshot
    scene.refused("timestamp|type|length")


def test_an_agency_in_the_name_of_another(scene: Scene) -> None:
    new = scene.change()
    path = statements.own_path("us-ice")
    role = Metadata[Targets].from_bytes(new.roles["us-ice"])
    role.signed.version += 1
    own = statements.to_bytes(PJ.own())
    role.signed.targets[path] = role.signed.targets[path].from_data(path, own, ["sha256"])
    scene.peer.serve(
        scene.bound(
            new,
            roles={**new.roles, "us-ice": signed(role, ICE.directory_key)},
            contents={**new.contents, path: own},
        )
    )
    scene.refused("names another agency")


def test_another_federation_altogether(scene: Scene, tmp_path: Path) -> None:
    scene.peer.serve(trial(tmp_path / "stranger", PJ, ICE).publish(NOW))
    scene.peer.files.pop("metadata/2.root.json", None)
    scene.refused("signed by 0/1 keys")
