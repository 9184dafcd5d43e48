"""`tieline audit alarms`: what an auditor is to look at, without having to search for it."""

from __future__ import annotations

import typer

from tieline_client.cli import node_views
from tieline_client.cli.common import HomeOption, ProfileOption, connect
from tieline_client.cli.output import Json, emit, run
from tieline_client.cli.tables import moment, show_rows

KINDS = ("low-hits", "crafted-hashes", "repeated-lists", "budget-spent", "budget-low")
"""Alarms about what peers ask; those about referrals are for officers (`tieline inbox`)."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("alarms")(alarms)


@run
def alarms(
    *, profile: ProfileOption = None, home: HomeOption = None, as_json: Json = False
) -> None:
    """Show signs of enumeration in what peers ask, and budgets that are nearly or wholly spent.

    What was seen stands in the log: `tieline audit search --action query.pattern`.

    Example: tieline audit alarms --home ./pt-pj
    """
    with connect(profile, home) as client:
        status = client.get_status()
    found = [node_views.alarm(one) for one in status.alarms if one.kind in KINDS]
    for one in found:
        one["question"], one["peer"] = one.pop("referral"), one.pop("sender")
        del one["series"], one["recipient"]

    def render() -> None:
        rows = [(one["kind"], one["peer"], one["question"], moment(one["raised"])) for one in found]
        show_rows(("ALARM", "peer", "question", "raised"), rows, "no alarms about what peers ask")

    emit(as_json, {"alarms": found}, render)
