"""The same documents as views.py makes, for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.measure import Measurement

from tieline_client.cli.output import line, out, table, time_text
from tieline_client.inert import inert

_WIDEST = 10_000
"""Characters of a row in a pipe; longer ones fold."""

Shown = Mapping[str, Any]


def moment(value: object) -> str:
    """Return a time for a table, nothing for none."""
    return time_text(value) if isinstance(value, datetime) else ""


def show_rows(
    columns: Sequence[str], rows: Iterable[Sequence[object]], none: str, *, title: str = ""
) -> None:
    """Print a table, or the sentence ``none`` when it would be empty.

    Ids must stay whole, so that they can be copied: a pipe gets the width it takes, and on a
    terminal that is too narrow each row becomes lines.
    """
    listed = list(rows)
    if not listed:
        line(none)
        return
    grid = table(columns, listed, title=title)
    wide = Console(width=_WIDEST, markup=False, emoji=False, highlight=False)
    natural = max(Measurement.get(wide, wide.options, grid).maximum, len(inert(title)))
    if natural <= out.width:
        out.print(grid)
    elif not on_screen():
        Console(width=natural, markup=False, emoji=False, highlight=False).print(grid)
    else:
        if title:
            line(title)
        for row in listed:
            line("")
            for column, cell in zip(columns, row, strict=True):
                if str(cell):
                    line(f"{column}: {cell}" if column else str(cell))


def on_screen() -> bool:
    """Whether stdout is a terminal, whose width is the person's choice."""
    return sys.stdout.isatty()


def show_fields(document: Shown, keys: Iterable[str]) -> None:
    """Print the named fields that hold something, one a line."""
    for key in keys:
        value = document[key]
        if isinstance(value, datetime):
            value = time_text(value)
        elif isinstance(value, bytes):
            value = value.hex()
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        elif isinstance(value, Mapping):
            value = ", ".join(f"{name} {each}" for name, each in value.items() if each)
        if value not in (None, "", False):
            line(f"{key.replace('_', ' ')}: {value}")


def show_series(document: Shown) -> None:
    """Print one series with its assessments."""
    show_fields(
        document,
        (
            *("id", "name", "status", "origin", "owner", "number", "case", "items", "handling"),
            *("contact", "victims", "identified", "first_seen", "last_seen", "clues"),
            *("references", "likely_countries", "untold_countries", "parts", "part_of"),
            *("grown_since_told", "split_from", "split_into", "created"),
        ),
    )
    if document["parts"] and document["origin"] != "own":
        line(
            "the items of its parts are not counted here: each part is shown, exported and told"
            " under the id it came under"
        )
    rows = [
        (
            " ".join(part for part in (each["country"], each["region"]) if part),
            "ruled out"
            if each["eliminated"]
            else f"{'confirmed' if each['confirmed'] else 'suspected'}, {each['confidence']}",
            f"{each['person']} ({each['agency']})",
            moment(each["at"]),
            each["grounds"],
        )
        for each in document["assessments"]
    ]
    show_rows(("country", "judgement", "who", "when", "grounds"), rows, "no assessments yet")
    if document["votes"]:
        names = ("items", "agencies", "trusted", "disputed")
        rows = [
            (f"{each['scheme']}:{each['code']}", *(each[name] for name in names))
            for each in document["votes"]
        ]
        show_rows(("category", *names), rows, "")
    if document["same_as"]:
        same_as_rows(document["same_as"], "")
    if document["notes"]:
        said = [
            (moment(each["at"]), f"{each['person']} ({each['agency']})", each["text"])
            for each in document["notes"]
        ]
        show_rows(("note", "who", "words"), said, "")
    if document["history"]:
        rows = [
            (
                moment(each["at"]),
                each["kind"],
                " > ".join(part for part in (each["before"], each["after"]) if part),
                f"{each['person']} ({each['agency']})",
                each["text"],
            )
            for each in document["history"]
        ]
        show_rows(("when", "what", "", "who", "words"), rows, "")
    if document["repositories"]:
        _show_repositories(document["repositories"])
    if document["retraction"]:
        _show_retraction(document["retraction"])


def _show_repositories(said: Sequence[Shown]) -> None:
    rows = [
        (
            *(each["repository"], each["number"], each["status"], each["items"]),
            f"{each['submissions']} by {each['agencies']} agencies",
            *(each["baseline"], moment(each["at"])),
        )
        for each in said
    ]
    columns = ("repository", "number", "status there", "items", "submissions", "baseline", "said")
    show_rows(columns, rows, "")


def show_news(news: Sequence[Shown]) -> None:
    """Print what repositories said of own series."""
    rows = [
        (
            each["series"],
            each["name"],
            each["agency"],
            each["after"],
            each["text"],
            moment(each["at"]),
        )
        for each in news
    ]
    columns = ("series", "name", "repository", "status there", "words", "said")
    show_rows(columns, rows, "")


def same_as_rows(links: Sequence[Shown], empty: str) -> None:
    """Print links between series of two agencies."""
    rows = [
        (
            each["id"],
            each["own"],
            each["other"],
            each["state"],
            f"ours {each['ours']}, theirs {each['theirs']}",
            f"{each['shared']} of {each['own_items']} and {each['other_items']}",
            " ".join(each["references"]),
        )
        for each in links
    ]
    columns = ("id", "own series", "other", "state", "", "shared", "references there")
    show_rows(columns, rows, empty)


def _show_retraction(document: Shown) -> None:
    only = document["only"]
    said = "withdrawn" if document["kind"] == "withdraw" else "narrowed"
    to = "" if only is None else f", to be kept by {', '.join(only) or 'nobody'} only"
    why = f": {document['reason']}" if document["reason"] else ""
    line("")
    line(f"{said} {moment(document['at'])}{to}{why}")
    rows = [
        (
            each["agency"],
            each["via"] or "",
            each["state"],
            moment(each["at"]),
            "erased" if each["erased"] else each["reason"],
        )
        for each in document["recipients"]
    ]
    show_rows(("who was told", "by", "state", "since", ""), rows, "nobody was told of it")
    outside = [
        (each["country"], each["agency"], each["reference"], moment(each["at"]))
        for each in document["outside"]
    ]
    if outside:
        line("told by other means, and to be told of this by a person:")
        show_rows(("country", "by", "reference", "when"), outside, "")


def referral_rows(referrals: Sequence[Shown]) -> None:
    """Print referrals, one a row."""
    rows = [
        (
            each["id"],
            each["series"],
            f"{each['sender']} > {each['recipient']}",
            each["country"],
            each["urgency"],
            each["state"],
            corrected(each) or each["reason"] or each["note"],
        )
        for each in referrals
    ]
    columns = ("id", "series", "who", "country", "urgency", "state", "")
    show_rows(columns, rows, "no referrals")


def corrected(referral: Shown) -> str:
    """Return to what a referral was corrected, nothing where it stands."""
    if not referral["corrected"]:
        return ""
    return f"corrected to {' '.join(referral['likely_countries']) or 'no country'}"


def show_referral(document: Shown) -> None:
    """Print one referral and its steps."""
    show_fields(
        document,
        (
            *("id", "series", "sender", "recipient", "country", "urgency", "state"),
            *("purpose", "case", "note", "created", "reason", "corrected", "likely_countries"),
        ),
    )
    rows = [
        (
            moment(each["at"]),
            each["state"],
            f"{each['person']} ({each['agency']})",
            each["text"] or " ".join(each["countries"]),
            each["passed_to"],
            ""
            if each["outcome"] is None
            else ", ".join(f"{count} {what}" for what, count in each["outcome"].items() if count),
        )
        for each in document["steps"]
    ]
    show_rows(("when", "step", "who", "words", "passed to", "outcome"), rows, "no steps yet")


def show_broadcast(document: Shown) -> None:
    """Print one broadcast with recipients and answers."""
    keys = ("id", "series", "sender", "originator", "group", "question", "state", "created")
    show_fields(document, keys)
    if document["recipients"]:
        show_rows(("recipient", "state"), document["recipients"].items(), "")
    rows = [
        (
            each["agency"],
            each["kind"],
            each["country"] or each["series"],
            each["confidence"],
            each["text"],
            moment(each["at"]),
        )
        for each in document["answers"]
    ]
    show_rows(("agency", "answer", "what", "confidence", "words", "when"), rows, "no answers yet")


def show_entry(document: Shown) -> None:
    """Print one entry of the inbox: its notices, the referral or broadcast, then the series."""
    if document["alarms"]:
        show_rows(_ALARM_COLUMNS, [_alarm_row(one) for one in document["alarms"]], "")
    if document["referral"] is not None:
        show_referral(document["referral"])
    if document["broadcast"] is not None:
        show_broadcast(document["broadcast"])
    if document["series"] is not None:
        line("")
        show_series(document["series"])


def upload_rows(uploads: Sequence[Shown]) -> None:
    """Print deposits, one a row."""
    rows = [
        (
            each["id"],
            each["series"],
            f"{each['sender']} > {each['repository']}",
            each["state"],
            each["reference"],
            "nothing new" if each["unchanged"] else each["items"],
            each["reason"] or each["delivery"],
            moment(each["created"]),
        )
        for each in uploads
    ]
    columns = ("id", "series", "who", "state", "reference", "items", "delivery", "created")
    show_rows(columns, rows, "no uploads")


_ALARM_COLUMNS = ("ALARM", "about", "series", "who", "raised")


def show_alarms(alarms: Sequence[Mapping[str, object]]) -> None:
    """Show alarms above everything else; those that differ by the series alone in one row."""
    groups: dict[tuple[object, ...], list[Mapping[str, object]]] = {}
    for each in alarms:
        apart = (each["kind"], each["referral"], each["sender"], each["recipient"])
        groups.setdefault(apart, []).append(each)
    rows = [
        _alarm_row(ones[0] if len(ones) == 1 else {**ones[0], "series": f"{len(ones)} series"})
        for ones in groups.values()
    ]
    show_rows(_ALARM_COLUMNS, rows, "")


def _alarm_row(each: Mapping[str, object]) -> tuple[object, ...]:
    untold = "not told here" if each["kind"] == "deconfliction" else ""
    return (
        str(each["kind"]),
        each["referral"],
        each["series"] or untold,
        f"{each['sender']} > {each['recipient']}",
        moment(each["raised"]),
    )
