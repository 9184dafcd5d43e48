"""Series leave as a file only as policy lets them, and only once the log says so."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tieline.v1 import operator_pb2 as pb
from tieline.v1 import series_pb2
from tieline_client import constraints, limits
from tieline_client.errors import (
    FormatError,
    InvalidInput,
    NotFound,
    PolicyRefused,
    TielineError,
    Unreachable,
    WrongState,
)
from tieline_client.exporting import ExportFormat, ExportOptions, ExportReport, write_export
from tieline_client.formats import Record, Vote, open_records
from tieline_server.services.exporting import Export
from tieline_server.services.retracting import Retracting

from tests.services.bench import (
    ABUSE,
    ANA,
    CASE,
    ES,
    INTERPOL,
    PT,
    PURPOSE,
    Bench,
    Running,
    record,
    records,
)
from tests.services.test_permission_service import ask
from tests.services.test_release_service import decide

NAME = "Azul =1+1"


def _request(*series: str, **fields: str) -> pb.ExportSeriesRequest:
    given = {"format": "vics", "file": "a.json", "purpose": PURPOSE, "case_ref": CASE} | fields
    return pb.ExportSeriesRequest(series=series, **given)


def _parts(node: Running, *series: str, **fields: str) -> Iterator[pb.ExportSeriesResponse]:
    for part in Export(node.node, ANA, _request(*series, **fields)).run():
        yield constraints.open_nested(part.SerializeToString(), type(part))


def _export(
    node: Running, path: Path, *series: str, file_format: ExportFormat = ExportFormat.VICS
) -> ExportReport:
    options = ExportOptions(series, file_format, PURPOSE, CASE)
    return write_export(_parts(node, *series), options, path)


def _full(number: int) -> Record:
    return record(
        number,
        kinds="md5 sha1 sha256 pdq",
        photodna=bytes([number]) * 144,
        size=2**53 + 1,
        media_type="image/jpeg",
        pdq_quality=77,
        victim_identified=True,
        offender_identified=False,
        distributed=True,
        submissions=12,
        baseline=True,
        votes=(ABUSE, Vote("vics-uk", "1")),
    )


def test_an_item_of_more_categories_than_a_record_takes_goes_out_in_several(
    bench: Bench, tmp_path: Path
) -> None:
    """Each import may state as many as a record takes; one such item kept a whole series here."""
    node = bench[PT]
    given = [Vote(scheme, str(code)) for scheme in ("a", "b") for code in range(15)]
    node.series([record(1, votes=(ABUSE, *given[:15]))], NAME)
    node.series([record(1, votes=(ABUSE, *given[15:])), record(2)], NAME)
    for file_format in (ExportFormat.CSV, ExportFormat.CASE):
        path = tmp_path / file_format
        report = _export(node, path, NAME, file_format=file_format)
        assert (report.written, report.skipped) == (3, 0)
        found = [one for one in open_records(path) if isinstance(one, Record)]
        first = [one for one in found if one.sha1 == record(1).sha1]
        assert {vote for one in first for vote in one.votes} == {ABUSE, *given}
        assert all(len(one.votes) <= limits.VOTES_PER_RECORD for one in first)
    assert _export(node, tmp_path / "vics", NAME).written == 3


def test_everything_known_of_an_item_goes_out_and_is_logged(bench: Bench, tmp_path: Path) -> None:
    node = bench[PT]
    series = node.series([_full(1), _full(2)], NAME)
    parts = list(_parts(node, NAME))
    assert [part.WhichOneof("part") for part in parts] == ["series", "records", "end"]
    assert (parts[0].series.series.notice.id, parts[0].series.records) == (series, 2)
    (first, _) = parts[1].records.records
    expected = _full(1)
    assert (first.photodna, first.size, first.media_type) == (
        expected.photodna,
        2**53 + 1,
        "image/jpeg",
    )
    assert (first.pdq_quality, first.submissions, first.baseline) == (77, 12, True)
    assert (first.victim_identified, first.offender_identified, first.distributed) == (
        True,
        False,
        True,
    )
    assert list(zip(first.schemes, first.codes, strict=True)) == [("vics-uk", "1"), ABUSE]
    assert first.series == NAME
    sent = hashlib.sha256(
        b"".join(one.SerializeToString(deterministic=True) for one in parts[1].records.records)
    ).digest()
    assert (parts[2].end.records, parts[2].end.digest) == (2, sent)
    (begun,), (done,) = node.audit("export.begun"), node.audit("export.done")
    for entry in (begun, done):
        assert (entry["person"], entry["purpose"], entry["case"]) == ("ana", PURPOSE, CASE)
        assert entry["subjects"] == [series]
        assert entry["rules"] == ["export-to-own-systems"]
    assert done["detail"] == {
        "format": "vics",
        "file": "a.json",
        "records": 2,
        "withheld": 0,
        "digest": sent.hex(),
    }


def test_items_that_two_series_share_leave_with_their_categories(
    bench: Bench, tmp_path: Path
) -> None:
    """Whoever imports the file would exclude what carries none."""
    here, there = bench[PT], bench[ES]
    here.series(records(range(10)), "One")
    here.series(records(range(5, 15)), "Two")
    report = _export(here, tmp_path / "two.json", "Two")
    assert (report.records, report.dropped) == (10, {})
    read = [one for one in open_records(tmp_path / "two.json") if isinstance(one, Record)]
    assert [one.votes for one in read] == [(ABUSE,)] * 10
    assert there.load(read).excluded == 0


@pytest.mark.parametrize("file_format", ExportFormat)
def test_a_file_imported_elsewhere_is_the_same_series(
    bench: Bench, tmp_path: Path, file_format: ExportFormat
) -> None:
    """Import, export, import at another agency, export there: the same records in the same file."""
    here, there = bench[PT], bench[ES]
    here.series([_full(number) for number in range(1, 6)], NAME)
    _export(here, tmp_path / "first", NAME, file_format=file_format)
    read = [one for one in open_records(tmp_path / "first") if isinstance(one, Record)]
    assert len(read) == 5
    there.load(read)
    _export(there, tmp_path / "second", NAME, file_format=file_format)
    again = [one for one in open_records(tmp_path / "second") if isinstance(one, Record)]
    key = repr
    plain = [[replace(one, number=0, notes=()) for one in each] for each in (read, again)]
    assert sorted(plain[0], key=key) == sorted(plain[1], key=key)


def test_the_file_is_ours_alone_and_whole(bench: Bench, tmp_path: Path) -> None:
    node = bench[PT]
    node.series(records(range(5)), NAME)
    path = tmp_path / "out.json"
    report = _export(node, path, NAME)
    assert path.stat().st_mode & 0o777 == 0o600
    assert hashlib.sha256(path.read_bytes()).hexdigest() == report.sha256
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith((".", "out"))] == [
        "out.json"
    ]
    with pytest.raises(InvalidInput, match="--replace"):
        _export(node, path, NAME)


@pytest.mark.parametrize("cut", ["end", "middle", "forged"])
def test_what_breaks_off_leaves_no_file(bench: Bench, tmp_path: Path, cut: str) -> None:
    node = bench[PT]
    node.series(records(range(5)), NAME)
    parts = list(_parts(node, NAME))
    if cut == "forged":
        parts[-1].end.records += 1
    else:
        parts = parts[:-1] if cut == "end" else parts[:1]
    path = tmp_path / "out.json"
    options = ExportOptions((NAME,), ExportFormat.VICS, PURPOSE, CASE)
    with pytest.raises(FormatError if cut == "forged" else Unreachable):
        write_export(iter(parts), options, path)
    assert not list(tmp_path.glob("*out.json*"))


def test_who_stops_reading_is_logged_as_broken_off(bench: Bench) -> None:
    node = bench[PT]
    node.series(records(range(5)), NAME)
    stream = Export(node.node, ANA, _request(NAME)).run()
    next(stream)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    (entry,) = node.audit("export.broken")
    assert entry["detail"]["records"] == 5  # type: ignore[index]
    assert not node.audit("export.done")


@pytest.mark.parametrize(
    ("handling", "purpose", "said"),
    [
        (series_pb2.Handling(code=2), PURPOSE, "H2 or H3"),
        (series_pb2.Handling(code=3, restriction="ask us"), PURPOSE, "H2 or H3"),
        (series_pb2.Handling(tlp=5), PURPOSE, "TLP:RED"),
        (series_pb2.Handling(code=1), "prosecution", "proceedings"),
    ],
)
def test_what_the_provider_restricts_stays(
    bench: Bench, handling: series_pb2.Handling, purpose: str, said: str
) -> None:
    node = bench[PT]
    node.load(records(range(3)), series=NAME, handling=handling)
    with pytest.raises(PolicyRefused, match=said):
        list(_parts(node, NAME, purpose=purpose))
    assert not node.audit("export.begun")


def _permit(asker: Running, series: str, use: str, *agencies: str) -> str:
    """Have the provider permit a use, the own officer included; return the request."""
    asked = ask(asker, series, use, *agencies)
    asker.bench.flow()
    decide(asker.bench[PT], asked)
    asker.bench.flow()
    return asked


@pytest.mark.parametrize("terms", [series_pb2.Handling(code=2), series_pb2.Handling(tlp=5)])
def test_what_the_provider_restricts_leaves_with_its_permission(
    bench: Bench, terms: series_pb2.Handling
) -> None:
    node = bench[PT]
    (series,) = node.load(records(range(3)), series=NAME, handling=terms).series
    with pytest.raises(
        PolicyRefused, match=rf"tieline requests ask {series} --permission export --purpose"
    ):
        list(_parts(node, NAME))
    request = _permit(node, series, "export")
    assert list(_parts(node, NAME))[-1].end.records == 3
    (done,) = node.audit("export.done")
    assert done["detail"]["permissions"] == [request]  # type: ignore[index]
    with pytest.raises(PolicyRefused, match=f"--permission upload --to {INTERPOL} --p"):
        list(_parts(node, NAME, recipient=INTERPOL))  # another use
    with pytest.raises(PolicyRefused):  # another purpose
        list(_parts(node, NAME, purpose="deconfliction"))
    deposit = _permit(node, series, "upload", INTERPOL)
    assert list(_parts(node, NAME, recipient=INTERPOL))[-1].end.records == 3
    (_, dropped) = node.audit("export.done")
    assert dropped["detail"]["permissions"] == [deposit]  # type: ignore[index]
    bench.now += timedelta(days=40)  # a permission ends with its date
    with pytest.raises(PolicyRefused):
        list(_parts(node, NAME))


def test_anothers_restricted_series_is_exported_once_its_owner_permits_it(bench: Bench) -> None:
    here, there = bench[PT], bench[ES]
    terms = series_pb2.Handling(code=2)
    (series,) = here.load(records(range(3)), series=NAME, handling=terms).series
    here.refer(series, agency=ES)
    bench.flow()
    with pytest.raises(PolicyRefused, match="--permission export"):
        list(_parts(there, series))
    _permit(there, series, "export")
    assert list(_parts(there, series))[-1].end.records == 3
    Retracting(here.node).retract(
        ANA, pb.RetractSeriesRequest(series=series, kind="withdraw", reason="x", limited=False)
    )
    bench.flow()
    with pytest.raises(TielineError):  # with the series, the permission ends
        list(_parts(there, series))


def test_an_owners_permission_opens_nothing_of_another_provider(bench: Bench) -> None:
    """What another agency brought to the series under H2 stays, whatever the owner permits."""
    node = bench[PT]
    series = node.series(records(range(3)), NAME)
    strict = series_pb2.Handling(code=2)
    node.load(records(range(5, 7)), series=NAME, handling=strict, case_ref="other")
    _permit(node, series, "export")
    assert list(_parts(node, NAME))[-1].end.records == 5
    with closing(sqlite3.connect(node.path)) as database:  # ES provided it
        database.execute(f"UPDATE imports SET agency = '{ES}' WHERE case_ref = 'other'")
        database.commit()
    parts = list(_parts(node, NAME))
    assert (parts[0].series.records, parts[0].series.withheld) == (3, 2)


def test_items_that_a_stricter_import_alone_holds_are_kept_back(bench: Bench) -> None:
    node = bench[PT]
    node.series(records(range(4)), NAME)
    strict = series_pb2.Handling(code=2)
    node.load(records(range(2, 7)), series=NAME, handling=strict, case_ref="other")
    series = node.store.read(lambda tx: tx.series.by_name(NAME))
    assert series is not None
    assert series.handling.code == 0
    parts = list(_parts(node, NAME))
    assert (parts[0].series.records, parts[0].series.withheld) == (4, 3)
    assert "H2 or H3" in parts[0].series.reason
    assert sum(len(part.records.records) for part in parts) == 4
    assert parts[-1].end.withheld == 3
    assert node.audit("export.done")[0]["detail"]["withheld"] == 3  # type: ignore[index]


def test_another_agencys_series_keeps_its_owners_restrictions(bench: Bench) -> None:
    here, there = bench[PT], bench[ES]
    series = here.series(records(range(3)), NAME)
    here.refer(series, agency=ES)
    strict = series_pb2.Handling(tlp=4)
    here.load(records(range(10, 13)), series="Verde", handling=strict)
    here.refer("Verde", agency=ES)
    bench.flow()
    assert sum(len(part.records.records) for part in _parts(there, series)) == 3
    verde = next(
        entry.referral.series for entry in there.inbox() if entry.referral.series != series
    )
    with pytest.raises(PolicyRefused, match="another agency's restricted data"):
        list(_parts(there, verde))


def test_a_file_for_a_repository_is_a_deposit_and_tells_no_name(bench: Bench) -> None:
    here = bench[PT]
    series = here.series(records(range(3)), NAME)
    parts = list(_parts(here, NAME, recipient=INTERPOL))
    view = parts[0].series.series
    assert (view.notice.id, view.notice.name, view.case_ref) == (series, "", CASE)
    assert {one.series for part in parts for one in part.records.records} == {series}
    (done,) = here.audit("export.done")
    assert done["peer"] == INTERPOL
    assert done["rules"] == ["deposit-in-repository", "export-to-own-systems"]
    with pytest.raises(InvalidInput, match="no repository"):
        list(_parts(here, NAME, recipient=ES))
    with pytest.raises(PolicyRefused):  # a deposit is for finding victims, and for nothing else
        list(_parts(here, NAME, recipient=INTERPOL, purpose="data-quality"))
    Retracting(here.node).retract(
        ANA,
        pb.RetractSeriesRequest(series=series, kind="narrow", reason="x", limited=True, only=[ES]),
    )
    with pytest.raises(PolicyRefused, match="narrowed"):
        list(_parts(here, NAME, recipient=INTERPOL))


def test_anothers_series_is_not_dropped_for_a_repository(bench: Bench) -> None:
    """Its own systems may have what came in a referral; a third party's database may not."""
    here, there = bench[PT], bench[ES]
    series = here.series(records(range(3)), NAME)
    here.refer(series, agency=ES)
    bench.flow()
    assert list(_parts(there, series))
    with pytest.raises(PolicyRefused, match="authorisation"):
        list(_parts(there, series, recipient=INTERPOL))


def test_a_withdrawn_series_does_not_leave(bench: Bench) -> None:
    node = bench[PT]
    series = node.series(records(range(3)), NAME)
    stream = Export(node.node, ANA, _request(NAME)).run()
    next(stream)
    Retracting(node.node).retract(
        ANA, pb.RetractSeriesRequest(series=series, kind="withdraw", reason="asked", limited=False)
    )
    with pytest.raises(WrongState):
        list(stream)
    assert not node.audit("export.done")
    with pytest.raises(WrongState, match="withdrawn"):
        list(_parts(node, series))


@pytest.mark.parametrize(
    ("fields", "series", "error"),
    [
        ({"format": "xml"}, (NAME,), InvalidInput),
        ({"purpose": "no-such-code"}, (NAME,), TielineError),
        ({"case_ref": " "}, (NAME,), InvalidInput),
        ({}, ("nobody",), NotFound),
        ({}, (), InvalidInput),
        ({}, (NAME, "nobody"), NotFound),
    ],
)
def test_wrong_questions_are_refused_and_nothing_begins(
    bench: Bench, fields: dict[str, str], series: tuple[str, ...], error: type[TielineError]
) -> None:
    node = bench[PT]
    node.series(records(range(3)), NAME)
    with pytest.raises(error):
        list(_parts(node, *series, **fields))
    assert not node.audit("export.begun")


def test_pages_follow_one_another_without_a_gap(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = bench[PT]
    node.series(records(range(25)), NAME)
    monkeypatch.setattr(limits, "RECORDS_PER_IMPORT_BATCH", 10)
    parts = list(_parts(node, NAME))
    sent = [one for part in parts for one in part.records.records]
    assert [len(part.records.records) for part in parts[1:-1]] == [10, 10, 5]
    assert [one.number for one in sent] == list(range(1, 26))
    assert {one.sha1 for one in sent} == {one.sha1 for one in records(range(25))}
