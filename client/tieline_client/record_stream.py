"""A user's file on its way to the own node: records become batches, what is unusable is listed.

The reader of the format runs as the batches are asked for, so that a file of any size needs the
memory of one batch. Nothing here talks to the network.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tieline.v1 import operator_pb2 as pb

from tieline_client.constraints import check
from tieline_client.errors import FormatError, InvalidInput, LimitExceeded
from tieline_client.formats import Record, Rejected
from tieline_client.limits import (
    RECORD_BATCH_BYTES,
    RECORDS_PER_IMPORT_BATCH,
    REJECTED_LISTED,
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
    """The records of one file as batches, with what was left out on the way.

    ``rejected`` and ``notes`` name the first REJECTED_LISTED; ``rejected_count`` counts all.
    """

    def __init__(self, name: str, records: Iterable[Record | Rejected], most: int = 0) -> None:
        self.name = name
        self.sent = 0
        self.rejected: list[Rejected] = []
        self.rejected_count = 0
        self.notes: list[tuple[int, str]] = []
        self._records = records
        self._most = most

    def batches(self) -> Iterator[pb.RecordBatch]:
        """Yield the usable records in the order of the file.

        Raises FormatError when the file turns out to be broken, NothingUsable at the end when no
        record was, and LimitExceeded beyond ``most`` records.
        """
        batch: list[pb.ItemRecord] = []
        size = 0
        for record in self._records:
            if isinstance(record, Rejected):
                self._reject(record)
                continue
            try:
                item = to_wire(record)
            except InvalidInput as error:
                self._reject(Rejected(record.number, error.message))
                continue
            self._note(record)
            item_size = item.ByteSize()
            if batch and (
                size + item_size > RECORD_BATCH_BYTES or len(batch) == RECORDS_PER_IMPORT_BATCH
            ):
                yield pb.RecordBatch(records=batch)
                batch, size = [], 0
            batch.append(item)
            size += item_size
            self.sent += 1
            if self._most and self.sent > self._most:
                raise LimitExceeded(
                    f"{self.name} holds more than {self._most} records; split it and ask in parts"
                )
        if not self.sent:
            raise NothingUsable(self.name, self.rejected, self.rejected_count)
        yield pb.RecordBatch(records=batch)

    def _reject(self, rejected: Rejected) -> None:
        self.rejected_count += 1
        if len(self.rejected) < REJECTED_LISTED:
            self.rejected.append(rejected)

    def _note(self, record: Record) -> None:
        if record.notes and len(self.notes) < REJECTED_LISTED:
            self.notes.append((record.number, "; ".join(record.notes)))


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
