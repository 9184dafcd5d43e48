"""What the storage tests are made of: synthetic digests, records, imports, series."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import numpy as np
from tieline_client.digests import DigestKind
from tieline_client.formats.record import Record, Vote
from tieline_client.handling import Handling, HandlingCode, Tlp
from tieline_client.identifiers import new_id, new_series_id
from tieline_server.domain.ports import ImportHead, StageCounts, Store, Tx
from tieline_server.domain.series import (
    DutyContact,
    ExternalReference,
    Origin,
    Series,
    SeriesStatus,
)
from tieline_server.matching.matcher import Matcher
from tieline_server.storage.engine import open_store

X = TypeVar("X")
NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
HANDLING = Handling(HandlingCode.H3, Tlp.AMBER_STRICT, "B", 2, date(2029, 2, 28), "no court")
PLAIN = Handling(HandlingCode.H0, Tlp.AMBER, "X", 4, date(2030, 1, 1))


def now() -> datetime:
    return NOON


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """Open a store with an index in memory that has caught up with it."""
    with (
        closing(Matcher(None)) as matching,
        closing(Matcher(None)) as lists,
        closing(open_store(url, clock=now, matching=matching, known_good=lists)) as store,
    ):
        store.index.refresh(wait=True)
        yield store


def md5(name: str) -> bytes:
    return hashlib.sha512(name.encode()).digest()[:16]


def sha1(name: str) -> bytes:
    return hashlib.sha512(name.encode()).digest()[:20]


def sha256(name: str) -> bytes:
    return hashlib.sha512(name.encode()).digest()[:32]


def pdq(name: str) -> bytes:
    return hashlib.sha512(name.encode()).digest()[32:]


def record(number: int = 1, /, *, votes: Sequence[Vote] = (), **names: Any) -> Record:
    """Return a record whose digests are made of names: ``record(md5="a", sha1="b")``."""
    made = {"md5": md5, "sha1": sha1, "sha256": sha256, "pdq": pdq}
    fields: dict[str, Any] = {
        key: made[key](value) if key in made else value for key, value in names.items()
    }
    return Record(number, votes=tuple(votes), **fields)


def head(
    *,
    case: str = "C-1",
    handling: Handling = PLAIN,
    answerable: bool = True,
    exclusions: bool = False,
    fingerprint: str = "",
) -> ImportHead:
    key = new_id()
    return ImportHead(
        id=key,
        source="set.json",
        format="vics",
        person="ana.silva",
        agency="pt-pj",
        case_ref=case,
        handling=handling,
        created=NOON,
        fingerprint=fingerprint or key,
        answerable=answerable,
        exclusions=exclusions,
    )


def each(store: Store, things: Iterable[X], action: Callable[[Tx, X], object]) -> None:
    """Write each thing in a transaction of its own."""
    for thing in things:
        store.write(lambda tx, one=thing: action(tx, one))  # type: ignore[misc]


def begin(store: Store, **options: object) -> str:
    one = head(**options)  # type: ignore[arg-type]
    store.write(lambda tx: tx.imports.begin(one))
    return one.id


def stage(
    store: Store, key: str, records: Sequence[Record], series: str | None = None
) -> StageCounts:
    given = [series] * len(records)
    return store.write(lambda tx: tx.imports.stage(key, records, given, "pt-pj"))


def complete(store: Store, key: str) -> int:
    return store.write(lambda tx: tx.imports.complete(key))


def load(
    store: Store, records: Sequence[Record], series: str | None = None, **options: object
) -> str:
    """Import records and make them count; return the import's id."""
    key = begin(store, **options)
    stage(store, key, records, series)
    complete(store, key)
    return key


def discard(store: Store, key: str, limit: int = 1000) -> None:
    while not store.write(lambda tx: tx.imports.discard(key, limit)):
        pass


def visible(store: Store, kind: DigestKind, page_size: int = 3, after: int = 0) -> dict[int, bytes]:
    """Return the visible digests of a kind by item id, of items behind ``after``, read in pages."""
    found: dict[int, bytes] = {}
    while True:
        page = store.read(lambda tx, a=after: tx.items.digests(kind, a, page_size))  # type: ignore[misc]
        if not len(page.ids):
            return found
        found.update((int(i), row.tobytes()) for i, row in zip(page.ids, page.rows, strict=True))
        after = int(page.ids[-1])


def answered(store: Store, kind: DigestKind, values: Iterable[bytes]) -> dict[int, bytes]:
    """Return what `answered_pairs` finds by item id."""
    return dict(answered_pairs(store, kind, values))


def answered_pairs(
    store: Store, kind: DigestKind, values: Iterable[bytes]
) -> set[tuple[int, bytes]]:
    """Return what a peer's question for these digests may find as (item id, digest): by the index,
    held by a complete import, and stated by complete imports alone."""
    store.index.refresh(wait=True)
    wanted = sorted(values)
    matching = store.index.matching  # type: ignore[attr-defined]
    asked = np.frombuffer(b"".join(wanted), dtype=np.uint8).reshape(-1, kind.width)
    near = kind is DigestKind.PDQ
    hits = matching.near(asked, radius=0) if near else matching.exact(kind, asked)
    sets = [matching.holding_set(number) for number in matching.holdings(hits.item_ids).tolist()]

    def work(tx: Tx) -> list[bool]:
        counted = tx.items.held_under({number for one in sets for number, _ in one})
        held = [any(number in counted for number, _ in one) for one in sets]
        sure = tx.items.confirmed(kind, hits.item_ids, asked[hits.positions])
        return [a and b for a, b in zip(held, sure.tolist(), strict=True)]

    pairs = zip(hits.item_ids.tolist(), hits.positions.tolist(), store.read(work), strict=True)
    return {(item, wanted[position]) for item, position, counts in pairs if counts}


def series(agency: str = "pt-pj", **changes: object) -> Series:
    """Return a series with every field set."""
    fields: dict[str, object] = {
        "id": new_series_id(agency),
        "name": "Blue door",
        "status": SeriesStatus.NEW,
        "origin": Origin.OWN,
        "handling": HANDLING,
        "contact": DutyContact("Duty desk", "duty@example.org", "+351 1"),
        "created": NOON,
        "case_ref": "C-1",
        "victims": 2,
        "identified": 1,
        "first_seen": datetime(2019, 5, 1, tzinfo=UTC),
        "last_seen": NOON,
        "clues": "a blue door",
        "number": "",
        "references": (ExternalReference("icse", "4711"), ExternalReference("siena", "1")),
    }
    return Series(**(fields | changes))  # type: ignore[arg-type]
