"""Keys at rest, secrets nowhere else, what ends announced, and what `tieline doctor` says of it."""

from __future__ import annotations

import json
import shutil
import signal
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.profile import utc_now
from tieline_server import at_rest
from tieline_server.config import Home
from tieline_server.trust.authority import issue_node_leaf, load_agency_authority

from tests.e2e.federation import (
    Federation,
    Node,
    Result,
    free_port,
    tieline,
    tieline_process,
    wait_for,
)
from tests.faults.world import faked_time

SECRET, NEXT = "swordfish-in-the-attic", "another-word-for-the-attic"
LOCKED, PLAIN = "pt-pj", "es-gc"


def _secret(path: Path, words: str) -> Path:
    path.touch(0o600)
    path.write_text(f"{words}\n")
    return path


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    _secret(folder / "first", SECRET)
    _secret(folder / "next", NEXT)
    return folder


@pytest.fixture(scope="module")
def trial(
    tmp_path_factory: pytest.TempPathFactory, secrets: Path
) -> Iterator[tuple[Federation, list[Result]]]:
    """pt-pj under a passphrase from the start; es-gc with plain keys and metrics."""
    made = Federation(tmp_path_factory.mktemp("at-rest")).found()
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(keys.PASSPHRASE_VARIABLE, str(secrets / "first"))
        made.init(LOCKED, "national", "PT")
    made.init(PLAIN, "national", "ES", metrics_listen=f"127.0.0.1:{free_port()}")
    for node in made:
        with pytest.MonkeyPatch.context() as patch:
            if node.agency == LOCKED:
                patch.setenv(keys.PASSPHRASE_VARIABLE, str(secrets / "first"))
            said.append(
                tieline("node", "join", node.home, "--federation", made.authority / "public").ok()
            )
    made[LOCKED].start(TIELINE_PASSPHRASE_FILE=str(secrets / "first"))
    made[PLAIN].start()
    try:
        yield made, said
    finally:
        made.close()


def _doctor(node: Node, *words: object) -> tuple[Result, dict[str, list[Any]]]:
    result = tieline("doctor", "--home", node.home, "--json", *words)
    by_check: dict[str, list[Any]] = {}
    for one in result.json["findings"]:
        by_check.setdefault(one["check"], []).append(one)
    return result, by_check


def _states(found: list[Any]) -> set[str]:
    return {one["state"] for one in found}


def test_every_private_key_of_a_home_is_encrypted(
    trial: tuple[Federation, list[Result]], secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = trial[0][LOCKED]
    home = Home(node.home)
    files = list(at_rest.private_key_files(home))
    assert {path.name for path in files} >= {"node.key", "node-ca.key", "admin.json"}
    assert at_rest.plain_keys(home) == []
    for path in files:
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    without = node.run("hashes", "stats")
    assert without.code == 1
    assert keys.PASSPHRASE_VARIABLE in without.err
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, str(secrets / "first"))
    assert node.stats()["items"] == 0


def test_the_secret_is_nowhere_but_in_its_file(
    trial: tuple[Federation, list[Result]],
    secrets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """init, join, serve, renew, and what fails: no output, log, command line or environment."""
    node = trial[0][LOCKED]
    wrong = _secret(tmp_path / "wrong", "swordfish-in-the-cellar")
    texts = [one.out + one.err for one in trial[1]]
    for source in (secrets / "first", wrong, tmp_path / "missing"):
        monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, str(source))
        for words in (
            ("node", "renew", node.home),
            ("node", "join", node.home, "--federation", trial[0].authority / "public"),
            ("hashes", "stats", "--home", node.home),
            ("node", "status", node.home),
            ("node", "serve", node.home),
            ("node", "passphrase", node.home, "--new-passphrase-file", secrets / "next"),
        ):
            # A process of its own where signals and limits are set.
            result = (tieline_process if words[1] == "serve" else tieline)(*words)
            if words[1] in ("serve", "passphrase"):  # the running node holds the home
                assert result.code == 1
            texts.append(result.out + result.err)
            assert result.code == 0 or result.err.count("\n") >= 1
    assert node.process is not None
    process = Path("/proc") / str(node.process.pid)
    for name in ("cmdline", "environ"):
        texts.append((process / name).read_bytes().decode("utf-8", "replace"))
    texts.append(node.log.read_text("utf-8", "replace"))
    for text in texts:
        for secret in (SECRET, NEXT, "swordfish-in-the-cellar"):
            assert secret not in text
    limits = (process / "limits").read_text()
    (core,) = [line.split() for line in limits.splitlines() if line.startswith("Max core")]
    assert core[4] in ("0", "1")  # 1 byte: no file, and no pipe to a collector either


def test_the_passphrase_is_changed_and_plain_keys_are_encrypted(
    trial: tuple[Federation, list[Result]],
    secrets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = trial[0]
    copy = Node(tmp_path / PLAIN, PLAIN, 1, 1)
    shutil.copytree(made[PLAIN].home, copy.home, ignore=shutil.ignore_patterns("database*"))
    copy.home.chmod(0o700)
    home = Home(copy.home)
    assert at_rest.plain_keys(home)

    def change(new: Path) -> Result:
        return tieline("node", "passphrase", copy.home, "--new-passphrase-file", new, "--json")

    short = change(_secret(tmp_path / "short", "short"))
    assert (short.code, len(at_rest.plain_keys(home)) > 0) == (2, True)
    assert change(secrets / "first").ok().json["keys"] == len(list(at_rest.private_key_files(home)))
    assert at_rest.plain_keys(home) == []
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, str(secrets / "next"))
    before = {path: path.read_bytes() for path in at_rest.private_key_files(home)}
    # Neither the old one, which was not given, nor the new one opens them: nothing changes.
    refused = change(_secret(tmp_path / "third", "a-third-word-for-all"))
    assert refused.code == 1
    assert {path: path.read_bytes() for path in before} == before
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, str(secrets / "first"))
    # Cut off half-way: some files are under the next one already.
    first = sorted(before)[0]
    key = keys.load(first, SECRET.encode())
    first.write_bytes(keys.to_pem(key, NEXT.encode()))
    left = home.keys / ".new-half"
    left.write_bytes(b"half a file")
    left.chmod(0o600)
    for known in ("first", "next"):  # neither opens all of them
        monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, str(secrets / known))
        unopened = tieline_process("node", "serve", copy.home)
        assert unopened.code == 1 and "with the same new one" in unopened.err, unopened.err
        assert f"tieline node passphrase {copy.home}" in unopened.err
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, str(secrets / "first"))
    change(secrets / "next").ok()
    assert not left.exists()
    for path in home.keys.glob("*.key"):
        keys.load(path, NEXT.encode())
    assert keys.public_der(keys.load(first, NEXT.encode())) == keys.public_der(key)


def test_a_home_that_is_open_to_others_is_not_served(
    trial: tuple[Federation, list[Result]], tmp_path: Path
) -> None:
    home = Home(tmp_path / PLAIN)
    shutil.copytree(trial[0][PLAIN].home, home.path, ignore=shutil.ignore_patterns("database*"))
    home.path.chmod(0o700)
    for path, loose, right in (
        (home.keys / "signing.key", 0o640, 0o600),
        (home.certs / "node.pem", 0o644, 0o600),
        (home.operators / "admin.json", 0o604, 0o600),
        (home.config_file, 0o644, 0o600),
        (home.keys, 0o750, 0o700),
        (home.path, 0o755, 0o700),
    ):
        path.chmod(loose)
        refused = tieline_process("node", "serve", home.path)
        assert refused.code == 1
        assert f"chmod {right:o} {path}" in refused.err, refused.err
        assert refused.err.count("\n") == 1
        found = {one.path for one in at_rest.loose(home)}
        assert path in found
        path.chmod(right)
    assert at_rest.loose(home) == []


def test_a_healthy_federation_and_its_doctor(trial: tuple[Federation, list[Result]]) -> None:
    result, found = _doctor(trial[0][PLAIN])
    assert result.code == 0, result.out
    for check in ("permissions", "directory", "peer", "tls", "index", "storage", "policy", "audit"):
        assert _states(found[check]) == {"well"}, found[check]
    assert len(found["tls"]) == 2
    assert f"{LOCKED} answers" in found["peer"][0]["text"]
    assert _states(found["keys"]) == {"warning"}
    assert _states(found["backup"]) == {"warning"}
    assert all(one["advice"] for lines in found.values() for one in lines if one["state"] != "well")
    shown = tieline("doctor", "--home", trial[0][PLAIN].home)
    assert shown.code == 0
    assert "-> " in shown.out
    status = tieline("node", "status", trial[0][PLAIN].home, "--json").ok().json
    assert any("plain files" in one for one in status["warnings"])


def _authority(node: Node) -> Any:
    home = Home(node.home)
    return load_agency_authority(
        Kind.NODE,
        "trial-eu",
        node.agency,
        (home.certs / "node-ca.pem").read_bytes(),
        keys.load(home.keys / "node-ca.key"),
    )


def test_what_ends_is_announced_in_status_log_metrics_and_by_the_doctor(
    trial: tuple[Federation, list[Result]],
) -> None:
    """An offline CA's leaf with six days left, in a node that serves."""
    node = trial[0][PLAIN]
    home = Home(node.home)
    own = _authority(node)
    key = keys.load(home.keys / "node.key").public_key()
    leaf = issue_node_leaf(own, key, now=utc_now(), life=timedelta(days=6))
    away = home.path.with_name("es-ca.key")
    (home.keys / "node-ca.key").rename(away)
    assert node.stop() == 0
    home.node_leaf.write_bytes(leaf.public_bytes(Encoding.PEM))
    node.start()
    try:
        status = tieline("node", "status", node.home, "--json").ok().json
        assert any(one.startswith("the node's leaf ends") for one in status["warnings"])
        assert node.process is not None
        node.process.send_signal(signal.SIGHUP)
        wait_for("the log says so", lambda: "expiry.announced" in node.log.read_text())
        _, found = _doctor(node)
        assert any(
            one["state"] == "warning" and "node.csr" in one["advice"] for one in found["expiry"]
        )
        config = home.config()
        with urllib.request.urlopen(f"http://{config.metrics_listen}/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            lines = answer.read().decode().splitlines()
        assert 'tieline_expiry_announced{what="the node\'s leaf"} 1' in lines
        assert 'tieline_expiry_announced{what="the directory"} 0' in lines
        stamp = f"{leaf.not_valid_after_utc.timestamp():.15g}"
        assert f'tieline_expiry_timestamp_seconds{{what="the node\'s leaf"}} {stamp}' in lines
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://{config.metrics_listen}/")
    finally:
        away.rename(home.keys / "node-ca.key")


def test_the_doctor_of_a_node_in_trouble(
    trial: tuple[Federation, list[Result]], monkeypatch: pytest.MonkeyPatch, secrets: Path
) -> None:
    made = trial[0]
    node = made[PLAIN]
    assert made[LOCKED].stop() == 0
    made[LOCKED].start(TIELINE_PASSPHRASE_FILE=str(secrets / "first"), **faked_time("+2h"))
    # A connection that was refused while it started is tried again after a moment.
    wait_for("they have met again", lambda: _doctor(node)[0].code == 0)
    result, found = _doctor(node)
    assert result.code == 0
    # Both clocks are within the tolerance; which of two is wrong nobody can say.
    said = [one["text"] for one in found["clock"] if one["state"] == "warning"]
    ahead = next(one for one in said if LOCKED in one)
    seconds = float(ahead.split("its clock is ")[1].split(" s ahead")[0])
    assert 7_100 < seconds < 7_300
    assert any("it is this clock" in one for one in said)
    assert all("NTP" in one["advice"] for one in found["clock"])

    assert made[LOCKED].stop() == 0
    result, found = _doctor(node)
    assert result.code == 4
    (peer,) = found["peer"]
    assert peer["state"] == "failed"
    assert LOCKED in peer["text"]

    (node.home / "keys" / "node.key").chmod(0o640)
    result, found = _doctor(node)
    assert result.code == 1
    assert found["permissions"][0]["advice"] == f"chmod 600 {node.home / 'keys' / 'node.key'}"
    (node.home / "keys" / "node.key").chmod(0o600)

    file = node.home.with_name("held.txt")
    file.write_text("".join(f"sha1:{number:040x}\n" for number in range(1, 500)))
    node.import_file(file)
    _, found = _doctor(node)
    assert _states(found["index"]) == {"well"}
    assert node.stop() == 0
    result, found = _doctor(node)
    assert result.code == 1
    assert "does not answer" in found["node"][0]["text"]
    _flip_a_byte(node.home / "indexes", "sha1-*.rows")
    node.alter(
        "update audit_leaves set leaf_hash = x'00' where position = "
        "(select max(position) - 1 from audit_leaves)"
    )
    node.start()
    wait_for("the index is built anew", lambda: _is_indexed(node))
    result, found = _doctor(node)
    assert result.code == 1
    assert "was changed" in found["audit"][0]["text"]
    (damaged,) = [one for one in found["index"] if one["state"] == "warning"]
    assert "built anew" in damaged["text"] and "disk" in damaged["advice"]
    # What is built anew is whole.
    assert "well" in _states(found["index"])
    assert node.stats()["items"] == 499


def _is_indexed(node: Node) -> bool:
    stats = node.stats()
    return bool(stats["index_generation"] >= stats["generation"] > 0)


def _flip_a_byte(folder: Path, pattern: str) -> None:
    victim = max(folder.glob(pattern), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)


@pytest.mark.parametrize(("size", "state"), [("64m", "failed"), ("2g", "warning"), ("6g", "well")])
def test_the_doctor_of_a_disk_that_is_nearly_full(
    trial: tuple[Federation, list[Result]], tmp_path: Path, size: str, state: str
) -> None:
    """A file system of its own, seen by the command alone; its pages are never used."""
    small = tmp_path / "small"
    small.mkdir()
    command = Path(sys.executable).with_name("tieline")
    home = trial[0][PLAIN].home
    script = (
        f"mount -t tmpfs -o size={size},mode=0700 tieline-test {small} && "
        f"mkdir -m 700 {small}/home && cp -a {home}/config.toml {home}/directory {home}/keys "
        f"{small}/home/ && {command} doctor --home {small}/home --json"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if not done.stdout and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    (disk,) = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "disk"]
    assert disk["state"] == state, disk
    assert ("make room" in disk["advice"]) == (state != "well")


def test_the_doctor_of_what_is_no_home(tmp_path: Path) -> None:
    result = tieline("doctor", "--home", tmp_path, "--json")
    assert result.code == 1
    assert {one["check"] for one in result.json["findings"]} == {"home", "node"}
    assert list(tmp_path.iterdir()) == []
