"""What the writers write, the readers read back."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tieline_client.errors import InvalidInput
from tieline_client.formats import FileFormat, Record, Rejected, Vote
from tieline_client.formats.write import MediaLike, write_csv, write_icse, write_vics

Many = Callable[..., list[Record | Rejected]]
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)

_printable = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40)


def _optional(width: int) -> st.SearchStrategy[bytes | None]:
    return st.none() | st.binary(min_size=width, max_size=width)


def _records(scheme: str) -> st.SearchStrategy[list[Record]]:
    record = st.builds(
        Record,
        number=st.just(0),
        md5=st.binary(min_size=16, max_size=16),
        sha1=_optional(20),
        sha256=_optional(32),
        pdq=_optional(32),
        votes=st.just(()) | st.integers(0, 255).map(lambda code: (Vote(scheme, str(code)),)),
        series=st.none() | _printable,
        media_type=st.none() | _printable,
    )
    return st.lists(record, max_size=8).map(_numbered)


def _numbered(records: list[Record]) -> list[Record]:
    for number, record in enumerate(records, 1):
        record.number = number
    return records


@pytest.mark.parametrize("version", ["1.1", "1.2", "1.3", "2.0"])
@pytest.mark.parametrize("shape", ["media", "cases"])
@SHARED
@given(data=st.data(), extra=st.binary(min_size=144, max_size=144), size=st.integers(0, 2**63 - 1))
def test_vics(
    read: Many,
    version: str,
    shape: Literal["media", "cases"],
    data: st.DataObject,
    extra: bytes,
    size: int,
) -> None:
    records = data.draw(_records("vics-uk" if version == "2.0" else "vics"))
    for record in records[:1]:
        record.photodna, record.size, record.distributed = extra, size, True
        record.updated = datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    stream = io.BytesIO()
    assert write_vics(stream, records, version, "UK", shape) == len(records)
    assert read(stream.getvalue()) == records


@SHARED
@given(records=_records("vics-us"), quality=st.integers(0, 100))
def test_csv(read: Many, records: list[Record], quality: int) -> None:
    entire = not any(record.votes for record in records)
    for record in records:
        record.entire = entire
        record.pdq_quality = quality if record.pdq is not None else None
    stream = io.BytesIO()
    assert write_csv(stream, records) == len(records)
    assert read(stream.getvalue(), FileFormat.CSV) == records


@SHARED
@given(records=_records("x"), submissions=st.integers(0, 10**9), image=_printable)
def test_icse(read: Many, records: list[Record], submissions: int, image: str) -> None:
    for record in records:
        record.entire, record.submissions, record.baseline = True, submissions, False
        record.references = (("icse", image),)
        record.photodna = bytes(144)
        record.sha256 = record.pdq = None
        record.votes = ()
    stream = io.BytesIO()
    assert write_icse(stream, records) == len(records)
    assert read(stream.getvalue(), FileFormat.ICSE) == records


def test_vics_of_fields_as_they_are(read: Many) -> None:
    stream = io.BytesIO()
    media: list[MediaLike] = [{"MD5": "ab" * 16, "MediaID": 1, "Category": "2"}, {"MD5": "wrong"}]
    write_vics(stream, media, country=None)
    good, bad = read(stream.getvalue())
    assert isinstance(good, Record)
    assert good.votes == (Vote("vics", "2"),)
    assert isinstance(bad, Rejected)


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"2\.0"):
        write_vics(io.BytesIO(), [], version="3.0")
