"""VICS JSON: its versions, its shapes, and each quirk of real files (formats.md)."""

from __future__ import annotations

import base64
import codecs
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from tieline_client.errors import FormatError
from tieline_client.formats import Record, Rejected, Vote

MD5 = "0123456789abcdef0123456789abcdef"
OTHER_MD5 = "f" * 31 + "0"
SHA1 = MD5 + "01234567"
PDQ = MD5 * 2
PHOTODNA = bytes(range(144))

Make = Callable[..., str]
One = Callable[..., Record]
Many = Callable[..., list[Record | Rejected]]


def medium(**fields: Any) -> dict[str, Any]:
    return {"MD5": MD5, "MediaID": 1, **fields}


@pytest.mark.parametrize("version", ["1.1", "1.2", "1.3"])
@pytest.mark.parametrize("shape", ["Media", "Cases"])
def test_version_1(read_one: One, version: str, shape: str) -> None:
    value: list[Any] = [medium(Category=1)]
    if shape == "Cases":
        value = [{"CaseID": "x", "Media": value}]
    url = f"http://github.com/ICMEC/ProjectVic/DataModels/{version}.xml#{shape}"
    record = read_one(json.dumps({"odata.metadata": url, "value": value}))
    assert record.md5 == bytes.fromhex(MD5)
    assert record.votes == (Vote("vics", "1"),)
    assert record.entire is False


@pytest.mark.parametrize("shape", ["Media", "Cases"])
@pytest.mark.parametrize(
    ("country", "scheme"),
    [
        ("/US", "vics-us"),
        ("/UK", "vics-uk"),
        ("/CUSTOM", "vics-custom"),
        ("/Default", "vics-default"),
        ("", "vics"),
    ],
)
def test_the_context_selects_the_scheme(
    read_one: One, vics: Make, country: str, scheme: str, shape: str
) -> None:
    record = read_one(vics(medium(Category=2), country=country, shape=shape))
    assert record.votes == (Vote(scheme, "2"),)


def test_without_any_context_the_scheme_is_bare(read_one: One) -> None:
    record = read_one(json.dumps({"value": [medium(Category=2)]}))
    assert record.votes == (Vote("vics", "2"),)


def test_every_field(read_one: One, vics: Make) -> None:
    record = read_one(
        vics(
            medium(
                SHA1=SHA1,
                Category=1,
                VictimIdentified=True,
                OffenderIdentified=False,
                IsDistributed=True,
                IsSuspected=None,
                SelfGenerated=False,
                Comments="words",
                Tags="a,b",
                Series="A series",
                MediaSize=5,
                RelativeFilePath="a\\b.jpg",
                DateUpdated="2020-01-02T03:04:05Z",
                IsPrecategorized=True,
                PrecategorizationSource="x",
                MimeType="image/jpeg",
                PhotoDNA=base64.b64encode(PHOTODNA).decode(),
                AlternativeHashes=[{"MD5": MD5, "HashName": "PDQ", "HashValue": PDQ}],
                Exifs=[{"MD5": MD5, "PropertyName": "Make", "PropertyValue": "x"}],
                MediaFiles=[{"MD5": OTHER_MD5, "FileName": "x", "MediaFileID": 1}],
                Repositories=[{"MD5": MD5, "RepositoryName": "x"}],
                Segments=[{"SegmentIndex": 1, "Start": "0", "End": "1", "Category": 5}],
                MediaMetadata=[{"PropertyName": "x", "PropertyValue": "y"}],
                Identifiers=[{"MD5": MD5, "Name": "x"}],
            )
        )
    )
    assert record == Record(
        1,
        md5=bytes.fromhex(MD5),
        sha1=bytes.fromhex(SHA1),
        pdq=bytes.fromhex(PDQ),
        photodna=PHOTODNA,
        size=5,
        media_type="image/jpeg",
        votes=(Vote("vics-us", "1"),),
        series="A series",
        victim_identified=True,
        offender_identified=False,
        distributed=True,
        updated=datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


def test_several_cases_are_numbered_through(read: Many) -> None:
    cases = [
        {"CaseID": "1", "CaseMetadata": [{"MD5": MD5}], "Media": [medium(), medium()]},
        {"CaseID": "2", "Media": [], "TotalMediaFiles": 5},
        {"CaseID": "3"},
        {"Media": [medium()], "CaseID": "4", "Identifiers": [{"MD5": OTHER_MD5}]},
    ]
    records = read(json.dumps({"@odata.context": "x.xml/UK/$metadata#Cases", "value": cases}))
    assert [record.number for record in records if isinstance(record, Record)] == [1, 2, 3]


# --- the quirks of real files ---


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_encodings(read: Many, vics: Make, mark: bytes, encoding: str) -> None:
    # Enough to span several reads, so that a character may be cut in two.
    media = [medium(Series=f"Sé\N{SNOWMAN}\N{OLD PERSIAN SIGN A}{n}") for n in range(400)]
    text = vics(*media).encode().decode("unicode_escape")
    records = read(mark + text.encode("utf-16", "surrogatepass").decode("utf-16").encode(encoding))
    assert [r.series for r in records if isinstance(r, Record)] == [m["Series"] for m in media]


def test_crlf(read_one: One, vics: Make) -> None:
    text = json.dumps(json.loads(vics(medium(Category=1))), indent=2).replace("\n", "\r\n")
    assert read_one(text).votes == (Vote("vics-us", "1"),)


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        (True, True),
        (False, False),
        ("true", True),
        ("false", False),
        ("False", False),
        ("TRUE", True),
        (None, None),
        ("", None),
    ],
)
def test_booleans_and_their_words(
    read_one: One, vics: Make, value: object, flag: bool | None
) -> None:
    record = read_one(
        vics(medium(VictimIdentified=value, OffenderIdentified=value, IsDistributed=value))
    )
    flags = (record.victim_identified, record.offender_identified, record.distributed)
    assert flags == (flag, flag, flag)
    assert record.notes == ()


def test_a_flag_that_is_none_is_noted(read_one: One, vics: Make) -> None:
    record = read_one(vics(medium(VictimIdentified="perhaps")))
    assert record.victim_identified is None
    assert "VictimIdentified" in record.notes[0]


@pytest.mark.parametrize("size", ["9007199254740993", '"9007199254740993"'])
def test_sizes_above_2_to_53_survive_exactly(read_one: One, vics: Make, size: str) -> None:
    text = vics(medium(MediaSize="@")).replace('"@"', size)
    assert read_one(text).size == 9007199254740993


@pytest.mark.parametrize("size", ["1.5", "-1", '"many"', "1e30", "[1]", "9223372036854775808"])
def test_a_size_that_is_none_is_noted(read_one: One, vics: Make, size: str) -> None:
    record = read_one(vics(medium(MediaSize="@")).replace('"@"', size))
    assert record.size is None
    assert "MediaSize" in record.notes[0]


def test_upper_case_digests_are_the_same_bytes(read_one: One, vics: Make) -> None:
    record = read_one(vics(medium(MD5=MD5.upper(), SHA1=SHA1.upper())))
    assert (record.md5, record.sha1) == (bytes.fromhex(MD5), bytes.fromhex(SHA1))


def test_an_empty_sha1_is_none(read_one: One, vics: Make) -> None:
    assert read_one(vics(medium(SHA1=""))).sha1 is None


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(PHOTODNA).decode(),
        PHOTODNA.hex(),
        PHOTODNA.hex().upper(),
        ",".join(str(byte) for byte in PHOTODNA),
        ", ".join(str(byte) for byte in PHOTODNA),
    ],
    ids=["base64", "hex", "HEX", "decimals", "decimals with spaces"],
)
@pytest.mark.parametrize("nested", [False, True], ids=["field", "AlternativeHashes"])
def test_photodna_in_three_encodings(read_one: One, vics: Make, text: str, nested: bool) -> None:
    entry = {"MD5": MD5, "HashName": "PhotoDNA", "HashValue": text}
    fields = {"AlternativeHashes": [entry]} if nested else {"PhotoDNA": text}
    assert read_one(vics(medium(**fields))).photodna == PHOTODNA


def test_unreadable_photodna_costs_only_itself(read_one: One, vics: Make) -> None:
    record = read_one(vics(medium(PhotoDNA="A" * 191)))
    assert record.photodna is None
    assert "PhotoDNA" in record.notes[0]


@pytest.mark.parametrize("name", ["PDQ", "pdq", " Pdq "])
def test_pdq_in_alternative_hashes(read_one: One, vics: Make, name: str) -> None:
    entries = [{"MD5": MD5, "HashName": name, "HashValue": PDQ.upper()}]
    assert read_one(vics(medium(AlternativeHashes=entries))).pdq == bytes.fromhex(PDQ)


def test_a_nested_entry_without_md5_belongs_to_the_record_around_it(
    read_one: One, vics: Make
) -> None:
    entries = [
        {"HashName": "PDQ", "HashValue": PDQ},
        {"MD5": "", "HashName": "SHA-256", "HashValue": PDQ},
        {"MD5": None, "HashName": "SHA1", "HashValue": SHA1},
    ]
    exifs = [{"PropertyName": "x", "PropertyValue": "y"}]
    record = read_one(vics(medium(AlternativeHashes=entries, Exifs=exifs)))
    assert record.pdq == record.sha256 == bytes.fromhex(PDQ)
    assert record.sha1 == bytes.fromhex(SHA1)


def test_nested_entries_may_stand_before_the_md5(read_one: One, vics: Make) -> None:
    record = read_one(
        vics(
            {
                "AlternativeHashes": [{"MD5": MD5, "HashName": "PDQ", "HashValue": PDQ}],
                "MD5": MD5,
            }
        )
    )
    assert record.pdq == bytes.fromhex(PDQ)


def test_a_nested_entry_of_another_md5_is_set_aside(read_one: One, vics: Make) -> None:
    entries = [{"MD5": OTHER_MD5, "HashName": "PDQ", "HashValue": PDQ}]
    record = read_one(vics(medium(AlternativeHashes=entries)))
    assert record.pdq is None
    assert "another MD5" in record.notes[0]


def test_unknown_alternative_hashes_are_passed_over(read_one: One, vics: Make) -> None:
    entries = [
        {"HashName": "F1", "HashValue": "zz"},
        {"HashName": None},
        {"HashValue": "x"},
        "text",
        ["list"],
        {"HashName": "PDQ", "HashValue": None},
    ]
    record = read_one(vics(medium(AlternativeHashes=entries)))
    assert record.md5 is not None
    assert record.pdq is None


def test_a_pdq_of_the_wrong_length_is_rejected(read: Many, vics: Make) -> None:
    entries = [{"HashName": "PDQ", "HashValue": PDQ[:-2]}]
    (rejected,) = read(vics(medium(AlternativeHashes=entries)))
    assert isinstance(rejected, Rejected)
    assert "pdq" in rejected.reason


@pytest.mark.parametrize(
    ("series", "name"),
    [
        ("A", "A"),
        ({"Name": "A", "SeriesID": 1, "More": {"Name": "B"}}, "A"),
        ({"SeriesID": 1}, None),
        ("", None),
        ("  ", None),
        (None, None),
    ],
)
def test_series_as_text_or_object(
    read_one: One, vics: Make, series: object, name: str | None
) -> None:
    assert read_one(vics(medium(Series=series))).series == name


def test_a_series_that_is_a_list_is_noted(read_one: One, vics: Make) -> None:
    record = read_one(vics(medium(Series=["A"])))
    assert record.series is None
    assert "Series" in record.notes[0]


@pytest.mark.parametrize("tags", ["a,b", ["a", "b"], None, ""])
def test_tags_as_list_or_text(read_one: One, vics: Make, tags: object) -> None:
    assert read_one(vics(medium(Tags=tags))).md5 == bytes.fromhex(MD5)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2020-01-02T03:04:05Z", datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2020-01-02T03:04:05.1234567Z", datetime(2020, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        (
            "2020-01-02T03:04:05+02:00",
            datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))),
        ),
        ("2020-01-02T03:04:05", datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("/Date(1577934245000)/", datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("/Date(1577934245000+0100)/", datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (
            "2020-01-02T03:04:05+1:00Z",
            datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1))),
        ),
        (None, None),
        ("", None),
    ],
)
def test_times(read_one: One, vics: Make, text: object, time: datetime | None) -> None:
    record = read_one(vics(medium(DateUpdated=text)))
    assert record.updated == time
    assert record.notes == ()


@pytest.mark.parametrize("text", ["yesterday", "/Date(x)/", 5, "9999-12-31T23:59:59-14:00"])
def test_a_time_that_is_none_is_noted(read_one: One, vics: Make, text: object) -> None:
    record = read_one(vics(medium(DateUpdated=text)))
    assert record.updated is None
    assert "DateUpdated" in record.notes[0]


@pytest.mark.parametrize("precategorized", [True, False, "false", None])
def test_is_precategorized_says_nothing(read_one: One, vics: Make, precategorized: object) -> None:
    record = read_one(vics(medium(IsPrecategorized=precategorized)))
    assert record.votes == ()
    assert record.notes == ()


@pytest.mark.parametrize("total", [0, 1000, "many", None])
def test_total_media_files_says_nothing(read: Many, total: object) -> None:
    cases = [{"CaseID": "1", "TotalMediaFiles": total, "Media": [medium(), medium()]}]
    assert len(read(json.dumps({"@odata.context": "#Cases", "value": cases}))) == 2


def test_several_media_with_one_md5_are_several_records(read: Many, vics: Make) -> None:
    records = read(vics(medium(Category=1), medium(Category=2), medium(SHA1=SHA1)))
    assert [record.md5 for record in records if isinstance(record, Record)] == [
        bytes.fromhex(MD5)
    ] * 3


def test_category_null_zero_and_absent_are_three_things(read: Many, vics: Make) -> None:
    null, zero, absent = read(vics(medium(Category=None), medium(Category=0), medium()))
    assert isinstance(null, Record)
    assert isinstance(zero, Record)
    assert isinstance(absent, Record)
    assert (null.votes, null.notes) == ((), ("Category is null",))
    assert (zero.votes, zero.notes) == ((Vote("vics-us", "0"),), ())
    assert (absent.votes, absent.notes) == ((), ())


@pytest.mark.parametrize(
    ("category", "code"), [(255, "255"), ("1", "1"), ("01", "1"), (" 2 ", "2"), ("A1", "A1")]
)
def test_categories(read_one: One, vics: Make, category: object, code: str) -> None:
    assert read_one(vics(medium(Category=category))).votes == (Vote("vics-us", code),)


@pytest.mark.parametrize("category", [256, -1, 1.5, True, [1], {"Code": 1}, "x" * 65, "1\0"])
def test_a_category_that_is_none_is_rejected(read: Many, vics: Make, category: object) -> None:
    (rejected,) = read(vics(medium(Category=category)))
    assert isinstance(rejected, Rejected)
    assert "Category" in rejected.reason


def test_a_segments_category_is_not_the_records(read_one: One, vics: Make) -> None:
    assert read_one(vics(medium(Segments=[{"Category": 1}]))).votes == ()


# --- bad records in a sound file ---


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"MD5": "abc"}, "md5"),
        ({"MD5": MD5 + "00"}, "md5"),
        ({"MD5": "g" * 32}, "md5"),
        ({"MD5": "01 23456789abcdef0123456789abcde "}, "md5"),
        ({"MD5": 5}, "md5"),
        ({"MD5": [MD5]}, "md5"),
        ({"MD5": ""}, "no MD5"),
        ({"MD5": None}, "no MD5"),
        ({"SHA1": MD5}, "sha1"),
        ({"Series": "x" * 201}, "Series is longer"),
        ({"Series": "a\0b"}, "NUL"),
        ({"Series": 5}, "Series is not a text"),
        ({"MimeType": "x" * 201}, "MimeType is longer"),
    ],
)
def test_a_bad_record_is_rejected_and_the_rest_kept(
    read: Many, vics: Make, fields: dict[str, Any], reason: str
) -> None:
    before, bad, after = read(vics(medium(), medium(**fields), medium()))
    assert isinstance(before, Record)
    assert isinstance(after, Record)
    assert after.number == 3
    assert isinstance(bad, Rejected)
    assert bad.record == 2
    assert reason in bad.reason
    assert "\n" not in bad.reason


@pytest.mark.parametrize("country", ["U5", "1", "a-b", "x" * 17, "US US"])
def test_a_token_of_no_known_form_is_refused(read: Many, vics: Make, country: str) -> None:
    with pytest.raises(FormatError, match="category table"):
        read(vics(medium(Category=1), country=f"/{country}"))


def test_a_token_not_seen_before_is_a_scheme_of_its_own(read_one: One, vics: Make) -> None:
    assert read_one(vics(medium(Category=1), country="/NL")).votes == (Vote("vics-nl", "1"),)


@pytest.mark.parametrize("shape", ["Media", "Cases"])
@pytest.mark.parametrize("element", [5, None, "x", [[1]], True])
def test_an_element_that_is_no_object_is_rejected(
    read: Many, vics: Make, shape: str, element: Any
) -> None:
    bad, good = read(vics(element, medium(), shape=shape))
    assert bad == Rejected(1, "not an object")
    assert isinstance(good, Record)
    assert good.number == 2


def test_the_caps_of_text_are_inclusive(read_one: One, vics: Make) -> None:
    record = read_one(vics(medium(Series="x" * 200, Category="x" * 64)))
    assert record.series == "x" * 200
    assert record.votes == (Vote("vics-us", "x" * 64),)


def test_control_characters_stay_for_the_node_to_judge(read_one: One, vics: Make) -> None:
    assert read_one(vics(medium(Series="\x1b[31m<b>\r\n'; --"))).series == "\x1b[31m<b>\r\n'; --"


def test_junk_digests_are_not_the_readers_to_drop(read_one: One, vics: Make) -> None:
    assert read_one(vics(medium(MD5="0" * 32))).md5 == bytes(16)


def test_progress_ends_at_the_files_size(read: Many, vics: Make) -> None:
    told: list[int] = []
    text = vics(*(medium(Comments="x" * 1000) for _ in range(100)))
    read(text, on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == len(text)
    assert len(told) > 3
