"""What the authority hands out: nothing private, whole at every moment, also to a hub."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tieline_client import keys
from tieline_server.trust import federation_edits as edits
from tieline_server.trust import federation_init, tuf_folder, tuf_online
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.federation import Federation
from tieline_server.trust.tuf_online import OnlineKeys

from tests.federation.building import NOW, Agency, change, refusal, succeed, trial

PJ = Agency("pt-pj")


def test_no_private_key_in_what_others_get(tmp_path: Path) -> None:
    federation = trial(tmp_path / "authority", PJ)
    home = tmp_path / "home"
    home.mkdir()
    federation.publish(NOW, home)
    private = [keys.load(path) for path in federation.folder.rglob("*.pem")]
    private += [PJ.directory_key, PJ.signing_key]
    assert len(private) == 5
    forms = set()
    for key in private:
        scalar = key.private_numbers().private_value.to_bytes(32, "big")
        forms |= {scalar, scalar.hex().encode(), base64.b64encode(scalar)}
        forms.add(b"".join(keys.private_pem(key).splitlines()[1:-1])[:64])
    public = [path for path in federation.public.rglob("*") if path.is_file()]
    served = [path for path in (home / "directory/published").rglob("*") if path.is_file()]
    assert len(public) >= 8
    for path in [*public, *served]:
        data = path.read_bytes()
        assert b"PRIVATE" not in data
        assert not any(form in data for form in forms)
        assert path.suffix == ".json"


def test_private_files_are_the_owners_alone(tmp_path: Path) -> None:
    federation = trial(tmp_path / "authority", PJ)
    federation.propose(lambda stated: edits.set_purpose(stated, "training", "x"), NOW)
    for name in ("keys", "online", "proposed"):
        folder = federation.folder / name
        assert folder.stat().st_mode & 0o077 == 0
        assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


def test_a_hub_gets_the_directory_and_the_online_keys(tmp_path: Path) -> None:
    federation = trial(tmp_path / "authority", PJ)
    hub = tmp_path / "hub"
    hub.mkdir()
    published = succeed("publish", federation.folder, "--home", hub)
    assert (hub / "directory/online/timestamp.pem").stat().st_mode & 0o777 == 0o600
    store = DirectoryStore(tmp_path / "home")
    assert store.trust(hub / "directory/published").version == published["version"]

    # The hub renews by itself; what the authority publishes next is newer all the same.
    served = hub / "directory/published"
    copy = tuf_folder.load(served)
    for _ in range(3):
        renewed = tuf_online.renew(
            copy, OnlineKeys.load(hub / "directory/online"), NOW, seen=[copy]
        )
        tuf_folder.write(served, renewed, copy)
        copy = renewed
    assert store.refresh(NOW).version == published["version"] + 3
    change(federation, lambda stated: edits.set_purpose(stated, "training", "A rehearsal"))
    succeed("publish", federation.folder, "--home", hub)
    assert store.refresh(NOW).purpose("training") == "A rehearsal"

    stranger = trial(tmp_path / "stranger")
    message = refusal(3, "publish", stranger.folder, "--home", hub)
    assert "another federation's" in message


def test_old_files_go_and_the_version_before_stays(tmp_path: Path) -> None:
    federation = trial(tmp_path / "authority", PJ)
    for _ in range(5):
        before = federation.published()
        federation.publish(NOW)
    present = {
        path.relative_to(federation.public).as_posix()
        for path in federation.public.rglob("*")
        if path.is_file()
    }
    assert present == {*before.files, *federation.published().files}


def _count_steps(act: Callable[[], object]) -> int:
    """Return how many durable steps (fsync calls) an act takes."""
    steps = 0
    real = os.fsync

    def counting(descriptor: int) -> None:
        nonlocal steps
        steps += 1
        real(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", counting)
        act()
    return steps


def _killed_at(step: int, act: Callable[[], object]) -> bool:
    """Run an act in a child that dies, without any clean-up, at its n-th fsync."""
    child = os.fork()
    if child == 0:
        left = step

        def dying(_descriptor: int) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(9)

        os.fsync = dying  # type: ignore[assignment]
        try:
            act()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def _steps(folder: Path, spare: Path, act: Callable[[Federation], object]) -> Iterator[int]:
    """For each durable step of an act: start from the same folder and die there."""
    shutil.copytree(folder, spare)
    steps = _count_steps(lambda: act(Federation.open(folder)))
    for step in range(1, steps + 1):
        shutil.rmtree(folder)
        shutil.copytree(spare, folder)
        assert _killed_at(step, lambda: act(Federation.open(folder)))
        yield step


def test_a_crash_at_any_step_of_publishing(tmp_path: Path) -> None:
    federation = trial(tmp_path / "authority", PJ)
    folder = federation.folder
    version = federation.directory(NOW).version
    home = tmp_path / "home"
    store = DirectoryStore(home)
    store.trust(folder)
    shutil.copytree(home, tmp_path / "home-before")
    seen = set()
    for _ in _steps(folder, tmp_path / "spare", lambda opened: opened.publish(NOW)):
        shutil.rmtree(home)
        shutil.copytree(tmp_path / "home-before", home)
        seen.add(DirectoryStore(home).refresh(NOW).version)
        # The command, run again, mends it.
        Federation.open(folder).publish(NOW)
        assert DirectoryStore(home).refresh(NOW).version > version
        assert not list(folder.rglob(".new-*"))
    assert seen == {version, version + 1}


def test_a_crash_at_any_step_of_the_last_signature(tmp_path: Path) -> None:
    federation = trial(tmp_path / "authority")
    folder = federation.folder
    made = PJ.request()
    federation.propose(
        lambda stated: edits.admit(stated, made, made.claims.role, ["PT"], NOW)[0], NOW
    )
    key = keys.load(folder / "keys" / "holder-1.pem")
    before = 0
    for _ in _steps(folder, tmp_path / "spare", lambda opened: opened.sign(key, NOW)):
        opened = Federation.open(folder)
        members = len(opened.directory(NOW).members)
        assert members >= before, "what took effect stays in effect"
        before = members
        # Whatever comes next finishes it: a signature that was kept is not asked for again.
        waiting = opened.signatures()
        if waiting is not None and waiting.have == 0:
            opened.sign(key, NOW)
        else:
            opened.publish(NOW)
        assert opened.directory(NOW).member("pt-pj").node_cas == (PJ.node_ca,)
        assert opened.proposal() is None
    assert before == 1


def test_a_crash_while_founding_leaves_the_name_free(tmp_path: Path) -> None:
    folder = tmp_path / "authority"

    def found() -> None:
        federation_init.create(folder, "fed", passphrases=[None] * 2, threshold=2, now=NOW)

    for step in (1, 3, 6, 9):
        assert _killed_at(step, found)
        assert not folder.exists()
    found()
    assert Federation.open(folder).directory(NOW).members == ()


def test_what_an_agency_did_not_sign_is_not_published(tmp_path: Path) -> None:
    federation = trial(tmp_path / "authority", PJ)
    later = NOW + timedelta(days=1)
    made, served = PJ.request(later), list(PJ.countries)
    federation.propose(lambda stated: edits.admit(stated, made, PJ.role, served, later)[0], later)
    # The agency's own part is changed on the way; the holders' signatures do not cover it.
    path = federation.folder / "proposed" / "proposal.json"
    path.write_text(path.read_text().replace("127.0.0.1:7443", "127.0.0.1:7444"))
    key = federation.folder / "keys" / "holder-1.pem"
    version = federation.directory(NOW).version
    assert "do not fit together" in refusal(3, "sign", federation.folder, "--key", key)
    # Nothing is stuck: what is in force can be renewed, and the proposal dropped.
    assert succeed("publish", federation.folder)["version"] == version + 1
    assert succeed("discard", federation.folder)["discarded"] is True
    assert succeed("discard", federation.folder)["discarded"] is False
    assert succeed("purpose", federation.folder, "training", "A rehearsal")["in_force"] is True


@pytest.mark.parametrize("damage", ["{", "[]", "null", '{"format": "tieline-proposal/9"}', "\xff"])
def test_a_damaged_proposal_is_said_and_dropped(tmp_path: Path, damage: str) -> None:
    federation = trial(tmp_path / "authority", PJ)
    path = federation.folder / "proposed" / "proposal.json"
    path.write_bytes(damage.encode("latin-1"))
    assert "discard" in refusal(3, "status", federation.folder)
    succeed("discard", federation.folder)
    assert succeed("status", federation.folder)["proposal"] is None
