"""A whole trial federation of real node processes on loopback, made as a stranger would make it.

Nearly everything is done with the `tieline` command; nodes are `tieline node serve` in processes of
their own, with mutual TLS on 127.0.0.1. Commands run in this process for speed (``tieline``) or in
one of their own (``tieline_process``). Waiting is polling with a deadline, never a bare sleep.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import io
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from tieline_client.cli import main
from tieline_client.operator_client import OperatorClient
from tieline_client.profile import Profile, utc_now
from tieline_server.config import Home, make_config
from tieline_server.homes import make_home
from tieline_server.storage.engine import open_store

from tests.e2e.forking import nursery

T = TypeVar("T")

PURPOSE = "victim-identification"
WHY = ("--purpose", PURPOSE, "--case", "2026-118")
# Bounds that end what hangs, far beyond what a slow machine needs; none says how quick anything is.
START_SECONDS = 300.0
STOP_SECONDS = 120.0
WAIT_SECONDS = 300.0
COMMAND_SECONDS = 300.0

_COMMAND = Path(sys.executable).with_name("tieline")
_PORTS = range(18_000, 32_000)
"""Below the range from which the system gives ports to outgoing connections."""
_given: set[int] = set()
_claims = Path(tempfile.gettempdir(), f"tieline-ports-{os.getuid()}")
"""A byte of it stands for a port, and is locked by whoever was given that one: a node may stop
and start again, and no other process that runs tests may take its place meanwhile."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, each one once."""
    while True:
        port = random.choice(_PORTS)
        if port in _given or not _claimed(port):
            continue
        _given.add(port)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


@functools.cache
def _open_claims() -> int:
    """Open once: these locks end when a process closes any of its descriptors of the file."""
    return os.open(_claims, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _claimed(port: int) -> bool:
    """Whether no other process holds the port; this one does from now on, until it ends."""
    try:
        fcntl.lockf(_open_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):  # fcntl(2): either, by the system
        return False
    return True


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, both streams, and its JSON where there is one."""

    code: int
    out: str
    err: str
    json: Any = None

    def ok(self) -> Result:
        """Return itself; fail with both streams unless the exit code is 0."""
        assert self.code == 0, f"exit code {self.code}\n{self.err}\n{self.out}"
        return self


_in_process = threading.Lock()


def tieline(*words: object) -> Result:
    """Run one command in this process; its streams are this process's, so one at a time."""
    texts = [str(word) for word in words]
    out, err = io.StringIO(), io.StringIO()
    with _in_process:
        umask = os.umask(0o077)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(texts)
        finally:
            os.umask(umask)
    return _result(code, out.getvalue(), err.getvalue(), texts)


def tieline_process(*words: object, timeout: float = COMMAND_SECONDS) -> Result:
    """Run one command as a person would, in a process of its own."""
    texts = [str(word) for word in words]
    forks = nursery()
    if forks is not None:
        return _result(*forks.run(texts, timeout), texts)
    done = subprocess.run(
        [_COMMAND, *texts], capture_output=True, text=True, timeout=timeout, check=False
    )
    return _result(done.returncode, done.stdout, done.stderr, texts)


def _result(code: int, out: str, err: str, texts: Sequence[str]) -> Result:
    assert "Traceback" not in err, err
    document = json.loads(out) if "--json" in texts and out else None
    return Result(code, out, err, document)


def wait_for(what: str, look: Callable[[], T | None], seconds: float = WAIT_SECONDS) -> T:
    """Poll until ``look`` returns something true; fail with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        found = look()
        if found:
            return found
        ended = time.monotonic()
        assert ended < deadline, f"not within {seconds} s: {what}"
        time.sleep(max(0.05, ended - began))  # half the time is the nodes'


class Node:
    """One agency's node: its home, its process, and its people's way to it."""

    def __init__(self, home: Path, agency: str, port: int, operator_port: int) -> None:
        self.home, self.agency = home, agency
        self.address = f"127.0.0.1:{port}"
        self.operator_address = f"127.0.0.1:{operator_port}"
        self.log = home.with_name(f"{home.name}.log")
        self.process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"Node({self.agency})"

    # --- life ---

    def start(self, **environment: str) -> Node:
        """Serve, and return when the line ``ready`` has come."""
        self.launch(**environment)
        self.wait_ready()
        return self

    def launch(self, **environment: str) -> None:
        """Start the process without waiting for it; executed where it gets an environment."""
        assert not self.running, f"{self.agency} runs already"
        forks = None if environment else nursery()
        if forks is not None:
            words = ("node", "serve", str(self.home))
            self.process = forks.launch(words, self.log, os.environ)
            return
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [_COMMAND, "node", "serve", str(self.home)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=os.environ | {"PYTHONFAULTHANDLER": "1"} | environment,
            )

    def wait_ready(self) -> None:
        """Wait for the line ``ready`` on stderr; fail with the log when the process ends."""
        process = self.process
        assert process is not None

        def ready() -> bool:
            lines = self.log.read_text("utf-8", "replace").splitlines()
            assert process.poll() is None, "\n".join(lines)
            return "ready" in lines

        wait_for(f"{self.agency} is ready", ready, START_SECONDS)

    def hurry(self) -> None:
        """Have it look at everything at once, and ask others for the directory (SIGHUP)."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """End it by SIGTERM; return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it by SIGKILL, as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # the log gets what each thread was doing
            process.wait()
            raise AssertionError(f"{self.agency} did not end: {self.log.read_text()}") from None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    # --- people ---

    @property
    def profile(self) -> Path:
        """The first operator's profile."""
        return self.home / "operators" / "admin.json"

    def client(self) -> OperatorClient:
        """Return a client of the first operator; the caller closes it."""
        return OperatorClient(Profile.load(self.profile))

    def run(self, *words: object) -> Result:
        """Run a work command at this node, as its first operator; its JSON is in ``json``."""
        return tieline(*words, "--home", self.home, "--json")

    def ask(self, file: Path, *words: object) -> Result:
        """Run `tieline overlap` on a file, with purpose and case."""
        return self.run("overlap", file, *WHY, *words)

    def import_file(self, file: Path, *words: object) -> Any:
        """Import one file and return its report."""
        return self.run("hashes", "import", file, "--case", "C-1", *words).ok().json["files"][0]

    def stats(self) -> Any:
        """Return the counts of what is stored."""
        return self.run("hashes", "stats").ok().json

    def audit(self, *words: object) -> list[Any]:
        """Return audit entries, as `tieline audit search` finds them."""
        found = self.run("audit", "search", "--limit", 100_000, *words).ok().json
        entries: list[Any] = found["entries"]
        return entries

    def inbox(self) -> list[Any]:
        """Return what came in, newest first."""
        entries: list[Any] = self.run("inbox", "list").ok().json["entries"]
        return entries

    # --- its database, read beside it ---

    def rows(self, sql: str, *values: object) -> list[Any]:
        """Read the node's database, which may be in use."""
        path = self.home / "database.sqlite3"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute(sql, values).fetchall()

    def alter(self, sql: str) -> None:
        """Change the database of a node that does not run."""
        assert not self.running, f"{self.agency} runs"
        with contextlib.closing(sqlite3.connect(self.home / "database.sqlite3")) as database:
            database.execute(sql)
            database.commit()


@dataclass
class Federation:
    """The authority's folder and the nodes by agency; ``close`` ends every process."""

    root: Path
    name: str = "trial-eu"
    nodes: dict[str, Node] = field(default_factory=dict)

    @property
    def authority(self) -> Path:
        """The authority's folder."""
        return self.root / "authority"

    def __getitem__(self, agency: str) -> Node:
        return self.nodes[agency]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def found(self) -> Federation:
        """Make the authority's folder."""
        tieline("federation", "init", self.authority, "--name", self.name, "--trial").ok()
        return self

    def change(self, *words: object) -> Result:
        """Run `tieline federation WORDS[0] DIR WORDS[1:]`; it takes effect at once."""
        return tieline("federation", words[0], self.authority, *words[1:]).ok()

    def init(
        self, agency: str, role: str, *countries: str, endpoint: str = "", **settings: object
    ) -> Node:
        """Make a home and have it admitted, without joining.

        ``endpoint`` is where peers find it, if not where it listens; ``settings`` are more of its
        configuration.
        """
        node = Node(self.root / agency, agency, free_port(), free_port())
        made = {
            "agency": agency,
            "name": f"Unit {agency}",
            "role": role,
            "countries": countries,
            "listen": node.address,
            "operator_listen": node.operator_address,
            "contact": {"name": f"Desk {agency}", "email": f"duty@{agency}.example"},
            **({"endpoint": endpoint} if endpoint else {}),
            **settings,
        }
        if settings.get("outbound_only"):
            del made["listen"]
        # What `tieline node init` does, but for kernels, which all nodes here share.
        request = make_home(node.home, make_config(made, "test"), utc_now())
        stated = [word for country in countries for word in ("--country", country)]
        self.change(
            *("admit", node.home / "request.json", "--role", role, *stated),
            *("--fingerprint", request.fingerprint),
        )
        self.nodes[agency] = node
        return node

    def add(self, agency: str, role: str, *countries: str) -> Node:
        """Make a home, have it admitted, and join. All are to be added before the first starts."""
        node = self.init(agency, role, *countries)
        self.join(node)
        return node

    def join(self, node: Node) -> None:
        """Let a node trust the federation; the copy it gets is of now."""
        database = node.home / "database.sqlite3"
        if not Home(node.home).config().database and not database.exists():
            shutil.copy(_empty_database(), database)
        tieline("node", "join", node.home, "--federation", self.authority / "public").ok()

    def start(self, *agencies: str) -> Federation:
        """Start the nodes (all, unless named) at once, and wait until all are ready."""
        nodes = [self.nodes[agency] for agency in agencies] or list(self.nodes.values())
        for node in nodes:
            node.launch()
        for node in nodes:
            node.wait_ready()
        return self

    def directory_version(self) -> int:
        """Return the version that is in force at the authority."""
        shown = tieline("federation", "status", self.authority, "--json").ok().json
        return int(shown["version"])

    def wait_directory(self, *agencies: str) -> None:
        """Wait until running nodes have the directory that is in force."""
        version = self.directory_version()
        for agency in agencies or tuple(node.agency for node in self if node.running):
            with self.nodes[agency].client() as client:
                _wait_version(client, version)

    def close(self) -> None:
        """End every process by SIGTERM; fail when one does not end by itself."""
        processes = {node.agency: node.process for node in self if node.process is not None}
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        stuck = []
        for agency, process in processes.items():
            self.nodes[agency].process = None
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)  # the log gets what each thread was doing
                process.wait()
                stuck.append(f"{agency}\n{self.nodes[agency].log.read_text()}")
        assert not stuck, f"not ended within {STOP_SECONDS} s of SIGTERM: {'; '.join(stuck)}"


@functools.cache
def _empty_database() -> Path:
    """Return a database with all tables and no rows: to make them takes longer than to join."""
    path = Path(tempfile.mkdtemp(prefix="tieline-tables-")) / "database.sqlite3"
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    open_store(f"sqlite:///{path}", clock=utc_now).close()
    return path


def _wait_version(client: OperatorClient, version: int) -> None:
    wait_for(
        f"{client.profile.agency} has directory {version}",
        lambda: client.get_status().directory_version >= version,
    )


Members = Iterable[tuple[str, ...]]
"""(agency, role, country, ...)"""


@contextlib.contextmanager
def federation(
    root: Path,
    members: Members,
    *,
    groups: Sequence[tuple[str, ...]] = (),
    agreements: Sequence[str] = (),
    settings: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
) -> Iterator[Federation]:
    """Make and start a federation: members are admitted first, then all join and serve.

    ``groups`` are (name, agency, ...); ``agreements`` name agencies outside the union; ``settings``
    are more of the configuration of agencies.
    """
    made = Federation(root).found()
    for agency, role, *countries in members:
        made.init(agency, role, *countries, **settings.get(agency, {}))  # type: ignore[arg-type]
    for name, *agencies in groups:
        made.change("group", name, *agencies)
    for agency in agreements:
        made.change("agreement", agency, "--basis", "trial agreement")
    for node in made:
        made.join(node)
    try:
        yield made.start()
    finally:
        made.close()
