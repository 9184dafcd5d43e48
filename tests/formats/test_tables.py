"""ICSE-style CSV and Tieline's own CSV."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path

import pytest
from tieline_client.errors import FormatError
from tieline_client.formats import FileFormat, Record, Rejected, Vote
from tieline_client.formats.block_reading import unread_columns

MD5 = "0123456789abcdef0123456789abcdef"
SHA1 = MD5 + "01234567"
SHA256 = MD5 * 2
PDQ = MD5[::-1] * 2
PHOTODNA = bytes(range(144))
ICSE = (
    "MD5;SHA1;PhotoDNA;Image ID;Is distributed;Victim identified;Offender identified;Series name;"
    "Number of submissions;File Available;Media Type;Baseline"
)
OWN = "md5;sha1;sha256;pdq;quality;category;series;media_type"

One = Callable[..., Record]
Many = Callable[..., list[Record | Rejected]]


# --- ICSE ---


def test_icse_every_column(read_one: One) -> None:
    row = f"{MD5};{SHA1};{PHOTODNA.hex()};12345;n;yes;f;A series;7;y;Image;Y"
    assert read_one(f"{ICSE}\r\n{row}\r\n") == Record(
        1,
        md5=bytes.fromhex(MD5),
        sha1=bytes.fromhex(SHA1),
        photodna=PHOTODNA,
        media_type="Image",
        series="A series",
        references=(("icse", "12345"),),
        victim_identified=True,
        offender_identified=False,
        distributed=False,
        submissions=7,
        baseline=True,
        entire=True,
    )


def test_icse_baseline_is_kept_and_nothing_derived(read_one: One) -> None:
    record = read_one(f"MD5;Image ID;Baseline\n{MD5};1;true\n")
    assert record.baseline is True
    assert record.votes == ()


def test_icse_columns_in_any_order_case_and_company(read_one: One) -> None:
    header = "AGENCY;series NAME;ZZ40;is distributed;LACE;Investigation name;sha1;BASELINE"
    record = read_one(f"{header}\nx;S;1;T;2;y;{SHA1.upper()};N\n")
    assert record.sha1 == bytes.fromhex(SHA1)
    assert (record.series, record.distributed, record.baseline) == ("S", True, False)


@pytest.mark.parametrize(
    ("word", "flag"),
    [
        *((word, False) for word in ("n", "no", "f", "false", "N", "No", "FALSE", "0")),
        *((word, True) for word in ("y", "yes", "t", "true", "Y", "Yes", "TRUE", "1")),
        ("", None),
    ],
)
def test_icse_flags(read_one: One, word: str, flag: bool | None) -> None:
    record = read_one(f"MD5;Is distributed;Baseline\n{MD5};{word};{word}\n")
    assert (record.distributed, record.baseline) == (flag, flag)


def test_icse_empty_cells_say_nothing(read_one: One) -> None:
    record = read_one(f"{ICSE}\n{MD5};;;;;;;;;;;\n")
    assert record == Record(1, md5=bytes.fromhex(MD5), entire=True)


def test_icse_odd_values_are_noted(read_one: One) -> None:
    record = read_one(f"{ICSE}\n{MD5};;short;;maybe;;;;many;;;\n")
    assert record.md5 is not None
    assert len(record.notes) == 3


def test_icse_long_texts_are_rejected(read: Many) -> None:
    rows = [f"{MD5};{'x' * 201};1", f"{MD5};{'x' * 200};1", f"{MD5};S;{'1' * 201}"]
    long, longest, reference = read("MD5;Series name;Image ID\n" + "\n".join(rows))
    assert isinstance(long, Rejected)
    assert isinstance(longest, Record)
    assert isinstance(reference, Rejected)


# --- our own ---


def test_own_every_column(read_one: One) -> None:
    row = f"{MD5};{SHA1};{SHA256};{PDQ};88;vics-us:1;A series;image"
    assert read_one(f"{OWN}\n{row}\n") == Record(
        1,
        md5=bytes.fromhex(MD5),
        sha1=bytes.fromhex(SHA1),
        sha256=bytes.fromhex(SHA256),
        pdq=bytes.fromhex(PDQ),
        pdq_quality=88,
        votes=(Vote("vics-us", "1"),),
        series="A series",
        media_type="image",
        entire=False,
    )


def test_own_any_columns_in_any_order(read_one: One) -> None:
    record = read_one(f"pdq;remark;MD5\n{PDQ.upper()};x;{MD5}\n")
    assert (record.pdq, record.md5) == (bytes.fromhex(PDQ), bytes.fromhex(MD5))


@pytest.mark.parametrize(
    ("cell", "votes"),
    [
        ("1", (Vote("tieline", "1"),)),
        ("0", (Vote("tieline", "0"),)),
        ("ncmec:A1", (Vote("ncmec", "A1"),)),
        ("vics-us:1, ncmec:A1,vics-us:1", (Vote("vics-us", "1"), Vote("ncmec", "A1"))),
        (f"x:{'y' * 64}", (Vote("x", "y" * 64),)),
    ],
)
def test_own_categories(read_one: One, cell: str, votes: tuple[Vote, ...]) -> None:
    assert read_one(f"md5;category\n{MD5};{cell}\n").votes == votes


@pytest.mark.parametrize("cell", [f"x:{'y' * 65}", f"{'x' * 65}:1", ":1", "1" * 2000])
def test_own_bad_categories_are_rejected(read: Many, cell: str) -> None:
    (rejected,) = read(f"md5;category\n{MD5};{cell}\n")
    assert isinstance(rejected, Rejected)


@pytest.mark.parametrize(
    ("cells", "entire"), [(["", "", ""], True), (["", "1", ""], False), (["0", "", ""], False)]
)
def test_own_without_any_category_is_the_importers_statement(
    read: Many, cells: list[str], entire: bool
) -> None:
    records = read("md5;category\n" + "".join(f"{MD5};{cell}\n" for cell in cells))
    assert [record.entire for record in records if isinstance(record, Record)] == [entire] * 3


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        ("md5;categories", "category"),
        ("md5;Kategorie", "category"),
        ("md5;category;serie", "series"),
        ("md5;category;media", "mediatype"),
        ("md5;categories;series;quality;media_type", "category"),
    ],
)
def test_own_a_column_that_may_be_mistyped_is_refused(read: Many, header: str, meant: str) -> None:
    """Of a mistyped category all would belong."""
    row = ";".join([MD5, *("x" for _ in header.split(";")[1:])])
    with pytest.raises(FormatError, match=f"is it {meant}"):
        read(f"{header}\n{row}\n")


_OTHER_WORDS = (
    *(
        "cat",
        "cats",
        "kat",
        "Cat ID",
        "categoryid",
        "vics",
        "VICS category",
        "VICS level",
        "COPINE",
    ),
    *("class", "classification", "grade", "level", "tag", "tags", "label", "rating", "severity"),
    *("categoria", "categoría", "catégorie", "Kategorie", "kategoria", "kategória", "kategorija"),
    *("categorie", "Klasse", "klasa", "clase", "classe", "luokka", "Stufe", "Einstufung", "grado"),
    *("niveau", "nivel", "livello", "poziom", "razred", "třída", "категория", "κατηγορία"),
)


@pytest.mark.parametrize("name", _OTHER_WORDS)
def test_own_a_category_under_another_word_is_refused(read: Many, name: str) -> None:
    """Else what is no abuse material would be held, and told."""
    with pytest.raises(FormatError, match="is it category"):
        read(f"md5;{name};filename\n{MD5};3;x\n")
    assert len(read(f"md5;{name};category\n{MD5};3;1\n")) == 1, "it has a category of its own"


@pytest.mark.parametrize(
    ("header", "unread"),
    [
        ("md5;file name;Path;series", ["filename", "path"]),
        ("md5;sha1", []),
        ("md5;category;filename", []),
        ("# md5 and more\nmd5;;note", ["note"]),
        (MD5, []),
    ],
)
def test_own_columns_that_are_not_read_are_named(
    tmp_path: Path, header: str, unread: list[str]
) -> None:
    path = tmp_path / "own.csv"
    path.write_text(f"{header}\n")
    assert unread_columns(path) == unread


@pytest.mark.parametrize("name", ["filename", "sha512", "hash", "id", "categories", ""])
def test_own_other_columns_are_not_read(read_one: One, name: str) -> None:
    """A name like one that is there is another column."""
    cells = f"{MD5};vics-us:1;Azul;image;70;anything"
    record = read_one(f"md5;category;series;media_type;quality;{name}\n{cells}\n")
    assert (record.md5, record.series) == (bytes.fromhex(MD5), "Azul")


def test_own_progress_is_told_of_one_pass(read: Many) -> None:
    told: list[int] = []
    text = "md5;category\n" + f"{MD5};\n" * 2_000
    read(text, on_progress=told.append)
    assert told == sorted(set(told))
    assert told[-1] == len(text)


@pytest.mark.parametrize("quality", ["101", "-1", "x", "1.5"])
def test_own_bad_quality_is_rejected(read: Many, quality: str) -> None:
    (rejected,) = read(f"pdq;quality\n{PDQ};{quality}\n")
    assert isinstance(rejected, Rejected)
    assert "quality" in rejected.reason


def test_own_digests_may_carry_their_prefix(read_one: One) -> None:
    record = read_one(f"md5;sha1\nmd5:{MD5};SHA1:{SHA1}\n")
    assert (record.md5, record.sha1) == (bytes.fromhex(MD5), bytes.fromhex(SHA1))


# --- both, and what spreadsheets do to them ---


@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_delimiters_ends_and_encodings(
    read_one: One, delimiter: str, end: str, mark: bytes, encoding: str
) -> None:
    for header in (f"MD5;Series name;Baseline{end}", f"md5;series;quality{end}"):
        text = (header + f"{MD5};Sé\N{SNOWMAN};{end}{end}").replace(";", delimiter)
        record = read_one(mark + text.encode(encoding))
        assert record.series == "Sé\N{SNOWMAN}"
        assert record.md5 == bytes.fromhex(MD5)


def test_quoted_cells(read_one: One) -> None:
    record = read_one(f'md5;series\n"{MD5}";"a;""b""\r\nc"\n')
    assert record.series == 'a;"b"\nc'


def test_bad_rows_are_rejected_and_the_rest_kept(read: Many) -> None:
    rows = [
        f"{MD5};;;;;;;",
        f"{MD5[:-1]};;;;;;;",
        f"{MD5};{SHA1}",
        f"{MD5};;;;;;;;;",
        f"{MD5};;;;;;;;more",
        f"{MD5};;;;;;a\0b;",
        ";;;;;;S;",
        f"{MD5};;;{PDQ[:-2]};;;;",
        f"{MD5};;;;;;;",
    ]
    outcome = read(f"{OWN}\n" + "\n".join(rows) + "\n")
    assert [isinstance(each, Record) for each in outcome] == [
        True, False, False, True, False, False, False, False, True,
    ]  # fmt: skip
    rejected = {each.record: each.reason for each in outcome if isinstance(each, Rejected)}
    assert set(rejected) == {2, 3, 5, 6, 7, 8}
    assert "md5" in rejected[2]
    assert "2 cells" in rejected[3]
    assert "9 cells" in rejected[5]
    assert "NUL" in rejected[6]
    assert "no MD5" in rejected[7]
    assert "pdq" in rejected[8]


def test_a_text_that_is_not_utf_8_is_rejected(read: Many) -> None:
    content = f"md5;series\n{MD5};caf".encode() + b"\xe9" + f"\n{MD5};ok\n".encode()
    rejected, record = read(content)
    assert isinstance(rejected, Rejected)
    assert "UTF-8" in rejected.reason
    assert isinstance(record, Record)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a;b\n1;2\n", "header"),
        ("md5;MD5\n1;2\n", "twice"),
        ('md5;"series\n1;2\n', "quotes"),
        (f'md5;series\n{MD5};"open\n', "quotes"),
        (f'md5;series\n{MD5};"a"b\n', "quotes"),
        ("md5;series\n" + MD5 + ';"' + "x\n" * 100_000, "longer"),
        ("md5;" + "x" * 100_000, "longer"),
        (f"md5;series\n{MD5};{'x' * 100_000}\n", "longer"),
        ("md5" + ";" * 300, "columns"),
        ("", "header"),
    ],
)
def test_broken_tables_are_refused(read: Many, content: str, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        read(content, FileFormat.CSV)


def test_a_broken_row_is_named(read: Many) -> None:
    with pytest.raises(FormatError) as caught:
        read(f'md5;series\n{MD5};x\n{MD5};"a"b\n')
    assert caught.value.record == 2


def test_the_format_can_be_stated(read: Many) -> None:
    with pytest.raises(FormatError, match="Image ID"):
        read(f"{OWN}\n{MD5};;;;;;;\n", FileFormat.ICSE)


def test_a_table_of_flags_that_states_categories_is_not_taken_whole(read: Many) -> None:
    """Tools for a seizure write both; taken whole, its private photographs would belong."""
    rows = f"MD5,Category,Is Distributed,Victim Identified\n{MD5},0,n,n\n{MD5},1,y,n\n"
    found = read(rows)
    assert [(one.votes, one.entire) for one in found if isinstance(one, Record)] == [
        ((Vote("tieline", "0"),), False),
        ((Vote("tieline", "1"),), False),
    ]
    for header in (
        "MD5,Category,Series Name",
        "MD5,Klasse,Is Distributed",
        "MD5,VICS Cat,Baseline",
    ):
        with pytest.raises(FormatError, match="Rename it"):
            read(f"{header}\n{MD5},0,x\n")
    whole = read(rows, FileFormat.ICSE)  # said by a person
    assert all(isinstance(one, Record) and one.entire for one in whole)
