"""`tieline audit`: verify, export and search the log of the own node."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tieline_client import auditor_client as auditor
from tieline_client.audit_gaps import read_entry
from tieline_client.audit_log import Verdict, write_export
from tieline_client.audit_report import write_report
from tieline_client.audit_search import Search, siena_numbers
from tieline_client.auditor_client import get_evidence
from tieline_client.cli.audit_trust import (
    Trust,
    advice,
    check_file,
    check_node,
    check_receipt,
    show_receipt,
)
from tieline_client.cli.common import HomeOption, ProfileOption, connect
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.cli.tables import show_rows
from tieline_client.errors import EXIT_FAILED, UnknownMethod, UsageError
from tieline_client.limits import AUDIT_FOUND
from tieline_client.operator_client import OperatorClient
from tieline_client.receipts import Receipt

app = group("The audit log. Callers: auditor.")


@app.command("verify")
@run
def verify(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="An export or a receipt; by default the node's log."),
    ] = None,
    *,
    root: Annotated[
        str, typer.Option(metavar="HEX", help="Fingerprint of the federation's root (64 digits).")
    ] = "",
    public: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The authority's public folder, for newer keys."),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A checkpoint of this log that a peer holds."),
    ] = None,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Recompute the log's Merkle root (RFC 6962), and hold it against what peers countersigned.

    With --root, every signature is verified from the federation's root on; without it, or where no
    peer countersigned, the log is "self-consistent only". An export or a receipt is verified
    offline, without a profile. Exit code 1 when an entry was edited, removed, added or moved, and
    when the tail is missing that a peer knows.

    Example: tieline audit verify log.jsonl --root 4f1c...
    """
    trust = Trust(root, public, checkpoint or ())
    if file is not None:
        if not file.exists():
            raise UsageError(f"there is no file {file}; check the path")
        saved = Receipt.read(file)
        if saved is not None:
            told = check_receipt(saved, trust)
            emit(as_json, told, lambda: show_receipt(told))
            return
        agency, federation, verdict, against = check_file(file, trust)
    else:
        with connect(profile, home) as client:
            agency, federation, verdict, against = check_node(client, trust)
    document = {
        "agency": agency,
        "federation": federation,
        "entries": verdict.entries,
        "erased": verdict.erased,
        "outside": verdict.outside,
        "root": verdict.root,
        "verified": verdict.verified,
        "against": against,
        "position": verdict.position,
        "reason": verdict.why,
    }

    def render() -> None:
        if verdict.verified:
            line(f"{agency}: {verdict.entries} entries, root {verdict.root.hex()}")
            if verdict.erased:
                line(f"{verdict.erased} entries were erased under the agency's retention rule")
            if verdict.outside:
                line(f"{verdict.outside} entries are outside the period of this export")
            line(f"verified ({against})")
            if words := advice(against):
                say(words)

    emit(as_json, document, render)
    if not verdict.verified:
        say(f"error: the audit log does not verify: {_where(verdict)}{verdict.why}")
        say(
            "keep the file as it is, have another exported and verify that; where it fails as well,"
            " peers hold what they saw (`tieline audit witnesses`)"
        )
        raise typer.Exit(EXIT_FAILED)


def _where(verdict: Verdict) -> str:
    return "" if verdict.position is None else f"entry {verdict.position} (from 0): "


@app.command("export")
@run
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, mode 0600.")],
    *,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="A report to be read, of the same entries."),
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Entries from here on (RFC 3339, UTC).")
    ] = "",
    until: Annotated[
        str, typer.Option(metavar="TIME", help="Up to this day, or before this time.")
    ] = "",
    root: Annotated[
        str, typer.Option(metavar="HEX", help="The root's fingerprint, for the report's state.")
    ] = "",
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Write the log to a file that can be verified offline, with all that this needs.

    The file is JSON lines; with --since or --until it is of that period, and has the hashes of all
    other entries, so that it verifies all the same. --report adds a page for a supervisory
    authority: counts, disclosures, refusals, and whether the log verifies (with --root, against
    what peers countersigned).

    Example: tieline audit export log.jsonl --home ./pt-pj
    """
    if file.exists():
        raise UsageError(f"{file} exists; an export is never overwritten, name another file")
    if report is not None and report.exists():
        raise UsageError(f"{report} exists; a report is never overwritten, name another file")
    start, end = _period(since, until)
    if root and report is None:
        raise UsageError("--root is for the state that --report shows; name a report, too")
    trust = Trust(root, None, ())
    for path in filter(None, (file, report)):
        if not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent}; make it first")
    with connect(profile, home) as client:
        try:
            evidence = get_evidence(client).document()
        except UnknownMethod:
            evidence = {}
        head = client.get_audit_head()
        entries = client.list_audit_leaves(0, head.size) if head.size else iter(())
        count = write_export(
            file,
            entries,
            federation=client.profile.federation,
            agency=client.profile.agency,
            size=head.size,
            root=head.root,
            evidence=evidence,
            since=start,
            until=end,
        )
    document: dict[str, object] = {"file": file, "entries": count, "root": head.root}
    if report is not None:
        _, _, verdict, against_whom = check_file(file, trust)
        write_report(report, file, verdict, against_whom, since=start, until=end)
        document["report"] = report
    emit(as_json, document, lambda: line(f"{count} entries written to {file}"))


@app.command("search")
@run
def search(
    *,
    person: Annotated[str, typer.Option(metavar="NAME", help="Who acted.")] = "",
    case: Annotated[str, typer.Option(metavar="REF", help="The case reference.")] = "",
    action: Annotated[
        str, typer.Option(metavar="WORD", help="As query.asked, or query for all of its kind.")
    ] = "",
    series: Annotated[str, typer.Option(metavar="ID", help="A series or another id.")] = "",
    peer: Annotated[str, typer.Option(metavar="AGENCY", help="The other side.")] = "",
    purpose: Annotated[str, typer.Option(metavar="CODE", help="The purpose.")] = "",
    siena: Annotated[
        str, typer.Option(metavar="NUMBER", help="Entries that carry this SIENA number.")
    ] = "",
    start_at: Annotated[
        int, typer.Option("--from", metavar="NO", min=0, help="From this entry on (a next page).")
    ] = 0,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From this day or time on (RFC 3339, UTC).")
    ] = "",
    until: Annotated[
        str, typer.Option(metavar="TIME", help="Up to this day, or before this time.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = AUDIT_FOUND,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Search the log; all that is given must hold.

    Example: tieline audit search --action query --since 2026-01-31 --home ./pt-pj
    """
    start, end = _period(since, until)
    wanted = Search(person, case, action, series, peer, purpose, siena, start, end)
    with connect(profile, home) as client:
        try:
            found, searched, following = _search(client, wanted, limit, start_at)
        except UnknownMethod:
            found, searched, following = _read_all(client, wanted, limit, start_at)
    document = {
        "entries": found,
        "searched": searched,
        "truncated": following is not None,
        "next": following,
    }
    emit(as_json, document, lambda: _render(found))
    if following is not None:
        say(f"more than {limit} entries match; go on with --from {following}, or narrow the search")


_Found = tuple[list[dict[str, Any]], int, int | None]
"""What was found, how many entries were looked at, and where the next page begins."""


def _search(client: OperatorClient, wanted: Search, limit: int, start: int) -> _Found:
    found: list[dict[str, Any]] = []
    at = start
    while True:
        page = auditor.search(client, wanted, at, limit + 1 - len(found))
        for one in page.entries:
            if len(found) == limit:
                return found, one.position - start, one.position
            found.append({"position": one.position, **read_entry(one.leaf)})
        at = page.next
        if not page.more:
            return found, max(at - start, 0), None


def _read_all(client: OperatorClient, wanted: Search, limit: int, start: int) -> _Found:
    """The same of a node that cannot search: of before wire v1.2."""
    found: list[dict[str, Any]] = []
    searched = 0
    for position, leaf in client.list_audit_entries(start):
        searched += 1
        entry = read_entry(leaf)
        if not wanted.matches(entry):
            continue
        if len(found) == limit:
            return found, searched, position
        found.append({"position": position, **entry})
    return found, searched, None


def _render(found: list[dict[str, Any]]) -> None:
    keys = ("position", "at", "action", "person", "peer", "purpose", "case")
    rows = [
        [
            *(entry.get(key, "") for key in keys),
            " ".join(map(str, entry.get("subjects") or ())),
            " ".join(siena_numbers(entry)),
        ]
        for entry in found
    ]
    heads = ("no.", "at", "action", "person", "peer", "purpose", "case", "subjects", "SIENA")
    show_rows(heads, rows, "none")


def _period(since: str, until: str) -> tuple[datetime | None, datetime | None]:
    start = _parse_time(since, "--since", end_of_day=False)
    end = _parse_time(until, "--until", end_of_day=True)
    if start and end and start >= end:
        raise UsageError("--since is not before --until; swap them")
    return start, end


def _parse_time(text: str, option: str, *, end_of_day: bool) -> datetime | None:
    """Return a time in UTC; a day alone means its begin, or for --until its end."""
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option} {text[:40]!r} is no time; write 2026-01-31 or 2026-01-31T12:00:00Z"
        ) from None
    if len(text) == len("2026-01-31") and end_of_day:
        parsed = parsed.replace(hour=23, minute=59, second=59, microsecond=999_999)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
