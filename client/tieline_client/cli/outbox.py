"""`tieline outbox`: what is on its way, and how far each destination is."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tieline_client.cli import node_views, views
from tieline_client.cli.common import HomeOption, ProfileOption, connect
from tieline_client.cli.output import Json, emit, line, run
from tieline_client.cli.tables import moment, show_rows

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
    entries = [node_views.message(each) for each in found.entries]
    destinations = [node_views.destination(each) for each in found.destinations]

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
