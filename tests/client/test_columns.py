"""Records in columns say what the records said, on the wire and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline.v1 import operator_pb2 as pb
from tieline_client import constraints
from tieline_client.columns import columnar, merge, of_records
from tieline_client.columns_wire import from_wire, to_wire
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidDigest, MalformedMessage, TielineError
from tieline_client.formats.record import Record, Vote

_FLAG = st.sampled_from([None, True, False])
_WORD = st.sampled_from(["a", "Series é", "x" * 64])
_VOTES = st.lists(st.builds(Vote, _WORD, _WORD), max_size=3).map(tuple)


def _digest(width: int) -> st.SearchStrategy[bytes | None]:
    return st.none() | st.binary(min_size=width, max_size=width)


_FACTS = st.builds(
    Record,
    number=st.just(0),
    md5=_digest(16),
    sha1=_digest(20),
    sha256=_digest(32),
    pdq=_digest(32),
    pdq_quality=st.none() | st.integers(0, 100),
    size=st.none() | st.integers(0, 2**63 - 1),
    media_type=st.none() | _WORD,
    votes=_VOTES,
    series=st.none() | _WORD,
    victim_identified=_FLAG,
    offender_identified=_FLAG,
    distributed=_FLAG,
    baseline=_FLAG,
)


@st.composite
def _files(draw: st.DrawFn) -> list[Record]:
    facts = draw(st.lists(_FACTS, min_size=1, max_size=20))
    numbers = draw(
        st.just(range(1, len(facts) + 1))
        | st.sets(st.integers(1, 2**62), min_size=len(facts), max_size=len(facts)).map(sorted)
    )
    entire = draw(st.booleans())
    return [
        replace(one, number=number, entire=entire)
        for one, number in zip(facts, numbers, strict=True)
    ]


@given(_files())
def test_records_come_back_from_columns_and_from_the_wire(records: list[Record]) -> None:
    assert all(map(columnar, records))
    columns = of_records(records)
    assert len(columns) == len(records)
    assert columns.records() == records
    assert columns.identified().tolist() == [
        any((one.md5, one.sha1, one.sha256, one.pdq)) for one in records
    ]
    message = to_wire(columns)
    constraints.check(message)
    came = from_wire(pb.RecordColumns.FromString(message.SerializeToString()))
    assert came.records() == records
    for kind, column in came.digests.items():
        assert not column.rows[~column.present].any(), kind


@given(_files(), st.data())
def test_any_of_them_can_be_taken(records: list[Record], data: st.DataObject) -> None:
    columns = of_records(records)
    mask = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(records), max_size=len(records)))
    )
    wanted = [one for one, want in zip(records, mask, strict=True) if want]
    taken = columns.take(mask)
    assert taken.records() == wanted
    assert columns.records(np.flatnonzero(mask)) == wanted
    assert columns.take(slice(0, 3)).records() == records[:3]
    assert columns.record(len(records) - 1) == records[-1]
    # What none of them says is not carried along.
    assert set(taken.vote_sets) == {one.votes for one in wanted if one.votes}
    assert set(taken.series_names) == {one.series for one in wanted if one.series}
    assert set(taken.digests) == {
        kind for kind in DigestKind if any(getattr(one, kind.label) for one in wanted)
    }


@given(_files(), st.data())
def test_parts_are_merged_by_number(records: list[Record], data: st.DataObject) -> None:
    owners = data.draw(st.lists(st.integers(0, 2), min_size=len(records), max_size=len(records)))
    parts = [
        of_records([one for one, owner in zip(records, owners, strict=True) if owner == part])
        for part in set(owners)
    ]
    assert merge(parts).records() == records


@pytest.mark.parametrize(
    "record",
    [
        Record(1, photodna=bytes(144)),
        Record(1, references=(("icse", "1"),)),
        Record(1, submissions=0),
        Record(1, deleted=True),
        Record(1, size=2**63),
        Record(1, pdq_quality=101),
    ],
)
def test_what_has_no_column_is_told_apart(record: Record) -> None:
    assert not columnar(record)


def test_a_digest_of_another_width_is_refused() -> None:
    with pytest.raises(InvalidDigest, match="16 bytes"):
        of_records([Record(1, md5=bytes(15)), Record(2, md5=bytes(17))])


# --- messages that lie ---------------------------------------------------------------------------


def _message(**fields: object) -> pb.RecordColumns:
    return pb.RecordColumns(**({"count": 3, "first_number": 1} | fields))  # type: ignore[arg-type]


def _digests(kind: int, present: bytes, digests: bytes) -> pb.PackedColumn:
    return pb.PackedColumn(kind=kind, present=present, digests=digests)  # type: ignore[arg-type]


_VOTE = pb.VoteSet(schemes=["a"], codes=["1"])


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        (_message(count=0), MalformedMessage, "0 records"),
        (_message(count=10_001), MalformedMessage, "10001 records"),
        (_message(first_number=2**63 - 3), MalformedMessage, "no file"),
        (_message(numbers=[1, 2]), MalformedMessage, "2 values of numbers"),
        (_message(numbers=[1, 3, 3]), MalformedMessage, "ascend"),
        (_message(numbers=[1, 3, 2**63]), MalformedMessage, "ascend"),
        (_message(digests=[_digests(9, b"", b"")]), InvalidDigest, "no kind"),
        (_message(digests=[_digests(0, b"", b"")]), InvalidDigest, "no kind"),
        (_message(digests=[_digests(1, b"", bytes(47))]), InvalidDigest, "3 md5 digests"),
        (_message(digests=[_digests(1, b"\x05", bytes(48))]), InvalidDigest, "2 md5 digests"),
        (_message(digests=[_digests(1, b"\x0f", bytes(64))]), MalformedMessage, "bitmap"),
        (_message(digests=[_digests(1, b"\x05\x00", bytes(32))]), MalformedMessage, "bitmap"),
        (
            _message(digests=[_digests(2, b"", bytes(60)), _digests(1, b"", bytes(48))]),
            MalformedMessage,
            "kinds",
        ),
        (
            _message(digests=[_digests(1, b"", bytes(48)), _digests(1, b"", bytes(48))]),
            MalformedMessage,
            "kinds",
        ),
        (_message(pdq_quality=bytes(2)), MalformedMessage, "2 values of pdq_quality"),
        (_message(pdq_quality=b"\x01\x65\xff"), MalformedMessage, "0 to 100"),
        (_message(sizes=[1]), MalformedMessage, "1 values of sizes"),
        (_message(sizes=[0, 1, 2**63 + 1]), MalformedMessage, "below 2"),
        (_message(media_type=[1, 0, 0]), MalformedMessage, "media_type points"),
        (_message(media_type=[0] * 4), MalformedMessage, "4 values of media_type"),
        (_message(votes=[2, 0, 0], vote_sets=[_VOTE]), MalformedMessage, "votes points"),
        (_message(vote_sets=[pb.VoteSet(schemes=["a"])]), MalformedMessage, "scheme and a code"),
        (_message(vote_sets=[pb.VoteSet()]), MalformedMessage, "scheme and a code"),
        (_message(series=[0, 0, 1]), MalformedMessage, "series points"),
        (_message(flags=bytes(4)), MalformedMessage, "4 values of flags"),
        (_message(flags=b"\x00\x00\xc0"), MalformedMessage, "a flag"),
    ],
)
def test_a_message_whose_parts_do_not_fit_is_refused(
    message: pb.RecordColumns, error: type[TielineError], words: str
) -> None:
    with pytest.raises(error, match=words):
        from_wire(message)


def test_what_is_left_out_is_not_stated() -> None:
    columns = from_wire(_message(first_number=7))
    assert columns.records() == [Record(7), Record(8), Record(9)]


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_else(data: bytes) -> None:
    try:
        message = pb.RecordColumns.FromString(data)
    except Exception:  # noqa: BLE001  protobuf's own
        return
    try:
        constraints.check(message)
        from_wire(message)
    except (MalformedMessage, InvalidDigest):
        pass


def test_a_full_batch_fits_into_a_message() -> None:
    record = Record(
        0,
        md5=bytes(16),
        sha1=bytes(20),
        sha256=bytes(32),
        pdq=bytes(32),
        pdq_quality=50,
        size=2**40,
        baseline=True,
        series="one",
        votes=(Vote("vics-us", "1"),),
        media_type="image/jpeg",
    )
    message = to_wire(of_records([replace(record, number=n) for n in range(2, 20_002, 2)]))
    constraints.check(message)
    assert message.ByteSize() < 1.5 * 2**20
