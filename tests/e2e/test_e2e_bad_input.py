"""What mistakes get: one clear line, the contract's exit code, no traceback, nothing half done.

Commands run in processes of their own, as a person would run them (``tieline_process`` fails on a
traceback); nodes are real.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tieline_client.profile import utc_now
from tieline_server.storage.engine import open_store

from tests.e2e.federation import WHY, Federation, Result, federation, tieline_process

ONE = "ab" * 20


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A hub that runs, and a member whose node is stopped."""
    members = (("pt-pj", "national", "PT"), ("europol-ec3", "hub"))
    with federation(tmp_path_factory.mktemp("mistakes"), members) as made:
        made["europol-ec3"].stop()
        (made.root / "one.txt").write_text(f"{ONE}\n")
        yield made


def _refused(result: Result, code: int, *words: str) -> None:
    """One line that says what is wrong, this exit code, nothing on stdout."""
    assert result.code == code, result
    lines = [line for line in result.err.splitlines() if line.strip()]
    assert any(line.startswith("error: ") for line in lines), result.err
    for word in words:
        assert word in result.err, result.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("series", "list", "--frob"), 2, "--frob"),
        (("frobnicate",), 2, "frobnicate"),
        (("hashes", "import", "no-such-file.csv"), 2, "no-such-file.csv"),
        (("inbox", "show", "123"), 2, "UUIDv7"),
        (("series", "show", "nothing"), 1, "tieline series list"),
        (("series", "refer", "nothing", *WHY), 1, "tieline series list"),
        (("broadcast", "nothing", "--group", "g", *WHY), 3, "hub"),
        (("series", "assess", "x", "--country", "Portugal", "--confidence", "low",
          "--grounds", "g"), 2, "PT"),
    ],
)  # fmt: skip
def test_a_mistaken_command(
    nodes: Federation, words: tuple[str, ...], code: int, said: str
) -> None:
    home = ("--home", nodes["pt-pj"].home) if words != ("frobnicate",) else ()
    _refused(tieline_process(*words, *home), code, said)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "--purpose"),
        (("--purpose", "victim-identification"), 2, "--case"),
        (("--purpose", "curiosity", "--case", "1"), 1, "curiosity"),
        ((*WHY, "--peer", "xx-yy"), 1, "xx-yy"),
        ((*WHY, "--peer", "pt-pj"), 1, "pt-pj"),
    ],
)
def test_a_mistaken_question(
    nodes: Federation, words: tuple[str, ...], code: int, said: str
) -> None:
    file = nodes.root / "one.txt"
    home = nodes["pt-pj"].home
    _refused(tieline_process("overlap", file, *words, "--home", home), code, said)


def test_an_unreachable_peer_is_exit_4(nodes: Federation) -> None:
    result = nodes["pt-pj"].ask(nodes.root / "one.txt", "--peer", "europol-ec3")
    assert result.code == 4
    (peer,) = result.json["peers"]
    assert peer["status"] == "unreachable"
    assert peer["reason"]


def test_a_node_that_is_not_there_is_exit_4(nodes: Federation) -> None:
    home = nodes["europol-ec3"].home
    _refused(tieline_process("hashes", "stats", "--home", home), 4, "tieline node serve")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("photo.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(range(256)), "never reads media"),
        ("short.txt", b"abcdef\n123\n", "hash"),
        ("half.json", b'{"odata.metadata":"http://github.com/ICMEC/ProjectVic/DataModels/1.3.xml'
                      b'#Media","value":[{"MediaID":1,"MD5":"' + b"0f" * 16 + b'"', "half.json"),
        ("empty.csv", b"", "empty.csv"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_leaves_nothing(
    nodes: Federation, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    node = nodes["pt-pj"]
    before = node.stats()
    result = tieline_process("hashes", "import", file, "--home", node.home)
    assert result.code == 1, result
    assert said in result.err
    assert node.stats() == before


def test_people_without_the_role_are_refused_and_the_revoked_too(
    nodes: Federation, tmp_path: Path
) -> None:
    node = nodes["pt-pj"]
    profile = tmp_path / "rui.json"
    node.run("operator", "add", "rui", "--role", "auditor", "--out", profile).ok()
    me = ("--profile", profile)
    assert tieline_process("hashes", "stats", *me).ok()
    _refused(tieline_process("series", "create", "x", *me), 3, "role")
    node.run("operator", "revoke", "rui").ok()
    _refused(tieline_process("hashes", "stats", *me), 3, "rui")
    (refused,) = [e for e in node.audit("--action", "refusal") if e["person"] == "rui"]
    assert refused["detail"]["reason"] == "ROLE_REFUSED"


def test_text_from_elsewhere_is_inert(nodes: Federation) -> None:
    node = nodes["pt-pj"]
    name = "x\x1b[2J<script>alert(1)</script>\r\n=cmd"
    made = tieline_process("series", "create", name, "--home", node.home)
    listed = tieline_process("series", "list", "--home", node.home)
    for result in (made, listed):
        assert "\x1b" not in result.out + result.err
        assert "\r" not in result.out + result.err


def test_a_second_node_on_the_same_home(nodes: Federation) -> None:
    _refused(tieline_process("node", "serve", nodes["pt-pj"].home), 1, "another process serves")


@pytest.fixture
def copy(nodes: Federation, tmp_path: Path) -> Path:
    """A stopped node's home, to be spoilt."""
    return Path(shutil.copytree(nodes["europol-ec3"].home, tmp_path / "home"))


def test_a_port_that_is_taken(nodes: Federation, copy: Path) -> None:
    config = copy / "config.toml"
    text = config.read_text().replace(nodes["europol-ec3"].address, nodes["pt-pj"].address)
    config.write_text(text)
    _refused(tieline_process("node", "serve", copy), 1, "cannot listen", "in use")


def test_a_home_that_others_may_read(copy: Path) -> None:
    copy.chmod(0o755)
    _refused(tieline_process("node", "serve", copy), 1, "chmod 700")


def test_a_key_that_others_may_read(copy: Path) -> None:
    (copy / "keys" / "signing.key").chmod(0o644)
    _refused(tieline_process("node", "serve", copy), 1, "chmod 600")


def test_a_database_of_a_newer_version(copy: Path) -> None:
    with closing(sqlite3.connect(copy / "database.sqlite3")) as database:
        database.execute("update alembic_version set version_num = '9999'")
        database.commit()
    _refused(tieline_process("node", "serve", copy), 1, "newer Tieline")


def test_a_damaged_database(copy: Path) -> None:
    for extra in copy.glob("database.sqlite3-*"):
        extra.unlink()
    (copy / "database.sqlite3").write_bytes(b"not a database at all" * 500)
    _refused(tieline_process("node", "serve", copy), 1, "damaged")


def test_a_database_that_is_gone_is_not_made_anew(copy: Path) -> None:
    """It would tell every peer that nothing is held here."""
    kept = copy / "database.sqlite3"
    for extra in copy.glob("database.sqlite3*"):
        extra.rename(copy.parent / extra.name)
    _refused(tieline_process("node", "serve", copy), 1, "is not there", "tieline node restore")
    assert not kept.exists()
    told = tieline_process("doctor", "--home", copy)
    assert told.code == 1 and "is not there" in told.out + told.err


@pytest.mark.parametrize("made", [False, True])
def test_another_database_is_not_taken_for_the_homes_own(copy: Path, made: bool) -> None:
    other = copy.parent / "other.sqlite3"
    if made:
        open_store(f"sqlite:///{other}", clock=utc_now).close()
    config = copy / "config.toml"
    text = config.read_text()
    assert 'database = ""' in text
    config.write_text(text.replace('database = ""', f'database = "sqlite:///{other}"'))
    said = "knows none of admin" if made else "is not there"
    _refused(tieline_process("node", "serve", copy), 1, said, "correct `database`")
    assert other.exists() == made


def test_a_key_that_is_gone(copy: Path) -> None:
    (copy / "keys" / "node.key").unlink()
    told = tieline_process("doctor", "--home", copy)
    assert told.code == 1 and "node.key" in told.out and "tieline node restore" in told.out


def test_two_ports_that_are_one(copy: Path, nodes: Federation) -> None:
    node = nodes["europol-ec3"]
    config = copy / "config.toml"
    config.write_text(config.read_text().replace(node.operator_address, node.address))
    _refused(tieline_process("node", "serve", copy), 1, "different ports")


def test_a_configuration_that_is_wrong(copy: Path) -> None:
    (copy / "config.toml").write_text("agency = 5\n")
    _refused(tieline_process("node", "serve", copy), 1, "agency")
    (copy / "config.toml").write_text("agency = \n")
    _refused(tieline_process("node", "serve", copy), 1, "config.toml")


def test_a_home_that_is_none(tmp_path: Path) -> None:
    _refused(tieline_process("node", "serve", tmp_path / "nowhere"), 1, "tieline node init")


def test_an_agency_that_is_not_admitted(nodes: Federation, tmp_path: Path) -> None:
    made = tieline_process(
        "node", "init", tmp_path / "new", "--agency", "fr-ocrvp", "--name", "F", "--role",
        "national", "--country", "FR", "--listen", "127.0.0.1:18999", "--operator-listen",
        "127.0.0.1:18998",
    ).ok()  # fmt: skip
    assert len(made.out.strip()) == 64
    _refused(tieline_process("node", "serve", tmp_path / "new"), 1, "tieline node join")
    public = nodes.authority / "public"
    joined = tieline_process("node", "join", tmp_path / "new", "--federation", public)
    _refused(joined, 1, "federation admit")
