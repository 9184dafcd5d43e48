"""The published list of clues as a file for a public site: JSON, CSV or one HTML page.

It holds public ids, kinds, words and days. The page asks for nothing from anywhere: no script, no
style sheet, no picture.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tieline.v1 import operator_clues_pb2 as pb

from tieline_client.errors import UsageError
from tieline_client.inert import csv_line, html_text, inert

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def write_list(path: Path, clues: Sequence[pb.PublishedClue]) -> None:
    """Write the list in the form that the file's name ends in. Raises UsageError, OSError."""
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise UsageError("name a file that ends in .json, .csv or .html")
    text = write(clues)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)


def _json(clues: Sequence[pb.PublishedClue]) -> str:
    rows = [
        {"id": one.public_id, "kind": one.kind, "text": inert(one.text), "published": one.day}
        for one in clues
    ]
    return json.dumps({"clues": rows}, indent=2, ensure_ascii=False) + "\n"


def _csv(clues: Sequence[pb.PublishedClue]) -> str:
    rows = [("id", "kind", "text", "published")]
    rows += [(one.public_id, one.kind, one.text, one.day) for one in clues]
    return "".join(csv_line(row) for row in rows)


def _html(clues: Sequence[pb.PublishedClue]) -> str:
    cards = "\n".join(
        f'<article id="{html_text(one.public_id)}"><h2>{html_text(one.kind)}</h2>'
        f"<p>{html_text(one.text)}</p>"
        f"<p><code>{html_text(one.public_id)}</code>, {html_text(one.day)}</p></article>"
        for one in clues
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        "<title>Do you know these objects and places?</title>\n"
        "<style>body{font-family:sans-serif;max-width:45rem;margin:2rem auto;padding:0 1rem}"
        "article{border-top:1px solid #999}</style>\n</head>\n<body>\n"
        "<h1>Do you know these objects and places?</h1>\n"
        "<p>Give the number with what you know.</p>\n"
        f"{cards}\n</body>\n</html>\n"
    )


_WRITERS: Mapping[str, Callable[[Sequence[pb.PublishedClue]], str]] = {
    ".json": _json,
    ".csv": _csv,
    ".html": _html,
}
