"""Profiles, and a node that is not there, not ours, or does not accept us."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from grpc import StatusCode
from tieline.v1 import operator_pb2 as pb
from tieline_client import keys
from tieline_client.errors import ConfigurationError, Unreachable, UsageError
from tieline_client.key_encryption import encrypt_pkcs8
from tieline_client.operator_client import OperatorClient
from tieline_client.profile import OperatorCertificateExpired, Profile, find_profile

from tests.cli.node_double import Refusal, Run, Served, make_people

OPERATOR = pb.DESCRIPTOR.services_by_name["OperatorService"].methods_by_name


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_a_profile_survives_saving(served: Served, tmp_path: Path) -> None:
    loaded = Profile.load(served.profile)
    assert served.profile.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(served.profile.read_bytes())) == {
        *("agency", "federation", "operator", "address", "target_name"),
        *("node_ca", "certificate", "key"),
    }
    loaded.save(tmp_path / "copy.json")
    assert Profile.load(tmp_path / "copy.json") == loaded
    with pytest.raises(ConfigurationError, match="never overwritten"):
        loaded.save(tmp_path / "copy.json")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_profile_that_others_may_read_is_refused(served: Served, mode: int) -> None:
    served.profile.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Profile.load(served.profile)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\xff\xfe", b'{"agency": "pt-pj"}', b"{" * 50_000, b"x" * 100_000],
)
def test_what_is_no_profile_is_told_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="profile"):
        Profile.load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("agency", "PT PJ"),
        ("federation", "/"),
        ("operator", "Ana\n"),
        ("address", "nowhere"),
        ("address", "host:0"),
        ("target_name", "evil.example"),
        ("key", ""),
    ],
)
def test_a_profile_with_a_wrong_field_is_refused(
    served: Served, tmp_path: Path, field: str, value: str
) -> None:
    document = json.loads(served.profile.read_bytes())
    document[field] = value
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    with pytest.raises(ConfigurationError):
        Profile.load(path)


def test_a_home_names_its_first_operator(served: Served, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "operators").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="no profile"):
        find_profile(None, home)
    (home / "operators" / "b.json").touch()
    assert find_profile(None, home) == home / "operators" / "b.json"
    (home / "operators" / "a.json").touch()
    with pytest.raises(ConfigurationError, match="several"):
        find_profile(None, home)
    (home / "config.toml").write_text('first_operator = "b"\n')
    assert find_profile(None, home) == home / "operators" / "b.json"
    (home / "config.toml").write_text("first_operator = \n")
    with pytest.raises(ConfigurationError, match="TOML"):
        find_profile(None, home)


def test_somebody_must_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TIELINE_PROFILE", raising=False)
    with pytest.raises(UsageError, match="say who you are"):
        find_profile(None, None)
    with pytest.raises(UsageError, match="not both"):
        find_profile(tmp_path, tmp_path)
    with pytest.raises(ConfigurationError, match="no node's home"):
        find_profile(None, tmp_path / "absent")


def test_a_node_that_is_not_running_exits_4(run: Run, served: Served, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    path = tmp_path / "away.json"
    served.people.profile(address).save(path)
    result = run("hashes", "stats", "--profile", path, "--json")
    assert result.code == 4
    assert result.out == ""
    assert result.err.strip() == (
        f"error: the node at {address} does not answer; start it with `tieline node serve HOME`"
    )


def test_an_import_into_a_node_that_is_not_there_exits_4(
    run: Run, served: Served, tmp_path: Path
) -> None:
    path = tmp_path / "away.json"
    served.people.profile(f"127.0.0.1:{free_port()}").save(path)
    hashes = tmp_path / "a.txt"
    hashes.write_text("a" * 32 + "\n")
    result = run("hashes", "import", hashes, hashes, "--profile", path, "--json")
    assert result.code == 4
    assert len(result.document["files"]) == 1


def test_another_agencys_node_is_not_trusted(run: Run, served: Served, tmp_path: Path) -> None:
    strangers = make_people()
    path = tmp_path / "stranger.json"
    strangers.profile(served.address).save(path)
    result = run("hashes", "stats", "--profile", path)
    assert result.code == 3
    assert served.node.requests == {}


def test_an_expired_certificate_is_named(run: Run, served: Served, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    past = datetime.now(UTC) - timedelta(hours=20)
    served.people.profile(served.address, now=past, life=timedelta(hours=1)).save(path)
    with pytest.raises(OperatorCertificateExpired):
        OperatorClient(Profile.load(path))
    result = run("hashes", "stats", "--profile", path)
    assert result.code == 3
    assert "tieline operator add ana.silva" in result.err
    assert served.node.requests == {}


def test_an_encrypted_key_needs_its_passphrase(
    run: Run, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    profile = Profile.load(served.profile)
    der = load_pem_private_key(profile.key.encode(), None).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    document = json.loads(served.profile.read_bytes())
    document["key"] = encrypt_pkcs8(der, b"correct horse").decode()
    locked = tmp_path / "locked.json"
    locked.write_text(json.dumps(document))
    locked.chmod(0o600)
    result = run("hashes", "stats", "--profile", locked)
    assert result.code == 1
    assert "TIELINE_PASSPHRASE_FILE" in result.err

    secret = tmp_path / "passphrase"
    secret.write_text("wrong\n")
    secret.chmod(0o600)
    monkeypatch.setenv("TIELINE_PASSPHRASE_FILE", str(secret))
    result = run("hashes", "stats", "--profile", locked)
    assert result.code == 1
    assert "wrong" not in result.err
    secret.write_text("correct horse\n")
    assert run("hashes", "stats", "--profile", locked).code == 0


def test_a_key_of_another_certificate_is_refused(served: Served) -> None:
    other = keys.private_pem(keys.generate()).decode()
    with pytest.raises(ConfigurationError, match="does not belong"):
        OperatorClient(served.people.profile(served.address, key=other))


def test_what_the_node_says_of_a_peer_is_kept(served: Served) -> None:
    served.node.answers["GetStats"] = Refusal(
        StatusCode.UNAVAILABLE, "UNREACHABLE", "us-ice does not answer"
    )
    with (
        OperatorClient(Profile.load(served.profile)) as client,
        pytest.raises(Unreachable, match="us-ice does not answer"),
    ):
        client.get_stats()


def test_pages_of_series_are_joined_and_cannot_go_round(served: Served) -> None:
    def page(name: str, token: str) -> pb.ListSeriesResponse:
        view = pb.SeriesView()
        view.notice.id = name
        return pb.ListSeriesResponse(series=[view], next_page_token=token)

    served.node.answers["ListSeries"] = [page("a", "a"), page("b", "b"), page("c", "a")]
    with OperatorClient(Profile.load(served.profile)) as client:
        assert [each.notice.id for each in client.list_series()] == ["a", "b", "c"]


def test_every_rpc_of_the_service_has_a_caller() -> None:
    snake = {"".join(f"_{c.lower()}" if c.isupper() else c for c in name)[1:] for name in OPERATOR}
    renamed = {"import": "import_file", "ask_brief": "ask_overlap"}
    assert {renamed.get(each, each) for each in snake} <= set(dir(OperatorClient))


def test_a_disk_without_room_is_noticed_before_a_certificate_is_made(
    served: Served, tmp_path: Path
) -> None:
    """A new certificate ends the old one: whoever could not write it down was locked out."""
    out = tmp_path / "new.json"
    command: list[str | Path] = [Path(sys.executable).with_name("tieline"), "operator", "add"]
    full = subprocess.run(
        [*command, "ana", "--role", "admin", "--out", out, "--profile", served.profile],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},  # the limit would cut those off
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert (full.returncode, full.stdout) == (1, "")
    assert f"{out} cannot be written: " in full.stderr
    assert not out.exists()
    assert "AddOperator" not in served.node.requests


def test_a_refused_person_leaves_no_profile(run: Run, served: Served, tmp_path: Path) -> None:
    served.node.answers["AddOperator"] = Refusal(
        StatusCode.FAILED_PRECONDITION, "WRONG_STATE", "not now"
    )
    out = tmp_path / "new.json"
    said = run("operator", "add", "ana", "--role", "analyst", "--out", out)
    assert (said.code, said.err) == (1, "error: not now\n")
    assert not out.exists()
