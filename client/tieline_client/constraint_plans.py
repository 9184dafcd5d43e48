"""How the caps that the .proto files state become plans: what is looked at in each message type.

A plan is made once per type. Numbers and flags need no look; a string, bytes or repeated field
without a cap, or bytes of no stated kind, cannot be bounded and is an error of this program.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tieline.v1 import constraints_pb2

from tieline_client import tls_records

PACKAGE = "tieline.v1"
_TIMESTAMP = "google.protobuf.Timestamp"
_FREE_TEXT_LEAST = 500
"""Fields of this cap or more are prose, which has lines; shorter ones are words and names."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROLS_IN_PROSE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CONTROL_BYTES = bytes(byte for byte in range(32) if byte not in b"\t\n\r") + b"\x7f"
_PHOTODNA_BYTES = 144
_DER_SEQUENCE = 0x30


@dataclass(frozen=True, slots=True)
class TextRule:
    """A string field, or the strings of a repeated one or a map."""

    name: str
    chars: int
    forbidden: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class BytesRule:
    """A bytes field, or the elements of a repeated one."""

    name: str
    cap: int
    check: Callable[[bytes, int], str | None]
    """Returns what is wrong, or None."""
    optional: bool


@dataclass(frozen=True, slots=True)
class ManyRule:
    """A repeated field or a map: its elements are texts, bytes, messages, or plain numbers."""

    name: str
    items: int
    text: TextRule | None = None
    bytes_: BytesRule | None = None
    plan: Plan | None = None
    mapped_text: TextRule | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be looked at in messages of one type; numbers and flags need no look."""

    texts: tuple[TextRule, ...]
    words_of: Callable[[Any], tuple[str, ...]]
    """The values of ``texts``, fetched at once."""
    bytes_: tuple[BytesRule, ...]
    digest_lists: tuple[tuple[str, int], ...]
    many: tuple[ManyRule, ...]
    messages: tuple[tuple[str, Plan], ...]
    is_time: bool = False


# --- what a bytes field may hold --------------------------------------------------------------


def _at_most(value: bytes, cap: int) -> str | None:
    return f"{len(value)} bytes; at most {cap}" if len(value) > cap else None


def _exactly(value: bytes, cap: int) -> str | None:
    return f"{len(value)} bytes; exactly {cap} are needed" if len(value) != cap else None


def _exactly_or_absent(value: bytes, cap: int) -> str | None:
    return _exactly(value, cap) if value else None


def _der(value: bytes, cap: int) -> str | None:
    """One DER SEQUENCE that fills the field (X.690, 8.1.3 and 10.1)."""
    if len(value) > cap:
        return _at_most(value, cap)
    header, length = 2, value[1] if len(value) > 1 else 0
    if length & 0x80:
        octets = length & 0x7F
        header += octets
        length = int.from_bytes(value[2:header]) if 1 <= octets <= 2 else 0
    if len(value) < 2 or value[0] != _DER_SEQUENCE or header + length != len(value):
        return "is not one DER SEQUENCE"
    return None


def _json_object(value: bytes, cap: int) -> str | None:
    if len(value) > cap:
        return _at_most(value, cap)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    return None if text[:1] == "{" and text[-1:] == "}" else "is not a JSON object"


def _text_part(value: bytes, cap: int) -> str | None:
    """A part of a text file, which may begin and end inside a character."""
    if value.translate(None, _CONTROL_BYTES) != value:
        return "holds control characters; a file of the directory is text"
    return _at_most(value, cap)


def _tls_records(value: bytes, cap: int) -> str | None:
    return _at_most(value, cap) or tls_records.fault(value)


_BYTES_CHECKS: dict[int, Callable[[bytes, int], str | None]] = {
    constraints_pb2.BYTES_KIND_SHA256: _exactly,
    constraints_pb2.BYTES_KIND_SIGNATURE: _at_most,
    constraints_pb2.BYTES_KIND_CERTIFICATE: _der,
    constraints_pb2.BYTES_KIND_NONCE: _exactly,
    constraints_pb2.BYTES_KIND_MESSAGE: _at_most,
    constraints_pb2.BYTES_KIND_DIGEST: _exactly_or_absent,
    constraints_pb2.BYTES_KIND_AUDIT_LEAF: _json_object,
    constraints_pb2.BYTES_KIND_PUBLIC_KEY: _der,
    constraints_pb2.BYTES_KIND_PHOTODNA: _exactly_or_absent,
    constraints_pb2.BYTES_KIND_COLUMN: _at_most,
    constraints_pb2.BYTES_KIND_TLS_RECORDS: _tls_records,
    constraints_pb2.BYTES_KIND_DIRECTORY_FILE: _text_part,
    constraints_pb2.BYTES_KIND_DIRECTORY_JSON: _json_object,
    constraints_pb2.BYTES_KIND_SALT: _exactly_or_absent,
    constraints_pb2.BYTES_KIND_SHA256_OR_NONE: _exactly_or_absent,
}
_FIXED_LENGTHS = {
    constraints_pb2.BYTES_KIND_SHA256: (32,),
    constraints_pb2.BYTES_KIND_SHA256_OR_NONE: (32,),
    constraints_pb2.BYTES_KIND_DIGEST: (16, 20, 32),
    constraints_pb2.BYTES_KIND_PHOTODNA: (_PHOTODNA_BYTES,),
}


# --- plans ------------------------------------------------------------------------------------


def field_cap(field: FieldDescriptor) -> constraints_pb2.Cap:
    """Return the cap that a field states in its .proto, with zeros where it states none."""
    return field.GetOptions().Extensions[constraints_pb2.cap]


@cache
def plan_of(descriptor: Descriptor) -> Plan:
    """Read the caps of one message type. Raises TypeError for a field that cannot be bounded."""
    if descriptor.full_name == _TIMESTAMP:
        return Plan((), _words_of(()), (), (), (), (), is_time=True)
    if descriptor.file.package != PACKAGE:
        raise TypeError(f"{descriptor.full_name} is not of {PACKAGE}: nothing bounds it")
    texts: list[TextRule] = []
    bytes_: list[BytesRule] = []
    digest_lists: list[tuple[str, int]] = []
    many: list[ManyRule] = []
    messages: list[tuple[str, Plan]] = []
    for field in descriptor.fields:
        if field.is_repeated:
            many.append(_plan_many(field))
        elif field.type == FieldDescriptor.TYPE_STRING:
            texts.append(_plan_text(field))
        elif field.type == FieldDescriptor.TYPE_BYTES:
            if field_cap(field).kind == constraints_pb2.BYTES_KIND_DIGESTS:
                digest_lists.append(_plan_digests(field))
            else:
                bytes_.append(_plan_bytes(field))
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            messages.append((field.name, plan_of(_message_type(field))))
    return Plan(
        tuple(texts),
        _words_of(texts),
        tuple(bytes_),
        tuple(digest_lists),
        tuple(many),
        tuple(messages),
    )


def _words_of(rules: Sequence[TextRule]) -> Callable[[Any], tuple[str, ...]]:
    names = [rule.name for rule in rules]
    if len(names) > 1:
        fetch: Callable[[Any], tuple[str, ...]] = attrgetter(*names)
        return fetch
    return lambda message: tuple(getattr(message, name) for name in names)


def _plan_many(field: FieldDescriptor) -> ManyRule:
    items = _needed(field, field_cap(field).max_items, "max_items")
    if field.type == FieldDescriptor.TYPE_STRING:
        return ManyRule(field.name, items, text=_plan_text(field))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return ManyRule(field.name, items, bytes_=_plan_bytes(field))
    if field.type != FieldDescriptor.TYPE_MESSAGE:
        return ManyRule(field.name, items)
    entry = _message_type(field)
    if not entry.GetOptions().map_entry:
        return ManyRule(field.name, items, plan=plan_of(entry))
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    if key.type != FieldDescriptor.TYPE_STRING or value.type in (
        FieldDescriptor.TYPE_BYTES,
        FieldDescriptor.TYPE_MESSAGE,
    ):
        raise TypeError(f"{field.full_name}: maps go from strings to strings or numbers")
    text = _plan_text(field)
    mapped = text if value.type == FieldDescriptor.TYPE_STRING else None
    return ManyRule(field.name, items, text=text, mapped_text=mapped)


def _plan_text(field: FieldDescriptor) -> TextRule:
    chars = _needed(field, field_cap(field).max_length, "max_length")
    prose = chars >= _FREE_TEXT_LEAST
    return TextRule(field.name, chars, _CONTROLS_IN_PROSE if prose else _CONTROLS)


def _plan_bytes(field: FieldDescriptor) -> BytesRule:
    cap = field_cap(field)
    length = _needed(field, cap.max_length, "max_length")
    check_kind = _BYTES_CHECKS.get(cap.kind)
    if check_kind is None or length not in _FIXED_LENGTHS.get(cap.kind, (length,)):
        raise TypeError(f"{field.full_name} states no kind of bytes, or a length that kind lacks")
    optional = field.has_presence and not field.is_repeated
    return BytesRule(field.name, length, check_kind, optional)


def _plan_digests(field: FieldDescriptor) -> tuple[str, int]:
    beside = field.containing_type.fields_by_name if field.containing_type else {}
    kind = beside.get("kind")
    if kind is None or kind.enum_type is None or kind.enum_type.name != "DigestKind":
        raise TypeError(f"{field.full_name} has no DigestKind beside it")
    return field.name, _needed(field, field_cap(field).max_length, "max_length")


def _needed(field: FieldDescriptor, value: int, option: str) -> int:
    if value <= 0:
        raise TypeError(f"{field.full_name} states no {option}: give it a cap in its .proto")
    return value


def _message_type(field: FieldDescriptor) -> Descriptor:
    if field.message_type is None:
        raise TypeError(f"{field.full_name} holds no message")
    return field.message_type
