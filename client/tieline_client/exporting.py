"""Series from the own node into a file: whole, or not there at all.

Records are written as they come into a file beside the one that is wanted, readable by nobody else.
Only when the node has said the end, which it does after its audit log holds the export, and counts
and digest agree, the file gets its name.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from google.protobuf.timestamp_pb2 import Timestamp
from tieline.v1 import operator_pb2 as pb

from tieline_client.errors import FormatError, InvalidInput, Unreachable
from tieline_client.formats.outgoing import SeriesFacts, Writer
from tieline_client.formats.outgoing_case import CaseWriter
from tieline_client.formats.outgoing_tables import IcseWriter, OwnCsvWriter
from tieline_client.formats.outgoing_vics import VicsWriter
from tieline_client.handling import HandlingCode, Tlp
from tieline_client.payloads import moment
from tieline_client.records_in import record_in


class ExportFormat(StrEnum):
    """The words of the command line."""

    VICS = "vics"
    ICSE = "icse"
    CASE = "case"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """``context`` counts for VICS alone: us, uk or custom."""

    series: Sequence[str]
    format: ExportFormat
    purpose: str
    case_ref: str
    context: str = "us"
    recipient: str = ""
    """The repository that the file is for; empty: the agency's own systems."""


@dataclass(slots=True)
class ExportReport:
    """What was written, and what was not.

    ``skipped`` records the format cannot hold at all, ``withheld`` items policy keeps back;
    ``dropped`` counts the records that state something for which the format has no place.
    """

    file: str
    format: str
    series: list[pb.ExportedSeries] = field(default_factory=list)
    records: int = 0
    written: int = 0
    skipped: int = 0
    withheld: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    """Records written of each of ``series``."""
    sha256: str = ""
    size: int = 0


def open_writer(stream: BinaryIO, options: ExportOptions) -> Writer:
    """Return the writer of a format."""
    if options.format is ExportFormat.VICS:
        return VicsWriter(stream, options.context)
    if options.format is ExportFormat.ICSE:
        return IcseWriter(stream)
    if options.format is ExportFormat.CASE:
        return CaseWriter(stream)
    return OwnCsvWriter(stream)


def write_export(
    parts: Iterable[pb.ExportSeriesResponse],
    options: ExportOptions,
    path: Path,
    *,
    replace: bool = False,
    on_records: Callable[[int], None] | None = None,
) -> ExportReport:
    """Write what the node hands out to ``path``; return what came of it.

    Raises InvalidInput when the file is there already and is not to be replaced, or would hold no
    record of what it is for, FormatError when it cannot be written, Unreachable when the node did
    not come to the end. Then nothing is left.
    """
    if path.is_dir() or (path.exists() and not replace):
        raise InvalidInput(f"{path} is there already; give another name, or say --replace")
    report = ExportReport(str(path), options.format.value)
    with _appearing(path) as stream:
        writer = open_writer(stream, options)
        end, digest = _drain(parts, writer, report, on_records)
        writer.finish()
        if end is None:
            raise Unreachable("the node broke the export off before its end; nothing is kept")
        if (end.records, end.digest) != (report.records, digest):
            raise FormatError(path.name, None, "what came is not what the node has logged")
        report.written, report.skipped = writer.written, writer.skipped
        _check_written(report, writer, options)
        report.withheld = end.withheld
        report.dropped = dict(sorted(writer.losses.items()))
        stream.flush()
        report.size = stream.tell()
        stream.seek(0)
        report.sha256 = _digest_of(stream)
    return report


def _check_written(report: ExportReport, writer: Writer, options: ExportOptions) -> None:
    """Raise InvalidInput for a file without a record, which could be taken for its series; of a
    deposit, which is recorded series by series, for one that no record of it is in."""
    for one, count in zip(report.series, report.counts, strict=True):
        if count or not (options.recipient or (one.records and not report.written)):
            continue
        name = one.series.notice.id
        if not one.records:
            raise InvalidInput(f"{name} has no records to deposit; leave it out")
        cure = "use another --format"
        if options.recipient:
            cure = "leave it out, or deposit it by node with `tieline upload`"
        raise InvalidInput(
            f"none of the {one.records} records of {name} has {writer.needs}, without which "
            f"{options.format} cannot hold a record; {cure}"
        )


def _drain(
    parts: Iterable[pb.ExportSeriesResponse],
    writer: Writer,
    report: ExportReport,
    on_records: Callable[[int], None] | None,
) -> tuple[pb.ExportEnd | None, bytes]:
    digest = hashlib.sha256()
    end = None
    for part in parts:
        kind = part.WhichOneof("part")
        if kind == "series":
            report.series.append(part.series)
            report.counts.append(0)
            writer.series(facts_of(part.series.series))
        elif kind == "records":
            before = writer.written
            for item in part.records.records:
                digest.update(item.SerializeToString(deterministic=True))
                writer.add(record_in(item))
            report.counts[-1] += writer.written - before
            report.records += len(part.records.records)
            if on_records is not None:
                on_records(report.records)
        elif kind == "end":
            end = part.end
    return end, digest.digest()


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file, 0600, that takes the name ``path`` once all went well."""
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=".part", dir=path.parent
        )
    except OSError as error:
        raise FormatError(path.name, None, f"cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    sync_folder(path.parent)


def _digest_of(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := stream.read(64 * 1024):
        digest.update(piece)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def facts_of(view: pb.SeriesView) -> SeriesFacts:
    """Return a series as files say it."""
    notice, handling = view.notice, view.notice.handling
    code, tlp = HandlingCode(handling.code), Tlp(handling.tlp)
    marking = f"{code.name}, {tlp.label}, evaluation {handling.source}{handling.information}"
    if handling.restriction:
        marking = f"{marking}, restriction: {handling.restriction}"
    stated = {
        "Tieline.Series": notice.id,
        "Tieline.Owner": view.owner,
        "Tieline.Status": notice.status,
        "Tieline.Handling": code.name,
        "Tieline.Restriction": handling.restriction,
        "Tieline.TLP": tlp.label,
        "Tieline.Evaluation": f"{handling.source}{handling.information}",
        "Tieline.RetainUntil": handling.retain_until,
        "Tieline.RepositoryNumber": view.number,
        "Tieline.Victims": str(notice.victims) if notice.HasField("victims") else "",
        "Tieline.Identified": str(notice.identified) if notice.identified else "",
        "Tieline.FirstSeen": _time(notice.first_seen_time),
        "Tieline.LastSeen": _time(notice.last_seen_time),
        "Tieline.Clues": notice.clues,
        "Tieline.LikelyCountries": " ".join(view.likely_countries),
    }
    for one in view.repositories:
        said, where = one.report, f"Repository.{one.repository}"
        stated[f"{where}.Number"] = said.number
        stated[f"{where}.Status"] = said.status
        stated[f"{where}.Submissions"] = f"{said.deposits} by {said.agencies} agencies"
        stated[f"{where}.Baseline"] = f"{said.baseline} items"
    counts: dict[str, int] = {}
    for reference in notice.references:
        number = counts[reference.scheme] = counts.get(reference.scheme, 0) + 1
        suffix = f".{number}" if number > 1 else ""
        stated[f"Reference.{reference.scheme}{suffix}"] = reference.value
    return SeriesFacts(
        id=notice.id,
        name=notice.name,
        case_ref=view.case_ref,
        organisation=view.owner,
        contact_name=notice.contact.name,
        contact_email=notice.contact.email,
        contact_phone=notice.contact.phone,
        references=tuple((one.scheme, one.value) for one in notice.references),
        marking=marking,
        properties=tuple((name, value) for name, value in stated.items() if value),
    )


def _time(at: Timestamp) -> str:
    return moment(at).strftime("%Y-%m-%dT%H:%M:%SZ") if at.seconds else ""
