"""`tieline overlap`: the document of the contract, exit codes, and what is said to people."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from tieline.v1 import exchange_pb2
from tieline.v1 import operator_pb2 as pb
from tieline_client.cli import overlap as overlap_module
from tieline_client.digests import DigestKind, parse
from tieline_client.formats import block_reading

from tests.cli.node_double import Refusal, Run, Served

WHY = ("--purpose", "victim-identification", "--case", "2026-118")
SHA1 = [hashlib.sha1(bytes([n])).hexdigest() for n in range(20)]
HOSTILE = "\x1b]0;owned\x07<script>alert(1)</script>\r\nname\u202e"
SERIES = "us-ice/0198c3a1-7f00-7abc-8def-0123456789ab"

PEER_FIELDS = {
    "request",
    "budget",
    "agency",
    "status",
    "reason",
    "overlaps",
    "count",
    "truncated",
    "receipt",
}
OVERLAP_FIELDS = {"asked", "matched", "match", "distance", "disclosure", "series", "ambiguous"}
SERIES_FIELDS = {"handling", "id", "name", "status", "references", "contact"}


def started(*peers: str, asked: int = 2, excluded: int = 0) -> pb.AskOverlapResponse:
    return pb.AskOverlapResponse(started=pb.AskStarted(asked=asked, excluded=excluded, peers=peers))


def hit(agency: str, asked: str = f"sha1:{SHA1[0]}", **columns: Any) -> pb.AskOverlapResponse:
    """One hit of a digest of `file`."""
    kind, digest = parse(asked)
    among = sorted(bytes.fromhex(one) for one in SHA1[:2])
    position = among.index(digest) if kind is DigestKind.SHA1 else 0
    hits = exchange_pb2.HitBatch(kind=int(kind), positions=[position], **columns)  # type: ignore[arg-type]
    return pb.AskOverlapResponse(hits=pb.PeerHits(agency=agency, hits=hits))


def named(agency: str, **values: Any) -> pb.AskOverlapResponse:
    """A series, under index 1."""
    entry = exchange_pb2.SeriesEntry(index=1, id=SERIES, **values)
    return pb.AskOverlapResponse(series=pb.PeerSeries(agency=agency, series=[entry]))


def end(agency: str, status: str, reason: str = "", **values: Any) -> pb.AskOverlapResponse:
    return pb.AskOverlapResponse(
        end=pb.PeerEnd(agency=agency, status=status, reason=reason, **values)
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "found.txt"
    path.write_text(f"{SHA1[0]}\n{SHA1[1]}\n")
    return path


def test_the_document_is_the_contracts(run: Run, served: Served, tmp_path: Path) -> None:
    detail = named(
        "us-ice",
        name="Blue room",
        status="localised",
        references=["icse:4711"],
        contact_name="Duty desk",
        contact_phone="+1 555",
    )
    pdq = "f0" * 32
    mixed = tmp_path / "mixed.txt"
    mixed.write_text(f"sha1:{SHA1[0]}\nsha1:{SHA1[1]}\npdq:{pdq}\n")
    served.node.answers["AskOverlap"] = [
        started("us-ice", "us-fbi", "europol-ec3", excluded=1),
        detail,
        hit("us-ice", series=[1]),
        end("us-ice", "answered", receipt="r-1", count=1, disclosure="detail"),
        hit("us-fbi", f"pdq:{pdq}", distances=[12], ambiguous=[0]),
        end("us-fbi", "answered", truncated=True),
        end("europol-ec3", "refused", "no agreement"),
    ]
    result = run("overlap", mixed, *WHY, "--near", "--json")
    assert result.code == 0
    document = result.document
    assert (document["asked"], document["excluded"], document["rejected"]) == (2, 1, [])
    assert [each["agency"] for each in document["peers"]] == ["us-ice", "us-fbi", "europol-ec3"]
    for peer in document["peers"]:
        assert set(peer) == PEER_FIELDS
        for one in peer["overlaps"]:
            assert set(one) == OVERLAP_FIELDS | {"record"}
    ice, fbi, ec3 = document["peers"]
    assert (ice["status"], ice["count"], ice["receipt"]) == ("answered", 1, "r-1")
    (series,) = ice["overlaps"][0]["series"]
    assert set(series) == SERIES_FIELDS
    assert series["contact"] == {"name": "Duty desk", "email": "", "phone": "+1 555"}
    assert (fbi["overlaps"][0]["distance"], fbi["overlaps"][0]["ambiguous"]) == (12, True)
    assert (fbi["truncated"], fbi["count"]) == (True, 1)
    assert (ec3["status"], ec3["reason"], ec3["count"]) == ("refused", "no agreement", None)

    header = served.node.only("AskOverlap")
    assert (header.purpose, header.case_ref) == ("victim-identification", "2026-118")
    assert (list(header.peers), header.all, header.near) == ([], False, True)
    assert (header.records, list(header.counts)) == (3, [0, 2, 0, 1])
    assert served.node.digests == [*(f"sha1:{one}" for one in sorted(SHA1[:2])), f"pdq:{pdq}"]
    assert served.node.finished == [True]


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (["answered", "answered"], 0),
        (["answered", "refused"], 0),
        (["pending", "refused"], 0),
        (["refused", "refused"], 3),
        (["answered", "unreachable"], 4),
        (["refused", "unreachable"], 4),
        ([], 3),
    ],
)
def test_exit_codes_tell_how_the_peers_ended(
    run: Run, served: Served, file: Path, states: list[str], code: int
) -> None:
    peers = [f"peer-{n}" for n in range(len(states))]
    served.node.answers["AskOverlap"] = [
        started(*peers),
        *(end(peer, state, "why") for peer, state in zip(peers, states, strict=True)),
    ]
    result = run("overlap", file, *WHY, "--json")
    assert result.code == code
    assert [each["status"] for each in result.document["peers"]] == states


def test_a_peer_that_never_ended_is_unreachable(run: Run, served: Served, file: Path) -> None:
    served.node.answers["AskOverlap"] = [started("us-ice", "us-fbi"), end("us-ice", "answered")]
    result = run("overlap", file, *WHY, "--json")
    assert result.code == 4
    assert result.document["peers"][1]["status"] == "unreachable"


@pytest.mark.parametrize("missing", [WHY[:2], WHY[2:], (), (*WHY[:2], "--case", " ")])
def test_without_purpose_and_case_nothing_is_asked(
    run: Run, served: Served, file: Path, missing: tuple[str, ...]
) -> None:
    result = run("overlap", file, *missing)
    assert result.code == 2
    assert "--purpose CODE" in result.err or "--case REF" in result.err
    assert "victim-identification" in result.err
    assert served.node.requests == {}


@pytest.mark.parametrize(
    "options",
    [
        ("--peer", "us-ice", "--all"),
        ("--peer", "US ICE"),
        ("--deadline", "99999"),
        ("--deadline", "0"),
        ("--blind",),
        ("--collection",),
        ("--collection", "--category", "vics-us:1"),
    ],
)
def test_wrong_options_exit_2(
    run: Run, served: Served, file: Path, options: tuple[str, ...]
) -> None:
    assert run("overlap", file, *WHY, *options).code == 2
    assert served.node.requests == {}


def test_options_reach_the_node(run: Run, served: Served, tmp_path: Path) -> None:
    file = tmp_path / "pdq.txt"
    file.write_text("f0" * 32 + "\n")
    served.node.answers["AskOverlap"] = [started("us-ice"), end("us-ice", "answered")]
    words = ("--peer", "us-ice", "--peer", "us-fbi", "--near", "--deadline", "7")
    assert run("overlap", file, *WHY, *words, "--category", "vics-us:2").code == 0
    header = served.node.only("AskOverlap")
    assert (list(header.peers), header.near) == (["us-ice", "us-fbi"], True)
    assert header.deadline_seconds == 7
    assert served.node.digests == [f"pdq:{'f0' * 32}"]


def test_all_names_the_members_first(run: Run, served: Served, file: Path) -> None:
    served.node.answers["ListPeers"] = pb.ListPeersResponse(
        peers=[
            pb.Peer(agency="us-ice", name="ICE\x1b[2J", role="national", countries=["US"]),
            pb.Peer(agency="interpol", name="INTERPOL", role="repository", listed=True),
        ]
    )
    served.node.answers["AskOverlap"] = [started("us-ice"), end("us-ice", "answered")]
    result = run("overlap", file, *WHY, "--all")
    assert result.code == 0
    assert served.node.only("AskOverlap").all
    assert "us-ice" in result.err
    assert "interpol" in result.err
    assert "\x1b" not in result.err


def test_stdin_is_spooled_privately_and_deleted(
    run: Run, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    opened = block_reading.open_blocks

    def spy(path: Path, **options: Any) -> Any:
        seen.append(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        return opened(path, **options)

    monkeypatch.setattr(overlap_module, "open_blocks", spy)
    served.node.answers["AskOverlap"] = [started("us-ice"), end("us-ice", "answered")]
    result = run("overlap", "-", *WHY, "--json", stdin=f"sha1:{SHA1[3]}\n".encode())
    assert result.code == 0
    assert served.node.digests == [f"sha1:{SHA1[3]}"]
    assert not seen[0].exists()
    assert not seen[0].parent.exists()


def test_a_broken_file_asks_nobody(run: Run, served: Served, tmp_path: Path) -> None:
    file = tmp_path / "cut.json"
    file.write_text('{"odata.metadata": "x.xml#Media", "value": [{"MD5": "' + "a" * 32 + '"}, ')
    result = run("overlap", file, *WHY, "--json")
    assert result.code == 1
    assert result.out == ""
    assert served.node.finished in ([], [False])
    assert "cut.json" in result.err


def test_wrong_hash_lengths_are_named(run: Run, served: Served, tmp_path: Path) -> None:
    file = tmp_path / "mixed.txt"
    file.write_text(f"{SHA1[0]}\n{SHA1[1]}aa\n")
    served.node.answers["AskOverlap"] = [started("us-ice", asked=1), end("us-ice", "answered")]
    result = run("overlap", file, *WHY, "--json")
    assert result.code == 0
    assert [each["record"] for each in result.document["rejected"]] == [2]

    file.write_text(f"{SHA1[1]}aa\n")
    result = run("overlap", file, *WHY)
    assert result.code == 1
    assert len(result.err.strip().splitlines()) == 1


def test_people_are_told_which_records_are_rejected_and_why(
    run: Run, served: Served, tmp_path: Path
) -> None:
    file = tmp_path / "mixed.txt"
    file.write_text("\n".join([SHA1[0], *(f"sha1:{n:02x}" for n in range(25))]) + "\n")
    served.node.answers["AskOverlap"] = [started("us-ice", asked=1), end("us-ice", "answered")]
    result = run("overlap", file, *WHY)
    assert result.code == 0
    told = [one for one in result.out.splitlines() if "rejected: " in one]
    assert [one.partition(" rejected: ")[0] for one in told] == [
        f"mixed.txt: record {number}" for number in range(2, 22)
    ]
    assert all(one.partition(" rejected: ")[2] for one in told)
    assert "there are more; --json lists them" in result.out
    assert "25 rejected" in result.out.splitlines()[-1]


@pytest.mark.parametrize("near", [False, True])
def test_perceptual_hashes_alone_are_no_negative_answer(
    run: Run, served: Served, tmp_path: Path, near: bool
) -> None:
    file = tmp_path / "pdq.txt"
    file.write_text("".join(f"pdq:{f'f{n}' * 32}\n" for n in range(5)))
    asked, status = (5, "answered") if near else (0, "nothing was asked")
    served.node.answers["AskOverlap"] = [
        started("us-ice", "us-fbi", asked=asked, excluded=5 - asked),
        end("us-ice", "answered", "" if near else "nothing was asked"),
        end("us-fbi", "refused", "no agreement"),
    ]
    words = (*WHY, "--near") if near else WHY
    result = run("overlap", file, *words)
    assert result.code == (0 if near else 1)
    assert ("nothing of pdq.txt could be asked" in result.err) is not near
    assert (served.node.only("AskOverlap").records, served.node.only("AskOverlap").excluded) == (
        *(asked, 5 - asked),
    )
    assert ("us-ice: answered" in result.out) is near
    assert status in result.out
    assert "0 excluded" in result.out
    said = "5 records hold a perceptual hash only and were not asked; they are asked with --near"
    assert (said in result.err) is not near

    document = run("overlap", file, *words, "--json").document
    assert (document["asked"], document["excluded"]) == (asked, 0)
    assert document["perceptual_only"] == 5 - asked
    agencies = [each["agency"] for each in document["peers"]]
    assert agencies == (["us-ice", "us-fbi"] if near else ["us-fbi"])


def test_perceptual_hashes_beside_others_are_told_of(
    run: Run, served: Served, tmp_path: Path
) -> None:
    file = tmp_path / "mixed.txt"
    file.write_text(f"sha1:{SHA1[0]}\npdq:{'f0' * 32}\n")
    served.node.answers["AskOverlap"] = [
        started("us-ice", asked=1, excluded=1),
        end("us-ice", "answered"),
    ]
    result = run("overlap", file, *WHY)
    assert "us-ice: answered, no overlaps" in result.out
    assert "1 records asked of 1 peers, 0 overlaps; 0 excluded" in result.out
    assert "1 records hold a perceptual hash only" in result.err


def test_records_of_digests_that_say_nothing_are_excluded_with_that_reason(
    run: Run, served: Served, tmp_path: Path
) -> None:
    """In the words in which an import rejects them."""
    file = tmp_path / "own.csv"
    empty = "d41d8cd98f00b204e9800998ecf8427e"
    rows = [f"{empty};;", f";{'f0' * 32};20", f"{'ab' * 16};;", f";{'00' * 32};"]
    file.write_text("\n".join(["md5;pdq;quality", *rows]) + "\n")
    served.node.answers["AskOverlap"] = [
        started("us-ice", asked=1, excluded=3),
        end("us-ice", "answered"),
    ]
    result = run("overlap", file, *WHY, "--near")
    assert result.code == 0
    why = "it has no digest that can be matched: what it has says nothing of content"
    for number in (1, 2, 4):
        assert f"own.csv: record {number} excluded: {why}" in result.out
    assert "1 records asked of 1 peers, 0 overlaps; 3 excluded, 0 rejected" in result.out
    header = served.node.only("AskOverlap")
    assert (header.records, header.excluded) == (1, 3)
    document = run("overlap", file, *WHY, "--near", "--json").document
    assert [one["record"] for one in document["unmatched"]] == [1, 2, 4]
    assert (document["unmatched_count"], document["excluded"], document["rejected"]) == (3, 3, [])

    file.write_text(f"{empty}\n")
    served.node.answers["AskOverlap"] = [
        started("us-ice", asked=0, excluded=1),
        end("us-ice", "answered", "nothing was asked"),
    ]
    assert f"record 1 excluded: {why}" in run("overlap", file, *WHY).out


def test_a_question_that_could_ask_nothing_is_no_negative_answer(
    run: Run, served: Served, tmp_path: Path
) -> None:
    """Whatever kept the records at home: the exit code is that of input of which none is valid."""
    empty = "d41d8cd98f00b204e9800998ecf8427e"
    file = tmp_path / "found.txt"
    file.write_text(f"{empty}\n")
    answers = [started("us-ice", asked=0, excluded=1), end("us-ice", "answered")]
    served.node.answers["AskOverlap"] = answers
    said = "so this says nothing about what others hold: 1 cannot be used; record 1: it has no"
    for asked in (file, empty):
        result = run("overlap", asked, *WHY, "--json")
        assert result.code == 1
        assert (result.document["asked"], result.document["peers"]) == (0, [])
        name = "found.txt" if asked is file else empty
        assert f"error: nothing of {name} could be asked, {said}" in result.err

    file.write_text(f"{SHA1[0]}\n")  # known good here, as the count of the excluded says
    result = run("overlap", file, *WHY)
    assert result.code == 1
    assert "1 are known good here, or in no category that the agency lists" in result.err

    refused = [started("us-ice", asked=0, excluded=1), end("us-ice", "refused", "no agreement")]
    served.node.answers["AskOverlap"] = refused
    assert run("overlap", file, *WHY).code == 3


@pytest.mark.parametrize(
    ("typed", "options", "asked"),
    [
        (f"sha1:{SHA1[0]}", (), f"sha1:{SHA1[0]}"),
        (SHA1[0].upper(), (), f"sha1:{SHA1[0]}"),
        ("ab" * 16, (), f"md5:{'ab' * 16}"),
        ("ab" * 32, (), f"sha256:{'ab' * 32}"),
        ("f0" * 32, ("--near",), f"pdq:{'f0' * 32}"),
        (f"pdq:{'f0' * 32}", ("--near",), f"pdq:{'f0' * 32}"),
    ],
)
def test_a_single_hash_stands_in_place_of_a_file(
    run: Run, served: Served, typed: str, options: tuple[str, ...], asked: str
) -> None:
    served.node.answers["AskOverlap"] = [started("us-ice", asked=1), end("us-ice", "answered")]
    result = run("overlap", typed, *WHY, *options)
    assert result.code == 0
    assert served.node.digests == [asked]
    assert served.node.only("AskOverlap").records == 1
    assert "1 records asked of 1 peers" in result.out


def test_a_file_goes_before_a_hash_of_its_name(
    run: Run, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(SHA1[0]).write_text(f"{SHA1[1]}\n")
    served.node.answers["AskOverlap"] = [started("us-ice", asked=1), end("us-ice", "answered")]
    assert run("overlap", SHA1[0], *WHY).code == 0
    assert served.node.digests == [f"sha1:{SHA1[1]}"]


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (SHA1[0][:-1], "32, 40 or 64 hex digits"),
        ("sha1:abcd", "40 hex digits"),
        ("sha512:" + "ab" * 64, "use md5:, sha1:, sha256: or pdq:"),
    ],
)
def test_what_is_neither_a_file_nor_a_hash_is_a_usage_error(
    run: Run, served: Served, typed: str, says: str
) -> None:
    result = run("overlap", typed, *WHY)
    assert result.code == 2
    assert "there is no file" in result.err
    assert says in result.err
    assert served.node.requests == {}


def test_a_missing_file_is_a_usage_error(run: Run, served: Served, tmp_path: Path) -> None:
    result = run("overlap", tmp_path / "absent.txt", *WHY)
    assert result.code == 2
    assert "absent.txt" in result.err
    assert "hash" not in result.err.replace("hashes", "")


def test_columns_that_are_not_read_are_said(run: Run, served: Served, tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text(f"sha1;verdict\n{SHA1[0]};innocent\n")
    served.node.answers["AskOverlap"] = [started("us-ice", asked=1), end("us-ice", "answered")]
    assert "columns that are not read: verdict;" in run("overlap", file, *WHY).err


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (StatusCode.PERMISSION_DENIED, "POLICY_REFUSED", 3),
        (StatusCode.RESOURCE_EXHAUSTED, "BUDGET_EXCEEDED", 3),
        (StatusCode.UNAUTHENTICATED, "UNTRUSTED", 3),
        (StatusCode.NOT_FOUND, "UNKNOWN_AGENCY", 1),
        (StatusCode.INVALID_ARGUMENT, "INVALID_INPUT", 1),
        (StatusCode.INTERNAL, "INTERNAL", 1),
        (StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE", 1),
    ],
)
def test_what_the_node_refuses_is_one_line_and_an_exit_code(
    run: Run, served: Served, file: Path, code: StatusCode, reason: str, expected: int
) -> None:
    served.node.answers["AskOverlap"] = Refusal(code, reason, "so it is\nand \x1b[31mthus")
    result = run("overlap", file, *WHY, "--json")
    assert result.code == expected
    assert result.out == ""
    assert len(result.err.strip().splitlines()) == 1
    assert "so it is" in result.err
    assert "\x1b" not in result.err


def test_hostile_metadata_is_inert_for_people_and_escaped_in_json(
    run: Run, served: Served, file: Path
) -> None:
    served.node.answers["AskOverlap"] = [
        started("us-ice"),
        named("us-ice", name=HOSTILE, references=[HOSTILE]),
        hit("us-ice", series=[1]),
        end("us-ice", "pending", HOSTILE, disclosure="detail"),
    ]
    shown = run("overlap", file, *WHY)
    for stream in (shown.out, shown.err):
        assert not set(stream) & {"\x1b", "\x07", "\r", "\u202e"}
    assert "\\x1b]0;owned" in shown.out.replace("\n", "")

    result = run("overlap", file, *WHY, "--json")
    assert result.out.isascii()
    assert "\x1b" not in result.out
    assert result.document["peers"][0]["overlaps"][0]["series"][0]["name"] == HOSTILE


def test_people_see_each_peer(run: Run, served: Served, file: Path) -> None:
    served.node.answers["AskOverlap"] = [
        started("us-ice", "us-fbi"),
        hit("us-ice"),
        end("us-ice", "answered"),
        end("us-fbi", "unreachable", "no route"),
    ]
    result = run("overlap", file, *WHY)
    assert result.code == 4
    assert f"sha1:{SHA1[0]}" in result.out
    assert "us-fbi: unreachable: no route" in result.err
    assert "2 records asked of 2 peers, 1 overlaps" in result.out
