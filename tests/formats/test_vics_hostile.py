"""VICS files that are broken or made to break the reader: a typed refusal, record and reason."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tieline_client.errors import FormatError
from tieline_client.formats import FileFormat, Record, Rejected
from tieline_client.formats.block_reading import open_blocks

MD5 = "0123456789abcdef0123456789abcdef"
CONTEXT = '"@odata.context":"x/2.0.xml/US/$metadata#Media"'
GOOD = f'{{"MD5":"{MD5}","MediaID":1}}'

Make = Callable[..., str]
Many = Callable[..., list[Record | Rejected]]


def refused(read: Many, content: str | bytes) -> FormatError:
    with pytest.raises(FormatError) as caught:
        read(content, FileFormat.VICS)
    assert "\n" not in str(caught.value)
    assert caught.value.file == "sample"
    return caught.value


def second(record: str) -> str:
    return f'{{{CONTEXT},"value":[{GOOD},{record},{GOOD}]}}'


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (f'{{"MD5":"{MD5}","MD5":"{MD5}"}}', "'MD5' stands twice"),
        (f'{{"MD5":"{MD5}","Category":1,"Category":2}}', "'Category' stands twice"),
        (f'{{"MD5":"{MD5}","Tags":[],"Tags":[]}}', "'Tags' stands twice"),
        (
            f'{{"MD5":"{MD5}","AlternativeHashes":[{{"HashName":"PDQ","HashName":"x"}}]}}',
            "'HashName' stands twice",
        ),
        (f'{{"MD5":"{MD5}","Series":{{"Name":"a","Name":"b"}}}}', "'Name' stands twice"),
        (f'{{"MD5":"{MD5}","MediaSize":NaN}}', "broken JSON"),
        (f'{{"MD5":"{MD5}","MediaSize":Infinity}}', "broken JSON"),
        (f'{{"MD5":"{MD5}","MediaSize":-Infinity}}', "broken JSON"),
        (f'{{"MD5":"{MD5}","Exifs":{"[" * 100_000}{"]" * 100_000}}}', "deep"),
        ("[" * 100_000 + "]" * 100_000, "deep"),
        (f'{{"MD5":"{MD5}","Series":{{"a":{"[" * 100_000}{"]" * 100_000}}}}}', "deep"),
        (f'{{"MD5":"{MD5}","AlternativeHashes":[{"[" * 100_000}{"]" * 100_000}]}}', "deep"),
        (f'{{"MD5":"{MD5}","MediaSize":{"9" * 5000}}}', "broken JSON"),
        (f'{{"MD5":"{MD5}",}}', "broken JSON"),
        (f'{{"MD5" "{MD5}"}}', "broken JSON"),
        (f"{{'MD5':'{MD5}'}}", "broken JSON"),
    ],
)
@pytest.mark.parametrize("shape", ["media", "case"])
def test_the_refusal_names_the_record(read: Many, record: str, why: str, shape: str) -> None:
    text = second(record)
    if shape == "case":
        text = text.replace("[" + GOOD, '[{"CaseID":"1","Media":[' + GOOD, 1)[:-2] + "]}]}"
    error = refused(read, text)
    assert error.record == 2
    assert why in error.why


def test_a_medium_that_holds_media_is_refused(read: Many, vics: Make) -> None:
    error = refused(read, vics({"MD5": MD5}, {"MD5": MD5, "Media": []}, shape="Cases"))
    assert error.record == 2
    assert "Media" in error.why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f'{{{CONTEXT},{CONTEXT},"value":[]}}', "stands twice"),
        (f'{{{CONTEXT},"value":[],"value":[]}}', "stands twice"),
        (f"{{{CONTEXT}}}", "no list named 'value'"),
        (f'{{{CONTEXT},"value":{{}}}}', "not a list"),
        (f'{{{CONTEXT},"value":null}}', "not a list"),
        ("[]", "begin with an object"),
        ("5", "begin with an object"),
        ('{"@odata.context":"x#Alerts","value":[]}', "#Alerts"),
        ('{"@odata.context":"x","value":[]}', "context"),
        ('{"@odata.context":5,"value":[]}', "context"),
        (f'{{"value":[{GOOD}],{CONTEXT}}}', "put it first"),
        (f'{{{CONTEXT},"value":[{GOOD}]}} more', "broken JSON"),
        (f'{{{CONTEXT},"value":[{GOOD}]}}{{}}', "broken JSON"),
        (f'{{{CONTEXT},"x":{"[" * 100_000}{"]" * 100_000},"value":[]}}', "deep"),
        (f'{{"value":[{{"CaseID":"1","Media":[],"Media":[{GOOD}]}}]}}', "stands twice"),
    ],
)
def test_a_broken_envelope(read: Many, text: str, why: str) -> None:
    assert why in refused(read, text).why


def test_a_truncated_file_is_refused_wherever_it_ends(read: Many, vics: Make) -> None:
    media = [{"MD5": MD5, "Series": "a\\é", "Exifs": [{"a": 1.5}]} for _ in range(3)]
    for shape in ("Media", "Cases"):
        content = vics(*media, shape=shape).encode()
        for end in range(1, len(content)):
            with pytest.raises(FormatError):
                read(content[:end], FileFormat.VICS)


def test_a_large_truncated_file_names_the_record_it_broke_off_in(read: Many, vics: Make) -> None:
    text = vics(*({"MD5": MD5, "MediaID": n} for n in range(5_000)))
    error = refused(read, text[: text.index('"MediaID": 4321')])
    assert error.record == 4322
    assert "truncated" in error.why


def test_truncated_utf_16(read: Many, vics: Make) -> None:
    content = b"\xff\xfe" + vics({"MD5": MD5}).encode("utf-16-le")
    assert "UTF-16" in refused(read, content[:-1]).why


def test_invalid_utf_8(read: Many) -> None:
    content = second(f'{{"MD5":"{MD5}","Series":"%"}}').encode().replace(b"%", b"\xff\xfe")
    assert refused(read, content).record == 2


@pytest.mark.parametrize("where", ["needed", "skipped", "envelope", "key", "number", "escaped"])
def test_a_text_without_end_is_refused_early(read: Many, where: str) -> None:
    long = "x" * 3_000_000
    text = {
        "needed": second(f'{{"MD5":"{MD5}","Series":"{long}"}}'),
        "skipped": second(f'{{"MD5":"{MD5}","Exifs":["{long}"]}}'),
        "envelope": f'{{"x":"{long}",{CONTEXT},"value":[]}}',
        "key": second(f'{{"{long}":1}}'),
        "number": second(f'{{"MediaSize":1{"0" * 3_000_000}}}'),
        "escaped": second(f'{{"Series":"{chr(92) * 3_000_000}"}}'),
    }[where]
    assert "longer than" in refused(read, text).why


def test_a_record_without_end_is_refused(read: Many) -> None:
    files = ",".join(f'{{"FileName":"{"x" * 1000}"}}' for _ in range(9_000))
    error = refused(read, second(f'{{"MD5":"{MD5}","MediaFiles":[{files}]}}'))
    assert error.record == 2
    assert "a record is longer" in error.why


def test_a_record_of_many_fields_is_refused(read: Many) -> None:
    fields = ",".join(f'"{n}":1' for n in range(1_000))
    for record in (f"{{{fields}}}", f'{{"Series":{{{fields}}}}}'):
        assert "fields" in refused(read, second(record)).why


def test_an_envelope_of_many_fields_is_refused(read: Many) -> None:
    fields = ",".join(f'"{n}":1' for n in range(1_000))
    assert "fields" in refused(read, f"{{{fields}}}").why


def test_many_alternative_hashes_are_bounded(read: Many, vics: Make) -> None:
    entries: list[dict[str, Any]] = [{"HashName": "x", "HashValue": "y"}] * 5_000
    (record,) = read(vics({"MD5": MD5, "AlternativeHashes": entries}))
    assert isinstance(record, Record)


def test_a_long_passed_over_case_field_is_no_fault(read: Many) -> None:
    metadata = [{"PropertyName": "a", "PropertyValue": "b" * 500}] * 10_000
    case = {"CaseID": "1", "CaseMetadata": metadata, "Media": [{"MD5": MD5}]}
    (record,) = read(json.dumps({"@odata.context": "#Cases", "value": [case]}))
    assert isinstance(record, Record)


def test_lone_surrogates_do_no_harm(read: Many) -> None:
    outcome = read(second('{"MD5":"' + MD5 + '","Series":"\\ud800"}'), FileFormat.VICS)
    assert len(outcome) == 3
    for record in outcome:
        if isinstance(record, Record) and record.series is not None:
            record.series.encode()


def test_any_flipped_byte_is_read_or_refused(read: Many, vics: Make) -> None:
    content = bytearray(
        vics(
            *({"MD5": MD5, "Series": {"Name": "x"}, "AlternativeHashes": []} for _ in range(3))
        ).encode()
    )
    chance = random.Random(7)
    for _ in range(400):
        mutated = bytearray(content)
        mutated[chance.randrange(len(content))] = chance.randrange(256)
        with suppress(FormatError):
            read(bytes(mutated), FileFormat.VICS)


@pytest.mark.parametrize("media", [GOOD, '"a text"', "5"])
def test_a_case_whose_media_are_no_list_is_told(read: Many, media: str) -> None:
    """Tools that make JSON of XML write a list of one as its element."""
    case = f'{{"CaseID":"x","Media":{media}}},{{"CaseID":"y","Media":[{GOOD}]}}'
    for shape in ("Cases", "Media"):
        found = read(f'{{{CONTEXT.replace("Media", shape)},"value":[{case}]}}')
        assert found[0] == Rejected(1, "a case whose Media are no list")
        assert [type(one) for one in found] == [Rejected, Record]
    assert len(read(f'{{{CONTEXT},"value":[{case.replace(media, "null", 1)}]}}')) == 1


@pytest.mark.parametrize("value", [f'{{"HashName":"PDQ","HashValue":"{MD5 * 2}"}}', '"x"', "5"])
def test_alternative_hashes_that_are_no_list_are_noted(
    read: Many, tmp_path: Path, value: str
) -> None:
    words = "AlternativeHashes is not a list; set aside"
    record = f'{{"MD5":"{MD5}","AlternativeHashes":{value}}}'
    found = read(second(record))
    assert [one.notes for one in found if isinstance(one, Record)] == [(), (words,), ()]
    blocks = list(open_blocks(tmp_path / "sample"))
    assert [note for block in blocks for note in block.notes] == [(2, words)]
    for absent in ("null", '""', "[]"):
        found = read(second(record.replace(f":{value}}}", f":{absent}}}")))
        assert [one.notes for one in found if isinstance(one, Record)] == [(), (), ()]


@pytest.mark.parametrize("shape", ["Cases", "Media"])
def test_a_medium_without_md5_among_cases_is_no_empty_case(read: Many, shape: str) -> None:
    context = CONTEXT.replace("Media", shape)
    flat = f'{{"SHA1":"{MD5}01234567"}},{{"MediaID":1}},{{"CaseID":"x"}},{GOOD}'
    found = read(f'{{{context},"value":[{flat}]}}')
    assert [type(one) for one in found] == [Record, Rejected, Record]
