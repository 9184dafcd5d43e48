"""`tieline operation`: a taskforce goes through series together, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from tieline.v1 import operator_operations_pb2 as pb

from tieline_client.cli import views
from tieline_client.cli.common import (
    HomeOption,
    ProfileOption,
    check_case,
    connect,
    parse_agency,
    parse_day,
)
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run
from tieline_client.cli.tables import moment, show_rows
from tieline_client.errors import UsageError
from tieline_client.limits import SERIES_PER_CHANGE
from tieline_client.operation_report import write_report

app = group(
    "Operations: a taskforce goes through series together, and what came of it.\n\n"
    "Without a command: list them.\n\nExample: tieline operation --home ./europol-ec3",
    default="list",
)

OperationArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The operation's id, or its name.")
]
SeriesArguments = Annotated[
    list[str], typer.Argument(metavar="SERIES...", help="Series, by id or own name.")
]


@app.command("new")
@run
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")],
    *,
    begin: Annotated[str, typer.Option("--from", metavar="DATE", help="Its first day.")],
    until: Annotated[str, typer.Option("--to", metavar="DATE", help="Its last day.")],
    participants: Annotated[
        list[str],
        typer.Option("--participant", metavar="AGENCY", help="Who takes part; may be repeated."),
    ],
    case: Annotated[str, typer.Option("--case", metavar="REF", help="Its case reference.")] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Make an operation. Officer.

    Example: tieline operation new "Taskforce 7" --from 2020-11-02 --to 2020-11-13
    --participant pt-pj --participant us-ice --home ./europol-ec3
    """
    agencies = [parse_agency(one) for one in participants]
    days = parse_day(begin, "--from"), parse_day(until, "--to")
    check_case(case)
    with connect(profile, home) as client:
        made = client.create_operation(
            name, begin_day=days[0], end_day=days[1], participants=agencies, case_ref=case
        )
    document = operation_document(made)
    emit(as_json, document, lambda: line(f"operation {document['id']} made"))


@app.command("add")
@run
def add(
    operation: OperationArgument,
    series: SeriesArguments,
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Add series to an operation, all or none.

    Example: tieline operation add "Taskforce 7" "Case 12" "Case 13" --home ./europol-ec3
    """
    _check_many(series)
    with connect(profile, home) as client:
        made = client.add_operation_series(operation, series)
    document = operation_document(made.operation) | {"added": made.added}
    emit(as_json, document, lambda: line(f"{made.added} added, {made.operation.series} in all"))


@app.command("assign")
@run
def assign(
    operation: OperationArgument,
    series: SeriesArguments,
    *,
    agency: Annotated[str, typer.Option(metavar="AGENCY", help="Whose expert: a participant.")],
    person: Annotated[
        str, typer.Option(metavar="NAME", help="Who; by default anybody of that agency.")
    ] = "",
    done: Annotated[bool, typer.Option("--done", help="The evaluation is done.")] = False,
    text: Annotated[str, typer.Option(metavar="TEXT", help="What was found; with --done.")] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Assign series to an expert, who evaluates them, or say that the expert is done.

    Example: tieline operation assign "Taskforce 7" "Case 12" --agency pt-pj --person "Ana Silva"
    """
    _check_many(series)
    if text and not done:
        raise UsageError("--text goes with --done")
    with connect(profile, home) as client:
        made = client.assign_evaluation(
            operation, series, parse_agency(agency), person, done=done, text=text
        )
    document = operation_document(made.operation) | {"changed": made.changed}
    word = "done" if done else "assigned"
    emit(as_json, document, lambda: line(f"{made.changed} newly {word}"))


@app.command("list")
@run
def list_operations(
    *, profile: ProfileOption = None, home: HomeOption = None, as_json: Json = False
) -> None:
    """List operations, the latest first.

    Example: tieline operation list --home ./europol-ec3
    """
    with connect(profile, home) as client:
        documents = [operation_document(each) for each in client.list_operations()]

    def render() -> None:
        keys = ("id", "name", "from", "to", "series", "evaluated")
        rows = [
            (*(each[key] for key in keys), ", ".join(each["participants"])) for each in documents
        ]
        show_rows((*keys, "participants"), rows, "no operations")

    emit(as_json, {"operations": documents}, render)


@app.command("show")
@run
def show(
    operation: OperationArgument,
    *,
    most: Annotated[
        int, typer.Option(min=0, metavar="N", help="At most so many series; 0: all.")
    ] = 0,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Show the triage list: which series to look at first, and why; and who evaluates each.

    Example: tieline operation show "Taskforce 7" --most 20 --home ./europol-ec3
    """
    with connect(profile, home) as client:
        found = client.get_operation(operation, most)
    documents = [_triage_document(each) for each in found.series]
    weights = {each.name: each.points for each in found.weights}
    whole = operation_document(found.operation) | {"triage": documents, "weights": weights}

    def render() -> None:
        line(f"{whole['name']}, {whole['from']} to {whole['to']}, {whole['series']} series")
        most_points = ", ".join(f"{name} {points}" for name, points in weights.items())
        line(f"points of {sum(weights.values())}; at most: {most_points}")
        rows = [
            (
                each["points"],
                each["series"],
                each["name"],
                each["status"],
                " ".join(each["likely_countries"]),
                "; ".join(f"{p['name']} {p['points']}: {p['why']}" for p in each["parts"]),
                "; ".join(_task(task) for task in each["evaluations"]),
            )
            for each in documents
        ]
        columns = ("points", "series", "name", "status", "likely", "why", "evaluated by")
        show_rows(columns, rows, "no series; `tieline operation add` adds them")
        if len(documents) < found.operation.series:
            line(f"{found.operation.series - len(documents)} more series are not shown")

    emit(as_json, whole, render)


def _task(task: views.Document) -> str:
    who = f"{task['person'] or 'anybody'} ({task['agency']})"
    return f"{who} {moment(task['done'])}" if task["done"] else f"{who}, not yet"


@app.command("report")
@run
def report(
    operation: OperationArgument,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.html]", help="Write a page with plots.")
    ] = None,
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the file if it is there.")
    ] = False,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Tell an operation's figures, from what was done with its series since its first day.

    Example: tieline operation report "Taskforce 7" taskforce.html --home ./europol-ec3
    """
    if file is not None and file.suffix.lower() != ".html":
        raise UsageError("name a file that ends in .html")
    if file is not None and file.exists() and not replace:
        raise UsageError(f"{file} is there already; give another name, or say --replace")
    with connect(profile, home) as client:
        made = client.report_operation(operation)
    if file is not None:
        write_report(file, made)
    document = report_document(made)

    def render() -> None:
        line(f"{made.operation.name}, {made.operation.begin_day} to {made.operation.end_day}")
        rows = [
            (name.replace("_", " "), _told(value)) for name, value in document["figures"].items()
        ]
        show_rows(("figure", ""), rows, "")
        columns = ("country", "localised", "told", "median seconds")
        countries = [tuple(map(_told, one.values())) for one in document["countries"]]
        show_rows(columns, countries, "no likely country was found")
        if file is not None:
            line(f"written: {file}")

    emit(as_json, document, render)


def _told(value: object) -> object:
    """Return a figure as it is shown: a median of nothing is none."""
    return "-" if value is None else value


def _check_many(series: list[str]) -> None:
    if len(series) > SERIES_PER_CHANGE:
        raise UsageError(f"at most {SERIES_PER_CHANGE} series at once; say the rest again")


# --- documents --------------------------------------------------------------------------------


def operation_document(value: pb.OperationView) -> dict[str, Any]:
    """Return an operation."""
    return {
        "id": value.id,
        "name": value.name,
        "from": value.begin_day,
        "to": value.end_day,
        "participants": list(value.participants),
        "person": value.person,
        "case": value.case_ref,
        "created": views.when(value, "create_time"),
        "series": value.series,
        "evaluated": value.evaluated,
    }


def _triage_document(value: pb.TriageView) -> dict[str, Any]:
    return {
        "series": value.series,
        "name": value.name,
        "status": value.status,
        "points": value.points,
        "parts": [{"name": p.name, "points": p.points, "why": p.why} for p in value.parts],
        "likely_countries": list(value.likely_countries),
        "evaluations": [
            {
                "agency": one.agency,
                "person": one.person,
                "assigned": views.when(one, "assign_time"),
                "assigned_by": one.assigned_by,
                "done": views.when(one, "done_time"),
                "done_by": one.done_by,
                "text": one.text,
            }
            for one in value.evaluations
        ],
    }


_FIGURES = (
    *("series", "triaged", "evaluated", "localised", "told", "delivered", "told_outside"),
    *("acknowledged", "uploaded", "identified", "tentative", "victims_identified"),
    *("victims_tentative", "tips", "tips_verified"),
)


def _seconds(value: pb.OperationFigures | pb.OperationCountry) -> float | None:
    return value.median_millis / 1_000 if value.HasField("median_millis") else None


def report_document(value: pb.ReportOperationResponse) -> dict[str, Any]:
    """Return the figures."""
    figures: dict[str, Any] = {name: getattr(value.figures, name) for name in _FIGURES}
    return {
        "operation": operation_document(value.operation),
        "as_of": views.when(value, "report_time"),
        "figures": figures | {"median_seconds_localised_to_told": _seconds(value.figures)},
        "countries": [
            {
                "country": one.country,
                "localised": one.localised,
                "told": one.told,
                "median_seconds": _seconds(one),
            }
            for one in value.countries
        ],
        "days": [
            {
                "day": one.day,
                "triaged": one.triaged,
                "localised": one.localised,
                "told": one.told,
                "identified": one.identified,
            }
            for one in value.days
        ],
    }
