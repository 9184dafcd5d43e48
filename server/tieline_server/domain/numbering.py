"""A repository's own series numbers: how they look, and which of them are its own.

A number is a prefix, the year where it is wanted, and a running number that is never given out
twice, whatever the year: ``INTERPOL-2026-000042``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Numbering:
    """``prefix`` empty: the agency's id in capitals. ``first`` is the least number given out."""

    prefix: str = ""
    yearly: bool = True
    digits: int = 6
    first: int = 1

    def text(self, agency: str, year: int, number: int) -> str:
        """Return a number as people see it."""
        middle = f"{year:04d}-" if self.yearly else ""
        return f"{self._head(agency)}{middle}{number:0{self.digits}d}"

    def own(self, agency: str, reference: str) -> int | None:
        """Return the running number in a reference of this form; None for any other."""
        head = self._head(agency)
        if not reference.startswith(head):
            return None
        year, cut, number = reference.removeprefix(head).rpartition("-")
        sound = number.isascii() and number.isdecimal() and len(number) <= 12
        if not sound or (cut and not (len(year) == 4 and year.isascii() and year.isdecimal())):
            return None
        return int(number)

    def _head(self, agency: str) -> str:
        return f"{self.prefix or agency.upper()}-"
