"""`tieline watch`: standing queries, "tell me when anyone gains a match"."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer
from tieline.v1 import operator_watches_pb2 as pb

from tieline_client.asked_file import AskedFile
from tieline_client.asking import AskOptions, build_list
from tieline_client.cli import views
from tieline_client.cli.answers import say_perceptual
from tieline_client.cli.common import (
    CaseOption,
    HomeOption,
    ProfileOption,
    PurposeOption,
    check_why,
    connect,
    parse_agency,
    parse_day,
    parse_pair,
    progress_bar,
)
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.cli.tables import moment, show_rows
from tieline_client.cli.unread import say_unread
from tieline_client.cli.watch_views import (
    matched_hashes,
    notice_document,
    peer_row,
    watch_document,
)
from tieline_client.errors import (
    EXIT_FAILED,
    EXIT_REFUSED,
    EXIT_UNREACHABLE,
    InvalidInput,
    TielineError,
    UsageError,
)
from tieline_client.formats.block_reading import open_blocks
from tieline_client.formats.record import Rejected
from tieline_client.formats.vics_alerts import write_alerts
from tieline_client.operator_client import OperatorClient
from tieline_client.profile import utc_now
from tieline_client.record_stream import source_name
from tieline_client.watch_alerts import (
    alert_lists,
    contact_of,
    hits_of,
    is_alerts,
    name_of,
    notifications_of,
)
from tieline_client.watch_list import WatchOptions

app = group(
    "Standing queries: tell me when anyone gains a match.\n\n"
    "The watched hashes stay at the own node; each night peers are asked for what is new there.\n\n"
    "Without a command: list them.\n\nExample: tieline watch --home ./pt-pj",
    default="list",
)
WatchArgument = Annotated[str, typer.Argument(metavar="ID", help="An id of `tieline watch list`.")]
_SHOWN = 20


@app.command("add")
@run
def add(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file of hashes, or of VICS alerts.")
    ],
    *,
    until: Annotated[
        str,
        typer.Option(metavar="DATE", help="Its last day; an alert's own expiry without it."),
    ] = "",
    priority: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=255, help="A higher one goes first.")
    ] = None,
    name: Annotated[str, typer.Option(metavar="TEXT", help="A name for people.")] = "",
    reference: Annotated[str, typer.Option(metavar="REF", help="A reference number.")] = "",
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="AGENCY", help="Ask this agency; may be repeated."),
    ] = None,
    near: Annotated[
        bool, typer.Option("--near", help="Compare PDQ too; 64 bare hex digits are then PDQ.")
    ] = False,
    category: Annotated[
        str,
        typer.Option(metavar="SCHEME:CODE", help="The category of records that carry none."),
    ] = "",
    purpose: PurposeOption = "",
    case: CaseOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Watch the hashes of a file until a day. Analyst.

    The list stays at the own node, encrypted. `tieline watch run` asks at once, each night does.

    Example: tieline watch add found.csv --until 2027-06-30 --priority 5
    --purpose victim-identification --case 2026-118
    """
    check_why(purpose, case)
    if not file.is_file():
        raise UsageError(f"there is no file {file}; check the path")
    end = parse_until(until)
    alerts = is_alerts(file)
    if end is None and not alerts:
        raise UsageError("say until when: --until DATE")
    stated = WatchOptions(
        purpose=purpose,
        case_ref=case,
        until=end or utc_now(),
        name=name,
        reference=reference,
        priority=priority or 0,
        peers=tuple(parse_agency(one) for one in peer or ()),
        near=near,
    )
    code = 0
    with connect(profile, home) as client:
        if alerts:
            made, rejected, code = _add_alerts(client, file, stated, end, priority)
        else:
            made, rejected = _add_file(client, file, stated, parse_pair(category, "--category"))
    document = {
        "watches": [watch_document(one) for one in made],
        "rejected": [{"record": one.record, "reason": one.reason} for one in rejected],
    }

    def render() -> None:
        for one in made:
            line(
                f"{one.id} watches {one.header.records} items until "
                f"{last_day(views.when(one.header, 'until_time'))}; "
                f"{one.header.excluded} left out"
            )
        for gone in rejected[:_SHOWN]:
            say(f"record {gone.record}: {gone.reason}")

    emit(as_json, document, render)
    if code or not made:
        raise typer.Exit(code or EXIT_FAILED)


def _add_file(
    client: OperatorClient, file: Path, stated: WatchOptions, category: tuple[str, str]
) -> tuple[list[pb.WatchView], list[Rejected]]:
    terms = client.get_ask_terms()
    options = AskOptions(
        purpose=stated.purpose, case_ref=stated.case_ref, near=stated.near, category=category
    )
    say_unread(file)
    with progress_bar("reading", file.stat().st_size) as bar:
        blocks = open_blocks(file, bare_64_is_pdq=stated.near, on_progress=bar.read)
        asked = AskedFile(source_name(file), blocks)
        listed = build_list(terms, asked, options)
    say_perceptual(asked, "watched")
    if not any(listed.counts()):
        why = asked.why_empty(listed.excluded, "are in no category that the agency lists")
        raise InvalidInput(f"nothing is left of {asked.name} to be watched: {why}")
    return [client.add_watch(listed, stated)], sorted([*asked.rejected, *asked.unmatched])


def _add_alerts(
    client: OperatorClient,
    file: Path,
    stated: WatchOptions,
    end: datetime | None,
    priority: int | None,
) -> tuple[list[pb.WatchView], list[Rejected], int]:
    """Each alert becomes a standing query; what the person states goes before what it says.

    Returns an exit code too: what was made before the node failed or refused is told all the same.
    """
    made: list[pb.WatchView] = []
    rejected: list[Rejected] = []
    found = list(alert_lists(file, utc_now(), near=stated.near))  # a broken file adds nothing
    for one in found:
        if isinstance(one, Rejected):
            rejected.append(one)
            continue
        alert = one.alert
        options = WatchOptions(
            purpose=stated.purpose,
            case_ref=stated.case_ref,
            until=end or alert.expiry,
            name=stated.name or name_of(alert),
            reference=stated.reference or (alert.reference or ""),
            priority=alert.priority if priority is None else priority,
            peers=stated.peers,
            near=stated.near,
            alert=str(alert.id),
            contact=contact_of(alert.contact),
        )
        try:
            made.append(client.add_watch(one.asked, options))
        except TielineError as error:
            rejected.append(Rejected(one.number, error.message))
            if isinstance(error, InvalidInput):
                continue
            say(f"error: {error.message}; nothing was made of the alerts from {one.number} on")
            return made, rejected, error.exit_code
        rejected += one.rejected
    return made, rejected, 0


@app.command("list")
@run
def list_watches(
    *,
    ended: Annotated[bool, typer.Option("--ended", help="Those that ended, too.")] = False,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Show standing queries, and how much of each matched where.

    Example: tieline watch list --json
    """
    with connect(profile, home) as client:
        found = client.list_watches(ended=ended)
    documents = [watch_document(one) for one in found]

    def render() -> None:
        rows = [
            (
                one["id"],
                one["name"],
                one["items"],
                one["priority"],
                last_day(one["until"]),
                one["state"],
                ", ".join(
                    f"{at['agency']} {at['percent']} %" for at in one["peers"] if at["matched"]
                )
                or "no match",
            )
            for one in documents
        ]
        show_rows(
            ("id", "name", "items", "priority", "until", "state", "matched"),
            rows,
            "no standing queries",
        )

    emit(as_json, {"watches": documents}, render)


@app.command("show")
@run
def show(
    watch: WatchArgument,
    *,
    matches: Annotated[
        bool, typer.Option("--matches", help="Which hashes matched; the log says who looked.")
    ] = False,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Show how far each peer was asked, the notices of matches, and which hashes they are.

    Example: tieline watch show 0198c3a1-7f00-7abc-8def-0123456789ab --matches
    """
    with connect(profile, home) as client:
        found = client.get_watch(watch, matches=matches)
    document = watch_document(found.watch)
    document["notices"] = [notice_document(one) for one in found.notices]
    if matches:
        document["matches"] = {one.agency: list(matched_hashes(one)) for one in found.matches}

    def render() -> None:
        columns = ("peer", "status", "matched", "%", "asked", "next", "reason")
        show_rows(columns, [peer_row(one) for one in document["peers"]], "nobody was asked yet")
        notices = [
            (
                one["id"],
                one["agency"],
                moment(one["time"]),
                one["fresh"],
                f"{one['percent']} %",
                ", ".join(each["id"] for each in one["series"]),
            )
            for one in document["notices"]
        ]
        show_rows(
            ("notice", "peer", "when", "new", "matched", "series"), notices, "no match so far"
        )
        for agency, hashes in document.get("matches", {}).items():
            for each in hashes:
                line(f"{agency} {each}")

    emit(as_json, document, render)


@app.command("remove")
@run
def remove(
    watch: WatchArgument,
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """End a standing query and erase its list. Analyst.

    Example: tieline watch remove 0198c3a1-7f00-7abc-8def-0123456789ab
    """
    with connect(profile, home) as client:
        document = watch_document(client.remove_watch(watch))
    emit(as_json, document, lambda: line(f"{document['id']} {document['state']}"))


@app.command("run")
@run
def run_now(
    watch: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Without: all of them.")
    ] = None,
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Ask now what peers have that is new; each night does by itself. Analyst.

    Example: tieline watch run
    """
    with connect(profile, home) as client:
        runs = client.run_watches(watch or ())
    documents = [
        {
            "watch": one.watch,
            "agency": one.agency,
            "status": one.status,
            "reason": one.reason,
            "new": one.fresh,
            "since": one.since,
        }
        for one in runs
    ]
    rows = [(one.watch, one.agency, one.status, one.fresh, one.reason) for one in runs]
    emit(
        as_json,
        {"runs": documents},
        lambda: show_rows(("watch", "peer", "status", "new", "reason"), rows, "nothing to ask"),
    )
    states = {one.status for one in runs}
    if "unreachable" in states:
        raise typer.Exit(EXIT_UNREACHABLE)
    if states == {"refused"}:
        raise typer.Exit(EXIT_REFUSED)


@app.command("export")
@run
def export(
    watch: WatchArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")],
    *,
    kind: Annotated[
        Literal["hits", "notifications"],
        typer.Option("--as", help="VICS AlertHits, or AlertHitNotifications alone."),
    ] = "hits",
    context: Annotated[
        Literal["US", "UK", "CUSTOM", "Default"], typer.Option(help="The VICS context.")
    ] = "US",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Write the notices of a standing query as VICS 2.0 JSON.

    Example: tieline watch export 0198c3a1-7f00-7abc-8def-0123456789ab hits.json
    """
    if file.exists():
        raise UsageError(f"{file} is there already; name a new file")
    with connect(profile, home) as client:
        found = client.get_watch(watch)
    if not found.notices:
        say("no match so far; nothing is written")
        raise typer.Exit(EXIT_FAILED)
    entries = (hits_of if kind == "hits" else notifications_of)(found.watch, found.notices)
    part = file.with_name(f".{file.name}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            count = write_alerts(stream, entries, context)
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)
    emit(as_json, {"file": str(file), "entries": count}, lambda: line(f"{count} in {file}"))


def last_day(until: datetime | None) -> str:
    """Return what `parse_until` was given; an alert's expiry within a day as it is."""
    if until is None or until.time() != time():
        return moment(until)
    return (until.date() - timedelta(days=1)).isoformat()


def parse_until(text: str) -> datetime | None:
    """Return the end of a day in UTC, None for none; raise UsageError."""
    day = parse_day(text, "--until")
    if not day:
        return None
    return datetime.combine(date.fromisoformat(day) + timedelta(days=1), time(), UTC)
