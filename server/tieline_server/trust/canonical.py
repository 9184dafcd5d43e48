"""JSON that is signed or fingerprinted: one byte string for one value, and strict on reading."""

from __future__ import annotations

import json
from typing import NoReturn

from tieline_client.errors import InvalidInput
from tieline_client.limits import DIRECTORY_FILE_BYTES


def encode(value: object) -> bytes:
    """Return UTF-8 JSON with sorted keys and no white space.

    Raises InvalidInput when a string is no Unicode text (a lone surrogate).
    """
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
    except ValueError:
        raise InvalidInput("a string is not Unicode text; write the file anew") from None


def decode(data: bytes, what: str) -> dict[str, object]:
    """Parse a JSON object; ``what`` names it in errors.

    Refused with InvalidInput: more than DIRECTORY_FILE_BYTES, other encodings than UTF-8, keys
    given twice, numbers that are no integers, nesting beyond what the parser takes.
    """
    if len(data) > DIRECTORY_FILE_BYTES:
        raise InvalidInput(f"{what} is over {DIRECTORY_FILE_BYTES} bytes; is it the right file?")
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_distinct,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as error:
        why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)[:120]
        raise InvalidInput(f"{what} is not the JSON it should be ({why})") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} is not a JSON object")
    return value


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no integer")
