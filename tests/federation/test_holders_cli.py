"""Holders on machines of their own: copies of the folder, signatures collected, a new root."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.federation.building import NOW, Agency, refusal, succeed, write_request

PJ = Agency("pt-pj")


@pytest.fixture
def secret(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "passphrase"
    path.write_text("correct horse\n")
    path.chmod(0o600)
    return {"TIELINE_PASSPHRASE_FILE": str(path)}


@pytest.fixture
def authority(tmp_path: Path, secret: dict[str, str]) -> Path:
    folder = tmp_path / "authority"
    succeed("init", folder, "--name", "fed", "--keys", 3, "--threshold", 2, **secret)
    return folder


def _copy_for_holder(authority: Path, name: str) -> Path:
    """What crosses to a holder: no keys, no online keys."""
    return shutil.copytree(
        authority,
        authority.with_name(name),
        ignore=shutil.ignore_patterns("keys", "online", ".lock"),
    )


def _admit(authority: Path, tmp_path: Path) -> str:
    request = PJ.request(NOW)
    path = write_request(tmp_path / "request.json", request)
    succeed(
        "admit", authority, path, "--role", "national", "--country", "PT",
        "--fingerprint", request.fingerprint,
    )  # fmt: skip
    return request.fingerprint


def test_two_holders_sign_apart_and_the_signatures_meet(
    authority: Path, tmp_path: Path, secret: dict[str, str]
) -> None:
    fingerprint = _admit(authority, tmp_path)
    for number in (1, 3):
        copy = _copy_for_holder(authority, f"holder-{number}")
        key = authority / "keys" / f"holder-{number}.pem"
        # The second person compares the fingerprint as well.
        message = refusal(3, "sign", copy, "--key", key, "--fingerprint", "ab" * 32, **secret)
        assert "pt-pj" in message
        signed = succeed("sign", copy, "--key", key, "--fingerprint", fingerprint, **secret)
        assert not signed["in_force"]
    (status,) = [succeed("status", authority)["proposal"]]
    assert status["have"] == 0
    first = succeed("collect", authority, tmp_path / "holder-1" / "proposed" / "proposal.json")
    assert (first["in_force"], first["signatures"]) == (False, {"have": 1, "need": 2})
    again = succeed("collect", authority, tmp_path / "holder-1" / "proposed" / "proposal.json")
    assert again["signatures"] == {"have": 1, "need": 2}
    second = succeed("collect", authority, tmp_path / "holder-3" / "proposed" / "proposal.json")
    assert second["in_force"]
    assert succeed("status", authority)["members"] == 1


def test_a_file_that_proposes_something_else_is_refused(
    authority: Path, tmp_path: Path, secret: dict[str, str]
) -> None:
    told = ("--fingerprint", _admit(authority, tmp_path))
    copy = _copy_for_holder(authority, "holder-1")
    succeed("purpose", copy, "extra", "Slipped in")
    key = authority / "keys" / "holder-1.pem"
    succeed("sign", copy, "--key", key, *told, **secret)
    message = refusal(3, "collect", authority, copy / "proposed" / "proposal.json")
    assert "something else" in message
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    refusal(3, "collect", authority, broken)


def test_an_admission_without_its_request_is_not_signed(
    authority: Path, tmp_path: Path, secret: dict[str, str]
) -> None:
    import json

    _admit(authority, tmp_path)
    path = authority / "proposed" / "proposal.json"
    document = json.loads(path.read_text())
    document["requests"] = {}
    path.write_text(json.dumps(document))
    key = authority / "keys" / "holder-1.pem"
    assert "without its request" in refusal(3, "sign", authority, "--key", key, **secret)


def test_holders_change_and_those_of_before_sign_nothing_any_more(
    authority: Path, tmp_path: Path, secret: dict[str, str]
) -> None:
    publics = []
    for name in ("a", "b"):
        made = succeed("holder-key", tmp_path / f"{name}.pem", **secret)
        assert Path(made["key"]).stat().st_mode & 0o777 == 0o600
        publics += ["--holder", made["public"]]
    proposed = succeed("rotate", authority, *publics, "--threshold", 2, "--online")
    assert not proposed["in_force"]
    assert "new online keys" in proposed["changes"]
    assert sum(text.startswith("new holder") for text in proposed["changes"]) == 2
    for number in (1, 2):
        key = authority / "keys" / f"holder-{number}.pem"
        assert not succeed("sign", authority, "--key", key, **secret)["in_force"]
    assert not succeed("sign", authority, "--key", tmp_path / "a.pem", **secret)["in_force"]
    done = succeed("sign", authority, "--key", tmp_path / "b.pem", **secret)
    assert done["in_force"]
    assert not (authority / "online.next").exists()
    status = succeed("status", authority)
    assert (status["root_version"], status["holders"], status["threshold"]) == (2, 2, 2)
    succeed("publish", authority)
    succeed("purpose", authority, "later", "Later")
    old = authority / "keys" / "holder-1.pem"
    assert "no holder" in refusal(3, "sign", authority, "--key", old, **secret)
    for name in ("a", "b"):
        signed = succeed("sign", authority, "--key", tmp_path / f"{name}.pem", **secret)
    assert signed["in_force"]


@pytest.mark.parametrize("threshold", [0, 4])
def test_a_threshold_that_nobody_reaches(authority: Path, threshold: int) -> None:
    assert "no threshold" in refusal(2, "rotate", authority, "--threshold", threshold)
    assert succeed("status", authority)["proposal"] is None


def test_a_member_restates_itself_without_a_holder(
    authority: Path, tmp_path: Path, secret: dict[str, str]
) -> None:
    from datetime import timedelta

    told = ("--fingerprint", _admit(authority, tmp_path))
    for number in (1, 2):
        key = authority / "keys" / f"holder-{number}.pem"
        succeed("sign", authority, "--key", key, *told, **secret)
    newer = PJ.request(NOW + timedelta(seconds=5), endpoints=("10.1.1.1:7443",))
    path = write_request(tmp_path / "newer.json", newer)
    assert succeed("accept", authority, path)["agency"] == "pt-pj"
    shown = succeed("show", authority)
    assert shown["members"][0]["endpoints"] == ["10.1.1.1:7443"]
    older = write_request(tmp_path / "older.json", PJ.request(NOW - timedelta(seconds=5)))
    assert "not newer" in refusal(3, "accept", authority, older)
