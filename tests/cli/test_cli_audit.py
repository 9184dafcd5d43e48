"""`tieline audit`: a log that was touched anywhere does not verify, and the entry is named."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st
from tieline.v1 import operator_pb2 as pb
from tieline_client.audit_log import verify_leaves
from tieline_client.merkle import EMPTY_ROOT, RootBuilder
from tieline_server.domain import merkle as server_merkle
from tieline_server.domain.audit import AuditEntry, leaf_bytes

from tests.cli.node_double import Refusal, Run, Served

# The leaves and roots that the reference implementation of RFC 6962 publishes.
RFC_LEAVES = [
    bytes.fromhex(each)
    for each in (
        *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
        "606162636465666768696a6b6c6d6e6f",
    )
]
RFC_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_roots_of_the_reference_log() -> None:
    tree = RootBuilder()
    assert tree.root() == EMPTY_ROOT
    for size, leaf in enumerate(RFC_LEAVES, start=1):
        tree.add(leaf)
        assert tree.root().hex() == RFC_ROOTS[size]


@given(st.lists(st.binary(max_size=4), max_size=70))
def test_client_and_server_build_the_same_tree(leaves: list[bytes]) -> None:
    tree = RootBuilder()
    hashes = [tree.add(leaf) for leaf in leaves]
    nodes = {
        (level, number): hashed
        for level, number, hashed in server_merkle.append(0, hashes, lambda _level, _number: b"")
    }
    assert tree.root() == server_merkle.root(len(leaves), lambda *at: nodes[at])


def a_log(count: int) -> list[bytes]:
    start = datetime(2026, 1, 31, 12, tzinfo=UTC)
    return [
        leaf_bytes(
            AuditEntry(
                action="query.asked" if n % 2 else "import",
                at=start + timedelta(hours=n),
                agency="pt-pj",
                person="ana.silva" if n % 3 else "rui",
                peer="us-ice" if n % 2 else "",
                purpose="deconfliction",
                case_ref=f"case-{n % 2}",
                subjects=(f"pt-pj/{n}",),
                detail={"text": "\u2028 ação \x1b[31m\n"},
            ),
            salt=bytes([n]) * 16,
        )
        for n in range(count)
    ]


def root_of(leaves: list[bytes]) -> bytes:
    tree = RootBuilder()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()


def serve(served: Served, leaves: list[bytes], root: bytes | None = None) -> None:
    served.node.answers["GetAuditHead"] = pb.GetAuditHeadResponse(
        size=len(leaves), root=root or root_of(leaves)
    )
    served.node.answers["ListAuditEntries"] = leaves


@pytest.mark.parametrize("count", [0, 1, 7, 8])
def test_the_nodes_log_verifies(run: Run, served: Served, count: int) -> None:
    leaves = a_log(count)
    serve(served, leaves)
    result = run("audit", "verify", "--json")
    assert result.code == 0
    assert {key: result.document[key] for key in ("entries", "root", "verified", "against")} == {
        "entries": count,
        "root": root_of(leaves).hex(),
        "verified": True,
        "against": "self-consistent only",
    }
    shown = run("audit", "verify")
    assert "self-consistent only" in shown.out
    assert "give --root HEX" in shown.err


def test_a_node_that_shows_another_log_is_caught(run: Run, served: Served) -> None:
    serve(served, a_log(7), root_of(a_log(8)))
    result = run("audit", "verify", "--json")
    assert result.code == 1
    assert (result.document["verified"], result.document["position"]) == (False, None)

    served.node.answers["GetAuditHead"] = pb.GetAuditHeadResponse(size=9, root=root_of(a_log(9)))
    result = run("audit", "verify", "--json")
    assert (result.code, result.document["position"]) == (1, 7)
    assert "entry 7" in result.err
    assert "keep the file as it is" in result.err


@pytest.fixture
def exported(run: Run, served: Served, tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    serve(served, a_log(9))
    result = run("audit", "export", path, "--json")
    assert result.code == 0
    assert result.document["entries"] == 9
    return path


def test_an_export_verifies_offline(
    run: Run, served: Served, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600
    header, *leaves = exported.read_bytes().split(b"\n")[:-1]
    assert leaves == a_log(9)
    document = json.loads(header)
    assert (document["agency"], document["federation"]) == ("pt-pj", "test-eu")
    assert (document["size"], document["root"]) == (9, root_of(leaves).hex())

    served.node.requests.clear()
    monkeypatch.delenv("TIELINE_PROFILE")
    result = run("audit", "verify", exported, "--json")
    assert (result.code, result.document["verified"]) == (0, True)
    assert served.node.requests == {}
    assert run("audit", "export", exported).code == 2


def edited(lines: list[bytes]) -> None:
    lines[5] = lines[5].replace(b"ana.silva", b"rui.silva")


def removed(lines: list[bytes]) -> None:
    del lines[4]


def swapped(lines: list[bytes]) -> None:
    lines[3], lines[4] = lines[4], lines[3]


def cut(lines: list[bytes]) -> None:
    del lines[-2:]


def added(lines: list[bytes]) -> None:
    lines.append(lines[-1])


def torn(lines: list[bytes]) -> None:
    lines[-1] = lines[-1][:40]


def reformatted(lines: list[bytes]) -> None:
    lines[2] = json.dumps(json.loads(lines[2])).encode()


def emptied(lines: list[bytes]) -> None:
    lines[6] = b""


@pytest.mark.parametrize(
    ("tamper", "position"),
    [
        (edited, 4),
        (removed, 3),
        (swapped, 2),
        (cut, 7),
        (added, 9),
        (torn, 8),
        (reformatted, 1),
        (emptied, 5),
    ],
)
def test_what_was_done_to_an_export_is_named(
    run: Run, exported: Path, tamper: Callable[[list[bytes]], None], position: int
) -> None:
    lines = exported.read_bytes().split(b"\n")[:-1]
    tamper(lines)
    exported.write_bytes(b"\n".join(lines) + b"\n")
    result = run("audit", "verify", exported, "--json")
    assert result.code == 1
    assert (result.document["verified"], result.document["position"]) == (False, position)
    assert f"entry {position} (from 0)" in result.err
    assert run("audit", "verify", exported).code == 1


def test_any_entry_edited_removed_moved_or_cut_off_is_named(run: Run, exported: Path) -> None:
    header, *leaves = exported.read_bytes().split(b"\n")[:-1]
    changed: list[tuple[str, int, list[bytes]]] = []
    for at, leaf in enumerate(leaves):
        other = leaf.replace(b'"at":"2', b'"at":"1')
        assert other != leaf
        changed += [
            ("edited", at, [*leaves[:at], other, *leaves[at + 1 :]]),
            ("removed", at, [*leaves[:at], *leaves[at + 1 :]]),
            ("cut off", at, leaves[:at]),
        ]
    for at in range(len(leaves) - 1):
        moved = [*leaves[:at], leaves[at + 1], leaves[at], *leaves[at + 2 :]]
        changed.append(("moved", at, moved))
    named = []
    for what, at, lines in changed:
        exported.write_bytes(b"\n".join([header, *lines]) + b"\n")
        result = run("audit", "verify", exported, "--json")
        named.append((what, at, result.code, result.document["position"]))
    assert named == [(what, at, 1, at) for what, at, _ in changed]
    assert len(named) == 4 * 9 - 1


def test_marks_that_were_changed_too_do_not_help_the_forger(run: Run, exported: Path) -> None:
    header, *leaves = exported.read_bytes().split(b"\n")[:-1]
    document = json.loads(header)
    leaves[3] = leaves[3].replace(b"us-ice", b"us-fbi")
    document["marks"] = ""
    exported.write_bytes(b"\n".join([json.dumps(document).encode(), *leaves]) + b"\n")
    result = run("audit", "verify", exported, "--json")
    assert (result.code, result.document["position"]) == (1, None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"\xff\n",
        b'{"agency":"a","federation":"f","size":"x","root":"zz"}\n',
        b"[" * 200_000,
    ],
)
def test_what_is_no_export_is_told_so(run: Run, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.txt"
    path.write_bytes(content)
    result = run("audit", "verify", path)
    assert result.code == 1
    assert "not an audit export" in result.err
    assert run("audit", "verify", tmp_path / "absent").code == 2


def test_an_entry_without_end_is_refused(run: Run, exported: Path) -> None:
    with exported.open("ab") as file:
        file.write(b"x" * 200_000)
    assert run("audit", "verify", exported).code == 1


def test_an_interrupted_export_leaves_no_file(run: Run, served: Served, tmp_path: Path) -> None:
    serve(served, a_log(2))
    served.node.answers["ListAuditEntries"] = None
    path = tmp_path / "log.jsonl"
    assert run("audit", "export", path).code != 0
    assert list(tmp_path.glob("*log*")) == []


@given(st.data())
def test_any_change_of_any_byte_shows(data: st.DataObject) -> None:
    leaves = a_log(5)
    root = root_of(leaves)
    index = data.draw(st.integers(0, 4))
    at = data.draw(st.integers(0, len(leaves[index]) - 1))
    changed = bytearray(leaves[index])
    changed[at] ^= data.draw(st.integers(1, 255))
    leaves[index] = bytes(changed)
    assert not verify_leaves(enumerate(leaves), 5, root).verified


@pytest.mark.parametrize(
    ("words", "positions"),
    [
        ((), list(range(9))),
        (("--person", "rui"), [0, 3, 6]),
        (("--action", "query"), [1, 3, 5, 7]),
        (("--action", "que"), []),
        (("--action", "import", "--person", "rui"), [0, 6]),
        (("--case", "case-1", "--peer", "us-ice"), [1, 3, 5, 7]),
        (("--series", "pt-pj/4"), [4]),
        (("--since", "2026-01-31T19:00:00Z"), [7, 8]),
        (("--since", "2026-01-31T19:00:00+01:00"), [6, 7, 8]),
        (("--until", "2026-01-31T14:00:00Z"), [0, 1]),
        (("--until", "2026-01-31"), list(range(9))),
        (("--until", "2026-01-30"), []),
    ],
)
def test_search_filters(
    run: Run, served: Served, words: tuple[str, ...], positions: list[int]
) -> None:
    serve(served, a_log(9))
    result = run("audit", "search", *words, "--json")
    assert result.code == 0
    assert [each["position"] for each in result.document["entries"]] == positions
    assert (result.document["searched"], result.document["truncated"]) == (9, False)
    assert "\x1b" not in run("audit", "search", *words).out


def test_search_is_bounded_and_checks_its_words(run: Run, served: Served) -> None:
    serve(served, a_log(9))
    result = run("audit", "search", "--limit", "2", "--json")
    assert (len(result.document["entries"]), result.document["truncated"]) == (2, True)
    assert run("audit", "search", "--since", "yesterday").code == 2
    assert run("audit", "search", "--limit", "0").code == 2


def test_an_action_that_nobody_knows_is_refused(run: Run, served: Served) -> None:
    why = "action 'query.askd' is none that a node logs; did you mean query.asked?"
    served.node.answers["SearchEntries"] = Refusal(
        StatusCode.INVALID_ARGUMENT, "INVALID_INPUT", why
    )
    result = run("audit", "search", "--action", "query.askd", "--json")
    assert (result.code, result.out, result.err) == (1, "", f"error: {why}\n")


def test_a_period_that_ends_before_it_begins_is_refused(run: Run) -> None:
    turned = run("audit", "search", "--since", "2027-01-01", "--until", "2026-01-01")
    assert turned.code == 2 and "--since is not before --until; swap them" in turned.err


def test_search_survives_entries_of_another_shape(run: Run, served: Served) -> None:
    serve(served, [b'{"at":5}', b"{}", b'{"at":"2026-01-31T12:00:00","subjects":null}'])
    assert run("audit", "search", "--since", "2026-01-01", "--series", "x", "--json").code == 0


def test_an_auditor_is_shown_alarms_about_what_peers_ask(run: Run, served: Served) -> None:
    raised = Timestamp(seconds=1_780_000_000)
    kinds = ("immediate", "low-hits", "watch-match", "repeated-lists", "budget-spent")
    served.node.answers["GetStatus"] = pb.GetStatusResponse(
        alarms=[
            pb.AlarmView(kind=kind, referral="q", sender="es-gc", raise_time=raised)
            for kind in kinds
        ]
    )
    shown = json.loads(run("audit", "alarms", "--json").out)["alarms"]
    assert [one["kind"] for one in shown] == ["low-hits", "repeated-lists", "budget-spent"]
    assert {(one["peer"], one["question"]) for one in shown} == {("es-gc", "q")}
    told = run("audit", "alarms")
    assert told.code == 0
    assert "repeated-lists" in told.out and "watch-match" not in told.out
