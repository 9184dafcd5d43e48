"""`tieline export` against a double of the node: the file, the account, and what is refused."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tieline.v1 import operator_deposits_pb2 as deposits
from tieline.v1 import operator_pb2 as pb
from tieline.v1 import series_pb2
from tieline_client.exporting import ExportFormat, ExportOptions, write_export

from tests.cli.node_double import Refusal, Run, Served

SERIES = "pt-pj/01920000-0000-7000-8000-000000000001"
WHY = ("--purpose", "victim-identification", "--case", "2026-118")


def _view() -> pb.SeriesView:
    notice = series_pb2.SeriesNotice(
        id=SERIES,
        name="Azul",
        status="new",
        handling=series_pb2.Handling(
            code=0, tlp=3, source="X", information=4, retain_until="2029-01-01"
        ),
        references=[
            series_pb2.ExternalReference(scheme="icse", value=value) for value in ("1", "2")
        ],
    )
    return pb.SeriesView(notice=notice, owner="pt-pj", case_ref="2026-118")


def _item(number: int) -> pb.ItemRecord:
    digest = hashlib.sha256(str(number).encode()).digest()
    return pb.ItemRecord(
        number=number,
        md5=digest[:16],
        sha1=digest[:20],
        series="Azul",
        schemes=["vics-us", "vics-uk"],
        codes=["1", "2"],
        baseline=True,
    )


def _full(number: int) -> pb.ItemRecord:
    item = _item(number)
    item.sha256 = item.pdq = hashlib.sha256(b"full").digest()
    return item


def _parts(count: int, *, withheld: int = 0) -> Iterator[pb.ExportSeriesResponse]:
    reason = "kept back" if withheld else ""
    yield pb.ExportSeriesResponse(
        series=pb.ExportedSeries(series=_view(), records=count, withheld=withheld, reason=reason)
    )
    digest = hashlib.sha256()
    for start in range(1, count + 1, 1000):
        batch = [_item(number) for number in range(start, min(start + 1000, count + 1))]
        for one in batch:
            digest.update(one.SerializeToString(deterministic=True))
        yield pb.ExportSeriesResponse(records=pb.RecordBatch(records=batch))
    yield pb.ExportSeriesResponse(
        end=pb.ExportEnd(records=count, withheld=withheld, digest=digest.digest())
    )


def test_a_file_and_one_document(run: Run, served: Served, tmp_path: Path) -> None:
    served.node.answers["ExportSeries"] = list(_parts(3, withheld=2))
    path = tmp_path / "out.json"
    result = run("export", "Azul", SERIES, "--format", "vics", path, *WHY, "--json")
    assert result.code == 0, result.err
    request = served.node.only("ExportSeries")
    assert (list(request.series), request.format, request.file) == (
        ["Azul", SERIES],
        "vics",
        "out.json",
    )
    assert (request.purpose, request.case_ref) == ("victim-identification", "2026-118")
    document: Any = result.document
    assert document["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (document["records"], document["written"], document["withheld"]) == (3, 3, 2)
    assert document["dropped"] == [
        {"field": "baseline", "records": 3},
        {"field": "category vics-uk", "records": 3},
    ]
    (case,) = json.loads(path.read_text())["value"]
    stated = {one["PropertyName"]: one["PropertyValue"] for one in case["CaseMetadata"]}
    assert (stated["Tieline.TLP"], stated["Tieline.Handling"]) == ("TLP:AMBER", "H0")
    assert (stated["Reference.icse"], stated["Reference.icse.2"]) == ("1", "2")


def test_people_read_what_is_not_in_the_file(run: Run, served: Served, tmp_path: Path) -> None:
    served.node.answers["ExportSeries"] = list(_parts(3, withheld=2))
    result = run("export", "Azul", tmp_path / "o.csv", "--format", "icse", *WHY)
    assert result.code == 0, result.err
    assert "category vics-us" in result.out
    assert "series metadata" in result.out
    assert "2 items are kept back" in result.err


@pytest.mark.parametrize(
    ("file_format", "kinds", "needs"),
    [
        ("vics", ("sha1", "sha256"), "an MD5"),
        ("icse", ("sha256", "pdq"), "an MD5 or a SHA-1"),
    ],
)
def test_a_file_that_would_hold_none_of_the_records_is_not_written(
    run: Run, served: Served, tmp_path: Path, file_format: str, kinds: Any, needs: str
) -> None:
    keep = {"number", *kinds}
    item = pb.ItemRecord(**{name: getattr(_full(1), name) for name in keep})
    digest = hashlib.sha256(item.SerializeToString(deterministic=True)).digest()
    served.node.answers["ExportSeries"] = [
        pb.ExportSeriesResponse(series=pb.ExportedSeries(series=_view(), records=1)),
        pb.ExportSeriesResponse(records=pb.RecordBatch(records=[item])),
        pb.ExportSeriesResponse(end=pb.ExportEnd(records=1, digest=digest)),
    ]
    folder = tmp_path / "out"
    folder.mkdir()
    result = run("export", "Azul", folder / "o", "--format", file_format, *WHY, "--json")
    assert (result.code, result.out) == (1, "")
    assert f"none of the 1 records of {SERIES} has {needs}" in result.err
    assert "use another --format" in result.err
    assert not list(folder.iterdir())


def test_a_series_without_records_is_still_a_file(run: Run, served: Served, tmp_path: Path) -> None:
    served.node.answers["ExportSeries"] = list(_parts(0))
    result = run("export", "Azul", tmp_path / "o", "--format", "vics", *WHY, "--json")
    assert (result.code, result.document["written"]) == (0, 0)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("Azul", "--format", "xml"), 2),
        (("Azul",), 2),
        (("Azul", "--format", "vics", "--context", "fr"), 2),
        (("--format", "vics"), 2),
    ],
)
def test_wrong_words(run: Run, served: Served, tmp_path: Path, words: Any, code: int) -> None:
    result = run("export", *words, tmp_path / "o.json", *WHY)
    assert result.code == code
    assert not served.node.requests
    assert not (tmp_path / "o.json").exists()


@pytest.mark.parametrize("missing", ["--purpose", "--case"])
def test_why_is_needed(run: Run, served: Served, tmp_path: Path, missing: str) -> None:
    at = WHY.index(missing)
    why = WHY[:at] + WHY[at + 2 :]
    assert run("export", "Azul", tmp_path / "o", "--format", "csv", *why).code == 2
    assert not served.node.requests


def test_a_refusal_leaves_nothing(run: Run, served: Served, tmp_path: Path) -> None:
    served.node.answers["ExportSeries"] = Refusal(
        grpc.StatusCode.PERMISSION_DENIED, "POLICY_REFUSED", "exporting: H2 stays"
    )
    result = run("export", "Azul", tmp_path / "o.json", "--format", "vics", *WHY, "--json")
    assert (result.code, result.out) == (3, "")
    assert "H2 stays" in result.err
    assert not list(tmp_path.glob("*o.json*"))


def test_a_folder_that_is_not_there_is_said(run: Run, served: Served, tmp_path: Path) -> None:
    served.node.answers["ExportSeries"] = list(_parts(1))
    result = run("export", "Azul", tmp_path / "no" / "o.json", "--format", "vics", *WHY)
    assert result.code == 1
    assert "cannot be written" in result.err


@pytest.mark.parametrize("file_format", [ExportFormat.VICS, ExportFormat.CSV])
def test_memory_stays_flat(tmp_path: Path, file_format: ExportFormat) -> None:
    """Five times the records take no more memory."""
    peaks = []
    for count in (1_000, 5_000):
        options = ExportOptions(("Azul",), file_format, *WHY[1::2])
        tracemalloc.start()
        write_export(_parts(count), options, tmp_path / f"{count}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 256 * 1024


# --- a database that only takes files ---------------------------------------------------------


def _drop(run: Run, served: Served, folder: Path, count: int) -> Any:
    served.node.answers["ExportSeries"] = list(_parts(count))
    words = ("upload", "drop", "Azul", "--to", "interpol", "--folder", folder, *WHY, "--json")
    return run(*words)


def test_a_drop_and_what_comes_of_it(run: Run, served: Served, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    result = _drop(run, served, folder, 3)
    assert result.code == 0, result.err
    assert served.node.only("ExportSeries").recipient == "interpol"
    drop = result.document["drop"]
    assert (drop["records"], drop["state"], result.document["unchanged"]) == (3, "waiting", False)
    assert [one.name for one in folder.iterdir()] == [drop["name"]]
    again = _drop(run, served, folder, 3).document
    assert (again["unchanged"], again["drop"]["name"]) == (True, drop["name"])
    (folder / drop["name"] / "picked-up").write_text("ICSE-77\n")
    answer = tmp_path / "icse.csv"
    rows = [f"{_item(number).md5.hex()};y;4;y" for number in (1, 2, 9)]
    answer.write_text("\n".join(["MD5;Victim identified;Number of submissions;Baseline", *rows]))
    words = ("upload", "reconcile", "--folder", folder, "--answer", answer)
    found: Any = run(*words, "--json").document
    counts = (found["deposited"], found["held"], found["missing_count"], found["foreign"])
    assert counts == (3, 2, 1, 1)
    assert (found["drops"][0]["state"], found["drops"][0]["reference"]) == ("picked_up", "ICSE-77")
    assert found["missing"] == [{"series": "Azul", "item": f"md5:{_item(3).md5.hex()}"}]
    (series,) = found["series"]
    assert (series["submissions"], series["baseline"], series["identified"]) == (4, 2, 2)
    assert found["rejected"] == []
    shown = run(*words)
    assert shown.code == 0
    assert f"missing: md5:{_item(3).md5.hex()}" in shown.out
    answer.write_text(f"{answer.read_text()}\nabc;y;4;y\n")
    document: Any = run(*words, "--json").document
    assert (document["rejected_count"], document["rejected"][0]["record"]) == (1, 4)
    assert "1 rows of the answer cannot be read" in run(*words).out


def test_a_drop_is_recorded_and_its_answer_applied(
    run: Run, served: Served, tmp_path: Path
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    _drop(run, served, folder, 3)
    recorded = served.node.only("RecordDrop")
    (drop,) = folder.iterdir()
    assert (recorded.repository, recorded.drop) == ("interpol", drop.name)
    (series,) = recorded.series
    assert series.records == 3
    answer = tmp_path / "icse.csv"
    rows = [f"{_item(number).md5.hex()};y;4;y;N-7" for number in (1, 2)]
    head = "MD5;Victim identified;Number of submissions;Baseline;Series name"
    answer.write_text("\n".join([head, *rows]))
    served.node.answers["TakeAnswer"] = pb.TakeAnswerResponse(news=2)
    words = ("upload", "reconcile", "--folder", folder, "--answer", answer, "--to", "interpol")
    assert run(*words, "--json").document["news"] == 2
    (said,) = served.node.only("TakeAnswer").answers
    counts = (said.number, said.deposited, said.held, said.submissions, said.baseline)
    assert (*counts, said.identified) == ("N-7", 3, 2, 4, 2, 2)
    other = run(*words[:-1], "icse-2", "--json").document  # no drop was for it
    assert (other["deposited"], other["news"]) == (0, 0)


def test_a_node_is_asked_what_it_holds(run: Run, served: Served) -> None:
    row = deposits.DepositRow(
        series="pt-pj/1", name="Azul", state="numbered", number="N-7", deposited=3, held=2,
        missing_count=1, missing=["md5:00"], differences=["numbered N-7 by its step"],
        receipt="r",
    )  # fmt: skip
    served.node.answers["ReconcileDeposits"] = [deposits.ReconcileDepositsResponse(row=row)]
    words = ("upload", "reconcile", "--to", "interpol", *WHY)
    document: Any = run(*words, "--json").document
    assert document["repository"] == "interpol"
    (one,) = document["series"]
    assert (one["deposited"], one["held"], one["missing"], one["said"]) == (3, 2, ["md5:00"], None)
    shown = run(*words)
    assert "missing: md5:00 of pt-pj/1" in shown.out
    assert "differs: pt-pj/1: numbered N-7 by its step" in shown.out


@pytest.mark.parametrize(
    "words", [(), ("--folder", "x"), ("--answer", "x", "--to", "interpol"), ("--to", "interpol")]
)
def test_reconcile_says_what_it_lacks(run: Run, served: Served, words: tuple[str, ...]) -> None:
    assert run("upload", "reconcile", *words).code == 2
    assert not served.node.requests


def test_a_refused_drop_leaves_nothing(run: Run, served: Served, tmp_path: Path) -> None:
    served.node.answers["ExportSeries"] = Refusal(
        grpc.StatusCode.PERMISSION_DENIED, "POLICY_REFUSED", "H2 stays"
    )
    words = ("upload", "drop", "Azul", "--to", "interpol", "--folder", tmp_path / "in", *WHY)
    assert run(*words).code == 1  # there is no such folder
    (tmp_path / "in").mkdir()
    assert run(*words).code == 3
    assert not list((tmp_path / "in").iterdir())


def test_a_broken_answer_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    answer = tmp_path / "icse.csv"
    answer.write_text("not;an;answer\n1;2;3\n")
    result = run("upload", "reconcile", "--folder", tmp_path / "in", "--answer", answer)
    assert result.code == 1
    assert "header" in result.err
