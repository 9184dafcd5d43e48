"""The work on series on the command line: what goes out, what is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from tieline.v1 import operator_links_pb2, series_pb2, series_work_pb2
from tieline.v1 import operator_pb2 as pb
from tieline_client.identifiers import new_id

from tests.cli.node_double import Run, Served

HOSTILE = "\x1b[31m<b>x</b>\r\n[red]\u202e"


def _noon() -> Timestamp:
    made = Timestamp()
    made.FromDatetime(datetime(2026, 1, 31, 12, tzinfo=UTC))
    return made


def a_series(**values: Any) -> pb.SeriesView:
    """A series that is being evaluated."""
    notice = series_pb2.SeriesNotice(
        id=f"pt-pj/{new_id()}",
        name="Case 12",
        status="triaged",
        stage="under_evaluation",
        handling=series_pb2.Handling(code=0, tlp=3),
        create_time=_noon(),
    )
    event = series_work_pb2.SeriesEvent(
        kind="status",
        agency="pt-pj",
        person="ana.silva",
        event_time=_noon(),
        before="new",
        after="under_evaluation",
        text=HOSTILE,
    )
    stated: dict[str, Any] = {"notice": notice, "origin": "own", "history": [event]}
    return pb.SeriesView(**(stated | values))


def test_series_status_moves_and_shows_the_history(run: Run, served: Served) -> None:
    served.node.answers["SetSeriesStatus"] = pb.SetSeriesStatusResponse(series=a_series())
    base = ("series", "status", "Case 12", "--to", "under_evaluation", "--text", "desk 3")
    result = run(*base, "--json")
    assert result.code == 0
    request = served.node.only("SetSeriesStatus")
    assert (request.series, request.status) == ("Case 12", "under_evaluation")
    assert request.text == "desk 3"
    assert result.document["status"] == "under_evaluation"
    (line,) = result.document["history"]
    assert line == {
        "kind": "status",
        "agency": "pt-pj",
        "person": "ana.silva",
        "at": "2026-01-31T12:00:00Z",
        "before": "new",
        "after": "under_evaluation",
        "text": HOSTILE,
    }
    plain = run(*base)
    assert "new > under_evaluation" in plain.out
    assert "\x1b" not in plain.out
    assert run("series", "status", "Case 12", "--to", "referred").code == 2
    assert run("series", "status", "Case 12").code == 2


def test_series_merge_names_the_whole_and_its_part(run: Run, served: Served) -> None:
    part = f"pt-pj/{new_id()}"
    served.node.answers["MergeSeries"] = pb.MergeSeriesResponse(series=a_series(parts=[part]))
    result = run("series", "merge", "Case 12", part, "--text", "one room", "--json")
    assert result.code == 0
    request = served.node.only("MergeSeries")
    assert (request.series, request.merged, request.text) == ("Case 12", part, "one room")
    assert (result.document["parts"], result.document["part_of"]) == ([part], "")
    assert part in run("series", "merge", "Case 12", part).out
    assert run("series", "merge", "Case 12").code == 2


def test_series_show_says_where_the_items_of_anothers_parts_are(run: Run, served: Served) -> None:
    part = f"es-gc/{new_id()}"
    for origin, said in (("referral", True), ("own", False)):
        shown = pb.GetSeriesResponse(series=a_series(parts=[part], origin=origin))
        served.node.answers["GetSeries"] = shown
        assert ("not counted here" in run("series", "show", "Case 12").out) is said


def test_series_split_sends_the_items_and_shows_both(
    run: Run, served: Served, tmp_path: Path
) -> None:
    old = f"pt-pj/{new_id()}"
    served.node.answers["SplitSeries"] = pb.SplitSeriesResponse(
        series=a_series(split_from=old), old=a_series(split_into=[old]), moved=2, told=["es-gc"]
    )
    items = tmp_path / "other-child.txt"
    sha1, sha256 = "ab" * 20, "cd" * 32
    items.write_text(f"sha1:{sha1}\nsha256:{sha256}\nsha1:{sha1}\n")
    base = ("series", "split", "Case 12", "--items", str(items), "--name", "Case 12b")
    result = run(*base, "--text", "another child", "--json")
    assert result.code == 0
    request = served.node.only("SplitSeries")
    assert (request.series, request.name) == ("Case 12", "Case 12b")
    assert request.text == "another child"
    (chunk,) = request.items
    assert chunk.items == 2
    assert [one.list.digests.hex() for one in chunk.columns] == [sha1, sha256]
    assert (result.document["split_from"], result.document["moved"]) == (old, 2)
    assert result.document["told"] == ["es-gc"]
    assert result.document["old"]["split_into"] == [old]
    plain = run(*base).out
    assert "2 items moved" in plain and "told: es-gc" in plain


def test_series_split_refuses_what_names_no_items(run: Run, served: Served, tmp_path: Path) -> None:
    base = ("series", "split", "Case 12", "--name", "n", "--items")
    assert run(*base, str(tmp_path / "none.txt")).code == 2
    bad = tmp_path / "bad.txt"
    bad.write_text(f"sha1:{'ab' * 20}\nsha1:zz\n")
    refused = run(*base, str(bad))
    assert refused.code == 1
    assert "record 2" in refused.err and "nothing was split" in refused.err
    assert "SplitSeries" not in served.node.requests


def test_series_assess_takes_region_and_clues(run: Run, served: Served) -> None:
    served.node.answers["AssessSeries"] = pb.AssessSeriesResponse(
        series=a_series(untold_countries=["FR"])
    )
    clue = new_id()
    result = run(
        *("series", "assess", "Case 12", "--country", "FR", "--confidence", "low"),
        *("--grounds", "plates", "--region", "Bretagne", "--clue", clue, "--json"),
    )
    request = served.node.only("AssessSeries")
    assert (request.region, list(request.clues)) == ("Bretagne", [clue])
    assert result.document["untold_countries"] == ["FR"]


def test_series_show_has_how_items_were_judged(run: Run, served: Served) -> None:
    vote = series_work_pb2.VoteCount(
        scheme="vics-us", code=HOSTILE, items=12, agencies=4, trusted=9, disputed=2
    )
    served.node.answers["GetSeries"] = pb.GetSeriesResponse(series=a_series(votes=[vote]))
    (shown,) = run("series", "show", "Case 12", "--json").document["votes"]
    assert shown == {
        "scheme": "vics-us",
        "code": HOSTILE,
        "items": 12,
        "agencies": 4,
        "trusted": 9,
        "disputed": 2,
    }
    plain = run("series", "show", "Case 12").out
    assert "vics-us:" in plain
    assert "\x1b" not in plain


def test_series_same_as_lists_confirms_and_refuses(run: Run, served: Served) -> None:
    own, other, link = f"pt-pj/{new_id()}", f"es-gc/{new_id()}", new_id()
    view = operator_links_pb2.SameAsView(
        id=link,
        own=own,
        other=other,
        agency="es-gc",
        state="pending",
        ours="pending",
        theirs="confirmed",
        theirs_person="luis",
        shared=8,
        own_items=10,
        other_items=12,
        references=["icse:4711", HOSTILE],
    )
    served.node.answers["ListSameAs"] = operator_links_pb2.ListSameAsResponse(links=[view])
    served.node.answers["AnswerSameAs"] = operator_links_pb2.AnswerSameAsResponse(link=view)
    (shown,) = run("series", "same-as", "list", "Case 12", "--json").document["links"]
    assert served.node.only("ListSameAs").series == "Case 12"
    assert (shown["id"], shown["own"], shown["other"]) == (link, own, other)
    assert (shown["state"], shown["ours"], shown["theirs"]) == ("pending", "pending", "confirmed")
    assert shown["references"] == ["icse:4711", HOSTILE]
    plain = run("series", "same-as")
    assert plain.code == 0
    assert "8 of 10 and 12" in plain.out
    assert "\x1b" not in plain.out
    why = ("--purpose", "deconfliction", "--case", "2026-118")
    assert run("series", "same-as", "confirm", link, *why, "--json").document["id"] == link
    assert run("series", "same-as", "refuse", link).code == 0
    confirmed, refused = served.node.requests["AnswerSameAs"]
    assert (confirmed.id, confirmed.confirm) == (link, True)
    assert (confirmed.purpose, confirmed.case_ref) == ("deconfliction", "2026-118")
    assert (refused.confirm, refused.purpose) == (False, "")
    assert run("series", "same-as", "confirm", "no id").code == 2


def test_series_note_says_whom_it_told(run: Run, served: Served) -> None:
    note = operator_links_pb2.NoteView(
        id=new_id(), series=f"pt-pj/{new_id()}", agency="pt-pj", person="ana", text=HOSTILE
    )
    note.told.append("es-gc")
    made = operator_links_pb2.AddNoteResponse(note=note, refused={"fr-ofmin": HOSTILE})
    served.node.answers["AddNote"] = made
    why = ("--purpose", "deconfliction", "--case", "2026-118")
    base = ("series", "note", "Case 12", "--text", "phone seized", *why)
    document = run(*base, "--to", "es-gc", "--json").document
    request = served.node.only("AddNote")
    assert (request.series, request.text, request.agency) == ("Case 12", "phone seized", "es-gc")
    assert (request.purpose, request.case_ref) == ("deconfliction", "2026-118")
    assert (document["told"], document["refused"]) == (["es-gc"], {"fr-ofmin": HOSTILE})
    plain = run(*base)
    assert "not told: fr-ofmin" in plain.out
    assert "\x1b" not in plain.out
    assert run("series", "note", "Case 12", "--text", "x").code == 2
    served.node.answers["GetSeries"] = pb.GetSeriesResponse(series=a_series(notes=[note]))
    assert "\x1b" not in run("series", "show", "Case 12").out
    (shown,) = run("series", "show", "Case 12", "--json").document["notes"]
    assert (shown["agency"], shown["text"]) == ("pt-pj", HOSTILE)
