"""Two real processes of one node on one PostgreSQL: a purge receipt waits for both."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.federation import WHY, Federation, Node, free_port, tieline, wait_for
from tests.postgres import PostgresCluster, postgres_cluster

__all__ = ["postgres_cluster"]

pytestmark = pytest.mark.postgres
SHA1S = [hashlib.sha1(f"process/{n}".encode()) for n in range(40)]


def _status(node: Node) -> Any:
    return tieline("node", "status", node.home, "--json").ok().json


def _states(node: Node, series: str) -> list[str]:
    shown = node.run("series", "show", series).ok().json
    return [one["state"] for one in shown["retraction"]["recipients"]]


def test_a_receipt_waits_for_the_other_process(
    tmp_path: Path, postgres_cluster: PostgresCluster
) -> None:
    made = Federation(tmp_path).found()
    owner, first = made.init("es-gc", "national", "ES"), made.init("pt-pj", "national", "PT")
    url = postgres_cluster.url(postgres_cluster.create(empty=True))
    config = first.home / "config.toml"
    config.write_text(config.read_text().replace('database = ""', f'database = "{url}"'))
    for node in made:
        made.join(node)
    copy = tmp_path / "pt-pj-2"
    shutil.copytree(first.home, copy)
    second = Node(copy, "pt-pj", free_port(), free_port())
    try:
        made.start()
        second.start(
            TIELINE_NODE_LISTEN=second.address,
            TIELINE_NODE_OPERATOR_LISTEN=second.operator_address,
        )
        file = tmp_path / "list.txt"
        file.write_text("".join(f"sha1:{one.hexdigest()}\n" for one in SHA1S))
        (series,) = owner.import_file(file, "--series", "Azul")["series"]
        owner.run("series", "refer", series, "--agency", "pt-pj", *WHY).ok()
        wait_for("the referral is there", first.inbox)
        assert second.process is not None
        os.kill(second.process.pid, signal.SIGSTOP)
        try:
            owner.run("series", "withdraw", series, "--reason", "the court ordered it").ok()

            def waits() -> bool:
                return any(
                    "until every process has rewritten its index" in one["reason"]
                    and "pt-pj-2" in one["reason"]
                    for one in _status(first)["purges"]
                )

            wait_for("the erasure waits for the other process", waits)
            assert _states(owner, series) == ["delivered"]
        finally:
            os.kill(second.process.pid, signal.SIGCONT)
        wait_for("the receipt came", lambda: _states(owner, series) == ["confirmed"])
        confirmed = [one for one in first.audit() if one["action"] == "retraction.confirmed"]
        assert len(confirmed) == 1, json.dumps(confirmed)
    finally:
        second.kill()
        made.close()
