"""`tieline outbox` and `tieline clock`: what is on its way, and where each referral stands."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import typer

from tieline_client.cli import views
from tieline_client.cli.common import HomeOption, ProfileOption, connect
from tieline_client.cli.output import Json, emit, run
from tieline_client.cli.overdue import due, is_overdue, next_step
from tieline_client.cli.tables import moment, show_rows
from tieline_client.profile import utc_now

State = Literal["", "queued", "delivered", "refused", "parked"]


@run
def outbox(
    *,
    state: Annotated[State, typer.Option(help="Only messages in this state.")] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """List messages on their way or settled, newest first, and who waits for them.

    Example: tieline outbox --state queued --home ./pt-pj
    """
    with connect(profile, home) as client:
        found = client.list_outbox(state)
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
        waiting = [
            (
                each["agency"],
                each["queued"],
                each["attempts"],
                moment(each["next_attempt"]),
                each["last_error"],
            )
            for each in destinations
            if each["queued"]
        ]
        if waiting:
            show_rows(("waiting for", "messages", "attempts", "next", "last error"), waiting, "")

    emit(as_json, {"entries": entries, "destinations": destinations}, render)


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
    """The referral clock: each referral, its step, and what is overdue.

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
                f"{each['sender']} > {each['recipient']}",
                each["country"],
                each["urgency"],
                each["state"],
                moment(each["due"]),
                f"OVERDUE: {each['next']}" if each["overdue"] else each["reason"],
            )
            for each in referrals
        ]
        show_rows(columns, rows, "no referrals")

    emit(as_json, {"referrals": referrals}, render)


def _with_due(referral: views.Document, now: datetime) -> views.Document:
    """Add ``since`` (when the state was reached), ``next``, ``due`` and ``overdue``."""
    state, urgency = str(referral["state"]), str(referral["urgency"])
    steps = referral["steps"]
    assert isinstance(steps, list)
    reached = [each["at"] for each in steps if each["state"] == state and each["at"]]
    since = max(reached, default=referral["created"])
    if not isinstance(since, datetime):
        return {**referral, "since": None, "next": "", "due": None, "overdue": False}
    return {
        **referral,
        "since": since,
        "next": next_step(state),
        "due": due(state, urgency, since),
        "overdue": is_overdue(state, urgency, since, now),
    }
