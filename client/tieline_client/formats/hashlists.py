"""Lists of one hash a line: md5sum and its kin (GNU and BSD), prefixed or bare hex, PDQ.

File names are not kept, so the escapes of GNU names need no undoing. Blank lines and lines that
begin with ``#`` are no records.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from tieline_client.digests import DigestKind
from tieline_client.formats.fields import BadRecord, read_digest, read_quality, shown
from tieline_client.formats.record import Record, Rejected
from tieline_client.formats.tabular import is_content

_PREFIXED = re.compile(r"([A-Za-z][A-Za-z0-9-]{2,15}):\s*([0-9A-Fa-f]*)")
_QUALITY = re.compile(r"(?:pdq:)?([0-9a-f]{64})(?:\s*[,;\t]\s*| )(\d{1,9})(?:[,;\t].*)?", re.I)
# md5sum escapes names with \n, \r or \ in them and says so by a backslash in front of the line;
# `md5 -r` writes a single space.
_GNU = re.compile(r"\\?([0-9A-Fa-f]+) [ *]?(.+)", re.S)
_BSD = re.compile(r"\\?([A-Za-z][A-Za-z0-9/-]{2,15}) ?\((.*)\) ?= ?([0-9A-Fa-f]+)", re.S)
_HEX = re.compile(r"[0-9A-Fa-f]+")
_PDQ_SAID = re.compile(r"#.*\bpdq\b.*", re.I)

_BY_LABEL = {
    "md5": DigestKind.MD5,
    "sha1": DigestKind.SHA1,
    "sha256": DigestKind.SHA256,
    "sha2256": DigestKind.SHA256,
    "pdq": DigestKind.PDQ,
}
_BY_CHARS = {32: DigestKind.MD5, 40: DigestKind.SHA1, 64: DigestKind.SHA256}
LOOK_AHEAD = 100
"""Lines looked at for a word on whether 64 hex digits are PDQ."""


class Style(NamedTuple):
    """Lines that begin with the hex digits of one kind, and then have no more than a name.

    ``tail`` is what the ``tail_chars`` characters after the digits look like.
    """

    kind: DigestKind
    tail: re.Pattern[str]
    tail_chars: int


_BARE = re.compile("")
_MAYBE_NAMED = re.compile(" ?")
_NAMED = re.compile(r" [ *][^\s,;]")
"""After 64 digits a number may be a quality."""

Parsed = tuple[DigestKind, bytes, int | None]
"""Kind, digest, and the quality that a PDQ may have."""


def parse_line(line: str, *, bare_64_is_pdq: bool = False) -> Parsed:
    """Return what a line says; raise BadRecord when it is in none of the known forms."""
    if _HEX.fullmatch(line):
        return _bare(line, bare_64_is_pdq)
    if match := _QUALITY.fullmatch(line):
        return DigestKind.PDQ, bytes.fromhex(match[1]), read_quality(match[2])
    if match := _PREFIXED.fullmatch(line):
        return _labelled(match[1], match[2])
    if match := _BSD.fullmatch(line):
        return _labelled(match[1], match[3])
    if match := _GNU.fullmatch(line):
        return _bare(match[1], False)
    raise BadRecord(f"{shown(line)} is not a hash, nor a line of md5sum and its kin")


def style_of(line: str, *, bare_64_is_pdq: bool = False) -> Style | None:
    """Return the style of a line, None when it is in none that can be told by its first digits."""
    digits = _HEX.match(line)
    kind = _BY_CHARS.get(len(digits[0])) if digits else None
    if kind is not DigestKind.SHA256:
        return None if kind is None else Style(kind, _MAYBE_NAMED, 1)
    if len(line) > 2 * kind.width:
        return Style(kind, _NAMED, 3)
    return Style(DigestKind.PDQ if bare_64_is_pdq else kind, _BARE, 1)


def says_pdq(lines: Iterable[str]) -> bool:
    """Whether the lines say that bare 64 hex digits are PDQ: by a comment or by a quality."""
    return any(_PDQ_SAID.fullmatch(line) or _QUALITY.fullmatch(line) for line in lines)


def read_list(lines: Iterable[str], *, bare_64_is_pdq: bool = False) -> Iterator[Record | Rejected]:
    """Yield one record a line.

    64 bare hex digits are SHA-256 unless ``bare_64_is_pdq`` or the file's first lines say PDQ.
    """
    flow = iter(lines)
    head = [line.strip() for line in islice(flow, LOOK_AHEAD)]
    pdq = bare_64_is_pdq or says_pdq(head)
    number = 0
    for line in chain(head, flow):
        text = line.strip()
        if is_content(text):
            number += 1
            yield read_line(number, text, bare_64_is_pdq=pdq)


def read_line(number: int, text: str, *, bare_64_is_pdq: bool) -> Record | Rejected:
    """Return the record of one line without surrounding space."""
    if "\0" in text:
        return Rejected(number, "the line contains a NUL character")
    try:
        kind, digest, quality = parse_line(text, bare_64_is_pdq=bare_64_is_pdq)
    except BadRecord as error:
        return Rejected(number, error.message)
    record = Record(number, entire=True, pdq_quality=quality)
    setattr(record, kind.label, digest)
    return record


def _bare(digits: str, bare_64_is_pdq: bool) -> Parsed:
    kind = _BY_CHARS.get(len(digits))
    if kind is None:
        raise BadRecord(
            f"{shown(digits)} has {len(digits)} hex digits, the length of no digest; "
            "32, 40 or 64 are needed"
        )
    if kind is DigestKind.SHA256 and bare_64_is_pdq:
        kind = DigestKind.PDQ
    return kind, bytes.fromhex(digits), None


def _labelled(label: str, digits: str) -> Parsed:
    kind = _BY_LABEL.get(label.lower().replace("-", ""))
    if kind is None:
        raise BadRecord(f"{shown(label)} is not md5, sha1, sha256 or pdq")
    digest = read_digest(kind, digits)
    if digest is None:
        raise BadRecord(f"{kind.label} without its digits")
    return kind, digest, None
