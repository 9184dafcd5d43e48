"""`tieline upload drop` and `tieline upload reconcile`: a database that only takes files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

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
from tieline_client.dropping import Drop, Dropping, Reconciliation
from tieline_client.dropping import reconcile as compare
from tieline_client.errors import UsageError
from tieline_client.exporting import ExportFormat, ExportOptions
from tieline_client.limits import SERIES_PER_EXPORT

FolderOption = Annotated[
    Path, typer.Option("--folder", metavar="DIR", help="The folder that both sides see.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `tieline upload`."""
    app.command("drop")(drop)
    app.command("reconcile")(reconcile)


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
    options = ExportOptions(
        *(tuple(series), ExportFormat.VICS, purpose, case, context), recipient=repository
    )
    with Dropping(folder) as made, connect(profile, home) as client:
        report = client.export_series(options, made.path)
        found, known = made.finish(report, client.profile.agency, repository)
    document = {
        "drop": _drop(found),
        "unchanged": known,
        "skipped": report.skipped,
        "withheld": report.withheld,
        "dropped": [{"field": name, "records": count} for name, count in report.dropped.items()],
    }
    emit(as_json, document, lambda: _show_drop(found, known, report.skipped, report.withheld))


@run
def reconcile(
    *,
    folder: FolderOption,
    answer: Annotated[
        Path, typer.Option(metavar="FILE", help="What the repository holds, ICSE-style CSV.")
    ],
    as_json: Json = False,
) -> None:
    """Compare what was dropped with what the repository says it holds.

    Example: tieline upload reconcile --folder /mnt/icse --answer icse.csv
    """
    found = compare(folder, answer)
    emit(as_json, _document(found), lambda: _show(found))


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
    for one in found.missing:
        line(f"missing: {one['item']} of {one['series']}")
    for each in found.differences:
        line(
            f"differs: {each['item']} {each['field']}: here {each['ours']}, there {each['theirs']}"
        )
