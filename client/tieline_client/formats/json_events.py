"""JSON as a bounded flow of parse events, and of whole objects where an array holds ordinary ones.

ijson (yajl in C) parses a piece at a time, so memory does not grow with the file. The caps here
hold what a parser alone does not: the length of one string, the size of one record, the depth of
nesting, the number of fields. Every event up to a fault is delivered before the fault is raised,
so that the error can name the record in which it stands.

An event for each field of millions of objects takes long. Where an array has just been opened, the
objects in it are taken by the json module's scanner, each at once, as long as they are ordinary:
inside every cap, no key twice, and another object behind them. The parser of events never sees
those; it goes on with the first that is not, which it alone accepts or refuses, in its own words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import chain
from typing import Any, NoReturn

from ijson.backends import yajl2_c
from ijson.common import JSONError
from ijson.utils import sendable_list

from tieline_client.errors import FormatError
from tieline_client.limits import (
    JSON_DEPTH,
    JSON_FIELDS,
    JSON_STRING_BYTES,
    JSON_WINDOW_BYTES,
    READ_BYTES,
    RECORD_BYTES,
)

Fields = dict[str, Any]
Event = tuple[str, Any]
"""``(kind, value)`` as ijson's basic_parse yields it."""

_SPACE = re.compile(r"[ \t\n\r]*")
_NEXT_OBJECT = re.compile(r"[ \t\n\r]*,[ \t\n\r]*(?=\{)")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_OPENS = ("start_map", "start_array")
_CLOSES = ("end_map", "end_array")


class JsonEvents:
    """The events of one JSON document, pulled one at a time with ``next``.

    ``record`` is the number of the record in progress, None outside of records; the reader keeps
    it, and calls ``mark`` where a new record or a new field outside of records begins.
    """

    def __init__(self, chunks: Iterable[bytes], name: str) -> None:
        self.name = name
        self.record: int | None = None
        self._since_mark = 0
        self._chunks = iter(chunks)
        self._buffer, self._at = b"", 0
        self._flow = chain.from_iterable(self._batches())
        self.next = self._flow.__next__

    def mark(self) -> None:
        """Start counting the bytes of a record anew."""
        self._since_mark = 0

    def fault(self, why: str) -> FormatError:
        """Return the error that refuses the file at this point."""
        return FormatError(self.name, self.record, why)

    def skip(self, depth: int) -> None:
        """Pass over the container just opened, itself at nesting ``depth``. Raises FormatError."""
        following = self.next
        level = depth
        while level >= depth:
            kind, value = following()
            if value is not None:
                continue
            if kind in _CLOSES:
                level -= 1
            elif kind in _OPENS:
                level += 1
                if level > JSON_DEPTH:
                    raise self.fault(f"nested more than {JSON_DEPTH} deep")

    def finish(self) -> None:
        """Check that only white space follows the document. Raises FormatError."""
        for _ in self._flow:
            raise self.fault("text follows the end of the JSON")

    def objects(self, depth: int, without: str) -> Iterator[list[Fields]]:
        """Yield the ordinary objects of the array just opened, themselves at nesting ``depth``.

        At the first that is not, or that has the field ``without``, ``next`` goes on with it. It
        also gets the last of the array.
        """
        size = JSON_WINDOW_BYTES
        while self._fill(size):
            end = self._buffer.rfind(b"}", self._at) + 1
            try:
                text = self._buffer[self._at : end].decode()
            except UnicodeDecodeError:
                return
            found, taken = _scan(text, JSON_DEPTH - depth, without)
            if found:
                self._at += len(text[:taken].encode())
                yield found
                size = JSON_WINDOW_BYTES
            elif size < JSON_STRING_BYTES:
                size = JSON_STRING_BYTES
            else:
                return

    def _fill(self, size: int) -> bool:
        """Have that many bytes ahead, or all that are left; whether there are any."""
        parts = [self._buffer[self._at :]]
        ahead = len(parts[0])
        while ahead < size and (chunk := next(self._chunks, b"")):
            parts.append(chunk)
            ahead += len(chunk)
        self._buffer, self._at = b"".join(parts), 0
        return ahead > 0

    def _pieces(self) -> Iterator[bytes]:
        """Yield the document in pieces that end where an array may open, none over READ_BYTES."""
        while self._at < len(self._buffer) or self._fill(1):
            most = self._at + READ_BYTES
            end = self._buffer.find(b"[", self._at, most) + 1 or most
            piece = self._buffer[self._at : end]
            self._at += len(piece)
            yield piece

    def _batches(self) -> Iterator[list[Event]]:
        events = sendable_list()
        parser = yajl2_c.basic_parse_coro(events)
        quiet = 0
        for chunk in chain(self._pieces(), (b"",)):
            failure: Exception | None = None
            try:
                parser.send(chunk)
            except StopIteration:
                pass
            except (JSONError, ValueError, ArithmeticError) as error:
                failure = error
            except SystemError as error:
                # ijson's C code, given an integer beyond CPython's 4,300 digits, delivers an event
                # whose value is a null pointer; nothing may touch it.
                events.pop()
                failure = error
            quiet = 0 if events else quiet + len(chunk)
            self._since_mark += len(chunk)
            if events:
                yield events
                events.clear()  # only now: the consumer was reading this very list
            if failure is not None:
                raise self.fault(_why(failure)) from None
            if quiet > JSON_STRING_BYTES:
                raise self.fault(f"a text or number is longer than {JSON_STRING_BYTES} bytes")
            if self._since_mark > RECORD_BYTES:
                raise self.fault(f"a record is longer than {RECORD_BYTES} bytes")


class _Odd(ValueError):
    """An object that the parser of events is to judge."""


def _object(pairs: list[tuple[str, Any]]) -> Fields:
    fields = dict(pairs)
    if len(fields) != len(pairs) or len(pairs) >= JSON_FIELDS:
        raise _Odd
    return fields


def _constant(_word: str) -> NoReturn:
    raise _Odd


_scan_once = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Decimal, parse_constant=_constant
).scan_once  # type: ignore[attr-defined]


def _scan(text: str, depth: int, without: str) -> tuple[list[Fields], int]:
    """Return the ordinary objects that ``text`` begins with, and where the next begins.

    Each has another object behind it. ``depth`` is how deep containers in it may be nested.
    """
    found: list[Fields] = []
    start = _SPACE.match(text).end()  # type: ignore[union-attr]
    escapes = _SURROGATE.search(text) is not None
    while text.startswith("{", start):
        try:
            fields, end = _scan_once(text, start)
        except (ValueError, ArithmeticError, RecursionError, StopIteration):
            break
        behind = _NEXT_OBJECT.match(text, end)
        if behind is None or without in fields:
            break
        opened = text.count("{", start, end) + text.count("[", start, end) - 1
        if opened > depth and _nested(fields) > depth:
            break
        if escapes and _SURROGATE.search(text, start, end) and not _is_unicode(fields):
            break
        found.append(fields)
        start = behind.end()
    return found, start


def _nested(fields: Fields) -> int:
    """Return how deep containers are nested in an object."""
    depth, level = 0, [each for each in fields.values() if isinstance(each, dict | list)]
    while level:
        depth += 1
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
    return depth


def _is_unicode(fields: Fields) -> bool:
    """Whether no text in an object holds half of a surrogate pair."""
    try:
        json.dumps(fields, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return False
    return True


def _why(failure: Exception) -> str:
    if not isinstance(failure, JSONError):
        return "broken JSON: a number out of range"
    said = failure.args[0] if failure.args else ""
    text = said.decode("ascii", "replace") if isinstance(said, bytes) else str(said)
    first = text.partition("\n")[0].strip()  # below it yajl shows a piece of the file
    if "premature EOF" in first:
        return "the JSON ends in the middle; the file is truncated"
    return f"broken JSON: {first}"
