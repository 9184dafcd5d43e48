"""A person's file into the own node: whole or not at all.

1. The header goes out: the file's SHA-256 and what it is imported under. A node in which the same
   counts already says so, and nothing else is sent: a command that was interrupted can be repeated.
2. Otherwise the records follow, in columns where that can be (record_stream.py).
3. The finish says how many there were; without it the node keeps nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from tieline.v1 import operator_pb2 as pb
from tieline.v1 import series_pb2

from tieline_client import limits
from tieline_client.errors import FormatError, Unreachable
from tieline_client.formats import FileFormat, Rejected, Vote
from tieline_client.formats.block_reading import open_blocks
from tieline_client.operator_connection import OperatorConnection, make
from tieline_client.record_stream import RecordStream, file_digest, file_state, source_name

Progress = Callable[[int], None]
"""Takes the bytes of the file that were read so far; called from another thread."""
_REASON_CHARS = 500


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a whole file is imported under; empty parts are left to the file and the node."""

    series: str = ""
    exclusions: bool = False
    category: tuple[str, str] = ("", "")
    """Scheme and code for records that carry no category."""
    case_ref: str = ""
    handling: series_pb2.Handling | None = None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import amounted to: the node's report, and what was rejected on this side.

    ``records`` counts the file's records, usable or not; ``rejected`` names the first
    REJECTED_LISTED by number. ``vote_sets``: the categories that records go by, see RecordStream.
    """

    file: str
    format: FileFormat
    records: int
    rejected: tuple[Rejected, ...]
    rejected_count: int
    notes: tuple[tuple[int, str], ...]
    node: pb.ImportReport
    vote_sets: tuple[tuple[Vote, ...], ...] = ()

    @property
    def usable(self) -> bool:
        """Whether at least one record counted."""
        return self.rejected_count < self.records

    @property
    def all_excluded(self) -> bool:
        """Whether every usable record was excluded."""
        return self.node.excluded == self.records - self.rejected_count > 0


def import_file(
    connection: OperatorConnection,
    path: Path,
    file_format: FileFormat,
    options: ImportOptions,
    on_progress: Progress | None = None,
    on_staged: Callable[[int], None] | None = None,
) -> ImportReport:
    """Import one file; ``on_staged`` takes the records that the node has so far.

    Raises FormatError when the file is broken, NothingUsable when no record can be used.
    """
    name, before = source_name(path), file_state(path)
    scheme, code = options.category
    header = make(
        pb.ImportHeader,
        source=name,
        format=file_format.value,
        file_digest=file_digest(path),
        series=options.series,
        exclusions=options.exclusions,
        category_scheme=scheme,
        category_code=code,
        case_ref=options.case_ref,
        handling=options.handling,
    )
    blocks = open_blocks(path, file_format, on_progress=on_progress)
    # Read before the node waits for it: to tell a plain list may take a look at the whole file.
    first = list(islice(blocks, 1))
    stream = RecordStream(name, chain(first, blocks))
    wanted = False
    answered = threading.Event()

    def parts() -> Iterator[pb.ImportRequest]:
        yield pb.ImportRequest(header=header)
        answered.wait()
        if not wanted:
            return
        yield from stream.messages()
        if file_state(path) != before:
            raise FormatError(name, None, "it changed while it was read; import it again")
        yield pb.ImportRequest(finish=_finish(stream))

    report: pb.ImportReport | None = None
    try:
        for response in connection.converse(connection.stub.Import, parts(), limits.IMPORT_SECONDS):
            if response.HasField("report"):
                report = response.report
            else:
                wanted = True
                if on_staged is not None:
                    on_staged(response.staged)
            answered.set()
    finally:
        answered.set()
    if report is None:
        raise Unreachable("the node ended the import without a report; import the file again")
    return _report(name, file_format, stream, report)


def _finish(stream: RecordStream) -> pb.ImportFinish:
    finish = pb.ImportFinish(records=stream.sent, unsent=stream.rejected_count)
    size = 0
    for each in stream.rejected:
        size += len(each.reason.encode())
        if size > limits.RECORD_BATCH_BYTES:
            break
        finish.named.add(record=each.record, reason=each.reason[:_REASON_CHARS])
    return finish


def _report(
    name: str, file_format: FileFormat, stream: RecordStream, node: pb.ImportReport
) -> ImportReport:
    rejected, sent, unsent = stream.rejected, stream.sent, stream.rejected_count
    if node.repeated:
        rejected = [Rejected(each.record, each.reason) for each in node.named]
        sent, unsent = node.records, node.unsent
    at_node = [Rejected(each.record, each.reason) for each in node.rejected]
    return ImportReport(
        file=name,
        format=file_format,
        records=sent + unsent,
        rejected=tuple(sorted([*rejected, *at_node])[: limits.REJECTED_LISTED]),
        # A node before v1.5 counts no more than it lists.
        rejected_count=unsent + max(node.rejected_count, len(at_node)),
        notes=tuple(stream.notes),
        node=node,
        vote_sets=tuple(stream.vote_sets),
    )
