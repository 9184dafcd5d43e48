"""`tieline hashes imports` and `remove`, and what an import says of exclusion lists."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from tieline.v1 import operator_imports_pb2 as imports
from tieline.v1 import operator_pb2 as pb
from tieline_client.identifiers import new_id
from tieline_client.payloads import timestamp

from tests.cli.node_double import Refusal, Run, Served

WHEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHA1 = [hashlib.sha1(bytes([number])).hexdigest() for number in range(9)]
REASON = ("--reason", "of another case")


def view(**changes: Any) -> imports.ImportView:
    fields: dict[str, Any] = {
        "id": new_id(),
        "source": "seizure.json",
        "format": "vics",
        "person": "ana.silva",
        "case_ref": "2026-118",
        "import_time": timestamp(WHEN),
        "items_new": 40,
        "items_known": 2,
        "stored": 41,
        "series_count": 1,
        "series": ["pt-pj/x"],
        "retain_until": "2029-02-28",
        "state": "counts",
    }
    return imports.ImportView(**fields | changes)


def a_list(path: Path) -> Path:
    path.write_text("\n".join(SHA1) + "\n")
    return path


def test_imports_are_listed_with_what_became_of_them(run: Run, served: Served) -> None:
    waits = view(source="", case_ref="", state="removing", reason="a long reader")
    known = view(source="nsrl.txt", exclusions=True, retain_until="")
    answer = imports.ListImportsResponse(imports=[view(), known, waits], more=True)
    served.node.answers["ListImports"] = answer
    result = run("hashes", "imports", "--most", "3")
    assert result.code == 0
    assert served.node.only("ListImports").most == 3
    for one in answer.imports:
        assert one.id in result.out
    assert "2026-03-01T12:00:00Z" in result.out
    assert "exclusions" in result.out
    assert "removing: a long reader" in result.out
    assert "--most N lists more" in result.out
    document = run("hashes", "imports", "--json").document
    assert document["more"]
    first, listed, last = document["imports"]
    assert (first["file"], first["by"], first["case"]) == ("seizure.json", "ana.silva", "2026-118")
    assert (first["items_new"], first["items_known"], first["stored"]) == (40, 2, 41)
    assert (first["as"], first["series"]) == ("holdings", ["pt-pj/x"])
    assert (first["retain_until"], listed["retain_until"]) == ("2029-02-28", None)
    assert (listed["as"], last["reason"]) == ("exclusions", "a long reader")


def test_nothing_imported_is_a_sentence(run: Run, served: Served) -> None:
    assert "nothing was imported" in run("hashes", "imports").out


def test_a_removal_says_what_it_does_and_what_to_import_again(run: Run, served: Served) -> None:
    gone, later = view(state="removing"), view(source="next.json")
    served.node.answers["RemoveImport"] = imports.RemoveImportResponse(removed=gone, again=[later])
    result = run("hashes", "remove", gone.id, *REASON)
    assert result.code == 0
    sent = served.node.only("RemoveImport")
    assert (sent.id, sent.reason) == (gone.id, "of another case")
    assert "its 41 holdings are in no answer any more" in result.out
    assert f"import next.json again ({later.id})" in result.out
    document = run("hashes", "remove", gone.id, *REASON, "--json").document
    assert (document["id"], document["state"], document["repeated"]) == (gone.id, "removing", False)
    assert [one["id"] for one in document["import_again"]] == [later.id]


def test_a_removed_list_says_that_its_digests_may_be_asked(run: Run, served: Served) -> None:
    gone = view(exclusions=True, stored=12)
    served.node.answers["RemoveImport"] = imports.RemoveImportResponse(removed=gone)
    result = run("hashes", "remove", gone.id, *REASON)
    assert "its 12 digests may be held and asked again" in result.out


def test_removing_twice_is_an_answer(run: Run, served: Served) -> None:
    gone = view(state="removed", source="")
    served.node.answers["RemoveImport"] = imports.RemoveImportResponse(removed=gone, repeated=True)
    result = run("hashes", "remove", gone.id, *REASON)
    assert result.code == 0
    assert "gone already (removed); nothing changed" in result.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("seizure.json", *REASON), "tieline hashes imports"),
        ((new_id(), "--reason", " "), "--reason"),
        ((new_id(),), "--reason"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    run: Run, served: Served, words: tuple[str, ...], said: str
) -> None:
    result = run("hashes", "remove", *words)
    assert result.code == 2
    assert said in result.err
    assert served.node.requests == {}


@pytest.mark.parametrize(
    ("code", "reason", "status"),
    [
        (StatusCode.PERMISSION_DENIED, "ROLE_REFUSED", 3),
        (StatusCode.NOT_FOUND, "NOT_FOUND", 1),
        (StatusCode.FAILED_PRECONDITION, "WRONG_STATE", 1),
    ],
)
def test_what_the_node_refuses_is_said_in_its_words(
    run: Run, served: Served, code: StatusCode, reason: str, status: int
) -> None:
    served.node.answers["RemoveImport"] = Refusal(code, reason, "RemoveImport needs an officer")
    result = run("hashes", "remove", new_id(), *REASON)
    assert (result.code, "needs an officer" in result.err) == (status, True)


def test_known_good_and_categories_are_said_apart(run: Run, served: Served, tmp_path: Path) -> None:
    report = pb.ImportReport(records=9, items_new=4, excluded=5, known_good=3)
    nsrl = report.lists.add(id=new_id(), source="nsrl.txt")
    served.node.answers["Import"] = report
    file = a_list(tmp_path / "found.txt")
    result = run("hashes", "import", file)
    assert f"found.txt: 3 records are known good, by nsrl.txt ({nsrl.id})" in result.out
    assert "tieline hashes remove IMPORT" in result.out
    assert "found.txt: 2 records are in no listed category" in result.out
    (document,) = run("hashes", "import", file, "--json").document["files"]
    assert (document["excluded"], document["known_good"]) == (5, 3)
    assert document["exclusion_lists"] == [{"id": nsrl.id, "file": "nsrl.txt"}]


def test_a_node_that_does_not_say_which_leaves_it_open(
    run: Run, served: Served, tmp_path: Path
) -> None:
    served.node.answers["Import"] = pb.ImportReport(records=9, items_new=4, excluded=5)
    file = a_list(tmp_path / "found.txt")
    result = run("hashes", "import", file)
    assert "known good" not in result.out and "no listed category" not in result.out
    (document,) = run("hashes", "import", file, "--json").document["files"]
    assert document["known_good"] is None


def test_a_list_says_what_of_it_is_held_and_how_to_remove_it(
    run: Run, served: Served, tmp_path: Path
) -> None:
    report = pb.ImportReport(records=9, items_new=9, known_good=0, held=2)
    holder = report.holders.add(id=new_id(), source="old.csv")
    served.node.answers["Import"] = report
    file = a_list(tmp_path / "good.txt")
    result = run("hashes", "import", file, "--as", "exclusions")
    assert "good.txt: 2 of its records are held already" in result.out
    assert f"they are of old.csv ({holder.id})" in result.out
    (document,) = run("hashes", "import", file, "--as", "exclusions", "--json").document["files"]
    assert (document["held"], document["held_by"]) == (2, [{"id": holder.id, "file": "old.csv"}])


def test_a_retention_day_of_an_exclusion_list_is_not_passed_over_in_silence(
    run: Run, served: Served, tmp_path: Path
) -> None:
    served.node.answers["Import"] = pb.ImportReport(records=9, items_new=9)
    command = ("hashes", "import", a_list(tmp_path / "good.txt"), "--retain-until", "2099-01-01")
    listed = run(*command, "--as", "exclusions", "--json")
    assert (listed.code, "tieline hashes remove" in listed.err) == (0, True)
    assert len(listed.document["files"]) == 1
    assert "retention" not in run(*command).err
