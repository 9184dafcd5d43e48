"""A file as chunks of UTF-8 or as lines: byte order marks, UTF-16, line ends, progress, caps."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tieline_client.errors import FormatError
from tieline_client.limits import LINE_BYTES, READ_BYTES

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


def raw_chunks(path: Path, on_progress: Progress | None = None) -> Iterator[bytes]:
    """Yield the file's bytes as they are, READ_BYTES at a time."""
    read = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(READ_BYTES):
            read += len(chunk)
            yield chunk
            if on_progress is not None:
                on_progress(read)


def utf8_chunks(path: Path, name: str, on_progress: Progress | None = None) -> Iterator[bytes]:
    """Yield the file as UTF-8 without mark, whatever its mark says it is.

    What carries no mark of UTF-16 or UTF-32 passes unchecked. Raises FormatError when a marked
    encoding does not decode.
    """
    chunks = raw_chunks(path, on_progress)
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


def lines(chunks: Iterable[bytes], name: str, encoding: str = "utf-8") -> Iterator[str]:
    """Yield the lines of a text without their ends (LF or CRLF).

    Bytes that are not UTF-8 become lone surrogates, so that a file name in another encoding does
    no harm where it is not kept. Raises FormatError for a line over LINE_BYTES.
    """
    count = 0
    rest = b""
    for chunk in chunks:
        block = rest + chunk if rest else chunk
        end = block.rfind(b"\n") + 1
        rest = block[end:]
        if end:
            text = block[: end - 1].decode(encoding, "surrogateescape")
            for line in text.split("\n"):
                count += 1
                if len(line) > LINE_BYTES:
                    raise _too_long(name, count)
                yield line.removesuffix("\r")
        if len(rest) > LINE_BYTES:
            raise _too_long(name, count + 1)
    if rest:
        yield rest.decode(encoding, "surrogateescape").removesuffix("\r")


def _too_long(name: str, line: int) -> FormatError:
    return FormatError(name, None, f"line {line} is longer than {LINE_BYTES} bytes")
