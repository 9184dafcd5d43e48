"""`tieline requests`: what waits for a person, here or at others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import typer
from tieline.v1 import operator_requests_pb2 as pb

from tieline_client.cli import views
from tieline_client.cli.answers import series_document, series_text
from tieline_client.cli.common import (
    CaseOption,
    HomeOption,
    ProfileOption,
    PurposeOption,
    check_why,
    connect,
    parse_agency,
    parse_day,
    usage,
)
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, run, say
from tieline_client.cli.tables import moment, show_fields, show_rows
from tieline_client.errors import UsageError
from tieline_client.identifiers import check_id
from tieline_client.overlap_answers import SharedSeries

app = group(
    "What waits for a person: releases beyond a hit, permissions, a child in danger.\n\n"
    "Without a command: list what waits here.\n\nExample: tieline requests --home ./pt-pj",
    default="list",
)

RequestArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The id in the first column of `tieline requests list`.")
]
Level = Literal["count", "reference", "detail"]
Permission = Literal["pass-on", "broadcast", "upload", "use", "export"]


@app.command("list")
@run
def list_requests(
    *,
    sent: Annotated[
        bool, typer.Option("--sent", help="What this agency asked others, and what they said.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Decided ones too.")] = False,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """List what waits for a decision here, or what was asked of others.

    Example: tieline requests list --sent --home ./pt-pj
    """
    with connect(profile, home) as client:
        found = client.list_requests(sent=sent, decided=everything)
    documents = [_document(each) for each in found]

    def render() -> None:
        rows = [
            (
                each["id"],
                each["kind"],
                each["peer"],
                each["person"],
                f"{each['purpose']}, {each['case']}",
                _what(each),
                each["state"],
                moment(each["expires"]),
            )
            for each in documents
        ]
        columns = ("id", "kind", "agency", "asked by", "why", "what", "state", "until")
        show_rows(columns, rows, "nothing waits")
        if not documents and not sent:
            say("what was asked of others: tieline requests list --sent")

    emit(as_json, {"requests": documents}, render)


@app.command("show")
@run
def show(
    request: RequestArgument,
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Show one request: its series, the decision, and what was released.

    Example: tieline requests show 0198c3a1-7f00-7abc-8def-0123456789ab
    """
    _check(request)
    with connect(profile, home) as client:
        _tell(client.get_request(request), as_json)


@app.command("approve")
@run
def approve(
    request: RequestArgument,
    *,
    level: Annotated[
        Level | None, typer.Option(help="Of a release: how much; by default as asked.")
    ] = None,
    series: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="Of a release: only this series, the others are refused; may be repeated.",
        ),
    ] = None,
    until: Annotated[
        str,
        typer.Option(metavar="DATE", help="The last day on which it holds; by default 30 days."),
    ] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Approve: release series, permit a use, or confirm as the second officer.

    Policy is asked again at this moment; what it does not allow is not released.

    Example: tieline requests approve 0198c3a1-7f00-7abc-8def-0123456789ab --level reference
    """
    _check(request)
    day = parse_day(until, "--until")
    with connect(profile, home) as client:
        decided = client.decide_request(
            request, approve=True, level=level or "", series=series or (), until=day
        )
        _tell(decided, as_json)


@app.command("refuse")
@run
def refuse(
    request: RequestArgument,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; who asked reads it.")],
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Refuse and say why.

    Example: tieline requests refuse 0198c3a1-7f00-7abc-8def-0123456789ab --reason "open operation"
    """
    _check(request)
    if not reason.strip():
        raise UsageError("--reason is empty; who asked needs to know why")
    with connect(profile, home) as client:
        _tell(client.decide_request(request, approve=False, reason=reason), as_json)


@app.command("ask")
@run
def ask(
    series: Annotated[
        str, typer.Argument(metavar="SERIES", help="The series' id, or the name of an own series.")
    ],
    *,
    permission: Annotated[Permission, typer.Option(help="What its provider is to permit.")],
    to: Annotated[
        list[str] | None,
        typer.Option(metavar="AGENCY", help="For whom; may be repeated. Not for use."),
    ] = None,
    purpose: PurposeOption = "",
    case: CaseOption = "",
    note: Annotated[str, typer.Option(metavar="TEXT", help="A word to the provider.")] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Ask a series' provider for a permission that its handling demands.

    For an own series the own officer approves it.

    Example: tieline requests ask pt-pj/0198c3a1-7f00-7abc-8def-0123456789ab --permission pass-on
    --to es-gc --purpose victim-identification --case 2026-118
    """
    check_why(purpose, case)
    agencies = [parse_agency(each) for each in to or ()]
    if (permission in ("use", "export")) != (not agencies):
        raise UsageError("give --to AGENCY, but not for use: that is one's own")
    with connect(profile, home) as client:
        asked = client.ask_permission(
            series, permission, agencies, purpose=purpose, case_ref=case, note=note
        )
        _tell(asked, as_json)


@app.command("vital-interests")
@run
def vital_interests(
    agency: Annotated[
        str, typer.Argument(metavar="AGENCY", help="Who is to be asked, without an agreement.")
    ],
    *,
    grounds: Annotated[str, typer.Option(metavar="TEXT", help="Why a child is in danger.")],
    purpose: PurposeOption = "",
    case: CaseOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """State that a child is in danger, so that an agency without an agreement may be asked.

    A second officer confirms it with `tieline requests approve`; for a day after that questions of
    this purpose and case may go there.

    Example: tieline requests vital-interests gb-nca --grounds "abuse is going on, he is there now"
    --purpose victim-identification --case 2026-118
    """
    check_why(purpose, case)
    if not grounds.strip():
        raise UsageError("--grounds is empty; say why, in words")
    named = parse_agency(agency)
    with connect(profile, home) as client:
        _tell(client.state_vital_interests(named, grounds, purpose=purpose, case_ref=case), as_json)


def _check(request: str) -> None:
    with usage():
        check_id(request, "request")


def _document(value: pb.RequestView) -> dict[str, Any]:
    return {
        "id": value.id,
        "kind": value.kind,
        "direction": value.direction,
        "peer": value.peer,
        "state": value.state,
        "person": value.person,
        "purpose": value.purpose,
        "case": value.case_ref,
        "level": value.level or None,
        "items": value.items or None,
        "action": value.action or None,
        "agencies": list(value.agencies),
        "text": value.text,
        "series": [
            {
                "id": each.id or None,
                "name": each.name,
                "items": each.items,
                "state": each.state,
                "released": series_document(SharedSeries.of(each.entry))
                if each.HasField("entry")
                else None,
            }
            for each in value.series
        ],
        "decided_by": value.decided_by,
        "reason": value.reason,
        "created": views.when(value, "create_time"),
        "decided": views.when(value, "decide_time"),
        "expires": views.when(value, "expire_time"),
    }


def _what(document: Mapping[str, Any]) -> str:
    """What is asked for, in a few words."""
    if document["kind"] == "release":
        counted = f" of {document['items']} items" if document["items"] else ""
        return f"{document['level'] or 'hit'}{counted}"
    return f"{document['action']} to {', '.join(document['agencies'])}"


def _tell(value: pb.RequestView, as_json: bool) -> None:
    document = _document(value)

    def render() -> None:
        show_fields(
            document,
            (
                *("id", "kind", "direction", "peer", "state", "person", "purpose", "case"),
                *("level", "items", "action", "agencies", "text", "decided_by", "reason"),
                *("created", "decided", "expires"),
            ),
        )
        rows: Sequence[tuple[object, ...]] = [
            (
                each.id or "in no series",
                each.name,
                each.items,
                each.state,
                series_text(SharedSeries.of(each.entry)) if each.HasField("entry") else "",
            )
            for each in value.series
        ]
        show_rows(("series", "name", "items", "state", "released"), rows, "no series")

    emit(as_json, document, render)
