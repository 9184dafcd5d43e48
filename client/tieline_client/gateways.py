"""A repository as a depositor sees it, whatever carries deposits there: one interface, two ways.

`NodeGateway`: the repository runs a node. Deposits are signed messages, which its node answers with
steps and reports; they are applied once, when they come.

`FileGateway`: the repository only takes files. A deposit is a drop in a folder that both sides see
(dropping.py), which the own node records as a deposit like any other; what the repository says
comes back as ICSE-style CSV, and `collect` gives it to the node, which applies each thing once.

Both may be cut off anywhere and told again: a deposit that was made is found and shown, a drop
without its record is recorded the next time, an answer half applied is applied to its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tieline.v1 import operator_deposits_pb2 as deposits
from tieline.v1 import operator_pb2 as pb

from tieline_client.dropping import Drop, Dropping, Reconciliation, reconcile
from tieline_client.exporting import ExportFormat, ExportOptions, ExportReport
from tieline_client.limits import SERIES_NUMBER_CHARS
from tieline_client.operator_client import OperatorClient


@dataclass(frozen=True, slots=True)
class Why:
    """Purpose code and case reference of a deposit, or of a comparison."""

    purpose: str
    case_ref: str


class IcseGateway(Protocol):
    """The way to one repository. Methods raise TielineError."""

    def deposit(self, series: Sequence[str], why: Why) -> Sequence[pb.UploadView]:
        """Deposit series; those that are there already, unchanged, are shown again."""
        ...

    def collect(self) -> int:
        """Take in what the repository said since; return how many things were new."""
        ...

    def reconcile(self, why: Why) -> Iterator[deposits.DepositRow]:
        """Compare what was deposited with what the repository says it holds, by series."""
        ...


class NodeGateway:
    """`IcseGateway` to a repository's node."""

    def __init__(self, client: OperatorClient, repository: str) -> None:
        self._client, self._repository = client, repository

    def deposit(self, series: Sequence[str], why: Why) -> Sequence[pb.UploadView]:
        """Queue the deposits; delivery takes them from there."""
        return self._client.upload_series(
            series, self._repository, purpose=why.purpose, case_ref=why.case_ref
        )

    def collect(self) -> int:
        """Nothing: the node applies what comes, when it comes."""
        return 0

    def reconcile(self, why: Why) -> Iterator[deposits.DepositRow]:
        """Have the own node ask the repository's."""
        return self._client.reconcile_deposits(
            self._repository, purpose=why.purpose, case_ref=why.case_ref
        )


class FileGateway:
    """`IcseGateway` through a folder. ``answer`` is the repository's file, once there is one."""

    def __init__(
        self,
        client: OperatorClient,
        repository: str,
        folder: Path,
        *,
        answer: Path | None = None,
        context: str = "us",
    ) -> None:
        self._client, self._repository, self._folder = client, repository, folder
        self._answer, self._context = answer, context
        self.report: ExportReport | None = None
        """Of the last deposit: what was not written, and why."""
        self.drop: Drop | None = None
        self.known = False

    def deposit(self, series: Sequence[str], why: Why) -> Sequence[pb.UploadView]:
        """Make one drop of all, then record it."""
        options = ExportOptions(
            *(tuple(series), ExportFormat.VICS, why.purpose, why.case_ref, self._context),
            recipient=self._repository,
        )
        with Dropping(self._folder) as made:
            self.report = self._client.export_series(options, made.path)
            agency = self._client.profile.agency
            self.drop, self.known = made.finish(self.report, agency, self._repository)
        written = zip(self.report.series, self.report.counts, strict=True)
        counts = [(one.series.notice.id, count) for one, count in written]
        return self._client.record_drop(
            self._repository, self.drop.name, counts, purpose=why.purpose, case_ref=why.case_ref
        )

    def compare(self) -> Reconciliation:
        """Compare the folder's drops for the repository with its answer."""
        assert self._answer is not None
        return reconcile(self._folder, self._answer, self._repository)

    def collect(self) -> int:
        """Give the node what the answer says of each series of the drops."""
        if self._answer is None:
            return 0
        found = self.compare()
        answers = [
            deposits.SeriesAnswer(
                series=name,
                number=one.number[:SERIES_NUMBER_CHARS],
                deposited=one.deposited,
                held=one.held,
                submissions=one.submissions,
                baseline=one.baseline,
                identified=one.identified,
            )
            for name, one in sorted(found.series.items())
            if one.held
        ]
        return self._client.take_answer(self._repository, answers) if answers else 0

    def reconcile(self, why: Why) -> Iterator[deposits.DepositRow]:
        """Compare without asking anybody: ``why`` was said when the drops were made."""
        found = self.compare()
        drops = {series: drop for drop in found.drops for series in drop.series}
        for name, one in sorted(found.series.items()):
            drop = drops.get(name)
            row = deposits.DepositRow(
                series=name,
                state=("picked_up" if drop.picked_up else "waiting") if drop else "",
                number=one.number,
                deposited=one.deposited,
                held=one.held,
                missing_count=one.deposited - one.held,
                missing=[each["item"] for each in found.missing if each["series"] == name][:100],
            )
            row.differences.extend(
                f"{each['item']} {each['field']}: here {each['ours']}, there {each['theirs']}"
                for each in found.differences[:1000]
                if each["series"] == name
            )
            del row.differences[32:]
            yield row
