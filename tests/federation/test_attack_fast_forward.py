"""Fast-forward: stolen online keys run the numbers up; new online keys bring them back."""

from __future__ import annotations

from pathlib import Path

import pytest
from tieline_client import limits
from tieline_client.errors import TielineError
from tieline_server.trust import federation_edits, tuf_online
from tieline_server.trust.directory_store import DirectoryOlder

from tests.federation.building import NOW
from tests.federation.hostile_repository import PJ, Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_numbers_run_up_and_brought_back_by_a_new_root(scene: Scene) -> None:
    copy = scene.federation.published()
    scene.peer.serve(scene.bound(copy, ahead=1_000_000))
    assert scene.take().version > 1_000_000
    # What the authority publishes is older by number, and refused ...
    scene.peer.serve(scene.change())
    scene.refused("older", DirectoryOlder)
    # ... until the holders sign a root with other online keys.
    scene.federation.propose_root(NOW, online=True)
    scene.peer.serve(scene.sign())
    directory = scene.take()
    assert directory.version < 1_000_000
    directory.purpose("training")
    # The thief's keys bind nothing any more.
    assert not _names(scene, copy.parsed_root)


def _names(scene: Scene, root: object) -> bool:
    from tieline_server.trust import root_rotation

    return root_rotation.names_online(root, scene.online)  # type: ignore[arg-type]


def test_a_number_beyond_what_the_wire_takes(scene: Scene) -> None:
    copy = scene.federation.published()
    scene.peer.serve(scene.bound(copy, ahead=limits.DIRECTORY_VERSION_MOST))
    scene.refused("no version in use")
    assert tuf_online.versions(scene.store.copy()) == tuf_online.versions(copy)


def test_an_agency_cannot_number_its_statement_from_the_future(scene: Scene) -> None:
    made = PJ.request(NOW + 2 * limits.CLOCK_TOLERANCE, endpoints=("10.1.1.1:7443",))
    with pytest.raises(federation_edits.AdmissionRefused, match="from the future"):
        scene.federation.accept("pt-pj", made.role, made.own, NOW)
    with pytest.raises(TielineError, match="not newer"):
        old = PJ.request(NOW - limits.CLOCK_TOLERANCE, endpoints=("10.1.1.1:7443",))
        scene.federation.accept("pt-pj", old.role, old.own, NOW)
