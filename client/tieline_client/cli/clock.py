"""`tieline clock`: where each referral stands, what is late, and how long the steps take."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from tieline.v1 import operator_clock_pb2 as pb

from tieline_client.cli import views
from tieline_client.cli.common import HomeOption, ProfileOption, connect, parse_country
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run
from tieline_client.cli.tables import moment, show_rows
from tieline_client.errors import UsageError
from tieline_client.profile import utc_now

app = group(
    "The referral clock.\n\nWithout a command: each referral, its step, and what is overdue.\n\n"
    "Example: tieline clock --home ./europol-ec3",
    default="show",
)


@app.command("show")
@run
def clock(
    *,
    series: Annotated[
        str, typer.Option(metavar="ID", help="Only this series, by id or own name.")
    ] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Show each referral, its step, and what is overdue.

    Example: tieline clock --home ./europol-ec3
    """
    with connect(profile, home) as client:
        found = client.list_clock(series)
    now = utc_now()
    referrals = [_with_overdue(views.referral(each), now) for each in found.referrals]
    untold = [_untold(each, now) for each in found.untold]

    def render() -> None:
        columns = ("id", "series", "who", "country", "urgency", "state", "next step due", "")
        rows = [
            (
                each["id"],
                each["series"],
                f"{each['sender']} > {each['recipient'] or 'outside'}",
                each["country"],
                each["urgency"],
                each["state"],
                moment(each["due"]),
                _remark(each),
            )
            for each in referrals
        ]
        show_rows(columns, rows, "no referrals")
        if untold:
            late = [
                (
                    each["series"],
                    each["country"],
                    moment(each["localised"]),
                    moment(each["due"]),
                    "OVERDUE: referred" if each["overdue"] else "",
                )
                for each in untold
            ]
            show_rows(("likely, and not told", "country", "since", "due", ""), late, "")

    emit(as_json, {"referrals": referrals, "untold": untold}, render)


@app.command("report")
@run
def report(
    *,
    series: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Only this series, by id or own name; may be repeated."),
    ] = None,
    operation: Annotated[
        str, typer.Option(metavar="ID", help="Only the series of this operation, by id or name.")
    ] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Report how long the steps take: medians and what is overdue, by country.

    Example: tieline clock report --json --home ./europol-ec3
    """
    with connect(profile, home) as client:
        made = client.get_clock_report(series or (), operation)
    document = {
        "sent": _part(made.sent),
        "received": _part(made.received),
        "at": views.when(made, "report_time"),
    }

    def render() -> None:
        for name, part in (("sent", made.sent), ("received", made.received)):
            rows = [_row(each) for each in (*part.countries, part.total)]
            rows[-1][0] = "all"
            show_rows(_COLUMNS, rows if part.countries else [], f"nothing {name}", title=name)
            if part.overdue:
                line(f"overdue: {', '.join(part.overdue)}")

    emit(as_json, document, render)


_STEPS = (
    "localised_to_referred",
    "localised_to_told",
    "referred_to_delivered",
    "delivered_to_acknowledged",
    "acknowledged_to_answered",
    "answered_to_outcome",
)
_COUNTS = (
    *("referrals", "series", "told", "told_outside", "acknowledged", "answered", "outcomes"),
    "overdue",
)
_COLUMNS = (
    *("country", "referrals", "told", "outside", "seen", "answered", "outcomes", "overdue"),
    *(step.replace("_to_", " > ") for step in _STEPS),
)


def _part(part: pb.ClockPart) -> views.Document:
    return {
        "total": _counts(part.total),
        "countries": [{"country": each.country, **_counts(each)} for each in part.countries],
        "overdue": list(part.overdue),
    }


def _counts(counted: pb.ClockLine) -> views.Document:
    took = {each.step: each.milliseconds / 1000 for each in counted.medians}
    return {
        **{name: getattr(counted, name) for name in _COUNTS},
        "median_seconds": {step: took.get(step) for step in _STEPS},
    }


def _row(counted: pb.ClockLine) -> list[object]:
    took = {each.step: each.milliseconds / 1000 for each in counted.medians}
    shown = [getattr(counted, name) for name in _COUNTS if name != "series"]
    return [counted.country, *shown, *(_span(took.get(step)) for step in _STEPS)]


def _span(seconds: float | None) -> str:
    """How long, in the unit that people would say it in."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _untold(value: pb.UntoldView, now: datetime) -> views.Document:
    due = views.when(value, "due_time")
    return {
        "series": value.series,
        "country": value.country,
        "localised": views.when(value, "localise_time"),
        "due": due,
        "overdue": due is not None and now > due,
    }


@app.command("told-outside")
@run
def told_outside(
    entry: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A referral, by its id in `tieline clock`; or a series, by id or name.",
        ),
    ],
    *,
    reference: Annotated[
        str, typer.Option(metavar="TEXT", help="Under which reference it was told.")
    ],
    country: Annotated[
        str,
        typer.Option(metavar="CC", help="Which country; needed where several may be meant."),
    ] = "",
    purpose: Annotated[
        str, typer.Option(metavar="CODE", help="Why; a referral has its own, a series needs it.")
    ] = "",
    case: Annotated[str, typer.Option(metavar="REF", help="The case reference; the same.")] = "",
    basis: Annotated[
        str, typer.Option(metavar="TEXT", help="On what law it left the union, for the log.")
    ] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Record that a country without a node was told by other means. The clock runs on: an outcome
    is recorded with `tieline inbox outcome` under the same id.

    Example: tieline clock told-outside 0198c3a1-7f00-7abc-8def-0123456789ab --reference I247-88
    """
    if not reference.strip():
        raise UsageError("--reference is empty; say under which reference the country was told")
    wanted = parse_country(country) if country else ""
    with connect(profile, home) as client:
        why = {"purpose": purpose, "case_ref": case, "basis": basis}
        told = client.tell_outside(entry, reference, country=wanted, **why)
    document = views.referral(told)

    def render() -> None:
        told = f"{document['country']} was told outside Tieline, {_reference(document)}"
        line(f"{document['id']}: {told}")

    emit(as_json, document, render)


def _reference(referral: views.Document) -> str:
    """The references under which a country was told by other means; "" where it was not."""
    steps = referral["steps"]
    assert isinstance(steps, list)
    told = [str(each["text"]) for each in steps if each["state"] == "told_outside"]
    return f"reference {', '.join(told)}" if told else ""


def _remark(referral: views.Document) -> str:
    escalated = f"escalated {moment(referral['escalated'])}; " if referral["escalated"] else ""
    if outside := _reference(referral):
        escalated += f"told outside, {outside}; "
    if referral["lead"]:
        escalated += f"lead: {referral['lead']}; "
    if referral["corrected"]:
        escalated += f"CORRECTED: {_countries(referral)}; "
    return escalated + (
        f"OVERDUE: {referral['next']}" if referral["overdue"] else str(referral["reason"])
    )


def _countries(referral: views.Document) -> str:
    now = referral["likely_countries"]
    assert isinstance(now, list)
    return f"{' '.join(map(str, now)) or 'no country'} by now"


def _with_overdue(referral: views.Document, now: datetime) -> views.Document:
    """Add ``overdue``, and when it was ``escalated``, None where it was not."""
    steps, due = referral["steps"], referral["due"]
    assert isinstance(steps, list)
    told = [each["at"] for each in steps if each["state"] == "escalated" and each["at"]]
    overdue = isinstance(due, datetime) and now > due
    return {**referral, "escalated": min(told, default=None), "overdue": overdue}
