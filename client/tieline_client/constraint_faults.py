"""What is wrong with a message, found and said: constraint_code.py calls these where something may
be. Numbers are those of constraints.py."""

from __future__ import annotations

from typing import Any, NoReturn

from tieline_client import digests, limits
from tieline_client.constraint_plans import BytesRule, TextRule
from tieline_client.errors import InvalidDigest, InvalidInput, MalformedMessage

_SECONDS_LEAST, _SECONDS_MOST = -62_135_596_800, 253_402_300_799
_NANOS_MOST = 999_999_999


class Violation(Exception):
    """Carries the reason up to where the path is known; its parts are collected innermost first."""

    def __init__(self, why: str, error: type[InvalidInput] = MalformedMessage) -> None:
        super().__init__(why)
        self.why, self.error = why, error
        self.path: list[str] = []

    def at(self, part: str) -> Violation:
        self.path.append(part)
        return self


def too_deep() -> NoReturn:
    """Check 2."""
    raise Violation(f"nested more than {limits.MESSAGE_DEPTH} deep")


def too_many(values: Any, most: int, name: str) -> NoReturn:
    """Check 3."""
    raise Violation(f"{len(values)} elements; at most {most}").at(f".{name}")


def check_bytes(value: bytes, rule: BytesRule) -> None:
    """Check 4 of a bytes field, or of one element of a repeated one."""
    if why := rule.check(value, rule.cap):
        raise Violation(why).at(f".{rule.name}")


def check_text(words: str, rule: TextRule, texts: set[str] | None) -> None:
    """Check 5."""
    if len(words) > rule.chars:
        raise Violation(f"{len(words)} characters; at most {rule.chars}").at(f".{rule.name}")
    if not words.isprintable() and rule.forbidden.search(words):
        raise Violation("holds control characters; take them out").at(f".{rule.name}")
    if texts is not None:
        texts.add(words)


def check_time(message: Any) -> None:
    """Check 6."""
    if not (
        _SECONDS_LEAST <= message.seconds <= _SECONDS_MOST and 0 <= message.nanos <= _NANOS_MOST
    ):
        raise Violation("no time between the years 1 and 9999")


def check_digests(message: Any, name: str, cap: int) -> int:
    """Check 4 of a packed list, and return its bytes; the field ``kind`` beside it fixes the
    width."""
    packed = getattr(message, name)
    try:
        kind = digests.DigestKind(message.kind)
    except ValueError:
        raise Violation("is no kind of digest", InvalidDigest).at(".kind") from None
    count = len(packed) // kind.width
    if len(packed) > cap or count > limits.DIGESTS_PER_BATCH_MAX:
        raise Violation(
            f"{count} digests; at most {limits.DIGESTS_PER_BATCH_MAX}", InvalidDigest
        ).at(f".{name}")
    try:
        digests.unpack(kind, packed)
    except InvalidDigest as error:
        raise Violation(error.message, InvalidDigest).at(f".{name}") from None
    return len(packed)
