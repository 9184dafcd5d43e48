"""A file of tips to the own node, batch by batch; what became of each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from tieline.v1 import operator_clues_pb2 as pb

from tieline_client import limits
from tieline_client.errors import InvalidInput
from tieline_client.formats.record import Rejected
from tieline_client.formats.tips import read_tips
from tieline_client.operator_connection import make
from tieline_client.payloads import timestamp


class TakesTips(Protocol):
    """What an OperatorClient does for this."""

    def add_tips(self, tips: Sequence[pb.NewTip]) -> Sequence[str]:
        """See `operator_clues.ClueCalls.add_tips`."""
        ...


@dataclass(slots=True)
class TipReport:
    """What became of the rows of one file. ``rejected`` names the first REJECTED_LISTED."""

    fates: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether any row was a tip."""
        return any(self.fates[name] for name in ("added", "known", "limited"))

    def reject(self, number: int, reason: str) -> None:
        """Count a row that was not kept."""
        self.fates["rejected"] += 1
        if len(self.rejected) < limits.REJECTED_LISTED:
            self.rejected.append(Rejected(number, reason))

    def document(self, file: str) -> dict[str, object]:
        """Return it as JSON shows it."""
        counts = {name: self.fates[name] for name in ("added", "known", "limited")}
        return {
            "file": file,
            "rows": sum(self.fates.values()),
            **counts,
            "rejected_rows": self.fates["rejected"],
            "rejected": [{"record": one.record, "reason": one.reason} for one in self.rejected],
        }


def new_tip(
    clue: str,
    text: str,
    *,
    contact: str = "",
    source: str = "",
    country: str = "",
    received: datetime | None = None,
) -> pb.NewTip:
    """Build a tip. Raises InvalidInput for what cannot be sent."""
    return make(
        pb.NewTip,
        clue=clue,
        text=text,
        contact=contact,
        source=source,
        country=country,
        receive_time=timestamp(received) if received else None,
    )


def import_tips(
    client: TakesTips, path: Path, on_progress: Callable[[int], None] | None = None
) -> TipReport:
    """Bring a file of tips in. Raises FormatError for a broken file: batches before it are kept,
    and importing the mended file again adds only what is new."""
    report = TipReport()
    numbers: list[int] = []
    batch: list[pb.NewTip] = []

    def flush() -> None:
        for number, fate in zip(numbers, client.add_tips(batch) if batch else (), strict=True):
            if fate in ("added", "known", "limited"):
                report.fates[fate] += 1
            else:
                report.reject(number, _WORDS.get(fate, fate))
        numbers.clear()
        batch.clear()

    size = 0
    for row in read_tips(path, on_progress):
        if isinstance(row, Rejected):
            report.reject(row.record, row.reason)
            continue
        try:
            tip = new_tip(
                row.clue,
                row.text,
                contact=row.contact,
                source=row.source,
                country=row.country,
                received=row.received,
            )
        except InvalidInput as error:  # whoever wrote to the site must not keep other tips out
            report.reject(row.number, error.message)
            continue
        length = tip.ByteSize()
        if len(batch) >= limits.TIPS_PER_BATCH or size + length > limits.RECORD_BATCH_BYTES:
            flush()
            size = 0
        numbers.append(row.number)
        batch.append(tip)
        size += length
    flush()
    report.rejected.sort(key=lambda one: one.record)
    return report


_WORDS = {"unknown_clue": "no clue of this id is here; compare with `tieline clue list`"}
