"""CASE JSON-LD: valid by the ontology's own validator, and nothing is lost on the way."""

from __future__ import annotations

import copy
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from case_utils.case_validate import validate
from hypothesis import Phase, given, settings
from rdflib import Graph, Literal, URIRef
from rdflib.namespace import RDF
from rdflib.term import Node
from tieline_client.formats import Record, Vote
from tieline_client.formats.case_terms import BELONGS_TAG, CONTEXT
from tieline_client.formats.outgoing_case import CaseWriter

from tests.formats.test_outgoing import FACTS, records_of_all_kinds

FULL = Record(
    1,
    md5=b"\x01" * 16,
    sha1=b"\x02" * 20,
    sha256=b"\x03" * 32,
    pdq=b"\x04" * 32,
    pdq_quality=77,
    photodna=b"\x05" * 144,
    size=2**53 + 1,
    media_type="image/jpeg",
    votes=(Vote("vics-us", "1"), Vote("vics-uk", "2")),
    references=(("icse", "12"),),
    victim_identified=True,
    offender_identified=False,
    distributed=True,
    submissions=3,
    baseline=True,
    updated=datetime(2020, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
)


def _written(records: list[Record]) -> tuple[bytes, CaseWriter]:
    stream = io.BytesIO()
    writer = CaseWriter(stream)
    writer.series(replace(FACTS, references=(("icse", "1"), ("siena", "2")), marking="H0"))
    for one in records:
        writer.add(copy.copy(one))
    writer.finish()
    return stream.getvalue(), writer


def _is_valid(content: bytes, path: Path) -> bool:
    path.write_bytes(content)
    result = validate(str(path), allow_infos=True, allow_warnings=True)
    assert not result.undefined_concepts
    return bool(result.conforms)


def test_the_validator_of_the_ontology_agrees_and_sees_what_is_wrong(tmp_path: Path) -> None:
    content, _ = _written([FULL, Record(2, md5=b"\x09" * 16)])
    assert _is_valid(content, tmp_path / "good.jsonld")
    broken = json.loads(content)
    for node in broken["@graph"]:
        if "uco-core:hasFacet" in node:
            node["uco-core:hasFacet"]["uco-observable:sizeInBytes"] = "large"
    assert not _is_valid(json.dumps(broken).encode(), tmp_path / "bad.jsonld")


def _term(name: str) -> URIRef:
    space, _, local = name.partition(":")
    return URIRef(CONTEXT[space] + local)


def _value(node: Node | None) -> Any:
    assert isinstance(node, Literal)
    return node.toPython()


def _read(content: bytes) -> list[Record]:
    """Read a graph back as any tool would: by its statements, not by its text."""
    graph = Graph().parse(data=content, format="json-ld")
    found = []
    (series,) = graph.subjects(RDF.type, _term("uco-core:Grouping"))
    items = set(graph.objects(series, _term("uco-core:object")))
    assert items == set(graph.subjects(RDF.type, _term("uco-observable:ObservableObject")))
    for item in items:
        (facet,) = graph.objects(item, _term("uco-core:hasFacet"))
        stated: dict[str, Any] = {}
        for one in graph.objects(facet, _term("uco-observable:hash")):
            method = str(graph.value(one, _term("uco-types:hashMethod"))).lower()
            value = graph.value(one, _term("uco-types:hashValue"))
            stated[method] = _value(value)
        size = graph.value(facet, _term("uco-observable:sizeInBytes"))
        media_type = graph.value(facet, _term("uco-observable:mimeType"))
        updated = graph.value(item, _term("uco-core:modifiedTime"))
        record = Record(
            0,
            **stated,
            size=None if size is None else _value(size),
            media_type=None if media_type is None else str(media_type),
            updated=None if updated is None else _value(updated),
        )
        for tag in map(str, graph.objects(item, _term("uco-core:tag"))):
            name, _, value_text = tag.partition("=")
            if tag == BELONGS_TAG:
                record.entire = True
            elif name == "category":
                scheme, _, code = value_text.rpartition(":")
                record.votes = (*record.votes, Vote(scheme, code))
            else:
                value_of = {"true": True, "false": False}
                field = name.replace("-", "_")
                setattr(
                    record,
                    field,
                    value_of[value_text] if value_text in value_of else int(value_text),
                )
        for one in graph.objects(item, _term("uco-core:externalReference")):
            scheme = str(graph.value(one, _term("uco-core:definingContext")))
            value_text = str(graph.value(one, _term("uco-core:externalIdentifier")))
            record.references = (*record.references, (scheme, value_text))
        found.append(record)
    return found


def _comparable(record: Record) -> str:
    belongs = not record.votes
    votes = tuple(sorted(record.votes))
    return repr(replace(record, number=0, series=None, votes=votes, entire=belongs))


@settings(max_examples=12, deadline=None, phases=[Phase.generate])
@given(records=records_of_all_kinds())
def test_nothing_is_lost(records: list[Record]) -> None:
    content, writer = _written(records)
    assert not writer.losses
    assert writer.written == len(records)
    assert sorted(map(_comparable, _read(content))) == sorted(map(_comparable, records))


def test_the_same_series_gives_the_same_file() -> None:
    assert _written([FULL])[0] == _written([FULL])[0]
