"""VICS JSON 1.1 to 1.3 and 2.0: a hash set (``#Media``) or cases with media (``#Cases``).

A file flows through as parse events: envelope, then the elements of ``value``. An element with a
``Media`` array is a case, of which only that array is read; any other is a medium. Ordinary media
come as whole objects (json_events.py), the others event by event, where what is not needed is
passed over. Layout: the OData schema of VICS 2.0 (CEModel).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tieline_client.formats.fields import shown
from tieline_client.formats.json_events import Fields, JsonEvents
from tieline_client.formats.record import Record, Rejected
from tieline_client.formats.vics_media import SKIPPED, MediaReader, plain
from tieline_client.limits import ALTERNATIVE_HASHES, JSON_FIELDS

CONTEXT_KEYS = ("@odata.context", "odata.metadata")
_TOKEN = re.compile(r"[A-Za-z]{2,16}")
_CONTEXT_CHARS = 1_000

_OF_A_MEDIUM = frozenset({"MD5", "SHA1", "MediaID"})
"""Fields that no case has."""
_MEDIA_DEPTH = 3
_CASE_MEDIA_DEPTH = 5


def read_vics(chunks: Iterable[bytes], name: str) -> Iterator[Record | Rejected]:
    """Yield the media of a VICS file given as chunks of UTF-8.

    Raises FormatError, naming the record, when the document is broken, truncated, nested too
    deep, repeats a key in what is read, or is no VICS file of cases or media.
    """
    reader = VicsReader(chunks, name)
    for found in reader.read():
        if isinstance(found, list):
            yield from (reader.finish(plain(fields)) for fields in found)
        else:
            yield found


class VicsReader:
    """Reads one file; `media` makes records of those that came as objects, once `plain`."""

    def __init__(self, chunks: Iterable[bytes], name: str) -> None:
        self.events = events = JsonEvents(chunks, name)
        self.following = events.next
        self.number = 0
        self.media = MediaReader()
        self.of_cases = False

    def read(self) -> Iterator[Record | Rejected | list[Fields]]:
        """Yield records, or lists of media that are yet to be finished, in their order."""
        if self.following()[0] != "start_map":
            raise self.events.fault("not VICS: the JSON does not begin with an object")
        seen: set[str] = set()
        for _ in range(JSON_FIELDS):
            self.events.mark()
            kind, key = self.following()
            if kind == "end_map":
                break
            self._once(key, seen)
            seen.add(key)
            kind, value = self.following()
            if key in CONTEXT_KEYS:
                self._context(value, after_value="value" in seen)
            elif key == "value":
                if kind != "start_array":
                    raise self.events.fault("not VICS: 'value' is not a list")
                yield from self._elements()
                self.events.record = None
            elif kind in ("start_map", "start_array"):
                self.events.skip(2)
        else:
            raise self.events.fault(f"more than {JSON_FIELDS} fields")
        if "value" not in seen:
            raise self.events.fault("not VICS: there is no list named 'value'")
        self.events.finish()

    def _once(self, key: str, seen: Iterable[str]) -> None:
        if key in seen:
            raise self.events.fault(f"the key {shown(key)} stands twice")

    def _context(self, value: object, *, after_value: bool) -> None:
        """Take scheme and shape from the context; it must come before what it explains."""
        if after_value:
            raise self.events.fault(
                "the context stands after the records, so their categories have no scheme; "
                "put it first"
            )
        if not isinstance(value, str) or len(value) > _CONTEXT_CHARS:
            raise self.events.fault("not VICS: the context is not a text")
        before, _, fragment = value.rpartition("#")
        shape = fragment.partition("/")[0]
        if shape not in ("Cases", "Media"):
            raise self.events.fault(
                f"not VICS cases or media: the context is {shown(value)}; "
                "one that ends in #Cases or #Media is needed"
            )
        token = before.removesuffix("$metadata").rstrip("/").rpartition("/")[2]
        if token and not token.endswith(".xml"):
            if not _TOKEN.fullmatch(token):
                raise self.events.fault(
                    f"the context names no known category table: {shown(value)}"
                )
            self.media.scheme = f"vics-{token.lower()}"
        self.of_cases = shape == "Cases"

    def _elements(self) -> Iterator[Record | Rejected | list[Fields]]:
        """Read the elements of ``value``."""
        if not self.of_cases:
            for found in self.events.objects(_MEDIA_DEPTH, "Media"):
                yield [fields for fields in found if not self._is_empty_case(fields)]
        while (event := self.following())[0] != "end_array":
            self.events.record = self.number + 1
            self.events.mark()
            if event[0] != "start_map":
                yield self._no_object(event[0], _MEDIA_DEPTH)
                continue
            fields: Fields = {}
            if not self._fields(fields, _MEDIA_DEPTH):
                if not self._is_empty_case(fields):
                    yield self.finish(fields)
                elif fields.get("Media") is not None:
                    self.number += 1
                    yield Rejected(self.number, "a case whose Media are no list")
                continue
            yield from self._media_of_case()
            self.events.mark()
            if self._fields(fields, _MEDIA_DEPTH):
                raise self.events.fault("the key 'Media' stands twice")

    def _is_empty_case(self, fields: Fields) -> bool:
        return _OF_A_MEDIUM.isdisjoint(fields) and (self.of_cases or "CaseID" in fields)

    def _media_of_case(self) -> Iterator[Record | Rejected | list[Fields]]:
        following, events = self.following, self.events
        yield from events.objects(_CASE_MEDIA_DEPTH, "Media")
        while (event := following())[0] != "end_array":
            events.record = self.number + 1
            events.mark()
            if event[0] != "start_map":
                yield self._no_object(event[0], _CASE_MEDIA_DEPTH)
                continue
            fields: Fields = {}
            if self._fields(fields, _CASE_MEDIA_DEPTH):
                raise events.fault("a medium holds a list named 'Media'")
            yield self.finish(fields)

    def finish(self, fields: Fields) -> Record | Rejected:
        """Return the record of the next medium."""
        self.number += 1
        return self.media.record(self.number, fields)

    def _no_object(self, kind: str, depth: int) -> Rejected:
        if kind in ("start_map", "start_array"):
            self.events.skip(depth)
        self.number += 1
        return Rejected(self.number, "not an object")

    def _fields(self, fields: Fields, depth: int) -> bool:
        """Read the fields of an object at ``depth`` until it ends (False) or ``Media`` opens."""
        following = self.following
        for _ in range(JSON_FIELDS):
            kind, key = following()
            if kind == "end_map":
                return False
            if key in fields:
                self._once(key, fields)
            kind, value = following()
            if value is None and kind != "null":
                if key == "AlternativeHashes" and kind == "start_array":
                    value = self._alternatives(depth + 1)
                elif key == "Series" and kind == "start_map":
                    value = self._object(depth + 1).get("Name")
                elif key == "Media" and kind == "start_array":
                    fields[key] = SKIPPED
                    return True
                else:
                    self.events.skip(depth + 1)
                    value = SKIPPED
            fields[key] = value
        raise self.events.fault(f"an object has more than {JSON_FIELDS} fields")

    def _object(self, depth: int) -> Fields:
        """Read a small object; containers in it are passed over."""
        fields: Fields = {}
        following = self.following
        for _ in range(JSON_FIELDS):
            kind, key = following()
            if kind == "end_map":
                return fields
            if key in fields:
                self._once(key, fields)
            kind, value = following()
            if value is None and kind != "null":
                self.events.skip(depth + 1)
                value = SKIPPED
            fields[key] = value
        raise self.events.fault(f"an object has more than {JSON_FIELDS} fields")

    def _alternatives(self, depth: int) -> list[Fields]:
        entries: list[Fields] = []
        while (event := self.following())[0] != "end_array":
            if event[0] == "start_map":
                entry = self._object(depth + 1)
                if len(entries) < ALTERNATIVE_HASHES:
                    entries.append(entry)
            elif event[0] == "start_array":
                self.events.skip(depth + 1)
        return entries
