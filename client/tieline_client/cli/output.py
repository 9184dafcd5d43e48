"""What every command shares: one JSON document or a rendering on stdout, all else on stderr.

A command looks like this::

    @app.command()
    @run
    def show(name: str, as_json: Json = False) -> None:
        document = work(name)
        emit(as_json, document, lambda: out.print(inert(document["name"])))

``run`` turns a TielineError into its one line on stderr and its exit code (contract.md). Whatever
came from a file or a peer goes through ``inert`` (or ``table``, ``say`` and ``line``, which do it),
so that no escape sequence in a name reaches a terminal (threats.md 22).
"""

from __future__ import annotations

import errno
import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import PurePath
from typing import Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from tieline_client import inert as texts
from tieline_client.cli.given import in_words
from tieline_client.errors import EXIT_FAILED, TielineError

P = ParamSpec("P")
R = TypeVar("R")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

out = Console(markup=False, emoji=False, highlight=False)
"""stdout, for people. Square brackets in data are never read as markup."""

err = Console(stderr=True, markup=False, emoji=False, highlight=False)
"""stderr: messages, questions, progress."""


inert = texts.inert
"""For a terminal: one printable line."""


def say(message: str) -> None:
    """Write one message to stderr."""
    err.print(inert(message), soft_wrap=True)


def line(text: str) -> None:
    """Write one line of data to stdout, never wrapped or cut."""
    out.print(inert(text), soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> Table:
    """Return a table of inert cells that folds long values instead of cutting them."""
    grid = Table(title=inert(title) if title else None, title_justify="left")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(inert(str(cell)) for cell in row))
    return grid


def time_text(moment: datetime) -> str:
    """Return RFC 3339 in UTC, whole seconds: ``2026-01-31T12:00:00Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def emit(as_json: bool, document: object, render: Callable[[], object]) -> None:
    """Print ``document`` as the one JSON document on stdout, or call ``render`` for people.

    Dates and paths in the document become text, bytes become hex, sets become sorted lists.
    """
    if not as_json:
        render()
        return
    text = json.dumps(document, indent=2, default=_json_value)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")


def _json_value(value: object) -> object:
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no place in a JSON document")


def run(command: Callable[P, R]) -> Callable[P, R]:
    """Wrap a command: an error becomes one line on stderr and the exit code of the contract.

    TIELINE_DEBUG=1 lets the traceback of an unforeseen error through.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except TielineError as error:
            say(f"error: {in_words(error, command, kwargs)}")
            raise typer.Exit(error.exit_code) from error
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            advice = "; make room and run it again" if full else ""
            say(f"error: {where}{error.strerror or error}{advice}")
            raise typer.Exit(EXIT_FAILED) from error
        except Exception as error:
            if os.environ.get("TIELINE_DEBUG"):
                raise
            # The type alone: an unforeseen message may carry a secret.
            say(
                f"error: unforeseen {type(error).__name__}; "
                "run again with TIELINE_DEBUG=1 and report what it prints"
            )
            raise typer.Exit(EXIT_FAILED) from error

    return wrapped
