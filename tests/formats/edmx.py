"""Holds JSON against an OData schema (EDMX): entity shapes, types and their ranges, nullability.

Everything is read from the schema itself; nothing here knows VICS.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from defusedxml import ElementTree

SCHEMA = Path(__file__).parent / "data" / "vics-2.0.edmx.xml"
"""VICS 2.0 as its makers publish it (VICSDATAMODEL/ProjectVic on GitHub)."""

_EDM = "{http://docs.oasis-open.org/odata/ns/edm}"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,12})?)?(Z|[+-]\d\d:\d\d)")
_WHOLE = {
    "Edm.Byte": (0, 255),
    "Edm.Int32": (-(2**31), 2**31 - 1),
    "Edm.Int64": (-(2**63), 2**63 - 1),
}


@dataclass
class Entity:
    """``properties`` by name: type and whether it may be null; ``links``: type, whether many."""

    name: str
    keys: set[str] = field(default_factory=set)
    properties: dict[str, tuple[str, bool]] = field(default_factory=dict)
    links: dict[str, tuple[str, bool]] = field(default_factory=dict)


class Schema:
    """The entity types and sets of one EDMX file."""

    def __init__(self, path: Path = SCHEMA) -> None:
        root = ElementTree.parse(path).getroot()
        assert root is not None
        (schema,) = root.iter(f"{_EDM}Schema")
        space = schema.attrib["Namespace"]
        self.types = {
            f"{space}.{one.attrib['Name']}": _entity(one)
            for one in schema.iter(f"{_EDM}EntityType")
        }
        self.sets = {
            one.attrib["Name"]: one.attrib["EntityType"] for one in schema.iter(f"{_EDM}EntitySet")
        }

    def faults(self, document: Any) -> list[str]:
        """Return what is wrong with a document whose context names an entity set."""
        if not isinstance(document, dict):
            return ["not an object"]
        context = document.get("@odata.context")
        name = context.rpartition("#")[2] if isinstance(context, str) else ""
        if name not in self.sets:
            return [f"the context {context!r} names no entity set"]
        value = document.get("value")
        if not isinstance(value, list) or document.keys() != {"@odata.context", "value"}:
            return ["a list of entities is @odata.context and value"]
        kind = self.sets[name]
        return [
            fault for at, one in enumerate(value) for fault in self._entity(one, kind, f"[{at}]")
        ]

    def _entity(self, value: Any, kind: str, where: str) -> Iterator[str]:
        entity = self.types[kind]
        if not isinstance(value, dict):
            yield f"{where}: not an object"
            return
        for name in value.keys() - entity.properties.keys() - entity.links.keys():
            yield f"{where}.{name}: {entity.name} has no such property"
        for name, (edm, nullable) in entity.properties.items():
            required = not nullable or name in entity.keys
            if name not in value or value[name] is None:
                if required:
                    yield f"{where}.{name}: must be stated"
            elif not _is(value[name], edm):
                yield f"{where}.{name}: {value[name]!r} is no {edm}"
        for name, (target, many) in entity.links.items():
            if name not in value:
                continue
            linked = value[name] if many else [value[name]]
            if not isinstance(linked, list):
                yield f"{where}.{name}: not a list"
                continue
            for at, one in enumerate(linked):
                yield from self._entity(one, target, f"{where}.{name}[{at}]")


def _entity(element: Element) -> Entity:
    entity = Entity(element.attrib["Name"])
    entity.keys = {one.attrib["Name"] for one in element.iter(f"{_EDM}PropertyRef")}
    for one in element.findall(f"{_EDM}Property"):
        nullable = one.attrib.get("Nullable", "true") == "true"
        entity.properties[one.attrib["Name"]] = (one.attrib["Type"], nullable)
    for one in element.findall(f"{_EDM}NavigationProperty"):
        target = one.attrib["Type"]
        many = target.startswith("Collection(")
        entity.links[one.attrib["Name"]] = (
            target.removeprefix("Collection(").removesuffix(")"),
            many,
        )
    return entity


def _is(value: Any, edm: str) -> bool:
    if edm in _WHOLE:
        least, most = _WHOLE[edm]
        return type(value) is int and least <= value <= most
    if edm == "Edm.Boolean":
        return type(value) is bool
    if not isinstance(value, str):
        return False
    if edm == "Edm.Guid":
        return _parses(uuid.UUID, value) and len(value) == 36
    if edm == "Edm.DateTimeOffset":
        return bool(_TIME.fullmatch(value)) and _parses(datetime.fromisoformat, value)
    assert edm == "Edm.String", edm
    return True


def _parses(parse: Any, text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True
