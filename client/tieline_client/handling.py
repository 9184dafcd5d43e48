"""Handling: what the provider of data allows, travelling with the data (formats.md, codes)."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date

from tieline_client.errors import InvalidInput
from tieline_client.limits import FREE_TEXT_CHARS


class HandlingCode(enum.IntEnum):
    """Europol handling codes."""

    H0 = 0
    """Only to prevent and combat crime."""
    H1 = 1
    """Not in judicial proceedings without the provider's permission."""
    H2 = 2
    """Not passed on without the provider's permission."""
    H3 = 3
    """Other restrictions, in words."""


class Tlp(enum.IntEnum):
    """Traffic Light Protocol 2.0, ordered from open to closed."""

    CLEAR = 1
    GREEN = 2
    AMBER = 3
    AMBER_STRICT = 4
    RED = 5

    @property
    def label(self) -> str:
        """``TLP:AMBER+STRICT`` and the like."""
        return f"TLP:{self.name.replace('_', '+')}"

    @classmethod
    def parse(cls, text: str) -> Tlp:
        """Parse ``AMBER``, ``TLP:AMBER`` or ``amber+strict``; raise InvalidInput otherwise."""
        name = text.strip().upper().removeprefix("TLP:").replace("+", "_").replace("WHITE", "CLEAR")
        try:
            return cls[name]
        except KeyError:
            raise InvalidInput(
                f"TLP {text[:32]!r} is unknown; use clear, green, amber, amber+strict or red"
            ) from None


@dataclass(frozen=True, slots=True)
class Handling:
    """The restrictions and the evaluation under which data may be used.

    ``source`` is A, B, C or X; ``information`` is 1 to 4 (Europol's 4x4 system); ``restriction``
    holds the words of H3; ``retain_until`` is the day on which the data is erased.
    """

    code: HandlingCode
    tlp: Tlp
    source: str
    information: int
    retain_until: date
    restriction: str = ""

    def __post_init__(self) -> None:
        if self.source not in ("A", "B", "C", "X"):
            raise InvalidInput(f"source evaluation {self.source[:8]!r} is not A, B, C or X")
        if self.information not in (1, 2, 3, 4):
            raise InvalidInput(f"information evaluation {self.information} is not 1, 2, 3 or 4")
        if len(self.restriction) > FREE_TEXT_CHARS:
            raise InvalidInput(f"the restriction's text is over {FREE_TEXT_CHARS} characters")
        if self.code is HandlingCode.H3 and not self.restriction.strip():
            raise InvalidInput("H3 needs its restriction in words")


def stricter(one: Handling, other: Handling) -> Handling:
    """Return what both demand together: the higher code and TLP, the earlier day of erasure.

    The evaluation is the first one's, and so are the words of H3 where both have some.
    """
    words = [each.restriction for each in (one, other) if each.restriction.strip()]
    return Handling(
        max(one.code, other.code),
        max(one.tlp, other.tlp),
        one.source,
        one.information,
        min(one.retain_until, other.retain_until),
        words[0] if words else "",
    )


def is_within(one: Handling, other: Handling) -> bool:
    """Whether ``one`` is nowhere laxer than ``other``."""
    return (
        one.code >= other.code and one.tlp >= other.tlp and one.retain_until <= other.retain_until
    )


def parse_handling_code(text: str) -> HandlingCode:
    """Parse ``H0`` to ``H3``; raise InvalidInput otherwise."""
    try:
        return HandlingCode[text.strip().upper()]
    except KeyError:
        raise InvalidInput(f"handling code {text[:16]!r} is not H0, H1, H2 or H3") from None
