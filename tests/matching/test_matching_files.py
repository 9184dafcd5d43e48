"""Snapshots on disk: damage is noticed, and death at any moment leaves a whole snapshot."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tieline_client.digests import DigestKind
from tieline_server.matching import snapshot as snapshots
from tieline_server.matching.files import (
    FORMAT,
    MANIFEST,
    FolderStore,
    IndexDamaged,
    Section,
)
from tieline_server.matching.matcher import Matcher
from tieline_server.matching.warm import warm

from tests.matching.brute import random_digests

_RNG = np.random.default_rng(1)
_DIGESTS = {kind: random_digests(_RNG, kind, 500) for kind in DigestKind}
_IDS = np.arange(500)


def fill(folder: Path) -> None:
    matcher = Matcher(folder)
    for kind, digests in _DIGESTS.items():
        matcher.add(kind, _IDS, digests)
    matcher.hold(_IDS, matcher.holding_numbers([((1, 0),)] * len(_IDS)))
    matcher.set_applied(7)
    matcher.merge()
    matcher.close()


def answers(matcher: Matcher) -> int:
    """Return how many of the digests put in are found, each with its own id."""
    found = 0
    for kind, digests in _DIGESTS.items():
        near = kind is DigestKind.PDQ
        hits = matcher.near(digests) if near else matcher.exact(kind, digests)
        assert np.array_equal(hits.positions, hits.item_ids)
        found += len(hits.positions)
    return found


def test_a_snapshot_is_private_and_opens_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "indexes"
    fill(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    matcher = Matcher.open(folder)
    assert matcher.applied == 7
    assert matcher.stats()["damage"] is None
    assert answers(matcher) == 2_000
    matcher.close()


def damaged_files(folder: Path) -> list[Path]:
    fill(folder)
    return sorted(folder.iterdir())


def test_one_wrong_byte_in_any_file_is_noticed_and_rebuilt(tmp_path: Path) -> None:
    names = [path.name for path in damaged_files(tmp_path / "names")]
    assert len(names) == 3 * 5 + 5 + 4 + 1
    for name in names:
        folder = tmp_path / f"with-{name}"
        fill(folder)
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        matcher = Matcher.open(folder)
        assert (matcher.applied, answers(matcher)) == (0, 0), name
        assert matcher.stats()["damage"]
        matcher.rebuild([(kind, _IDS, digests) for kind, digests in _DIGESTS.items()], 8)
        assert answers(matcher) == 2_000
        assert matcher.stats()["damage"] is None
        matcher.close()
        again = Matcher.open(folder)
        assert (again.applied, answers(again)) == (8, 2_000)
        again.close()


@pytest.mark.parametrize("fault", ["short", "long", "gone", "manifest short", "manifest names"])
def test_cut_lengthened_and_missing_files_are_noticed(tmp_path: Path, fault: str) -> None:
    fill(tmp_path)
    victim = next(tmp_path.glob("sha1-*.rows"))
    manifest = tmp_path / MANIFEST
    if fault == "short":
        victim.write_bytes(victim.read_bytes()[:-4])
    elif fault == "long":
        victim.write_bytes(victim.read_bytes() + b"1234")
    elif fault == "gone":
        victim.unlink()
    elif fault == "manifest short":
        manifest.write_bytes(manifest.read_bytes()[:100])
    else:
        manifest.write_text(manifest.read_text().replace(victim.name, "../../etc/passwd"))
    matcher = Matcher.open(tmp_path)
    assert (matcher.applied, answers(matcher)) == (0, 0)
    matcher.close()


def test_damage_found_in_the_background_drops_the_snapshot_and_says_so(tmp_path: Path) -> None:
    fill(tmp_path)
    victim = next(tmp_path.glob("md5-*.ids"))
    content = bytearray(victim.read_bytes())
    content[100] ^= 0x40
    victim.write_bytes(content)
    said: list[str] = []
    matcher = Matcher(tmp_path, on_damage=said.append, verify_at_open_bytes=0)
    extra = random_digests(np.random.default_rng(2), DigestKind.MD5, 1)
    matcher.add(DigestKind.MD5, np.array([9_000]), extra)
    assert not matcher.wait_verified()
    assert len(said) == 1
    assert "altered" in said[0]
    assert (matcher.applied, answers(matcher)) == (0, 0)
    assert matcher.exact(DigestKind.MD5, extra).item_ids.tolist() == [9_000]
    matcher.rebuild([(kind, _IDS, digests) for kind, digests in _DIGESTS.items()], 8)
    assert (matcher.applied, answers(matcher)) == (8, 2_000)
    matcher.close()


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    with path.open("r+b") as file:  # as it is mapped
        file.write(content)


def test_damage_found_after_a_merge_left_the_file_in_use_drops_it_too(tmp_path: Path) -> None:
    """A merge takes in what is small, so the check of a large snapshot may end after it."""
    fill(tmp_path)
    matcher = Matcher(tmp_path)
    checked = matcher._snapshot
    extra = random_digests(np.random.default_rng(2), DigestKind.MD5, 1)
    matcher.add(DigestKind.MD5, np.array([9_000]), extra)
    matcher.set_applied(8)
    alter(next(tmp_path.glob("sha1-*.rows")))
    matcher.merge(whole=False)
    matcher._check(checked)
    assert (matcher.applied, answers(matcher)) == (0, 0)
    matcher.close()
    again = Matcher.open(tmp_path)
    assert again.applied == 0
    again.close()


def test_a_merge_during_which_the_snapshot_is_dropped_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    matcher = Matcher(tmp_path)
    extra = random_digests(np.random.default_rng(2), DigestKind.MD5, 1)
    matcher.add(DigestKind.MD5, np.array([9_000]), extra)
    save = snapshots.save

    def found_first(store: FolderStore, made: snapshots.Snapshot, secret: bytes) -> None:
        save(store, made, secret)
        alter(next(tmp_path.glob("sha1-*.rows")))
        matcher._check(matcher._snapshot)

    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "save", found_first)
        with pytest.raises(IndexDamaged):
            matcher.merge(whole=False)
    assert (matcher.applied, answers(matcher)) == (0, 0)
    assert matcher.exact(DigestKind.MD5, extra).item_ids.tolist() == [9_000]
    matcher.close()
    again = Matcher.open(tmp_path)
    assert again.applied == 0
    again.close()


@pytest.mark.parametrize("name", ["numbers", "pairs"])
def test_a_merge_takes_no_damaged_holdings_over(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    matcher = Matcher(tmp_path)
    extra = random_digests(np.random.default_rng(2), DigestKind.MD5, 1)
    matcher.add(DigestKind.MD5, np.array([9_000]), extra)
    alter(next(tmp_path.glob(f"holdings-*.{name}")))
    with pytest.raises(IndexDamaged, match="altered"):
        matcher.merge(whole=False)
    assert matcher.applied == 0
    matcher.close()


def test_a_sound_snapshot_passes_the_background_check(tmp_path: Path) -> None:
    fill(tmp_path)
    matcher = Matcher(tmp_path, verify_at_open_bytes=0)
    assert answers(matcher) == 2_000
    assert matcher.wait_verified()
    assert matcher.stats()["verified"]
    matcher.close()


def test_a_merge_that_fails_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    matcher = Matcher(tmp_path)
    extra = random_digests(np.random.default_rng(3), DigestKind.SHA1, 50)
    matcher.add(DigestKind.SHA1, np.arange(50) + 1_000, extra)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", _no_space)
        with pytest.raises(OSError, match="no space"):
            matcher.merge()
    assert answers(matcher) == 2_000
    assert len(matcher.exact(DigestKind.SHA1, extra).item_ids) == 50
    matcher.merge()
    assert matcher.stats()["rows"]["sha1"] == 550
    assert len(matcher.exact(DigestKind.SHA1, extra).item_ids) == 50
    matcher.close()


def _no_space(descriptor: int) -> None:
    raise OSError(28, "no space")


_KILLED_MERGES = """
import os, shutil, signal, sys
from pathlib import Path
import numpy as np
from tieline_client.digests import DigestKind
from tieline_server.matching.matcher import Matcher

def die_at(name, at):
    real, calls = getattr(os, name), [0]
    def call(*args, **kwargs):
        calls[0] += 1
        if calls[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(os, name, call)

template, work = Path(sys.argv[1]), Path(sys.argv[2])
shutil.copytree(template, work / "first")
first = Matcher(work / "first")  # so that no child has to load kernels
first.add(DigestKind.SHA1, np.arange(900, 903), np.full((3, 20), 9, dtype=np.uint8))
first.erase(np.array([5]))
first.set_applied(8)
first.merge()
first.close()
survived = 0
for name in ("fsync", "open", "unlink", "replace", "rename"):
    for at in range(1, 40):
        folder = work / f"{name}-{at}"
        shutil.copytree(template, folder)
        child = os.fork()
        if child == 0:
            matcher = Matcher(folder)
            matcher.add(DigestKind.SHA1, np.arange(900, 903), np.full((3, 20), 9, dtype=np.uint8))
            matcher.erase(np.array([5]))
            matcher.set_applied(8)
            die_at(name, at)
            matcher.merge()
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            break
        survived += 1
print(survived)
"""


def test_killed_at_any_step_of_a_merge_the_folder_still_opens(tmp_path: Path) -> None:
    template, work = tmp_path / "template", tmp_path / "work"
    fill(template)
    work.mkdir()
    run = subprocess.run(
        [sys.executable, "-c", _KILLED_MERGES, str(template), str(work)],
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert int(run.stdout) > 20
    outcomes = set()
    for folder in work.iterdir():
        matcher = Matcher.open(folder)
        outcomes.add((matcher.applied, answers(matcher)))
        assert matcher.stats()["damage"] is None
        named = {section.file for section in _sections(matcher)} | {MANIFEST}
        assert {path.name for path in folder.iterdir()} == named
        matcher.close()
    assert outcomes == {(7, 2_000), (8, 1_996)}


def _sections(matcher: Matcher) -> list[Section]:
    return [section for section, _ in matcher._snapshot.arrays()]


def test_warming_fills_a_private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    cache = tmp_path / "cache"
    warm(cache)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    compiled = {path.name.split("-")[0] for path in cache.rglob("*.nbi")}
    assert {"exact.probe_table", "exact.probe_delta", "near_kernels.search_table"} <= compiled
    before = sorted((path, path.stat().st_mtime_ns) for path in cache.rglob("*.nbc"))
    warm(cache)
    assert before == sorted((path, path.stat().st_mtime_ns) for path in cache.rglob("*.nbc"))


def test_an_index_of_format_4_is_brought_forward(tmp_path: Path) -> None:
    """It had no first filter: to make it all anew would take minutes at fifty million."""
    fill(tmp_path)
    store = FolderStore(tmp_path)
    body = store.manifest()
    assert body is not None and body["format"] == FORMAT
    body["format"] = 4
    for label in ("md5", "sha1", "sha256"):
        for segment in body["segments"][label]:
            del segment["starts"], segment["sections"]["lines"]
    store.commit(body, [one.name for one in tmp_path.iterdir() if one.suffix != ".lines"])
    assert not list(tmp_path.glob("*.lines"))
    for _ in range(2):
        matcher = Matcher.open(tmp_path)
        assert (matcher.applied, answers(matcher)) == (7, 2_000)
        assert matcher.stats()["damage"] is None
        matcher.close()
        assert len(list(tmp_path.glob("*.lines"))) == 3
    after = store.manifest()
    assert after is not None and after["format"] == FORMAT


def test_an_index_of_a_later_format_is_made_anew(tmp_path: Path) -> None:
    fill(tmp_path)
    store = FolderStore(tmp_path)
    body = store.manifest()
    assert body is not None
    store.commit(body | {"format": FORMAT + 1}, [one.name for one in tmp_path.iterdir()])
    matcher = Matcher.open(tmp_path)
    assert matcher.stats()["damage"]
    matcher.close()
