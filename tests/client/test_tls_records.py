"""Only whole TLS records pass a relay, however the bytes come in."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client import limits
from tieline_client.errors import MalformedMessage
from tieline_client.tls_records import RecordSplitter, fault


def record(body: bytes, kind: int = 23, version: bytes = b"\x03\x03") -> bytes:
    return bytes([kind]) + version + len(body).to_bytes(2) + body


@given(
    bodies=st.lists(st.integers(1, 16_640), max_size=12),
    cuts=st.lists(st.integers(1, 70_000), min_size=1, max_size=6),
)
def test_frames_are_whole_records_and_together_what_came(
    bodies: list[int], cuts: list[int]
) -> None:
    data = b"".join(record(os.urandom(length)) for length in bodies)
    splitter, frames, at, turn = RecordSplitter(), list[bytes](), 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        frames += splitter.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert b"".join(frames) == data
    for frame in frames:
        assert frame
        assert fault(frame) is None
        assert len(frame) <= limits.RELAY_FRAME_BYTES


def test_the_end_of_a_record_that_did_not_come_is_held_back() -> None:
    splitter = RecordSplitter()
    whole = record(b"abc", 22, b"\x03\x01")
    assert list(splitter.feed(whole + whole[:4])) == [whole]
    assert list(splitter.feed(b"")) == []
    assert list(splitter.feed(whole[4:])) == [whole]


WRONG = {
    "a picture": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "another type": record(b"x", 24),
    "another version": record(b"x", 23, b"\x03\x04"),
    "an empty record": record(b""),
    "too long": b"\x17\x03\x03" + (2**14 + 257).to_bytes(2) + bytes(2**14 + 257),
    "text": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_record_is_refused_at_once_and_after_one(name: str) -> None:
    for before in (b"", record(b"fine")):
        assert fault(before + WRONG[name]) == "is no TLS record"
        with pytest.raises(MalformedMessage):
            list(RecordSplitter().feed(before + WRONG[name]))


def test_a_cut_record_is_no_whole_frame() -> None:
    whole = record(b"abc")
    assert fault(whole) is None
    assert fault(b"") is None
    for end in range(1, len(whole)):
        assert fault(whole[:end]) == "ends within a TLS record"
