"""CASE / UCO JSON-LD: observables of which content hashes are known, in the series that list them.

The file flows through twice. First what may stand anywhere is kept aside (case_aside.py): which
Grouping lists what, and the facets, hashes, references and markings that stand apart, as tools
write that flatten a graph. Then every observable with a ContentDataFacet becomes a record, in its
place. UCO 1.x; terms are told by their whole names, whatever prefixes the file has for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tieline_client.errors import FormatError
from tieline_client.formats.case_aside import Aside
from tieline_client.formats.case_terms import (
    BELONGS_TAG,
    CATEGORY_TAG,
    COUNT_TAGS,
    FLAG_TAGS,
    NO_MARKING,
    QUALITY_TAG,
    SERIES_CONTEXT,
    UCO,
    iri,
    read_vote_tag,
)
from tieline_client.formats.fields import (
    BadRecord,
    check_identified,
    read_count,
    read_digest,
    read_flag,
    read_photodna,
    read_quality,
    read_text,
    set_updated,
    shown,
)
from tieline_client.formats.graph import Graph, Node, literal
from tieline_client.formats.record import Record, Rejected, Vote
from tieline_client.formats.vics_media import ALTERNATIVES, hash_name
from tieline_client.limits import (
    ALTERNATIVE_HASHES,
    CODE_CHARS,
    REFERENCE_CHARS,
    REFERENCES_PER_RECORD,
    VOTES_PER_RECORD,
)

_GROUPING, _CONTENT = iri("uco-core:Grouping"), iri("uco-observable:ContentDataFacet")
_PARTS = frozenset(
    {
        *("uco-observable:hash", "uco-observable:sizeInBytes", "uco-observable:mimeType"),
        *("uco-types:hashValue", "uco-core:externalIdentifier"),
        *("uco-marking:definition", "uco-marking:statement"),
    }
)
"""Who says one of these may be referred to by an observable or a series."""


def read_case(
    first_look: Iterable[bytes], chunks: Iterable[bytes], name: str
) -> Iterator[Record | Rejected]:
    """Yield the observables of a CASE file, whose chunks of UTF-8 are given twice.

    Raises FormatError when the document is broken, truncated, nested too deep, repeats a key, has
    a context at an address or one that says more than names, or nothing of UCO in it.
    """
    with Aside(name) as aside:
        if not _keep(Graph(first_look, name), aside):
            raise FormatError(name, None, f"not CASE: nothing in it is of UCO 1 ({UCO}...)")
        yield from _Reader(Graph(chunks, name), aside).records()


def _keep(graph: Graph, aside: Aside) -> bool:
    """Keep aside what may be needed before it comes; whether of all that stands any is of UCO."""
    of_uco: bool | None = None
    count = 0
    for node in graph.nodes():
        graph.events.record = count + 1
        of_uco = bool(of_uco) or _is_of_uco(node)
        if "uco-core:hasFacet" in node.properties:
            count += 1
        if node.within:
            aside.member(node.key, node.within)
        if _GROUPING in node.types:
            _keep_series(node, aside)
        apart = any(each.endswith("Facet") for each in node.types)
        if node.id and (apart or not _PARTS.isdisjoint(node.properties)):
            aside.part(node)
    aside.aliases(graph.aliases)
    return of_uco is not False


def _is_of_uco(node: Node) -> bool:
    return bool(node.properties) or any(each.startswith(UCO) for each in node.types)


def _keep_series(node: Node, aside: Aside) -> None:
    contexts = [literal(each) for each in node.properties.get("uco-core:context", ())]
    if contexts and SERIES_CONTEXT not in contexts:
        return
    names = [literal(each) for each in node.properties.get("uco-core:name", ())]
    named = next((each for each in names if isinstance(each, str)), None)
    if named is not None:
        aside.series(node, named)


class _Reader:
    """Makes records of one graph."""

    def __init__(self, graph: Graph, aside: Aside) -> None:
        self._graph, self._aside = graph, aside
        self._number = 0

    def records(self) -> Iterator[Record | Rejected]:
        for node in self._graph.nodes():
            self._graph.events.record = self._number + 1
            if "uco-core:hasFacet" not in node.properties:
                continue
            facets, missing = self._told(node.properties["uco-core:hasFacet"])
            content = [one for one in facets if _is_content(one)]
            if not content and not missing:
                continue
            self._number += 1
            try:
                if not content:
                    raise BadRecord(f"its facet {shown(missing)} stands nowhere in the file")
                if node.id and not self._aside.is_new_item(node.key):
                    raise BadRecord(f"its @id {shown(node.id)} stood in an earlier record")
                yield self._record(node, content)
            except BadRecord as error:
                yield Rejected(self._number, error.message)

    def _told(self, values: Iterable[Any]) -> tuple[list[Node], str]:
        """Return the nodes that values are or refer to, and the name of one that is not there."""
        found: list[Node] = []
        missing = ""
        for value in values:
            if self._graph.is_told(value):
                found.append(self._graph.node(value))
                continue
            name = self._graph.reference(value)
            node = self._aside.find(name) if name else None
            if node is not None:
                found.append(node)
            else:
                missing = missing or name
        return found, missing

    def _record(self, node: Node, content: list[Node]) -> Record:
        notes: list[str] = []
        record = Record(self._number)
        for facet in content:
            get = facet.properties.get
            hashes, _ = self._told(get("uco-observable:hash", ())[:ALTERNATIVE_HASHES])
            for one in hashes:
                _take_hash(record, one, notes)
            if record.size is None:
                size = _only(get("uco-observable:sizeInBytes", ()), "sizeInBytes", notes)
                record.size = read_count(size, "sizeInBytes", notes)
            if record.media_type is None:
                said = _only(get("uco-observable:mimeType", ()), "mimeType", notes)
                record.media_type = read_text(said, "mimeType")
        changed = _only(node.properties.get("uco-core:modifiedTime", ()), "modifiedTime", notes)
        set_updated(record, changed, "modifiedTime", notes)
        _take_tags(record, map(literal, node.properties.get("uco-core:tag", ())), notes)
        references = node.properties.get("uco-core:externalReference", ())
        self._take_references(record, references, notes)
        self._take_series(record, node, notes)
        check_identified(record)
        record.notes = tuple(dict.fromkeys(notes))
        return record

    def _take_references(self, record: Record, values: Iterable[Any], notes: list[str]) -> None:
        found, _ = self._told(values)
        references = dict.fromkeys(record.references)
        for one in found:
            get = one.properties.get
            context = _only(get("uco-core:definingContext", ()), "definingContext", notes)
            number = _only(get("uco-core:externalIdentifier", ()), "externalIdentifier", notes)
            scheme = read_text(context, "definingContext", CODE_CHARS)
            value = read_text(number, "externalIdentifier", REFERENCE_CHARS)
            if scheme is None or value is None:
                notes.append("an external reference without context or identifier; set aside")
            elif len(references) < REFERENCES_PER_RECORD or (scheme, value) in references:
                references[scheme, value] = None
            else:
                notes.append(f"more than {REFERENCES_PER_RECORD} external references; set aside")
                break
        record.references = tuple(references)

    def _take_series(self, record: Record, node: Node, notes: list[str]) -> None:
        """Take the name of the series, and of what is known of it as much as a record can carry."""
        found = self._aside.series_of(node.key)
        if found is None:
            return
        record.series = read_text(found.name, "the series' name")
        if found.more:
            notes.append("it is in more than one series; put into one of them")
        room = REFERENCES_PER_RECORD - len(record.references)
        references, marks, first = self._aside.untold(found.key, room)
        self._take_references(record, references, notes)
        if first:
            markings, _ = self._told(marks)
            inner = (each.properties.get("uco-marking:definition", ()) for each in markings)
            for one in [*markings, *(each for values in inner for each in self._told(values)[0])]:
                said = one.properties.get("uco-marking:statement", ())
                text = next((each for each in map(literal, said) if isinstance(each, str)), None)
                if text and text != NO_MARKING:
                    notes.append(f"its series is marked {shown(text)}; state it with --handling")


def _is_content(facet: Node) -> bool:
    return _CONTENT in facet.types or "uco-observable:hash" in facet.properties


def _only(values: Iterable[Any], name: str, notes: list[str]) -> Any:
    """Return the value of a property that has one; a second, different one is noted."""
    found = [each for each in map(literal, values) if each is not None]
    if any(each != found[0] for each in found[1:]):
        notes.append(f"a second {name}; set aside")
    return found[0] if found else None


def _take_hash(record: Record, node: Node, notes: list[str]) -> None:
    get = node.properties.get
    method = _only(get("uco-types:hashMethod", ()), "hashMethod", notes)
    if not isinstance(method, str):
        return
    name = hash_name(method)
    value = _only(get("uco-types:hashValue", ()), "hashValue", notes)
    kind = ALTERNATIVES.get(name)
    if kind is None and name != "photodna":
        return
    if kind is None:
        digest, label = read_photodna(value, notes), "photodna"
    else:
        digest, label = read_digest(kind, value), kind.label
    if digest is None:
        return
    stated = getattr(record, label)
    if stated is None:
        setattr(record, label, digest)
    elif stated != digest:
        notes.append(f"a second {label} hash; set aside")


def _take_tags(record: Record, tags: Iterable[Any], notes: list[str]) -> None:
    votes: list[Vote] = []
    belongs, quality = False, None
    for tag in tags:
        if not isinstance(tag, str):
            continue
        name, equals, text = tag.partition("=")
        if not equals:
            continue
        if tag == BELONGS_TAG:
            belongs = True
        elif name == CATEGORY_TAG:
            vote = read_vote_tag(text)
            if vote is not None and vote not in votes:
                votes.append(vote)
                if len(votes) > VOTES_PER_RECORD:
                    raise BadRecord(f"more than {VOTES_PER_RECORD} categories")
        elif name in FLAG_TAGS:
            _state(record, FLAG_TAGS[name], read_flag(text, name, notes), notes)
        elif name in COUNT_TAGS:
            _state(record, COUNT_TAGS[name], read_count(text, name, notes), notes)
        elif name == QUALITY_TAG:
            quality = read_quality(text)
    record.votes = tuple(votes)
    record.entire = belongs and not votes
    if record.pdq is not None:
        record.pdq_quality = quality


def _state(record: Record, field: str, value: object, notes: list[str]) -> None:
    stated = getattr(record, field)
    if value is None:
        return
    if stated is None:
        setattr(record, field, value)
    elif stated != value:
        notes.append(f"tags say two things of {field.replace('_', ' ')}; the first counts")
