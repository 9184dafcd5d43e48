"""Standing queries between real nodes: over the wire, through a kill, told on both sides."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.federation import WHY, Federation, Node, tieline, wait_for

PT, ES = "pt-pj", "es-gc"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    federation = Federation(tmp_path_factory.mktemp("watch"))
    federation.found()
    federation.init(PT, "national", "PT")
    federation.init(ES, "national", "ES")
    for node in federation:
        federation.join(node)
    return federation.start(PT, ES)


def _list(folder: Path, *numbers: int) -> Path:
    path = folder / f"{min(numbers)}-{max(numbers)}.txt"
    sums = (hashlib.sha256(f"synthetic {n}".encode()).hexdigest() for n in numbers)
    path.write_text("".join(f"{each}\n" for each in sums))
    return path


def test_a_match_is_found_when_it_comes_and_both_sides_see_it(
    made: Federation, tmp_path: Path
) -> None:
    pt, es = made[PT], made[ES]
    try:
        listed = ("--category", "vics-us:1")
        es.import_file(_list(tmp_path, *range(5)), *listed)
        until = ("--until", "2099-01-01")
        over = pt.run("watch", "add", _list(tmp_path, *range(10)), *until, *listed, *WHY)
        assert over.code == 1 and "at most" in over.err
        until = ("--until", _in_a_month())
        added = pt.run("watch", "add", _list(tmp_path, *range(10)), *until, *listed, *WHY).ok()
        (watch,) = (one["id"] for one in added.json["watches"])
        # What was never asked the node asks by itself, within a minute: it may be first.
        first = [one for one in _runs(pt) if one["status"] == "answered"]
        told = [(one["agency"], one["new"], one["since"]) for one in first]
        assert told in ([(ES, 5, False)], [])
        wait_for("all is asked", lambda: any("nothing is new" in o["reason"] for o in _runs(pt)))
        assert _said(pt).count("watch.matched") == 1
        pt.kill()
        pt.start()
        es.import_file(_list(tmp_path, 7, 20), *listed)
        (second,) = pt.run("watch", "run").ok().json["runs"]
        assert (second["status"], second["new"], second["since"]) == ("answered", 1, True)
        assert pt.run("watch", "run").ok().json["runs"][0]["status"] == "unchanged"
        (shown,) = pt.run("watch").ok().json["watches"]
        assert (shown["peers"][0]["matched"], shown["peers"][0]["percent"]) == (6, 60)
        for node, kind in ((pt, "watch-match"), (es, "watched-by-peer")):
            alarm = wait_for(f"{node.agency} is alarmed", lambda one=node: _alarm(one))  # type: ignore[misc]
            assert (alarm["kind"], alarm["referral"]) == (kind, watch)
        hits = tmp_path / "hits.json"
        pt.run("watch", "export", watch, hits).ok()
        entries = json.loads(hits.read_text())["value"]
        assert [one["AlertHitNotifications"][0]["MatchPercentage"] for one in entries] == [50, 60]
        said = _said(pt)
        assert said.count("watch.matched") == 2 and said.count("query.asked") == 2
        assert pt.run("watch", "remove", watch).ok().json["state"] == "removed"
        assert not pt.rows("SELECT 1 FROM watch_pieces")
        assert tieline("audit", "verify", "--home", pt.home).ok()
    finally:
        made.close()


def _in_a_month() -> str:
    return (datetime.now(UTC) + timedelta(days=30)).date().isoformat()


def _runs(node: Node) -> list[Any]:
    """What came of a run by hand; nothing while the node itself is asking."""
    shown = node.run("watch", "run").json
    return list(shown["runs"]) if shown else []


def _said(node: Node) -> list[str]:
    """What its audit log tells, in order."""
    found = node.run("audit", "search", "--limit", "1000").json["entries"]
    return [one["action"] for one in found]


def _alarm(node: Node) -> dict[str, object] | None:
    alarms: list[dict[str, object]] = node.run("inbox").ok().json["alarms"]
    return alarms[0] if alarms else None
