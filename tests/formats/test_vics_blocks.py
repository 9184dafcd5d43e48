"""VICS media say the same as whole objects, in columns, and event by event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tieline_client.formats import FileFormat
from tieline_client.formats import json_events as events_module
from tieline_client.formats.block_reading import open_blocks
from tieline_client.formats.json_events import Fields, JsonEvents
from tieline_client.limits import JSON_DEPTH

from tests.formats.conftest import VICS_2
from tests.formats.test_blocks import Outcome, by_block, by_record

MD5 = "0123456789abcdef0123456789ABCDEF"
PHOTODNA = "0" * 288


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few objects fit into a window, and few media into a block."""
    monkeypatch.setattr(events_module, "JSON_WINDOW_BYTES", 500)
    monkeypatch.setattr(events_module, "READ_BYTES", 100)
    monkeypatch.setattr("tieline_client.formats.vics_blocks.MEDIA_PER_BLOCK", 3)


def by_event(path: Path) -> Outcome:
    """What the reader says that never takes an object at once."""

    def none(_self: JsonEvents, _depth: int, without: str) -> Iterator[list[Fields]]:
        return iter(())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JsonEvents, "objects", none)
        return by_record(path, FileFormat.VICS)


def check(path: Path, content: bytes) -> Outcome:
    """Read a file in all three ways; return what they agree on."""
    path.write_bytes(content)
    expected = by_event(path)
    assert by_record(path, FileFormat.VICS) == expected
    assert by_block(path, FileFormat.VICS) == expected
    return expected


def nested(depth: int, closing: str = "{}") -> str:
    """Return JSON of so many containers inside one another."""
    opened, closed = closing[0], closing[1]
    inner = "" if closing == "[]" else '"a":'
    return (opened + inner) * (depth - 1) + opened + closed * depth


SHARED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400, deadline=None
)
_HASH = st.sampled_from(
    [f'"{MD5}"', f'"{MD5.lower()}"', '""', "null", f'" {MD5} "', f'"{MD5[:-1]}"', "5", "{}", "[1]"]
)
_WORDS = st.sampled_from(
    [
        *('""', "null", '"a"', '"S\\u00e9rie"', '"Série"', '"\\ud83d\\ude00"', '"\\ud83d"', "7"),
        *(
            '"\\udc00"',
            '"\\ud83d\\u0041"',
            '"\\\\ud83d"',
            '"a\\u0000b"',
            '"tab\tin"',
            f'"{"x" * 201}"',
        ),
        *(
            '{"Name":"N"}',
            '{"Name":{"Name":"x"}}',
            '{"Name":null}',
            '{"Name":"a","Name":"b"}',
            "[]",
        ),
        *('"a\\/b"', '"\x7f"', '"\N{LINE SEPARATOR}"', "{}", "true"),
    ]
)
_FLAG = st.sampled_from(
    ["true", "false", "null", '"true"', '"No"', '"maybe"', "0", "1", "1.0", "[]"]
)
_SIZE = st.sampled_from(
    [
        *("5", "0", '"7"', '" 7 "', "null", '""', "-1", "9223372036854775807", "-0"),
        *(
            "9223372036854775808",
            "1.0",
            "1e3",
            '"x"',
            "true",
            "1" * 25,
            "1" * 4400,
            "1e99999999999",
        ),
    ]
)
_CATEGORY = st.sampled_from(
    ["1", "0", "null", '"1"', '"01"', "1.0", "true", "256", "-1", '"A"', "{}"]
)
_DATE = st.sampled_from(
    [
        *('"2020-01-02T03:04:05Z"', '"2020-01-02"', '"/Date(1577934245000)/"', '"2020-13-02"'),
        *('"2020-01-02T03:04:05+1:00Z"', '"0001-01-01T00:00:00+05:00"', "5", '""', "null"),
        '"9999-12-31"',
    ]
)
_ENTRY = st.sampled_from(
    [
        f'{{"HashName":"PDQ","HashValue":"{MD5 * 2}"}}',
        f'{{"MD5":"{MD5}","HashName":"pdq","HashValue":"{MD5 * 2}"}}',
        f'{{"MD5":"{MD5.lower()}","HashName":"P-D-Q","HashValue":"{MD5 * 2}"}}',
        f'{{"MD5":"{"0" * 32}","HashName":"SHA_256","HashValue":"{MD5 * 2}"}}',
        f'{{"HashName":"SHA256","HashValue":"{"1" * 64}"}}',
        f'{{"HashName":"md5","HashValue":"{MD5}"}}',
        f'{{"HashName":"SHA1","HashValue":"{"2" * 40}"}}',
        f'{{"HashName":"PhotoDNA","HashValue":"{PHOTODNA}"}}',
        '{"HashName":"PDQ","HashValue":null}',
        '{"HashName":"PDQ","HashValue":"short"}',
        '{"HashName":"other","HashValue":[1]}',
        '{"HashName":["PDQ"],"HashValue":{}}',
        '{"HashName":"PDQ","HashName":"PDQ"}',
        *("5", "[]", "null", "{}"),
    ]
)
_OTHER = st.sampled_from(
    [
        *("1", '"]}"', '"\\"MD5\\":"', '[{"MD5":"x"},{"MD5":"x"}]', '{"a":1,"a":2}', "NaN", "01"),
        *(nested(depth) for depth in (50, 59, 60, 61, 62, 63)),
        *(nested(depth, "[]") for depth in (59, 60, 61, 62)),
        nested(2000, "[]"),
        "[" + ",".join(["{}"] * 70) + "]",
    ]
)
_FIELDS = {
    **dict.fromkeys(("MD5", "SHA1"), _HASH),
    **dict.fromkeys(("Series", "MimeType", "Comments", "Comments\\u0031"), _WORDS),
    **dict.fromkeys(("VictimIdentified", "OffenderIdentified", "IsDistributed"), _FLAG),
    "MediaSize": _SIZE,
    "Category": _CATEGORY,
    "DateUpdated": _DATE,
    "PhotoDNA": st.sampled_from(["null", '""', f'"{PHOTODNA}"', '"bad"', "5"]),
    "AlternativeHashes": st.lists(_ENTRY, max_size=3).map(lambda each: f"[{','.join(each)}]")
    | st.sampled_from(["null", "{}", '"x"', "[" + ",".join(["{}"] * 70) + "]"]),
    "Exifs": _OTHER,
    "Media": st.sampled_from(["null", "{}", "[]", f'[{{"MD5":"{MD5}"}}]', '"x"']),
    "CaseID": st.just('"c"'),
}
_USUAL = {
    "MD5": f'"{MD5}"',
    "Category": "1",
    "Series": '"S"',
    "MediaSize": "5",
    "VictimIdentified": "false",
}


@st.composite
def _medium(draw: st.DrawFn) -> str:
    fields = dict(_USUAL) if draw(st.booleans()) else {}
    rare = [
        name for name in _FIELDS if name not in ("Media", "CaseID") or draw(st.integers(0, 9)) == 3
    ]
    for name in draw(st.lists(st.sampled_from(rare), max_size=3)):
        fields[name] = draw(_FIELDS[name])
    pairs = [f'"{name}":{value}' for name, value in fields.items()]
    if draw(st.integers(0, 40)) == 7:
        pairs.append(f'"MD5":"{MD5}"')
    return "{" + draw(st.sampled_from([",", ", ", ",\r\n\t"])).join(pairs) + "}"


_ELEMENT = st.one_of(
    *([_medium()] * 20), st.sampled_from(["5", "[]", "null", '"x"', "[{}]", "5", "[]", "", "}"])
)


@st.composite
def _documents(draw: st.DrawFn) -> bytes:
    between = draw(st.sampled_from([",", ",", ", ", " ,\n", ",\v"]))
    media = (
        f"[{draw(st.sampled_from(['', ' ']))}{between.join(draw(st.lists(_ELEMENT, max_size=9)))}]"
    )
    shape = draw(st.sampled_from(["Media", "Cases"]))
    if shape == "Cases" or draw(st.integers(0, 9)) == 3:
        cases = [f'{{"CaseID":"1","Media":{media},"Note":[1]}}', '{"CaseID":"2","CaseNumber":"x"}']
        media = f"[{','.join(draw(st.permutations(cases)))}]"
    context = f"{VICS_2}/US/$metadata#{shape}"
    text = f'{{"@odata.context":"{context}","value":{media}}}'
    content = text.encode("utf-8", "surrogatepass")
    return content[: -draw(st.integers(1, 40))] if draw(st.integers(0, 9)) == 7 else content


@SHARED
@given(_documents())
@example(f'{{"odata.metadata":"x#Media","value":[{{"MD5":"{MD5}"}},]}}'.encode())
@example(f'{{"odata.metadata":"x#Media","value":[{{"MD5":"{MD5}"}}'.encode() + b'\xff,{"MD5":""}]}')
def test_documents(tmp_path: Path, content: bytes) -> None:
    check(tmp_path / "case.json", content)


@SHARED
@given(st.data())
def test_mutated_documents(tmp_path: Path, data: st.DataObject) -> None:
    media = [
        {"MD5": MD5, "Category": n, "Exifs": [{"MD5": MD5}], "Series": f"S {n}", "Comments": "é"}
        for n in range(6)
    ]
    document = {"@odata.context": f"{VICS_2}/US/$metadata#Media", "value": media}
    content = bytearray(json.dumps(document, ensure_ascii=data.draw(st.booleans())).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(90, len(content)))
        length = data.draw(st.integers(0, 20))
        piece = data.draw(
            st.binary(max_size=4)
            | st.sampled_from([b"\0", b'"', b"{", b"[", b"]", b"}", b",", b":", b"\\", b"\\ud800"])
            | st.just(bytes(content[at : at + length]) * 2)
        )
        content[at : at + data.draw(st.integers(0, 3))] = piece
    check(tmp_path / "case.json", bytes(content))


def _document(media: list[str]) -> bytes:
    context = f"{VICS_2}/US/$metadata#Media"
    return f'{{"@odata.context":"{context}","value":[{",".join(media)}]}}'.encode()


@pytest.mark.parametrize("odd", ["5", '{"MD5":"x"}', f'{{"MD5":"{MD5}","MD5":"{MD5}"}}', "{]"])
@pytest.mark.parametrize("at", [0, 7, 19])
def test_one_odd_element_among_many(tmp_path: Path, odd: str, at: int) -> None:
    media = [f'{{"MD5":"{number:032x}","Category":1}}' for number in range(1, 21)]
    media[at] = odd
    outcome = check(tmp_path / "case.json", _document(media))
    if outcome[0] == "refused":
        assert f"record {at + 1}" in outcome[1]
    else:
        assert [each.record for each in outcome[2]] == [at + 1]


@pytest.mark.parametrize(("depth", "read"), [(JSON_DEPTH - 3, True), (JSON_DEPTH - 2, False)])
def test_the_depth_is_bounded_wherever_it_is(tmp_path: Path, depth: int, read: bool) -> None:
    media = [f'{{"MD5":"{MD5}","Exifs":{nested(depth)}}}', f'{{"MD5":"{MD5}"}}']
    outcome = check(tmp_path / "case.json", _document(media))
    assert (outcome[0] == "read") is read


def test_ordinary_media_never_meet_the_parser_of_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    started = 0
    real = JsonEvents.mark

    def count(self: JsonEvents) -> None:
        nonlocal started
        started += 1
        real(self)

    monkeypatch.setattr(JsonEvents, "mark", count)
    path = tmp_path / "case.json"
    path.write_bytes(
        _document([f'{{"MD5":"{number:032x}","Comments":"{"x" * 99}"}}' for number in range(9_000)])
    )
    found = list(open_blocks(path))
    assert sum(len(block.columns or ()) for block in found) == 9_000
    assert started < 10
