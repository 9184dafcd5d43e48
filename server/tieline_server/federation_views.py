"""What `tieline federation status` and `show` print."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict

from tieline_client.cli.output import line, out, table, time_text
from tieline_client.directory import Directory, Member

from tieline_server.trust import stated
from tieline_server.trust.federation import Federation


class Waiting(TypedDict):
    """A proposal and how many holders signed it."""

    changes: Sequence[str]
    have: int
    need: int


class Status(TypedDict):
    """The JSON document of `status`."""

    federation: str
    trial: bool
    root_fingerprint: str
    holders: int
    threshold: int
    version: int
    root_version: int
    members: int
    versions: dict[str, int]
    expires: datetime
    expiries: dict[str, datetime]
    proposal: Waiting | None


def changes(federation: Federation) -> list[str]:
    """Return what the proposal changes, a line each; nothing when there is no proposal."""
    if federation.proposal() is None:
        return []
    before, after = federation.stated(proposed=False), federation.stated(proposed=True)
    changed = [*federation.root_changes(), *stated.changes(before, after)]
    return changed or ["the same once more, with a new expiry"]


def status(federation: Federation) -> Status:
    """Return what is in force, until when, and what waits for signatures."""
    copy = federation.published()
    waiting = federation.signatures()
    role = copy.parsed_root.roles["targets"]
    proposal: Waiting | None = None
    if waiting is not None:
        proposal = {"changes": changes(federation), "have": waiting.have, "need": waiting.need}
    return {
        "federation": federation.name,
        "trial": federation.trial,
        "root_fingerprint": copy.root_fingerprint,
        "holders": len(role.keyids),
        "threshold": role.threshold,
        "version": copy.parsed_snapshot.version,
        "root_version": max(copy.roots),
        "members": len(copy.roles),
        "versions": {
            "root": copy.parsed_root.version,
            "targets": copy.parsed_targets.version,
            "snapshot": copy.parsed_snapshot.version,
            "timestamp": copy.parsed_timestamp.version,
        },
        "expires": copy.expires,
        "expiries": {
            "root": copy.parsed_root.expires,
            "targets": copy.parsed_targets.expires,
            "snapshot": copy.parsed_snapshot.expires,
            "timestamp": copy.parsed_timestamp.expires,
        },
        "proposal": proposal,
    }


def render_status(document: Status, now: datetime) -> None:
    """Print a status for people."""
    trial = " (TRIAL)" if document["trial"] else ""
    line(f"federation {document['federation']}{trial}, root {document['root_fingerprint']}")
    line(
        f"version {document['version']}, {document['members']} members, "
        f"valid until {time_text(document['expires'])}"
    )
    line(f"{document['threshold']} of {document['holders']} holders sign")
    for role, version in document["versions"].items():
        line(f"  {role:9} version {version}, until {time_text(document['expiries'][role])}")
    if document["expires"] <= now:
        line("EXPIRED: run `tieline federation publish`, or `renew` if the targets expired")
    proposal = document["proposal"]
    if proposal is not None:
        line(f"proposed, {proposal['have']} of {proposal['need']} signatures:")
        for text in proposal["changes"]:
            line(f"  {text}")


def render_directory(directory: Directory) -> None:
    """Print members, groups and purposes for people."""
    title = f"{directory.federation}, version {directory.version}"
    columns = ("agency", "name", "role", "countries", "endpoints", "standing")
    out.print(table(columns, map(_row, directory.members), title=title))
    groups = [(group.name, group.version, " ".join(group.members)) for group in directory.groups]
    if groups:
        out.print(table(("group", "version", "members"), groups))
    out.print(table(("purpose", "text"), sorted(directory.purposes.items())))


def _row(member: Member) -> Sequence[object]:
    reached = " ".join(member.endpoints) or ("calls out only" if member.outbound_only else "")
    standing = "REVOKED" if member.revoked else member.agreement or ""
    countries = " ".join(member.countries)
    return (member.agency, member.name, member.role, countries, reached, standing)
