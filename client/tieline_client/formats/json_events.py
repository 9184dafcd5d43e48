"""JSON as a bounded flow of parse events.

ijson (yajl in C) parses a chunk at a time, so memory does not grow with the file. The caps here
hold what a parser alone does not: the length of one string, the size of one record, the depth of
nesting, the number of fields. Every event up to a fault is delivered before the fault is raised,
so that the error can name the record in which it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from ijson.backends import yajl2_c
from ijson.common import JSONError
from ijson.utils import sendable_list

from tieline_client.errors import FormatError
from tieline_client.limits import JSON_DEPTH, JSON_STRING_BYTES, RECORD_BYTES

Event = tuple[str, Any]
"""``(kind, value)`` as ijson's basic_parse yields it."""

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
        self._flow = chain.from_iterable(self._batches(chunks))
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

    def _batches(self, chunks: Iterable[bytes]) -> Iterator[list[Event]]:
        events = sendable_list()
        parser = yajl2_c.basic_parse_coro(events)
        quiet = 0
        for chunk in chain(chunks, (b"",)):
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


def _why(failure: Exception) -> str:
    if not isinstance(failure, JSONError):
        return "broken JSON: a number out of range"
    said = failure.args[0] if failure.args else ""
    text = said.decode("ascii", "replace") if isinstance(said, bytes) else str(said)
    first = text.partition("\n")[0].strip()  # below it yajl shows a piece of the file
    if "premature EOF" in first:
        return "the JSON ends in the middle; the file is truncated"
    return f"broken JSON: {first}"
