"""`tieline inbox`: what other agencies told or asked us, and what we do about it."""

from __future__ import annotations

from typing import Annotated

import typer
from tieline.v1 import operator_pb2 as pb
from tieline.v1 import payload_pb2

from tieline_client.cli import node_views, views
from tieline_client.cli.common import (
    CONFIDENCES,
    HomeOption,
    ProfileOption,
    connect,
    parse_agency,
    parse_country,
    usage,
)
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, run
from tieline_client.cli.series import Confidence
from tieline_client.cli.tables import (
    corrected,
    moment,
    show_alarms,
    show_entry,
    show_news,
    show_rows,
)
from tieline_client.errors import UsageError
from tieline_client.identifiers import check_id

app = group(
    "What other agencies told or asked us.\n\nWithout a command: list it.\n\n"
    "Example: tieline inbox --home ./pt-pj",
    default="list",
)

EntryArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="The id in the first column of `tieline inbox`, of a notice under about."
    ),
]
TextOption = Annotated[str, typer.Option("--text", metavar="TEXT", help="More, in words.")]


@app.command("list")
@run
def list_inbox(
    *, profile: ProfileOption = None, home: HomeOption = None, as_json: Json = False
) -> None:
    """List alarms, then received referrals and broadcasts, newest first; what is immediate and
    not acknowledged stands above the rest.

    Example: tieline inbox --home ./pt-pj
    """
    with connect(profile, home) as client:
        came = client.list_inbox()
    entries = [views.inbox_entry(each) for each in came.entries]
    alarms = [node_views.alarm(each) for each in came.alarms]
    news = [views.news(each) for each in came.news]

    def render() -> None:
        if alarms:
            show_alarms(alarms)
        rows = []
        for entry in entries:
            inside = entry["referral"] or entry["broadcast"] or {}
            assert isinstance(inside, dict)
            rows.append(
                (
                    entry["id"],
                    entry["kind"],
                    inside.get("sender", ""),
                    inside.get("series", ""),
                    inside.get("country") or inside.get("question", ""),
                    inside.get("urgency", ""),
                    entry["state"],
                    inside.get("lead", ""),
                    moment(inside.get("created")),
                    corrected(inside) if entry["referral"] else "",
                )
            )
        columns = (
            "id",
            "kind",
            "from",
            "series",
            "country",
            "urgency",
            "state",
            "lead",
            "received",
            "",
        )
        show_rows(columns, rows, "nothing has come in")
        if news:
            show_news(news)

    emit(as_json, {"entries": entries, "alarms": alarms, "news": news}, render)


@app.command("show")
@run
def show(
    entry: EntryArgument,
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Show one entry with its series and steps, or the notice whose id stands under "about".

    Example: tieline inbox show 0198c3a1-7f00-7abc-8def-0123456789ab
    """
    _check_entry(entry)
    with connect(profile, home) as client:
        _tell(client.get_inbox_entry(entry), as_json)


@app.command("ack")
@run
def ack(
    entry: EntryArgument,
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Acknowledge: a person has seen it. A notice (column "about") ends with that.

    Example: tieline inbox ack 0198c3a1-7f00-7abc-8def-0123456789ab
    """
    _check_entry(entry)
    with connect(profile, home) as client:
        _tell(client.step_referral(entry, "acknowledged"), as_json)


@app.command("accept")
@run
def accept(
    entry: EntryArgument,
    *,
    lead: Annotated[
        bool,
        typer.Option("--lead", help="We lead, where other agencies of the country were told too."),
    ] = False,
    text: TextOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Accept a referral: we take it on. Where several agencies of a country were told, whoever
    accepts first leads, unless one says --lead.

    Example: tieline inbox accept 0198c3a1-7f00-7abc-8def-0123456789ab
    """
    _check_entry(entry)
    with connect(profile, home) as client:
        _tell(client.step_referral(entry, "accepted", text=text, lead=lead), as_json)


@app.command("decline")
@run
def decline(
    entry: EntryArgument,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; the sender reads it.")],
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Decline a referral and say why.

    Example: tieline inbox decline 0198c3a1-7f00-7abc-8def-0123456789ab --reason "not our region"
    """
    _check_entry(entry)
    if not reason.strip():
        raise UsageError("--reason is empty; the sender needs to know why")
    with connect(profile, home) as client:
        _tell(client.step_referral(entry, "declined", text=reason), as_json)


@app.command("pass-on")
@run
def pass_on(
    entry: EntryArgument,
    *,
    to: Annotated[str, typer.Option(metavar="AGENCY", help="Who gets it.")],
    text: TextOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Pass a referral on to another agency.

    Example: tieline inbox pass-on 0198c3a1-7f00-7abc-8def-0123456789ab --to us-fbi
    """
    _check_entry(entry)
    agency = parse_agency(to)
    with connect(profile, home) as client:
        _tell(client.step_referral(entry, "passed_on", passed_to=agency, text=text), as_json)


@app.command("outcome")
@run
def outcome(
    entry: EntryArgument,
    *,
    identified: Annotated[int, typer.Option(min=0, help="Victims identified.")] = 0,
    tentative: Annotated[int, typer.Option(min=0, help="Victims tentatively identified.")] = 0,
    safeguarded: Annotated[int, typer.Option(min=0, help="Children safeguarded.")] = 0,
    offenders: Annotated[int, typer.Option(min=0, help="Offenders found.")] = 0,
    text: TextOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Report what came of a referral.

    Example: tieline inbox outcome 0198c3a1-7f00-7abc-8def-0123456789ab --identified 1
    """
    _check_entry(entry)
    with usage():
        counts = payload_pb2.Outcome(
            identified=_count(identified),
            tentative=_count(tentative),
            safeguarded=_count(safeguarded),
            offenders=_count(offenders),
        )
    with connect(profile, home) as client:
        _tell(client.step_referral(entry, "outcome", text=text, outcome=counts), as_json)


@app.command("answer")
@run
def answer(
    entry: EntryArgument,
    *,
    assess: Annotated[
        list[str] | None,
        typer.Option(metavar="CC", help="Probably made there; may be repeated."),
    ] = None,
    eliminate: Annotated[
        list[str] | None, typer.Option(metavar="CC", help="Not made there; may be repeated.")
    ] = None,
    ours: Annotated[
        str, typer.Option(metavar="SERIES", help="It is this own series, by id or name.")
    ] = "",
    confidence: Annotated[Confidence, typer.Option(help="How sure, with --assess.")] = "medium",
    text: TextOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Answer a broadcast: where it was made, where it was not, or that it is ours.

    Example: tieline inbox answer 0198c3a1-7f00-7abc-8def-0123456789ab --assess PT --assess ES
    """
    _check_entry(entry)
    likely = dict.fromkeys(parse_country(each) for each in assess or ())
    ruled_out = dict.fromkeys(parse_country(each) for each in eliminate or ())
    if sum(map(bool, (likely, ruled_out, ours))) != 1:
        raise UsageError("give --assess CC, --eliminate CC or --ours SERIES: one of the three")
    sure = CONFIDENCES.index(confidence) + 1
    with connect(profile, home) as client:
        for country in likely:
            told = client.answer_broadcast(
                entry, "assess", country=country, confidence=sure, text=text
            )
        for country in ruled_out:
            told = client.answer_broadcast(entry, "eliminate", country=country, text=text)
        if ours:
            told = client.answer_broadcast(entry, "ours", series=ours, text=text)
        _tell(told, as_json)


def _check_entry(entry: str) -> None:
    with usage():
        check_id(entry)


def _count(value: int) -> int:
    if value >= 2**32:
        raise UsageError(f"{value} is no count of people; correct it")
    return value


def _tell(entry: pb.InboxEntry, as_json: bool) -> None:
    document = views.inbox_entry(entry)
    document["alarms"] = [node_views.alarm(one) for one in entry.alarms]
    emit(as_json, document, lambda: show_entry(document))
