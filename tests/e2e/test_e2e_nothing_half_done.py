"""More mistakes at real nodes: each one line and the contract's exit code, and nothing half done.

test_e2e_bad_input.py has the common ones. Here: people's papers, files that lie, text that would
like to be more than text, homes that others made.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.profile import Profile, utc_now
from tieline_server.trust.authority import issue_operator_leaf

from tests.e2e.federation import (
    WHY,
    Federation,
    Node,
    Result,
    federation,
    free_port,
    tieline,
    tieline_process,
    wait_for,
)
from tests.e2e.rogue import Rogue
from tests.trust.forging import CLIENT, DAY, Forger, World

ONE = "ab" * 20


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    members = (("pt-pj", "national", "PT"), ("es-gc", "national", "ES"), ("europol-ec3", "hub"))
    with federation(tmp_path_factory.mktemp("half"), members) as made:
        yield made


@pytest.fixture
def pt(nodes: Federation) -> Node:
    return nodes["pt-pj"]


def _said(result: Result, code: int, *words: str) -> None:
    """Exactly one line on stderr, an error that says these words; nothing on stdout."""
    assert result.code == code, (result.code, result.err, result.out)
    lines = [line for line in result.err.splitlines() if line.strip()]
    assert len(lines) == 1, result.err
    assert lines[0].startswith("error: ")
    assert result.out == ""
    for word in words:
        assert word in lines[0], lines[0]


# --- papers ---------------------------------------------------------------------------------------


def _profile(node: Node, tmp_path: Path, **changes: Any) -> Path:
    """A copy of the first operator's profile with changes."""
    document = json.loads(node.profile.read_text()) | changes
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return path


def _with_leaf(nodes: Federation, node: Node, tmp_path: Path, **leaf: Any) -> Path:
    """A profile whose certificate the node's own operator CA forged."""
    rogue = Rogue(node, nodes.name)
    authority = rogue.authority(Kind.OPERATOR)
    world = World(nodes.name, utc_now(), authority, authority, authority)
    honest = Profile.load(node.profile)
    key = keys.generate()
    names = issue_operator_leaf(authority, honest.operator, key.public_key(), now=utc_now())
    sans = [one.value for one in names.extensions if one.oid.dotted_string == "2.5.29.17"]
    forged = Forger(world, authority.certificate, authority.key).leaf(
        node.agency, names=list(sans[0]), extended=[CLIENT], key=key, **leaf
    )
    return _profile(
        node, tmp_path, certificate=forged.pem.decode(), key=keys.private_pem(key).decode()
    )


def test_an_expired_certificate(nodes: Federation, pt: Node, tmp_path: Path) -> None:
    profile = _with_leaf(nodes, pt, tmp_path, start=-9 * DAY, end=-2 * DAY)
    _said(tieline("hashes", "stats", "--profile", profile), 3, "valid from", "operator add admin")


def test_a_certificate_that_is_not_valid_yet(nodes: Federation, pt: Node, tmp_path: Path) -> None:
    profile = _with_leaf(nodes, pt, tmp_path, start=2 * DAY)
    _said(tieline("hashes", "stats", "--profile", profile), 3, "check the clock")


def test_a_certificate_that_the_node_did_not_issue(
    nodes: Federation, pt: Node, tmp_path: Path
) -> None:
    profile = _with_leaf(nodes, pt, tmp_path)
    _said(tieline("hashes", "stats", "--profile", profile), 3, "replaced")


def test_the_key_of_somebody_else(pt: Node, tmp_path: Path) -> None:
    key = keys.private_pem(keys.generate()).decode()
    profile = _profile(pt, tmp_path, key=key)
    _said(tieline("hashes", "stats", "--profile", profile), 1, "does not belong")


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"key": "-----BEGIN PRIVATE KEY-----"}, 1, "damaged"),
        ({"certificate": "none"}, 1, "damaged"),
        ({"address": "127.0.0.1"}, 1, "HOST:PORT"),
        ({"agency": "es-gc"}, 1, "target name"),
        ({"node_ca": ""}, 1, "node_ca"),
    ],
)
def test_a_damaged_profile(
    pt: Node, tmp_path: Path, changes: dict[str, str], code: int, words: str
) -> None:
    profile = _profile(pt, tmp_path, **changes)
    _said(tieline("hashes", "stats", "--profile", profile), code, words)


def test_a_profile_that_others_may_read(pt: Node, tmp_path: Path) -> None:
    profile = _profile(pt, tmp_path)
    profile.chmod(0o644)
    _said(tieline("hashes", "stats", "--profile", profile), 1, "chmod 600")


def test_a_profile_that_leads_to_another_node(nodes: Federation, pt: Node, tmp_path: Path) -> None:
    profile = _profile(pt, tmp_path, address=nodes["es-gc"].operator_address)
    _said(tieline("hashes", "stats", "--profile", profile), 3, "certificate")


def test_a_profile_is_never_overwritten_and_nobody_is_added(pt: Node, tmp_path: Path) -> None:
    taken = tmp_path / "taken.json"
    taken.write_text("mine")
    result = pt.run("operator", "add", "rui", "--role", "analyst", "--out", taken)
    assert result.code == 2
    assert "exists" in result.err
    assert taken.read_text() == "mine"
    nowhere = tmp_path / "no" / "folder" / "rui.json"
    assert pt.run("operator", "add", "rui", "--role", "analyst", "--out", nowhere).code == 2
    people = pt.run("operator", "list").ok().json
    assert "rui" not in json.dumps(people)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("operator", "add", "Ana Silva", "--role", "analyst", "--out", "x.json"), 2),
        (("operator", "add", "ana", "--role", "boss", "--out", "x.json"), 2),
        (("operator", "add", "ana", "--out", "x.json"), 2),
        (("operator", "revoke", "nobody"), 1),
        (("operator", "revoke", "admin"), 1),
    ],
)
def test_people_who_cannot_be(pt: Node, tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    words = tuple(str(tmp_path / word) if word == "x.json" else word for word in words)
    _said(tieline(*words, "--home", pt.home), code)
    assert not (tmp_path / "x.json").exists()


# --- files ----------------------------------------------------------------------------------------

HASHES = {
    "md5": "0" * 31 + "1",
    "sha1": "0" * 39 + "1",
    "sha256": "0" * 63 + "1",
}


@pytest.mark.parametrize(
    "line",
    [
        HASHES["md5"][:-1],
        HASHES["sha1"] + "0",
        HASHES["sha256"][:-2],
        "md5:" + HASHES["sha1"],
        "sha256:" + HASHES["md5"],
        "sha512:" + "0" * 128,
        "pdq:" + HASHES["sha1"],
        "g" * 40,
    ],
)
def test_a_hash_of_the_wrong_length_or_kind(pt: Node, tmp_path: Path, line: str) -> None:
    before = pt.stats()
    file = tmp_path / "list.txt"
    file.write_text(f"{line}\n")
    result = pt.run("hashes", "import", file, "--format", "list")
    assert result.code == 1
    assert "list.txt" in result.err
    # Beside a good one it is one rejected record, by its number, and the good one counts.
    file.write_text(f"sha1:{os.urandom(20).hex()}\n{line}\n")
    report = pt.import_file(file, "--format", "list")
    assert [one["record"] for one in report["rejected"]] == [2]
    assert (report["records"], report["items_new"]) == (2, 1)
    assert pt.stats()["items"] == before["items"] + 1


JPEG = bytes.fromhex("ffd8ffe000104a46494600010101004800480000ffdb004300") + bytes(range(256)) * 8


@pytest.mark.parametrize("name", ["photo.jpg", "photo.txt", "hashes.csv"])
def test_a_picture_is_neither_imported_nor_asked_about(
    nodes: Federation, pt: Node, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_bytes(JPEG)
    before, asked = pt.stats(), len(nodes["es-gc"].audit("--action", "query.answered"))
    _said(tieline("hashes", "import", file, "--home", pt.home), 1, name)
    _said(tieline("overlap", file, *WHY, "--home", pt.home), 1, name)
    assert pt.stats() == before
    assert len(nodes["es-gc"].audit("--action", "query.answered")) == asked
    # The client hangs up; the node erases what the call began.
    left = "select 1 from imports where generation is null"
    wait_for("nothing is left", lambda: not pt.rows(left))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("hashes", "import"), 2, "FILE"),
        (("hashes", "import", "/"), 1, "/"),
        (("hashes", "import", "{one}", "--handling", "H9"), 2, "H9"),
        (("hashes", "import", "{one}", "--tlp", "pink"), 2, "pink"),
        (("hashes", "import", "{one}", "--retain-until", "soon"), 2, "soon"),
        (("hashes", "import", "{one}", "--retain-until", "2020-01-01"), 1, "past"),
        (("hashes", "import", "{one}", "--category", "x"), 2, "SCHEME:VALUE"),
        (("hashes", "import", "{one}", "--format", "exe"), 2, "exe"),
        (("hashes", "import", "{one}", "--as", "loot"), 2, "loot"),
        (("overlap", "{one}", *WHY, "--peer", "pt_pj"), 2, "pt_pj"),
        (("overlap", "{one}", *WHY, "--peer", "xx-none"), 1, "xx-none"),
        (("overlap", "{one}", *WHY, "--peer", "es-gc", "--all"), 2, "not both"),
        (("overlap", "{one}", "--purpose", "tea", "--case", "1"), 1, "tea"),
        (("series", "refer", "Azul", "--country", "PORTUGAL", *WHY), 2, "PORTUGAL"),
        (("series", "refer", "Azul", "--urgency", "soonish", "--country", "ES", *WHY), 2, "soon"),
        (("upload", "Azul", "--to", "es-gc", *WHY), 1, ""),
        (("inbox", "ack", "00000000-0000-7000-8000-000000000000"), 1, "came in"),
        (("audit", "verify", "/no/such/file"), 2, "/no/such/file"),
    ],
)
def test_a_command_that_cannot_be(
    pt: Node, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    one = tmp_path / "one.txt"
    one.write_text(f"{ONE}\n")
    before = pt.stats()
    filled = [word.format(one=one) for word in words]
    result = tieline(*filled, "--home", pt.home)
    assert result.code == code, (result.code, result.err)
    assert said in result.err
    assert len(result.err.strip().splitlines()) == 1, result.err
    assert pt.stats() == before


# --- text that would be more ----------------------------------------------------------------------

_WILD = "Azul \x1b[31m\x1b]0;owned\x07 <script>alert(1)</script> '; drop table items; --\u202etxt"


def _inert(text: str) -> None:
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "\r" not in text


def test_wild_names_and_grounds_are_shown_inert(
    nodes: Federation, pt: Node, tmp_path: Path
) -> None:
    vics = {
        "odata.metadata": "http://github.com/ICMEC/ProjectVic/DataModels/1.3.xml/US/$metadata#Media",
        "value": [
            {
                "MediaID": 1,
                "MD5": os.urandom(16).hex(),
                "Category": 1,
                "Series": f"{_WILD}\r\nerror: all is lost",
            }
        ],
    }
    file = tmp_path / "wild.json"
    file.write_text(json.dumps(vics))
    report = pt.import_file(file)
    (series,) = report["series"]
    grounds = f"=HYPERLINK(1) {_WILD}\r\n2026-01-01 admin granted"
    assessed = tieline_process(
        *("series", "assess", series, "--country", "ES", "--confidence", "low"),
        *("--grounds", grounds, "--home", pt.home),
    )
    assert assessed.code in (0, 1, 2), assessed
    pt.run("series", "refer", series, "--agency", "es-gc", *WHY).ok()
    outputs = [assessed]
    for words in (
        ("series", "show", series),
        ("series", "list"),
        ("clock",),
        ("outbox",),
        ("audit", "search"),
    ):
        outputs.append(tieline(*words, "--home", pt.home))
        outputs.append(tieline(*words, "--json", "--home", pt.home))
    for result in outputs:
        _inert(result.out + result.err)
    shown = pt.run("series", "show", series).ok().json
    assert "<script>" in json.dumps(shown)
    log = pt.log.read_bytes()
    assert b"\x1b" not in log
    assert pt.stats()["items"] > 0
    assert pt.run("audit", "verify").ok().json["verified"]


def test_a_case_reference_is_one_line(pt: Node, tmp_path: Path) -> None:
    file = tmp_path / "one.txt"
    file.write_text(f"{ONE}\n")
    before = len(pt.audit())
    result = tieline("hashes", "import", file, "--case", "1\r\n2026 forged", "--home", pt.home)
    _said(result, 1, "control")
    assert not any("forged" in entry["case"] for entry in pt.audit()[before:])


# --- homes ----------------------------------------------------------------------------------------


def test_making_a_home_is_all_or_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    common = ("--name", "x", "--role", "national", "--operator-listen", "127.0.0.1:1234")
    for words, said in (
        (("--agency", "PT", "--listen", "127.0.0.1:1233"), "agency"),
        (("--agency", "pt-pj", "--listen", "somewhere"), "HOST:PORT"),
        (("--agency", "pt-pj", "--listen", "127.0.0.1:99999"), "HOST:PORT"),
        (("--agency", "pt-pj", "--listen", "127.0.0.1:1", "--country", "xx"), "country"),
        (("--agency", "pt-pj", "--listen", "127.0.0.1:1", "--role", "king"), "role"),
    ):
        _said(tieline("node", "init", home, *common, *words), 2, said)
        assert list(tmp_path.iterdir()) == []
    home.mkdir()
    (home / "mine").write_text("x")
    result = tieline(
        "node", "init", home, *common, "--agency", "pt-pj", "--listen", "127.0.0.1:1233"
    )
    _said(result, 1, "not empty")
    assert [path.name for path in home.iterdir()] == ["mine"]


def test_joining_something_else_changes_nothing(pt: Node, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(pt.home, home)
    before = sorted(path.name for path in (home / "directory").rglob("*"))
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (empty, tmp_path / "nothing"):
        result = tieline("node", "join", home, "--federation", folder)
        assert result.code in (1, 3)
        assert len(result.err.strip().splitlines()) == 1
    assert sorted(path.name for path in (home / "directory").rglob("*")) == before


def test_another_federation_is_not_joined_over_the_first(
    nodes: Federation, pt: Node, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(pt.home, home)
    tieline("federation", "init", tmp_path / "other", "--name", "other", "--trial").ok()
    result = tieline("node", "join", home, "--federation", tmp_path / "other" / "public")
    assert result.code in (1, 3)
    assert len(result.err.strip().splitlines()) == 1
    rogue = Rogue(Node(home, "pt-pj", free_port(), free_port()), nodes.name)
    assert rogue.directory.federation == nodes.name
