"""`tieline audit`: verify, export and search the log of the own node."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tieline_client.audit_log import (
    Header,
    Verdict,
    read_entry,
    verify_export,
    verify_leaves,
    write_export,
)
from tieline_client.cli.common import HomeOption, ProfileOption, connect
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.cli.tables import show_rows
from tieline_client.errors import EXIT_FAILED, UsageError
from tieline_client.limits import AUDIT_FOUND

app = group("The audit log. Callers: auditor.")

SELF_CONSISTENT = "self-consistent only"


@app.command("verify")
@run
def verify(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="An export; by default the node's log.")
    ] = None,
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Recompute the log's Merkle root (RFC 6962) and compare it with the stated one.

    An export is verified offline, without a profile. Exit code 1 when an entry was edited,
    removed, added or moved.

    Example: tieline audit verify log.jsonl
    """
    if file is not None:
        if not file.exists():
            raise UsageError(f"there is no file {file}; check the path")
        header, verdict = verify_export(file)
        agency, federation = header.agency, header.federation
    else:
        with connect(profile, home) as client:
            head = client.get_audit_head()
            entries = client.list_audit_entries(0, head.size) if head.size else iter(())
            verdict = verify_leaves(entries, head.size, head.root)
            agency, federation = client.profile.agency, client.profile.federation
    document = {
        "agency": agency,
        "federation": federation,
        "entries": verdict.entries,
        "root": verdict.root,
        "verified": verdict.verified,
        "against": SELF_CONSISTENT,
        "position": verdict.position,
        "reason": verdict.why,
    }

    def render() -> None:
        if verdict.verified:
            line(f"{agency}: {verdict.entries} entries, root {verdict.root.hex()}")
            line(f"verified ({SELF_CONSISTENT}: no peer's checkpoint was compared)")

    emit(as_json, document, render)
    if not verdict.verified:
        say(f"error: the audit log does not verify: {_where(verdict)}{verdict.why}")
        raise typer.Exit(EXIT_FAILED)


def _where(verdict: Verdict) -> str:
    return "" if verdict.position is None else f"entry {verdict.position} (from 0): "


@app.command("export")
@run
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, mode 0600.")],
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Write the whole log to a file that can be verified offline.

    Example: tieline audit export log.jsonl --home ./pt-pj
    """
    if file.exists():
        raise UsageError(f"{file} exists; an export is never overwritten, name another file")
    if not file.parent.is_dir():
        raise UsageError(f"there is no folder {file.parent}; make it first")
    with connect(profile, home) as client:
        head = client.get_audit_head()
        entries = client.list_audit_entries(0, head.size) if head.size else iter(())
        header = Header(client.profile.federation, client.profile.agency, head.size, head.root, b"")
        count = write_export(
            file,
            entries,
            federation=header.federation,
            agency=header.agency,
            size=header.size,
            root=header.root,
        )
    document = {"file": file, "entries": count, "root": header.root}
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
    start = _parse_time(since, "--since", end_of_day=False)
    end = _parse_time(until, "--until", end_of_day=True)

    def wanted(entry: dict[str, Any]) -> bool:
        said = str(entry.get("action", ""))
        return (
            (not person or entry.get("person") == person)
            and (not case or entry.get("case") == case)
            and (not action or said == action or said.startswith(f"{action}."))
            and (not series or series in (entry.get("subjects") or ()))
            and (not peer or entry.get("peer") == peer)
            and _within(entry, start, end)
        )

    found, searched, truncated = _search(profile, home, wanted, limit)
    document = {"entries": found, "searched": searched, "truncated": truncated}
    emit(as_json, document, lambda: _render(found))
    if truncated:
        say(f"more than {limit} entries match; narrow the search or raise --limit")


def _search(
    profile: Path | None, home: Path | None, wanted: Callable[[dict[str, Any]], bool], limit: int
) -> tuple[list[dict[str, Any]], int, bool]:
    found: list[dict[str, Any]] = []
    searched = 0
    with connect(profile, home) as client:
        for position, leaf in client.list_audit_entries():
            searched += 1
            entry = read_entry(leaf)
            if not wanted(entry):
                continue
            if len(found) == limit:
                return found, searched, True
            found.append({"position": position, **entry})
    return found, searched, False


def _render(found: list[dict[str, Any]]) -> None:
    keys = ("position", "at", "action", "person", "peer", "purpose", "case")
    rows = [
        [*(entry.get(key, "") for key in keys), " ".join(map(str, entry.get("subjects") or ()))]
        for entry in found
    ]
    show_rows(
        ("no.", "at", "action", "person", "peer", "purpose", "case", "subjects"), rows, "none"
    )


def _within(entry: dict[str, Any], start: datetime | None, end: datetime | None) -> bool:
    if start is None and end is None:
        return True
    try:
        at = datetime.fromisoformat(entry["at"])
    except (KeyError, TypeError, ValueError):
        return False
    if at.tzinfo is None:
        return False
    return (start is None or at >= start) and (end is None or at < end)


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
