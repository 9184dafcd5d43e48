"""Synthetic material: hashes of numbers in series, and tips in words."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import timedelta
from hashlib import md5, sha1
from pathlib import Path

from tieline_client.formats import Record
from tieline_client.formats.record import Vote
from tieline_client.formats.write import write_csv
from tieline_client.inert import csv_line
from tieline_client.profile import utc_now

from taskforce.cast import Size

CATEGORY = Vote("vics", "1")
_SMALLEST, _LARGEST = 8, 60
_OBJECTS = (
    *("school bag", "bedspread", "shop sign", "wall socket", "cereal box", "tiled floor"),
    *("bus ticket", "calendar", "curtain", "hotel key tag", "toy boat", "bottle label"),
)
_COLOURS = ("blue", "red", "green", "white", "yellow", "striped")
_PLACES = ("a market", "a school", "a harbour", "a hotel", "a station", "a shop", "my street")
_DAYS = 300
"""Over so many days the tips came in."""


def name_of(number: int) -> str:
    """The name of a series at the agency that holds it."""
    return f"TF {number:03d}"


def _item(name: str) -> Record:
    """An item that exists only as the hashes of its name."""
    data = f"tieline taskforce item {name}".encode()
    record = Record(number=1)
    record.md5 = md5(data, usedforsecurity=False).digest()
    record.sha1 = sha1(data, usedforsecurity=False).digest()
    return record


def series_sizes(size: Size) -> list[int]:
    """How many items each series has."""
    chosen = random.Random(2020)
    return [chosen.randint(_SMALLEST, _LARGEST) for _ in range(size.series)]


def write_series(path: Path, size: Size) -> None:
    """Write the hub's series: one file of hashes."""

    def records() -> Iterator[Record]:
        for number, items in enumerate(series_sizes(size)):
            for item in range(items):
                record = _item(f"{number}/{item}")
                record.series, record.votes = name_of(number), (CATEGORY,)
                yield record

    with path.open("wb") as stream:
        write_csv(stream, records())


def write_shared(path: Path, name: str, numbers: Sequence[int], size: Size) -> None:
    """Write an agency's own series, in which some items of these series of the hub stand too."""
    sizes = series_sizes(size)

    def records() -> Iterator[Record]:
        shared = [f"{number}/{item}" for number in numbers for item in range(sizes[number] // 2)]
        for item in (*shared, *(f"{name}/{n}" for n in range(_LARGEST))):
            record = _item(item)
            record.series, record.votes = f"{name} own", (CATEGORY,)
            yield record

    with path.open("wb") as stream:
        write_csv(stream, records())


def clue_words(number: int) -> str:
    """What a clue says."""
    colour = _COLOURS[number % len(_COLOURS)]
    return f"A {colour} {_OBJECTS[number % len(_OBJECTS)]} with mark {number}, seen from the side"


def write_tips(path: Path, clues: Sequence[str], named: Sequence[str], tips: int) -> None:
    """Write the public's tips on published clues; ``named`` is a country for each clue."""
    chosen, now = random.Random(26_000), utc_now()
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write("clue,text,contact,source,country,received\r\n")
        for number in range(tips):
            at = now - timedelta(seconds=chosen.randrange(60, _DAYS * 86_400))
            clue = chosen.randrange(len(clues))
            place = chosen.choice(_PLACES)
            words = f"I saw one like it at {place}, report {number}"
            sender = f"visitor {chosen.randrange(max(tips // 3, 1))}"
            cells = (clues[clue], words, "", sender, named[clue], at.isoformat())
            stream.write(csv_line(cells))
