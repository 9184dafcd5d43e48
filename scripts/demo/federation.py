"""Five agencies as real node processes on loopback, driven through the real command line."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tieline_client import cli

TIELINE = Path(sys.executable).with_name("tieline")
COMMAND_SECONDS = 1_200
START_SECONDS = 600


class DemoFailed(Exception):
    """A step did not do what it must; the message says which."""


@dataclass
class Agency:
    """One agency of the demonstration."""

    id: str
    name: str
    role: str
    countries: tuple[str, ...] = ()
    agreement: str = ""
    process: subprocess.Popen[bytes] | None = None


AGENCIES = (
    Agency("europol-ec3", "Europol EC3", "hub"),
    Agency("pt-pj", "Polícia Judiciária", "national", ("PT",)),
    Agency("us-ice", "US ICE HSI", "national", ("US",), "Europol-US agreement (synthetic)"),
    Agency("us-fbi", "US FBI", "national", ("US",), "Europol-US agreement (synthetic)"),
    Agency("interpol", "INTERPOL", "repository"),
)


class Federation:
    """The folder, the processes, and the commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.agencies = {one.id: one for one in AGENCIES}
        self.authority = folder / "authority"
        self._environment = os.environ | {
            "NUMBA_CACHE_DIR": str(folder.parent / "kernels"),
            "TERM": "dumb",
        }

    def home(self, agency: str) -> Path:
        """The home of an agency's node."""
        return self.folder / agency

    def run(self, *words: str) -> str:
        """Run one command in a process of its own; raise DemoFailed when it fails."""
        done = subprocess.run(
            [str(TIELINE), *words],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            env=self._environment,
            check=False,
        )
        if done.returncode:
            raise DemoFailed(
                f"tieline {' '.join(words)} ended with {done.returncode}: {done.stderr}"
            )
        return done.stdout

    def json(self, agency: str, *words: str) -> Any:
        """Run a work command as an agency's first operator and return its JSON document.

        The command line runs in this process, which saves the start of an interpreter each time.
        """
        printed, said = io.StringIO(), io.StringIO()
        arguments = [*words, "--home", str(self.home(agency)), "--json"]
        with redirect_stdout(printed), redirect_stderr(said):
            code = cli.main(arguments)
        if code:
            raise DemoFailed(f"tieline {' '.join(arguments)} ended with {code}: {said.getvalue()}")
        return json.loads(printed.getvalue())

    def make(self) -> None:
        """Found the federation, make five homes, admit them, join them."""
        authority = str(self.authority)
        self.run("federation", "init", authority, "--name", "demo-federation", "--trial")
        first, *others = AGENCIES
        self._init(first)  # compiles the kernels that all share
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._init, others))
        for one in AGENCIES:
            countries = [word for code in one.countries for word in ("--country", code)]
            request = str(self.home(one.id) / "request.json")
            self.run("federation", "admit", authority, request, "--role", one.role, *countries)
            if one.agreement:
                self.run("federation", "agreement", authority, one.id, "--basis", one.agreement)
        self.run("federation", "group", authority, "taskforce", "pt-pj", "us-ice", "us-fbi")
        public = str(self.authority / "public")
        with ThreadPoolExecutor(2) as pool:
            list(
                pool.map(
                    lambda one: self.run(
                        "node", "join", str(self.home(one.id)), "--federation", public
                    ),
                    AGENCIES,
                )
            )

    def _init(self, one: Agency) -> None:
        countries = [word for code in one.countries for word in ("--country", code)]
        self.run(
            "node",
            "init",
            str(self.home(one.id)),
            "--agency",
            one.id,
            "--name",
            one.name,
            "--role",
            one.role,
            "--listen",
            f"127.0.0.1:{free_port()}",
            "--operator-listen",
            f"127.0.0.1:{free_port()}",
            "--contact-name",
            f"{one.name}, victim identification desk",
            "--contact-email",
            f"duty@{one.id}.invalid",
            *countries,
        )

    def start(self, agency: str) -> None:
        """Start a node and wait until it says that it is ready."""
        one = self.agencies[agency]
        log = self.folder / f"{agency}.log"
        with log.open("ab") as stream:
            began = stream.tell()
            one.process = subprocess.Popen(
                [str(TIELINE), "node", "serve", str(self.home(agency))],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=self._environment,
                start_new_session=True,
            )
        self.wait(
            f"{agency} to be ready",
            lambda: b"\nready\n" in b"\n" + log.read_bytes()[began:],
            START_SECONDS,
            one.process,
        )

    def start_all(self) -> None:
        """Start every node."""
        with ThreadPoolExecutor(len(self.agencies)) as pool:
            list(pool.map(self.start, self.agencies))

    def stop(self, agency: str) -> None:
        """Stop a node, by SIGTERM, and wait for it."""
        process = self.agencies[agency].process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(30)

    def stop_all(self) -> None:
        """Stop every node that runs."""
        for agency in self.agencies:
            self.stop(agency)

    @staticmethod
    def wait(
        what: str,
        done: Callable[[], bool],
        seconds: float = 30,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """Look again until something is so; raise DemoFailed when it takes too long."""
        end = time.monotonic() + seconds
        while not done():
            if process is not None and process.poll() is not None:
                raise DemoFailed(f"waiting for {what}: the node ended with {process.returncode}")
            if time.monotonic() > end:
                raise DemoFailed(f"waited {seconds:.0f} s for {what}")
            time.sleep(0.1)


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
