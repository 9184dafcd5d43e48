"""Requests on real nodes: a release beyond a hit, H2's permission, and a child in danger."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.federation import WHY, Federation, Node, federation, tieline, wait_for

_MEMBERS = [
    ("pt-pj", "national", "PT"),
    ("es-gc", "national", "ES"),
    ("fr-of", "national", "FR"),
    ("gb-nca", "national", "GB"),
]
PT, ES, FR, GB = (name for name, *_ in _MEMBERS)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("requests"), _MEMBERS) as made:
        yield made


def hashes(folder: Path, name: str, count: int) -> Path:
    path = folder / f"{name}.txt"
    lines = (hashlib.sha256(f"{name}/{n}".encode()).hexdigest() for n in range(count))
    path.write_text("\n".join(lines) + "\n")
    return path


def shown(node: Node, request: str) -> Any:
    return node.run("requests", "show", request).ok().json


def state(node: Node, request: str, wanted: str) -> Any:
    def look() -> Any:
        listed = node.run("requests", "list", "--sent").ok().json["requests"]
        return next((one for one in listed if (one["id"], one["state"]) == (request, wanted)), None)

    wait_for(f"{request} is {wanted} at {node.agency}", look)
    return shown(node, request)


def test_a_hit_waits_for_a_person_whose_release_arrives(trial: Federation, tmp_path: Path) -> None:
    file = hashes(tmp_path, "hit", 5)
    (series,) = trial[PT].import_file(file, "--series", "Casa azul", "--source", "B")["series"]
    answer = trial[ES].ask(file, "--peer", PT).ok().json["peers"][0]
    assert (answer["status"], len(answer["overlaps"])) == ("answered", 5)
    assert {one["disclosure"] for one in answer["overlaps"]} == {"hit"}
    request = answer["request"]
    assert state(trial[ES], request, "pending")["series"] == []
    (waits,) = trial[PT].run("requests", "list").ok().json["requests"]
    assert (waits["id"], waits["peer"], waits["items"]) == (request, ES, 5)
    assert shown(trial[PT], request)["series"][0]["name"] == "Casa azul"
    trial[PT].run("requests", "approve", request).ok()
    got = state(trial[ES], request, "approved")
    (released,) = got["series"]
    assert (released["id"], released["items"]) == (series, 5)
    assert released["released"]["handling"]["source"] == "B"
    assert released["released"]["contact"]["email"] == f"duty@{PT}.example"
    again = trial[ES].ask(file, "--peer", PT).ok().json["peers"][0]
    assert {one["disclosure"] for one in again["overlaps"]} == {"reference"}
    assert (again["request"], again["overlaps"][0]["series"][0]["id"]) == (None, series)
    assert trial[PT].audit("--series", series)
    assert trial[PT].run("requests", "approve", request).code == 1  # it is decided


def test_h2_goes_on_with_its_providers_permission(trial: Federation, tmp_path: Path) -> None:
    file = hashes(tmp_path, "h2", 5)
    (series,) = trial[PT].import_file(file, "--series", "Patio", "--handling", "H2")["series"]
    trial[PT].run("series", "refer", series, "--agency", ES, *WHY).ok()
    entry = wait_for("it is at es-gc", trial[ES].inbox)[0]["id"]
    refused = trial[ES].run("inbox", "pass-on", entry, "--to", FR)
    assert refused.code == 3
    assert f"tieline requests ask {series} --permission pass-on --to {FR}" in refused.err
    command = refused.err.partition("ask: tieline ")[2].splitlines()[0]  # as it stands there
    asked = trial[ES].run(*shlex.split(command)).ok()
    request = asked.json["id"]

    def waits() -> bool:
        listed = trial[PT].run("requests", "list").ok().json["requests"]
        return request in {one["id"] for one in listed}

    wait_for("the provider has it", waits)
    trial[PT].run("requests", "approve", request).ok()
    state(trial[ES], request, "approved")
    trial[ES].run("inbox", "pass-on", entry, "--to", FR).ok()
    came = wait_for("it is at fr-of", trial[FR].inbox)[0]
    assert (came["referral"]["series"], came["referral"]["sender"]) == (series, ES)


def test_a_child_in_danger_is_told_of_on_two_officers_word(
    trial: Federation, tmp_path: Path
) -> None:
    file = hashes(tmp_path, "danger", 5)
    (series,) = trial[PT].import_file(file, "--series", "Cais")["series"]
    refer = ("series", "refer", series, "--agency", GB, "--urgency", "immediate", *WHY)
    assert trial[PT].run(*refer).code == 3
    stated = trial[PT].run(*refer, "--vital-interests", "abuse is going on").ok()
    (request,) = stated.json["requests"]
    alone = trial[PT].run("requests", "approve", request)
    assert alone.code == 3 and "second officer" in alone.err
    profile = tmp_path / "bea.json"
    tieline(
        *("operator", "add", "bea", "--role", "officer", "--out", profile),
        *("--home", trial[PT].home),
    ).ok()
    tieline("requests", "approve", request, "--profile", profile).ok()
    came = wait_for("it is at gb-nca", trial[GB].inbox)[0]
    assert came["referral"]["series"] == series
    (entry,) = [one for one in trial[PT].audit("--peer", GB) if one["action"] == "referral.sent"]
    assert "Art. 38(1)(a)" in str(entry["detail"])
    assert "bea" in str(entry["detail"])
