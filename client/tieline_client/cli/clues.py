"""`tieline clue`: objects and places in words, what the public says of them, and who follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tieline_client.cli.clue_views import clue_document, show_tips, tip_document
from tieline_client.cli.common import (
    CaseOption,
    HomeOption,
    ProfileOption,
    PurposeOption,
    check_why,
    connect,
    parse_agency,
    parse_country,
    progress_bar,
    usage,
)
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.cli.tables import show_rows
from tieline_client.clue_list import write_list
from tieline_client.errors import EXIT_FAILED, UsageError
from tieline_client.identifiers import check_code
from tieline_client.tip_import import import_tips, new_tip

app = group(
    "Clues: objects and places in words, never a picture; and what the public says of them.\n\n"
    "Without a command: list the clues.\n\nExample: tieline clue --home ./pt-pj",
    default="list",
)

ClueArgument = Annotated[
    str, typer.Argument(metavar="CLUE", help="The clue's id, or its public id.")
]
TipArgument = Annotated[str, typer.Argument(metavar="TIP", help="An id of `tieline clue tips`.")]
_SHOWN = 20
_COUNTS = ("tips", "new", "verified", "dismissed", "relayed", "known", "limited")
_FATES = ("rows", "added", "known", "limited", "rejected_rows")


@app.command("add")
@run
def add(
    series: Annotated[
        str, typer.Argument(metavar="SERIES", help="The series' id, or the name of an own series.")
    ],
    *,
    text: Annotated[str, typer.Option(metavar="TEXT", help="The object or place, in words.")],
    kind: Annotated[str, typer.Option(metavar="WORD", help="object, place, ...")] = "object",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Add a clue to a series. Words only: links, file names and coded text are refused.

    Example: tieline clue add "Case 12" --text "Blue school bag with a white anchor" --kind object
    """
    with usage():
        check_code(kind, "kind")
    with connect(profile, home) as client:
        document = clue_document(client.add_clue(series, text, kind))
    emit(as_json, document, lambda: line(f"clue {document['id']} added"))


@app.command("publish")
@run
def publish(
    clue: ClueArgument,
    *,
    text: Annotated[
        str, typer.Option("--as", metavar="TEXT", help="Other words than the clue's own.")
    ] = "",
    take_back: Annotated[
        bool, typer.Option("--take-back", help="Take it off the published list.")
    ] = False,
    purpose: PurposeOption = "",
    case: CaseOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Put a clue's words on the published list, or take them off it. Officer.

    Example: tieline clue publish 0198c3a1-7f00-7abc-8def-0123456789ab
    --purpose victim-identification --case 2026-118
    """
    check_why(purpose, case)
    with connect(profile, home) as client:
        made = client.publish_clue(
            clue, purpose=purpose, case_ref=case, text=text, take_back=take_back
        )
    document = clue_document(made)
    word = "taken back" if take_back else "published"
    emit(as_json, document, lambda: line(f"{document['public_id']} {word}"))


@app.command("export")
@run
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Ends in .json, .csv or .html.")],
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Write the published list for a public site: public ids, words and days, nothing else.

    Example: tieline clue export published.html --home ./europol-ec3
    """
    if file.suffix.lower() not in (".json", ".csv", ".html"):
        raise UsageError("name a file that ends in .json, .csv or .html")
    with connect(profile, home) as client:
        found = client.list_published_clues()
    write_list(file, found)
    document = {"file": file, "clues": len(found)}
    emit(as_json, document, lambda: line(f"{len(found)} clues in {file}"))


@app.command("list")
@run
def list_clues(
    *,
    series: Annotated[
        str, typer.Option(metavar="SERIES", help="Of this series; by default all.")
    ] = "",
    stats: Annotated[
        bool, typer.Option("--stats", help="Counts of tips, and what verified ones say.")
    ] = False,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """List clues with counts of their tips.

    Example: tieline clue list --stats --home ./europol-ec3
    """
    with connect(profile, home) as client:
        found = client.list_clues(series)
    documents = [clue_document(each) for each in found.clues]
    support = [
        {"country": one.country, "supporting": one.supporting, "eliminating": one.eliminating}
        for one in found.support
    ]
    whole: dict[str, Any] = {"clues": documents, "support": support}
    if stats:
        whole["stats"] = {name: sum(each[name] for each in documents) for name in _COUNTS}
        whole["stats"]["clues"] = len(documents)
        whole["stats"]["published"] = sum(bool(each["public"]) for each in documents)

    def render() -> None:
        columns = ("id", "series", "kind", "text", "public id", *_COUNTS)
        rows = [
            (
                each["id"],
                each["series"],
                each["kind"],
                each["text"],
                each["public_id"] if each["public"] else "",
                *(each[name] for name in _COUNTS),
            )
            for each in documents
        ]
        show_rows(columns, rows, "no clues")
        if stats:
            line(", ".join(f"{count} {name}" for name, count in whole["stats"].items()))
            rows_of_support = [tuple(one.values()) for one in support]
            show_rows(("country", "supporting", "eliminating"), rows_of_support, "none verified")

    emit(as_json, whole, render)


@app.command("tip")
@run
def tip(
    clue: Annotated[
        str, typer.Argument(metavar="[CLUE]", help="The clue's public id, or its id.")
    ] = "",
    *,
    text: Annotated[str, typer.Option(metavar="TEXT", help="The tip's words.")] = "",
    file: Annotated[
        Path | None,
        typer.Option(
            "--import",
            metavar="FILE",
            help="A CSV of tips: clue;text;contact;source;country;received.",
        ),
    ] = None,
    contact: Annotated[
        str, typer.Option(metavar="TEXT", help="Whom to ask back; only a keyed hash is kept.")
    ] = "",
    source: Annotated[
        str, typer.Option(metavar="TEXT", help="Who sent it, as the site calls them; the same.")
    ] = "",
    country: Annotated[str, typer.Option(metavar="CC", help="The country it names.")] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Bring in one tip, or a file of them.

    What says the same on the same clue by the same contact is kept once; a source that brings more
    than its day's limit is counted and not kept.

    Example: tieline clue tip --import tips.csv --home ./europol-ec3
    """
    if (file is None) == (not clue) or (file is None) == (not text):
        raise UsageError("name a clue and its --text, or a file with --import")
    wanted = parse_country(country) if country else ""
    with connect(profile, home) as client:
        if file is None:
            one = new_tip(clue, text, contact=contact, source=source, country=wanted)
            (fate,) = client.add_tips([one])
            emit(as_json, {"clue": clue, "fate": fate}, lambda: line(fate))
            if fate not in ("added", "known"):
                raise typer.Exit(EXIT_FAILED)
            return
        with progress_bar(f"tips of {file.name}", file.stat().st_size) as bar:
            report = import_tips(client, file, bar.read)
    document = report.document(str(file))

    def render() -> None:
        line(", ".join(f"{document[name]} {name}" for name in _FATES))
        for each in report.rejected[:_SHOWN]:
            say(f"row {each.record}: {each.reason}")

    emit(as_json, document, render)
    if not report.usable:
        raise typer.Exit(EXIT_FAILED)


@app.command("tips")
@run
def list_tips(
    clue: Annotated[str, typer.Argument(metavar="[CLUE]", help="On this clue.")] = "",
    *,
    state: Annotated[
        Literal["", "new", "verified", "dismissed"], typer.Option(help="Only these.")
    ] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """List tips in order of time.

    Example: tieline clue tips --state new --home ./europol-ec3
    """
    with connect(profile, home) as client:
        documents = [tip_document(each) for each in client.list_tips(clue, state)]
    emit(as_json, {"tips": documents}, lambda: show_tips(documents))


@app.command("verify")
@run
def verify(
    tip: TipArgument,
    *,
    supports: Annotated[str, typer.Option(metavar="CC", help="The country it speaks for.")] = "",
    eliminates: Annotated[
        str, typer.Option(metavar="CC", help="The country it speaks against.")
    ] = "",
    reason: Annotated[str, typer.Option(metavar="TEXT", help="How it was verified.")] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Say that a tip holds, and for or against which country it speaks.

    Example: tieline clue verify 0198c3a1-7f00-7abc-8def-0123456789ab --supports PT
    """
    if bool(supports) == bool(eliminates):
        raise UsageError("say either --supports CC or --eliminates CC")
    pro = parse_country(supports) if supports else ""
    contra = parse_country(eliminates) if eliminates else ""
    with connect(profile, home) as client:
        made = client.judge_tip(tip, "verified", supports=pro, eliminates=contra, reason=reason)
    document = tip_document(made)
    emit(as_json, document, lambda: show_tips([document]))


@app.command("dismiss")
@run
def dismiss(
    tip: TipArgument,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why.")],
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Say that a tip does not hold.

    Example: tieline clue dismiss 0198c3a1-7f00-7abc-8def-0123456789ab --reason "another object"
    """
    with connect(profile, home) as client:
        document = tip_document(client.judge_tip(tip, "dismissed", reason=reason))
    emit(as_json, document, lambda: show_tips([document]))


@app.command("relay")
@run
def relay(
    tips: Annotated[list[str], typer.Argument(metavar="TIP...", help="Ids of tips.")],
    *,
    to: Annotated[
        str, typer.Option(metavar="AGENCY", help="By default who serves the tip's country.")
    ] = "",
    purpose: PurposeOption = "",
    case: CaseOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Tell tips to the agency that can follow them up; it has the series already. Officer.

    Example: tieline clue relay 0198c3a1-7f00-7abc-8def-0123456789ab
    --purpose victim-identification --case 2026-118
    """
    check_why(purpose, case)
    agency = parse_agency(to) if to else ""
    with connect(profile, home) as client:
        made = client.relay_tips(tips, purpose=purpose, case_ref=case, agency=agency)
    documents = [tip_document(each) for each in made.tips]
    refused = dict(sorted(made.refused.items()))

    def render() -> None:
        show_tips(documents)
        for name, why in refused.items():
            say(f"{name} was not told: {why}")

    emit(as_json, {"tips": documents, "refused": refused}, render)
