"""What the work commands share: who asks, why, and how long work shows itself."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text
from tieline.v1 import series_pb2

from tieline_client import keys
from tieline_client.cli.output import err
from tieline_client.countries import check_known_country
from tieline_client.errors import InvalidInput, UsageError
from tieline_client.handling import HandlingCode, Tlp, parse_handling_code
from tieline_client.identifiers import check_agency, check_code
from tieline_client.inert import inert
from tieline_client.limits import CODE_CHARS, REFERENCE_CHARS
from tieline_client.operator_client import OperatorClient
from tieline_client.profile import PROFILE_VARIABLE, Profile, find_profile

ProfileOption = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        metavar="PROFILE",
        help=f"Your profile; by default the one that {PROFILE_VARIABLE} names.",
    ),
]
HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home", metavar="HOME", help="For trials: a node's home; its first operator acts."
    ),
]
PurposeOption = Annotated[
    str,
    typer.Option(
        "--purpose", metavar="CODE", help="Why: a purpose code of the directory. Required."
    ),
]
CaseOption = Annotated[
    str, typer.Option("--case", metavar="REF", help="The case reference. Required.")
]

_PURPOSES = "victim-identification, deconfliction, prosecution or data-quality"
URGENCIES = ("immediate", "urgent", "routine")
CONFIDENCES = ("low", "medium", "high")


def connect(profile: Path | None, home: Path | None) -> OperatorClient:
    """Return the client of the person who works; the caller closes it.

    The passphrase of an encrypted key comes from TIELINE_PASSPHRASE_FILE, or is asked for on a
    terminal.
    """
    loaded = Profile.load(find_profile(profile, home))
    return OperatorClient(loaded, passphrase=passphrase_of(loaded))


def passphrase_of(profile: Profile) -> bytes | None:
    """Return the passphrase of an encrypted profile's key, asked for on a terminal."""
    if not profile.encrypted:
        return None
    passphrase = keys.passphrase_from_environment()
    if passphrase is None and on_terminal():
        passphrase = getpass.getpass(f"passphrase of {profile.operator}: ").encode()
    return passphrase


def on_terminal() -> bool:
    """Whether a person can be asked: both stdin and stderr are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str) -> None:
    """Ask on stderr; raise typer.Exit(1) unless the answer is yes."""
    if not typer.confirm(inert(question), err=True):
        raise typer.Exit(1)


# --- words of the command line ----------------------------------------------------------------


@contextmanager
def usage() -> Iterator[None]:
    """Turn an InvalidInput of a person's own words into UsageError, exit code 2."""
    try:
        yield
    except InvalidInput as error:
        raise UsageError(error.message) from error


def check_why(purpose: str, case: str) -> None:
    """Raise UsageError unless both the purpose and the case reference are given."""
    missing = [
        option
        for option, value in (("--purpose CODE", purpose), ("--case REF", case))
        if not value.strip()
    ]
    if missing:
        raise UsageError(
            f"say why: {' and '.join(missing)} missing; a purpose is a code of the directory, "
            f"such as {_PURPOSES}"
        )
    with usage():
        check_code(purpose, "purpose")
    check_case(case)


def check_case(case: str) -> None:
    """Raise UsageError when a case reference is too long."""
    if len(case) > REFERENCE_CHARS:
        raise UsageError(f"--case is longer than {REFERENCE_CHARS} characters; shorten it")


def parse_agency(text: str) -> str:
    """Return an agency id or raise UsageError."""
    with usage():
        return check_agency(text)


def parse_country(text: str) -> str:
    """Return a country code in capitals or raise UsageError."""
    with usage():
        return check_known_country(text.strip().upper())


def parse_pair(text: str, option: str) -> tuple[str, str]:
    """Return scheme and value of ``SCHEME:VALUE``; both empty for an empty text."""
    if not text:
        return "", ""
    scheme, _, value = text.partition(":")
    if not scheme.strip() or not value.strip() or len(scheme) > CODE_CHARS:
        raise UsageError(f"{option} {text[:80]!r} has not the form SCHEME:VALUE")
    return scheme.strip(), value.strip()


def parse_day(text: str, option: str) -> str:
    """Return ``YYYY-MM-DD`` as it is, "" for none; raise UsageError for anything else."""
    if not text:
        return ""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise UsageError(f"{option} {text[:32]!r} is no day; write it as 2030-12-31") from None


HandlingOption = Annotated[
    str,
    typer.Option(
        "--handling", metavar="H0..H3", help="Europol handling code; the node's default is H0."
    ),
]
RestrictionOption = Annotated[
    str, typer.Option("--restriction", metavar="TEXT", help="The words of H3.")
]
TlpOption = Annotated[
    str,
    typer.Option("--tlp", metavar="TLP", help="clear, green, amber, amber+strict or red."),
]
SourceOption = Annotated[
    str, typer.Option("--source", metavar="A|B|C|X", help="Evaluation of the source.")
]
InformationOption = Annotated[
    int | None,
    typer.Option("--information", min=1, max=4, help="Evaluation of the information, 1 to 4."),
]
RetainOption = Annotated[
    str,
    typer.Option("--retain-until", metavar="DATE", help="The day of erasure, YYYY-MM-DD."),
]


def parse_handling(
    code: str,
    *,
    tlp: str,
    source: str,
    information: int | None,
    retain_until: str,
    restriction: str,
) -> series_pb2.Handling:
    """Return the handling that the options state; what they leave open the node fills in."""
    with usage():
        parsed_code = parse_handling_code(code) if code else HandlingCode.H0
        parsed_tlp = int(Tlp.parse(tlp)) if tlp else 0
    source = source.strip().upper()
    if source and source not in ("A", "B", "C", "X"):
        raise UsageError(f"--source {source[:8]!r} is not A, B, C or X")
    if (parsed_code is HandlingCode.H3) != bool(restriction.strip()):
        raise UsageError("H3 and --restriction TEXT go together: give both or neither")
    return series_pb2.Handling(
        code=int(parsed_code),
        tlp=parsed_tlp,
        source=source,
        information=information or 0,
        retain_until=parse_day(retain_until, "--retain-until"),
        restriction=restriction,
    )


# --- long work --------------------------------------------------------------------------------


class ProgressBar:
    """How far a file has come; in a pipe it shows nothing."""

    def __init__(self, bar: Progress | None, what: str, total: int) -> None:
        self._bar, self._total = bar, total
        self._task = None if bar is None else bar.add_task(inert(what), total=max(total, 1))
        self._step = max(total // 1000, 1)
        self._shown = 0

    def read(self, done: int) -> None:
        """Take the bytes read so far."""
        # Readers tell every few KiB; a thousand steps are enough for the eye.
        if done - self._shown >= self._step or done >= self._total or done < self._shown:
            self._shown = done
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, completed=done)

    def counted(self, records: int) -> None:
        """Take the records that the node has so far."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, records=records)


CountBar = Callable[[int], None]
"""Takes how many are done so far."""


@contextmanager
def count_bar(what: str, total: int) -> Iterator[CountBar]:
    """Show how many are done, and the time left, on a terminal; else nothing. 0: total unknown."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    )
    with bar:
        task = bar.add_task(inert(what), total=total or None)
        yield lambda done: bar.update(task, completed=done)


class _RecordsColumn(ProgressColumn):
    """Records that the node has, and how many a second."""

    def render(self, task: Task) -> Text:
        records = task.fields.get("records")
        if not records:
            return Text("")
        return Text(f"{records:,} records, {records / max(task.elapsed or 0.0, 0.1):,.0f}/s")


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[ProgressBar]:
    """Show bytes done of ``total``, their rate and the time left, on a terminal; else nothing."""
    if not sys.stderr.isatty():
        yield ProgressBar(None, what, total)
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        _RecordsColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    )
    with bar:
        yield ProgressBar(bar, what, total)
