"""ICSE-style CSV and our own CSV on their way out. No cell is taken for a formula (tabular.py)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import BinaryIO

from tieline_client.formats import icse, own_csv
from tieline_client.formats.fields import BadRecord
from tieline_client.formats.outgoing import BELONGING, SeriesFacts, Writer
from tieline_client.formats.record import Record, Vote
from tieline_client.formats.tabular import cell_out
from tieline_client.formats.write import icse_row, own_row


class _Table(Writer):
    def __init__(self, stream: BinaryIO, header: Sequence[str]) -> None:
        super().__init__(stream)
        self._text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
        self._rows = csv.writer(self._text, delimiter=";")
        self._rows.writerow(header)

    def finish(self) -> None:
        """Give the stream back."""
        self._text.flush()
        self._text.detach()

    def _begin(self, facts: SeriesFacts) -> None:
        """A row names its series; there is no place for more."""


class IcseWriter(_Table):
    """ICSE-style CSV: items with an MD5 or a SHA-1, without categories."""

    needs = "an MD5 or a SHA-1"
    holds = frozenset(
        {
            *("photodna", "media_type", "references", "victim_identified", "offender_identified"),
            *("distributed", "submissions", "baseline"),
        }
    )

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, icse.HEADER)

    def _holds(self, record: Record) -> bool:
        return record.md5 is not None or record.sha1 is not None

    def _lost_votes(self, record: Record) -> list[Vote]:
        return list(record.votes)

    def _write(self, record: Record) -> None:
        if record.references and (len(record.references) > 1 or record.references[0][0] != "icse"):
            self.losses["references"] += 1
        self._rows.writerow(icse_row(record))


class OwnCsvWriter(_Table):
    """Our own CSV: all digests and all categories with their schemes."""

    needs = "a digest other than PhotoDNA"
    holds = frozenset({"sha256", "pdq", "pdq_quality", "media_type"})

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, own_csv.HEADER)
        self.without_category = 0
        self.with_category = 0

    def _holds(self, record: Record) -> bool:
        return True

    def _lost_votes(self, record: Record) -> list[Vote]:
        return [vote for vote in record.votes if not _fits_a_list(vote)]

    def _write(self, record: Record) -> None:
        kept = tuple(vote for vote in record.votes if _fits_a_list(vote))
        if kept != record.votes:
            record.votes = kept
        if kept:
            self.with_category += 1
        else:
            self.without_category += 1
        self._rows.writerow(own_row(record))

    def finish(self) -> None:
        """Say where a reader will not see what the sender meant."""
        if self.with_category and self.without_category:
            # Where some rows state a category, a reader leaves the others out.
            self.losses[BELONGING] += self.without_category
        super().finish()


def _fits_a_list(vote: Vote) -> bool:
    """Whether a category comes back as it was written."""
    try:
        return own_csv.read_votes(cell_out(f"{vote.scheme}:{vote.code}")) == (vote,)
    except BadRecord:
        return False
