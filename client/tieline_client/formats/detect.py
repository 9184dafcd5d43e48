"""Which format a file has, told from its content; the name says nothing.

Only the first bytes are read. A picture, a video or any other file that holds no hashes is refused
at its first bytes: Tieline never reads media.
"""

from __future__ import annotations

import enum
import re
import stat
from pathlib import Path

from tieline_client.errors import FormatError
from tieline_client.formats import hashdeep, icse, ncmec, nsrl, own_csv
from tieline_client.formats.fields import BadRecord, shown
from tieline_client.formats.hashlists import parse_line
from tieline_client.formats.tabular import is_content, parse_header
from tieline_client.formats.text import split_mark

_HEAD_BYTES = 16 * 1024
_LINES_TRIED = 50


class FileFormat(enum.StrEnum):
    """The formats of ``tieline hashes import --format``; PDQ lists are ``list``."""

    VICS = "vics"
    ICSE = "icse"
    HASHDEEP = "hashdeep"
    NSRL = "nsrl"
    NCMEC = "ncmec"
    LIST = "list"
    CSV = "csv"
    CASE = "case"


_KNOWN = (
    "VICS JSON, CASE JSON-LD, ICSE-style CSV, hashdeep, NSRL, NCMEC XML, lists of md5sum and its "
    "kin, one hash a line, PDQ lists, Tieline's CSV"
)

# (offset, first bytes). Sources: the formats' own specifications; ISO/IEC 14496-12 for "ftyp".
_MEDIA = (
    (0, b"\xff\xd8\xff"),
    (0, b"\x89PNG\r\n\x1a\n"),
    (0, b"GIF8"),
    (0, b"II*\0"),
    (0, b"MM\0*"),
    (0, b"8BPS"),
    (0, b"\0\0\x01\0"),
    (0, b"RIFF"),
    (0, b"OggS"),
    (0, b"ID3"),
    (0, b"fLaC"),
    (0, b"FLV\x01"),
    (0, b"\x1a\x45\xdf\xa3"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    (0, b"\0\0\x01\xba"),
    (0, b"\0\0\x01\xb3"),
    (0, b"\0\0\0\x0cjP  "),
    (0, b"\0\0\0\x0cJXL "),
    (0, b"\xff\x4f\xff\x51"),
    (0, b"\xff\x0a"),
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
)
_PACKED = (
    (0, b"\x1f\x8b", "gzip"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (0, b"Rar!\x1a\x07", "RAR"),
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (257, b"ustar", "tar"),
)
_VICS = re.compile(r'"(?:@odata\.context|odata\.metadata|value)"\s*:')
_CASE = re.compile(r'"@(?:context|graph)"\s*:')
_NODES = re.compile(r'\[\s*\{\s*"@(?:id|type)"\s*:')
"""An array of nodes, as tools write JSON-LD that has no context."""
_NCMEC = re.compile(rf"<(?:[\w.-]+:)?{ncmec.ROOT}[\s/>]")


def detect(path: Path) -> FileFormat:
    """Return the format of a file; raise FormatError when it is none that Tieline reads."""
    return detect_head(read_head(path), file_name(path))


def file_name(path: Path) -> str:
    """Return a file's name for messages; a name can hold control characters."""
    return path.name if path.name and path.name.isprintable() else shown(path.name or str(path))


def read_head(path: Path) -> bytes:
    """Return the first bytes of a regular file that may hold hashes.

    Raises FormatError when it cannot be opened, is no regular file, or begins as media or packed
    files do, whatever it is said to be.
    """
    name = file_name(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise FormatError(name, None, "not a regular file; save its content to a file first")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise unreadable(name, error) from None
    _refuse_non_lists(head, name)
    return head


def unreadable(name: str, error: OSError) -> FormatError:
    """Return what is said of a file that the system does not let us read."""
    return FormatError(name, None, f"cannot be read: {error.strerror or type(error).__name__}")


def detect_head(head: bytes, name: str) -> FileFormat:
    """Return the format of a file by its first bytes; raise FormatError when it is none."""
    if not head:
        raise FormatError(name, None, "the file is empty")
    if head.startswith(nsrl.SQLITE_MAGIC):
        return FileFormat.NSRL
    text = _decode(head, name)
    if len(head) == _HEAD_BYTES and not any(map(is_content, text.split("\n"))):
        raise FormatError(
            name,
            None,
            f"its first {_HEAD_BYTES} bytes hold no more than comments and blank lines; "
            "shorten what stands before the hashes",
        )
    return _detect_text(text, name)


def _refuse_non_lists(head: bytes, name: str) -> None:
    for offset, magic in _MEDIA:
        if head.startswith(magic, offset):
            raise _not_a_list(name)
    if head.startswith(b"BM") and b"\0" in head[:32]:
        raise _not_a_list(name)
    for offset, magic, packer in _PACKED:
        if head.startswith(magic, offset):
            raise FormatError(name, None, f"a {packer} file; unpack it and give what is inside")


def _not_a_list(name: str) -> FormatError:
    return FormatError(name, None, "this is not a hash list; Tieline never reads media")


def _decode(head: bytes, name: str) -> str:
    encoding, skip = split_mark(head)
    if encoding == "utf-8" and b"\0" in head.partition(b"\n")[0]:
        raise _not_a_list(name)
    return head[skip:].decode(encoding, "replace")


def _detect_text(head: str, name: str) -> FileFormat:
    text = head.lstrip()
    if not text:
        raise FormatError(name, None, "the file holds nothing but white space")
    if text.startswith(("{", "[")):
        if _CASE.search(text) or _NODES.match(text):
            return FileFormat.CASE
        if _VICS.search(text):
            return FileFormat.VICS
        raise FormatError(
            name,
            None,
            "JSON, but not VICS: no '@odata.context', 'odata.metadata' or 'value'; "
            "nor CASE: no '@context' or '@graph'",
        )
    if text.startswith("<"):
        if _NCMEC.search(text):
            return FileFormat.NCMEC
        raise FormatError(name, None, "XML, but not NCMEC hash sharing: no 'queryResult'")
    if text.startswith(hashdeep.MAGIC):
        return FileFormat.HASHDEEP
    # A comment may name what follows, `# MD5`, and is no header.
    lines = [line.strip() for line in text.split("\n") if is_content(line)][:_LINES_TRIED]
    if not lines:
        raise FormatError(name, None, "the file holds nothing but comments")
    if _is_hash_line(lines[0]):  # before tables: the name beside a hash may look like a header
        return FileFormat.LIST
    return _detect_table(lines[0]) or _detect_list(lines, name)


def _is_hash_line(line: str) -> bool:
    try:
        parse_line(line)
    except BadRecord:
        return False
    return True


def _detect_table(header: str) -> FileFormat | None:
    try:
        _, columns = parse_header(header)
    except ValueError:
        return None
    if nsrl.is_nsrl_v2(columns):
        return FileFormat.NSRL
    # ICSE has no categories and is taken whole: what states some is to be read by them.
    if icse.is_icse(columns) and not own_csv.names_category(columns):
        return FileFormat.ICSE
    return FileFormat.CSV if own_csv.is_own_csv(columns) else None


def _detect_list(lines: list[str], name: str) -> FileFormat:
    why = ""
    for line in lines:
        try:
            parse_line(line)
        except BadRecord as error:
            why = why or error.message
        else:
            return FileFormat.LIST
    if not all(char.isprintable() for char in lines[0].replace("\t", "")):
        raise _not_a_list(name)
    first = f"; as a list its first line does not do: {why}" if why else ""
    raise FormatError(name, None, f"the format is none of {_KNOWN}{first}")
