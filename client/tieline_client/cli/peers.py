"""`tieline peers`: the members, and whom policy lists for a purpose."""

from __future__ import annotations

from typing import Annotated

import typer

from tieline_client.cli import node_views
from tieline_client.cli.common import HomeOption, ProfileOption, connect, usage
from tieline_client.cli.output import Json, emit, run
from tieline_client.cli.tables import show_rows
from tieline_client.identifiers import check_code


@run
def peers(
    *,
    purpose: Annotated[
        str, typer.Option(metavar="CODE", help="Say whom policy lists for this purpose.")
    ] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """List the members of the federation, and which of them policy lists for a purpose.

    Example: tieline peers --purpose victim-identification --home ./pt-pj
    """
    if purpose:
        with usage():
            check_code(purpose, "purpose")
    with connect(profile, home) as client:
        found = [node_views.peer(each) for each in client.list_peers(purpose)]

    def render() -> None:
        rows = []
        for each in found:
            countries = each["countries"]
            assert isinstance(countries, list)
            listed = ("yes" if each["listed"] else "no") if purpose else ""
            rows.append(
                (
                    each["agency"],
                    each["name"],
                    each["role"],
                    " ".join(countries),
                    listed,
                    each["reason"],
                )
            )
        columns = ("agency", "name", "role", "countries", "listed", "")
        show_rows(columns, rows, "no other members")

    emit(as_json, {"purpose": purpose, "peers": found}, render)
