"""`tieline series`, the work on them: their life, what is one, notes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tieline_client.cli import same_as, views
from tieline_client.cli import series as plain
from tieline_client.cli.common import (
    CaseOption,
    HomeOption,
    ProfileOption,
    PurposeOption,
    check_why,
    connect,
    parse_agency,
)
from tieline_client.cli.output import Json, emit, line, run
from tieline_client.cli.series import SeriesArgument
from tieline_client.cli.tables import show_fields, show_series
from tieline_client.errors import InvalidInput, UsageError
from tieline_client.formats.reading import open_records
from tieline_client.split_list import read_items

app = plain.app
app.add_typer(same_as.app, name="same-as")
Status = Literal["triaged", "under_evaluation", "localised", "identified", "closed"]


@app.command("status")
@run
def status(
    series: SeriesArgument,
    *,
    to: Annotated[Status, typer.Option(help="Where it stands from now on.")],
    text: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in its history.")] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Move a series on, or back to be evaluated again; its history keeps who and when.

    Referring, withdrawing and outcomes move it by themselves.

    Example: tieline series status "Case 12" --to under_evaluation
    """
    with connect(profile, home) as client:
        document = views.series(client.set_series_status(series, to, text))
    emit(as_json, document, lambda: show_series(document))


@app.command("merge")
@run
def merge(
    series: SeriesArgument,
    merged: Annotated[
        str, typer.Argument(metavar="PART", help="The own series that becomes part of it.")
    ],
    *,
    text: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in both histories.")] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Make one own series part of another; the part's id and name go on standing for the whole.

    Referrals, broadcasts and deposits of the part stay linked, and whoever was told of it is told.

    Example: tieline series merge "Case 12" "Case 19" --text "the same room"
    """
    with connect(profile, home) as client:
        document = views.series(client.merge_series(series, merged, text))
    emit(as_json, document, lambda: show_series(document))


@app.command("split")
@run
def split(
    series: SeriesArgument,
    *,
    items: Annotated[
        Path, typer.Option(metavar="FILE", help="A file of hashes: the items that leave.")
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="The name of the new series.")],
    text: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in both histories.")] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Move items of an own series to a new one: they show somebody else. Officer.

    Referrals, deposits and clues stay with the old series; this agency's assessments are copied.
    Whoever was told the items is told which series they are of now; refer the new one yourself.

    Example: tieline series split "Case 12" --items other-child.csv --name "Case 12b"
    """
    if not items.is_file():
        raise UsageError(f"there is no file {items}; check the path")
    listed = read_items(open_records(items))
    if listed.rejected:
        first = listed.rejected[0]
        raise InvalidInput(
            f"{len(listed.rejected)} records of {items.name} name no item (record {first.record}: "
            f"{first.reason}); take them out of the file; nothing was split"
        )
    with connect(profile, home) as client:
        made = client.split_series(series, name, listed, text)
    old = views.series(made.old)
    document = views.series(made.series) | {
        "moved": made.moved,
        "told": list(made.told),
        "old": old,
    }

    def render() -> None:
        show_series(document)
        line(f"{made.moved} items moved; {old['items']} stay in {old['id']}")
        if made.told:
            line(f"told: {', '.join(made.told)}")

    emit(as_json, document, render)


@app.command("note")
@run
def note(
    series: SeriesArgument,
    *,
    text: Annotated[str, typer.Option(metavar="TEXT", help="The words; up to 2000 characters.")],
    to: Annotated[
        str, typer.Option(metavar="AGENCY", help="Only to this agency; by default to all.")
    ] = "",
    purpose: PurposeOption = "",
    case: CaseOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Write a note to the agencies that share a series; `series show` has all notes in order.

    Example: tieline series note ID --text "phone seized" --purpose deconfliction --case 2026-118
    """
    check_why(purpose, case)
    agency = parse_agency(to) if to else ""
    with connect(profile, home) as client:
        made = client.add_note(series, text, purpose=purpose, case_ref=case, agency=agency)
    refused = dict(made.refused)
    document = views.note(made.note) | {"refused": refused}

    def render() -> None:
        show_fields(document, ("id", "series", "told"))
        for name, why in sorted(refused.items()):
            line(f"not told: {name}: {why}")

    emit(as_json, document, render)
