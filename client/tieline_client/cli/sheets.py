"""A document as a person reads it: a name and a value a line, nested ones below each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_NAMES = 20
"""Columns of the names."""


def sheet(document: Mapping[str, object]) -> Iterator[str]:
    """Yield the lines of a document as `--json` prints it; nothing of it is left out.

    A list has a line for each entry, a mapping is written as ``name value, name value``; what is
    empty or not there is "none".
    """
    for name, value in document.items():
        shown = name.replace("_", " ")
        for part in _parts(value):
            yield f"{shown:{_NAMES}} {part}"
            shown = ""


def _parts(value: object) -> list[str]:
    if isinstance(value, list):
        return [_inline(one) for one in value] or ["none"]
    return [_inline(value)]


def _inline(value: object) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        words = [f"{name.replace('_', ' ')} {_nested(one)}" for name, one in value.items()]
        return ", ".join(words) or "none"
    return str(value)


def _nested(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(map(_inline, value)) or "none"
    return _inline(value)
