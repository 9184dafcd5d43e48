"""Text that people or peers wrote, made harmless where it is kept and where it goes.

- `plain`: before it is kept. One spelling for what looks the same, nothing invisible.
- `inert`: on a terminal, in a message or in one line of a log.
- `csv_line`: in a table that a spreadsheet opens. Every export of such tables goes through it.
- `html_text`: in a page, between tags or in a quoted attribute.

JSON needs none of them: its own escapes do.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable

_INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
"""Soft hyphens, directional marks and overrides, zero-width space and joiner of words, interlinear
marks, tags (Unicode 16, category Cf), as far as no language's spelling needs them."""
_JOINERS = re.compile("(?:(?<![^\x00-\x7f])|(?<=^))[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])")
"""ZWNJ and ZWJ that do not stand between two letters of a script that has them."""
_BREAKS = re.compile("[\u2028\u2029]")
_FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"
"""What begins a formula, in their full widths too (OWASP, CSV injection)."""
_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,18})?", re.ASCII)


def plain(text: str) -> str:
    """Return text in NFC, without surrounding space and without what nobody can see. Idempotent."""
    if text.isascii():
        return text.strip()
    text = _INVISIBLE.sub("", _BREAKS.sub(" ", text))
    while (fewer := _JOINERS.sub("", text)) != text:
        text = fewer
    return unicodedata.normalize("NFC", text).strip()


def inert(text: str) -> str:
    r"""Return ``text`` on one line with everything that is not printable escaped.

    Control characters, ANSI escapes, line and paragraph separators, bidirectional overrides and
    lone surrogates become ``\x1b``, ``\u202e`` and the like. Idempotent.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(ord(char)) for char in text)


def csv_line(cells: Iterable[object]) -> str:
    """Return one line of a CSV table, quoted (RFC 4180), with its CR LF.

    Cells are inert, and one that a spreadsheet would calculate gets an apostrophe in front; plain
    numbers are left as they are.
    """
    return ",".join(f'"{_cell(str(cell))}"' for cell in cells) + "\r\n"


def html_text(text: str) -> str:
    """Return text for HTML, safe between tags and in a quoted attribute."""
    return html.escape(inert(text), quote=True)


def _cell(text: str) -> str:
    return uncalculated(text).replace('"', '""')


def uncalculated(text: str) -> str:
    """Return inert text, with an apostrophe in front where a spreadsheet would calculate it."""
    text = inert(text)
    first = unicodedata.normalize("NFKC", text.lstrip())[:1]
    if first and first in _FORMULA and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def _escaped(point: int) -> str:
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
