"""An operation's figures as one HTML page with plots.

The page asks for nothing from anywhere: plots are SVG inside it, there is no script, no style
sheet, no picture. It holds counts by day and country, and neither names nor ids of series.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC
from pathlib import Path

from tieline.v1 import operator_operations_pb2 as pb

from tieline_client.errors import UsageError
from tieline_client.inert import html_text

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_WIDTH, _ROW, _LABEL, _HEIGHT = 760, 26, 190, 240
"""Pixels: of a plot, of a bar with its gap, of the words beside it, of the plot by day."""
_INK, _SECOND = "#1f4e79", "#c8553d"
_SERIES = (
    ("triaged", "#8a8a8a"),
    ("localised", _INK),
    ("told", _SECOND),
    ("identified", "#2e7d32"),
)
_BARS = (
    *(("series", "series"), ("triaged", "triaged"), ("evaluated", "evaluated by an expert")),
    *(("localised", "likely country found"), ("told", "country told")),
    *(("delivered", "… to an agency's node"), ("told_outside", "… by other means")),
    *(("acknowledged", "acknowledged by a person"), ("uploaded", "numbered by a repository")),
    *(("identified", "victims identified"), ("tentative", "victims tentatively identified")),
)
"""Figures that are numbers of series, and their words."""


def write_report(path: Path, report: pb.ReportOperationResponse) -> None:
    """Write the page. Raises UsageError unless the file's name ends in .html, OSError."""
    if path.suffix.lower() != ".html":
        raise UsageError("name a file that ends in .html")
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(page(report))


def page(report: pb.ReportOperationResponse) -> str:
    """Return the page."""
    operation, figures = report.operation, report.figures
    made = report.report_time.ToDatetime(tzinfo=UTC).strftime("%Y-%m-%d %H:%M UTC")
    median = _duration(figures.median_millis if figures.HasField("median_millis") else None)
    victims = (
        f"{figures.victims_identified} victims identified and {figures.victims_tentative} "
        f"tentatively, by what agencies reported. {figures.tips} tips of the public, "
        f"{figures.tips_verified} of them verified. From a country found to a country told: "
        f"median {median}."
    )
    name = html_text(operation.name)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{name}</title>\n"
        "<style>body{font-family:sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}"
        "svg{max-width:100%;height:auto}text{font-size:13px;fill:#222}"
        "</style>\n"
        f"</head>\n<body>\n<h1>{name}</h1>\n"
        f"<p>{html_text(operation.begin_day)} to {html_text(operation.end_day)}. "
        f"{len(operation.participants)} participants: "
        f"{html_text(', '.join(operation.participants))}. As of {made}.</p>\n"
        f"<h2>Series</h2>\n{_bars(figures)}\n<p>{victims}</p>\n"
        f"<h2>By day</h2>\n{_days(report.days)}\n"
        f"<h2>By likely country</h2>\n{_countries(report.countries)}\n</body>\n</html>\n"
    )


def _svg(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f"<title>{html_text(title)}</title>{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, words: str, anchor: str = "start", fill: str = "#222") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="fill:{fill}">'
        f"{html_text(words)}</text>"
    )


def _bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
    )


def _bars(figures: pb.OperationFigures) -> str:
    most = max(*(getattr(figures, name) for name, _ in _BARS), 1)
    room = _WIDTH - _LABEL - 70
    parts = []
    for number, (name, words) in enumerate(_BARS):
        value, y = getattr(figures, name), number * _ROW
        parts += [
            _text(_LABEL - 8, y + 17, words, "end"),
            _bar(_LABEL, y + 4, room * value / most, _ROW - 8, _INK),
            _text(_LABEL + room * value / most + 6, y + 17, str(value)),
        ]
    return _svg(_WIDTH, len(_BARS) * _ROW, "Numbers of series", parts)


def _days(days: Sequence[pb.OperationDay]) -> str:
    if not days:
        return "<p>No days.</p>"
    most = max(max(day.triaged, day.localised, day.told, day.identified, 1) for day in days)
    left, top, bottom = 46, 12, 28
    wide, high = _WIDTH - left - 90, _HEIGHT - top - bottom

    def x(number: int) -> float:
        return left + wide * number / max(len(days) - 1, 1)

    def y(value: int) -> float:
        return top + high * (1 - value / most)

    axis = f"M{left},{top}V{top + high}H{left + wide}"
    parts = [
        f'<path d="{axis}" fill="none" stroke="#999"/>',
        _text(left - 6, top + 10, str(most), "end"),
        _text(left - 6, top + high, "0", "end"),
        _text(left, _HEIGHT - 8, days[0].day),
        _text(left + wide, _HEIGHT - 8, days[-1].day, "end"),
    ]
    for number, (name, colour) in enumerate(_SERIES):
        values = [getattr(day, name) for day in days]
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in enumerate(values))
        mark = (
            f'<circle cx="{x(len(days) - 1):.1f}" cy="{y(values[-1]):.1f}" r="3" fill="{colour}"/>'
        )
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>{mark}',
            _text(left + wide + 10, top + 14 + number * 18, f"{name} {values[-1]}", fill=colour),
        ]
    return _svg(_WIDTH, _HEIGHT, "Numbers of series reached by each day", parts)


def _countries(countries: Sequence[pb.OperationCountry]) -> str:
    if not countries:
        return "<p>No likely country was found.</p>"
    most = max(*(one.localised for one in countries), 1)
    left, room, parts = 40, _WIDTH - 40 - 330, []
    for number, one in enumerate(countries):
        y = number * _ROW
        waited = _duration(one.median_millis if one.HasField("median_millis") else None)
        words = f"{one.localised} found, {one.told} told, median {waited}"
        parts += [
            _text(left - 8, y + 17, one.country, "end"),
            _bar(left, y + 3, room * one.localised / most, 9, _INK),
            _bar(left, y + 13, room * one.told / most, 9, _SECOND),
            _text(left + room * max(one.localised, one.told) / most + 6, y + 17, words),
        ]
    return _svg(_WIDTH, len(countries) * _ROW, "Series found and told by country", parts)


def _duration(millis: int | None) -> str:
    """Return a time span in words."""
    if millis is None:
        return "unknown"
    seconds = millis / 1_000
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"
