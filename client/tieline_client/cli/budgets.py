"""`tieline budget`: what peers may ask here in a day, and what is left at them."""

from __future__ import annotations

from typing import Annotated

import typer
from tieline.v1 import budget_pb2 as pb
from tieline.v1 import exchange_pb2

from tieline_client.cli.common import HomeOption, ProfileOption, connect, parse_agency, usage
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run
from tieline_client.cli.tables import moment, show_rows
from tieline_client.cli.views import Document, when
from tieline_client.identifiers import check_code
from tieline_client.limits import BUDGET_WARN_PERCENT, POLICY_NUMBER_MOST

app = group(
    "What peers may ask here in a day, and what is left at them.\n\n"
    "An asked record is one unit, a perceptual hash ten; days are UTC.\n\n"
    "Example: tieline budget",
    default="list",
)
PeerOption = Annotated[str, typer.Argument(metavar="AGENCY", help="The peer.")]
ForPurpose = Annotated[
    str, typer.Option("--purpose", metavar="CODE", help="A cap for one purpose within the budget.")
]


@app.command("list")
@run
def list_budgets(
    *, profile: ProfileOption = None, home: HomeOption = None, as_json: Json = False
) -> None:
    """Show budgets by peer: used, left, and when the next day begins.

    Example: tieline budget --json
    """
    with connect(profile, home) as client:
        found = client.list_budgets()
    peers = [_peer(each) for each in found.peers]
    own = [_own(each) for each in found.own]
    resets = when(found, "reset_time")

    def render() -> None:
        rows = []
        for each in found.peers:
            purposes = ", ".join(map(_purpose_text, each.purposes))
            rows.append((each.agency, each.budget, each.spent, each.left, each.stated_by, purposes))
        show_rows(
            ("peer", "units a day", "used", "left", "stated by", "by purpose"),
            rows,
            "no peers",
            title=f"what peers may ask here, until {moment(resets)}",
        )
        if found.own:
            show_rows(
                ("peer", "units a day", "left", "as of", "until"),
                [
                    (one["agency"], one["budget"], one["left"], *map(moment, _times(one)))
                    for one in own
                ],
                "",
                title="what this agency may still ask",
            )

    emit(as_json, {"resets": resets, "peers": peers, "own": own}, render)


@app.command("set")
@run
def set_budget(
    agency: PeerOption,
    units: Annotated[
        int,
        typer.Argument(metavar="N", min=0, max=POLICY_NUMBER_MOST, help="Units of a day."),
    ],
    *,
    purpose: ForPurpose = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Set what a peer may ask in a day; it holds at once. Caller: admin.

    Example: tieline budget set es-pn 1000000
    """
    _set(agency, units, purpose, profile, home, as_json=as_json)


@app.command("reset")
@run
def reset_budget(
    agency: PeerOption,
    *,
    purpose: ForPurpose = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Let a peer's budget be what config.toml says again, and its caps for single purposes;
    with --purpose only that one. Caller: admin.

    Example: tieline budget reset es-pn
    """
    _set(agency, None, purpose, profile, home, as_json=as_json)


def _set(
    agency: str,
    units: int | None,
    purpose: str,
    profile: ProfileOption,
    home: HomeOption,
    *,
    as_json: bool,
) -> None:
    peer = parse_agency(agency)
    with usage():
        if purpose:
            check_code(purpose, "purpose")
    with connect(profile, home) as client:
        view = client.set_budget(peer, units, purpose)
    said = f"{view.agency} may ask {view.budget} units a day ({view.stated_by}); {view.left} left"

    def render() -> None:
        line(said)
        for one in view.purposes:
            if one.HasField("budget"):
                line(f"of these for {one.purpose}: {one.budget} a day; {one.spent} used today")

    emit(as_json, _peer(view), render)


def left_document(value: exchange_pb2.BudgetLeft | None) -> Document | None:
    """Return what a peer said is left there, None where it said nothing."""
    if value is None:
        return None
    return {"left": value.left, "budget": value.budget, "resets": when(value, "reset_time")}


def left_warning(agency: str, value: exchange_pb2.BudgetLeft | None) -> str:
    """Return what to say once 80 % are used, else ""."""
    if value is None or (value.budget - value.left) * 100 < BUDGET_WARN_PERCENT * value.budget:
        return ""
    return (
        f"{agency}: {value.left} of {value.budget} units are left to ask there "
        f"until {moment(when(value, 'reset_time'))}"
    )


def _peer(view: pb.BudgetView) -> Document:
    return {
        "agency": view.agency,
        "budget": view.budget,
        "spent": view.spent,
        "left": view.left,
        "stated_by": view.stated_by,
        "purposes": [
            {
                "purpose": each.purpose,
                "spent": each.spent,
                "budget": each.budget if each.HasField("budget") else None,
            }
            for each in view.purposes
        ],
    }


def _own(view: pb.OwnBudgetView) -> Document:
    return {
        "agency": view.agency,
        "budget": view.budget,
        "left": view.left,
        "heard": when(view, "heard_time"),
        "resets": when(view, "reset_time"),
    }


def _times(own: Document) -> tuple[object, object]:
    return own["heard"], own["resets"]


def _purpose_text(view: pb.PurposeBudget) -> str:
    cap = f" of {view.budget}" if view.HasField("budget") else ""
    return f"{view.purpose} {view.spent}{cap}"
