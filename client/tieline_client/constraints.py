"""What every message must keep to before anything else looks at it (threats.md 16, 22, 26).

Each string, bytes and repeated field of the wire carries a ``cap`` (constraints.proto). ``check``
holds a message against the plan that constraint_plans.py makes of them, once per type, in the form
that constraint_code.py gives it:

1. No more than UNKNOWN_FIELD_BYTES of fields that this version does not know, at any depth.
2. No deeper than MESSAGE_DEPTH, the messages it was unwrapped from included.
3. Repeated fields and maps hold no more elements than their cap.
4. Bytes are what their field's kind says: digests of one kind, strictly ascending; one SHA-256; a
   certificate; and so on. A file cut into pieces is none of them.
5. Strings are inside their cap and hold no control characters; only free text has lines and tabs.
6. Times lie between the years 1 and 9999 (the range of google.protobuf.Timestamp).
7. In what peers send, all distinct strings of a message together stay inside
   FREE_TEXT_PER_MESSAGE_CHARS. Repeats are counted once, since chunks repeat scheme and agency for
   each vote. The operator port is exempt: batches of records are text by nature.

A field without a cap is an error of this program, not of the sender: its message cannot be sent.
"""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from tieline_client import limits
from tieline_client.constraint_code import check_of
from tieline_client.constraint_faults import Violation
from tieline_client.errors import MalformedMessage

M = TypeVar("M", bound=Message)

_OPERATOR_FILES = ("tieline/v1/operator", "tieline/v1/auditor")
"""Begin the names of files whose messages travel on the operator port only."""


def check(message: Message, *, depth: int = 0, size: int | None = None) -> None:
    """Hold a message of tieline.v1 against the caps of its fields; it is left as it is.

    ``depth`` counts the messages it was unwrapped from, ``size`` the bytes that it was parsed from,
    where that is known. Raises InvalidDigest for digests, MalformedMessage otherwise; both name the
    field.
    """
    descriptor = message.DESCRIPTOR
    texts: set[str] | None = None if descriptor.file.name.startswith(_OPERATOR_FILES) else set()
    try:
        # Packed digests are known fields: a copy is needed only of what may hold others.
        packed = check_of(descriptor)(message, depth + 1, texts)
        most = message.ByteSize() if size is None else size
        if most - packed > limits.UNKNOWN_FIELD_BYTES:
            _check_unknown(message)  # 1
        if texts is not None and sum(map(len, texts)) > limits.FREE_TEXT_PER_MESSAGE_CHARS:  # 7
            raise Violation(
                f"more than {limits.FREE_TEXT_PER_MESSAGE_CHARS} characters of text; say less"
            )
    except Violation as violation:
        where = "".join([descriptor.name, *reversed(violation.path)])
        raise violation.error(f"{where}: {violation.why}") from None


def open_nested(data: bytes, kind: type[M], *, depth: int = 0) -> M:
    """Parse the bytes of a MESSAGE field, or of a whole message, and check it.

    ``depth`` counts the messages around it. Raises MalformedMessage or InvalidDigest.
    """
    name = kind.DESCRIPTOR.name
    if len(data) > limits.MESSAGE_BYTES:
        raise MalformedMessage(f"{name}: {len(data)} bytes; at most {limits.MESSAGE_BYTES}")
    try:
        message = kind.FromString(data)
    except (DecodeError, ValueError):
        raise MalformedMessage(f"{name}: these bytes are no such message") from None
    check(message, depth=depth, size=len(data))
    return message


def _check_unknown(message: Message) -> None:
    """Check 1. Sizes before and after discarding cost less memory than a list of the fields."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    unknown = message.ByteSize() - known.ByteSize()
    if unknown > limits.UNKNOWN_FIELD_BYTES:
        raise Violation(
            f"{unknown} bytes of unknown fields; at most {limits.UNKNOWN_FIELD_BYTES}:"
            " one of the two sides needs an upgrade"
        )
