"""A report on an export, for people: one page of HTML without script, style sheet or picture.

Everything that comes from the log is escaped, and what a spreadsheet would calculate that opens the
page has an apostrophe in front; the page loads nothing from anywhere.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from tieline_client.audit_log import Verdict, entries_of, read_header
from tieline_client.audit_search import within
from tieline_client.errors import ConfigurationError
from tieline_client.inert import html_text, uncalculated

_ROWS = 200
_SHOWN = 2_000
"""Disclosures and refusals listed one by one; the export has all."""


def write_report(
    path: Path,
    export: Path,
    verdict: Verdict,
    against: str,
    *,
    since: datetime | None,
    until: datetime | None,
) -> None:
    """Write the report of an export to a new file, mode 0600; ``against`` is what it was held
    against. Raises ConfigurationError."""
    text = "\n".join(_page(export, verdict, against, since, until))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text + "\n")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}") from None


def _page(
    export: Path, verdict: Verdict, against: str, since: datetime | None, until: datetime | None
) -> Iterator[str]:
    header = read_header(export)
    counts: dict[str, Counter[str]] = {
        key: Counter() for key in ("action", "purpose", "peer", "person")
    }
    told: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    abroad: list[tuple[object, ...]] = []
    count = 0
    for _, entry in entries_of(export):
        if not within(entry, since, until):
            continue
        count += 1
        for key, counter in counts.items():
            counter[str(entry.get(key) or "none")] += 1
        action = str(entry.get("action", ""))
        if action in DISCLOSURES and len(told) < _SHOWN:
            told.append(entry)
        if action == "refusal" and len(refused) < _SHOWN:
            refused.append(entry)
        if len(abroad) < _SHOWN:
            abroad.extend(_transfers(entry))
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    policy = "default-src 'none'"
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    title = html_text(f"Audit log of {header.agency}, {header.federation}")
    yield f"<title>{title}</title></head><body><h1>{title}</h1>"
    state = "verifies" if verdict.verified else f"DOES NOT VERIFY: {verdict.why}"
    yield from _table(
        "The log",
        ("", ""),
        (
            ("period", f"{since or 'its begin'} to {until or 'its end'}"),
            ("entries in the period", count),
            ("entries in the log", verdict.entries),
            ("erased under the retention rule", verdict.erased),
            ("outside the period of the export", verdict.outside),
            ("state", f"{state} ({against})"),
            ("root", verdict.root.hex()),
        ),
    )
    for key, counter in counts.items():
        yield from _table(f"By {key}", (key, "entries"), counter.most_common(_ROWS))
    yield from _entries("Disclosures and transfers", told)
    yield from _table(f"{ABROAD} ({len(abroad)})", _TRANSFER, abroad)
    yield from _entries("Refusals", refused)
    yield "</body></html>"


ABROAD = "Out of the union, and on what law"
DISCLOSURES = frozenset(
    {
        *("query.disclosed", "request.approved", "referral.sent", "referral.corrected"),
        *("referral.told_outside", "broadcast.sent", "upload.sent", "upload.dropped"),
        *("message.given-back", "deposit.reported", "series.noted", "same_as.confirmed"),
        "tip.relayed",
        *("vital-interests.confirmed", "clues.exported", "export.done", "export.broken"),
    }
)
"""What a node logs when something of a series leaves it, or a person lets it go."""
_TRANSFER = ("at", "action", "person", "purpose", "case", "to", "basis", "officers")


def _transfers(entry: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    """Each agency or country outside the union that an entry is about: 2016/680 Art. 37(3) and
    38(3) want date, recipient, grounds and data of each documented."""
    detail = entry.get("detail")
    basis = detail.get("legal_basis") if isinstance(detail, dict) else None
    if not isinstance(detail, dict) or not isinstance(basis, dict):
        return
    officers = detail.get("officers")
    both = " and ".join(map(str, officers)) if isinstance(officers, list) else ""
    for to, law in basis.items():
        yield (*(entry.get(key, "") for key in _TRANSFER[:5]), to, law, both)


def _entries(title: str, entries: list[dict[str, Any]]) -> Iterator[str]:
    keys = ("at", "action", "person", "peer", "purpose", "case")
    rows = ([*(one.get(key, "") for key in keys), _why(one)] for one in entries)
    yield from _table(f"{title} ({len(entries)})", (*keys, "rules or reason"), rows)


def _why(entry: dict[str, Any]) -> str:
    detail = entry.get("detail")
    reason = detail.get("reason", "") if isinstance(detail, dict) else ""
    return " ".join(map(str, entry.get("rules") or ())) or str(reason)


def _table(title: str, heads: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    yield f"<h2>{html_text(title)}</h2><table border>"
    yield "<tr>" + "".join(f"<th>{html_text(head)}</th>" for head in heads) + "</tr>"
    for row in rows:
        yield (
            "<tr>"
            + "".join(f"<td>{html_text(uncalculated(str(cell)))}</td>" for cell in row)
            + "</tr>"
        )
    yield "</table>"
