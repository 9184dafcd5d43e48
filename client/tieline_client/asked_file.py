"""A user's file on its way into a question: what can be used becomes a list, the rest is named."""

from __future__ import annotations

from collections.abc import Iterable

from tieline_client import limits
from tieline_client.asked_list import ListBuilder
from tieline_client.errors import LimitExceeded
from tieline_client.formats import Rejected
from tieline_client.formats.blocks import Block
from tieline_client.record_stream import NothingUsable


class AskedFile:
    """The records of one file, read once, with what was left out on the way.

    ``usable`` counts records, ``perceptual_only`` those of them that are asked with near alone, and
    this list is without, ``unmatched_count`` those of which no digest can be matched: both stay at
    home. ``rejected``, ``unmatched`` and ``notes`` name the first REJECTED_LISTED;
    ``rejected_count`` counts all.
    """

    def __init__(
        self, name: str, blocks: Iterable[Block], most: int = limits.RECORDS_PER_QUERY
    ) -> None:
        self.name = name
        self.usable = 0
        self.perceptual_only = 0
        self.unmatched: list[Rejected] = []
        self.unmatched_count = 0
        self.rejected: list[Rejected] = []
        self.rejected_count = 0
        self.notes: list[tuple[int, str]] = []
        self._blocks, self._most = blocks, most

    def fill(self, builder: ListBuilder) -> None:
        """Add the usable records to a list.

        Raises FormatError when the file turns out to be broken, NothingUsable when no record can be
        used, and LimitExceeded beyond ``most`` records.
        """
        for block in self._blocks:
            self.rejected_count += len(block.rejected)
            self.rejected += block.rejected[: limits.REJECTED_LISTED - len(self.rejected)]
            self.notes += block.notes[: limits.REJECTED_LISTED - len(self.notes)]
            columns = block.columns
            self.usable += len(block.records) + (0 if columns is None else len(columns))
            if self.usable > self._most:
                raise LimitExceeded(
                    f"{self.name} holds more than {self._most} records; split it and ask in parts"
                )
            if columns is not None:
                builder.add_columns(columns)
            for record in block.records:
                builder.add(record)
        self.perceptual_only = builder.perceptual_only
        self.unmatched, self.unmatched_count = sorted(builder.unmatched), builder.unmatched_count
        if not self.usable:
            raise NothingUsable(self.name, self.rejected, self.rejected_count)

    def why_empty(self, excluded: int, elsewhere: str) -> str:
        """Say why nothing is left to be sent, of so many ``excluded`` in all; ``elsewhere`` says of
        the records that could be matched why they stay."""
        parts = []
        if self.perceptual_only:
            parts.append(
                f"{self.perceptual_only} records hold a perceptual hash only, so add --near"
            )
        if left_out := sorted([*self.rejected, *self.unmatched]):
            count, first = self.rejected_count + self.unmatched_count, left_out[0]
            parts.append(f"{count} cannot be used; record {first.record}: {first.reason}")
        if outside := excluded - self.perceptual_only - self.unmatched_count:
            parts.append(f"{outside} {elsewhere}")
        return "; ".join(parts)
