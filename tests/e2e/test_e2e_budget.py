"""Budgets between real nodes: set by an admin, refused with one reason, seen on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.federation import WHY, Federation, tieline, wait_for

PT, ES = "pt-pj", "es-gc"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    federation = Federation(tmp_path_factory.mktemp("budget"))
    federation.found()
    federation.init(PT, "national", "PT")
    federation.init(ES, "national", "ES", budgets={"default": 12})
    for node in federation:
        federation.join(node)
    federation.start(PT, ES)
    yield federation
    federation.close()


def _list(folder: Path, *numbers: int) -> Path:
    path = folder / f"{min(numbers)}-{max(numbers)}.txt"
    sums = (hashlib.sha256(f"synthetic {n}".encode()).hexdigest() for n in numbers)
    path.write_text("".join(f"{each}\n" for each in sums))
    return path


def test_a_peer_asks_until_its_day_is_spent_and_learns_when_to_come_again(
    made: Federation, tmp_path: Path
) -> None:
    pt, es = made[PT], made[ES]
    es.import_file(_list(tmp_path, *range(5)), "--category", "vics-us:1")
    more = ("--category", "vics-us:1", "--peer", ES)
    first = pt.ask(_list(tmp_path, *range(10)), *more).ok()
    (peer,) = first.json["peers"]
    assert (peer["status"], len(peer["overlaps"])) == ("answered", 5)
    assert (peer["budget"]["left"], peer["budget"]["budget"]) == (2, 12)
    assert "2 of 12 units are left" in first.err  # over 80 %
    over = pt.ask(_list(tmp_path, 3, 4, 5), *more)
    assert over.code == 3
    (peer,) = over.json["peers"]
    assert peer["status"] == "refused" and peer["overlaps"] == []
    assert peer["reason"].startswith(f"{PT}'s budget at {ES} for today has no 3 units left, of 12")
    other = pt.run("overlap", _list(tmp_path, 3, 4, 5), "--purpose", "deconfliction", "--case",
                   "C-9", *more)  # fmt: skip
    assert other.code == 3  # whatever purpose is typed
    assert pt.ask(_list(tmp_path, 3, 4), *more).ok().json["peers"][0]["budget"]["left"] == 0


def test_both_sides_see_what_is_used_and_what_is_left(made: Federation) -> None:
    shown = made[ES].run("budget").ok().json
    (here,) = shown["peers"]
    assert (here["agency"], here["budget"], here["spent"], here["left"]) == (PT, 12, 12, 0)
    assert {one["purpose"]: one["spent"] for one in here["purposes"]} == {WHY[1]: 12}
    (there,) = made[PT].run("budget").ok().json["own"]
    assert (there["agency"], there["budget"], there["left"]) == (ES, 12, 0)
    assert there["resets"] == shown["resets"]
    table = tieline("budget", "--home", made[ES].home).ok().out
    assert PT in table and "12" in table
    status = tieline("node", "status", made[ES].home, "--json").ok().json
    assert f"{PT} has used 12 of its 12 units of today" in status["warnings"]
    kinds = {one.split()[0] for one in status["alarms"]}
    assert kinds == {"budget-low", "budget-spent"}
    status = tieline("node", "status", made[PT].home, "--json").ok().json
    assert any(f"0 of 12 units left at {ES}" in one for one in status["warnings"])


def test_refusals_and_alarms_are_in_the_audit_log(made: Federation) -> None:
    found = made[ES].run("audit", "search", "--limit", "1000").ok().json["entries"]
    refused = [one for one in found if one["action"] == "refusal"]
    assert [one["detail"]["reason"] for one in refused] == ["BUDGET_EXCEEDED"] * 2
    assert {one["peer"] for one in refused} == {PT}
    assert {one["purpose"] for one in refused} == {WHY[1], "deconfliction"}
    assert {"alarm.budget-low", "alarm.budget-spent"} <= {one["action"] for one in found}


def test_an_admin_raises_it_and_it_holds_through_a_restart(
    made: Federation, tmp_path: Path
) -> None:
    es = made[ES]
    raised = es.run("budget", "set", PT, "100").ok().json
    assert (raised["budget"], raised["spent"], raised["left"]) == (100, 12, 88)
    more = ("--category", "vics-us:1", "--peer", ES)
    assert made[PT].ask(_list(tmp_path, *range(20, 30)), *more).ok().json["asked"] == 10
    es.stop()
    made.start(ES)
    (here,) = es.run("budget").ok().json["peers"]
    assert (here["budget"], here["spent"], here["stated_by"]) == (100, 22, "admin")
    assert es.run("budget", "reset", PT).ok().json["budget"] == 12
    # It has only just come back: who asks meanwhile may still be told that it is not there.
    wait_for("refused", lambda: made[PT].ask(_list(tmp_path, 50), *more).code == 3)
    assert es.run("budget", "set", "xx-nobody", "5").code == 1
    assert es.run("budget", "set", PT, "-5").code == 2
