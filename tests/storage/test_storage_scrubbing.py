"""What was erased is in none of the database's files, searched byte by byte."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tieline_server.matching.matcher import Matcher
from tieline_server.storage.sqlite import SqliteStore

from tests.searching import found_in
from tests.storage.building import NOON, load, record, sha1

COUNT = 20_000


class Place:
    """A store in a file, whose files can be searched."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.matching = Matcher(None)
        self.store = SqliteStore(path, clock=lambda: NOON, matching=self.matching)

    def left(self, names: list[str]) -> int:
        """How many of these names' SHA-1s any file of the database holds."""
        files = [one for one in self.path.parent.iterdir() if one.name.startswith(self.path.name)]
        held = b"".join(file.read_bytes() for file in files)
        return len(found_in(held, map(sha1, names)))

    def load(self, series: str, names: list[str]) -> None:
        """Import them as items of a series."""
        for start in range(0, len(names), 2_000):
            some = names[start : start + 2_000]
            load(self.store, [record(sha1=name) for name in some], series)

    def erase(self, series: str) -> int:
        """Erase a series' holdings in batches; return the items erased."""
        items = 0
        while True:
            done = self.store.write(lambda tx: tx.erasure.holdings(series, 700))
            items += done.items
            if not done.more:
                return items


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "database.sqlite3")
    yield made
    made.matching.close()
    made.store.close()


def test_what_was_erased_is_in_no_file(place: Place) -> None:
    rng = random.Random(3)
    names = [f"n{number}" for number in range(COUNT)]
    parts: dict[str, list[str]] = {f"pt-pj/{key}": [] for key in "abc"}
    for name in names:
        parts[rng.choice(list(parts))].append(name)
    for start in range(0, COUNT, 4_000):  # so that the series lie between one another
        for series, some in parts.items():
            here = set(names[start : start + 4_000])
            place.load(series, [name for name in some if name in here])
    a, b, c = parts
    for series in (a, b):
        assert place.left(parts[series]) == len(parts[series])
        assert place.erase(series) == len(parts[series])
    assert place.store.scrub()
    assert place.left(parts[a]) == place.left(parts[b]) == 0
    assert place.left(parts[c]) == len(parts[c])
    assert place.store.read(lambda tx: tx.items.count_of_series(c)) == len(parts[c])
    assert not (place.path.parent / f"{place.path.name}-wal").stat().st_size


def test_a_reader_of_what_was_is_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieline_server.storage.scrubbing.READERS_SECONDS", 0.0)
    place.load("pt-pj/a", ["x"])
    reading, done = threading.Event(), threading.Event()

    def hold() -> None:
        def work(tx: object) -> None:
            tx.items.generation()  # type: ignore[attr-defined]
            reading.set()
            assert done.wait(120)

        place.store.read(work)

    reader = threading.Thread(target=hold)
    reader.start()
    assert reading.wait(120)
    place.erase("pt-pj/a")
    assert not place.store.scrub()
    done.set()
    reader.join()
    assert place.store.scrub()
    assert place.left(["x"]) == 0


def test_a_rewrite_is_followed_by_a_pause(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieline_server.storage.scrubbing.PAUSE", 1e9)
    monkeypatch.setattr("tieline_server.storage.scrubbing.QUICK_SECONDS", 0.0)
    assert place.store.scrub()
    assert not place.store.scrub()
