"""`tieline outbox` and `tieline clock`: what is on its way, and where each referral stands."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import typer

from tieline_client.cli import views
from tieline_client.cli.common import HomeOption, ProfileOption, connect, parse_country
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run
from tieline_client.cli.overdue import due, is_overdue, next_step
from tieline_client.cli.tables import moment, show_rows
from tieline_client.errors import UsageError
from tieline_client.profile import utc_now

State = Literal["", "queued", "delivered", "refused", "parked", "cancelled"]


@run
def outbox(
    *,
    state: Annotated[State, typer.Option(help="Only messages in this state.")] = "",
    limit: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="At most so many messages.")
    ] = 1000,
    page: Annotated[
        str, typer.Option(metavar="TOKEN", help="The next page, as the last one named it.")
    ] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """List messages on their way or settled, newest first, and how far each destination is.

    Example: tieline outbox --state queued --home ./pt-pj
    """
    with connect(profile, home) as client:
        found = client.list_outbox(state, page_size=limit, page_token=page)
    entries = [views.message(each) for each in found.entries]
    destinations = [views.destination(each) for each in found.destinations]

    def render() -> None:
        columns = ("recipient", "kind", "subject", "urgency", "no.", "state", "queued", "")
        keys = ("recipient", "kind", "subject", "urgency", "sequence", "state")
        rows = [
            [*(each[key] for key in keys), moment(each["created"]), each["reason"]]
            for each in entries
        ]
        show_rows(columns, rows, "no messages")
        if found.next_page_token:
            line(f"more: tieline outbox --page {found.next_page_token}")
        waiting = [_progress(each) for each in destinations if each["queued"]]
        if waiting:
            names = ("waiting for", "messages", "oldest", "gone", "a minute", "attempts", "next")
            show_rows((*names, "last error"), waiting, "")

    document = {
        "entries": entries,
        "destinations": destinations,
        "next_page": found.next_page_token,
    }
    emit(as_json, document, render)


def _progress(destination: views.Document) -> tuple[object, ...]:
    """One line of a destination: how much waits by urgency, since when, and how it goes."""
    lanes = destination["lanes"]
    assert isinstance(lanes, list)
    oldest = min((each["oldest"] for each in lanes if each["oldest"]), default=None)
    return (
        destination["agency"],
        ", ".join(f"{each['queued']} {each['urgency']}" for each in lanes),
        moment(oldest),
        destination["delivered"],
        destination["per_minute"],
        destination["attempts"],
        moment(destination["next_attempt"]),
        destination["last_error"],
    )


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
        found = [views.referral(each) for each in client.list_clock(series)]
    now = utc_now()
    referrals = [_with_due(each, now) for each in found]

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

    emit(as_json, {"referrals": referrals}, render)


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
        told = client.tell_outside(entry, reference, country=wanted, purpose=purpose, case_ref=case)
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
    if referral["corrected"]:
        escalated += f"CORRECTED: {_countries(referral)}; "
    return escalated + (
        f"OVERDUE: {referral['next']}" if referral["overdue"] else str(referral["reason"])
    )


def _countries(referral: views.Document) -> str:
    now = referral["likely_countries"]
    assert isinstance(now, list)
    return f"{' '.join(map(str, now)) or 'no country'} by now"


def _with_due(referral: views.Document, now: datetime) -> views.Document:
    """Add ``since`` (when the state was reached), ``next``, ``due``, ``overdue``, and when it was
    ``escalated``, None where it was not."""
    state, urgency = str(referral["state"]), str(referral["urgency"])
    steps = referral["steps"]
    assert isinstance(steps, list)
    reached = [each["at"] for each in steps if each["state"] == state and each["at"]]
    since = max(reached, default=referral["created"])
    told = [each["at"] for each in steps if each["state"] == "escalated" and each["at"]]
    referral = {**referral, "escalated": min(told, default=None)}
    if not isinstance(since, datetime):
        return {**referral, "since": None, "next": "", "due": None, "overdue": False}
    return {
        **referral,
        "since": since,
        "next": next_step(state),
        "due": due(state, urgency, since),
        "overdue": is_overdue(state, urgency, since, now),
    }
