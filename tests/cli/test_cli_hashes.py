"""`tieline hashes`: what goes out, what comes back, what bad files get."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from grpc import StatusCode
from tieline.v1 import operator_pb2 as pb

from tests.cli.node_double import Refusal, Run, Served

FIELDS = {
    *("file", "format", "records", "items_new", "items_known", "series"),
    *("excluded", "conflicts", "rejected"),
}
MD5 = [hashlib.md5(bytes([n]), usedforsecurity=False).hexdigest() for n in range(250)]


def a_list(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_an_import_reports_the_contracts_fields(run: Run, served: Served, tmp_path: Path) -> None:
    file = a_list(tmp_path / "found.txt", [*MD5[:3], "md5:1234", MD5[3]])
    result = run(
        *("hashes", "import", file, "--series", "Case 12", "--case", "2026-118"),
        *("--category", "vics-us:1", "--handling", "H3", "--restriction", "ask first"),
        *("--tlp", "amber+strict", "--source", "b", "--information", "2"),
        *("--retain-until", "2030-12-31", "--json"),
    )
    assert result.code == 0
    assert set(result.document) == {"files"}
    (report,) = result.document["files"]
    assert set(report) >= FIELDS
    assert report["file"] == "found.txt"
    assert report["format"] == "list"
    assert (report["records"], report["items_new"], report["error"]) == (5, 4, None)
    assert [each["record"] for each in report["rejected"]] == [4]
    assert "1234" in report["rejected"][0]["reason"]

    header = served.node.only("Import")
    assert (header.source, header.format) == ("found.txt", "list")
    assert header.file_digest == hashlib.sha256(file.read_bytes()).digest()
    assert (header.series, header.case_ref, header.exclusions) == ("Case 12", "2026-118", False)
    assert (header.category_scheme, header.category_code) == ("vics-us", "1")
    assert (header.handling.code, header.handling.tlp) == (3, 4)
    assert (header.handling.source, header.handling.information) == ("B", 2)
    assert header.handling.restriction == "ask first"
    assert header.handling.retain_until == "2030-12-31"
    assert [each.number for each in served.node.records] == [1, 2, 3, 5]
    assert served.node.records[0].md5.hex() == MD5[0]
    assert served.node.finished == [True]


def test_many_records_travel_in_batches(run: Run, served: Served, tmp_path: Path) -> None:
    lines = [hashlib.sha1(n.to_bytes(4, "big")).hexdigest() for n in range(4_500)]
    result = run("hashes", "import", a_list(tmp_path / "many.txt", lines), "--json")
    assert result.code == 0
    assert len(served.node.records) == 4_500
    assert result.document["files"][0]["records"] == 4_500


def test_rejections_of_both_sides_are_one_list_by_number(
    run: Run, served: Served, tmp_path: Path
) -> None:
    served.node.answers["Import"] = pb.ImportReport(
        records=2, items_new=1, rejected=[pb.RejectedRecord(record=1, reason="odd")]
    )
    file = a_list(tmp_path / "a.txt", [MD5[0], "zz", MD5[1]])
    result = run("hashes", "import", file, "--json", "--format", "list")
    assert result.code == 0
    assert [each["record"] for each in result.document["files"][0]["rejected"]] == [1, 2]


def test_a_file_without_a_usable_record_keeps_nothing(
    run: Run, served: Served, tmp_path: Path
) -> None:
    file = a_list(tmp_path / "bad.txt", ["md5:12", "sha1:34"])
    result = run("hashes", "import", file, "--format", "list", "--json")
    assert result.code == 1
    assert served.node.finished in ([], [False])
    (report,) = result.document["files"]
    assert [each["record"] for each in report["rejected"]] == [1, 2]
    assert (report["items_new"], report["records"]) == (0, 2)
    assert "nothing was kept" in result.err


def test_when_the_node_rejects_every_record_the_import_failed(
    run: Run, served: Served, tmp_path: Path
) -> None:
    served.node.answers["Import"] = pb.ImportReport(
        records=1, rejected=[pb.RejectedRecord(record=1, reason="odd")]
    )
    assert run("hashes", "import", a_list(tmp_path / "a.txt", MD5[:1])).code == 1


def test_a_file_that_counts_already_is_skipped_and_says_so(
    run: Run, served: Served, tmp_path: Path
) -> None:
    served.node.answers["Import"] = pb.ImportReport(
        repeated=True,
        records=3,
        items_known=3,
        unsent=2,
        named=[pb.RejectedRecord(record=4, reason="odd"), pb.RejectedRecord(record=5, reason="x")],
    )
    result = run("hashes", "import", a_list(tmp_path / "a.txt", MD5[:3]), "--json")
    assert result.code == 0
    (report,) = result.document["files"]
    assert (report["skipped"], report["records"], report["items_known"]) == (True, 5, 3)
    assert [each["record"] for each in report["rejected"]] == [4, 5]
    assert report["rejected_count"] == 2
    assert "a.txt: the same counts already; skipped" in result.err
    assert served.node.records == []


def _vics(path: Path, *categories: int | None) -> Path:
    context = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/US/$metadata#Media"
    media = [
        {"MD5": MD5[n], "MediaID": n, **({} if one is None else {"Category": one})}
        for n, one in enumerate(categories)
    ]
    path.write_text(json.dumps({"@odata.context": context, "value": media}))
    return path


@pytest.mark.parametrize(
    ("categories", "words", "excluded", "told"),
    [
        ((0, 5, 5), (), 3, ["vics-us:0", "vics-us:5"]),
        ((None, None), (), 2, []),
        ((5, None), (), 2, ["vics-us:5"]),
        ((None, None), ("--category", "vics-us:1"), 2, None),
        ((1, 1), (), 1, None),  # known good
        ((0, 5), ("--as", "exclusions"), 2, None),
    ],
)
def test_a_file_of_no_listed_category_says_so_and_what_to_do(
    run: Run,
    served: Served,
    tmp_path: Path,
    categories: tuple[int | None, ...],
    words: tuple[str, ...],
    excluded: int,
    told: list[str] | None,
) -> None:
    served.node.answers["GetAskTerms"] = pb.GetAskTermsResponse(
        categories=[pb.Category(scheme="vics-us", code="1")], records_most=9
    )
    served.node.answers["Import"] = pb.ImportReport(records=len(categories), excluded=excluded)
    file = _vics(tmp_path / "case.json", *categories)
    result = run("hashes", "import", file, *words)
    assert result.code == 0
    counts, _, said = result.out.partition("case.json: all is excluded: ")
    assert bool(said) is (told is not None)
    if told is not None:
        assert "excluded" in counts
        assert all(one in said for one in told)
        assert ("no category of the file is in the agency's list" in said) is bool(told)
        assert "--category SCHEME:CODE" in said
        assert "docs/operations.md#categories" in said
    (document,) = run("hashes", "import", file, *words, "--json").document["files"]
    assert document["unlisted_categories"] == told


@pytest.mark.parametrize(
    ("rows", "words", "told", "says"),
    [
        (
            ["vics-us:1", "300", "abc:def", "", ""],
            (),
            ["tieline:300", "abc:def"],
            "(tieline:300, abc:def) and those that carry no category",
        ),
        (["vics-us:1", ""], (), [], "among them those that carry no category"),
        (["vics-us:1", "", "5"], ("--category", "x:1"), ["tieline:5"], "(tieline:5). Import"),
        (["vics-us:1", "vics-us:1,300"], (), None, ""),
    ],
)
def test_categories_for_which_some_records_were_excluded_are_named(
    run: Run,
    served: Served,
    tmp_path: Path,
    rows: list[str],
    words: tuple[str, ...],
    told: list[str] | None,
    says: str,
) -> None:
    served.node.answers["GetAskTerms"] = pb.GetAskTermsResponse(
        categories=[pb.Category(scheme="vics-us", code="1")], records_most=9
    )
    served.node.answers["Import"] = pb.ImportReport(records=len(rows), excluded=1, items_new=1)
    lines = [f"{MD5[at]};{cell}" for at, cell in enumerate(rows)]
    file = a_list(tmp_path / "own.csv", ["md5;category", *lines])
    result = run("hashes", "import", file, *words)
    assert result.code == 0
    assert ("own.csv: 1 are excluded, among them " in result.out) is (told is not None)
    assert says in result.out
    (document,) = run("hashes", "import", file, *words, "--json").document["files"]
    assert document["unlisted_categories"] == told


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Type", ["category (SCHEME:CODE, what a record shows)", "media_type"]),
        ("kind", ["category (SCHEME:CODE, what a record shows)", "media_type"]),
        ("group", ["series", "category (SCHEME:CODE, what a record shows)"]),
        ("filename", []),
    ],
)
def test_a_column_of_several_meanings_is_told_at_the_end_with_what_to_do(
    run: Run, served: Served, tmp_path: Path, name: str, meant: list[str]
) -> None:
    file = a_list(tmp_path / "own.csv", [f"md5;{name};note", f"{MD5[0]};3;x"])
    out = run("hashes", "import", file).out
    told = (
        f"own.csv: the column {name.lower()!r} was not read; it may be {' or '.join(meant)}. If it "
        "is, take this import back (`tieline hashes remove IMPORT --reason WORDS`, by an officer), "
        "rename the column and import the file again"
    )
    assert (told in out.splitlines()) is bool(meant)
    assert ("was not read" in out) is bool(meant)
    assert "was not read" not in run("hashes", "import", file, "--as", "exclusions").out


def test_columns_that_are_not_read_are_said_before_the_import(
    run: Run, served: Served, tmp_path: Path
) -> None:
    file = a_list(tmp_path / "own.csv", ["md5;file name;verdict", f"{MD5[0]};x;innocent"])
    result = run("hashes", "import", file, "--json")
    assert "own.csv: columns that are not read: filename, verdict; no column" in result.err
    assert result.document["files"][0]["unread_columns"] == ["filename", "verdict"]
    assert result.document["files"][0]["records"] == 1
    plain = run("hashes", "import", a_list(tmp_path / "a.txt", MD5[:1]), "--json")
    assert (plain.err, plain.document["files"][0]["unread_columns"]) == ("", [])
    category = a_list(tmp_path / "cat.csv", ["md5;cat", f"{MD5[0]};3"])
    refused = run("hashes", "import", category)
    assert (refused.code, "is it category" in refused.err) == (1, True)


def test_rejections_beyond_those_listed_are_counted(
    run: Run, served: Served, tmp_path: Path
) -> None:
    """Else an import of which nothing can be used would pass for one of which something can."""
    some = [pb.RejectedRecord(record=at, reason="odd") for at in range(1, 1001)]
    file = a_list(tmp_path / "many.txt", [f"{at:032x}" for at in range(1, 1502)])
    for repeated in (False, True):
        served.node.answers["Import"] = pb.ImportReport(
            records=1501, rejected=some, rejected_count=1501, repeated=repeated
        )
        result = run("hashes", "import", file, "--json")
        (document,) = result.document["files"]
        assert (document["rejected_count"], len(document["rejected"])) == (1501, 1000)
        assert result.code == 1


def test_a_list_whose_records_are_all_known_good_is_no_matter_of_categories(
    run: Run, served: Served, tmp_path: Path
) -> None:
    served.node.answers["Import"] = pb.ImportReport(records=2, excluded=2)
    result = run("hashes", "import", a_list(tmp_path / "a.txt", MD5[:2]))
    assert "all is excluded" not in result.out


def test_a_truncated_file_cancels_the_import(run: Run, served: Served, tmp_path: Path) -> None:
    media = [{"MD5": each, "MediaID": n, "Category": 1} for n, each in enumerate(MD5)]
    context = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/US/$metadata#Media"
    whole = json.dumps({"@odata.context": context, "value": media * 20})
    file = tmp_path / "cut.json"
    file.write_text(whole[:-40])
    result = run("hashes", "import", file, "--json")
    assert result.code == 1
    assert served.node.finished in ([], [False])
    (report,) = result.document["files"]
    assert report["format"] == "vics"
    assert (report["items_new"], report["items_known"]) == (0, 0)
    assert "cut.json, record 5000" in result.err


def test_good_files_count_beside_a_broken_one(run: Run, served: Served, tmp_path: Path) -> None:
    good, broken = a_list(tmp_path / "good.txt", MD5[:2]), tmp_path / "broken.json"
    broken.write_text('{"value": [')
    last = a_list(tmp_path / "last.txt", MD5[2:4])
    result = run("hashes", "import", good, broken, last, "--json")
    assert result.code == 1
    assert [each["items_new"] for each in result.document["files"]] == [2, 0, 2]
    assert [each["error"] is None for each in result.document["files"]] == [True, False, True]


def test_known_good_lists_load_as_exclusions_only(run: Run, served: Served, tmp_path: Path) -> None:
    header = (
        '"SHA-1","MD5","CRC32","FileName","FileSize","ProductCode","OpSystemCode","SpecialCode"'
    )
    row = f'"{"a1" * 20}","{MD5[0]}","00000000","x.dll",12,1,"362",""'
    file = a_list(tmp_path / "NSRLFile.txt", [header, row])
    result = run("hashes", "import", file)
    assert result.code == 2
    assert "--as exclusions" in result.err
    assert served.node.requests == {}
    assert run("hashes", "import", file, "--as", "exclusions").code == 0
    assert served.node.only("Import").exclusions


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--category", "1"], "SCHEME:VALUE"),
        (["--handling", "H9"], "H0, H1, H2 or H3"),
        (["--handling", "H3"], "--restriction"),
        (["--restriction", "x"], "H3"),
        (["--tlp", "purple"], "TLP"),
        (["--source", "Q"], "A, B, C or X"),
        (["--information", "5"], "equal to 4"),
        (["--retain-until", "soon"], "2030-12-31"),
        (["--format", "docx"], "docx"),
        (["--as", "souvenirs"], "souvenirs"),
        (["--case", "x" * 300], "200"),
        (["--no-such"], "--no-such"),
    ],
)
def test_wrong_options_are_usage_errors_of_one_line(
    run: Run, served: Served, tmp_path: Path, options: list[str], word: str
) -> None:
    result = run("hashes", "import", a_list(tmp_path / "a.txt", MD5[:1]), *options)
    assert result.code == 2
    assert word in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert served.node.requests == {}


def test_a_missing_file_stops_before_any_import(run: Run, served: Served, tmp_path: Path) -> None:
    good = a_list(tmp_path / "good.txt", MD5[:1])
    result = run("hashes", "import", good, tmp_path / "absent.txt")
    assert result.code == 2
    assert "absent.txt" in result.err
    assert served.node.requests == {}


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff\xe0 no picture", b"PK\x03\x04", b"Dear colleague,\n"]
)
def test_what_is_no_hash_list_is_refused(
    run: Run, served: Served, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "holiday.jpg"
    file.write_bytes(content)
    result = run("hashes", "import", file, "--json")
    assert result.code == 1
    assert result.document["files"][0]["records"] == 0
    assert served.node.requests == {}


def test_a_folder_is_no_file(run: Run, tmp_path: Path) -> None:
    result = run("hashes", "import", tmp_path)
    assert result.code == 1
    assert "not a regular file" in result.err


def test_control_characters_of_a_file_never_enter_the_node(
    run: Run, served: Served, tmp_path: Path
) -> None:
    rows = ["md5;series", f'{MD5[0]};"\x1b[31mred\x07"', f"{MD5[1]};plain"]
    result = run("hashes", "import", a_list(tmp_path / "own.csv", rows), "--json")
    assert result.code == 0
    assert [each.series for each in served.node.records] == ["\\x1b[31mred\\x07", "plain"]


def test_a_refused_import_exits_3_and_stops(run: Run, served: Served, tmp_path: Path) -> None:
    served.node.answers["Import"] = Refusal(
        StatusCode.PERMISSION_DENIED, "ROLE_REFUSED", "an auditor may not import"
    )
    files = [a_list(tmp_path / f"{n}.txt", MD5[:2]) for n in range(2)]
    result = run("hashes", "import", *files, "--json")
    assert result.code == 3
    assert len(result.document["files"]) == 1
    assert "an auditor may not import" in result.err


def test_stats_are_counts_and_nothing_else(run: Run, served: Served) -> None:
    served.node.answers["GetStats"] = pb.GetStatsResponse(
        items=7, holdings=8, series=2, exclusions=1, digests={"sha1": 5, "md5": 7}, generation=3
    )
    result = run("hashes", "stats", "--json")
    assert result.code == 0
    digests = result.document.pop("digests")
    assert digests == {"md5": 7, "sha1": 5}
    assert all(isinstance(value, int) for value in result.document.values())
    assert "holdings" in run("hashes", "stats").out
