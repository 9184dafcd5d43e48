"""`tieline series same-as`: series of two agencies that are one."""

from __future__ import annotations

from typing import Annotated

import typer

from tieline_client.cli import views
from tieline_client.cli.common import CaseOption, HomeOption, ProfileOption, PurposeOption, connect
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, run
from tieline_client.cli.tables import moment, same_as_rows, show_fields
from tieline_client.errors import InvalidInput, UsageError
from tieline_client.identifiers import check_id

app = group(
    "Own series and other agencies' that are one, or may be.\n\n"
    "What both hold proposes it; a person on each side confirms it. Without a command: list.\n\n"
    "Example: tieline series same-as --home ./pt-pj",
    default="list",
)

LinkArgument = Annotated[
    str,
    typer.Argument(metavar="ID", help="The id in the first column of `tieline series same-as`."),
]


@app.command("list")
@run
def list_links(
    series: Annotated[
        str, typer.Argument(metavar="[SERIES]", help="Only of this series, by id or own name.")
    ] = "",
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """List links between own series and others', and what is proposed to be one.

    Example: tieline series same-as list "Case 12" --home ./pt-pj
    """
    with connect(profile, home) as client:
        found = [views.same_as(each) for each in client.list_same_as(series)]
    emit(as_json, {"links": found}, lambda: same_as_rows(found, "no series is known to be one"))


@app.command("confirm")
@run
def confirm(
    link: LinkArgument,
    *,
    purpose: PurposeOption = "",
    case: CaseOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Say that the two are one; this tells the other agency the own series' references and contact.

    Where the other agency confirmed first, purpose and case are those it gave.

    Example: tieline series same-as confirm ID --purpose deconfliction --case 2026-118
    """
    _answer(link, purpose, case, profile, home, confirmed=True, as_json=as_json)


@app.command("refuse")
@run
def refuse(
    link: LinkArgument,
    *,
    purpose: PurposeOption = "",
    case: CaseOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Say that the two are not one; it is not proposed again.

    The other agency is told where it spoke, or was told, before.

    Example: tieline series same-as refuse ID
    """
    _answer(link, purpose, case, profile, home, confirmed=False, as_json=as_json)


def _answer(
    link: str,
    purpose: str,
    case: str,
    profile: ProfileOption,
    home: HomeOption,
    *,
    confirmed: bool,
    as_json: bool,
) -> None:
    try:
        check_id(link, "link")
    except InvalidInput:
        raise UsageError("ID is one of `tieline series same-as list`") from None
    with connect(profile, home) as client:
        document = views.same_as(
            client.answer_same_as(link, confirm=confirmed, purpose=purpose, case_ref=case)
        )
    emit(as_json, document, lambda: _show(document))


def _show(document: views.Document) -> None:
    document = {**document, "found": moment(document["found"])}
    names = ("id", "own", "other", "agency", "state", "ours", "theirs", "shared", "references")
    show_fields(document, (*names, "contact", "found"))
