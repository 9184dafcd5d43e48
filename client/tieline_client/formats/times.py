"""Times as tools write them (formats.md): ISO 8601, ``/Date(ms)/`` and malformed offsets."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_JSON_DATE = re.compile(r"/Date\((-?\d{1,15})(?:[+-]\d{4})?\)/")
_OFFSET = re.compile(r"([+-])(\d{1,2}):?(\d{2})Z?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_CHARS = 64
_DATE_CHARS = len("2020-01-02")


def parse_time(value: object) -> datetime:
    """Return a time in UTC; one without an offset is taken as UTC.

    Accepts ``2020-01-02T03:04:05Z``, an offset, none, fractions of any length, ``/Date(ms)/``
    (milliseconds since 1970 in UTC, its offset being only for display) and ``…+1:00Z``. Raises
    ValueError for anything else.
    """
    if not isinstance(value, str) or len(value) > _MOST_CHARS:
        raise ValueError("not a time")
    try:
        return _utc(datetime.fromisoformat(value))
    except ValueError:
        pass
    text = value.strip()
    if match := _JSON_DATE.fullmatch(text):
        try:
            return _EPOCH + timedelta(milliseconds=int(match[1]))
        except OverflowError:
            raise ValueError("a time out of range") from None
    date, rest = text[:_DATE_CHARS], text[_DATE_CHARS:]
    if match := _OFFSET.search(rest):
        if match.end() != len(rest):
            raise ValueError("not a time")
        rest = f"{rest[: match.start()]}{match[1]}{match[2]:0>2}:{match[3]}"
    return _utc(datetime.fromisoformat(date + rest))


def _utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time out of range") from None
