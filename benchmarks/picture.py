"""The results as one picture: for each row how far it is beyond what it must at least reach.

The axis is logarithmic, so that a row of 90 times and one of a tenth stand side by side. 1 is the
mark `at_least` of each row, a bar to the right of it is better; the diamond is the row's aim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.rows import Row, size_name
from benchmarks.targets import Target

WIDTH, LEFT, RIGHT = 1120, 450, 190
ROW, TOP, BOTTOM = 30, 64, 46
GOOD, FAIR, POOR = "#1b7f79", "#c98a1b", "#b3382c"
INK, FAINT = "#1f2933", "#c5ccd3"

_LEAST = 1e-2
"""The least share of a mark that a bar shows."""


@dataclass(frozen=True, slots=True)
class Bar:
    """``reached`` and ``aim`` are parts of `at_least`, turned round where less is better."""

    label: str
    figure: str
    reached: float
    aim: float

    @classmethod
    def of(cls, row: Row, target: Target) -> Bar:
        """Return the bar of a row that has a ratio."""
        assert row.ratio is not None
        # What costs nothing that can be measured is as far as the picture goes.
        parts = [max(mark / row.at_least, _LEAST) for mark in (row.ratio, row.aim)]
        reached, aim = (1 / part for part in parts) if target.lower else parts
        size = f", {size_name(row.size).upper()}" if row.size else ""
        against = f" ÷ {target.peer.replace('`', '')}" if target.peer else ""
        unit = "" if target.peer else f" {target.unit}"
        sign = "≤" if target.lower else "≥"
        figure = f"{row.ratio:.3g}{unit} ({sign} {row.at_least:g}, aim {row.aim:g})"
        return cls(f"{target.what}{size}{against}", figure, reached, aim)

    @property
    def colour(self) -> str:
        """By the better mark that it reaches."""
        if self.reached >= self.aim:
            return GOOD
        return FAIR if self.reached >= 1 else POOR


def draw(bars: Sequence[Bar]) -> str:
    """Return the picture as SVG."""
    values = [value for bar in bars for value in (bar.reached, bar.aim)] or [1.0]
    low = min(-0.1, math.log10(min(values)) - 0.1)
    high = max(0.5, math.log10(max(values)) + 0.1)

    def across(value: float) -> float:
        part = (math.log10(value) - low) / (high - low)
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 1)

    height = TOP + ROW * len(bars) + BOTTOM
    base = TOP + ROW * len(bars)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13" role="img">',
        "<title>Measured ratios, as parts of what each must at least reach</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(
            16,
            26,
            "How far each row is beyond what it must at least reach (1); ◆ is its aim",
            size=16,
        ),
    ]
    for tick in _ticks(low, high):
        x = across(tick)
        ink = INK if tick == 1 else FAINT
        parts.append(f'<path d="M{x} {TOP - 8}V{base}" stroke="{ink}"/>')
        parts.append(_text(x, base + 20, f"{tick:g}", anchor="middle"))
    for number, bar in enumerate(bars):
        y = TOP + ROW * number + ROW / 2
        start, end = sorted((across(1), across(bar.reached)))
        parts.append(_text(LEFT - 12, y + 4, bar.label, anchor="end"))
        parts.append(
            f'<rect x="{start}" y="{y - 8}" width="{max(end - start, 3):.1f}" height="16" '
            f'fill="{bar.colour}"/>'
        )
        x = across(bar.aim)
        parts.append(f'<path d="M{x} {y - 6}l6 6l-6 6l-6 -6z" fill="#fff" stroke="{INK}"/>')
        parts.append(_text(WIDTH - RIGHT + 14, y + 4, bar.figure))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ticks(low: float, high: float) -> list[float]:
    marks = [
        digit * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for digit in (1, 2, 5)
    ]
    return [mark for mark in marks if low <= math.log10(mark) <= high]


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 13) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" fill="{INK}">'
        f"{escape(text)}</text>"
    )
