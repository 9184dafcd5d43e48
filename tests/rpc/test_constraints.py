"""Raw media cannot pass by accident or disguise: every field of the wire is bounded and checked."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from tieline.v1 import (
    constraints_pb2,
    delivery_pb2,
    digests_pb2,
    envelope_pb2,
    exchange_pb2,
    operator_pb2,
    payload_pb2,
    series_pb2,
)
from tieline_client import constraint_plans, digests, limits
from tieline_client.constraint_plans import field_cap
from tieline_client.constraints import check, open_nested
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidDigest, MalformedMessage

from tests.rpc.descriptors import messages, reachable, services

PICTURE = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    + hashlib.shake_128(b"not a picture").digest(1_200_000)
    + b"\xff\xd9"
)
"""The beginning and end of a JPEG around random bytes."""

SHA = hashlib.sha256(b"x").digest()


def refused(message: Any, where: str, error: type[Exception] = MalformedMessage) -> None:
    with pytest.raises(error, match=where) as caught:
        check(message)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def _said(kind: type[Any]) -> str:
    try:
        check(kind())
    except (MalformedMessage, InvalidDigest) as error:
        return str(error)
    return ""


def test_threads_that_meet_types_for_the_first_time_hold_each_to_its_own_caps() -> None:
    """A node's first calls come at once; what is made of a type is never another type's."""
    kinds = [GetMessageClass(one) for one in messages() if not one.GetOptions().map_entry]
    wanted = {kind: _said(kind) for kind in kinds}
    assert 0 < sum(map(bool, wanted.values())) < len(kinds)
    together = threading.Barrier(8)

    def meet(order: int) -> dict[type[Any], str]:
        together.wait()
        return {kind: _said(kind) for kind in kinds[order:] + kinds[:order]}

    def forget() -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith("tieline_client.constraint"):
                for made in vars(module).values():
                    getattr(made, "cache_clear", int)()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(20):
                forget()
                for found in pool.map(meet, range(0, 88, 11)):
                    assert found == wanted
    finally:
        sys.setswitchinterval(interval)


# --- the descriptors --------------------------------------------------------------------------


def _fields() -> list[FieldDescriptor]:
    return [
        field
        for message in messages()
        if not message.GetOptions().map_entry
        for field in message.fields
    ]


def test_every_field_that_can_grow_states_its_cap() -> None:
    fields = _fields()
    assert len(fields) > 300
    for field in fields:
        cap = field_cap(field)
        if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            assert cap.max_length > 0, field.full_name
        if field.is_repeated:
            assert cap.max_items > 0, field.full_name
        is_bytes = field.type == FieldDescriptor.TYPE_BYTES
        assert bool(cap.kind) == is_bytes, field.full_name
        assert field.type not in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)


def test_every_message_has_a_plan_and_an_empty_one_is_never_a_fault() -> None:
    for message in messages():
        if not message.GetOptions().map_entry:
            constraint_plans.plan_of(message)


def test_no_string_is_longer_than_free_text_and_all_prose_together_is_no_picture() -> None:
    for field in _fields():
        if field.type == FieldDescriptor.TYPE_STRING:
            assert field_cap(field).max_length <= limits.FREE_TEXT_CHARS, field.full_name
    assert limits.FREE_TEXT_PER_MESSAGE_CHARS <= 16_000


def test_what_is_for_the_operator_port_only_is_in_no_message_between_nodes() -> None:
    kinds = {
        constraints_pb2.BYTES_KIND_DIGEST,
        constraints_pb2.BYTES_KIND_AUDIT_LEAF,
        constraints_pb2.BYTES_KIND_PUBLIC_KEY,
        constraints_pb2.BYTES_KIND_PHOTODNA,
    }
    roots = [payload_pb2.Payload.DESCRIPTOR, digests_pb2.ItemChunk.DESCRIPTOR]
    for service in services():
        if service.name not in ("OperatorService", "AuditorService", "ProfileService"):
            for method in service.methods:
                roots += [method.input_type, method.output_type]
    assert len(roots) >= 10
    for root in roots:
        for message in reachable(root):
            assert not message.file.name.startswith("tieline/v1/operator"), message.full_name
            for field in message.fields:
                assert field_cap(field).kind not in kinds, field.full_name


def _made(**field: Any) -> Any:
    """The descriptor of a new message type with one field, which states no options."""
    file = FileDescriptorProto(name="new.proto", package="tieline.v1", syntax="proto3")
    message = file.message_type.add(name="New")
    message.field.append(FieldDescriptorProto(name="field", number=1, **field))
    pool = DescriptorPool()
    pool.Add(file)
    return pool.FindMessageTypeByName("tieline.v1.New")


@pytest.mark.parametrize(
    "field",
    [
        {"type": FieldDescriptorProto.TYPE_STRING, "label": FieldDescriptorProto.LABEL_OPTIONAL},
        {"type": FieldDescriptorProto.TYPE_BYTES, "label": FieldDescriptorProto.LABEL_OPTIONAL},
        {"type": FieldDescriptorProto.TYPE_UINT32, "label": FieldDescriptorProto.LABEL_REPEATED},
        {
            "type": FieldDescriptorProto.TYPE_MESSAGE,
            "type_name": ".tieline.v1.New",
            "label": FieldDescriptorProto.LABEL_REPEATED,
        },
    ],
)
def test_a_new_field_without_a_cap_cannot_be_sent(field: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="cap"):
        constraint_plans.plan_of(_made(**field))


def test_messages_of_other_packages_are_not_bounded_and_so_not_accepted() -> None:
    check(series_pb2.Assessment(made_time=Timestamp(seconds=1)))
    with pytest.raises(TypeError, match=r"not of tieline\.v1"):
        check(FileDescriptorProto())


# --- digests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(DigestKind))
@pytest.mark.parametrize("size", [1_000, 100_000, 1_200_000])
def test_a_picture_cut_into_digests_is_refused(kind: DigestKind, size: int) -> None:
    whole = PICTURE[: size // kind.width * kind.width]
    request = exchange_pb2.OverlapRequest(
        batch=digests_pb2.DigestList(kind=int(kind), digests=whole)  # type: ignore[arg-type]
    )
    refused(request, r"^OverlapRequest\.batch\.digests: ", InvalidDigest)


def test_a_picture_is_no_item_chunk_and_no_payload() -> None:
    # Envelopes and chunks are opened before anything of them is kept.
    for kind in (digests_pb2.ItemChunk, payload_pb2.Payload):
        for piece in (PICTURE, PICTURE[:200_000], PICTURE[2:2000]):
            with pytest.raises(MalformedMessage):
                open_nested(piece, kind)


def test_digest_lists_at_their_bounds() -> None:
    def packed(count: int) -> digests_pb2.DigestList:
        rows = b"".join(number.to_bytes(16) for number in range(count))
        return digests_pb2.DigestList(kind=digests_pb2.DIGEST_KIND_MD5, digests=rows)

    check(packed(0))
    check(packed(limits.DIGESTS_PER_BATCH_MAX))
    refused(packed(limits.DIGESTS_PER_BATCH_MAX + 1), "50001 digests", InvalidDigest)
    one = bytes(15) + b"\x01"
    for kind, rows in [(1, one * 2), (1, one[:15]), (2, one), (0, one), (0, b""), (5, bytes(32))]:
        refused(
            digests_pb2.DigestList(kind=kind, digests=rows),  # type: ignore[arg-type]
            "DigestList",
            InvalidDigest,
        )


@given(st.lists(st.binary(min_size=20, max_size=20), max_size=40), st.randoms())
def test_only_sorted_distinct_digests_pass(rows: list[bytes], random: Any) -> None:
    packed = digests.pack(DigestKind.SHA1, rows)
    check(digests_pb2.DigestList(kind=digests_pb2.DIGEST_KIND_SHA1, digests=packed))
    shuffled = list(rows)
    random.shuffle(shuffled)
    if b"".join(shuffled) != packed:
        message = digests_pb2.DigestList(
            kind=digests_pb2.DIGEST_KIND_SHA1, digests=b"".join(shuffled)
        )
        refused(message, "DigestList.digests", InvalidDigest)


# --- other bytes ------------------------------------------------------------------------------


def _sequence(length: int) -> bytes:
    return b"\x30\x82" + length.to_bytes(2) + bytes(length)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (exchange_pb2.HelloRequest(nonce=bytes(32)), exchange_pb2.HelloRequest(nonce=bytes(33))),
        (exchange_pb2.HelloRequest(nonce=SHA), exchange_pb2.HelloRequest()),
        (
            exchange_pb2.OverlapBriefRequest(list_salt=SHA),
            exchange_pb2.OverlapBriefRequest(list_salt=SHA[:31]),
        ),
        (exchange_pb2.OverlapRequest(), exchange_pb2.OverlapRequest(list_salt=bytes(33))),
        (
            payload_pb2.QueryHeader(list_digest=SHA),
            payload_pb2.QueryHeader(list_digest=SHA[:31]),
        ),
        (
            envelope_pb2.Signature(sig=bytes(160)),
            envelope_pb2.Signature(sig=bytes(161)),
        ),
        (
            payload_pb2.HelloProof(nonce=SHA, leaf=_sequence(300)),
            payload_pb2.HelloProof(nonce=SHA, leaf=_sequence(300) + b"\x00"),
        ),
        (
            payload_pb2.HelloProof(nonce=SHA, leaf=b"\x30\x01\x00"),
            payload_pb2.HelloProof(nonce=SHA, leaf=PICTURE[:4000]),
        ),
        (
            operator_pb2.AddOperatorRequest(public_key=b"\x30\x81\x80" + bytes(128)),
            operator_pb2.AddOperatorRequest(public_key=b"\x30\x80" + bytes(128)),
        ),
        (
            operator_pb2.AddOperatorRequest(public_key=_sequence(1020)),
            operator_pb2.AddOperatorRequest(public_key=_sequence(1021)),
        ),
        (operator_pb2.ItemRecord(md5=SHA[:16]), operator_pb2.ItemRecord(md5=SHA[:15])),
        (operator_pb2.ItemRecord(sha1=SHA[:20]), operator_pb2.ItemRecord(sha1=SHA[:16])),
        (operator_pb2.ItemRecord(pdq=SHA), operator_pb2.ItemRecord(pdq=SHA + b"\x00")),
        (
            operator_pb2.ItemRecord(photodna=bytes(144)),
            operator_pb2.ItemRecord(photodna=bytes(143)),
        ),
        (
            operator_pb2.ListAuditEntriesResponse(leaves=[b'{"a":1}']),
            operator_pb2.ListAuditEntriesResponse(leaves=[b"{}", b"{\xff}"]),
        ),
        (
            envelope_pb2.Envelope(payload=bytes(262_144)),
            envelope_pb2.Envelope(payload=bytes(262_145)),
        ),
    ],
)  # fmt: skip
def test_bytes_are_what_their_kind_says(good: Any, bad: Any) -> None:
    check(good)
    refused(bad, type(bad).__name__)


# --- text, numbers of elements, times ---------------------------------------------------------


def test_strings_at_their_bounds() -> None:
    check(series_pb2.DutyContact(name="é" * 200))
    refused(series_pb2.DutyContact(name="é" * 201), r"^DutyContact\.name: 201 characters; at most")
    check(exchange_pb2.SeriesEntry(references=["x" * 265] * 64))
    refused(exchange_pb2.SeriesEntry(references=["x" * 266]), r"^SeriesEntry\.references")
    refused(exchange_pb2.SeriesEntry(references=["x"] * 65), r"references: 65 elements; at most 64")


@pytest.mark.parametrize("control", ["\x00", "\x1b[31m", "\r", "\x7f", "\x85", "\x9b", "\x08"])
def test_control_characters_are_refused_everywhere(control: str) -> None:
    refused(series_pb2.DutyContact(name=f"a{control}b"), "control characters")
    refused(series_pb2.Assessment(grounds=f"a{control}b"), "control characters")


def test_only_prose_has_lines_and_tabs() -> None:
    check(series_pb2.Assessment(grounds="One.\nTwo.\tThree."))
    for control in "\n\t":
        refused(series_pb2.DutyContact(name=f"a{control}b"), "control characters")


def test_names_in_any_script_pass() -> None:
    for name in ("João Gonçalves", "Πέτρος", "محمد", "山田\u3000太郎", "a\u00a0b", "👩‍👧"):
        check(series_pb2.DutyContact(name=name))


def test_all_text_of_a_peers_message_is_capped_together() -> None:
    notice = series_pb2.SeriesNotice()
    for number in range(7):
        notice.assessments.add(grounds=str(number) * 2000)
    check(notice)
    notice.assessments.add(grounds="x" * 1999)
    check(notice)
    notice.assessments.add(grounds="y" * 8)
    refused(payload_pb2.Referral(series=notice), "16000 characters of text")
    # The own people's port carries lists of such series.
    check(operator_pb2.GetSeriesResponse(series=operator_pb2.SeriesView(notice=notice)))


def test_text_that_repeats_is_counted_once() -> None:
    chunk = digests_pb2.ItemChunk(items=5000)
    for item in range(20_000):
        chunk.votes.add(item=item % 5000, agency="pt-pj", scheme="vics-us", code=str(item % 7))
    check(chunk)
    chunk.votes.add()
    refused(chunk, r"^ItemChunk\.votes: 20001 elements; at most 20000")
    prose = digests_pb2.ItemChunk()
    for item in range(300):
        prose.votes.add(code=f"{item:064x}")
    refused(prose, "16000 characters of text")


def test_maps_are_bounded_by_number_key_and_value() -> None:
    check(operator_pb2.GetStatsResponse(digests={"md5": 1, "sha1": 2}))
    refused(operator_pb2.GetStatsResponse(digests={str(i): i for i in range(9)}), "9 elements")
    refused(operator_pb2.GetStatsResponse(digests={"x" * 17: 1}), "17 characters")
    refused(operator_pb2.BroadcastView(recipients={"pt-pj": "x" * 33}), "33 characters")


@pytest.mark.parametrize(
    ("seconds", "nanos", "fine"),
    [
        (253_402_300_799, 999_999_999, True),
        (-62_135_596_800, 0, True),
        (253_402_300_800, 0, False),
        (-62_135_596_801, 0, False),
        (0, -1, False),
        (0, 1_000_000_000, False),
    ],
)
def test_times_outside_the_calendar_are_refused(seconds: int, nanos: int, fine: bool) -> None:
    message = series_pb2.Assessment()
    message.made_time.seconds, message.made_time.nanos = seconds, nanos
    if fine:
        check(message)
        message.made_time.ToDatetime()
    else:
        refused(message, r"^Assessment\.made_time: no time")


def test_the_path_names_the_element() -> None:
    batch = operator_pb2.RecordBatch()
    for _ in range(5):
        batch.records.add()
    batch.records[3].md5 = b"short"
    refused(
        operator_pb2.ImportRequest(records=batch), r"^ImportRequest\.records\.records\[3\]\.md5"
    )


# --- floods -----------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def test_unknown_fields_of_a_newer_version_pass_up_to_their_cap() -> None:
    known = exchange_pb2.HelloRequest(nonce=SHA).SerializeToString()
    fits = limits.UNKNOWN_FIELD_BYTES - 4
    open_nested(known + _field(500, bytes(fits)), exchange_pb2.HelloRequest)
    with pytest.raises(MalformedMessage, match="1025 bytes of unknown fields"):
        open_nested(known + _field(500, bytes(fits + 1)), exchange_pb2.HelloRequest)


def test_unknown_fields_count_at_any_depth_and_together() -> None:
    contact = _field(600, bytes(400))
    notice = _field(5, contact) + _field(601, bytes(400))
    with pytest.raises(MalformedMessage, match="unknown fields"):
        open_nested(_field(3, notice) + _field(602, bytes(400)), payload_pb2.Referral)
    open_nested(_field(3, notice), payload_pb2.Referral)


@pytest.mark.parametrize(
    "data",
    [
        _field(700, b"") * 20_000,
        (_varint(700 << 3) + b"\x01") * 20_000,
        b"".join(_field(number, b"x") for number in range(1000, 21_000)),
        _field(12, b"") * 20_000,
        PICTURE,
        _field(900, PICTURE[:1_000_000]),
        b"\x93\x01" * 60 + b"\x94\x01" * 60,
        b"\x93\x01" * 200_000,
    ],
    ids=[
        "one unknown field",
        "unknown numbers",
        "20k fields",
        "known elements",
        "picture",
        "picture in a field",
        "groups",
        "open groups",
    ],
)
def test_floods_are_refused_quickly(data: bytes) -> None:
    began = time.thread_time()
    if data.startswith(b"\x93\x01" * 60 + b"\x94"):
        # Sixty levels of an unknown group are small, and stay unread.
        open_nested(data, series_pb2.SeriesNotice)
    else:
        with pytest.raises(MalformedMessage):
            open_nested(data, series_pb2.SeriesNotice)
    assert time.thread_time() - began < 1.0


def test_depth_counts_what_a_message_was_unwrapped_from() -> None:
    notice = series_pb2.SeriesNotice(handling=series_pb2.Handling(code=1))
    data = notice.SerializeToString()
    open_nested(data, series_pb2.SeriesNotice, depth=limits.MESSAGE_DEPTH - 2)
    with pytest.raises(MalformedMessage, match="nested more than 12 deep"):
        open_nested(data, series_pb2.SeriesNotice, depth=limits.MESSAGE_DEPTH - 1)


def test_an_oversized_message_is_not_parsed() -> None:
    with pytest.raises(MalformedMessage, match="at most"):
        open_nested(bytes(limits.MESSAGE_BYTES + 1), digests_pb2.ItemChunk)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_checked_and_never_a_fault(data: bytes) -> None:
    for kind in (payload_pb2.Payload, delivery_pb2.DeliverRequest, digests_pb2.ItemChunk):
        try:
            check(open_nested(data, kind))
        except (MalformedMessage, InvalidDigest) as error:
            assert "\n" not in error.message


def test_checking_leaves_the_message_as_it_is() -> None:
    data = exchange_pb2.HelloRequest(nonce=SHA).SerializeToString() + _field(500, b"later")
    message = open_nested(data, exchange_pb2.HelloRequest)
    assert message.SerializeToString() == data


def test_a_full_batch_of_records_costs_little() -> None:
    batch = operator_pb2.RecordBatch()
    for number in range(2000):
        batch.records.add(
            number=number, md5=SHA[:16], sha1=SHA[:20], sha256=SHA, pdq=SHA, photodna=bytes(144),
            media_type="image/jpeg", schemes=["vics-us"], codes=["1"], series="S", size=4,
            reference_schemes=["icse"], reference_values=[str(number)], victim_identified=True,
        )  # fmt: skip
    check(batch)
    best = min(_seconds(batch) for _ in range(5))
    # Measured 10 ms; the bound leaves room for a machine that is many times slower.
    assert best < 0.5


def _seconds(message: Any) -> float:
    began = time.thread_time()
    check(message)
    return time.thread_time() - began
