"""`tieline hashes`: bring files of hashes to the own node, count what is there, take it back."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from tieline_client.cli import imports
from tieline_client.cli.common import (
    HandlingOption,
    HomeOption,
    InformationOption,
    ProfileOption,
    RestrictionOption,
    RetainOption,
    SourceOption,
    TlpOption,
    check_case,
    connect,
    parse_handling,
    parse_pair,
    progress_bar,
)
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.cli.tables import show_rows
from tieline_client.cli.unread import ambiguous, say_unread
from tieline_client.errors import (
    EXIT_FAILED,
    FormatError,
    InvalidInput,
    MalformedMessage,
    TielineError,
    UsageError,
)
from tieline_client.formats import FileFormat, Vote, detect
from tieline_client.importing import ImportOptions, ImportReport
from tieline_client.limits import CATEGORIES_LISTED
from tieline_client.operator_client import OperatorClient
from tieline_client.record_stream import NothingUsable, source_name
from tieline_client.screening import category_of, votes_belong

app = group("Files of hashes at the own node.")
app.command("imports")(imports.list_imports)
app.command("remove")(imports.remove)

_SHOWN = 20
"""Rejected records named to a person; JSON has them all."""


class ImportAs(StrEnum):
    """What the records of a file are."""

    HOLDINGS = "holdings"
    EXCLUSIONS = "exclusions"


Format = Literal["auto", "vics", "case", "icse", "hashdeep", "nsrl", "ncmec", "list", "csv"]


@app.command("import")
@run
def import_files(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files of hashes, never of media.")
    ],
    *,
    file_format: Annotated[
        Format, typer.Option("--format", help="Told from the content unless named.")
    ] = "auto",
    series: Annotated[
        str, typer.Option(metavar="NAME", help="Put all records into this series.")
    ] = "",
    import_as: Annotated[
        ImportAs, typer.Option("--as", help="Known-good lists load as exclusions.")
    ] = ImportAs.HOLDINGS,
    category: Annotated[
        str,
        typer.Option(
            metavar="SCHEME:CODE", help="The category of records that carry none, as vics-us:1."
        ),
    ] = "",
    case: Annotated[str, typer.Option("--case", metavar="REF", help="The case reference.")] = "",
    handling: HandlingOption = "",
    restriction: RestrictionOption = "",
    tlp: TlpOption = "",
    source: SourceOption = "",
    information: InformationOption = None,
    retain_until: RetainOption = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Import files of hashes; each file counts whole or not at all.

    Single records that cannot be used are listed and the rest counts. A file that counts already
    under the same options is skipped, so a command that was interrupted can be repeated. VICS JSON,
    CASE JSON-LD, ICSE-style CSV, hashdeep, md5sum and its kin, NSRL, NCMEC XML, PDQ lists and
    Tieline's own CSV are read.

    Example: tieline hashes import seizure.json --series "Case 12" --case 2026-118 --home ./pt-pj
    """
    check_case(case)
    options = ImportOptions(
        series=series,
        exclusions=import_as is ImportAs.EXCLUSIONS,
        category=parse_pair(category, "--category"),
        case_ref=case,
        handling=parse_handling(
            handling,
            tlp=tlp,
            source=source,
            information=information,
            retain_until=retain_until,
            restriction=restriction,
        ),
    )
    _check_there(files)
    if options.exclusions and retain_until:
        say(
            "an exclusion list has no retention day, so --retain-until means nothing here: it "
            "excludes until `tieline hashes remove` takes it back"
        )
    named = None if file_format == "auto" else FileFormat(file_format)
    documents: list[dict[str, object]] = []
    hints: list[str] = []
    exit_code = 0
    with connect(profile, home) as client:
        for path in files:
            found = named
            unread: list[str] = []
            try:
                found = found or _detected(path)
                unread = say_unread(path, found)
                report = _import_one(client, path, found, options)
                left_out = _left_out(client, report, options)
            except TielineError as error:
                if isinstance(error, MalformedMessage) and error.value is not None:
                    raise  # of the options: what a file says is rejected record by record
                documents.append(_failed(path, found, error, unread))
                say(f"error: {error.message}")
                exit_code = max(exit_code, error.exit_code)
                if not isinstance(error, InvalidInput):
                    break
            else:
                documents.append(_done(report, left_out, unread))
                if left_out:
                    hints.append(_hint(report, left_out))
                if not options.exclusions:
                    hints += ambiguous(report.file, unread)
                if report.node.repeated:
                    say(f"{report.file}: the same counts already; skipped")
                if not report.usable:
                    say(f"error: {report.file}: none of its records can be used; nothing was kept")
                    exit_code = max(exit_code, EXIT_FAILED)
    emit(as_json, {"files": documents}, lambda: _render(documents, hints))
    if exit_code:
        raise typer.Exit(exit_code)


def _check_there(files: list[Path]) -> None:
    for path in files:
        if not path.exists():
            raise UsageError(f"there is no file {path}; check the path, nothing was imported")


def _import_one(
    client: OperatorClient, path: Path, found: FileFormat, options: ImportOptions
) -> ImportReport:
    if found is FileFormat.NSRL and not options.exclusions:
        raise UsageError(
            f"{source_name(path)} is an NSRL list of known-good files, which are no holdings; "
            "import it with --as exclusions"
        )
    try:
        with progress_bar(source_name(path), path.stat().st_size) as bar:
            return client.import_file(path, found, options, bar.read, bar.counted)
    except KeyboardInterrupt:
        say(
            f"interrupted; {source_name(path)} counts whole or not at all: "
            "see `tieline hashes stats`, or repeat the command, which skips what counts already"
        )
        raise


def _detected(path: Path) -> FileFormat:
    if not path.is_file():
        raise FormatError(source_name(path), None, "not a regular file; name a file")
    try:
        return detect(path)
    except OSError as error:
        raise FormatError(source_name(path), None, f"cannot be read: {error.strerror}") from None


Votes = tuple[Vote, ...]


def _left_out(
    client: OperatorClient, report: ImportReport, options: ImportOptions
) -> Sequence[Votes]:
    """Return the categories for which records of a file were excluded, () of those without any.

    What is not among them was excluded as known good.
    """
    unknown = options.exclusions or report.node.repeated or not report.vote_sets
    if unknown or not report.node.excluded:
        return ()
    stated = category_of(*options.category)
    listed = client.get_ask_terms().categories
    return [votes for votes in report.vote_sets if not votes_belong(votes, listed, stated)]


def _codes(left_out: Sequence[Votes]) -> list[str]:
    named = dict.fromkeys(vote for votes in left_out for vote in votes)
    return [f"{vote.scheme}:{vote.code}" for vote in named][:CATEGORIES_LISTED]


def _hint(report: ImportReport, left_out: Sequence[Votes]) -> str:
    """Say for which categories records were excluded, and what to do about it."""
    codes = ", ".join(_codes(left_out))
    if report.all_excluded and len(left_out) == len(report.vote_sets):
        what = f"no category of the file is in the agency's list; it has {codes}"
        why = f"all is excluded: {what if codes else 'its records carry no category'}"
    else:
        named = [f"those of categories that are not in the agency's list ({codes})"] * bool(codes)
        bare = ["those that carry no category"] * (() in left_out)
        why = f"{report.node.excluded} are excluded, among them {' and '.join([*named, *bare])}"
    return (
        f"{report.file}: {why}. "
        "Import it with --category SCHEME:CODE, or list what belongs under `categories` in "
        "config.toml (docs/operations.md#categories)"
    )


def _done(report: ImportReport, left_out: Sequence[Votes], unread: list[str]) -> dict[str, object]:
    return {
        "file": report.file,
        "format": report.format.value,
        "records": report.records,
        "items_new": report.node.items_new,
        "items_known": report.node.items_known,
        "series": list(report.node.series),
        "excluded": report.node.excluded,
        "known_good": report.node.known_good if report.node.HasField("known_good") else None,
        "exclusion_lists": [imports.named(each) for each in report.node.lists],
        "held": report.node.held,
        "held_by": [imports.named(each) for each in report.node.holders],
        "conflicts": report.node.conflicts,
        "set_aside": report.node.set_aside,
        "skipped": report.node.repeated,
        "rejected": [{"record": each.record, "reason": each.reason} for each in report.rejected],
        "rejected_count": report.rejected_count,
        "notes": [{"record": record, "note": note} for record, note in report.notes],
        "unlisted_categories": _codes(left_out) if left_out else None,
        "unread_columns": unread,
        "error": None,
    }


def _failed(
    path: Path, found: FileFormat | None, error: TielineError, unread: list[str]
) -> dict[str, object]:
    """Return the same shape for a file of which nothing was kept.

    ``records`` is 0 for a file that broke: how many it holds is not known.
    """
    rejected: list[dict[str, object]] = []
    records = 0
    if isinstance(error, NothingUsable):
        rejected = [{"record": each.record, "reason": each.reason} for each in error.rejected]
        records = error.count
    elif isinstance(error, FormatError) and error.record is not None:
        rejected = [{"record": error.record, "reason": error.why}]
    return {
        "file": source_name(path),
        "format": None if found is None else found.value,
        "records": records,
        "items_new": 0,
        "items_known": 0,
        "series": [],
        "excluded": 0,
        "known_good": 0,
        "exclusion_lists": [],
        "held": 0,
        "held_by": [],
        "conflicts": 0,
        "set_aside": 0,
        "skipped": False,
        "rejected": rejected,
        "rejected_count": records or len(rejected),
        "notes": [],
        "unlisted_categories": None,
        "unread_columns": unread,
        "error": error.message,
    }


def _render(documents: list[dict[str, object]], hints: list[str]) -> None:
    columns = ("file", "format", "records", "new", "known", "excluded", "conflicts", "rejected")
    keys = ("file", "format", "records", "items_new", "items_known", "excluded", "conflicts")
    rows = [
        [*(document[key] or 0 for key in keys), document["rejected_count"]]
        for document in documents
        if document["error"] is None
    ]
    if rows:
        show_rows(columns, rows, "")
    for hint in hints:
        line(hint)
    for document in documents:
        imports.show_left_out(document)
        imports.show_held(document)
        series, rejected = document["series"], document["rejected"]
        assert isinstance(series, list)
        assert isinstance(rejected, list)
        for each in series[:_SHOWN]:
            line(f"series {each}")
        for each in rejected[:_SHOWN]:
            line(f"{document['file']}: record {each['record']} rejected: {each['reason']}")
        if document["set_aside"]:
            line(f"{document['set_aside']} digests that say nothing were set aside")
        more = max(len(series), len(rejected)) > _SHOWN
        if more:
            line("there are more; --json lists them")


@app.command("stats")
@run
def stats(*, profile: ProfileOption = None, home: HomeOption = None, as_json: Json = False) -> None:
    """Count what is stored.

    Example: tieline hashes stats --home ./pt-pj
    """
    with connect(profile, home) as client:
        found = client.get_stats()
    document = {
        "items": found.items,
        "holdings": found.holdings,
        "series": found.series,
        "exclusions": found.exclusions,
        "digests": dict(sorted(found.digests.items())),
        "generation": found.generation,
        "index_generation": found.index_generation,
    }

    def render() -> None:
        counts = [(key, value) for key, value in document.items() if key != "digests"]
        counts[4:4] = [(f"{kind} digests", count) for kind, count in found.digests.items()]
        show_rows(("what", "count"), counts, "")

    emit(as_json, document, render)
