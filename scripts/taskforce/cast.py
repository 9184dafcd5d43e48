"""Who takes part, and how much of everything there is.

Agencies and counts are those of Europol's release of 18 November 2020: 23 experts of 16 agencies
went through more than 200 series, found the likely country of 53, nine victims were identified and
two tentatively, and the public had sent 26,000 tips. All else is synthetic.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

HUB = "europol-ec3"
REPOSITORY = "interpol"
AGREEMENT = "synthetic agreement of the replay"


@dataclass(frozen=True, slots=True)
class Agency:
    """One of the 16. ``agreement``: it is outside the union and needs one in the directory."""

    id: str
    country: str
    agreement: bool = False

    @property
    def role(self) -> str:
        """As the directory has it."""
        return "national" if self.country else "repository"


AGENCIES = (
    Agency("pt-pj", "PT"),
    Agency("us-ice", "US", agreement=True),
    Agency("us-fbi", "US", agreement=True),
    Agency(REPOSITORY, ""),
    Agency("au-afp", "AU", agreement=True),
    Agency("be-fp", "BE"),
    Agency("ca-rcmp", "CA", agreement=True),
    Agency("cy-police", "CY"),
    Agency("dk-police", "DK"),
    Agency("fi-nbi", "FI"),
    Agency("hu-police", "HU"),
    Agency("md-police", "MD", agreement=True),
    Agency("no-kripos", "NO", agreement=True),
    Agency("es-pn", "ES"),
    Agency("se-noa", "SE"),
    Agency("ch-fedpol", "CH", agreement=True),
)
ELSEWHERE = ("BR", "CO", "DO", "GH", "ID", "IN", "KE", "MX", "PH", "TH")
"""Likely countries that no agency of this federation serves."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is replayed. ``localised`` series get a country, ``outside`` of them one without a
    node; ``experts`` divide the evaluation among themselves."""

    agencies: int
    series: int
    localised: int
    outside: int
    identified: int
    tentative: int
    clues: int
    tips: int
    verified: int
    experts: int


FULL = Size(16, 220, 53, 20, 9, 2, 40, 26_000, 40, 23)
SMALL = Size(4, 12, 5, 2, 1, 1, 3, 120, 4, 5)


def countries(agencies: Sequence[Agency], size: Size) -> list[str]:
    """Return the likely country of each localised series: every country that is served, then others
    without a node, in an order that mixes both."""
    served = sorted({one.country for one in agencies if one.country})
    made = [served[n % len(served)] for n in range(size.localised - size.outside)]
    made += [ELSEWHERE[n % len(ELSEWHERE)] for n in range(size.outside)]
    random.Random(53).shuffle(made)
    return made


def experts(agencies: Sequence[Agency], size: Size) -> list[tuple[str, str]]:
    """Return agency and name of each expert."""
    return [(agencies[n % len(agencies)].id, f"expert {n + 1}") for n in range(size.experts)]
