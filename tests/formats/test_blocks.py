"""A file says the same whether it is read in blocks or record by record."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tieline_client.columns import columnar
from tieline_client.errors import FormatError
from tieline_client.formats import FileFormat, Record, open_records
from tieline_client.formats import text as text_module
from tieline_client.formats.block_reading import open_blocks

from tests.formats.test_formats_fuzz import VALID

MD5 = "0123456789abcdef0123456789ABCDEF"
SHA1 = MD5 + "01234567"
HEX64 = MD5 * 2

Outcome = tuple[Any, ...]


def by_record(path: Path, stated: FileFormat | None, **options: Any) -> Outcome:
    """What the record reader says of a file."""
    try:
        read = list(open_records(path, stated, **options))
    except FormatError as error:
        return ("refused", error.message)
    records = [each for each in read if isinstance(each, Record)]
    return (
        "read",
        [replace(each, notes=(), updated=None) for each in records],
        [each for each in read if not isinstance(each, Record)],
        [(each.number, "; ".join(each.notes)) for each in records if each.notes],
    )


def by_block(path: Path, stated: FileFormat | None, **options: Any) -> Outcome:
    """What the block reader says of it."""
    try:
        blocks = list(open_blocks(path, stated, **options))
    except FormatError as error:
        return ("refused", error.message)
    records: list[Record] = []
    for block in blocks:
        if block.columns is not None:
            numbers = block.columns.numbers
            assert (numbers[:-1] < numbers[1:]).all()
            records += block.columns.records()
        assert not any(map(columnar, block.records))
        records += [replace(each, notes=(), updated=None) for each in block.records]
    return (
        "read",
        sorted(records, key=lambda each: each.number),
        [each for block in blocks for each in block.rejected],
        [each for block in blocks for each in block.notes],
    )


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few lines have many blocks, and lines are cut at any byte."""
    monkeypatch.setattr(text_module, "LINES_PER_BLOCK", 3)
    monkeypatch.setattr(text_module, "READ_LINES_BYTES", 97)
    monkeypatch.setattr(text_module, "LINE_BYTES", 700)
    monkeypatch.setattr("tieline_client.formats.tabular.LINE_BYTES", 700)


SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
_ODD_TEXT = st.sampled_from(
    ["", " ", "a", "Series é", " padded ", "\x1b[1m", "a\0b", "x" * 201, "\udce9", "\t", '"', "\r"]
)
_DIGEST = st.sampled_from(
    [
        *(MD5, SHA1, HEX64, MD5.lower(), ""),
        *(f" {MD5} ", f"md5:{MD5}", f"SHA1: {SHA1}", MD5[:-1], MD5[:-1] + "g", f"{MD5[:-2]}  "),
        *("  ", "\N{FULLWIDTH DIGIT ONE}" * 32, f"{MD5[:15]} {MD5[:16]}"),
    ]
)
_CELLS = {
    **dict.fromkeys(("md5", "sha1", "sha256", "pdq"), _DIGEST),
    "quality": st.sampled_from(["", "50", " 7 ", "0", "101", "x", "-1"]),
    "category": st.sampled_from(
        ["", "1", "vics-us:1", "a:1, b:2,a:1", ":1", "x" * 65, ",", "é:1", " "]
    )
    | st.just(",".join(map(str, range(20)))),
    "series": _ODD_TEXT,
    "media_type": _ODD_TEXT,
    "remark": _ODD_TEXT,
}
_END = st.sampled_from(["\n", "\n", "\r\n", "\r\r\n", "\n\n", "\n \n"])
_EXTRA = st.sampled_from(["", "", "", ";", ";;", ";more", "\0"])
_ENCODING = st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"])


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


@st.composite
def _tables(draw: st.DrawFn) -> bytes:
    names = draw(st.lists(st.sampled_from(list(_CELLS)), min_size=1, max_size=6, unique=True))
    lines = [draw(st.sampled_from(["", "\n", " \r\n"])) + ";".join(names)]
    # Mostly ordinary, so that blocks hold both.
    ordinary = draw(st.booleans())
    for _ in range(draw(st.integers(0, 12))):
        cells = []
        for name in names:
            cell = draw(_CELLS[name])
            if ordinary and name in ("md5", "sha1"):
                cell = {"md5": MD5, "sha1": SHA1}[name]
            if draw(st.integers(0, 30)) == 7:
                cell = _quoted(cell + draw(st.sampled_from(["", "\n", ";", '"', "\r\n x\n"])))
            cells.append(cell)
        lines.append(";".join(cells) + draw(_EXTRA))
    text = "".join(line + draw(_END) for line in lines)
    if draw(st.booleans()):
        text = text.rstrip("\n")
    encoding = draw(_ENCODING)
    errors = "surrogatepass" if encoding == "utf-16" else "surrogateescape"
    return text.encode(encoding, errors)


@SHARED
@given(content=_tables())
@example(content=f'md5;series\n{MD5};a\n{MD5};"b\nc"\n{MD5};d\n{MD5};"e'.encode())
@example(content=f"md5\n{MD5}\n{'x' * 701}\n".encode())
@example(content=f'md5;series\n{MD5};"{"x" * 400}\n{"x" * 400}"\n'.encode())
def test_tables(small_blocks: None, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    assert by_block(path, FileFormat.CSV) == by_record(path, FileFormat.CSV)


_LINES = st.sampled_from(
    [
        *(MD5, SHA1, HEX64, f"{MD5}  name", f"{SHA1} *n", f"{HEX64}  n", f"{HEX64} *5", ""),
        *(f"{HEX64},50", f"{HEX64} 50", f"{HEX64}  ,50", f"{HEX64}  50", f"pdq:{HEX64}", "# c"),
        *(f"MD5 (x) = {MD5}", f"\\{MD5}  a\\n", f"{MD5} ", f"{MD5}\t", f"{MD5}\tx", MD5[:-1]),
        *(f"{MD5[:-1]}g", f"{MD5}  \udce9", f"{MD5}  a\0", "\0", f" {MD5}", "  ", f"{MD5}0"),
        *(f"{HEX64} *", f"{HEX64}  x;y", f"{MD5}  #", f"{MD5},x", "# PDQ", "words", "\x1b"),
    ]
)


@SHARED
@given(
    lines=st.lists(_LINES, max_size=14) | st.lists(st.sampled_from([MD5, f"{MD5} x"]), max_size=14),
    end=_END,
    encoding=_ENCODING,
    pdq=st.booleans(),
)
def test_lists(
    small_blocks: None, tmp_path: Path, lines: list[str], end: str, encoding: str, pdq: bool
) -> None:
    path = tmp_path / "list.txt"
    errors = "surrogatepass" if encoding == "utf-16" else "surrogateescape"
    path.write_bytes(end.join(lines).encode(encoding, errors))
    for known in (FileFormat.LIST, None):
        options = {"bare_64_is_pdq": pdq}
        assert by_block(path, known, **options) == by_record(path, known, **options)


_SIZES = st.sampled_from(
    ["5", "", "x", "9007199254740993", "9" * 18, "9" * 19, "9" * 30, " 5 ", "-1", "٣"]
)
_NAMES = st.sampled_from(["a", "", "a,b", '"', 'x"y', "é", "\udce9", "n\0", "a\rb"])


@SHARED
@given(
    rows=st.lists(st.tuples(_SIZES, _DIGEST, _DIGEST, _NAMES), max_size=12),
    columns=st.sampled_from(["size,md5,sha1,filename", "size,md5,md5,filename", "md5,size"]),
    between=st.sampled_from(
        ["", "## x\n", "%%%% HASHDEEP-1.0\n%%%% size,sha1,filename\n", "%%%% odd\n", "%%%%\n", "\n"]
    ),
    end=_END,
)
def test_hashdeep(
    small_blocks: None,
    tmp_path: Path,
    rows: list[tuple[str, str, str, str]],
    columns: str,
    between: str,
    end: str,
) -> None:
    path = tmp_path / "hashdeep.txt"
    lines = [f"{','.join(row)}{end}" for row in rows]
    text = f"%%%% HASHDEEP-1.0\n%%%% {columns}\n" + between.join(lines)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert by_block(path, FileFormat.HASHDEEP) == by_record(path, FileFormat.HASHDEEP)


_NSRL = '"SHA-1","MD5","CRC32","FileName","FileSize","ProductCode","OpSystemCode","SpecialCode"'


@SHARED
@given(
    rows=st.lists(st.tuples(_DIGEST, _DIGEST, _NAMES, _SIZES), max_size=12),
    quote=st.sampled_from(['"', '"', ""]),
    end=_END,
)
def test_nsrl(
    small_blocks: None,
    tmp_path: Path,
    rows: list[tuple[str, str, str, str]],
    quote: str,
    end: str,
) -> None:
    path = tmp_path / "NSRLFile.txt"
    lines = [
        f'{quote}{sha1}{quote},"{md5}","0","{name}",{size},1,"x",""'
        for sha1, md5, name, size in rows
    ]
    path.write_bytes(end.join([_NSRL, *lines]).encode("utf-8", "surrogateescape"))
    assert by_block(path, FileFormat.NSRL) == by_record(path, FileFormat.NSRL)


@SHARED
@given(data=st.data(), stated=st.sampled_from(list(VALID)))
def test_mutated_files(
    small_blocks: None, tmp_path: Path, data: st.DataObject, stated: FileFormat
) -> None:
    content = bytearray(VALID[stated].encode())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 20))
        piece = data.draw(
            st.binary(max_size=8)
            | st.sampled_from([b"\0", b'"', b"{", b"[", b"]", b"<", b"\n", b";", b"\r", b",", b" "])
            | st.just(bytes(content[at : at + length]) * 2)
        )
        content[at : at + length] = piece
    path = tmp_path / "mutated"
    path.write_bytes(content)
    assert by_block(path, stated) == by_record(path, stated)


@pytest.mark.parametrize("bad", [(), (4_999,), tuple(range(0, 25_000, 7))])
def test_large_files_and_their_numbers(tmp_path: Path, bad: tuple[int, ...]) -> None:
    def row(number: int) -> str:
        digits = hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()
        if number in strange:
            return f"sha1:{digits};1;S" if number % 2 else f"{digits[1:]};1;S"
        return f"{digits};vics-us:{number % 3};Series {number // 100}"

    strange = set(bad)
    path = tmp_path / "large.csv"
    path.write_text("sha1;category;series\n" + "\n".join(map(row, range(25_000))) + "\n")
    outcome = by_block(path, None)
    assert outcome == by_record(path, None)
    assert len(outcome[1]) + len(outcome[2]) == 25_000
    assert [len(block.columns or ()) for block in open_blocks(path)][:1] == [
        9_999 - sum(number % 2 == 0 for number in bad if number < 9_999)
    ]
