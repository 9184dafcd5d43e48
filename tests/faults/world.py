"""Five nodes behind proxies of our own; what a run leaves stays below build/faults/."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.federation import WAIT_SECONDS, Federation, Node, free_port, wait_for
from tests.faults.proxy import Proxy

MEMBERS = (
    ("pt-pj", "national", "PT"),
    ("es-gc", "national", "ES"),
    ("fr-pn", "national", "FR"),
    ("de-bka", "national", "DE"),
    ("europol-ec3", "hub"),
)
BUILD = Path(__file__).resolve().parents[2] / "build" / "faults"


@dataclass(slots=True)
class World:
    """A running federation; peers reach each node only through its proxy.

    ``interlude`` lets some traffic through, and all of it arrive; whoever makes traffic sets it.
    """

    root: Path
    federation: Federation
    proxies: dict[str, Proxy]
    interlude: Callable[[], None] = lambda: None

    @property
    def nodes(self) -> dict[str, Node]:
        """The nodes by agency."""
        return self.federation.nodes

    def drained(self, seconds: float = 2 * WAIT_SECONDS) -> None:
        """Wait until no node has a message on its way."""
        wait_for("every outbox is empty", lambda: not self.waiting(), seconds)

    def waiting(self) -> dict[str, int]:
        """Return how many messages each node has on their way, without those that have none."""
        counts = {
            agency: node.rows(
                "SELECT count(*) FROM outbox WHERE state NOT IN ('delivered', 'refused')"
            )[0][0]
            for agency, node in self.nodes.items()
        }
        return {agency: count for agency, count in counts.items() if count}


@contextmanager
def world(name: str) -> Iterator[World]:
    """Make ``build/faults/NAME`` anew and start its nodes; its files stay when it ends."""
    root = BUILD / name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    made = Federation(root / "nodes")
    made.root.mkdir()
    made.found()
    proxies: dict[str, Proxy] = {}
    try:
        for agency, role, *countries in MEMBERS:
            port = free_port()
            node = made.init(agency, role, *countries, endpoint=f"127.0.0.1:{port}")
            proxies[agency] = Proxy(port, int(node.address.rpartition(":")[2]))
        made.change("group", "all", *(agency for agency, *_ in MEMBERS))
        for node in made:
            made.join(node)
        made.start()
        yield World(root, made, proxies)
    finally:
        made.close()
        for proxy in proxies.values():
            proxy.close()


def faked_time(shift: str) -> dict[str, str]:
    """Return the environment in which a process sees another wall clock, such as ``+1d``.

    Raises FileNotFoundError when Debian's faketime is not installed.
    """
    shown = subprocess.run(
        ["faketime", "-f", shift, "env"], capture_output=True, text=True, check=True
    ).stdout
    preload = next(line for line in shown.splitlines() if line.startswith("LD_PRELOAD="))
    return {
        "LD_PRELOAD": preload.partition("=")[2],
        "FAKETIME": shift,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "0",
    }
