"""The directory over the wire, at real nodes: no folder is copied after the join.

The hub holds the online keys. What it publishes reaches everybody within seconds, with the hub
down one member tells the next, and whoever is revoked is cut off in the middle of a call.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.federation import Federation, Node, tieline

MEMBERS = (
    ("europol-ec3", "hub"),
    ("pt-pj", "national", "PT"),
    ("es-gc", "national", "ES"),
    ("fr-pn", "national", "FR"),
)


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Four nodes; each joined from a folder that is gone by the time it starts."""
    made = Federation(tmp_path_factory.mktemp("directory")).found()
    for agency, role, *countries in MEMBERS:
        made.init(agency, role, *countries)
    for node in made:
        handed = shutil.copytree(made.authority / "public", made.root / f"for-{node.agency}")
        tieline("node", "join", node.home, "--federation", handed).ok()
        shutil.rmtree(handed)
    made.change("publish", "--home", made["europol-ec3"].home)
    try:
        yield made.start()
    finally:
        made.close()


def status(node: Node) -> Any:
    """What `tieline node status` says."""
    return tieline("node", "status", node.home, "--json").ok().json


def test_what_is_published_to_the_hub_reaches_everybody(joined: Federation) -> None:
    joined.change("purpose", "training", "A rehearsal")
    joined.change("publish", "--home", joined["europol-ec3"].home)
    joined.wait_directory()
    told = status(joined["pt-pj"])
    assert told["directory"]["source"] == "europol-ec3"
    assert told["directory"]["online"] is False
    assert status(joined["europol-ec3"])["directory"]["online"] is True
    assert {part["role"] for part in told["directory"]["parts"]} == {
        "root", "targets", "snapshot", "timestamp",
    }  # fmt: skip
