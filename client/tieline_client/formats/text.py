"""A file as chunks of UTF-8 or as lines: byte order marks, UTF-16, line ends, progress, caps."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tieline_client.errors import FormatError
from tieline_client.limits import (
    LINE_BLOCK_BYTES,
    LINE_BYTES,
    LINES_PER_BLOCK,
    READ_BYTES,
    READ_LINES_BYTES,
)

Progress = Callable[[int], None]
"""Takes the number of bytes of the file that were read so far."""

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def split_mark(head: bytes) -> tuple[str, int]:
    """Return the encoding that a byte order mark names, and the mark's length; else UTF-8 and 0."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    return "utf-8", 0


def raw_chunks(
    path: Path, on_progress: Progress | None = None, size: int = READ_BYTES
) -> Iterator[bytes]:
    """Yield the file's bytes as they are, ``size`` at a time."""
    read = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(size):
            read += len(chunk)
            yield chunk
            if on_progress is not None:
                on_progress(read)


def utf8_chunks(
    path: Path, name: str, on_progress: Progress | None = None, size: int = READ_BYTES
) -> Iterator[bytes]:
    """Yield the file as UTF-8 without mark, whatever its mark says it is.

    What carries no mark of UTF-16 or UTF-32 passes unchecked. Raises FormatError when a marked
    encoding does not decode.
    """
    chunks = raw_chunks(path, on_progress, size)
    first = next(chunks, b"")
    encoding, skip = split_mark(first)
    if encoding == "utf-8":
        yield first[skip:]
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        yield decoder.decode(first[skip:]).encode()
        for chunk in chunks:
            yield decoder.decode(chunk).encode()
        decoder.decode(b"", final=True)
    except UnicodeError:
        raise FormatError(
            name, None, f"broken {encoding.upper()} text; it is damaged or truncated"
        ) from None


def file_lines(
    path: Path, name: str, on_progress: Progress | None = None, encoding: str = "utf-8"
) -> Iterator[list[str]]:
    """Yield the lines of a file in blocks, see `line_blocks`; UTF-8 stands for what a mark says."""
    if encoding == "utf-8":
        chunks = utf8_chunks(path, name, on_progress, READ_LINES_BYTES)
    else:
        chunks = raw_chunks(path, on_progress, READ_LINES_BYTES)
    return line_blocks(chunks, name, encoding)


def line_blocks(chunks: Iterable[bytes], name: str, encoding: str = "utf-8") -> Iterator[list[str]]:
    """Yield the lines of a text without their ends (LF or CRLF), up to LINES_PER_BLOCK at a time.

    Bytes that are not UTF-8 become lone surrogates, so that a file name in another encoding does
    no harm where it is not kept. Raises FormatError for a line over LINE_BYTES, after the lines
    before it.
    """
    count = size = 0
    rest = b""
    block: list[str] = []
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if end:
            text = data[:end].decode(encoding, "surrogateescape").replace("\r\n", "\n")
            found = text.split("\n")
            found.pop()
            long = _first_too_long(found, encoding)
            if long is not None:
                yield from _cut([*block, *found[:long]])
                raise _too_long(name, count + long + 1)
            count += len(found)
            size += end
            block += found
        if len(rest.removesuffix(b"\r")) > LINE_BYTES:
            yield from _cut(block)
            raise _too_long(name, count + 1)
        if len(block) >= LINES_PER_BLOCK or size >= LINE_BLOCK_BYTES:
            *full, block = _cut(block)
            yield from full
            if size >= LINE_BLOCK_BYTES:
                yield block
                block = []
            size = 0
    if rest:
        block.append(rest.decode(encoding, "surrogateescape").removesuffix("\r"))
    yield from _cut(block)


def _cut(block: list[str]) -> list[list[str]]:
    return [
        block[start : start + LINES_PER_BLOCK] for start in range(0, len(block), LINES_PER_BLOCK)
    ]


def _first_too_long(lines: list[str], encoding: str) -> int | None:
    if 4 * max(map(len, lines)) <= LINE_BYTES:  # no encoding takes more for a character
        return None
    for at, line in enumerate(lines):
        if len(line.encode(encoding, "surrogateescape")) > LINE_BYTES:
            return at
    return None


def _too_long(name: str, line: int) -> FormatError:
    return FormatError(name, None, f"line {line} is longer than {LINE_BYTES} bytes")
