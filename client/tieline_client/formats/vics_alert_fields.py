"""Single fields of VICS alerts, as JSON gives them. Each raises BadRecord that names the field."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tieline_client.formats.fields import BadRecord, shown
from tieline_client.formats.flags import parse_flag
from tieline_client.formats.times import parse_time
from tieline_client.limits import ALERT_TEXT_CHARS


def read_each(
    get: Mapping[str, Any], name: str, read: Callable[[Mapping[str, Any]], Any]
) -> list[Any]:
    """Return what a list of objects holds, each read; an absent or null list holds nothing."""
    value = get.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadRecord(f"{name} is no list of objects")
    return [read(one) for one in value]


def read_needed(get: Mapping[str, Any], name: str, read: Callable[..., Any]) -> Any:
    """Return a field that must not be absent or null."""
    value = read(get, name)
    if value is None:
        raise BadRecord(f"{name} is missing")
    return value


def read_text(get: Mapping[str, Any], name: str) -> str | None:
    """Return a text, or None."""
    value = get.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > ALERT_TEXT_CHARS:
        raise BadRecord(f"{name} is no text of at most {ALERT_TEXT_CHARS} characters")
    if "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise BadRecord(f"{name} holds a NUL or a broken character")
    return value


def read_guid(get: Mapping[str, Any], name: str) -> uuid.UUID | None:
    """Return a GUID, or None."""
    value = get.get(name)
    if value is None:
        return None
    try:
        return uuid.UUID(value if isinstance(value, str) else "")
    except ValueError:
        raise BadRecord(f"{name} {shown(value)} is no GUID") from None


def read_byte(get: Mapping[str, Any], name: str, most: int) -> int | None:
    """Return a number from 0 to ``most``, or None."""
    value = get.get(name)
    if value is None:
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and len(text) <= 3):
        raise BadRecord(f"{name} {shown(value)} is no number from 0 to {most}")
    if int(text) > most:
        raise BadRecord(f"{name} {shown(value)} is more than {most}")
    return int(text)


def read_time(get: Mapping[str, Any], name: str) -> datetime | None:
    """Return a time, or None."""
    value = get.get(name)
    if value is None:
        return None
    try:
        return parse_time(value)
    except ValueError:
        raise BadRecord(f"{name} {shown(value)} is no time") from None


def read_flag(get: Mapping[str, Any], name: str) -> bool:
    """Return a flag, which must be there."""
    try:
        value = parse_flag(get.get(name))
    except ValueError:
        value = None
    if value is None:
        raise BadRecord(f"{name} is neither true nor false")
    return value
