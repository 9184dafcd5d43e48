"""certs-example: what its script makes holds, and what its README shows is what one sees."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tieline_client import keys, tls
from tieline_client.certificates import Kind, Purpose, check_leaf

from tests.trust.forging import make_world
from tests.trust.handshakes import serving

FOLDER = Path(__file__).parents[2] / "certs-example"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:7443"


def shown() -> list[tuple[str, list[str]]]:
    """Every command of the README with the lines that it shows below it."""
    commands: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            else:
                commands[-1][1].append(line)
    return commands


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs") / "example"
    made = make(folder)
    assert made.returncode == 0
    assert "plain files" in made.stderr
    return folder


@pytest.fixture(scope="module")
def address(out: Path) -> Iterator[str]:
    """A real gRPC listener with pt-pj's node leaf and the roots of a federation port."""
    identity = tls.Identity(
        (out / "pt-pj/node.pem").read_bytes(), (out / "pt-pj/node.key").read_bytes()
    )
    cas = [ca for agency in pinned(out, Kind.NODE).values() for ca in agency]
    with serving(make_world("example"), identity, cas) as (_, where):
        yield where


def make(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER / "make.py"), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )


def pinned(out: Path, kind: Kind) -> dict[str, list[bytes]]:
    return {
        file.parent.name: [tls.to_der(file.read_bytes())]
        for file in sorted(out.glob(f"*/{kind.value}-ca.pem"))
    }


@pytest.mark.parametrize(("command", "lines"), shown(), ids=lambda value: str(value)[:60])
def test_the_readme_shows_what_one_sees(
    command: str, lines: list[str], out: Path, address: str
) -> None:
    result = subprocess.run(
        ["bash", "-c", command.replace(ADDRESS, address)],
        cwd=out,
        capture_output=True,
        text=True,
        errors="replace",  # a server's first HTTP/2 frames may be among it
        check=False,
        timeout=300,
    )
    # OpenSSL's versions differ in blanks only ("O = x", "O=x").
    printed = re.sub(r"[ \t]", "", f"{result.stdout}\n{result.stderr}")
    for line in lines:
        wanted = ".*".join(re.escape(part) for part in re.sub(r"[ \t]", "", line).split("..."))
        assert re.search(f"^{wanted}$", printed, re.MULTILINE), printed


def test_the_readme_touches_every_kind_of_file_and_a_node() -> None:
    text = " ".join(command for command, _ in shown())
    for word in ("x509", "verify", "s_client", "pkey", "authorityKeyIdentifier", "-text"):
        assert word in text


def test_every_leaf_passes_the_checks_of_a_node(out: Path) -> None:
    now = datetime.now(UTC)
    people = {"europol-ec3": "jan.novak", "pt-pj": "ana.silva", "us-ice": "kim.jones"}
    for agency, person in people.items():
        for purpose in Purpose:
            identity = check_leaf(
                tls.to_der((out / agency / "node.pem").read_bytes()),
                federation="example",
                kind=Kind.NODE,
                purpose=purpose,
                pinned=pinned(out, Kind.NODE),
                is_revoked=lambda *_: False,
                now=now,
                agency=agency,
            )
            assert identity.agency == agency
        identity = check_leaf(
            tls.to_der((out / agency / f"{person}.pem").read_bytes()),
            federation="example",
            kind=Kind.OPERATOR,
            purpose=Purpose.CALLER,
            pinned=pinned(out, Kind.OPERATOR),
            is_revoked=lambda *_: False,
            now=now,
        )
        assert identity.spiffe.operator == person
        assert keys.keyid(keys.load(out / agency / "signing.key")) == (
            (out / agency / "signing.keyid").read_text().strip()
        )


def test_what_openssl_alone_makes_is_accepted_by_a_node(tmp_path: Path) -> None:
    out = tmp_path / "example"
    assert make(out).returncode == 0
    for command, _ in shown():
        if any(name in command for name in ("leaf.ext", "node.csr", "node-encrypted.key")):
            subprocess.run(["bash", "-c", command], cwd=out, check=True, capture_output=True)
    identity = check_leaf(
        tls.to_der((out / "node-offline.pem").read_bytes()),
        federation="example",
        kind=Kind.NODE,
        purpose=Purpose.SERVER,
        pinned=pinned(out, Kind.NODE),
        is_revoked=lambda *_: False,
        now=datetime.now(UTC),
    )
    assert identity.agency == "pt-pj"
    encrypted = keys.load(out / "node-encrypted.key", b"example")
    assert keys.keyid(encrypted) == keys.keyid(keys.load(out / "pt-pj/node.key"))


def test_a_folder_with_something_in_it_is_left_alone(out: Path) -> None:
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    again = make(out)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "not an empty folder" in again.stderr
    assert before == {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}


def test_no_key_or_certificate_stands_beside_the_script() -> None:
    files = {file.name for file in FOLDER.iterdir() if file.name != "__pycache__"}
    assert files == {"README.md", "make.py"}
