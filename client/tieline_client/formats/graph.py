"""A JSON-LD document as a flow of nodes, each with the few properties that Tieline reads.

An array of nodes, or an object with a context and then ``@graph``. What a container (a Grouping, a
Bundle) lists comes as nodes of its own, each with what it stands ``within``. Ordinary nodes come as
whole objects (json_events.py). One that is larger is read event by event, its list element by
element, so that a container may list millions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tieline_client.formats.case_terms import iri
from tieline_client.formats.fields import shown
from tieline_client.formats.graph_names import Names, UnreadContext
from tieline_client.formats.json_events import Event, Fields, JsonEvents
from tieline_client.limits import GRAPH_NODE_VALUES, GRAPH_TERMS, JSON_DEPTH, JSON_FIELDS

MEMBERS = "uco-core:object"
_WANTED = {
    iri(name): name
    for name in (
        *("uco-core:name", "uco-core:context", MEMBERS, "uco-core:hasFacet", "uco-core:tag"),
        *("uco-core:modifiedTime", "uco-core:objectMarking", "uco-core:externalReference"),
        *("uco-core:definingContext", "uco-core:externalIdentifier"),
        *("uco-marking:definition", "uco-marking:statement"),
        *("uco-observable:hash", "uco-observable:sizeInBytes", "uco-observable:mimeType"),
        *("uco-types:hashMethod", "uco-types:hashValue"),
    )
} | {"@id": "@id", "@type": "@type"}
_UNREAD = frozenset({"@reverse", "@included", "@nest", "@graph"})
_CONTEXT, _GRAPH = "@context", "@graph"

Properties = dict[str, list[Any]]
"""Values of a node's properties, which go by their usual short names."""


@dataclass(slots=True)
class Node:
    """``within`` is the `key` of what lists it, or empty; ``id`` is its whole name, or empty.

    ``key`` is that of its name; one without a name gets one of its own as it flows by. What stands
    inside of another has none.
    """

    id: str
    types: tuple[str, ...]
    properties: Properties
    key: bytes
    within: bytes = b""


def key(name: str) -> bytes:
    """Return what a node goes by while a file is read: 16 bytes."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Graph:
    """The nodes of one document, read once.

    ``aliases`` are keys under which nodes within a container came before its name was known, each
    with the key of that name.
    """

    def __init__(self, chunks: Iterable[bytes], name: str) -> None:
        self.events = JsonEvents(chunks, name)
        self.aliases: list[tuple[bytes, bytes]] = []
        self._names = Names()
        self._known: dict[str, str | None] = {}
        self._count = 0

    def nodes(self) -> Iterator[Node]:
        """Yield the nodes. Raises FormatError for what is no such document, or is not read."""
        events = self.events
        kind, _ = events.next()
        if kind == "start_array":
            yield from self._array(1)
        elif kind == "start_map":
            yield from self._document()
        else:
            raise events.fault("not CASE: the JSON is neither an object nor a list of nodes")
        events.finish()

    def _document(self) -> Iterator[Node]:
        events, seen = self.events, set[str]()
        for _ in range(JSON_FIELDS):
            events.mark()
            kind, name = events.next()
            if kind == "end_map":
                break
            if name in seen:
                raise events.fault(f"the key {shown(name)} stands twice")
            seen.add(name)
            event = events.next()
            if name == _CONTEXT:
                if _GRAPH in seen:
                    raise events.fault("the @context stands after the @graph; put it first")
                value = _whole(events, event, 2, _Room(events, 8 * GRAPH_TERMS), GRAPH_TERMS)
                self._take_context(value)
            elif name == _GRAPH:
                if event[0] != "start_array":
                    raise events.fault("not CASE: '@graph' is not a list")
                yield from self._array(2)
            elif event[0] in ("start_map", "start_array"):
                events.skip(2)
        else:
            raise events.fault(f"more than {JSON_FIELDS} fields")
        if _GRAPH not in seen:
            raise events.fault("not CASE: there is no list named '@graph'")

    def _take_context(self, value: Any) -> None:
        try:
            self._known.clear()
            self._names.take(value)
        except UnreadContext as error:
            raise self.events.fault(str(error)) from None

    def _array(self, depth: int) -> Iterator[Node]:
        """Read the nodes of the array just opened, itself at nesting ``depth``."""
        events = self.events
        for found in events.objects(depth + 1, _CONTEXT):
            for fields in found:
                yield from self._small(fields)
        while (event := events.next())[0] != "end_array":
            events.mark()
            if event[0] == "start_map":
                yield from self._large(depth + 1)
            elif event[0] == "start_array":
                events.skip(depth + 1)

    def _small(self, fields: Fields, within: bytes = b"") -> Iterator[Node]:
        """Yield a node that came whole, and what it lists."""
        node = self.node(fields, within)
        node.key = self._key(node.id)
        members = node.properties.pop(MEMBERS, [])
        yield node
        for value in members:
            yield from self._member(value, node.key)

    def _member(self, value: Any, container: bytes) -> Iterator[Node]:
        if isinstance(value, dict):
            yield from self._small(value, container)
        elif isinstance(value, str):
            name = self._names.node(value)
            yield Node(name, (), {}, self._key(name), container)

    def _key(self, name: str) -> bytes:
        """Return a node's key: without a name one of its own, the same whenever a file is read."""
        if name:
            return key(name)
        self._count += 1
        return key(f"\0{self._count}")

    def _large(self, depth: int) -> Iterator[Node]:
        """Read the node just opened, at nesting ``depth``, what it lists one by one."""
        events = self.events
        fields: Fields = {}
        room = _Room(events, GRAPH_NODE_VALUES)
        container = b""
        while (event := events.next())[0] != "end_map":
            name = event[1]
            if name in fields:
                raise events.fault(f"the key {shown(name)} stands twice")
            room.take()
            event, short = events.next(), self._short(name)
            if event[0] == "start_array" and short == MEMBERS:
                fields[name] = None
                container = container or self._key(self.node(fields).id)
                while (event := events.next())[0] != "end_array":
                    events.mark()
                    inner = _Room(events, GRAPH_NODE_VALUES)
                    value = _whole(events, event, depth + 2, inner)
                    yield from self._member(value, container)
                events.mark()
            elif short is None and event[0] in ("start_array", "start_map"):
                fields[name] = None
                events.skip(depth + 1)
            else:
                fields[name] = _whole(events, event, depth + 1, room)
        node = self.node(fields)
        node.key = key(node.id) if node.id else container or self._key("")
        for value in node.properties.pop(MEMBERS, ()):
            yield from self._member(value, container or node.key)
        if container and container != node.key:
            self.aliases.append((container, node.key))
        yield node

    def _short(self, name: str) -> str | None:
        """Return the short name of a property that is read, None for any other."""
        if name in self._known:
            return self._known[name]
        whole = self._names.whole(name)
        if whole == _CONTEXT:
            raise self.events.fault("a node has a @context of its own, which is not read")
        if whole in _UNREAD:
            raise self.events.fault(f"a node says {whole}, which is not read")
        short = _WANTED.get(whole)
        if len(self._known) < GRAPH_TERMS:
            self._known[name] = short
        return short

    def node(self, fields: Fields, within: bytes = b"") -> Node:
        """Return an object as a node."""
        found: Properties = {}
        for name, value in fields.items():
            short = self._short(name)
            if short is not None:
                found.setdefault(short, []).extend(_values(value))
        types = tuple(
            self._names.whole(each) for each in found.pop("@type", ()) if isinstance(each, str)
        )
        name = self._names.node(_text(found.pop("@id", [""])))
        return Node(name, types, found, b"", within)

    def is_told(self, value: Any) -> bool:
        """Whether a value says more of a node than its name."""
        return isinstance(value, dict) and any(self._names.whole(name) != "@id" for name in value)

    def reference(self, value: Any) -> str:
        """Return the name of the node that a value stands for, "" when there is none."""
        if isinstance(value, str):
            return self._names.node(value)
        return self.node(value).id if isinstance(value, dict) else ""


class _Room:
    """So many values may still come."""

    def __init__(self, events: JsonEvents, most: int) -> None:
        self._events, self._most, self._left = events, most, most

    def take(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise self._events.fault(f"a node of the graph has more than {self._most} values")


def _whole(
    events: JsonEvents, event: Event, depth: int, room: _Room, most: int = JSON_FIELDS
) -> Any:
    """Return the value that an event begins, containers at nesting ``depth``."""
    kind, value = event
    room.take()
    if kind not in ("start_map", "start_array"):
        return value
    if depth > JSON_DEPTH:
        raise events.fault(f"nested more than {JSON_DEPTH} deep")
    if kind == "start_array":
        items = []
        while (event := events.next())[0] != "end_array":
            items.append(_whole(events, event, depth + 1, room))
        return items
    fields: Fields = {}
    while (event := events.next())[0] != "end_map":
        if event[1] in fields:
            raise events.fault(f"the key {shown(event[1])} stands twice")
        if len(fields) >= most:
            raise events.fault(f"an object has more than {most} fields")
        fields[event[1]] = _whole(events, events.next(), depth + 1, room)
    return fields


def _values(value: Any) -> list[Any]:
    """Return the values of a property: JSON-LD makes no difference between one and a list of it."""
    if isinstance(value, dict) and len(value) == 1:
        value = value.get("@list", value.get("@set", value))
    listed = value if isinstance(value, list) else [value]
    return [each for each in listed if each is not None]


def _text(value: Any) -> str:
    if isinstance(value, list):
        value = value[0] if value else ""
    return value if isinstance(value, str) else ""


def literal(value: Any) -> Any:
    """Return the value of a literal; None for what is none."""
    if isinstance(value, dict):
        value = value.get("@value")
    return None if isinstance(value, dict | list) else value
