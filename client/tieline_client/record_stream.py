"""A user's file on its way to the own node: records become messages, what is unusable is listed.

What columns can say travels in columns, up to RECORDS_PER_COLUMNS records a message. PhotoDNA,
references, counts of sightings, tombstones, and what is over a cap travel or fail record by record.
The reader of the format runs as the messages are asked for, so that a file of any size
needs the memory of a few blocks. Nothing here talks to the network.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tieline.v1 import operator_pb2 as pb

from tieline_client import columns_wire
from tieline_client.columns import Columns, merge
from tieline_client.constraints import check
from tieline_client.errors import FormatError, InvalidInput
from tieline_client.formats import Record, Rejected, Vote
from tieline_client.formats.blocks import Block
from tieline_client.limits import (
    CODE_CHARS,
    COLUMNS_BATCH_BYTES,
    NAME_CHARS,
    RECORD_BATCH_BYTES,
    RECORDS_PER_COLUMNS,
    RECORDS_PER_IMPORT_BATCH,
    REJECTED_LISTED,
    VOTE_SETS_REMEMBERED,
    VOTES_PER_RECORD,
)

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NAME_CHARS = 255


class NothingUsable(FormatError):
    """The file is sound, but none of its records can be used; ``rejected`` says why."""

    def __init__(self, file: str, rejected: list[Rejected], count: int) -> None:
        if rejected:
            first = rejected[0]
            why = f"none of its {count} records can be used; record {first.record}: {first.reason}"
        else:
            why = "it holds no records"
        super().__init__(file, None, f"{why}; nothing was kept")
        self.rejected = rejected
        self.count = count


class RecordStream:
    """The records of one file in messages of an import, with what was left out on the way.

    ``sent`` counts records; ``rejected`` and ``notes`` name the first REJECTED_LISTED;
    ``rejected_count`` counts all. ``vote_sets`` are the categories of each record that goes by
    them, () where it states none: the first VOTE_SETS_REMEMBERED different ones.
    """

    def __init__(self, name: str, blocks: Iterable[Block]) -> None:
        self.name = name
        self.sent = 0
        self.rejected: list[Rejected] = []
        self.rejected_count = 0
        self.notes: list[tuple[int, str]] = []
        self.vote_sets: dict[tuple[Vote, ...], None] = {}
        self._blocks = blocks

    def messages(self) -> Iterator[pb.ImportRequest]:
        """Yield the usable records; those of a block that have columns come first.

        Raises FormatError when the file turns out to be broken, and NothingUsable at the end when
        no record was usable.
        """
        waiting: list[Columns] = []
        for block in self._blocks:
            columns, items = self._sendable(block)
            self._look_at_categories(columns, block.records)
            if columns is not None:
                # Small blocks wait for more of their kind.
                full = sum(map(len, waiting)) + len(columns) > RECORDS_PER_COLUMNS
                if full or (waiting and waiting[0].entire is not columns.entire):
                    yield from self._columns(waiting)
                    waiting = []
                waiting.append(columns)
            if items or sum(map(len, waiting)) > RECORDS_PER_COLUMNS // 2:
                yield from self._columns(waiting)
                waiting = []
            for batch in _batches(items):
                self.sent += len(batch.records)
                yield pb.ImportRequest(records=batch)
            if columns is None and not items:
                yield pb.ImportRequest(records=pb.RecordBatch())  # the node waits only so long
        yield from self._columns(waiting)
        if not self.sent:
            raise NothingUsable(self.name, self.rejected, self.rejected_count)

    def _look_at_categories(self, columns: Columns | None, records: Iterable[Record]) -> None:
        found = [one.votes for one in records if not one.entire]
        if columns is not None and not columns.entire:
            found += columns.vote_sets
            if (columns.votes < 0).any():
                found.append(())
        for votes in found:
            if len(self.vote_sets) == VOTE_SETS_REMEMBERED:
                return
            self.vote_sets[votes] = None

    def _columns(self, parts: list[Columns]) -> Iterator[pb.ImportRequest]:
        if not parts:
            return
        columns = merge(parts)
        message = columns_wire.to_wire(columns)
        if message.ByteSize() > COLUMNS_BATCH_BYTES and len(columns) > 1:
            half = len(columns) // 2
            yield from self._columns([columns.take(slice(0, half))])
            yield from self._columns([columns.take(slice(half, None))])
            return
        self.sent += len(columns)
        yield pb.ImportRequest(columns=message)

    def _sendable(self, block: Block) -> tuple[Columns | None, list[pb.ItemRecord]]:
        """Return what of a block travels in columns, and what record by record."""
        columns, records = block.columns, list(block.records)
        if columns is not None:
            columns = _all_visible(columns)
            odd = _odd_texts(columns)
            if odd.any():
                records += columns.records(odd)
                records.sort(key=lambda record: record.number)
                columns = columns.take(~odd) if not odd.all() else None
        rejected = list(block.rejected)
        items = []
        for record in records:
            try:
                items.append(to_wire(record))
            except InvalidInput as error:
                rejected.append(Rejected(record.number, error.message))
        self.rejected_count += len(rejected)
        self.rejected += sorted(rejected)[: REJECTED_LISTED - len(self.rejected)]
        unusable = {each.record for each in rejected}
        notes = [note for note in block.notes if note[0] not in unusable]
        self.notes += notes[: REJECTED_LISTED - len(self.notes)]
        return columns, items


def _batches(items: list[pb.ItemRecord]) -> Iterator[pb.RecordBatch]:
    batch: list[pb.ItemRecord] = []
    size = 0
    for item in items:
        item_size = item.ByteSize()
        if batch and (
            size + item_size > RECORD_BATCH_BYTES or len(batch) == RECORDS_PER_IMPORT_BATCH
        ):
            yield pb.RecordBatch(records=batch)
            batch, size = [], 0
        batch.append(item)
        size += item_size
    if batch:
        yield pb.RecordBatch(records=batch)


def _all_visible(columns: Columns) -> Columns:
    return replace(
        columns,
        media_types=tuple(map(visible, columns.media_types)),
        series_names=tuple(map(visible, columns.series_names)),
        vote_sets=tuple(
            tuple(Vote(visible(vote.scheme), visible(vote.code)) for vote in votes)
            for votes in columns.vote_sets
        ),
    )


def _odd_texts(columns: Columns) -> npt.NDArray[np.bool_]:
    """Return a mask of the records with a text that is over a cap or cannot be sent at all."""
    odd = np.zeros(len(columns), dtype=bool)
    for places, good in (
        (columns.media_type, [_sendable_text(text, NAME_CHARS) for text in columns.media_types]),
        (columns.series, [_sendable_text(text, NAME_CHARS) for text in columns.series_names]),
        (columns.votes, [_sendable_votes(votes) for votes in columns.vote_sets]),
    ):
        if not all(good):
            odd |= ~np.array([*good, True])[places]  # the last: none
    return odd


def _sendable_text(text: str, most: int) -> bool:
    if len(text) > most:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sendable_votes(votes: tuple[Vote, ...]) -> bool:
    return len(votes) <= VOTES_PER_RECORD and all(
        _sendable_text(word, CODE_CHARS) for vote in votes for word in vote
    )


def to_wire(record: Record) -> pb.ItemRecord:
    """Return a record as it is sent; control characters in its texts are escaped, ``\\x1b``.

    A name with an escape sequence in it is no reason to lose the hash beside it. Raises
    InvalidInput when the record is over a cap of the wire.
    """
    try:
        item = pb.ItemRecord(
            number=record.number,
            md5=record.md5 or b"",
            sha1=record.sha1 or b"",
            sha256=record.sha256 or b"",
            pdq=record.pdq or b"",
            pdq_quality=record.pdq_quality,
            photodna=record.photodna or b"",
            size=record.size,
            media_type=visible(record.media_type or ""),
            series=visible(record.series or ""),
            victim_identified=record.victim_identified,
            offender_identified=record.offender_identified,
            distributed=record.distributed,
            submissions=record.submissions,
            baseline=record.baseline,
            entire=record.entire,
            deleted=record.deleted,
        )
        if record.votes:
            item.schemes.extend(visible(vote.scheme) for vote in record.votes)
            item.codes.extend(visible(vote.code) for vote in record.votes)
        if record.references:
            item.reference_schemes.extend(visible(scheme) for scheme, _ in record.references)
            item.reference_values.extend(visible(value) for _, value in record.references)
    except ValueError as error:
        raise InvalidInput(f"a value cannot be sent: {visible(str(error))[:200]}") from None
    # Readers give digests of the right width: only texts can be over a cap.
    if record.series or record.media_type or record.votes or record.references:
        check(item)
    return item


def visible(text: str) -> str:
    r"""Return ``text`` with control characters as ``\x1b`` and the like: none may enter a node."""
    if text.isprintable():
        return text
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def source_name(path: Path) -> str:
    """Return a file's name as it may be kept and shown: no folders, no controls, valid UTF-8."""
    name = os.fsencode(path.name or str(path)).decode("utf-8", "replace")
    return visible(name)[:_NAME_CHARS]


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file, read in pieces; raise FormatError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise FormatError(
            source_name(path), None, f"cannot be read: {error.strerror or error}"
        ) from None


def file_state(path: Path) -> tuple[int, int, int]:
    """Return what changes when a file is written to or replaced; raise FormatError without it."""
    try:
        status = path.stat()
    except OSError as error:
        raise FormatError(
            source_name(path), None, f"cannot be read: {error.strerror or error}"
        ) from None
    return status.st_ino, status.st_size, status.st_mtime_ns
