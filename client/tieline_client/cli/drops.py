"""`tieline upload drop` and `tieline upload reconcile`: a database that only takes files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from tieline.v1.operator_deposits_pb2 import DepositRow

from tieline_client.cli import views
from tieline_client.cli.common import (
    CaseOption,
    HomeOption,
    ProfileOption,
    PurposeOption,
    check_why,
    connect,
    parse_agency,
)
from tieline_client.cli.output import Json, emit, line, out, run, say, table
from tieline_client.cli.tables import show_rows
from tieline_client.dropping import Drop, Reconciliation
from tieline_client.dropping import reconcile as compare
from tieline_client.errors import UsageError
from tieline_client.gateways import FileGateway, NodeGateway, Why
from tieline_client.limits import SERIES_PER_EXPORT

FolderOption = Annotated[
    Path, typer.Option("--folder", metavar="DIR", help="The folder that both sides see.")
]


@run
def drop(
    series: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Series, by id or own name.")
    ],
    *,
    to: Annotated[str, typer.Option(metavar="AGENCY", help="The repository.")],
    folder: FolderOption,
    context: Annotated[
        Literal["us", "uk", "custom"], typer.Option(help="Whose table of categories.")
    ] = "us",
    purpose: PurposeOption = "",
    case: CaseOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Deposit series in a folder, for a repository that only takes files.

    The same series again, unchanged, is the same drop.

    Example: tieline upload drop "Case 12" --to interpol --folder /mnt/icse --purpose
    victim-identification --case 2026-118
    """
    check_why(purpose, case)
    if len(series) > SERIES_PER_EXPORT:
        raise UsageError(f"at most {SERIES_PER_EXPORT} series a drop; make several drops")
    repository = parse_agency(to)
    with connect(profile, home) as client:
        gateway = FileGateway(client, repository, folder, context=context)
        uploads = gateway.deposit(series, Why(purpose, case))
    report, found, known = gateway.report, gateway.drop, gateway.known
    assert report is not None
    assert found is not None
    document = {
        "drop": _drop(found),
        "unchanged": known,
        "uploads": [views.upload(each) for each in uploads],
        "skipped": report.skipped,
        "withheld": report.withheld,
        "dropped": [{"field": name, "records": count} for name, count in report.dropped.items()],
    }
    emit(as_json, document, lambda: _show_drop(found, known, report.skipped, report.withheld))


@run
def reconcile(
    *,
    to: Annotated[str, typer.Option(metavar="AGENCY", help="The repository.")] = "",
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of `upload drop`.")
    ] = None,
    answer: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What the repository holds, ICSE-style CSV."),
    ] = None,
    purpose: PurposeOption = "",
    case: CaseOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Compare what was deposited with what the repository says it holds.

    With --to alone the repository's node is asked. With --folder and --answer its file is read, and
    with --to beside them applied: numbers, submissions, baseline and identified, each once.

    Example: tieline upload reconcile --to interpol --purpose victim-identification --case 2026-118
    """
    if (folder is None) != (answer is None) or not (to or folder):
        raise UsageError("say --to AGENCY, or --folder DIR with --answer FILE, or all three")
    repository = parse_agency(to) if to else ""
    if folder is None or answer is None:
        check_why(purpose, case)
        with connect(profile, home) as client:
            rows = list(NodeGateway(client, repository).reconcile(Why(purpose, case)))
        emit(
            as_json,
            {"repository": repository, "series": [_row(one) for one in rows]},
            lambda: _show_rows(rows),
        )
        return
    news = 0
    if repository:
        with connect(profile, home) as client:
            news = FileGateway(client, repository, folder, answer=answer).collect()
    found = compare(folder, answer, repository)
    emit(as_json, _document(found) | {"news": news}, lambda: _show(found))


def _row(one: DepositRow) -> dict[str, Any]:
    return {
        "series": one.series,
        "name": one.name,
        "upload": one.upload,
        "state": one.state,
        "number": one.number,
        "deposited": one.deposited,
        "held": one.held,
        "missing_count": one.missing_count,
        "missing": list(one.missing),
        "said": views.repository(one.said) if one.HasField("said") else None,
        "differences": list(one.differences),
        "receipt": one.receipt,
    }


def _show_rows(rows: Sequence[DepositRow]) -> None:
    columns = ("series", "name", "state", "number", "deposited", "held there", "differences")
    shown = [
        (
            *(one.series, one.name, one.state, one.number, one.deposited, one.held),
            one.missing_count + len(one.differences),
        )
        for one in rows
    ]
    show_rows(columns, shown, "nothing was deposited there")
    for one in rows:
        for item in one.missing:
            line(f"missing: {item} of {one.series}")
        for each in one.differences:
            line(f"differs: {one.series}: {each}")


def _drop(one: Drop) -> dict[str, Any]:
    return {
        "name": one.name,
        "state": "picked_up" if one.picked_up else "waiting",
        "reference": one.reference,
        "records": one.records,
        "sha256": one.sha256,
        "series": list(one.series),
    }


def _document(found: Reconciliation) -> dict[str, Any]:
    return {
        "drops": [_drop(one) for one in found.drops],
        "deposited": found.deposited,
        "held": found.held,
        "foreign": found.foreign,
        "missing_count": found.missing_count,
        "missing": found.missing,
        "difference_count": found.difference_count,
        "differences": found.differences,
        "rejected_count": found.rejected_count,
        "rejected": [{"record": one.record, "reason": one.reason} for one in found.rejected],
        "series": [{"series": name, **asdict(one)} for name, one in sorted(found.series.items())],
    }


def _show_drop(one: Drop, known: bool, skipped: int, withheld: int) -> None:
    line(f"{one.records} records in {one.folder}{', as before' if known else ''}")
    if skipped or withheld:
        say(f"not in it: {skipped} records without an MD5, {withheld} items that policy keeps back")


def _show(found: Reconciliation) -> None:
    rows = [
        (name, one.deposited, one.held, one.submissions, one.baseline, one.identified)
        for name, one in sorted(found.series.items())
    ]
    columns = ("series", "deposited", "held there", "submissions", "baseline", "identified")
    out.print(table(columns, rows))
    waiting = sum(not one.picked_up for one in found.drops)
    line(
        f"{len(found.drops)} drops, {waiting} not picked up; {found.deposited} items deposited, "
        f"{found.held} held there, {found.missing_count} missing, {found.foreign} of others, "
        f"{found.difference_count} differences"
    )
    if found.rejected_count:
        first = found.rejected[0]
        line(
            f"{found.rejected_count} rows of the answer cannot be read, and what they hold is "
            f"counted as missing; row {first.record}: {first.reason}"
        )
    for one in found.missing:
        line(f"missing: {one['item']} of {one['series']}")
    for each in found.differences:
        line(
            f"differs: {each['item']} {each['field']}: here {each['ours']}, there {each['theirs']}"
        )
