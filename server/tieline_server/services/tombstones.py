"""Entries of the ledger of what was erased, and applying them once more to a restored database.

Kinds: ``series``, a received series that was erased; ``retention``, a series or an import whose
day came; ``removal``, an import that an officer took back; ``withdrawn`` and ``narrowed``, a
restriction that holds here, so that a restored node does not answer as if it had never been said.
An erased series that was split from another has its
splits beside it: an older backup holds its items under the id that they had before.

What is erased is written before it is. A restriction of an own series is written once its
transaction has committed, before whoever said it hears that it holds: a line of one that was
refused would be carried out by a later restore. A crash in between is made up for when the node
starts again, before it tells anybody (`write_down` of all). Where the database is lost in it as
well, whom it was told to already gives the signed word back (recovering.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from tieline_client import limits
from tieline_client.handling import Handling, HandlingCode, Tlp, stricter
from tieline_client.identifiers import new_id, series_owner

from tieline_server.domain.ports import ItemRow, Purge, Store, TombstoneLedger, Tx
from tieline_server.domain.retraction import PurgeCause, Retraction, RetractionKind
from tieline_server.domain.series import SeriesStatus
from tieline_server.domain.splitting import Sorter, Split
from tieline_server.services.split_items import digests_of, held

_UNSAID = "as the retraction says; its words are not kept here"


def erasure_entry(purge: Purge, now: datetime, splits: Sequence[Split] = ()) -> dict[str, Any]:
    """Return the entry of an erasure that is about to begin; ``splits`` led to its series."""
    entry: dict[str, Any] = {"at": now.isoformat()}
    if splits:
        entry["splits"] = [
            {"id": one.id, "series": one.series, "made": one.made, "marks": one.marks.hex()}
            | {"at": one.at.isoformat()}
            for one in splits
        ]
    if purge.cause is PurgeCause.RETRACTION:
        return entry | {"kind": "series", "series": purge.series, "retraction": purge.id}
    if purge.series:
        return entry | {"kind": "retention", "series": purge.series}
    kind = "removal" if purge.cause is PurgeCause.REMOVAL else "retention"
    return entry | {"kind": kind, "import": purge.id}


def restriction_entry(retraction: Retraction, now: datetime, *, own: bool) -> dict[str, Any]:
    """Return the entry of a retraction that restricts a series which stays here.

    ``noted`` is when this node took note: the owner's word may be older than our last backup.
    """
    handling = retraction.handling
    return {
        "at": retraction.at.isoformat(),
        "noted": now.isoformat(),
        "kind": "withdrawn" if retraction.kind is RetractionKind.WITHDRAW else "narrowed",
        "series": retraction.series,
        "retraction": retraction.id,
        "own": own,
        "limited": retraction.limited,
        "only": sorted(retraction.only),
        "handling": None
        if handling is None
        else {
            "code": int(handling.code),
            "tlp": int(handling.tlp),
            "source": handling.source,
            "information": handling.information,
            "retain_until": handling.retain_until.isoformat(),
        },
    }


def write_down(
    ledger: TombstoneLedger, agency: str, retractions: Iterable[Retraction], now: datetime
) -> None:
    """Write what restricts series of this agency, as it stands in storage, where the ledger lacks
    it. Raises StorageUnavailable; the node's sweep does it again."""
    for one in retractions:
        if series_owner(one.series) == agency:
            ledger.append(restriction_entry(one, now, own=True))


def reapply(store: Store, ledger: TombstoneLedger, since: datetime) -> int:
    """Apply the entries from ``since`` on (when the backup was made) to a restored database.

    The clock may have been put right in between, so some older entries are applied as well.

    What was erased is hidden from every answer at once and queued to be erased; the node erases it
    before it opens its ports (purging.py). Safe to do again. Returns how many entries there were.
    Raises StorageCorrupt for a damaged ledger.
    """
    entries = [
        one
        for one in ledger.entries()
        if datetime.fromisoformat(one.get("noted", one["at"])) >= since - limits.CLOCK_TOLERANCE
    ]
    for entry in entries:
        store.write(lambda tx, one=entry: _apply(tx, one))  # type: ignore[misc]
    return len(entries)


def _apply(tx: Tx, entry: Mapping[str, Any]) -> None:
    series, at = str(entry.get("series", "")), datetime.fromisoformat(entry["at"])
    if entry["kind"] in ("withdrawn", "narrowed"):
        _restrict(tx, _retraction(entry, at))
    elif entry["kind"] == "series":
        stub = Retraction(
            id=entry["retraction"], series=series, kind=RetractionKind.WITHDRAW, at=at, person=""
        )
        tx.retractions.add(stub)
        _hide(tx, series)
        _drop_split_off(tx, entry)
        tx.retractions.begin_purge(Purge(stub.id, PurgeCause.RETRACTION, series, at))
    elif entry["kind"] == "retention" and series:
        _hide(tx, series)
        _drop_split_off(tx, entry)
        tx.retractions.begin_purge(Purge(new_id(), PurgeCause.RETENTION, series, at))
    elif entry["kind"] == "removal":
        _remove(tx, str(entry["import"]), at)
    # The day of an import stands in the database: the node's own sweep comes to it.


def _restrict(tx: Tx, retraction: Retraction) -> None:
    tx.retractions.add(retraction)
    if retraction.kind is RetractionKind.WITHDRAW:
        _hide(tx, retraction.series)
        return
    known = tx.series.get(retraction.series)
    if known is not None and retraction.handling is not None:
        tx.series.set_handling(known.id, stricter(known.handling, retraction.handling))
        tx.items.restricted()


def _remove(tx: Tx, import_id: str, at: datetime) -> None:
    row = tx.imports.row(import_id)
    if row is not None and row.generation:  # older backups do not have it
        tx.imports.stop(row.no)
        tx.retractions.begin_purge(Purge(row.id, PurgeCause.REMOVAL, "", at, import_no=row.no))


def _hide(tx: Tx, series: str) -> None:
    if tx.series.get(series) is not None:
        tx.series.set_status(series, SeriesStatus.WITHDRAWN)
        tx.items.restricted()


def _drop_split_off(tx: Tx, entry: Mapping[str, Any]) -> None:
    """Erase items of a series that was split from others where they stand under their old id."""
    series = str(entry["series"])
    splits = [_split(one) for one in entry.get("splits", ())]
    for split in splits:
        if split.made == series:  # what comes late is known by it, as before the restore
            tx.splits.add(split)
    for source in dict.fromkeys(one.series for one in splits):
        tx.splits.drop(
            source, [one.id for one in held(tx, source) if _leads(splits, source, one, series)]
        )


def _leads(splits: Sequence[Split], source: str, item: ItemRow, series: str) -> bool:
    """Whether splits put an item of one series into another."""
    at = source
    for _ in splits:
        at = Sorter(one for one in splits if one.series == at).place(digests_of(item)) or at
    return at == series


def _split(stated: Mapping[str, Any]) -> Split:
    at = datetime.fromisoformat(stated["at"])
    marks = bytes.fromhex(stated["marks"])
    return Split(stated["id"], stated["series"], stated["made"], "", at, at, marks)


def _retraction(entry: Mapping[str, Any], at: datetime) -> Retraction:
    stated = entry["handling"]
    handling = None
    if stated is not None:
        code = HandlingCode(stated["code"])
        handling = Handling(
            code,
            Tlp(stated["tlp"]),
            stated["source"],
            stated["information"],
            date.fromisoformat(stated["retain_until"]),
            _UNSAID if code is HandlingCode.H3 else "",
        )
    narrowed = entry["kind"] == "narrowed"
    return Retraction(
        id=entry["retraction"],
        series=entry["series"],
        kind=RetractionKind.NARROW if narrowed else RetractionKind.WITHDRAW,
        at=at,
        person="",
        handling=handling,
        limited=entry["limited"],
        only=frozenset(entry["only"]),
        sender="" if entry["own"] else series_owner(entry["series"]),
    )
