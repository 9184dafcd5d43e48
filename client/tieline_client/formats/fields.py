"""One field of a record: from what a file says to what Tieline keeps.

A digest or category that cannot be read makes the record unusable (BadRecord), since a wrong one
would name another item or another judgement. What only describes the item (flag, size, time,
PhotoDNA) is set aside with a note instead: the digests are still worth asking about.
"""

from __future__ import annotations

import re
from decimal import Decimal

from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput
from tieline_client.formats.flags import parse_flag
from tieline_client.formats.photodna import parse_photodna
from tieline_client.formats.record import Record, Vote
from tieline_client.formats.times import parse_time
from tieline_client.limits import CODE_CHARS, NAME_CHARS

_INT64_MAX = 2**63 - 1
_WIDTHS = {kind: kind.width for kind in DigestKind}
_SHOWN_CHARS = 80
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


class BadRecord(InvalidInput):
    """This record cannot be used; the reader turns it into a Rejected and goes on."""


def shown(value: object) -> str:
    """Return a value of a file for an error message: one line, no control characters, short."""
    text = value if isinstance(value, str) else str(value)
    text = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
    return ascii(text) if any(not char.isprintable() for char in text) else repr(text)


def read_digest(kind: DigestKind, value: object) -> bytes | None:
    """Return the bytes of a hex digest in any case; None for null and ``""``.

    Raises BadRecord for anything else, a wrong length above all.
    """
    if value is None:
        return None
    width = _WIDTHS[kind]
    if isinstance(value, str):
        text = value if len(value) == 2 * width else value.strip()
        try:
            digest = bytes.fromhex(text)
        except ValueError:
            digest = b"?"
        # fromhex skips spaces between bytes: both lengths must be right.
        if len(digest) == width and len(text) == 2 * width:
            return digest
        if not text:
            return None
    raise BadRecord(
        f"{shown(value)} is not a {kind.label} digest: {2 * width} hex digits are needed"
    )


def read_text(value: object, name: str, most: int = NAME_CHARS) -> str | None:
    """Return a text as it is, None when null or blank; raise BadRecord when it cannot be kept."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadRecord(f"{name} is not a text")
    if len(value) > most:
        raise BadRecord(f"{name} is longer than {most} characters")
    if "\0" in value:
        raise BadRecord(f"{name} contains a NUL character")
    if not value or value.isspace():
        return None
    if not value.isascii() and _LONE_SURROGATE.search(value):
        raise BadRecord(f"{name} is not valid UTF-8 text")
    return value


def read_code(value: object, name: str) -> str | None:
    """Return a category's code as text, None when not stated; 0 is a code. Raises BadRecord."""
    if value is None:
        return None
    if isinstance(value, bool):
        raise BadRecord(f"{name} {value} is not a code")
    if isinstance(value, int | Decimal):
        if 0 <= value <= 255 and value == int(value):  # Edm.Byte
            return str(int(value))
        raise BadRecord(f"{name} {shown(value)} is not 0 to 255")
    text = read_text(value, name, CODE_CHARS)
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return text.lstrip("0") or "0"
    return text


def read_vote(value: object, name: str, scheme: str) -> Vote | None:
    """Return the vote of a category field, None when not stated. Raises BadRecord."""
    code = read_code(value, name)
    return None if code is None else Vote(scheme, code)


def read_flag(value: object, name: str, notes: list[str]) -> bool | None:
    """Return a flag, None when not stated; a word that is none is noted."""
    if value is None or isinstance(value, bool):
        return value
    try:
        return parse_flag(value)
    except ValueError:
        notes.append(f"{name} is neither yes nor no; set aside")
        return None


def read_count(value: object, name: str, notes: list[str]) -> int | None:
    """Return a whole number from 0 to 2**63-1, given as number or text; else None and a note."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        text = value.strip()
        if text.isascii() and text.isdigit() and len(text) <= len(str(_INT64_MAX)):
            value = int(text)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _INT64_MAX:
        return value
    notes.append(f"{name} is not a whole number; set aside")
    return None


def read_quality(value: object) -> int | None:
    """Return a PDQ quality, 0 to 100, None when not stated. Raises BadRecord."""
    if value is None or value == "":
        return None
    notes: list[str] = []
    quality = read_count(value, "quality", notes)
    if quality is None or quality > 100:
        raise BadRecord(f"PDQ quality {shown(value)} is not 0 to 100")
    return quality


def read_photodna(value: object, notes: list[str]) -> bytes | None:
    """Return the 144 bytes of a PhotoDNA hash; None when not stated, or unreadable and noted."""
    if value is None or value == "":
        return None
    try:
        return parse_photodna(value)
    except ValueError:
        notes.append("PhotoDNA is in none of its three encodings; set aside")
        return None


def set_updated(record: Record, value: object, name: str, notes: list[str]) -> None:
    """Set the time of the last change; a time in no known form is noted."""
    if value is None or value == "":
        return
    try:
        record.updated = parse_time(value)
    except ValueError:
        notes.append(f"{name} is not a time; set aside")


def check_identified(record: Record) -> None:
    """Raise BadRecord when nothing in the record can be matched."""
    if record.md5 is None and record.sha1 is None and record.sha256 is None and record.pdq is None:
        raise BadRecord("no MD5, SHA-1, SHA-256 or PDQ")
