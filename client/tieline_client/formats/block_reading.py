"""The way in for files of millions: blocks of columns instead of one record after the other.

Here are the formats of lines and tables, whose cells become arrays (blocks.py); vics_blocks.py has
VICS, and every other format is read record by record and gathered into blocks. `open_records` and
`open_blocks` say the same of every file: that is tested.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from tieline_client.digests import DigestKind
from tieline_client.formats import hashdeep, hashlists, nsrl, own_csv
from tieline_client.formats.blocks import Block, BlockBuilder, blocks_of, gathered
from tieline_client.formats.detect import FileFormat, detect_head, file_name, read_head
from tieline_client.formats.own_csv import read_own_text
from tieline_client.formats.reading import guarded, open_reader
from tieline_client.formats.record import Record, Rejected
from tieline_client.formats.tabular import Rows, Table, is_content
from tieline_client.formats.text import Progress, file_lines, split_mark, utf8_chunks
from tieline_client.formats.vics_blocks import read_vics_blocks

_SPLIT = (FileFormat.CSV, FileFormat.LIST, FileFormat.HASHDEEP)


def open_blocks(
    path: Path,
    format: FileFormat | None = None,  # noqa: A002 (the word of the command line)
    *,
    bare_64_is_pdq: bool = False,
    on_progress: Progress | None = None,
) -> Iterator[Block]:
    """Return the records of a regular file in blocks, read as they are asked for.

    Arguments and errors are those of `open_records`.
    """
    name = file_name(path)
    head = read_head(path)
    found = detect_head(head, name) if format is None else format
    if found is FileFormat.NSRL and not head.startswith(nsrl.SQLITE_MAGIC):
        encoding = "utf-8" if split_mark(head)[1] else "latin-1"
        return guarded(_nsrl_v2(file_lines(path, name, on_progress, encoding), name), name)
    if found is FileFormat.VICS:
        return guarded(read_vics_blocks(utf8_chunks(path, name, on_progress), name), name)
    if found in _SPLIT:
        lines = file_lines(path, name, on_progress)
        if found is FileFormat.CSV:
            return guarded(_own_csv(file_lines(path, name), lines, name), name)
        if found is FileFormat.LIST:
            return guarded(_list(lines, bare_64_is_pdq), name)
        return guarded(_hashdeep(lines, name), name)
    reader = open_reader(
        path, name, found, head, bare_64_is_pdq=bare_64_is_pdq, on_progress=on_progress
    )
    return guarded(blocks_of(reader), name)


def unread_columns(
    path: Path,
    format: FileFormat | None = None,  # noqa: A002 (the word of the command line)
) -> list[str]:
    """Return the columns that are passed over of an own CSV in which none states a category; of
    other files there are none.

    Arguments and errors are those of `open_records`.
    """
    name = file_name(path)
    head = read_head(path)
    if (detect_head(head, name) if format is None else format) is not FileFormat.CSV:
        return []
    table = Table(file_lines(path, name), name, own_csv.is_own_csv, own_csv.HEADER)
    return own_csv.unread_columns(table.columns)


# --- tables -----------------------------------------------------------------------------------


def _own_csv(
    first_look: Iterable[list[str]], blocks: Iterable[list[str]], name: str
) -> Iterator[Block]:
    table, entire = own_csv.open_own_csv(first_look, blocks, name)
    for first, rows in table.blocks():
        builder = BlockBuilder(first, len(rows), entire=entire)
        columns = _columns(builder, table.columns, rows)
        for kind in DigestKind:
            if kind.label in columns:
                builder.digests(kind, columns[kind.label])
        if "quality" in columns:
            builder.quality(columns["quality"], own_csv.read_own_quality)
        if "category" in columns:
            builder.votes(columns["category"], own_csv.read_votes)
        if "series" in columns:
            builder.series(columns["series"], partial(read_own_text, name="series"))
        if "mediatype" in columns:
            builder.media_types(
                columns["mediatype"], partial(own_csv.read_own_text, name="media_type")
            )
        yield builder.finish(
            lambda at, first=first, rows=rows: own_csv.read_row(  # type: ignore[misc]
                table, first + at, rows[at], entire=entire
            )
        )


def _hashdeep(blocks: Iterator[list[str]], name: str) -> Iterator[Block]:
    head, rest = _split_off(blocks, 2)
    columns = hashdeep.read_header("".join(head[:1]), "".join(head[1:]), name)
    number = 1
    for lines in rest:
        start = 0
        for at, line in enumerate([*lines, hashdeep.MARK]):
            if not line.startswith(hashdeep.MARK):
                continue
            found = [each for each in lines[start:at] if hashdeep.is_record(each)]
            if found:
                yield _hashdeep_block(number, columns, found)
                number += len(found)
            columns = hashdeep.next_columns(columns, line, name)
            start = at + 1


def _hashdeep_block(first: int, columns: list[str], lines: Sequence[str]) -> Block:
    def parse(at: int) -> Record | Rejected:
        return hashdeep.read_row(first + at, columns, lines[at])

    if len(set(columns)) < len(columns):
        return gathered(map(parse, range(len(lines))))
    builder = BlockBuilder(first, len(lines), entire=True)
    # The name is last and may hold commas.
    rows = Rows([], [line.split(",", len(columns) - 1) for line in lines], len(columns))
    _take_known(builder, _columns(builder, columns, rows), hashdeep.KINDS, "size")
    return builder.finish(parse)


def _nsrl_v2(blocks: Iterator[list[str]], name: str) -> Iterator[Block]:
    head, rest = _split_off(blocks, 1)
    columns = nsrl.read_header("".join(head), name)
    number = 1
    for block in rest:
        lines = [line for line in block if line.strip()]
        if lines:
            yield _nsrl_block(number, columns, lines)
            number += len(lines)


def _nsrl_block(first: int, columns: list[str], lines: Sequence[str]) -> Block:
    def parse(at: int) -> Record | Rejected:
        return nsrl.read_row(first + at, columns, lines[at])

    try:
        rows = list(csv.reader(lines))
    except csv.Error:
        rows = []
    if len(rows) != len(lines):  # a quote is broken: each line is parsed for itself
        return gathered(map(parse, range(len(lines))))
    builder = BlockBuilder(first, len(lines), entire=False)
    table = _columns(builder, columns, Rows([], rows, len(columns)))
    _take_known(builder, table, nsrl.KINDS, "filesize")
    return builder.finish(parse)


def _columns(builder: BlockBuilder, names: Sequence[str], rows: Rows) -> dict[str, Sequence[str]]:
    """Return the cells of rows by column; what is in no row of the table's width is odd."""
    columns, odd = rows.columns()
    builder.odd(odd)
    return dict(zip(names, columns, strict=True))


def _take_known(
    builder: BlockBuilder,
    columns: dict[str, Sequence[str]],
    kinds: dict[str, DigestKind],
    size: str,
) -> None:
    for name, kind in kinds.items():
        if name in columns:
            builder.digests(kind, columns[name])
    if size in columns:
        builder.size(columns[size])


def _split_off(blocks: Iterator[list[str]], count: int) -> tuple[list[str], Iterator[list[str]]]:
    """Return the first lines, and blocks of those after them."""
    held: list[str] = []
    while len(held) < count and (block := next(blocks, None)):
        held += block
    return held[:count], chain([held[count:]], blocks)


# --- lists ------------------------------------------------------------------------------------


def _list(blocks: Iterator[list[str]], bare_64_is_pdq: bool) -> Iterator[Block]:
    head, rest = _split_off(blocks, hashlists.LOOK_AHEAD)
    pdq = bare_64_is_pdq or hashlists.says_pdq(line.strip() for line in head)
    number = 1
    for lines in chain([head], rest):
        texts = list(filter(None, map(str.strip, lines)))
        if "#" in "".join(texts):
            texts = list(filter(is_content, texts))
        if texts:
            yield _list_block(number, texts, pdq)
            number += len(texts)


def _list_block(first: int, texts: Sequence[str], pdq: bool) -> Block:
    """Return lines as a block; those in the style of the first are the ordinary ones."""

    def parse(at: int) -> Record | Rejected:
        return hashlists.read_line(first + at, texts[at], bare_64_is_pdq=pdq)

    style = hashlists.style_of(texts[0], bare_64_is_pdq=pdq)
    if style is None:
        return gathered(map(parse, range(len(texts))))
    builder = BlockBuilder(first, len(texts), entire=True)
    chars = 2 * style.kind.width
    tails = [text[chars : chars + style.tail_chars] for text in texts]
    strange = {tail for tail in set(tails) if not style.tail.fullmatch(tail)}
    if strange:
        builder.odd(at for at, tail in enumerate(tails) if tail in strange)
    if "\0" in "".join(texts):
        builder.odd(at for at, text in enumerate(texts) if "\0" in text)
    builder.digests(style.kind, [text[:chars] for text in texts])
    return builder.finish(parse)
