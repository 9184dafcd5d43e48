"""The node's own copy: trusting, refreshing, and a folder that lies (TUF's attack families)."""

from __future__ import annotations

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from tieline_client import keys
from tieline_client.errors import DirectoryError, DirectoryExpired
from tieline_server.trust import federation_edits as edits
from tieline_server.trust import federation_init, statements, tuf_folder, tuf_online
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.federation import Federation
from tieline_server.trust.request import tuf_signer
from tieline_server.trust.tuf_copy import TufCopy
from tieline_server.trust.tuf_online import OnlineKeys
from tuf.api.metadata import Metadata, TargetFile, Targets

from tests.federation.building import NOW, Agency, admit, change, trial

PJ, ICE = Agency("pt-pj"), Agency("us-ice", countries=["US"])


class Scene:
    """A federation of two, a folder that a node reads it from, and that node's store."""

    def __init__(self, tmp_path: Path, founded: Path) -> None:
        shutil.copytree(founded, tmp_path / "authority")
        self.federation = Federation.open(tmp_path / "authority")
        self.source = tmp_path / "share"
        self.hand_out()
        self.store = DirectoryStore(tmp_path / "home")
        self.first = self.store.trust(self.source)

    def hand_out(self) -> None:
        """Make the source what the authority has published."""
        shutil.rmtree(self.source, ignore_errors=True)
        shutil.copytree(self.federation.public, self.source)

    def advance(self, code: str = "training") -> None:
        """Put a change in force, without handing it out."""
        change(self.federation, lambda stated: edits.set_purpose(stated, code, "A rehearsal"))

    def offer(self, copy: TufCopy) -> None:
        """Make the source a version that the authority did not make."""
        shutil.rmtree(self.source)
        tuf_folder.write(self.source, copy)

    def refused(self, why: str) -> None:
        """The source is refused, and what was known stands."""
        before = self.store.current()
        with pytest.raises(DirectoryError, match=why):
            self.store.refresh(NOW)
        assert self.store.problem
        assert self.store.current() == before
        assert DirectoryStore(self.store.folder.parent).current() == before


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trial(tmp_path_factory.mktemp("founded") / "authority", PJ, ICE).folder


@pytest.fixture
def scene(tmp_path: Path, founded: Path) -> Scene:
    return Scene(tmp_path, founded)


def test_join_and_refresh(scene: Scene) -> None:
    assert [member.agency for member in scene.first.members] == ["pt-pj", "us-ice"]
    assert scene.first.pinned_node_cas() == {"pt-pj": (PJ.node_ca,), "us-ice": (ICE.node_ca,)}
    assert scene.store.refresh(NOW) == scene.first
    scene.advance()
    assert scene.store.refresh(NOW).version == scene.first.version
    scene.hand_out()
    assert scene.store.refresh(NOW).version == scene.first.version + 1
    assert scene.store.current().purpose("training") == "A rehearsal"
    assert scene.store.problem is None


@pytest.mark.parametrize("part", ["", "public"])
def test_the_folder_or_its_public_part(tmp_path: Path, part: str) -> None:
    federation = trial(tmp_path / "authority", PJ)
    store = DirectoryStore(tmp_path / "home")
    assert store.trust(federation.folder / part).member("pt-pj").name == "Agency pt-pj"
    assert store.root_fingerprint() == federation.published().root_fingerprint
    # Only the public part was read and copied.
    copied = {path.name for path in store.folder.rglob("*.pem")}
    assert copied == set()


def test_a_home_that_joined_nothing(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "home")
    assert not store.joined
    for act in (store.current, store.root_fingerprint, lambda: store.refresh(NOW)):
        with pytest.raises(DirectoryError, match="join"):
            act()
    with pytest.raises(DirectoryError, match="no federation folder"):
        store.trust(tmp_path)


def test_another_process_sees_a_refresh(scene: Scene) -> None:
    other = DirectoryStore(scene.store.folder.parent)
    assert other.current().version == scene.first.version
    scene.advance()
    scene.hand_out()
    scene.store.refresh(NOW)
    assert other.current().version == scene.first.version + 1


def test_current_costs_microseconds(scene: Scene) -> None:
    scene.store.current()
    started = time.thread_time()
    for _ in range(1_000):
        scene.store.current()
    assert time.thread_time() - started < 0.2


def test_the_source_goes_away_and_comes_back(scene: Scene) -> None:
    away = scene.source.with_name("away")
    scene.source.rename(away)
    assert scene.store.refresh(NOW) == scene.first
    assert "is not there" in str(scene.store.problem)
    restarted = DirectoryStore(scene.store.folder.parent)
    assert restarted.current() == scene.first
    away.rename(scene.source)
    restarted.refresh(NOW)
    assert restarted.problem is None


def test_another_federation_is_refused(scene: Scene, tmp_path: Path) -> None:
    stranger = trial(tmp_path / "stranger", PJ)
    with pytest.raises(DirectoryError, match="another federation's root"):
        scene.store.trust(stranger.folder)
    shutil.rmtree(scene.source)
    shutil.copytree(stranger.public, scene.source)
    scene.refused("signed by 0/1 keys")
    # The same federation in another place is no other federation.
    moved = scene.federation.folder
    assert scene.store.trust(moved).version == scene.first.version


def test_rollback_of_everything(scene: Scene, tmp_path: Path) -> None:
    old = shutil.copytree(scene.source, tmp_path / "old")
    scene.advance()
    scene.hand_out()
    scene.store.refresh(NOW)
    shutil.rmtree(scene.source)
    shutil.copytree(old, scene.source)
    scene.refused("version")
    with pytest.raises(DirectoryError, match="version"):
        scene.store.trust(scene.source)


def test_rollback_of_one_agency(scene: Scene) -> None:
    later = NOW + timedelta(hours=1)
    old = scene.federation.published()
    admit(scene.federation, PJ.request(later, endpoints=("10.1.1.1:7443",)), later)
    scene.hand_out()
    new = scene.store.refresh(NOW)
    assert new.member("pt-pj").endpoints == ("10.1.1.1:7443",)
    # Whoever holds the online keys binds the agency's old statement into a newer version.
    published = scene.federation.published()
    roles = {**published.roles, "pt-pj": old.roles["pt-pj"]}
    path = statements.own_path("pt-pj")
    contents = {**published.contents, path: old.contents[path]}
    scene.offer(_bound(scene, published, roles=roles, contents=contents))
    scene.refused("pt-pj.json version")


def test_freeze_shows_as_expiry_and_ends_with_the_next_version(scene: Scene) -> None:
    later = NOW + timedelta(days=15)
    frozen = scene.store.refresh(later)
    frozen.check_fresh(NOW + timedelta(days=13))
    with pytest.raises(DirectoryExpired, match="publish a new one"):
        frozen.check_fresh(later)
    # A node that starts past the expiry starts, is refused, and resumes.
    restarted = DirectoryStore(scene.store.folder.parent, clock=lambda: later)
    with pytest.raises(DirectoryExpired):
        restarted.current().check_fresh(later)
    scene.federation.publish(later)
    scene.hand_out()
    restarted.refresh(later).check_fresh(later)


def test_joining_an_expired_federation_is_said_later(tmp_path: Path) -> None:
    long_ago = NOW - timedelta(days=400)
    federation = trial(tmp_path / "authority", now=long_ago)
    store = DirectoryStore(tmp_path / "home")
    directory = store.trust(federation.folder)
    with pytest.raises(DirectoryExpired):
        directory.check_fresh(NOW)
    # Fresh online signatures do not make up for targets that expired.
    federation.publish(NOW)
    with pytest.raises(DirectoryExpired):
        store.refresh(NOW).check_fresh(NOW)
    federation.propose(lambda stated: stated, NOW, renew=True)
    assert federation.single_key is not None
    federation.sign(keys.load(federation.single_key), NOW)
    store.refresh(NOW).check_fresh(NOW)


def test_an_agency_that_lapsed_can_neither_connect_nor_sign(scene: Scene) -> None:
    after_ten_years = NOW + timedelta(days=3651)
    member = scene.store.refresh(after_ten_years).member("pt-pj")
    assert (member.node_cas, member.signing_keys, member.endpoints) == ((), (), ())


def test_mix_and_match(scene: Scene) -> None:
    old = scene.federation.published()
    scene.advance()
    new = scene.federation.published()
    for mixed, why in (
        ({"snapshot": old.snapshot}, "snapshot|length|hash"),
        ({"targets": old.targets}, "targets|length|hash"),
    ):
        files = {**new.files}
        for name in files:
            if name.endswith(f"{next(iter(mixed))}.json"):
                files[name] = next(iter(mixed.values()))
        _write(scene.source, files)
        scene.refused(why)


@pytest.mark.parametrize(
    "name",
    ["timestamp.json", "snapshot.json", "targets.json", "pt-pj.json", "federation.json"],
)
@pytest.mark.parametrize("how", ["altered", "absent", "endless", "empty"])
def test_a_file_that_is_not_what_was_signed(scene: Scene, name: str, how: str) -> None:
    scene.advance()
    later = NOW + timedelta(hours=1)
    admit(scene.federation, PJ.request(later, endpoints=("10.1.1.1:7443",)), later)
    scene.hand_out()
    fresh = scene.federation.published().files
    known = scene.store.copy().files
    for path in [path for path in fresh if path.endswith(name) and fresh[path] != known.get(path)]:
        file = scene.source / path
        data = file.read_bytes()
        if how == "absent":
            file.unlink()
        elif how == "altered":
            file.write_bytes(data.replace(b'"', b"'", 1))
        elif how == "endless":
            file.write_bytes(data + b" " * (3 * 1024 * 1024))
        else:
            file.write_bytes(b"")
    if (name, how) == ("timestamp.json", "absent"):
        assert scene.store.refresh(NOW) == scene.first
        assert scene.store.problem is not None
    else:
        scene.refused("refused|incomplete")


def test_a_pipe_in_place_of_a_file_holds_nobody(scene: Scene) -> None:
    (scene.source / "metadata" / "timestamp.json").unlink()
    os.mkfifo(scene.source / "metadata" / "timestamp.json")
    assert scene.store.refresh(NOW) == scene.first
    assert "is not there" in str(scene.store.problem)


def test_the_online_keys_alone_state_nothing(scene: Scene) -> None:
    published = scene.federation.published()
    targets = Metadata[Targets].from_bytes(published.targets)
    targets.signed.version += 1
    targets.sign(tuf_signer(OnlineKeys.load(scene.federation.folder / "online").snapshot))
    scene.offer(_bound(scene, published, targets=targets.to_bytes()))
    scene.refused("targets was signed by 0/1 keys")


def test_an_agency_cannot_sign_for_another(scene: Scene) -> None:
    published = scene.federation.published()
    path = statements.own_path("pt-pj")
    forged_own = statements.to_bytes(PJ.own(node_cas=(ICE.node_ca,)))
    contents = {**published.contents, path: forged_own}
    # In the role of the other agency: the key is not that role's.
    forged = _own_metadata(path, forged_own, ICE.directory_key)
    roles = {**published.roles, "pt-pj": forged}
    scene.offer(_bound(scene, published, roles=roles, contents=contents))
    scene.refused("pt-pj was signed by 0/1 keys")
    # In its own role: the path is not delegated to it, so nobody looks there.
    role = Metadata[Targets].from_bytes(published.roles["us-ice"])
    role.signed.version += 1
    role.signed.targets[path] = TargetFile.from_data(path, forged_own, ["sha256"])
    role.sign(tuf_signer(ICE.directory_key))
    scene.offer(_bound(scene, published, roles={**published.roles, "us-ice": role.to_bytes()}))
    assert scene.store.refresh(NOW).member("pt-pj").node_cas == (PJ.node_ca,)


def test_an_agency_cannot_name_itself_another(scene: Scene) -> None:
    published = scene.federation.published()
    path = statements.own_path("us-ice")
    posing = statements.to_bytes(PJ.own())
    roles = {**published.roles, "us-ice": _own_metadata(path, posing, ICE.directory_key)}
    contents = {**published.contents, path: posing}
    scene.offer(_bound(scene, published, roles=roles, contents=contents))
    scene.refused("names another agency")


def test_an_agency_states_neither_role_nor_countries(scene: Scene) -> None:
    published = scene.federation.published()
    path = statements.own_path("us-ice")
    own = statements.to_bytes(ICE.own())
    greedy = own[:-1] + b',"role":"hub","countries":["PT"],"name":"Europol"}'
    roles = {**published.roles, "us-ice": _own_metadata(path, greedy, ICE.directory_key)}
    contents = {**published.contents, path: greedy}
    scene.offer(_bound(scene, published, roles=roles, contents=contents))
    member = scene.store.refresh(NOW).member("us-ice")
    assert (member.role, member.countries, member.name) == ("national", ("US",), "Agency us-ice")


def test_the_authority_cannot_state_an_agency_own_file_in_passing(scene: Scene) -> None:
    published = scene.federation.published()
    targets = Metadata[Targets].from_bytes(published.targets)
    path = statements.own_path("pt-pj")
    targets.signed.version += 1
    targets.signed.targets[path] = TargetFile.from_data(path, b"{}", ["sha256"])
    assert scene.federation.single_key is not None
    targets.sign(tuf_signer(keys.load(scene.federation.single_key)))
    scene.offer(_bound(scene, published, targets=targets.to_bytes()))
    scene.refused("differ")


def test_a_damaged_copy_is_said_and_mended(scene: Scene) -> None:
    (file,) = (scene.store.folder / "targets").glob("*.federation.json")
    file.write_bytes(b"{}")
    restarted = DirectoryStore(scene.store.folder.parent)
    with pytest.raises(DirectoryError):
        restarted.current()
    assert restarted.refresh(NOW) == scene.first
    assert DirectoryStore(scene.store.folder.parent).current() == scene.first


def test_threads_see_whole_versions(scene: Scene) -> None:
    done = threading.Event()

    def read() -> int:
        highest = 0
        while not done.is_set():
            version = scene.store.current().version
            assert version >= highest
            highest = version
        return highest

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        for number in range(3):
            scene.advance(f"training-{number}")
            scene.hand_out()
            scene.store.refresh(NOW)
        done.set()
    assert all(reader.result() <= scene.first.version + 3 for reader in readers)


def test_two_holders_and_a_root_of_two(tmp_path: Path) -> None:
    federation = federation_init.create(
        tmp_path / "authority", "fed", passphrases=[None] * 3, threshold=2, now=NOW
    )
    store = DirectoryStore(tmp_path / "home")
    before = store.trust(federation.folder)
    one = keys.load(federation.folder / "keys" / "holder-1.pem")
    # One holder signs alone and takes the online keys to help.
    published = federation.published()
    targets = Metadata(federation.stated(proposed=False).targets(2, NOW + timedelta(days=9)))
    targets.sign(tuf_signer(one))
    online = OnlineKeys.load(federation.folder / "online")
    forged = tuf_online.bind(
        roots=published.roots, targets=targets.to_bytes(), roles={}, contents=published.contents,
        online=online, now=NOW, after=tuf_online.versions(published),
    )  # fmt: skip
    tuf_folder.write(federation.public, forged)
    with pytest.raises(DirectoryError, match="signed by 1/2 keys"):
        store.refresh(NOW)
    assert store.current() == before


def _bound(scene: Scene, base: TufCopy, **changed: object) -> TufCopy:
    """Bind parts into a version newer than all, as whoever holds the online keys can."""
    parts: dict[str, object] = {
        "roots": base.roots,
        "targets": base.targets,
        "roles": base.roles,
        "contents": base.contents,
        "online": OnlineKeys.load(scene.federation.folder / "online"),
        "now": NOW,
        "after": tuple(version + 10 for version in tuf_online.versions(base)),
    }
    return tuf_online.bind(**{**parts, **changed})  # type: ignore[arg-type]


def _own_metadata(path: str, content: bytes, key: keys.PrivateKey) -> bytes:
    signed = Targets(
        version=2**31,
        expires=NOW + timedelta(days=30),
        targets={path: TargetFile.from_data(path, content, ["sha256"])},
    )
    metadata = Metadata(signed)
    metadata.sign(tuf_signer(key))
    return metadata.to_bytes()


def _write(folder: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
