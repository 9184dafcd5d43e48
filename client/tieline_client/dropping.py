"""Deposits for a database that only takes files: a folder that both sides see.

Each drop is a folder of its own, ``media.json`` (VICS 2.0) with a ``manifest.json`` that says how
many records and which SHA-256. It is made under a name with a dot in front and renamed when all of
it is durable, so whoever reads the folder sees a whole drop or none; what a crash leaves behind
begins with a dot and is not looked at. A drop's name follows from its content: the same series
again is the same drop, and changes nothing. The database acknowledges with a file ``picked-up`` in
it, whose first line is its reference.

What the database holds comes back as ICSE-style CSV, and `reconcile` compares.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tieline_client.errors import FormatError, InvalidInput
from tieline_client.exporting import ExportReport, sync_folder
from tieline_client.formats import FileFormat, Record, Rejected, open_records
from tieline_client.limits import DIFFERENCES_LISTED, REFERENCE_CHARS, REJECTED_LISTED

MEDIA, MANIFEST, PICKED_UP = "media.json", "manifest.json", "picked-up"
_MANIFEST_BYTES = 1024 * 1024
_COMPARED = ("victim_identified", "offender_identified", "distributed")


@dataclass(frozen=True, slots=True)
class Drop:
    """One deposit in the folder; ``reference`` is the database's, once it picked it up."""

    folder: Path
    records: int
    sha256: str
    series: tuple[str, ...]
    picked_up: bool
    reference: str = ""
    repository: str = ""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name


class Dropping:
    """Makes one drop: give `path` to an export, then `finish`. A context manager that tidies up."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InvalidInput(f"{folder} is no folder; make it, or mount it")
        self._folder = folder
        self._made = Path(tempfile.mkdtemp(prefix=".drop-", dir=folder))
        self.path = self._made / MEDIA

    def __enter__(self) -> Dropping:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._made, ignore_errors=True)

    def finish(self, report: ExportReport, agency: str, repository: str) -> tuple[Drop, bool]:
        """Give the drop its name; return it, and whether it was there already."""
        name = f"{agency}-{report.sha256[:32]}"
        manifest = {
            "version": 1,
            "from": agency,
            "to": repository,
            "format": "vics-2.0",
            "file": MEDIA,
            "records": report.written,
            "sha256": report.sha256,
            "bytes": report.size,
            "series": [
                {"id": one.series.notice.id, "records": count}
                for one, count in zip(report.series, report.counts, strict=True)
            ],
        }
        _write_durably(self._made / MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n")
        sync_folder(self._made)
        target = self._folder / name
        known = False
        try:
            self._made.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            known = True
        sync_folder(self._folder)
        return read_drop(target), known


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def read_drop(folder: Path) -> Drop:
    """Return a drop whose media are what its manifest says. Raises FormatError."""
    manifest = _manifest(folder)
    media = folder / MEDIA
    try:
        with media.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise FormatError(folder.name, None, f"{MEDIA} cannot be read: {error.strerror}") from None
    if digest != manifest["sha256"]:
        raise FormatError(folder.name, None, f"{MEDIA} is not what its manifest says")
    reference, picked_up = "", False
    with suppress(FileNotFoundError), (folder / PICKED_UP).open("rb") as stream:
        line = stream.readline(4 * REFERENCE_CHARS).decode("utf-8", "replace")
        reference, picked_up = line.strip()[:REFERENCE_CHARS], True
    series = tuple(str(one["id"]) for one in manifest["series"])
    to = str(manifest.get("to", ""))
    return Drop(folder, manifest["records"], digest, series, picked_up, reference, to)


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        with (folder / MANIFEST).open("rb") as stream:
            content = stream.read(_MANIFEST_BYTES + 1)
        if len(content) > _MANIFEST_BYTES:
            raise ValueError
        found = json.loads(content)
        sound = (
            isinstance(found, dict)
            and found.get("version") == 1
            and isinstance(found.get("sha256"), str)
            and isinstance(found.get("records"), int)
            and isinstance(found.get("series"), list)
            and all(isinstance(one, dict) and "id" in one for one in found["series"])
        )
    except (OSError, ValueError, RecursionError):
        sound = False
    if not sound:
        raise FormatError(folder.name, None, f"{MANIFEST} is missing or none of ours")
    return dict(found)


def drops_in(folder: Path) -> Iterator[Drop]:
    """Yield the whole drops of a folder by name."""
    for each in sorted(folder.iterdir()):
        if each.is_dir() and not each.name.startswith("."):
            yield read_drop(each)


@dataclass(slots=True)
class SeriesTally:
    """One series as deposited, and what the database says of it."""

    deposited: int = 0
    held: int = 0
    submissions: int = 0
    baseline: int = 0
    identified: int = 0
    number: str = ""
    """The database's name of it, where its items have one there."""


@dataclass(slots=True)
class Reconciliation:
    """What was deposited against what they say they hold. ``missing``, ``differences`` and
    ``rejected`` are listed up to a cap; their counts are whole. ``foreign`` are items that are not
    in any drop, ``rejected`` rows of the answer that cannot be read: of their items nothing is
    known, so they are among the missing."""

    drops: list[Drop] = field(default_factory=list)
    deposited: int = 0
    held: int = 0
    foreign: int = 0
    missing_count: int = 0
    missing: list[dict[str, str]] = field(default_factory=list)
    difference_count: int = 0
    differences: list[dict[str, Any]] = field(default_factory=list)
    rejected_count: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    series: dict[str, SeriesTally] = field(default_factory=dict)


def reconcile(folder: Path, answer: Path, repository: str = "") -> Reconciliation:
    """Compare the drops of a folder with the database's ICSE-style CSV. Raises FormatError.

    An item is the same by MD5, or by SHA-1 where one side has no MD5. With ``repository`` only the
    drops for it count.
    """
    found = Reconciliation()
    ours: dict[bytes, tuple[int, Record]] = {}
    items: list[tuple[bytes, str, Record]] = []
    for drop in drops_in(folder):
        if repository and drop.repository != repository:
            continue
        found.drops.append(drop)
        for record in _dropped(drop):
            name = record.md5 or b""
            if name in ours:
                continue
            series = record.series or ""
            ours[name] = (len(items), record)
            if record.sha1 is not None:
                ours.setdefault(record.sha1, (len(items), record))
            items.append((name, series, record))
            found.series.setdefault(series, SeriesTally()).deposited += 1
    found.deposited = len(items)
    seen: set[int] = set()
    for theirs in _answered(answer, found):
        known = _known(ours, theirs)
        if known is None:
            found.foreign += 1
            continue
        at, record = known
        if at in seen:
            continue
        seen.add(at)
        _count(found, found.series[record.series or ""], record, theirs)
    found.held = len(seen)
    for at, (name, series, _) in enumerate(items):
        if at not in seen:
            found.missing_count += 1
            if len(found.missing) < DIFFERENCES_LISTED:
                found.missing.append({"series": series, "item": f"md5:{name.hex()}"})
    return found


def _known(ours: dict[bytes, tuple[int, Record]], theirs: Record) -> tuple[int, Record] | None:
    if theirs.md5 is not None:
        return ours.get(theirs.md5)
    return ours.get(theirs.sha1) if theirs.sha1 is not None else None


def _count(found: Reconciliation, tally: SeriesTally, ours: Record, theirs: Record) -> None:
    tally.held += 1
    tally.submissions = max(tally.submissions, theirs.submissions or 0)
    tally.baseline += bool(theirs.baseline)
    tally.identified += bool(theirs.victim_identified)
    if theirs.series and theirs.series != ours.series:
        tally.number = min(tally.number or theirs.series, theirs.series)
    for name in _COMPARED:
        one, other = getattr(ours, name), getattr(theirs, name)
        if other is not None and one != other:
            found.difference_count += 1
            if len(found.differences) < DIFFERENCES_LISTED:
                item = f"md5:{(ours.md5 or b'').hex()}"
                found.differences.append(
                    {
                        "item": item,
                        "series": ours.series or "",
                        "field": name,
                        "ours": one,
                        "theirs": other,
                    }
                )


def _dropped(drop: Drop) -> Iterator[Record]:
    for one in open_records(drop.folder / MEDIA, FileFormat.VICS):
        if isinstance(one, Record):
            yield one


def _answered(answer: Path, found: Reconciliation) -> Iterator[Record]:
    """Yield the rows that can be read; the others are told."""
    for one in open_records(answer, FileFormat.ICSE):
        if isinstance(one, Record):
            yield one
            continue
        found.rejected_count += 1
        if len(found.rejected) < REJECTED_LISTED:
            found.rejected.append(one)
