"""A file counts whole or not at all, whatever happens to the file, the person or the node."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tieline_client.formats import FileFormat
from tieline_client.importing import ImportOptions, ImportReport

from tests.e2e.federation import (
    COMMAND_SECONDS,
    WHY,
    Federation,
    Node,
    federation,
    tieline_process,
    wait_for,
)

_LARGE = 200_000
_FIRST_BYTES = 4_000_000
"""Of the large file, some 45,000 records."""
_PAUSE_SECONDS = 10.0
"""At each megabyte of the rest: two minutes in all, and half of what the node waits for the next
message."""
_SLOWLY = """
import sys, time
from tieline_client.cli import main
from tieline_client.formats import text

whole = text.raw_chunks

def slowly(*words):
    for number, chunk in enumerate(whole(*words), 1):
        yield chunk
        if number > 3:
            time.sleep(5)

text.raw_chunks = slowly
sys.exit(main())
"""
"""The command, which takes a minute for the large file: however fast the machine, it is under way
when something befalls it."""


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    members = [("pt-pj", "national", "PT"), ("es-gc", "national", "ES")]
    with federation(tmp_path_factory.mktemp("import"), members) as made:
        yield made


@pytest.fixture(autouse=True)
def _all_run(trial: Federation) -> None:
    """A test that failed while a node was down is not a reason for the next to fail."""
    for node in trial:
        if not node.running:
            node.start()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200,000 records with two digests each."""
    path = tmp_path_factory.mktemp("large") / "large.csv"
    with path.open("w") as file:
        file.write("md5;sha1;category\n")
        for number in range(_LARGE):
            text = b"large/%d" % number
            md5, sha1 = hashlib.md5(text).hexdigest(), hashlib.sha1(text).hexdigest()
            file.write(f"{md5};{sha1};vics:1\n")
    return path


def digests(text: str) -> dict[str, str]:
    data = text.encode()
    return {"MD5": hashlib.md5(data).hexdigest().upper(), "SHA1": hashlib.sha1(data).hexdigest()}


def vics(path: Path, media: Iterable[dict[str, object]]) -> Path:
    """Write a VICS 2.0 case file."""
    context = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/US/$metadata#Cases"
    case = {"CaseID": "0", "CaseNumber": "7", "Media": list(media)}
    path.write_text(json.dumps({"@odata.context": context, "value": [case]}))
    return path


def media(name: str, count: int, **more: object) -> list[dict[str, object]]:
    return [
        {"MediaID": number, "Category": 1, **digests(f"{name}/{number}"), **more}
        for number in range(count)
    ]


def _list(path: Path, *names: str) -> Path:
    path.write_text("".join(f"sha1:{digests(name)['SHA1']}\n" for name in names))
    return path


def snapshot(node: Node) -> Any:
    """All that an import may leave: counts as shown, and rows as they lie in the tables."""
    tables = ("items", "holdings", "imports", "item_fills", "item_links", "votes", "exclusions")
    counts = [node.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables]
    unfinished = node.rows("SELECT id FROM imports WHERE generation IS NULL")
    return node.stats(), dict(zip(tables, counts, strict=True)), unfinished


def left_nothing(node: Node, before: Any) -> None:
    """Wait until what was staged is gone; nothing else may have changed."""
    assert before[2] == []
    wait_for("what was staged is erased", lambda: snapshot(node) == before)


# --- twice --------------------------------------------------------------------------------------


def test_the_same_file_twice_changes_nothing(trial: Federation, tmp_path: Path) -> None:
    node = trial["pt-pj"]
    rows = [
        *media("twice", 50, Series="Twice", Tags="a,b"),
        *media("outside", 7, Category=0),
        {"MediaID": 99, "Category": 1, "MD5": "not a digest"},
        {"MediaID": 98, "Category": 2, "MD5": "D41D8CD98F00B204E9800998ECF8427E"},
    ]
    file = vics(tmp_path / "case.json", rows)
    first = node.import_file(file)
    assert (first["format"], first["records"]) == ("vics", 59)
    assert (first["items_new"], first["items_known"], first["excluded"]) == (50, 0, 7)
    assert (first["set_aside"], len(first["series"])) == (1, 1)
    assert [one["record"] for one in first["rejected"]] == [58, 59]
    before = snapshot(node)
    again = node.import_file(file)
    assert snapshot(node) == before
    assert (again["items_new"], again["items_known"], again["excluded"]) == (0, 50, 7)
    assert again["series"] == first["series"]
    assert again["rejected"] == first["rejected"]
    # The same content in another file: known, and nothing is held twice for the same case.
    other = node.import_file(
        vics(tmp_path / "copy.json", [*rows, *media("outside", 1, Category=5)])
    )
    assert (other["items_new"], other["items_known"]) == (0, 50)
    after = snapshot(node)
    assert after[0]["items"] == before[0]["items"]
    assert after[0]["holdings"] == before[0]["holdings"]
    # For another case it is a holding of its own, of the same items.
    node.import_file(file, "--case", "C-2")
    assert node.stats()["items"] == before[0]["items"]
    assert node.stats()["holdings"] == before[0]["holdings"] + 50
    assert node.audit("--action", "import.repeated")


def test_a_file_outside_the_categories_is_no_repetition(trial: Federation, tmp_path: Path) -> None:
    node = trial["es-gc"]
    file = tmp_path / "outside.csv"
    file.write_text(f"md5;category\n{digests('outside the categories')['MD5']};vics-us:0\n")
    before = snapshot(node)
    for count in (1, 2):
        report = node.import_file(file, "--series", "Nowhere")
        assert (report["records"], report["excluded"], report["skipped"]) == (1, 1, False)
        assert report["series"] == []
        entries = node.audit("--action", "import.empty")
        assert [(one["subjects"], one["detail"]["excluded"]) for one in entries] == [
            ([], 1)
        ] * count
    assert node.audit("--action", "import.repeated") == []
    assert snapshot(node) == before


def test_a_stricter_word_on_what_is_held_is_kept(trial: Federation, tmp_path: Path) -> None:
    node = trial["es-gc"]
    file = _list(tmp_path / "stricter.txt", "stricter")
    node.import_file(file)
    node.import_file(file, "--handling", "H2", "--tlp", "amber+strict")
    found = node.rows(
        "SELECT m.handling FROM holdings h JOIN imports m ON m.no = h.import_no"
        " JOIN items i ON i.id = h.item WHERE i.sha1 = ? ORDER BY 1",
        bytes.fromhex(digests("stricter")["SHA1"]),
    )
    assert found == [(0,), (2,)]


# --- broken and hostile -------------------------------------------------------------------------


def _broken(folder: Path) -> dict[str, Path]:
    whole = vics(folder / "whole.json", media("broken", 30_000)).read_bytes()
    files = {
        "truncated": whole[: len(whole) * 9 // 10],
        "nested": whole[:-3] + b',{"MD5":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}]}",
        "not-a-number": whole.replace(b'"Category": 1', b'"Category": NaN', 1),
        "garbage": whole[: len(whole) // 2] + b"\x00\xff\xfe" + whole[len(whole) // 2 :],
        "twice-the-key": whole.replace(b'"MediaID": 29000', b'"MD5": "00", "MediaID": 29000', 1),
        "empty": b"",
    }
    made = {}
    for name, data in files.items():
        made[name] = folder / f"{name}.json"
        made[name].write_bytes(data)
    xml = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "y">]><queryResult>&x;</queryResult>'
    made["entities"] = folder / "entities.xml"
    made["entities"].write_text(xml)
    return made


def test_a_broken_or_hostile_file_leaves_nothing(trial: Federation, tmp_path: Path) -> None:
    node = trial["pt-pj"]
    before = snapshot(node)
    for name, file in _broken(tmp_path).items():
        result = node.run("hashes", "import", file, "--case", "C-1", "--series", f"From {name}")
        assert result.code == 1, name
        assert len(result.err.strip().splitlines()) == 1, name
        assert file.name in result.err
        assert result.json["files"][0]["items_new"] == 0
        left_nothing(node, before)
    none_valid = tmp_path / "none.json"
    vics(none_valid, [{"MediaID": 1, "Category": 1, "MD5": "zz"}])
    assert node.run("hashes", "import", none_valid, "--case", "C-1").code == 1
    left_nothing(node, before)
    missing = node.run("hashes", "import", tmp_path / "missing.json", "--case", "C-1")
    assert missing.code == 2
    left_nothing(node, before)


def test_text_in_a_file_stays_text(trial: Federation, tmp_path: Path) -> None:
    node = trial["es-gc"]
    name = "Robert'); DROP TABLE items;-- <script>\x1b[31m"
    file = vics(tmp_path / "inert.json", media("inert", 2, Series=name))
    result = tieline_process("hashes", "import", file, "--case", "C-1", "--home", node.home)
    shown = tieline_process("series", "list", "--home", node.home)
    for text in (result.out, result.err, shown.out, node.log.read_text()):
        assert "\x1b[31m" not in text
    assert node.stats()["items"] >= 2


# --- large --------------------------------------------------------------------------------------


def _staged(node: Node) -> int:
    return int(
        node.rows(
            "SELECT count(*) FROM holdings h JOIN imports m ON m.no = h.import_no"
            " WHERE m.generation IS NULL AND m.source = 'large.csv'"
        )[0][0]
    )


def test_work_goes_on_while_a_large_file_is_imported(
    trial: Federation, large: Path, tmp_path: Path
) -> None:
    node, peer = trial["pt-pj"], trial["es-gc"]
    peer.import_file(_list(tmp_path / "shared.txt", "shared"))
    before = node.stats()["items"]
    done: list[str] = []
    report: list[ImportReport] = []
    rest = threading.Event()

    def held_back(read: int) -> None:
        """Let some records through, and the rest only once the others have done their work: which
        takes longer is a matter of the machine. Bounded, as the node's patience is."""
        if read > _FIRST_BYTES:
            rest.wait(_PAUSE_SECONDS)

    def import_large() -> None:
        options = ImportOptions(case_ref="C-9")
        with node.client() as client:
            report.append(client.import_file(large, FileFormat.CSV, options, held_back))
        done.append("large import")

    runs = threading.Thread(target=import_large)
    runs.start()
    try:
        wait_for("the large import is under way", lambda: _staged(node) >= 10_000)
        small = node.import_file(
            _list(tmp_path / "small.txt", "small", "shared"), "--series", "Small", "--case", "C-3"
        )
        assert small["items_new"] == 2
        done.append("small import")
        answer = node.ask(tmp_path / "small.txt", "--peer", "es-gc").ok().json["peers"][0]
        assert [one["record"] for one in answer["overlaps"]] == [2]
        done.append("query asked")
        other = peer.ask(tmp_path / "small.txt", "--peer", "pt-pj").ok().json["peers"][0]
        assert [one["record"] for one in other["overlaps"]] == [1, 2]
        done.append("query answered")
        told = node.run("series", "refer", "Small", "--country", "ES", *WHY).ok().json
        referral = told["referrals"][0]["id"]
        wait_for("it is delivered", lambda: any(e["id"] == referral for e in peer.inbox()))
        done.append("referral")
        # Nothing of the large file counts yet.
        assert node.stats()["items"] == before + 2
        done.append("counted")
    finally:
        rest.set()
        runs.join(COMMAND_SECONDS)
    assert done == [
        *("small import", "query asked", "query answered", "referral", "counted"),
        "large import",
    ]
    assert report[0].node.items_new == _LARGE
    assert node.stats()["items"] == before + 2 + _LARGE
    assert node.stats()["index_generation"] == node.stats()["generation"]


def test_a_node_killed_during_an_import_has_nothing_of_it(trial: Federation, large: Path) -> None:
    node = trial["es-gc"]
    before = snapshot(node)
    with _importing(node, large) as importer:
        wait_for("the import is under way", lambda: _staged(node) >= 10_000)
        node.kill()
        _, error = importer.communicate(timeout=COMMAND_SECONDS)
        assert importer.returncode == 4
        assert len(error.strip().splitlines()) == 1
    node.start()
    left_nothing(node, before)


def test_a_person_who_goes_away_leaves_nothing(trial: Federation, large: Path) -> None:
    node = trial["es-gc"]
    before = snapshot(node)
    for number in (signal.SIGKILL, signal.SIGINT):
        with _importing(node, large) as importer:
            wait_for("the import is under way", lambda: _staged(node) >= 5_000)
            importer.send_signal(number)
            importer.communicate(timeout=COMMAND_SECONDS)
            assert importer.returncode != 0
        left_nothing(node, before)


def test_a_repeated_command_goes_on_where_it_was_cut_off(
    trial: Federation, large: Path, tmp_path: Path
) -> None:
    node = trial["es-gc"]
    first = _list(tmp_path / "first.txt", "first of several")
    for number in (signal.SIGINT, signal.SIGKILL):
        with _importing(node, first, large, case="C-12") as importer:
            wait_for("the second file is under way", lambda: _staged(node) >= 5_000)
            importer.send_signal(number)
            importer.communicate(timeout=COMMAND_SECONDS)
            assert importer.returncode != 0
        wait_for("what was staged is erased", lambda: _staged(node) == 0)
    with _importing(node, first, large, case="C-12") as importer:
        wait_for("the second file is under way", lambda: _staged(node) >= 5_000)
        node.kill()
        importer.communicate(timeout=COMMAND_SECONDS)
    node.start()
    words = ("hashes", "import", first, large, "--case", "C-12", "--home", node.home, "--json")
    result = tieline_process(*words).ok()
    done, rest = result.json["files"]
    assert (done["skipped"], done["records"], done["items_known"]) == (True, 1, 1)
    assert (rest["skipped"], rest["records"], rest["items_new"]) == (False, _LARGE, _LARGE)
    assert "first.txt: the same counts already; skipped" in result.err
    before = node.stats()
    again = tieline_process(*words).ok()
    assert [one["skipped"] for one in again.json["files"]] == [True, True]
    assert node.stats() == before


def _importing(node: Node, *files: Path, case: str = "C-9") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            _SLOWLY,
            "hashes",
            "import",
            *files,
            "--case",
            case,
            "--home",
            node.home,
            "--json",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- what counts, and under what ----------------------------------------------------------------


def test_known_good_files_never_become_holdings(trial: Federation, tmp_path: Path) -> None:
    node = trial["es-gc"]
    nsrl = tmp_path / "NSRLFile.txt"
    header = (
        '"SHA-1","MD5","CRC32","FileName","FileSize","ProductCode","OpSystemCode","SpecialCode"'
    )
    good = [digests(f"good/{number}") for number in range(40)]
    lines = [
        f'"{one["SHA1"].upper()}","{one["MD5"]}","00000000","k{n}.dll",1,2,"362",""'
        for n, one in enumerate(good)
    ]
    nsrl.write_text("\r\n".join([header, *lines]) + "\r\n", encoding="iso-8859-1")
    refused = node.run("hashes", "import", nsrl, "--case", "C-1")
    assert refused.code == 2
    before = node.stats()
    report = node.import_file(nsrl, "--as", "exclusions")
    assert (report["format"], report["items_new"]) == ("nsrl", 40)
    assert node.stats()["exclusions"] == before["exclusions"] + 80
    assert node.stats()["items"] == before["items"]
    rows = [*media("good", 40), *media("evil", 3)]
    seizure = node.import_file(vics(tmp_path / "seizure.json", rows), "--case", "C-4")
    assert (seizure["records"], seizure["excluded"], seizure["items_new"]) == (43, 40, 3)
    assert node.stats()["items"] == before["items"] + 3
    again = node.import_file(nsrl, "--as", "exclusions")
    assert (again["items_new"], again["items_known"]) == (0, 40)


def test_every_holding_says_whose_it_is_and_under_what(trial: Federation, tmp_path: Path) -> None:
    node, until = trial["pt-pj"], (datetime.now(UTC) + timedelta(days=100)).date().isoformat()
    officer = tmp_path / "ana.json"
    node.run("operator", "add", "ana", "--role", "analyst", "--out", officer).ok()
    file = vics(
        tmp_path / "whole.json",
        media("holding", 2, Series="S", VictimIdentified="true", IsDistributed=False),
    )
    result = tieline_process(
        *("hashes", "import", file, "--case", "PT-5", "--handling", "H3", "--restriction"),
        *("only for this team", "--tlp", "red", "--source", "A", "--information", 1),
        *("--retain-until", until, "--profile", officer, "--json"),
    ).ok()
    plain = node.import_file(_list(tmp_path / "plain.txt", "plain"), "--case", "PT-6")
    assert plain["items_new"] == 1
    wanted = "m.source, m.agency, m.person, m.case_ref, m.handling, m.tlp, m.source_evaluation,"
    found = node.rows(
        f"SELECT {wanted} m.information_evaluation, m.retain_until, m.restriction,"
        " k.id, h.victim_identified, h.offender_identified, h.distributed"
        " FROM holdings h JOIN imports m ON m.no = h.import_no"
        " LEFT JOIN series_keys k ON k.no = h.series_no"
        " WHERE m.case_ref IN ('PT-5', 'PT-6') ORDER BY m.case_ref"
    )
    series = result.json["files"][0]["series"][0]
    strict = (
        *("whole.json", "pt-pj", "ana", "PT-5", 3, 5, "A", 1, until, "only for this team"),
        *(series, 1, None, 0),
    )
    default = (date.fromisoformat(until) + timedelta(days=3 * 365 - 100)).isoformat()
    plain_row = (
        *("plain.txt", "pt-pj", "admin", "PT-6", 0, 3, "X", 4, default, ""),
        *(None, None, None, None),
    )
    assert found == [strict, strict, plain_row]
    entry = node.audit("--case", "PT-5", "--action", "import")[0]
    assert (entry["person"], entry["detail"]["items_new"]) == ("ana", 2)
    shown = node.run("series", "show", series).ok().json["handling"]
    assert (shown["code"], shown["restriction"]) == ("H3", "only for this team")
    past = node.run("hashes", "import", file, "--case", "PT-7", "--retain-until", "2020-01-01")
    assert past.code == 1


# --- taken back ---------------------------------------------------------------------------------


def test_a_removed_import_is_found_by_nobody_though_the_node_is_killed(
    trial: Federation, tmp_path: Path
) -> None:
    node, asker = trial["pt-pj"], trial["es-gc"]
    names = [f"removed/{number}" for number in range(30_000)]
    wrong = _list(tmp_path / "wrong.txt", *names)
    asked = _list(tmp_path / "asked.txt", *names[:60])
    node.import_file(wrong, "--series", "Wrong")
    node.import_file(_list(tmp_path / "right.txt", *names[50:60]), "--case", "C-9")
    before = node.stats()["items"]
    (newest, row) = node.run("hashes", "imports", "--most", 2).ok().json["imports"]
    assert (row["file"], row["items_new"], row["state"]) == ("wrong.txt", 30_000, "counts")

    def found() -> int:
        answer = asker.ask(asked, "--peer", "pt-pj").ok().json
        return len(answer["peers"][0]["overlaps"])

    assert found() == 60
    removal = ("hashes", "remove", row["id"], "--reason", "the file was of another case")
    assert node.run(*removal).ok().json["stored"] <= 30_000
    node.kill()
    node.start()
    assert found() == 10

    def state() -> str:
        listed = node.run("hashes", "imports").ok().json["imports"]
        return str(next(one["state"] for one in listed if one["id"] == row["id"]))

    wait_for("no file holds it any more", lambda: state() == "removed")
    assert found() == 10
    assert node.stats()["items"] == before - 29_990
    assert node.run(*removal).ok().json["repeated"]
    (entry,) = node.audit("--action", "import.removed")
    assert row["id"] in entry["subjects"] and newest["id"] not in entry["subjects"]
