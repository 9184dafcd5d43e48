"""A file's records on their way: in columns or one by one, they are the same records."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tieline.v1 import operator_pb2 as pb
from tieline_client import constraints, limits
from tieline_client.columns_wire import from_wire
from tieline_client.errors import InvalidInput
from tieline_client.formats import Record, Rejected, Vote
from tieline_client.formats.blocks import blocks_of
from tieline_client.record_stream import NothingUsable, RecordStream, to_wire

_TEXT = st.sampled_from(
    ["Azul", "Série", "nb\N{NO-BREAK SPACE}sp", "\x1b[1m", "x" * 200, "x" * 199 + "\x00", "\ud800"]
)
_DIGEST = st.none() | st.binary(min_size=16, max_size=16)
_VOTES = st.lists(
    st.builds(Vote, st.sampled_from(["a", "b\x07", "y" * 64]), st.sampled_from(["1", "z" * 65])),
    max_size=18,
).map(tuple)
_FACTS = st.builds(
    Record,
    number=st.just(0),
    md5=_DIGEST,
    photodna=st.none() | st.just(bytes(144)),
    size=st.none() | st.integers(0, 2**63 - 1),
    media_type=st.none() | _TEXT,
    votes=_VOTES,
    series=st.none() | _TEXT,
    references=st.just(()) | st.just((("icse", "1"),)) | st.just((("icse", "2\n"),)),
    submissions=st.none() | st.just(3),
    deleted=st.booleans(),
    entire=st.booleans(),
    notes=st.just(()) | st.just(("odd", "strange")),
)
_FILES = st.lists(_FACTS | st.just(Rejected(0, "bad")), min_size=1, max_size=20).map(
    lambda read: [
        each._replace(record=number) if isinstance(each, Rejected) else replace(each, number=number)
        for number, each in enumerate(read, 1)
    ]
)


def _arrived(messages: list[pb.ImportRequest]) -> list[bytes]:
    """What came over, as record by record messages in the order of the file."""
    items: list[pb.ItemRecord] = []
    for message in messages:
        constraints.check(message)
        assert message.ByteSize() < limits.MESSAGE_BYTES
        if message.HasField("columns"):
            items += map(to_wire, from_wire(message.columns).records())
        else:
            items += message.records.records
    return [one.SerializeToString() for one in sorted(items, key=lambda one: one.number)]


def _expected(read: list[Record | Rejected]) -> tuple[list[bytes], list[Rejected], list[int]]:
    """What goes out record by record, what is rejected, and which records have notes."""
    sent, rejected, noted = [], [], []
    for each in read:
        if isinstance(each, Rejected):
            rejected.append(each)
            continue
        try:
            sent.append(to_wire(each).SerializeToString())
        except InvalidInput as error:
            rejected.append(Rejected(each.number, error.message))
            continue
        if each.notes:
            noted.append(each.number)
    return sent, rejected, noted


@settings(max_examples=300)
@given(_FILES)
@example([Record(1, md5=bytes(16)), Record(2, md5=bytes(16), entire=True)])
def test_the_same_records_arrive_as_one_by_one(read: list[Record | Rejected]) -> None:
    sent, rejected, noted = _expected(read)
    stream = RecordStream("f", blocks_of(read))
    messages: list[pb.ImportRequest] = []
    try:
        messages += stream.messages()
    except NothingUsable as error:
        assert (error.count, error.rejected) == (len(rejected), rejected)
        assert not sent
    assert _arrived(messages) == sent
    assert stream.sent == len(sent)
    assert stream.rejected == rejected
    assert stream.rejected_count == len(rejected)
    assert stream.notes == [(number, "odd; strange") for number in noted]


def test_what_is_too_much_for_one_message_goes_in_several() -> None:
    wide = [
        Record(number, md5=bytes(16), series=f"{number:06}" + "é" * 194, media_type="x" * 200)
        for number in range(1, 10_001)
    ]
    messages = list(RecordStream("f", blocks_of(wide)).messages())
    assert len(messages) > 1
    assert len(_arrived(messages)) == 10_000


def test_small_blocks_share_a_message_and_full_ones_do_not_wait() -> None:
    blocks = [
        next(blocks_of([Record(first + step, md5=bytes(16)) for step in range(length)]))
        for first, length in ((1, 10), (11, 20), (40, 9_980), (10_020, 7_000), (20_000, 3))
    ]
    counts = [one.columns.count for one in RecordStream("f", blocks).messages()]
    assert counts == [30, 9_980, 7_000, 3]


def test_only_the_first_rejections_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieline_client.record_stream.REJECTED_LISTED", 3)
    read = [Rejected(number, "bad") for number in range(1, 9)]
    stream = RecordStream("f", blocks_of([*read, Record(9, md5=bytes(16))]))
    list(stream.messages())
    assert ([each.record for each in stream.rejected], stream.rejected_count) == ([1, 2, 3], 8)


def test_a_long_stretch_of_nothing_usable_is_no_silence() -> None:
    bad = [Rejected(number, "bad") for number in range(1, 30_001)]
    stream = RecordStream("f", blocks_of([*bad, Record(30_001, md5=bytes(16))]))
    messages = list(stream.messages())
    assert [one.WhichOneof("part") for one in messages] == ["records"] * 3 + ["columns"]
    assert not any(one.records.records for one in messages)
    assert (stream.sent, stream.rejected_count) == (1, 30_000)
