"""What is looked for in an audit log: decided on entries, and narrowed down on their bytes before.

A node with a million entries does not parse each: in the canonical form of a leaf everything that
is searched for stands as known bytes (`Search.fragments`), which a database finds by itself.
Fragments may be found elsewhere in an entry, too: `Search.matches` decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_SIENA = "siena:"


@dataclass(frozen=True, slots=True)
class Search:
    """All that is given must hold; an empty word is any. From ``since`` on, before ``until``."""

    person: str = ""
    case_ref: str = ""
    action: str = ""
    """An action, or the first part of its name for all of its kind."""
    subject: str = ""
    peer: str = ""
    purpose: str = ""
    siena: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, entry: Mapping[str, Any]) -> bool:
        """Whether an entry is what is looked for."""
        said = str(entry.get("action", ""))
        return (
            (not self.person or entry.get("person") == self.person)
            and (not self.case_ref or entry.get("case") == self.case_ref)
            and (not self.action or said == self.action or said.startswith(f"{self.action}."))
            and (not self.subject or self.subject in (entry.get("subjects") or ()))
            and (not self.peer or entry.get("peer") == self.peer)
            and (not self.purpose or entry.get("purpose") == self.purpose)
            and (not self.siena or self.siena in siena_numbers(entry))
            and within(entry, self.since, self.until)
        )

    def begins(self) -> bytes:
        """Return the bytes with which each leaf that matches begins."""
        word = json.dumps(self.action, ensure_ascii=False)
        return b'{"action":' + word[:-1].encode() if self.action else b""

    def fragments(self) -> list[bytes]:
        """Return bytes that each leaf that matches holds, the rarest first."""
        wanted: Sequence[tuple[str, str]] = (
            ("", f"{_SIENA}{self.siena}" if self.siena else ""),
            ("", self.subject),
            ('"case":', self.case_ref),
            ('"person":', self.person),
            ('"peer":', self.peer),
            ('"purpose":', self.purpose),
        )
        return [
            (key + json.dumps(word, ensure_ascii=False)).encode() for key, word in wanted if word
        ]

    def document(self) -> dict[str, str]:
        """Return what is given, by name."""
        return {
            key: value.isoformat() if isinstance(value, datetime) else str(value)
            for key in self.__slots__
            if (value := getattr(self, key))
        }


def time_key(time: datetime) -> bytes:
    """Return a time as leaves state it: such bytes stand in the order of time."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").encode()


def siena_numbers(entry: Mapping[str, Any]) -> list[str]:
    """Return the SIENA numbers that an entry carries (2023/977 Art. 13)."""
    detail = entry.get("detail")
    told = detail.get("references") if isinstance(detail, dict) else None
    listed = [str(one) for one in told] if isinstance(told, list) else []
    return [one.removeprefix(_SIENA) for one in listed if one.startswith(_SIENA)]


def within(entry: Mapping[str, Any], since: datetime | None, until: datetime | None) -> bool:
    """Whether an entry is of a period; one without a time is of none."""
    if since is None and until is None:
        return True
    try:
        at = datetime.fromisoformat(str(entry.get("at")))
    except ValueError:
        return False
    if at.tzinfo is None:
        return False
    return (since is None or at >= since) and (until is None or at < until)
