"""`tieline broadcast` and `tieline broadcasts`: who can place this?"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from tieline_client.cli import views
from tieline_client.cli.common import (
    CaseOption,
    HomeOption,
    ProfileOption,
    PurposeOption,
    check_why,
    connect,
    usage,
)
from tieline_client.cli.output import Json, emit, run
from tieline_client.cli.tables import moment, show_broadcast, show_rows
from tieline_client.identifiers import check_code


@run
def broadcast(
    series: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Series, by id or own name.")
    ],
    *,
    group: Annotated[str, typer.Option(metavar="NAME", help="A group of the directory.")],
    purpose: PurposeOption = "",
    case: CaseOption = "",
    question: Annotated[
        str, typer.Option(metavar="TEXT", help='By default "who can place this?".')
    ] = "",
    again: Annotated[
        bool, typer.Option("--again", help="Send once more what was sent within the hour.")
    ] = False,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Ask a group who can place a series. Hub only.

    Example: tieline broadcast europol-ec3/0198c3a1-7f00-7abc-8def-0123456789ab --group taskforce
    --purpose victim-identification --case 2026-118
    """
    check_why(purpose, case)
    with usage():
        check_code(group, "group")
    with connect(profile, home) as client:
        made = client.broadcast_series(
            series, group, purpose=purpose, case_ref=case, question=question, again=again
        )
    documents = [views.broadcast(each) for each in made]
    emit(as_json, {"broadcasts": documents}, lambda: _rows(documents))


@run
def broadcasts(
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """List sent broadcasts with their recipients and answers, newest first.

    Example: tieline broadcasts --home ./europol-ec3
    """
    with connect(profile, home) as client:
        documents = [views.broadcast(each) for each in client.list_broadcasts()]

    def render() -> None:
        _rows(documents)
        for each in documents:
            if each["answers"]:
                show_broadcast(each)

    emit(as_json, {"broadcasts": documents}, render)


def _rows(documents: list[views.Document]) -> None:
    rows = []
    for each in documents:
        recipients, answers = each["recipients"], each["answers"]
        assert isinstance(recipients, dict)
        assert isinstance(answers, list)
        states = Counter(recipients.values())
        rows.append(
            (
                each["id"],
                each["series"],
                each["group"],
                each["originator"],
                ", ".join(f"{count} {state}" for state, count in sorted(states.items())),
                len(answers),
                moment(each["created"]),
            )
        )
    columns = ("id", "series", "group", "originator", "recipients", "answers", "sent")
    show_rows(columns, rows, "no broadcasts")
