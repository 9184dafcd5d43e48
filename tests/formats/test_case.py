"""CASE JSON-LD as others write it, and as nobody should: what is read, and what is refused."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rdflib import Graph
from tieline_client.errors import FormatError
from tieline_client.formats import FileFormat, Record, Rejected, Vote, detect, json_events
from tieline_client.formats import graph as graph_module
from tieline_client.formats.case_terms import CONTEXT, UCO
from tieline_client.formats.outgoing import BELONGING

from tests.formats.conftest import Read
from tests.formats.test_formats_memory import GROWTH_MB, Measure, grown
from tests.formats.test_outgoing_case import FULL, _written

MD5 = "0123456789abcdef0123456789abcdef"
SHA1 = MD5 + "01234567"
__all__ = ["grown"]


def _hash(method: str = "MD5", value: str = MD5) -> dict[str, Any]:
    return {
        "@type": "uco-types:Hash",
        "uco-types:hashMethod": {"@type": "uco-vocabulary:HashNameVocab", "@value": method},
        "uco-types:hashValue": {"@type": "xsd:hexBinary", "@value": value},
    }


def _item(name: str, *hashes: dict[str, Any], **more: Any) -> dict[str, Any]:
    facet = {"@type": "uco-observable:ContentDataFacet", "uco-observable:hash": list(hashes)}
    return {
        "@id": name,
        "@type": "uco-observable:File",
        "uco-core:hasFacet": [{"@type": "uco-observable:FileFacet"}, facet],
    } | {key.replace("_", ":", 1): value for key, value in more.items()}


def _series(name: str, *items: str, **more: Any) -> dict[str, Any]:
    listed = [{"@id": each} for each in items]
    node = {"@id": f"kb:{name}", "@type": "uco-core:Grouping", "uco-core:name": name}
    return node | {"uco-core:object": listed} | more


def _case(*nodes: Any, context: Any = CONTEXT, **more: Any) -> str:
    return json.dumps({"@context": context, "@graph": list(nodes)} | more)


def _refused(read: Read, content: str | bytes) -> FormatError:
    with pytest.raises(FormatError) as caught:
        read(content, FileFormat.CASE)
    assert caught.value.message.isprintable()
    return caught.value


def test_an_export_is_read_as_any_tool_writes_it_again(tmp_path: Path, read: Read) -> None:
    """Nested or flattened, with prefixes or with whole names: a graph says the same."""
    content, _ = _written([FULL, Record(2, md5=b"\x09" * 16)])
    forms = [content.decode()]
    graph = Graph().parse(data=content, format="json-ld")
    for options in ({}, {"auto_compact": True}, {"indent": 1, "sort_keys": True}):
        forms.append(graph.serialize(format="json-ld", **options))  # type: ignore[arg-type]
    for text in forms:
        path = tmp_path / "form.jsonld"
        path.write_text(text)
        assert detect(path) is FileFormat.CASE
        found = [one for one in read(text) if isinstance(one, Record)]
        (full,) = [one for one in found if one.sha1]
        (bare,) = [one for one in found if not one.sha1]
        for field in ("md5", "sha1", "sha256", "pdq", "pdq_quality", "photodna", "size", "updated"):
            assert getattr(full, field) == getattr(FULL, field), field
        assert set(full.votes) == set(FULL.votes) and full.baseline and full.submissions == 3
        assert (full.victim_identified, full.offender_identified) == (True, False)
        assert {full.series, bare.series} == {"Azul"}
        assert not full.entire and bare.entire
        told = {*full.references, *bare.references}
        assert told == {("icse", "12"), ("icse", "1"), ("siena", "2")}
        assert "marked 'H0'" in str([*full.notes, *bare.notes])


@pytest.mark.parametrize(
    "context",
    [
        {"o": f"{UCO}observable/", "c": f"{UCO}core/", "t": {"@id": f"{UCO}types/"}},
        [{"c": f"{UCO}core/"}, {"o": f"{UCO}observable/", "t": f"{UCO}types/"}, {"@version": 1.1}],
        {"u": UCO, "c": "u:core/", "o": "u:observable/", "t": {"@id": "u:types/"}},
    ],
)
def test_names_are_told_whole_whatever_their_prefix(
    read_one: Callable[..., Record], context: Any
) -> None:
    facet = {
        "@type": "o:ContentDataFacet",
        "o:hash": {"@list": [{"t:hashMethod": "SHA-1", "t:hashValue": SHA1.upper()}]},
    }
    node = {"c:hasFacet": facet, "c:tag": "category=vics-us:1"}
    grouping = {"@id": "kb:g", "@type": ["c:Grouping"], "c:name": "é", "c:object": [node]}
    record = read_one(_case(grouping, context=context))
    assert (record.sha1, record.series) == (bytes.fromhex(SHA1), "é")
    assert record.votes == (Vote("vics-us", "1"),)


def test_terms_and_their_keywords(read_one: Callable[..., Record]) -> None:
    context = {
        "@vocab": f"{UCO}observable/",
        "id": "@id",
        "type": "@type",
        "hasFacet": {"@id": f"{UCO}core/hasFacet", "@type": "@id", "@container": "@set"},
        "method": f"{UCO}types/hashMethod",
        "value": f"{UCO}types/hashValue",
    }
    hashes = [{"method": "MD5", "value": MD5}, {"method": "SSDEEP", "value": "x"}]
    facet = {"id": "kb:f", "type": "ContentDataFacet", "hash": hashes, "mimeType": "image/png"}
    record = read_one(_case({"id": "kb:1", "hasFacet": ["kb:f"]}, facet, context=context))
    assert (record.md5, record.media_type) == (bytes.fromhex(MD5), "image/png")


def test_what_is_not_content_is_no_record(read: Read) -> None:
    device = {"@id": "kb:d", "@type": "uco-observable:Device", "uco-core:hasFacet": [{"@id": "k"}]}
    apart = {"@id": "k", "@type": "uco-observable:DeviceFacet"}
    person = {"@id": "kb:p", "@type": "uco-identity:Person", "uco-core:name": "x"}
    (record,) = read(_case(device, apart, person, _item("kb:1", _hash())))
    assert isinstance(record, Record) and not record.entire


def test_a_container_of_any_size_is_read_where_its_name_comes_last(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node over the window is read event by event; nothing it lists is lost."""
    monkeypatch.setattr(json_events, "JSON_WINDOW_BYTES", 512)
    monkeypatch.setattr(json_events, "JSON_STRING_BYTES", 4_096)
    monkeypatch.setattr(graph_module, "GRAPH_NODE_VALUES", 50)
    count = 300
    items = [_item(f"kb:{n}", _hash(value=f"{n:032x}")) for n in range(count)]
    grouping = {
        "uco-core:object": [{"@id": f"kb:{n}"} for n in range(1, count)] + ["kb:0"],
        "unread": {"a": [1] * 1_000},
        "@type": "uco-core:Grouping",
        "@id": "kb:g",
    }
    named = {"@id": "kb:g", "@type": "uco-core:Grouping", "uco-core:name": "S"}
    for order in ([grouping, *items, named], [named, *items, grouping]):
        found = read(_case(*order))
        assert [one.series for one in found if isinstance(one, Record)] == ["S"] * count
    bundle = {"@type": "uco-core:Bundle", "uco-core:object": [*items, named]}
    found = read(_case(grouping, bundle))
    assert [one.series for one in found if isinstance(one, Record)] == ["S"] * count


def test_series_references_come_with_its_records_as_many_as_each_can_carry(read: Read) -> None:
    references = [
        {"uco-core:definingContext": "icse", "uco-core:externalIdentifier": str(n)}
        for n in range(20)
    ]
    grouping = _series("S", "kb:1", "kb:2", **{"uco-core:externalReference": references})
    found = read(_case(grouping, *(_item(f"kb:{n}", _hash(value=f"{n:032x}")) for n in (1, 2))))
    counts = [len(one.references) for one in found if isinstance(one, Record)]
    assert counts == [16, 4]


@pytest.mark.parametrize("context", ["https://example.org/context.jsonld", ["http://127.0.0.1/"]])
def test_a_context_at_an_address_is_refused_and_nothing_is_fetched(
    read: Read, monkeypatch: pytest.MonkeyPatch, context: Any
) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    node = _item("kb:1", _hash())
    among = [CONTEXT, *([context] if isinstance(context, str) else context)]
    for text in (_case(node, context=context), _case(node, context=among)):
        assert "nothing is ever fetched" in _refused(read, text).why
    assert (
        "nothing is ever fetched"
        in _refused(read, _case(node, context={"@import": "https://example.org/c", **CONTEXT})).why
    )
    scoped = node | {"@context": "https://example.org/c"}
    assert "@context of its own" in _refused(read, _case(scoped)).why


@pytest.mark.parametrize(
    ("context", "why"),
    [
        (5, "neither an object nor a list"),
        ({"a": 5}, "neither a name nor an object"),
        ({"a": {"@id": 5}}, "by no name"),
        ({"@vocab": 5}, "@vocab is not a text"),
        ({"a": {"@reverse": "b:c"}}, "says more of 'a'"),
        ({"a": {"@id": "b:c", "@context": {}}}, "says more of 'a'"),
        ({"a": {"@container": "@graph"}}, "says more of 'a'"),
        ({"a": {"@container": [{}]}}, "says more of 'a'"),
        ({"@propagate": False}, "which is not read"),
        ({"a": "b:x", "b": "a:y"}, "by itself"),
        ({"a": "b", "b": "a"}, "by itself"),
        ({f"t{n}": f"t{n + 1}:" for n in range(200)}, "by itself"),
        ({f"t{n}": "x:y" for n in range(9_000)}, "more than 8192"),
        ({"uco-core": "https://example.org/"}, "nothing in it is of UCO 1"),
        ({}, "nothing in it is of UCO 1"),
    ],
)
def test_contexts_that_are_not_read_are_refused_by_name(read: Read, context: Any, why: str) -> None:
    assert why in _refused(read, _case({"a": 1, "@type": "uco-core:Grouping"}, context=context)).why


def test_the_document_is_refused_whole(read: Read) -> None:
    node = _item("kb:1", _hash())
    good = _case(node, node | {"@id": "kb:2"})
    for text, why in (
        (json.dumps({"@graph": [node], "@context": CONTEXT}), "put it first"),
        (json.dumps({"@context": CONTEXT}), "no list named '@graph'"),
        (json.dumps({"@context": CONTEXT, "@graph": node}), "'@graph' is not a list"),
        ("5", "neither an object nor a list"),
        (good[:-2], "truncated"),
        (good + "x", "broken JSON"),
        (good.replace('"@graph"', '"@context": {}, "@graph"'), "stands twice"),
        (good.replace('"@type": "uco-observable:File"', '"@id": "kb:3"'), "stands twice"),
        (_case(node | {"@graph": []}), "says @graph"),
        (_case(node | {"@included": []}), "says @included"),
        (_case(node | {"@reverse": {}}), "says @reverse"),
        (good.replace("kb:2", "x" * 3_000_000), "longer than"),
        (_case(node, {"uco-core:tag": [1] * 3_000_000}), "values"),
        (_case(node, {f"a{n}": n for n in range(300_000)}), "values"),
    ):
        assert why in _refused(read, text).why, text[:80]


@pytest.mark.parametrize("where", ["facet", "unread", "context", "member", "document"])
def test_deep_nesting_is_refused(read: Read, where: str) -> None:
    deep = "[" * 100_000
    text = {
        "facet": '"@graph":[{"uco-core:hasFacet":',
        "unread": '"@graph":[{"x":',
        "context": '"@context":[',
        "member": '"@graph":[{"uco-core:object":[',
        "document": '"x":',
    }[where]
    begun = f'{{"@context":{json.dumps(CONTEXT)},' if where != "context" else "{"
    assert "nested more than 64 deep" in _refused(read, begun + text + deep).why


def test_names_that_stand_twice(read: Read) -> None:
    """One item, one record; a facet of two contents is a contradiction that nobody can judge."""
    first, second = (_item("kb:1", _hash(value=f"{n:032x}")) for n in range(2))
    one, two = read(_case(first, second))
    assert isinstance(one, Record) and isinstance(two, Rejected)
    assert "'kb:1' stood in an earlier record" in two.reason
    nameless = [{key: value for key, value in first.items() if key != "@id"}] * 2
    assert all(isinstance(each, Record) for each in read(_case(*nameless)))
    apart = {"@id": "kb:h"} | _hash()
    item = _item("kb:1", {"@id": "kb:h"})
    assert len(read(_case(item, apart, apart))) == 1
    other = {"@id": "kb:h"} | _hash(value="f" * 32)
    assert "'kb:h', and differ" in _refused(read, _case(item, apart, other)).why


def test_records_that_cannot_be_used_are_named_and_the_rest_counts(read: Read) -> None:
    gone = {"@id": "kb:x", "uco-core:hasFacet": {"@id": "kb:nowhere"}}
    long = _series("L" * 300, "kb:5")
    found = read(
        _case(
            gone,
            _item("kb:1", _hash(value="xyz")),
            _item("kb:2"),
            _item("kb:3", _hash(), uco_core="", **{"uco-core_tag": "category=:1"}),
            long,
            _item("kb:5", _hash()),
            _item("kb:6", _hash(), **{"uco-core_tag": [f"category=s:{n}" for n in range(17)]}),
            _item("kb:7", _hash(), **{"uco-core_tag": ["baseline=perhaps", "distributed=y"]}),
            [],
            "kb:8",
            5,
        )
    )
    reasons = [one.reason if isinstance(one, Rejected) else "" for one in found]
    assert [
        part in reason
        for part, reason in zip(
            (
                *("'kb:nowhere' stands nowhere", "is not a md5 digest", "no MD5"),
                *("code without its scheme", "longer than 200", "more than 16 categories"),
            ),
            reasons,
            strict=False,
        )
    ] == [True] * 6
    (last,) = [one for one in found if isinstance(one, Record)]
    assert (last.number, last.distributed, last.baseline) == (7, True, None)
    assert last.notes == ("baseline is neither yes nor no; set aside",)


def test_an_item_of_two_series_is_put_into_one_and_it_is_said(read: Read) -> None:
    other = _series("O", "kb:1") | {"uco-core:context": "people"}
    (record,) = read(_case(_series("A", "kb:1"), other, _item("kb:1", _hash())))
    assert isinstance(record, Record) and (record.series, record.notes) == ("A", ())
    (record,) = read(_case(_series("A", "kb:1"), _series("B", "kb:1"), _item("kb:1", _hash())))
    assert isinstance(record, Record) and record.series in ("A", "B")
    assert record.notes == ("it is in more than one series; put into one of them",)


def test_what_a_tag_cannot_hold_is_said(read: Read) -> None:
    odd = Record(1, md5=b"\x01" * 16, votes=(Vote("a", "b:c"), Vote("a", "07")), size=2**63)
    content, writer = _written([odd])
    assert writer.losses == {"category a": 2, BELONGING: 1, "size": 1}
    (record,) = read(content)
    assert isinstance(record, Record) and (record.votes, record.size) == ((), None)
    assert not record.entire, "it had a category, which decides whether it belongs"


def test_memory_stays(grown: Measure) -> None:
    """Of many items, of one container that lists very many, of one node without end."""
    head = f'{{"@context":{json.dumps(CONTEXT)},"@graph":[{json.dumps(_item("kb:1", _hash()))}'
    nameless = {key: value for key, value in _item("", _hash()).items() if key != "@id"}
    block = b"," + b",".join([json.dumps(nameless).encode()] * 100)
    count, growth, error = grown(head.encode(), block, b"]}", 2_000_000)
    assert (count, error) == (1 + 2_000_000 // len(block) * 100, "")
    assert growth < GROWTH_MB
    begun = f'{head},{{"@type":"uco-core:Grouping","uco-core:name":"S","uco-core:object":[{{}}'
    listed = b"".join(b',{"@id":"kb:%d"}' % n for n in range(5_000))
    count, growth, error = grown(begun.encode(), listed, b"]}]}", 2_000_000)
    assert (count, error) == (1, "")
    assert growth < GROWTH_MB
    endless = f'{head},{{"@type":"uco-core:Grouping","uco-core:tag":['
    _, growth, error = grown(endless.encode(), b'{"a":[{}]},' * 1_000, b"0]}]}", 4_000_000)
    assert "values" in error
    assert growth < GROWTH_MB
