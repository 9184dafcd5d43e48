"""What is written for other systems: read back it is the same, but for what the account says."""

from __future__ import annotations

import copy
import csv
import io
import json
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tieline_client.errors import InvalidInput
from tieline_client.formats import FileFormat, Record, Rejected, Vote, open_records
from tieline_client.formats.block_reading import open_blocks
from tieline_client.formats.outgoing import BELONGING, DESCRIBING, SeriesFacts, Writer
from tieline_client.formats.outgoing_case import CaseWriter
from tieline_client.formats.outgoing_tables import IcseWriter, OwnCsvWriter
from tieline_client.formats.outgoing_vics import VicsWriter
from tieline_client.formats.tabular import cell_in, cell_out
from tieline_client.limits import CODE_CHARS, VOTES_PER_RECORD
from tieline_client.screening import belongs

from tests.formats.edmx import Schema

SHARED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None
)
FACTS = SeriesFacts(
    id="pt-pj/01920000-0000-7000-8000-000000000001",
    name="Azul",
    case_ref="2026-118",
    organisation="pt-pj",
    contact_name="desk",
    properties=(("Tieline.Status", "new"), ("Tieline.TLP", "TLP:AMBER")),
)
VICS = Schema()

_text = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)
_tricky = st.sampled_from(
    ["=1+1", "+x", "-2", "@SUM(A1)", "'", "'=x", "''=", "a;b", 'say "x"', "<script>", "ü", "{", ","]
)
_words = _text | _tricky
_flags = st.none() | st.booleans()
_votes = st.lists(
    st.builds(
        Vote,
        st.sampled_from(["vics-us", "vics-uk", "vics-custom", "icse", "tieline"]),
        st.sampled_from(["0", "1", "2", "5", "255", "A1", "B2", "256"]),
    ),
    max_size=3,
    unique=True,
).map(tuple)


_times = st.datetimes(datetime(1971, 1, 1), timezones=st.just(UTC)).map(
    lambda at: at.replace(fold=0)
)


def _optional(width: int) -> st.SearchStrategy[bytes | None]:
    return st.none() | st.binary(min_size=width, max_size=width)


@st.composite
def records_of_all_kinds(draw: st.DrawFn) -> list[Record]:
    record = st.builds(
        Record,
        number=st.just(0),
        md5=_optional(16),
        sha1=_optional(20),
        sha256=_optional(32),
        pdq=_optional(32),
        photodna=_optional(144),
        size=st.none() | st.integers(0, 2**63 - 1),
        media_type=st.none() | _words,
        votes=_votes,
        series=_words,
        references=st.just(()) | _text.map(lambda image: (("icse", image),)),
        victim_identified=_flags,
        offender_identified=_flags,
        distributed=_flags,
        submissions=st.none() | st.integers(0, 10**9),
        baseline=_flags,
        updated=st.none() | _times,
    )
    sound = record.filter(lambda one: one.md5 or one.sha1 or one.sha256 or one.pdq)
    made = draw(st.lists(sound, max_size=6))
    for number, one in enumerate(made, 1):
        one.number = number
        one.pdq_quality = draw(st.none() | st.integers(0, 100)) if one.pdq else None
    return made


Make = Callable[[io.BytesIO], Writer]
MAKERS: dict[str, tuple[FileFormat, Make]] = {
    "vics-us": (FileFormat.VICS, lambda stream: VicsWriter(stream, "us")),
    "vics-uk": (FileFormat.VICS, lambda stream: VicsWriter(stream, "uk")),
    "vics-custom": (FileFormat.VICS, lambda stream: VicsWriter(stream, "custom")),
    "icse": (FileFormat.ICSE, IcseWriter),
    "csv": (FileFormat.CSV, OwnCsvWriter),
    "case": (FileFormat.CASE, CaseWriter),
}
EVERY_ITEM = ("csv", "case")
"""Formats that hold an item by any of its digests."""


def _write(make: Make, records: Sequence[Record]) -> tuple[bytes, Writer]:
    stream = io.BytesIO()
    writer = make(stream)
    for name, of_series in groupby(records, lambda one: one.series):
        id_ = f"pt-pj/{uuid.uuid5(uuid.NAMESPACE_OID, name or '')}"
        writer.series(replace(FACTS, id=id_, name=name or ""))
        for one in of_series:
            writer.add(copy.copy(one))
    writer.finish()
    return stream.getvalue(), writer


def _by_blocks(path: Path, file_format: FileFormat) -> list[Record]:
    return [
        one
        for block in open_blocks(path, file_format)
        for one in (*(block.columns.records() if block.columns else ()), *block.records)
    ]


def _without_place(record: Record) -> Record:
    """A record without what is the reader's own to say."""
    return replace(record, number=0, entire=False, notes=(), updated=None)


def _difference(before: Record, after: Record) -> Counter[str]:
    """Name what one record states and the other does not, as the account of losses does."""
    lost: Counter[str] = Counter(
        name for name in DESCRIBING if getattr(before, name) != getattr(after, name)
    )
    for vote in before.votes:
        if vote not in after.votes:
            lost[f"category {vote.scheme}"] += 1
    return lost


@pytest.mark.parametrize("name", MAKERS)
@SHARED
@given(records=records_of_all_kinds())
def test_what_is_read_back_differs_in_what_the_account_says_and_in_nothing_else(
    tmp_path: Path, name: str, records: list[Record]
) -> None:
    file_format, make = MAKERS[name]
    content, writer = _write(make, records)
    path = tmp_path / "out"
    path.write_bytes(content)
    came = list(open_records(path, file_format))
    assert not [one for one in came if isinstance(one, Rejected)]
    held = [
        one for one in records if name in EVERY_ITEM or one.md5 or (name == "icse" and one.sha1)
    ]
    assert (writer.written, writer.skipped) == (len(held), len(records) - len(held))
    assert len(came) == len(held)
    lost: Counter[str] = Counter()
    for before, after in zip(held, came, strict=True):
        assert isinstance(after, Record)
        assert (before.md5, before.sha1, before.series) == (after.md5, after.sha1, after.series)
        assert set(after.votes) <= set(before.votes)
        assert all(getattr(after, each) in (None, (), getattr(before, each)) for each in DESCRIBING)
        lost += _difference(before, after)
    told = +writer.losses
    told.pop("series metadata", None)
    left_out = told.pop(BELONGING, 0)
    assert told == lost
    # What carries no category, and no word that it belongs, is excluded by whoever reads the file.
    assert left_out == sum(not (one.votes or one.entire) for one in _by_blocks(path, file_format))


@pytest.mark.parametrize("name", MAKERS)
@SHARED
@given(records=records_of_all_kinds())
def test_what_was_imported_is_exported_and_imported_again_the_same(
    tmp_path: Path, name: str, records: list[Record]
) -> None:
    """Import, export, import: after the first passage nothing is lost any more."""
    file_format, make = MAKERS[name]
    path = tmp_path / "out"
    path.write_bytes(_write(make, records)[0])
    first = [one for one in open_records(path, file_format) if isinstance(one, Record)]
    content, writer = _write(make, first)
    path.write_bytes(content)
    second = list(open_records(path, file_format))
    assert second == first
    assert set(writer.losses) <= {"series metadata", BELONGING}
    by_blocks = [_without_place(one) for one in _by_blocks(path, file_format)]
    key = repr
    assert sorted(by_blocks, key=key) == sorted(map(_without_place, first), key=key)


@pytest.mark.parametrize("context", ["us", "uk", "custom"])
@SHARED
@given(records=records_of_all_kinds(), name=_words)
def test_vics_is_valid_against_the_schema(context: str, records: list[Record], name: str) -> None:
    facts = replace(FACTS, contact_name=name, properties=(("Tieline.Clues", name),))
    stream = io.BytesIO()
    writer = VicsWriter(stream, context)
    for number in range(2):
        writer.series(replace(facts, id=f"pt-pj/01920000-0000-7000-8000-00000000000{number}"))
        for one in records:
            writer.add(one)
    writer.finish()
    document = json.loads(stream.getvalue())
    assert VICS.faults(document) == []
    assert len(document["value"]) == 2
    assert document["value"][0]["TotalMediaFiles"] == len(document["value"][0]["Media"])
    numbers = [one["MediaID"] for case in document["value"] for one in case["Media"]]
    assert numbers == list(range(1, writer.written + 1))
    assert f"2.0.xml/{context.upper()}/$metadata#Cases" in document["@odata.context"]


def _case(**changes: Any) -> dict[str, Any]:
    medium = {"MD5": "ab" * 16, "MediaID": 1, "IsPrecategorized": False} | changes
    case = {"CaseID": "01920000-0000-7000-8000-000000000001", "Media": [medium]}
    return {"@odata.context": "http://x/2.0.xml/US/$metadata#Cases", "value": [case]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"MD5": None}, "must be stated"),
        ({"MediaID": 2**31}, "Edm.Int32"),
        ({"MediaID": "1"}, "Edm.Int32"),
        ({"Category": 256}, "Edm.Byte"),
        ({"Category": True}, "Edm.Byte"),
        ({"MediaSize": 2**63}, "Edm.Int64"),
        ({"IsDistributed": "true"}, "Edm.Boolean"),
        ({"DateUpdated": "2020-01-02"}, "Edm.DateTimeOffset"),
        ({"DateUpdated": "2020-13-02T00:00:00Z"}, "Edm.DateTimeOffset"),
        ({"PDQ": "ff"}, "no such property"),
        ({"AlternativeHashes": [{"MD5": "ab" * 16}]}, "HashName: must be stated"),
        ({"AlternativeHashes": {}}, "not a list"),
    ],
)
def test_the_validator_finds_what_is_wrong(changes: dict[str, Any], said: str) -> None:
    assert VICS.faults(_case()) == []
    (fault,) = VICS.faults(_case(**changes))
    assert said in fault


def test_the_validator_wants_a_guid_and_an_entity_set() -> None:
    document = _case()
    document["value"][0]["CaseID"] = "2026-118"
    assert "Edm.Guid" in VICS.faults(document)[0]
    assert VICS.faults(_case() | {"@odata.context": "x#Series"})


def test_an_unknown_context_is_refused() -> None:
    with pytest.raises(InvalidInput, match="us, uk or custom"):
        VicsWriter(io.BytesIO(), "fr")


@given(text=st.text(max_size=12) | _tricky)
def test_a_cell_comes_back_and_is_never_a_formula(text: str) -> None:
    cell = cell_out(text)
    assert cell_in(cell) == text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize("make", [IcseWriter, OwnCsvWriter])
def test_no_cell_of_a_file_is_a_formula(make: Make) -> None:
    evil = '=HYPERLINK("http://x")'
    record = Record(1, md5=bytes(16), series=evil, media_type="@x", references=(("icse", "+1"),))
    record.votes = (Vote("=x", "1"),)
    content, _ = _write(make, [record])
    rows = list(csv.reader(io.StringIO(content.decode()), delimiter=";"))
    assert f"'{evil}" in rows[1]
    assert not [cell for cell in rows[1] if cell.startswith(("=", "+", "-", "@"))]


@pytest.mark.parametrize(("name", "lost"), [("vics-us", 2), ("icse", 0), ("csv", 0), ("case", 0)])
def test_items_without_any_category_belong_where_the_format_can_say_so(
    tmp_path: Path, name: str, lost: int
) -> None:
    file_format, make = MAKERS[name]
    content, writer = _write(make, [Record(n, md5=bytes([n] * 16)) for n in (1, 2)])
    assert writer.losses[BELONGING] == lost
    path = tmp_path / "out"
    path.write_bytes(content)
    came = _by_blocks(path, file_format)
    assert [belongs(one, frozenset(), None) for one in came] == [not lost] * 2


def test_a_category_that_a_format_cannot_hold_leaves_the_item_out(tmp_path: Path) -> None:
    one = Record(1, md5=bytes([1] * 16), votes=(Vote("odd", "a:b"),))
    for name in ("vics-us", "case"):
        _, writer = _write(MAKERS[name][1], [one])
        assert (writer.losses["category odd"], writer.losses[BELONGING]) == (1, 1)


def test_a_time_with_an_offset_stays_the_same_moment(tmp_path: Path) -> None:
    at = datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5)))
    content, _ = _write(MAKERS["vics-us"][1], [Record(1, md5=bytes(16), updated=at)])
    path = tmp_path / "out"
    path.write_bytes(content)
    (came,) = open_records(path)
    assert isinstance(came, Record)
    assert came.updated == at


@pytest.mark.parametrize("name", EVERY_ITEM)
def test_as_many_and_as_long_categories_as_a_record_takes_are_read_back(
    tmp_path: Path, name: str
) -> None:
    file_format, make = MAKERS[name]
    votes = tuple(
        Vote(f"{number:02}".ljust(CODE_CHARS, "s"), "c" * CODE_CHARS)
        for number in range(VOTES_PER_RECORD)
    )
    content, writer = _write(make, [Record(1, md5=b"m" * 16, votes=votes, series="Azul")])
    path = tmp_path / "file"
    path.write_bytes(content)
    (found,) = open_records(path, file_format)
    assert isinstance(found, Record), found
    assert found.votes == votes
    assert not any(loss.startswith("category") for loss in writer.losses)


@pytest.mark.parametrize("name", EVERY_ITEM)
@pytest.mark.parametrize("code", ["01", "a b", "a,b", " x", "'", "=1"])
def test_a_category_that_would_come_back_as_another_is_counted_as_lost(
    tmp_path: Path, name: str, code: str
) -> None:
    """``--category vics-us:01`` is a code of its own; a reader takes 01 for 1."""
    file_format, make = MAKERS[name]
    vote = Vote("vics-us", code)
    content, writer = _write(make, [Record(1, md5=b"m" * 16, votes=(vote, Vote("x", "1")))])
    path = tmp_path / "file"
    path.write_bytes(content)
    (found,) = open_records(path, file_format)
    assert isinstance(found, Record), found
    lost = writer.losses["category vics-us"]
    assert found.votes == ((Vote("x", "1"),) if lost else (vote, Vote("x", "1")))
