"""`tieline clue`: what goes out, and what is shown of what comes back."""

from __future__ import annotations

import json
from pathlib import Path

from tieline.v1 import operator_clues_pb2 as pb
from tieline_client.identifiers import new_id

from tests.cli.node_double import Run, Served
from tests.cli.test_cli_work import NOON, WHY, stamp

ID = new_id()


def _clue(**values: object) -> pb.ClueView:
    stated: dict[str, object] = {
        "id": ID,
        "series": "pt-pj/x",
        "kind": "object",
        "text": "a bag",
        "tips": 3,
        "fresh": 1,
        "verified": 2,
        "known": 5,
        "create_time": stamp(NOON),
    }
    return pb.ClueView(**stated | values)  # type: ignore[arg-type]


def test_a_clue_is_added_and_published(served: Served, run: Run) -> None:
    served.node.answers["AddClue"] = pb.AddClueResponse(clue=_clue())
    public = _clue(public_id="ab", publish_time=stamp(NOON))
    served.node.answers["PublishClue"] = pb.PublishClueResponse(clue=public)
    made = run("clue", "add", "Case 12", "--text", "a bag", "--kind", "place", "--json")
    assert made.document["id"] == ID and made.document["public"] is False
    sent = served.node.only("AddClue")
    assert (sent.series, sent.text, sent.kind) == ("Case 12", "a bag", "place")
    shown = run("clue", "publish", ID, "--as", "bag", *WHY, "--json")
    assert shown.document["public"] is True
    assert served.node.only("PublishClue").text == "bag"
    assert run("clue", "publish", ID).code == 2
    assert run("clue", "add", "Case 12", "--text", "x", "--kind", "no code!").code == 2


def test_statistics(served: Served, run: Run) -> None:
    support = pb.CountrySupport(country="PT", supporting=2, eliminating=1)
    answer = pb.ListCluesResponse(clues=[_clue(), _clue(tips=4)], support=[support])
    served.node.answers["ListClues"] = answer
    document = run("clue", "list", "--stats", "--json").document
    assert document["support"] == [{"country": "PT", "supporting": 2, "eliminating": 1}]
    assert document["stats"] == {
        **{"tips": 7, "new": 2, "verified": 4, "dismissed": 0, "relayed": 0, "known": 10},
        **{"limited": 0, "clues": 2, "published": 0},
    }
    assert "7 tips" in run("clue", "list", "--stats").out
    assert "stats" not in run("clue", "list", "--json").document


def test_an_export_is_one_file_of_a_known_form(served: Served, run: Run, tmp_path: Path) -> None:
    one = pb.PublishedClue(public_id="ab", kind="object", text="=1+1 a bag", day="2026-03-01")
    served.node.answers["ListPublishedClues"] = pb.ListPublishedCluesResponse(clues=[one])
    for form in ("json", "csv", "html"):
        file = tmp_path / f"list.{form}"
        assert run("clue", "export", file, "--json").document["clues"] == 1
        assert file.stat().st_size
    assert (tmp_path / "list.csv").read_text().splitlines()[1] == (
        '"ab","object","\'=1+1 a bag","2026-03-01"'
    )
    assert json.loads((tmp_path / "list.json").read_text())["clues"][0]["id"] == "ab"
    assert run("clue", "export", tmp_path / "list.pdf").code == 2


def test_a_file_of_tips_is_reported_row_by_row(served: Served, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "tips.csv"
    file.write_text("clue;text;country\nab;one;PT\n;two;\nab;three;\ncd;four;\n")
    fates = ["added", "a tip holds a link", "unknown_clue"]
    served.node.answers["AddTips"] = pb.AddTipsResponse(fates=fates)
    result = run("clue", "tip", "--import", file, "--json")
    assert result.code == 0
    document = result.document
    assert (document["rows"], document["added"], document["rejected_rows"]) == (4, 1, 3)
    assert [one["record"] for one in document["rejected"]] == [2, 3, 4]
    assert [one.text for one in served.node.only("AddTips").tips] == ["one", "three", "four"]
    served.node.answers["AddTips"] = pb.AddTipsResponse(fates=["unknown_clue"] * 3)
    assert run("clue", "tip", "--import", file).code == 1
    file.write_text("no;table\n")
    assert run("clue", "tip", "--import", file).code == 1
    assert run("clue", "tip").code == 2
    assert run("clue", "tip", "ab", "--text", "x", "--import", file).code == 2


def test_one_tip_and_what_becomes_of_it(served: Served, run: Run) -> None:
    served.node.answers["AddTips"] = pb.AddTipsResponse(fates=["limited"])
    result = run("clue", "tip", "ab", "--text", "x", "--country", "pt", "--json")
    assert (result.code, result.document["fate"]) == (1, "limited")
    tip = pb.TipView(id=ID, clue=ID, text="x", state="verified", supports="PT")
    served.node.answers["JudgeTip"] = pb.JudgeTipResponse(tip=tip)
    assert run("clue", "verify", ID, "--supports", "pt", "--json").document["supports"] == "PT"
    assert run("clue", "verify", ID).code == 2
    assert run("clue", "dismiss", ID, "--reason", "r").code == 0
    verified, dismissed = served.node.requests["JudgeTip"]
    assert (verified.state, verified.supports, dismissed.state) == ("verified", "PT", "dismissed")
    relayed = pb.RelayTipsResponse(tips=[tip], refused={"fr-of": "no"})
    served.node.answers["RelayTips"] = relayed
    result = run("clue", "relay", ID, "--to", "es-gc", *WHY, "--json")
    assert result.document["refused"] == {"fr-of": "no"}
    assert run("clue", "relay", ID).code == 2


def test_a_tip_that_cannot_be_sent_costs_one_row(served: Served, run: Run, tmp_path: Path) -> None:
    """Anybody can write to a public site: no words of one may keep the others out."""
    served.node.answers["AddTips"] = pb.AddTipsResponse(fates=["added", "added"])
    rows = [b"good", b"a\x1b[2J", b"a\xc2\x85b", b"in Porto"]
    lines = b"".join(b"ab;" + each + b";\n" for each in rows) + b"\xe9;clue;\nab;x;a\x07\n"
    file = tmp_path / "tips.csv"
    file.write_bytes(b"clue;text;contact\n" + lines)
    result = run("clue", "tip", "--import", str(file), "--json")
    assert result.code == 0, result.err
    assert [one.text for one in served.node.only("AddTips").tips] == ["good", "in Porto"]
    assert (result.document["added"], result.document["rejected_rows"]) == (2, 4)
    assert [one["record"] for one in result.document["rejected"]] == [2, 3, 5, 6]
