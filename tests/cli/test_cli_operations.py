"""`tieline operation`: what goes out, what is shown of what comes back, and the page it writes."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tieline.v1 import operator_operations_pb2 as pb
from tieline_client.identifiers import new_id
from tieline_client.operation_report import page, write_report

from tests.cli.node_double import Run, Served
from tests.cli.test_cli_work import NOON, stamp

ID = new_id()
HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=y>\x1b[31m\u202e"


def _operation(**values: object) -> pb.OperationView:
    stated: dict[str, object] = {
        **{"id": ID, "name": "Taskforce 7", "begin_day": "2020-11-02", "end_day": "2020-11-13"},
        **{"participants": ["pt-pj", "us-ice"], "series": 3, "evaluated": 1},
        "create_time": stamp(NOON),
    }
    return pb.OperationView(**stated | values)  # type: ignore[arg-type]


def _report(**values: object) -> pb.ReportOperationResponse:
    return pb.ReportOperationResponse(
        operation=_operation(**values),
        figures=pb.OperationFigures(
            series=220, localised=53, told=50, tips=26_000, median_millis=900
        ),
        countries=[
            pb.OperationCountry(country="PT", localised=3, told=2, median_millis=7_200_000),
            pb.OperationCountry(country="BR", localised=1),
        ],
        days=[
            pb.OperationDay(day="2020-11-02", triaged=100),
            pb.OperationDay(day="2020-11-03", triaged=220, localised=53, told=50, identified=9),
        ],
        report_time=stamp(NOON),
    )


def test_an_operation_is_made_and_filled(served: Served, run: Run) -> None:
    served.node.answers["CreateOperation"] = pb.CreateOperationResponse(operation=_operation())
    days = ("--from", "2020-11-02", "--to", "2020-11-13")
    words = ("operation", "new", "Taskforce 7", *days, "--participant", "pt-pj")
    made = run(*words, "--participant", "us-ice", "--case", "C-1", "--json").document
    assert (made["id"], made["from"], made["participants"]) == (
        ID,
        "2020-11-02",
        ["pt-pj", "us-ice"],
    )
    sent = served.node.only("CreateOperation")
    assert (sent.begin_day, sent.end_day, sent.case_ref) == ("2020-11-02", "2020-11-13", "C-1")
    assert list(sent.participants) == ["pt-pj", "us-ice"]
    added = pb.AddOperationSeriesResponse(operation=_operation(), added=2)
    served.node.answers["AddOperationSeries"] = added
    assert run("operation", "add", ID, "A", "B", "--json").document["added"] == 2
    assert list(served.node.only("AddOperationSeries").series) == ["A", "B"]
    changed = pb.AssignEvaluationResponse(operation=_operation(), changed=1)
    served.node.answers["AssignEvaluation"] = changed
    task = ("operation", "assign", ID, "A", "--agency", "pt-pj", "--person", "Ana Silva")
    assert run(*task, "--done", "--text", "a sign", "--json").document["changed"] == 1
    sent = served.node.only("AssignEvaluation")
    assert (sent.agency, sent.person, sent.done, sent.text) == (
        "pt-pj",
        "Ana Silva",
        True,
        "a sign",
    )


@pytest.mark.parametrize(
    "words",
    [
        ("new", "N", "--from", "today", "--to", "2020-11-13", "--participant", "pt-pj"),
        ("new", "N", "--from", "2020-11-02", "--to", "2020-11-13"),
        ("new", "N", "--from", "2020-11-02", "--to", "2020-11-13", "--participant", "P J"),
        ("add", ID),
        ("add", ID, *(["A"] * 1_001)),
        ("assign", ID, "A"),
        ("assign", ID, "A", "--agency", "pt-pj", "--text", "not done"),
        ("report", ID, "report.pdf"),
    ],
)
def test_wrong_usage_asks_nobody(served: Served, run: Run, words: tuple[str, ...]) -> None:
    assert run("operation", *words).code == 2
    assert not served.node.requests


def test_the_triage_list_says_why_and_what_is_not_shown(served: Served, run: Run) -> None:
    task = pb.EvaluationView(agency="pt-pj", assign_time=stamp(NOON), assigned_by="ana")
    part = pb.TriagePart(name="overlaps", points=150, why="2 other agencies hold items of it")
    one = pb.TriageView(
        series="pt-pj/a", name="A", status="new", points=550, parts=[part], evaluations=[task]
    )
    weights = [pb.TriageWeight(name="overlaps", points=200)]
    answer = pb.GetOperationResponse(operation=_operation(), series=[one], weights=weights)
    served.node.answers["GetOperation"] = answer
    document = run("operation", "show", ID, "--most", "1", "--json").document
    assert document["weights"] == {"overlaps": 200}
    assert document["triage"][0]["parts"][0]["why"] == "2 other agencies hold items of it"
    assert document["triage"][0]["evaluations"][0]["done"] is None
    assert served.node.only("GetOperation").most == 1
    shown = run("operation", "show", ID).out
    assert "overlaps 150: 2 other agencies" in shown and "anybody (pt-pj), not yet" in shown
    assert "2 more series are not shown" in shown


def test_the_figures_and_their_page(served: Served, run: Run, tmp_path: Path) -> None:
    served.node.answers["ReportOperation"] = _report()
    file = tmp_path / "report.html"
    document = run("operation", "report", ID, str(file), "--json").document
    assert document["figures"]["localised"] == 53 and document["figures"]["tips"] == 26_000
    assert document["figures"]["median_seconds_localised_to_told"] == 0.9
    assert document["countries"][1] == {
        **{"country": "BR", "localised": 1, "told": 0, "median_seconds": None}
    }
    assert document["days"][1]["told"] == 50
    shown = file.read_text()
    assert "26000 tips of the public" in shown and "median 0.9 seconds" in shown
    assert "3 found, 2 told, median 2.0 hours" in shown and "median unknown" in shown
    again = run("operation", "report", ID, str(file))
    assert again.code == 2 and "say --replace" in again.err
    assert run("operation", "report", ID, str(file), "--replace").code == 0
    shown = run("operation", "report", ID).out
    assert "53" in shown and "None" not in shown  # nothing was told of BR: no median


def test_the_plots_are_as_the_figures(tmp_path: Path) -> None:
    plots = re.findall(r"<svg.*?</svg>", page(_report()), re.DOTALL)
    bars, days, countries = (ElementTree.fromstring(one) for one in plots)
    widths = [float(rect.attrib["width"]) for rect in bars.iter("rect")]
    assert len(widths) == 11 and max(widths) == widths[0], "220 series are the longest bar"
    assert widths[3] == pytest.approx(widths[0] * 53 / 220, abs=0.1)
    lines = [line.attrib["points"].split() for line in days.iter("polyline")]
    heights = [float(points[1].split(",")[1]) for points in lines]
    assert [len(points) for points in lines] == [2] * 4
    assert heights == sorted(heights) or heights[0] < heights[1] < heights[2] < heights[3]
    pairs = [float(rect.attrib["width"]) for rect in countries.iter("rect")]
    assert pairs[1] == pytest.approx(pairs[0] * 2 / 3, abs=0.1) and pairs[3] == 0


def test_the_page_is_inert_and_asks_for_nothing(tmp_path: Path) -> None:
    report = _report(name=HOSTILE, participants=[HOSTILE], begin_day=HOSTILE)
    report.countries[0].country = HOSTILE
    report.days[0].day = HOSTILE
    text = page(report)
    for live in ("<script", "<img", "\x1b", "\u202e", "<a ", "<link", "url(", "@import"):
        assert live not in text, live
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "")
    empty = pb.ReportOperationResponse(operation=_operation())
    file = tmp_path / "empty.HTML"
    write_report(file, empty)
    assert "No likely country was found." in file.read_text() and "No days." in file.read_text()
