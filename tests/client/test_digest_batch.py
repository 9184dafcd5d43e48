"""Batches as bytes: the same as protobuf's, and whatever else comes is left to protobuf."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline.v1 import digests_pb2, exchange_pb2, operator_pb2
from tieline_client import constraints, limits
from tieline_client.digest_batch import DigestBatch, open_batch
from tieline_client.digests import DigestKind, pack
from tieline_client.errors import InvalidDigest, MalformedMessage

KINDS = st.sampled_from(DigestKind)


@st.composite
def lists(draw: st.DrawFn) -> tuple[DigestKind, bytes]:
    """A kind, and up to 400 digests of it: lengths of one, two and three bytes on the wire."""
    kind = draw(KINDS)
    width = st.binary(min_size=kind.width, max_size=kind.width)
    few = draw(st.lists(width, min_size=1, max_size=12))
    filler = [number.to_bytes(kind.width) for number in range(draw(st.sampled_from((0, 9, 400))))]
    return kind, pack(kind, [*few, *filler])


def _protobuf(kind: DigestKind, packed: bytes) -> bytes:
    batch = digests_pb2.DigestList(kind=int(kind), digests=packed)  # type: ignore[arg-type]
    return exchange_pb2.OverlapRequest(batch=batch).SerializeToString()


@given(lists())
def test_a_batch_is_what_protobuf_makes_in_both_requests(drawn: tuple[DigestKind, bytes]) -> None:
    kind, packed = drawn
    made = DigestBatch.of(kind, packed)
    assert made.message == _protobuf(kind, packed)
    assert operator_pb2.AskOverlapRequest.FromString(made.message).batch == made.to_wire()
    came = open_batch(made.message)
    assert came is not None
    assert (came.kind, bytes(came.digests), len(came)) == (kind, packed, len(packed) // kind.width)
    assert (came.first, came.last) == (packed[: kind.width], packed[-kind.width :])
    assert came.rows.tobytes() == packed
    assert came.message is made.message
    assert DigestBatch.from_wire(made.to_wire()).message == made.message


@given(lists(), st.data())
def test_what_is_opened_keeps_every_rule(
    drawn: tuple[DigestKind, bytes], data: st.DataObject
) -> None:
    """Change, cut or add bytes: what `open_batch` still takes, protobuf and the caps take too, and
    they read the same."""
    message = bytearray(DigestBatch.of(*drawn).message)
    at = data.draw(st.integers(0, min(len(message) - 1, 30)))
    changed = data.draw(st.binary(max_size=3))
    message[at : at + data.draw(st.integers(0, 3))] = changed
    came = open_batch(bytes(message))
    if came is not None:
        parsed = constraints.open_nested(bytes(message), exchange_pb2.OverlapRequest)
        assert parsed.batch == came.to_wire()
        assert parsed.SerializeToString() == bytes(message)


_A, _B = sorted((b"\x01" * 20, b"\x02" * 20))
REFUSED = {
    "out of order": _protobuf(DigestKind.SHA1, _B + _A),
    "a digest twice": _protobuf(DigestKind.SHA1, _A + _A),
    "a part of a digest": _protobuf(DigestKind.SHA1, _A + _B[:19]),
    "of another kind": _protobuf(DigestKind.SHA256, _A + _B),
    "too many": DigestBatch.of(
        DigestKind.MD5,
        b"".join(number.to_bytes(16) for number in range(limits.DIGESTS_PER_BATCH_MAX + 1)),
    ).message,
    "a kind that is none": _protobuf(DigestKind.SHA1, _A).replace(b"\x08\x02", b"\x08\x09"),
    "fields that nobody knows": _protobuf(DigestKind.SHA1, _A) + b"\x7a\xff\x10" + bytes(2_175),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_breaks_a_rule_is_not_opened_and_is_refused_by_its_name(case: str) -> None:
    assert open_batch(REFUSED[case]) is None
    with pytest.raises((InvalidDigest, MalformedMessage)):
        constraints.open_nested(REFUSED[case], exchange_pb2.OverlapRequest)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x12",
        b"\x12\x00",
        b"\x12\x02\x08\x02",
        exchange_pb2.OverlapRequest().SerializeToString(),
        _protobuf(DigestKind.SHA1, b""),
        b"\x12\x98\x00" + _protobuf(DigestKind.SHA1, _A)[2:],  # a length written longer than needed
        _protobuf(DigestKind.SHA1, _A) * 2,
    ],
)
def test_what_is_no_batch_or_another_way_to_write_one_is_left_to_protobuf(data: bytes) -> None:
    assert open_batch(data) is None
