"""CASE / UCO JSON-LD on its way out: a graph of observables that nothing but hashes is known of.

A series is a ``uco-core:Grouping``; each of its items is an ``ObservableObject`` with a
``ContentDataFacet``. A node may be said in parts, so the grouping names its items as they come and
nothing is kept. What UCO has no property for stands in tags (case_terms.py). Under what it may be
used is a marking that series and items carry. What reads it back is case.py.
"""

from __future__ import annotations

import json
import uuid
from typing import Any, BinaryIO

from tieline_client.formats.case_terms import (
    BELONGS_TAG,
    CONTEXT,
    COUNT_TAGS,
    FLAG_TAGS,
    HASHES,
    NO_MARKING,
    QUALITY_TAG,
    SERIES_CONTEXT,
    holds_vote,
    vote_tag,
)
from tieline_client.formats.outgoing import BELONGING, DESCRIBING, SeriesFacts, Writer
from tieline_client.formats.record import Record, Vote

_NAMES = uuid.UUID("5b0c4f0e-2a1c-5d0b-9c6c-4a3f7f0f9d21")
"""Namespace of the graph's names: the same series gives the same names each time."""
_TAGGED = (*FLAG_TAGS.items(), *COUNT_TAGS.items(), (QUALITY_TAG, "pdq_quality"))
_INT64_MOST = 2**63 - 1


class CaseWriter(Writer):
    """Holds everything that a record states."""

    holds = frozenset(DESCRIBING)
    holds_series = True

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self._nodes = 0
        self._series = ""
        self._marking = ""
        self._put(f'{{"@context":{json.dumps(CONTEXT)},\n"@graph":[')

    def finish(self) -> None:
        """Close the graph."""
        self._put("]}\n")

    def _begin(self, facts: SeriesFacts) -> None:
        self._series = _name(facts.id)
        self._marking = _name(facts.id, "marking")
        self._node(
            {
                "@id": self._marking,
                "@type": "uco-marking:MarkingDefinition",
                "uco-marking:definitionType": "statement",
                "uco-marking:definition": {
                    "@id": _name(facts.id, "statement"),
                    "@type": "uco-marking:StatementMarking",
                    "uco-marking:definitionType": "statement",
                    "uco-marking:statement": facts.marking or NO_MARKING,
                },
            }
        )
        provider = {
            "@id": _name("agency", facts.organisation),
            "@type": "uco-identity:Organization",
            "uco-core:name": facts.organisation or "unknown",
        }
        self._node(provider)
        said = {
            "Contact": " ".join(
                part
                for part in (facts.contact_name, facts.contact_email, facts.contact_phone)
                if part
            ),
            "Case": facts.case_ref,
        }
        properties = [*facts.properties, *((name, text) for name, text in said.items() if text)]
        node: dict[str, Any] = {
            "@id": self._series,
            "@type": "uco-core:Grouping",
            "uco-core:name": facts.name or facts.id,
            "uco-core:context": SERIES_CONTEXT,
            "uco-core:createdBy": {"@id": provider["@id"]},
            "uco-core:objectMarking": {"@id": self._marking},
            "uco-core:description": [f"{name}: {value}" for name, value in properties],
        }
        if facts.references:
            node["uco-core:externalReference"] = [
                {
                    "@id": _name(facts.id, "reference", scheme, value),
                    "@type": "uco-core:ExternalReference",
                    "uco-core:definingContext": scheme,
                    "uco-core:externalIdentifier": value,
                }
                for scheme, value in facts.references
            ]
        self._node({name: value for name, value in node.items() if value != []})

    def _holds(self, record: Record) -> bool:
        return True

    def _lost_votes(self, record: Record) -> list[Vote]:
        return [vote for vote in record.votes if not holds_vote(vote)]

    def _write(self, record: Record) -> None:
        item = _name(self._series, str(self.written))
        facet: dict[str, Any] = {
            "@id": _name(item, "content"),
            "@type": "uco-observable:ContentDataFacet",
            "uco-observable:hash": [
                _hash(item, method, value)
                for method, field in HASHES
                if (value := getattr(record, field)) is not None
            ],
        }
        if record.size is not None and record.size > _INT64_MOST:
            self.losses["size"] += 1
        elif record.size is not None:
            facet["uco-observable:sizeInBytes"] = {
                "@type": "xsd:integer",
                "@value": str(record.size),
            }
        if record.media_type:
            facet["uco-observable:mimeType"] = record.media_type
        tags = [vote_tag(vote) for vote in record.votes if holds_vote(vote)]
        if not record.votes:
            tags.append(BELONGS_TAG)
        elif not tags:
            self.losses[BELONGING] += 1
        for tag, field in _TAGGED:
            value = getattr(record, field)
            if value is not None:
                tags.append(f"{tag}={str(value).lower()}")
        node: dict[str, Any] = {
            "@id": item,
            "@type": "uco-observable:ObservableObject",
            "uco-core:hasFacet": facet,
            "uco-core:objectMarking": {"@id": self._marking},
        }
        if tags:
            node["uco-core:tag"] = tags
        if record.updated is not None:
            node["uco-core:modifiedTime"] = {
                "@type": "xsd:dateTime",
                "@value": record.updated.isoformat(),
            }
        if record.references:
            node["uco-core:externalReference"] = [
                {
                    "@id": _name(item, "reference", scheme, value),
                    "@type": "uco-core:ExternalReference",
                    "uco-core:definingContext": scheme,
                    "uco-core:externalIdentifier": value,
                }
                for scheme, value in record.references
            ]
        self._node(node)
        self._node({"@id": self._series, "uco-core:object": {"@id": item}})

    def _node(self, node: dict[str, Any]) -> None:
        self._put(",\n" if self._nodes else "\n")
        self._put(json.dumps(node))
        self._nodes += 1

    def _put(self, text: str) -> None:
        self._stream.write(text.encode())


def _hash(item: str, method: str, value: bytes) -> dict[str, Any]:
    return {
        "@id": _name(item, method),
        "@type": "uco-types:Hash",
        "uco-types:hashMethod": method,
        "uco-types:hashValue": {"@type": "xsd:hexBinary", "@value": value.hex()},
    }


def _name(*parts: str) -> str:
    """Return a name that follows from its parts."""
    return f"urn:uuid:{uuid.uuid5(_NAMES, json.dumps(parts))}"
