"""README's blocks, run by a shell as they stand: two machines are two folders on loopback.

Names of machines and ports become free ports of 127.0.0.1, `scp` copies between the two folders,
and what a person would fill in (HEX, ID) is filled in. Nothing else is changed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tieline_server.matching.warm import VARIABLE

from tests.docs.reading import README, ROOT, Block, blocks
from tests.e2e.federation import STOP_SECONDS, free_port, wait_for
from tests.kernels import CACHE, compiled

_BIN = Path(sys.executable).parent
_SCP = """#!/usr/bin/env bash
set -eu
words=()
for word in "$@"; do
    case $word in
        *.example:*) words+=("$MACHINES/${word%%.example:*}/${word#*:}") ;;
        *) words+=("$word") ;;
    esac
done
exec cp "${words[@]}"
"""
_BLOCK_SECONDS = 600.0


@dataclass
class Machine:
    """One machine: its home folder, what its nodes listen on, and what its shell has exported."""

    name: str
    home: Path
    port: int = field(default_factory=free_port)
    operator_port: int = field(default_factory=free_port)
    fingerprint: str = ""

    def local(self, text: str) -> str:
        """Return a block with this machine's own addresses."""
        text = text.replace("0.0.0.0:7443", f"127.0.0.1:{self.port}")
        return text.replace("127.0.0.1:7444", f"127.0.0.1:{self.operator_port}")


class Machines:
    """All machines, and the nodes that serve on them."""

    def __init__(self, root: Path, names: set[str]) -> None:
        self.root = root
        self.machines = {name: Machine(name, root / name) for name in names}
        for one in self.machines.values():
            one.home.mkdir()
        self.serving: list[subprocess.Popen[bytes]] = []
        tools = root / "bin"
        tools.mkdir()
        (tools / "scp").write_text(_SCP)
        (tools / "scp").chmod(0o755)
        self._path = f"{tools}:{_BIN}:{os.environ['PATH']}"

    def environment(self, machine: Machine) -> dict[str, str]:
        """Return what a fresh shell of a fresh user on that machine has."""
        return {
            "HOME": str(machine.home),
            "PATH": self._path,
            "MACHINES": str(self.root),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "COLUMNS": "80",
            VARIABLE: os.environ[VARIABLE],
        }

    def prepared(self, block: Block, machine: Machine) -> str:
        """Return a block's text with addresses, HEX and ID filled in."""
        text = block.commands
        for one in self.machines.values():
            text = text.replace(f"{one.name}.example:7443", f"127.0.0.1:{one.port}")
        text = machine.local(text)
        text = re.sub(r"(?<=--fingerprint )HEX\b", self.machines["madrid"].fingerprint, text)
        if re.search(r"\bID\b", text):
            text = re.sub(r"(?<= )ID\b", self._inbox_id(machine), text)
        return text

    def run(self, block: Block) -> str:
        """Run a block on its machine, to the end and without a fault; return its stdout."""
        machine = self.machines[block.machine]
        exported = machine.home / ".exported"
        script = f"[ ! -e {exported} ] || . {exported}\n{self.prepared(block, machine)}\n"
        environment = self.environment(machine)
        if "--keys" in block.text:
            secret = self.root / "passphrase"
            secret.write_text("correct horse battery staple\n")
            secret.chmod(0o600)
            environment["TIELINE_PASSPHRASE_FILE"] = str(secret)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{script}export -p > {exported}"],
            cwd=machine.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_BLOCK_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        if found := re.search(r"^[0-9a-f]{64}$", done.stdout, re.M):
            machine.fingerprint = found[0]
        return done.stdout

    def serve(self, block: Block) -> None:
        """Run a block that serves in the background, and wait for the line ``ready``."""
        machine = self.machines[block.machine]
        log = machine.home / "serve.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                ["bash", "-euc", f"exec {self._command(block, machine)}"],
                cwd=machine.home,
                env=self.environment(machine),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stream,
            )
        self.serving.append(process)

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return "ready" in log.read_text().splitlines()

        wait_for(f"{machine.name} to be ready", ready)

    def _command(self, block: Block, machine: Machine) -> str:
        words = self.prepared(block, machine).strip().splitlines()
        (command,) = (line for line in words if not line.startswith("#"))
        return command

    def _inbox_id(self, machine: Machine) -> str:
        """Return the newest entry of the inbox, once one has come."""

        def newest() -> str:
            done = subprocess.run(
                ["tieline", "inbox", "--home", "es-pn", "--json"],
                cwd=machine.home,
                env=self.environment(machine),
                capture_output=True,
                text=True,
                timeout=_BLOCK_SECONDS,
                check=True,
            )
            entries = json.loads(done.stdout)["entries"]
            return str(entries[0]["id"]) if entries else ""

        return wait_for("a referral in the inbox", newest)

    def stop(self) -> list[int]:
        """End the nodes by SIGTERM; return their exit codes."""
        for process in self.serving:
            process.terminate()
        codes = [process.wait(STOP_SECONDS) for process in self.serving]
        self.serving.clear()
        return codes


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    monkeypatch.setenv(VARIABLE, str(CACHE))
    compiled()
    made = Machines(tmp_path, {block.machine for block in _machine_blocks()})
    yield made
    made.stop()


def _machine_blocks() -> list[Block]:
    return [block for block in blocks(README.read_text("utf-8")) if block.machine]


def _assert_shows(output: str, expected: str) -> None:
    """Each expected line stands in the output, in order; a line ``...`` says nothing."""
    lines = iter(line.strip() for line in output.splitlines())
    for wanted in expected.splitlines():
        if wanted != "...":
            assert wanted.strip() in lines, f"{wanted!r} is not in\n{output}"


@pytest.mark.timeout(3_600)
def test_every_block_of_the_readme_runs_as_written(machines: Machines) -> None:
    output = ""
    ran: list[str] = []
    for block in blocks(README.read_text("utf-8")):
        if block.language == "text":
            _assert_shows(output, block.text)
        elif not block.machine:
            assert set(block.text.split()) & {"make", "export"}, block.text
        elif "tieline node serve" in block.text:
            machines.serve(block)
        else:
            output = machines.run(block)
            ran.append(output)
    told = "\n".join(ran)
    assert "in force as version 2" in told  # two of three holders signed
    assert machines.stop() == [0, 0]


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = re.findall(r"\bmake (\w+)", README.read_text("utf-8"))
    assert {"demo", "setup", "test"} <= set(named)
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.M), f"make {target} does not exist"
