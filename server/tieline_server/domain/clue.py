"""Clues and tips: an object or a place in words, and what the public says of it.

A clue belongs to a series. An officer publishes its words under a random public id; tips come back
under it. A tip counts for nothing until a person has verified it; then it supports or eliminates a
country. Never a picture, and never a way to one: `check_words` refuses links and coded text.
"""

from __future__ import annotations

import enum
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from tieline_client import limits
from tieline_client.errors import InvalidInput, WrongState
from tieline_client.inert import plain


class TipState(enum.StrEnum):
    """What a person of this agency made of a tip."""

    NEW = "new"
    VERIFIED = "verified"
    DISMISSED = "dismissed"


class Fate(enum.StrEnum):
    """What became of a tip that was brought in."""

    ADDED = "added"
    KNOWN = "known"
    """The same words on the same clue by the same contact."""
    LIMITED = "limited"
    """Its source has brought as many as it may on that day."""
    UNKNOWN_CLUE = "unknown_clue"


@dataclass(frozen=True, slots=True)
class Clue:
    """``public`` is the random id under which ``published_text`` was published, once it was; it
    stays the same when the words are published anew. ``ended`` is when it was taken back.
    ``origin`` is the agency whose clue it is: another's came with a tip that it relayed."""

    id: str
    series: str
    kind: str
    text: str
    origin: str
    person: str
    created: datetime
    public: str = ""
    published_text: str = ""
    published_by: str = ""
    purpose: str = ""
    case_ref: str = ""
    published: datetime | None = None
    ended: datetime | None = None
    known: int = 0
    limited: int = 0

    @property
    def is_public(self) -> bool:
        """Whether its words stand on the published list."""
        return self.published is not None and self.ended is None


@dataclass(frozen=True, slots=True)
class Tip:
    """``contact`` and ``source`` are keyed hashes (`keyed`): who gave it is known to the site that
    took it. ``origin`` is the agency that relayed it, ``said`` what that agency made of it.
    ``country`` is what the tip itself names. A verified tip ``supports`` or ``eliminates`` one."""

    id: str
    clue: str
    text: str
    contact: str
    source: str
    received: datetime
    origin: str
    country: str = ""
    said: str = ""
    state: TipState = TipState.NEW
    supports: str = ""
    eliminates: str = ""
    person: str = ""
    judged: datetime | None = None
    reason: str = ""

    @property
    def digest(self) -> str:
        """The same for two tips that say the same."""
        words = _compared(self.text)
        return hashlib.sha256(f"{self.clue}\0{words}\0{self.contact}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Support:
    """Verified tips on the clues of a series that speak for and against a country."""

    supporting: int = 0
    eliminating: int = 0


@dataclass(frozen=True, slots=True)
class TipCounts:
    """Tips of one clue."""

    tips: int = 0
    new: int = 0
    verified: int = 0
    dismissed: int = 0
    relayed: int = 0


def normal(text: str) -> str:
    """Return text as it is kept: plain (inert.py), with single spaces."""
    return " ".join(plain(text).split())


def _compared(text: str) -> str:
    """Return text as it is compared: what looks the same is the same."""
    return unicodedata.normalize("NFKC", normal(text)).casefold()


_LINK = re.compile(
    r"(?i)\b[a-z][a-z0-9+.-]{1,15}://|\bwww\.|\b(?:data|javascript|mailto|magnet):\S"
    r"|(?<![\w@.])[\w-]+(?:\.[\w-]+)*\.[a-z]{2,24}/\S"
    r"|(?<![\w.])[\w-]+\.onion\b|!\[|<\s*(?:img|a|iframe|script|svg)\b"
    r"|\b[\w-]{1,80}\.(?:jpe?g|png|gif|webp|bmp|tiff?|heic|avif|svg|mp4|mov|avi|mkv|webm|wmv)\b"
)
_CODED = re.compile(rf"[0-9A-Za-z+/=_-]{{{limits.WORD_CHARS + 1},}}|\b[0-9A-Fa-f]{{32,}}\b")


def check_words(text: str, what: str) -> str:
    """Return ``text`` as it is kept; raise InvalidInput for what is no description in words."""
    words = normal(text)
    if not words:
        raise InvalidInput(f"{what} needs words")
    if len(words) > limits.FREE_TEXT_CHARS:
        raise InvalidInput(f"{what} is longer than {limits.FREE_TEXT_CHARS} characters; shorten it")
    if any(not char.isprintable() for char in words):
        raise InvalidInput(f"{what} holds control characters; remove them")
    seen = unicodedata.normalize("NFKC", words)
    if _LINK.search(seen):
        raise InvalidInput(f"{what} holds a link or a file's name; say it in words")
    if _CODED.search(seen):
        raise InvalidInput(f"{what} holds coded text, which no description needs; say it in words")
    return words


def check_publishable(words: str, names: Iterable[str]) -> None:
    """Raise InvalidInput when words that are to be published hold a name of the series (its name,
    its number elsewhere, its id)."""
    said = _compared(words)
    for name in names:
        known = _compared(name)
        if known and re.search(rf"(?<!\w){re.escape(known)}(?!\w)", said):
            raise InvalidInput("the words to publish name the series; describe the object alone")


def check_judgement(tip: Tip, state: TipState, supports: str, eliminates: str, reason: str) -> None:
    """Raise InvalidInput or WrongState when a person may not judge a tip so.

    A judgement may be changed: what was verified can be dismissed and the other way round.
    """
    if state is TipState.NEW:
        raise InvalidInput("a tip is verified or dismissed")
    if state is TipState.VERIFIED and bool(supports) == bool(eliminates):
        raise InvalidInput("a verified tip supports a country or eliminates one; name exactly one")
    if state is TipState.DISMISSED and (supports or eliminates):
        raise InvalidInput("a dismissed tip says nothing of a country")
    if state is TipState.DISMISSED and not reason:
        raise InvalidInput("dismissing a tip needs a reason; say --reason TEXT")
    same = (tip.state, tip.supports, tip.eliminates) == (state, supports, eliminates)
    if same:
        raise WrongState(f"the tip is {state.value} already")


def most_of_day(source: str) -> int:
    """Return how many tips one source may bring on one UTC day; "" is whoever is not named."""
    return limits.TIPS_PER_SOURCE_DAY if source else limits.TIPS_UNNAMED_DAY


def net(support: Mapping[str, Support]) -> dict[str, int]:
    """Return how many more verified tips speak for each country than against it."""
    return {country: one.supporting - one.eliminating for country, one in support.items()}


def keyed(key: bytes, words: str) -> str:
    """Return the keyed hash (BLAKE2b, 128 bit) of a contact or source; "" for none."""
    said = _compared(words)
    if not said:
        return ""
    return hashlib.blake2b(said.encode(), digest_size=16, key=key).hexdigest()
