"""`tieline overlap --collection`: series beside series, for programs and for people."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import StatusCode
from tieline.v1 import exchange_pb2
from tieline.v1 import operator_pb2 as pb

from tests.cli.node_double import Refusal, Run, Served

WHY = ("--purpose", "victim-identification", "--case", "2026-118")
OWN = "pt-pj/0198c3a1-7f00-7abc-8def-0123456789ab"
THEIRS = "us-ice/0198c3a1-7f00-7abc-8def-0123456789ab"
PAIR_FIELDS = {"own", "theirs", "shared", "own_total", "their_total"}


def started(*peers: str, items: int = 10) -> pb.CompareCollectionResponse:
    return pb.CompareCollectionResponse(started=pb.CollectionStarted(items=items, peers=peers))


def progress(items: int) -> pb.CompareCollectionResponse:
    return pb.CompareCollectionResponse(progress=pb.CollectionProgress(items=items))


def rows(agency: str, *each: pb.CollectionRow) -> pb.CompareCollectionResponse:
    return pb.CompareCollectionResponse(rows=pb.CollectionRows(agency=agency, rows=each))


def end(agency: str, status: str, **values: Any) -> pb.CompareCollectionResponse:
    told = {one: values.pop(one) for one in ("reason", "count", "receipt") if one in values}
    ended = pb.PeerEnd(agency=agency, status=status, **told)
    counts = {"asked": 9, "withheld": 1} | values
    return pb.CompareCollectionResponse(end=pb.CollectionEnd(end=ended, **counts))


def series(**values: Any) -> exchange_pb2.SeriesEntry:
    return exchange_pb2.SeriesEntry(id=THEIRS, status="localised", **values)


ANSWER = [
    started("us-ice", "us-fbi", "interpol"),
    progress(4),
    progress(10),
    end("interpol", "refused", reason="no agreement", asked=0, withheld=0),
    rows(
        "us-ice",
        pb.CollectionRow(own=OWN, own_name="Azul", own_items=6, theirs=series(items=40), shared=4),
        pb.CollectionRow(own=OWN, own_name="Azul", own_items=6, theirs=series(), shared=2),
    ),
    rows("us-ice", pb.CollectionRow(own_items=3, shared=1)),
    end("us-ice", "answered", shared=5, receipt="r-1", count=7),
    rows("us-fbi", pb.CollectionRow(own=OWN, own_name="Azul", own_items=6, shared=3)),
    end("us-fbi", "answered", shared=3, reason="more waits for a person at us-fbi"),
]


def test_the_document_is_that_of_a_question_with_series_beside_series(
    run: Run, served: Served
) -> None:
    served.node.answers["CompareCollection"] = ANSWER
    words = ("--peer", "us-ice", "--peer", "us-fbi", "--near", "--deadline", "7")
    result = run("overlap", "--collection", *WHY, *words, "--json")
    assert result.code == 0
    document = result.document
    assert (document["asked"], document["excluded"], document["rejected"]) == (9, 1, [])
    ice, fbi, interpol = document["peers"]
    assert [peer["agency"] for peer in document["peers"]] == ["us-ice", "us-fbi", "interpol"]
    assert (ice["status"], ice["count"], ice["shared"], ice["receipt"]) == ("answered", 7, 5, "r-1")
    assert all(set(row) >= PAIR_FIELDS for row in ice["series"])
    pairs = [tuple(row[name] for name in sorted(PAIR_FIELDS)) for row in ice["series"]]
    assert pairs == [(OWN, 6, 4, 40, THEIRS), (OWN, 6, 2, None, THEIRS), (None, 3, 1, None, None)]
    assert ice["series"][0]["disclosed"]["status"] == "localised"
    assert (fbi["count"], fbi["series"][0]["theirs"]) == (3, None)
    assert (interpol["status"], interpol["series"], interpol["count"]) == ("refused", [], None)
    assert [(one["asked"], one["withheld"]) for one in (ice, interpol)] == [(9, 1), (0, 0)]
    request = served.node.only("CompareCollection")
    assert (request.purpose, request.case_ref) == ("victim-identification", "2026-118")
    assert (list(request.peers), request.near, request.deadline_seconds) == (
        ["us-ice", "us-fbi"],
        True,
        7,
    )


def test_people_see_what_is_in_common(run: Run, served: Served) -> None:
    served.node.answers["CompareCollection"] = ANSWER
    result = run("overlap", "--collection", *WHY)
    assert result.code == 0
    assert "us-ice: answered, 5 in common of 9 items asked, 1 stayed at home" in result.out
    assert "Azul" in result.out
    assert THEIRS in result.out
    assert "in no series" in result.out
    assert "9 items asked of 2 peers, 8 shared; up to 1 stayed at home" in result.out
    assert "interpol" not in result.out
    assert "interpol: refused: no agreement" in result.err


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ([started()], 3),
        ([started("us-ice"), end("us-ice", "unreachable", reason="no route")], 4),
        ([started("us-ice")], 4),
        ([started("us-ice"), end("us-ice", "pending", reason="a person")], 0),
    ],
)
def test_exit_codes_tell_how_the_peers_ended(
    run: Run, served: Served, answer: list[pb.CompareCollectionResponse], code: int
) -> None:
    served.node.answers["CompareCollection"] = answer
    assert run("overlap", "--collection", *WHY, "--json").code == code


@pytest.mark.parametrize(
    "answer",
    [
        [started("us-ice"), rows("us-fbi", pb.CollectionRow(shared=1))],
        [started("us-ice"), end("us-ice", "answered"), end("us-ice", "answered")],
        [end("us-ice", "answered")],
    ],
)
def test_a_node_that_answers_for_others_is_not_believed(
    run: Run, served: Served, answer: list[pb.CompareCollectionResponse]
) -> None:
    served.node.answers["CompareCollection"] = answer
    result = run("overlap", "--collection", *WHY, "--json")
    assert result.code == 1
    assert result.out == ""


def test_what_the_node_refuses_is_one_line(run: Run, served: Served) -> None:
    refusal = Refusal(StatusCode.PERMISSION_DENIED, "POLICY_REFUSED", "so it is\nand thus")
    served.node.answers["CompareCollection"] = refusal
    result = run("overlap", "--collection", *WHY, "--json")
    assert (result.code, result.out) == (3, "")
    assert len(result.err.strip().splitlines()) == 1


def test_neither_a_file_nor_the_collection_is_a_usage_error(run: Run, served: Served) -> None:
    result = run("overlap", *WHY)
    assert result.code == 2
    assert "--collection" in result.err
    assert served.node.requests == {}
