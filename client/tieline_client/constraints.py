"""What every message must keep to before anything else looks at it (threats.md 16, 22, 26).

Each string, bytes and repeated field of the wire carries a ``cap`` (constraints.proto). ``check``
holds a message against the plan that constraint_plans.py makes of them, once per type:

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

from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from tieline_client import digests, limits
from tieline_client.constraint_plans import ManyRule, Plan, TextRule, plan_of
from tieline_client.errors import InvalidDigest, InvalidInput, MalformedMessage

M = TypeVar("M", bound=Message)

_OPERATOR_FILES = ("tieline/v1/operator", "tieline/v1/auditor")
"""Begin the names of files whose messages travel on the operator port only."""
_SECONDS_LEAST, _SECONDS_MOST = -62_135_596_800, 253_402_300_799
_NANOS_MOST = 999_999_999


def check(message: Message, *, depth: int = 0, size: int | None = None) -> None:
    """Hold a message of tieline.v1 against the caps of its fields; it is left as it is.

    ``depth`` counts the messages it was unwrapped from, ``size`` the bytes that it was parsed from,
    where that is known. Raises InvalidDigest for digests, MalformedMessage otherwise; both name the
    field.
    """
    descriptor = message.DESCRIPTOR
    seen = _Seen(None if descriptor.file.name.startswith(_OPERATOR_FILES) else set())
    texts = seen.texts
    try:
        _walk(message, plan_of(descriptor), depth + 1, seen)
        most = message.ByteSize() if size is None else size
        if most - seen.packed > limits.UNKNOWN_FIELD_BYTES:
            _check_unknown(message)  # 1
        if texts is not None and sum(map(len, texts)) > limits.FREE_TEXT_PER_MESSAGE_CHARS:  # 7
            raise _Violation(
                f"more than {limits.FREE_TEXT_PER_MESSAGE_CHARS} characters of text; say less"
            )
    except _Violation as violation:
        where = "".join([descriptor.name, *reversed(violation.path)])
        error = violation.error(f"{where}: {violation.why}")
        if isinstance(error, MalformedMessage):
            error.value = violation.value
        raise error from None


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


class _Seen:
    """What was met in a message: its ``texts`` where they count, and the bytes of ``packed``
    digests, which are known fields, so that a copy is needed only of what may hold others."""

    __slots__ = ("packed", "texts")

    def __init__(self, texts: set[str] | None) -> None:
        self.texts = texts
        self.packed = 0


class _Violation(Exception):
    """Carries the reason up to where the path is known; its parts are collected innermost first."""

    def __init__(
        self,
        why: str,
        error: type[InvalidInput] = MalformedMessage,
        value: str | int | None = None,
    ) -> None:
        super().__init__(why)
        self.why, self.error, self.value = why, error, value
        self.path: list[str] = []

    def at(self, part: str) -> _Violation:
        self.path.append(part)
        return self


def _check_unknown(message: Message) -> None:
    """Check 1. Sizes before and after discarding cost less memory than a list of the fields."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    unknown = message.ByteSize() - known.ByteSize()
    if unknown > limits.UNKNOWN_FIELD_BYTES:
        raise _Violation(
            f"{unknown} bytes of unknown fields; at most {limits.UNKNOWN_FIELD_BYTES}:"
            " one of the two sides needs an upgrade"
        )


def _walk(message: Message, plan: Plan, depth: int, seen: _Seen) -> None:
    """Checks 2 to 6, in one pass over the plan."""
    if depth > limits.MESSAGE_DEPTH:  # 2
        raise _Violation(f"nested more than {limits.MESSAGE_DEPTH} deep")
    if plan.is_time:
        _check_time(message)
    for many in plan.many:
        values = getattr(message, many.name)
        if values:
            _check_many(values, many, depth, seen)
    for rule in plan.bytes_:
        why = rule.check(getattr(message, rule.name), rule.cap)
        if why and not (rule.optional and not message.HasField(rule.name)):
            raise _Violation(why).at(f".{rule.name}")
    for name, cap in plan.digest_lists:
        seen.packed += _check_digests(message, name, cap)
    if plan.texts:
        _check_texts(plan.words_of(message), plan.texts, seen.texts)
    for name, nested in plan.messages:
        if message.HasField(name):
            try:
                _walk(getattr(message, name), nested, depth + 1, seen)
            except _Violation as violation:
                raise violation.at(f".{name}") from None


def _check_many(values: Any, many: ManyRule, depth: int, seen: _Seen) -> None:
    """Check 3, and 4 and 5 on the elements."""
    if len(values) > many.items:
        too_many = f"{len(values)} elements; at most {many.items}"
        raise _Violation(too_many, value=len(values)).at(f".{many.name}")
    if many.plan is not None:
        for index, value in enumerate(values):
            try:
                _walk(value, many.plan, depth + 1, seen)
            except _Violation as violation:
                raise violation.at(f".{many.name}[{index}]") from None
    elif many.text is not None:
        for value in values:
            _check_text(value, many.text, seen.texts)
        if many.mapped_text is not None:
            for value in values.values():
                _check_text(value, many.mapped_text, seen.texts)
    elif many.bytes_ is not None:
        for value in values:
            if why := many.bytes_.check(value, many.bytes_.cap):
                raise _Violation(why).at(f".{many.name}")


def _check_texts(
    values: tuple[str, ...], rules: tuple[TextRule, ...], texts: set[str] | None
) -> None:
    """Check 5 on the fields of one message; most are empty or in order."""
    for words, rule in zip(values, rules, strict=True):
        if not words:
            continue
        if len(words) > rule.chars or not words.isprintable():
            _check_text(words, rule, texts)
        elif texts is not None:
            texts.add(words)


def _check_text(words: str, rule: TextRule, texts: set[str] | None) -> None:
    """Check 5."""
    if len(words) > rule.chars:
        why = f"{len(words)} characters; at most {rule.chars}"
        raise _Violation(why, value=words).at(f".{rule.name}")
    if not words.isprintable() and rule.forbidden.search(words):
        why = "holds control characters; take them out"
        raise _Violation(why, value=words).at(f".{rule.name}")
    if texts is not None:
        texts.add(words)


def _check_time(message: Any) -> None:
    """Check 6."""
    if not (
        _SECONDS_LEAST <= message.seconds <= _SECONDS_MOST and 0 <= message.nanos <= _NANOS_MOST
    ):
        raise _Violation("no time between the years 1 and 9999")


def _check_digests(message: Any, name: str, cap: int) -> int:
    """Check 4 of a packed list, and return its bytes; the field ``kind`` beside it fixes the
    width."""
    packed = getattr(message, name)
    try:
        kind = digests.DigestKind(message.kind)
    except ValueError:
        raise _Violation("is no kind of digest", InvalidDigest).at(".kind") from None
    count = len(packed) // kind.width
    if len(packed) > cap or count > limits.DIGESTS_PER_BATCH_MAX:
        raise _Violation(
            f"{count} digests; at most {limits.DIGESTS_PER_BATCH_MAX}", InvalidDigest
        ).at(f".{name}")
    try:
        digests.unpack(kind, packed)
    except InvalidDigest as error:
        raise _Violation(error.message, InvalidDigest).at(f".{name}") from None
    return len(packed)
