"""Yes and no, in the words that tools write (formats.md, ICSE-style CSV and VICS)."""

from __future__ import annotations

_WORDS = {
    "y": True,
    "yes": True,
    "t": True,
    "true": True,
    "1": True,
    "n": False,
    "no": False,
    "f": False,
    "false": False,
    "0": False,
}


def parse_flag(value: object) -> bool | None:
    """Return a flag given as JSON boolean, 0 or 1, or word in any case; None for a blank one.

    Raises ValueError for anything else.
    """
    if isinstance(value, str):
        word = value.strip().lower()
        if not word:
            return None
        if word in _WORDS:
            return _WORDS[word]
    elif isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ValueError("neither yes nor no")
