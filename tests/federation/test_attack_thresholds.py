"""Thresholds: too few holders, one who signs twice, holders of yesterday, a root of one's own."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import pytest
from tieline_client import keys
from tieline_server.trust import root_rotation
from tieline_server.trust.tuf_copy import TufCopy
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from tests.federation.building import NOW
from tests.federation.hostile_repository import Scene, signed


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def _stated(scene: Scene, version: int = 1) -> Metadata[Targets]:
    """Targets that lose a member's countries, numbered after those in force."""
    copy = scene.federation.published()
    targets = deepcopy(copy.parsed_targets)
    targets.version += version
    return Metadata(targets)


def test_one_holder_alone(scene: Scene) -> None:
    copy = scene.change()
    scene.peer.serve(scene.bound(copy, targets=signed(_stated(scene), scene.holder(1))))
    scene.refused("targets was signed by 1/2 keys")


def test_one_holder_twice(scene: Scene) -> None:
    copy = scene.change()
    one = signed(_stated(scene), scene.holder(1))
    (signature,) = Metadata[Targets].from_bytes(one).to_dict()["signatures"]
    twice = one.replace(b'"signatures":[', b'"signatures":[' + _json(signature) + b",")
    with pytest.raises(RepositoryError):
        Metadata[Targets].from_bytes(twice)
    # The same signature under the name of another holder.
    other = Metadata[Targets].from_bytes(signed(_stated(scene), scene.holder(2)))
    (name,) = other.signatures
    forged = dict(signature, keyid=name)
    pair = one.replace(b'"signatures":[', b'"signatures":[' + _json(forged) + b",")
    scene.peer.serve(scene.bound(copy, targets=pair))
    scene.refused("signed by 1/2 keys")


def _json(value: object) -> bytes:
    import json

    return json.dumps(value).encode()


def _next(scene: Scene) -> Root:
    return root_rotation.next_root(scene.federation.published().parsed_root, NOW)


def _with_root(copy: TufCopy, root: bytes) -> dict[int, bytes]:
    return {**copy.roots, 2: root}


def test_a_root_that_the_holders_before_did_not_sign(scene: Scene) -> None:
    copy = scene.change()
    mine = keys.generate()
    root = root_rotation.next_root(copy.parsed_root, NOW, holders=[mine.public_key()], threshold=1)
    scene.peer.serve(scene.bound(copy, roots=_with_root(copy, signed(Metadata(root), mine))))
    scene.refused("root was signed by 0/2 keys")
    both = signed(Metadata(root), mine, scene.holder(1))
    scene.peer.serve(scene.bound(copy, roots=_with_root(copy, both)))
    scene.refused("root was signed by 1/2 keys")


def test_a_root_that_its_own_holders_did_not_sign(scene: Scene) -> None:
    copy = scene.change()
    new = [keys.generate() for _ in range(2)]
    root = root_rotation.next_root(
        copy.parsed_root, NOW, holders=[key.public_key() for key in new], threshold=2
    )
    old = (scene.holder(1), scene.holder(2))
    scene.peer.serve(scene.bound(copy, roots=_with_root(copy, signed(Metadata(root), *old))))
    scene.refused("root was signed by 0/2 keys")
    scene.peer.serve(
        scene.bound(copy, roots=_with_root(copy, signed(Metadata(root), *old, new[0])))
    )
    scene.refused("root was signed by 1/2 keys")


def test_a_root_that_skips_a_number(scene: Scene) -> None:
    copy = scene.change()
    root = _next(scene)
    root.version = 3
    skipped = signed(Metadata(root), scene.holder(1), scene.holder(2))
    scene.peer.serve(scene.bound(copy, roots=_with_root(copy, skipped)))
    scene.refused("version")


def test_holders_of_yesterday_sign_nothing_any_more(scene: Scene) -> None:
    new = [keys.generate() for _ in range(2)]
    scene.federation.propose_root(NOW, holders=[key.public_key() for key in new], threshold=2)
    rotated = scene.sign(*new)
    scene.peer.serve(rotated)
    scene.take()
    yesterday = signed(_stated(scene), scene.holder(1), scene.holder(2))
    scene.peer.serve(scene.bound(rotated, targets=yesterday))
    scene.refused("targets was signed by 0/2 keys")
    today = signed(_stated(scene), *new)
    scene.peer.serve(scene.bound(rotated, targets=today))
    assert scene.take().version == rotated.parsed_snapshot.version + 1


def test_rotations_in_a_row_with_expired_roots_between_are_walked(scene: Scene) -> None:
    """A node that was away for years: six roots, those between long expired."""
    long_ago = NOW - timedelta(days=4000)
    for number in range(6):
        scene.federation.propose_root(long_ago if number < 5 else NOW, online=True)
        scene.sign()
    rotated = scene.federation.publish(NOW)
    scene.peer.serve(rotated)
    directory = scene.take()
    directory.check_fresh(NOW)
    assert max(scene.store.copy().roots) == 7
    # Without one of them there is no way.
    other = Scene(scene.store.folder.parent / "other")
    other.peer.serve(rotated)
    del other.peer.files["metadata/4.root.json"]
    other.refused("signed by 0/1 keys")


def test_a_root_that_expired_and_is_the_last_closes(scene: Scene) -> None:
    scene.federation.propose_root(NOW - timedelta(days=4000))
    scene.peer.serve(scene.sign())
    directory = scene.take()
    with pytest.raises(Exception, match="expired"):
        directory.check_fresh(NOW)
