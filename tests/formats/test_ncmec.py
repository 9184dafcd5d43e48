"""NCMEC hash-sharing XML: entries, tombstones, feedback, and XML made to do harm."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from tieline_client.errors import FormatError
from tieline_client.formats import FileFormat, Record, Rejected, Vote

MD5 = "0123456789abcdef0123456789abcdef"
SHA1 = MD5 + "01234567"
PDQ = MD5 * 2
PHOTODNA = bytes(range(144))

One = Callable[..., Record]
Many = Callable[..., list[Record | Rejected]]


def document(images: str = "", videos: str = "", *, head: str = "") -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{head}'
        '<queryResult xmlns="https://hashsharing.ncmec.org/hashsharing/v2">'
        f'<images count="2" maxTimestamp="2020-01-02T03:04:05Z">{images}</images>'
        f'<videos count="0" maxTimestamp="2020-01-02T03:04:05Z">{videos}</videos>'
        "<paging><next>/v2/entries?from=2020&amp;start=2001</next></paging></queryResult>\n"
    )


def entry(
    fingerprints: str = f"<md5>{MD5}</md5>",
    *,
    kind: str = "image",
    identity: str = "i1",
    more: str = "<classification>A1</classification>",
) -> str:
    return (
        f'<{kind}><member id="42">A member</member><timestamp>2020-01-02T03:04:05Z</timestamp>'
        f"<id>{identity}</id>{more}<fingerprints>{fingerprints}</fingerprints></{kind}>"
    )


def test_an_entry(read_one: One) -> None:
    fingerprints = (
        f"<md5>{MD5.upper()}</md5> <sha1>{SHA1}</sha1><pdna>{PHOTODNA.hex()}</pdna>"
        f"<pdq>{PDQ}</pdq><tmk-pdqf>x</tmk-pdqf>"
    )
    assert read_one(document(entry(fingerprints))) == Record(
        1,
        md5=bytes.fromhex(MD5),
        sha1=bytes.fromhex(SHA1),
        pdq=bytes.fromhex(PDQ),
        photodna=PHOTODNA,
        media_type="image",
        votes=(Vote("ncmec", "A1"),),
        references=(("ncmec", "42/i1"),),
        entire=True,
        updated=datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


@pytest.mark.parametrize("code", ["A1", "A2", "B1", "B2"])
def test_classifications_are_votes(read_one: One, code: str) -> None:
    record = read_one(document(entry(more=f"<classification> {code} </classification>")))
    assert record.votes == (Vote("ncmec", code),)


def test_without_classification_there_is_no_vote(read_one: One) -> None:
    record = read_one(document(videos=entry(kind="video", more="")))
    assert (record.votes, record.media_type, record.entire) == ((), "video", True)


@pytest.mark.parametrize("kind", ["deletedImage", "deletedVideo"])
def test_tombstones(read_one: One, kind: str) -> None:
    text = (
        f'<{kind}><member id="43">Another</member><id>i4</id>'
        f"<timestamp>2020-01-02T03:04:05Z</timestamp></{kind}>"
    )
    record = read_one(document(text))
    assert record.deleted is True
    assert record.references == (("ncmec", "43/i4"),)
    assert record.updated == datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (record.md5, record.sha1, record.votes) == (None, None, ())


def test_feedback_is_noted_and_its_member_is_not_the_entrys(read_one: One) -> None:
    feedback = (
        '<classification>B1</classification><feedback lastUpdateTimestamp="2023-06-01T12:48:14Z">'
        '<affirmativeFeedback type="Md5"><members timestamp="2023-06-01T12:48:14Z">'
        '<member id="7">M</member></members></affirmativeFeedback>'
        '<negativeFeedback type="Sha1"><reasons><reason guid="01234567-abcd" name="R" type="Sha1"/>'
        '<members><member id="8">M</member></members></reasons></negativeFeedback></feedback>'
    )
    record = read_one(document(entry(more=feedback)))
    assert record.references == (("ncmec", "42/i1"),)
    assert record.votes == (Vote("ncmec", "B1"),)
    assert record.notes == ("NCMEC members gave negative feedback on 'Sha1'",)


def test_entries_come_in_the_files_order_with_their_times(read: Many) -> None:
    late = entry(identity="late").replace("2020-", "2021-")
    records = read(document(late + entry(identity="early"), entry(kind="video")))
    assert [each.number for each in records if isinstance(each, Record)] == [1, 2, 3]
    assert [each.updated.year for each in records if isinstance(each, Record) and each.updated] == [
        2021,
        2020,
        2020,
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_encodings(read: Many, encoding: str) -> None:
    text = document(entry(identity="é") * 200).replace("UTF-8", encoding.removesuffix("-sig"))
    records = read(text.replace("\n", "\r\n").encode(encoding))
    assert len(records) == 200
    assert all(isinstance(r, Record) and r.references == (("ncmec", "42/é"),) for r in records)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (entry("<md5>abc</md5>"), "md5"),
        (entry(f"<sha1>{MD5}</sha1>"), "sha1"),
        (entry(f"<pdq>{PDQ[:-1]}</pdq>"), "pdq"),
        (entry(""), "no MD5"),
        (entry("<tmk>x</tmk>"), "no MD5"),
        (entry(f"<pdna>{PHOTODNA.hex()}</pdna>"), "no MD5"),
        (entry(identity=""), "without its id"),
        (entry(identity="x" * 201), "longer than 200"),
        (entry().replace('id="42"', ""), "member"),
        (entry(more=f"<classification>{'x' * 65}</classification>"), "longer than 64"),
    ],
)
def test_a_bad_entry_is_rejected_and_the_rest_kept(read: Many, text: str, reason: str) -> None:
    before, bad, after = read(document(entry() + text + entry()))
    assert isinstance(before, Record)
    assert isinstance(after, Record)
    assert isinstance(bad, Rejected)
    assert bad.record == 2
    assert reason in bad.reason


def test_what_only_describes_is_noted(read_one: One) -> None:
    text = entry(f"<md5>{MD5}</md5><md5>{MD5[::-1]}</md5><pdna>short</pdna>")
    record = read_one(document(text.replace("2020-01-02T03:04:05Z", "soon")))
    assert record.md5 == bytes.fromhex(MD5)
    assert len(record.notes) == 3


# --- harm ---

LAUGHS = (
    '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
)


@pytest.mark.parametrize(
    "head",
    [
        LAUGHS,
        '<!DOCTYPE q [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE q SYSTEM "http://127.0.0.1:9/x.dtd">',
        '<!DOCTYPE q [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
        "<!DOCTYPE queryResult>",
    ],
)
def test_a_document_type_is_refused_before_anything_is_read(read: Many, head: str) -> None:
    with pytest.raises(FormatError, match="document type"):
        read(document(entry(identity="&c;"), head=head))


def test_an_unknown_entity_is_refused(read: Many) -> None:
    with pytest.raises(FormatError, match="broken XML"):
        read(document(entry(identity="&c;")))


def test_a_truncated_file_is_refused_wherever_it_ends(read: Many) -> None:
    content = document(entry() + entry(kind="deletedImage")).strip()
    for end in range(len(content)):
        with pytest.raises(FormatError):
            read(content[:end], FileFormat.NCMEC)


def test_a_large_truncated_file_names_the_record_it_broke_off_in(read: Many) -> None:
    text = document("".join(entry(identity=f"n{n}") for n in range(1, 2_000)))
    with pytest.raises(FormatError, match="truncated") as caught:
        read(text[: text.index("<id>n1234")])
    assert caught.value.record == 1234


def test_broken_xml_names_the_record(read: Many) -> None:
    with pytest.raises(FormatError, match="broken XML") as caught:
        read(document(entry() + "<image><id>x</image>" + entry()))
    assert caught.value.record == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<image>" + "<a>" * 1000 + "</a>" * 1000 + "</image>", "deep"),
        (f"<image><id>{'x' * 100_000}</id></image>", "longer than"),
        (f"<image>{'<fingerprints/>' * 1_000_000}</image>", "a record is longer"),
        (f"<image><!-- {'x' * 3_000_000} --></image>", "longer than"),
        (f'<image a="{"x" * 3_000_000}"/>', "longer than"),
        ("<image><id>1</id><id>2</id></image>", "two elements id"),
    ],
    ids=["deep", "text", "record", "comment", "attribute", "twice"],
)
def test_xml_without_bounds_is_refused_by_name(read: Many, text: str, why: str) -> None:
    with pytest.raises(FormatError, match=why) as caught:
        read(document(entry() + text + entry()))
    assert caught.value.record == 2 or why == "longer than"


def test_another_root_is_refused(read: Many) -> None:
    with pytest.raises(FormatError, match="queryResult"):
        read("<html><image/></html>", FileFormat.NCMEC)


def test_an_unknown_encoding_is_refused(read: Many) -> None:
    for encoding in ("x-none", "utf-7", "big5"):
        with pytest.raises(FormatError):
            read(document(entry()).replace("UTF-8", encoding), FileFormat.NCMEC)


def test_nul_is_refused(read: Many) -> None:
    with pytest.raises(FormatError):
        read(document(entry(identity="a\0b")))


def test_progress(read: Many) -> None:
    told: list[int] = []
    text = document(entry() * 500)
    read(text, on_progress=told.append)
    assert told[-1] == len(text)
