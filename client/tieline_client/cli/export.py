"""`tieline export`: series into a file for another system."""

from __future__ import annotations

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
    count_bar,
)
from tieline_client.cli.output import Json, emit, line, out, run, say, table
from tieline_client.errors import UsageError
from tieline_client.exporting import ExportFormat, ExportOptions, ExportReport
from tieline_client.limits import SERIES_PER_EXPORT

Context = Literal["us", "uk", "custom"]


@run
def export(
    series: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Series, by id or own name.")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, last.")],
    *,
    file_format: Annotated[
        ExportFormat,
        typer.Option("--format", help="VICS 2.0 JSON, ICSE-style CSV, CASE JSON-LD, own CSV."),
    ],
    context: Annotated[
        Context, typer.Option(help="VICS only: whose table of categories the file speaks.")
    ] = "us",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the file if it is there.")
    ] = False,
    purpose: PurposeOption = "",
    case: CaseOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Write series with all that is known of their items into a file, and say what it cannot hold.

    The file appears whole, readable by you alone, after the node has logged the export.

    Example: tieline export "Case 12" --format vics case12.json --purpose victim-identification
    --case 2026-118
    """
    check_why(purpose, case)
    if len(series) > SERIES_PER_EXPORT:
        raise UsageError(f"at most {SERIES_PER_EXPORT} series a file; make several files")
    options = ExportOptions(tuple(series), file_format, purpose, case, context)
    with connect(profile, home) as client, count_bar("exporting", 0) as bar:
        report = client.export_series(options, file, replace=replace, on_records=bar)
    emit(as_json, document_of(report), lambda: _show(report))


def document_of(report: ExportReport) -> dict[str, Any]:
    """Return the JSON document of an export."""
    return {
        "file": report.file,
        "format": report.format,
        "sha256": report.sha256,
        "bytes": report.size,
        "records": report.records,
        "written": report.written,
        "skipped": report.skipped,
        "withheld": report.withheld,
        "series": [
            {
                "id": one.series.notice.id,
                "name": one.series.notice.name,
                "records": one.records,
                "withheld": one.withheld,
                "reason": one.reason,
            }
            for one in report.series
        ],
        "dropped": [{"field": name, "records": count} for name, count in report.dropped.items()],
    }


def _show(report: ExportReport) -> None:
    line(f"{report.written} records in {report.file}, SHA-256 {report.sha256}")
    if report.skipped:
        say(f"{report.skipped} records have no hash that {report.format} can hold; not in the file")
    for one in report.series:
        if one.withheld:
            say(f"{one.series.notice.id}: {one.withheld} items are kept back: {one.reason}")
    if report.dropped:
        rows = [(name, count) for name, count in report.dropped.items()]
        out.print(table(("not in the file", "records or series"), rows))
