"""What comes back: of a deposit, by message and by file; of a telling, from two agencies of one
country, from one that stays silent, and from a country that no member serves.

Clocks are real. ES's and PT's configuration expects an urgent referral to be acknowledged within a
second or two, so that what is said of hours is seen within seconds; others keep their days.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tieline_client.formats import FileFormat, Record, open_records

from tests.e2e.federation import WHY, Federation, Node, federation, wait_for
from tests.formats.edmx import Schema

_SECOND = 1 / 3600
_SOON = {"immediate": _SECOND, "urgent": _SECOND, "routine": 120}
_CLOCK = {
    "delivered": _SOON,
    "escalate": _SOON | {"immediate": 2 * _SECOND, "urgent": 2 * _SECOND, "routine": 240},
    "fallback": _SOON | {"immediate": 3 * _SECOND, "urgent": 3 * _SECOND, "routine": 360},
    "fallbacks": {"PT": "us-ice"},
}
_US = ("us-ice", "us-fbi")


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    members = (
        ("es-gc", "national", "ES"),
        ("pt-pj", "national", "PT"),
        *((agency, "national", "US") for agency in _US),
        ("europol-ec3", "hub"),
        ("interpol", "repository"),
    )
    settings = {"es-gc": {"clock": _CLOCK}, "pt-pj": {"clock": _CLOCK}}
    root = tmp_path_factory.mktemp("answers")
    with federation(root, members, agreements=_US, settings=settings) as made:
        yield made


def _series(node: Node, folder: Path, name: str, items: int = 3) -> str:
    """Import an ICSE-style CSV into a series, all but the first item of the baseline; its id."""
    path = folder / f"{name}.csv"
    rows = []
    for n in range(items):
        digest = hashlib.sha256(f"{name}/{n}".encode()).hexdigest()
        rows.append(f"{digest[:32]};{digest[:40]};{name};{'y' if n else 'n'}")
    path.write_text("\n".join(["MD5;SHA1;Series name;Baseline", *rows]) + "\n")
    return str(node.import_file(path)["series"][0])


def _show(node: Node, series: str) -> Any:
    return node.run("series", "show", series).ok().json


def _clock(node: Node, series: str) -> list[Any]:
    shown = node.run("clock", "--series", series).ok().json["referrals"]
    return sorted(shown, key=lambda one: one["recipient"])


def _leads(node: Node, series: str) -> set[str]:
    return {one["lead"] for one in _clock(node, series)}


def _last_steps(node: Node, series: str) -> list[tuple[str, ...]]:
    found = ((one["state"], one["steps"][-1]) for one in _clock(node, series))
    return [(state, step["state"], step["text"]) for state, step in found]


def _entry(node: Node, series: str) -> Any:
    """Return the referral of a series that came in, once it has."""
    return wait_for(
        f"{node} was told of {series}",
        lambda: next(
            (
                one
                for one in node.inbox()
                if one["kind"] == "referral" and one["referral"]["series"] == series
            ),
            None,
        ),
    )


def _becomes(what: str, look: Callable[[], Any], wanted: Any) -> None:
    seen: list[Any] = []

    def same() -> bool:
        seen[:] = [look()]
        return bool(seen[0] == wanted)

    try:
        wait_for(what, same)
    except AssertionError as error:
        raise AssertionError(f"{error}; it is {seen}") from None


def _localised(node: Node, series: str, country: str, *words: object) -> list[Any]:
    """Assess and refer; return the referrals."""
    node.run(
        *("series", "assess", series, "--country", country, "--confidence", "high"),
        *("--grounds", "plates"),
    ).ok()
    referrals: list[Any] = node.run("series", "refer", series, *WHY, *words).ok().json["referrals"]
    return referrals


# --- what a repository says of a deposit ----------------------------------------------------------


def test_what_the_repositorys_node_says_of_a_deposit_comes_back(
    trial: Federation, tmp_path: Path
) -> None:
    es, pt, repository = (trial[one] for one in ("es-gc", "pt-pj", "interpol"))
    series = _series(es, tmp_path, "Deposited")
    made = es.run("upload", series, "--to", "interpol", *WHY).ok().json["uploads"][0]
    wait_for("it came", lambda: repository.run("uploads").ok().json["uploads"])
    numbered = repository.run("upload", "step", made["id"], "--state", "numbered").ok().json
    assert numbered["reference"].startswith("INTERPOL-")
    repository.run("series", "status", series, "--to", "identified").ok()
    _becomes("it is identified here too", lambda: _show(es, series)["status"], "identified")
    shown = _show(es, series)
    (said,) = shown["repositories"]
    assert shown["number"] == said["number"] == numbered["reference"]
    assert (said["repository"], said["status"]) == ("interpol", "identified")
    assert (said["items"], said["submissions"], said["agencies"]) == (3, 1, 1)
    assert said["baseline"] == 2
    assert [one["agency"] for one in shown["history"] if one["kind"] == "repository"]
    (row,) = es.run("upload", "reconcile", "--to", "interpol", *WHY).ok().json["series"]
    assert (row["series"], row["deposited"], row["held"]) == (series, 3, 3)
    assert (row["missing_count"], row["differences"]) == (0, [])
    assert row["receipt"]
    assert "interpol" not in json.dumps(pt.run("series", "list").ok().json), "nobody else is told"


def test_a_database_that_takes_files_answers_by_file(trial: Federation, tmp_path: Path) -> None:
    """VICS 2.0 and its manifest go out, ICSE-style CSV comes back and is applied once."""
    es, folder = trial["es-gc"], tmp_path / "shared"
    folder.mkdir()
    series = _series(es, tmp_path, "Dropped", 4)
    words = ("upload", "drop", series, "--to", "interpol", "--folder", folder, *WHY)
    dropped = es.run(*words).ok().json
    assert es.run(*words).ok().json["unchanged"]
    drop = folder / dropped["drop"]["name"]
    document = json.loads((drop / "media.json").read_bytes())
    assert Schema().faults(document) == []
    manifest = json.loads((drop / "manifest.json").read_bytes())
    content = (drop / "media.json").read_bytes()
    assert manifest["sha256"] == hashlib.sha256(content).hexdigest()
    assert (manifest["from"], manifest["to"], manifest["records"]) == ("es-gc", "interpol", 4)
    assert b"Dropped" not in content, "names can identify a child"

    media = list(open_records(drop / "media.json", FileFormat.VICS))
    (drop / "picked-up").write_text("ACK-9\n")
    answer = tmp_path / "answer.csv"
    with answer.open("w", newline="") as stream:
        table = csv.writer(stream, delimiter=";")
        columns = ("MD5", "Series name", "Number of submissions", "Baseline", "Victim identified")
        table.writerow(columns)
        for one in media[:3]:
            assert isinstance(one, Record) and one.md5 is not None
            table.writerow((one.md5.hex(), "ICSE-4711", 5, "y", "y"))
        table.writerow(("f" * 32, "ICSE-1", 1, "n", "n"))
    told = ("upload", "reconcile", "--to", "interpol", "--folder", folder, "--answer", answer)
    found = es.run(*told).ok().json
    assert (found["deposited"], found["held"], found["missing_count"]) == (4, 3, 1)
    assert (found["foreign"], found["news"]) == (1, 2), "its number, and a line of its history"
    last = media[3]
    assert isinstance(last, Record) and last.md5 is not None
    assert found["missing"] == [{"series": series, "item": f"md5:{last.md5.hex()}"}]
    (tally,) = found["series"]
    assert (tally["number"], tally["submissions"]) == ("ICSE-4711", 5)
    assert (tally["baseline"], tally["identified"]) == (3, 3)
    shown = _show(es, series)
    assert (shown["number"], shown["status"]) == ("ICSE-4711", "identified")
    assert es.run(*told).ok().json["news"] == 0
    (upload,) = [one for one in es.run("uploads").ok().json["uploads"] if one["series"] == series]
    assert (upload["state"], upload["reference"]) == ("numbered", "ICSE-4711")


# --- what becomes of a telling --------------------------------------------------------------------


def test_both_agencies_of_a_country_are_told_and_one_leads(
    trial: Federation, tmp_path: Path
) -> None:
    es = trial["es-gc"]
    series = _series(es, tmp_path, "Of two")
    told = _localised(es, series, "US", "--urgency", "routine")
    assert sorted(one["recipient"] for one in told) == sorted(_US)
    entries = {agency: _entry(trial[agency], series)["id"] for agency in _US}
    trial["us-fbi"].run("inbox", "ack", entries["us-fbi"]).ok()
    trial["us-fbi"].run("inbox", "accept", entries["us-fbi"]).ok()
    for agency in ("es-gc", *_US):
        _becomes(
            f"{agency} knows who leads",
            partial(_leads, trial[agency], series),
            {"us-fbi"},
        )
    trial["us-fbi"].run("inbox", "outcome", entries["us-fbi"], "--identified", 1).ok()
    _becomes(
        "the outcome is here",
        lambda: {one["recipient"]: one["state"] for one in _clock(es, series)},
        {"us-fbi": "outcome", "us-ice": "delivered"},
    )
    assert _show(es, series)["identified"] == 1


def test_who_stays_silent_is_reminded_then_the_hub_and_then_another_is_told(
    trial: Federation, tmp_path: Path
) -> None:
    es, pt, hub = trial["es-gc"], trial["pt-pj"], trial["europol-ec3"]
    series = _series(es, tmp_path, "Silent")
    (told,) = _localised(es, series, "PT", "--urgency", "urgent")
    assert told["recipient"] == "pt-pj"

    def raised(node: Node, kind: str) -> Any:
        found = node.audit("--action", f"alarm.{kind}")
        return [one for one in found if told["id"] in json.dumps(one)]

    wait_for("its officers are reminded", lambda: raised(pt, "reminder"))
    for node in (pt, es):
        wait_for(f"{node} says that nobody has it", partial(raised, node, "unacknowledged"))
    wait_for("the hub is told", lambda: raised(hub, "escalated"))
    entry = _entry(trial["us-ice"], series)
    assert "pt-pj was told on" in entry["referral"]["note"]
    assert (entry["referral"]["country"], entry["referral"]["urgency"]) == ("PT", "urgent")
    assert (entry["referral"]["purpose"], entry["referral"]["case"]) == WHY[1::2]
    assert len(raised(es, "fallback")) == 1
    trial["us-ice"].run("inbox", "accept", entry["id"]).ok()
    _becomes(
        "who took it up is known",
        lambda: {one["recipient"]: one["state"] for one in _clock(es, series)},
        {"pt-pj": "delivered", "us-ice": "accepted"},
    )
    pt.run("inbox", "ack", told["id"]).ok()
    _becomes(
        "it woke up",
        lambda: {one["recipient"]: one["state"] for one in _clock(es, series)},
        {"pt-pj": "acknowledged", "us-ice": "accepted"},
    )
    assert all(len(raised(pt, kind)) == 1 for kind in ("reminder", "unacknowledged"))


def test_a_country_of_no_member_is_told_outside_under_a_reference(
    trial: Federation, tmp_path: Path
) -> None:
    es, hub = trial["es-gc"], trial["europol-ec3"]
    series = _series(es, tmp_path, "Outside")
    (told,) = _localised(es, series, "BR", "--urgency", "routine")
    assert (told["recipient"], told["country"]) == ("europol-ec3", "BR")
    entry = _entry(hub, series)
    assert hub.run("clock", "told-outside", entry["id"]).code == 2, "a reference is needed"
    hub.run("clock", "told-outside", entry["id"], "--reference", "I247-88").ok()
    for node in (es, hub):
        _becomes(
            f"{node} knows the reference",
            partial(_last_steps, node, series),
            [("passed_on", "told_outside", "I247-88")],
        )
    assert _show(es, series)["untold_countries"] == []
    hub.run("inbox", "outcome", entry["id"], "--identified", 2).ok()
    _becomes("the outcome is here", lambda: _show(es, series)["identified"], 2)
    lines = es.run("clock", "report", "--series", series).ok().json
    assert '"told_outside": 1' in json.dumps(lines)
