"""`tieline hashes imports` and `tieline hashes remove`: what was imported, and taking it back.

And what the report of an import says of others: lists that left records out, what a list is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from tieline.v1 import operator_imports_pb2 as pb
from tieline.v1 import operator_pb2

from tieline_client.cli.common import HomeOption, ProfileOption, connect
from tieline_client.cli.output import Json, emit, line, run
from tieline_client.cli.tables import moment, show_rows
from tieline_client.errors import InvalidInput, UsageError
from tieline_client.identifiers import check_id
from tieline_client.payloads import moment as moment_of


@run
def list_imports(
    *,
    most: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="At most so many imports.")
    ] = 50,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """List what this agency's people imported, newest first.

    Columns: new and known are items (of an exclusion list: records) as they were counted then,
    stored is what is there of it now.

    Example: tieline hashes imports --most 10 --home ./pt-pj
    """
    with connect(profile, home) as client:
        found = client.list_imports(most)
    documents = [_document(each) for each in found.imports]

    def render() -> None:
        columns = ("id", "file", "as", "imported", "by", "case", "new", "known", "stored")
        keys = ("file", "as", "imported", "by", "case", "items_new", "items_known", "stored")
        rows = [
            [
                each["id"],
                *(moment(each[key]) if key == "imported" else each[key] for key in keys),
                *(each["series_count"], each["retain_until"] or "", _state(each)),
            ]
            for each in documents
        ]
        show_rows((*columns, "series", "until", "state"), rows, "nothing was imported")
        if found.more:
            line("there are older ones; --most N lists more")

    emit(as_json, {"imports": documents, "more": found.more}, render)


@run
def remove(
    import_id: Annotated[
        str,
        typer.Argument(
            metavar="IMPORT", help="The id in the first column of `tieline hashes imports`."
        ),
    ],
    *,
    reason: Annotated[str, typer.Option(metavar="WORDS", help="Why; the audit log keeps it.")],
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Take one import back: a wrong file, a wrong case, a wrong exclusion list. For officers.

    What it holds is in no answer from now on and is erased; items that another import holds stay.
    What an exclusion list names may be held and asked again. What others were told is not taken
    back by this: that is `tieline series withdraw`, which comes first.

    Example: tieline hashes remove IMPORT --reason "the file was of another case"
    """
    if not reason.strip():
        raise UsageError("--reason is empty; say why, in words")
    try:
        check_id(import_id, "import")
    except InvalidInput:
        raise UsageError("IMPORT is an id of `tieline hashes imports`") from None
    with connect(profile, home) as client:
        answer = client.remove_import(import_id, reason)
    again = [_document(each) for each in answer.again]
    document = _document(answer.removed) | {"repeated": answer.repeated, "import_again": again}
    emit(as_json, document, lambda: _show_removed(document, again))


def _show_removed(document: dict[str, Any], again: list[dict[str, Any]]) -> None:
    if document["repeated"]:
        line(f"import {document['id']} is gone already ({_state(document)}); nothing changed")
        return
    name = f"import {document['id']} ({document['file']})"
    if document["as"] == "exclusions":
        line(f"{name}: its {document['stored']} digests may be held and asked again")
    else:
        line(f"{name}: its {document['stored']} holdings are in no answer any more")
    line("it is being erased; `tieline hashes imports` says `removed` once no file holds it")
    for each in again:
        line(f"import {each['file']} again ({each['id']}): it left out what this one had")


def _state(document: dict[str, Any]) -> str:
    reason = document["reason"]
    return f"{document['state']}: {reason}" if reason else str(document["state"])


def _document(view: pb.ImportView) -> dict[str, Any]:
    return {
        "id": view.id,
        "file": view.source,
        "format": view.format,
        "as": "exclusions" if view.exclusions else "holdings",
        "imported": moment_of(view.import_time),
        "by": view.person,
        "case": view.case_ref,
        "items_new": view.items_new,
        "items_known": view.items_known,
        "stored": view.stored,
        "series_count": view.series_count,
        "series": list(view.series),
        "retain_until": view.retain_until or None,
        "state": view.state,
        "reason": view.reason,
    }


# --- in the report of an import -----------------------------------------------------------------


def named(name: operator_pb2.ImportName) -> dict[str, str]:
    """Return an import that a report names as a document."""
    return {"id": name.id, "file": name.source}


def show_left_out(document: Mapping[str, Any]) -> None:
    """Say apart what an exclusion list kept out, and what its category did."""
    known_good, excluded = document["known_good"], document["excluded"]
    if known_good is None:  # a node that does not say
        return
    if known_good:
        line(
            f"{document['file']}: {known_good} records are known good, by "
            f"{_files(document['exclusion_lists'])}. Where a list is wrong, an officer takes it "
            "back (`tieline hashes remove IMPORT --reason WORDS`); then import the file again"
        )
    if excluded > known_good:
        line(
            f"{document['file']}: {excluded - known_good} records are in no listed category, or "
            "were deleted at their source"
        )


def show_held(document: Mapping[str, Any]) -> None:
    """Say of an exclusion list what of it is held, which importing it does not change."""
    if document["held"]:
        line(
            f"{document['file']}: {document['held']} of its records are held already. They stay "
            f"held and are answered; they are of {_files(document['held_by'])}. An officer takes "
            "an import back with `tieline hashes remove IMPORT --reason WORDS`"
        )


def _files(names: Iterable[Mapping[str, str]]) -> str:
    return ", ".join(f"{each['file']} ({each['id']})" for each in names) or "other agencies"
