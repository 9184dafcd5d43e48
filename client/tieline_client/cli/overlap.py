"""`tieline overlap`: which records of a file do other agencies hold too?"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from tieline_client.asked_file import AskedFile
from tieline_client.asking import AskOptions
from tieline_client.auditor_client import get_receipt
from tieline_client.cli.answers import Answers, say_perceptual
from tieline_client.cli.common import (
    CaseOption,
    HomeOption,
    ProfileOption,
    PurposeOption,
    check_why,
    confirm,
    connect,
    on_terminal,
    parse_agency,
    parse_pair,
    progress_bar,
)
from tieline_client.cli.comparison import Comparison
from tieline_client.cli.output import Json, emit, run, say
from tieline_client.cli.peer_ends import End, complain, exit_code
from tieline_client.cli.unread import say_unread
from tieline_client.digests import parse
from tieline_client.errors import EXIT_FAILED, InvalidDigest, LimitExceeded, UsageError
from tieline_client.formats import Record
from tieline_client.formats.block_reading import open_blocks
from tieline_client.formats.blocks import gathered
from tieline_client.limits import QUERY_SECONDS_MOST, STDIN_BYTES
from tieline_client.operator_client import OperatorClient
from tieline_client.receipts import Receipt
from tieline_client.record_stream import source_name

_COPY_BYTES = 1024 * 1024
LEVELS = ("count", "reference", "detail")
Level = Literal["count", "reference", "detail"]


@run
def overlap(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE|HASH|-", help="A file of hashes, a hash as sha1:HEX, or - for stdin."
        ),
    ] = None,
    *,
    collection: Annotated[
        bool,
        typer.Option("--collection", help="Ask all that this agency holds, series by series."),
    ] = False,
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="AGENCY", help="Ask this agency; may be repeated."),
    ] = None,
    everyone: Annotated[
        bool, typer.Option("--all", help="Ask every member, after saying who they are.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --all: do not ask back.")] = False,
    near: Annotated[
        bool,
        typer.Option("--near", help="Compare PDQ too; 64 bare hex digits are then PDQ."),
    ] = False,
    level: Annotated[
        Level,
        typer.Option(help="What to ask for where a person at the peer has to release it."),
    ] = "reference",
    purpose: PurposeOption = "",
    case: CaseOption = "",
    category: Annotated[
        str,
        typer.Option(
            metavar="SCHEME:CODE", help="The category of records that carry none, as vics-us:1."
        ),
    ] = "",
    deadline: Annotated[
        int | None,
        typer.Option(
            metavar="SECONDS",
            min=1,
            max=QUERY_SECONDS_MOST,
            show_default=False,
            help="How long to wait for a peer.",
        ),
    ] = None,
    receipts: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Save each answer's receipt here, to be verified later."),
    ] = None,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Ask other agencies which records of a file they hold too, or of all that this agency holds.

    In place of a file a single hash may stand: sha1:HEX and the like, or bare digits.

    Without --peer or --all, those are asked that policy lists for the purpose. Answers are shown
    as they come. Exit code 4 when a peer could not be reached, 3 when all refused, 1 when nothing
    of the file could be asked.

    Example: tieline overlap found.csv --purpose victim-identification --case 2026-118
    """
    check_why(purpose, case)
    peers = tuple(parse_agency(each) for each in peer or ())
    if receipts is not None and not receipts.is_dir():
        raise UsageError(f"there is no folder {receipts}; make it first")
    if peers and everyone:
        raise UsageError("give --peer or --all, not both")
    options = AskOptions(
        purpose=purpose,
        case_ref=case,
        peers=peers,
        everyone=everyone,
        near=near,
        category=parse_pair(category, "--category"),
        deadline_seconds=deadline or 0,
        wish=LEVELS.index(level) + 2,
    )
    if collection:
        if file is not None or category:
            raise UsageError("--collection takes no FILE and no --category")
        with connect(profile, home) as client:
            if everyone:
                _show_everyone(client, purpose, ask_back=not yes)
            compared = Comparison(show=not as_json)
            compared.run(client, options)
            _save_receipts(client, receipts, compared.answers)
        emit(as_json, compared.document(), compared.close)
        _finish(compared.answers)
        return
    if file is None:
        raise UsageError("give a FILE, a hash, - for stdin, or --collection")
    typed = _typed_hash(file, near=near)
    with connect(profile, home) as client, _records(file, typed, near=near) as asked:
        if everyone:
            _show_everyone(client, purpose, ask_back=not yes and str(file) != "-")
        answers = Answers(show=not as_json)
        client.ask_overlap(asked, options, answers.take)
        _save_receipts(client, receipts, answers.answers)
    document = answers.document(asked)
    emit(as_json, document, lambda: answers.close(asked))
    say_perceptual(asked, "asked")
    _finish(answers.answers, answers.nothing(asked))


def _save_receipts(
    client: OperatorClient, folder: Path | None, ends: Mapping[str, End | None]
) -> None:
    """Write what each peer signed, one file for each receipt."""
    for agency, end in ends.items() if folder is not None else ():
        number = end.receipt if end is not None else ""
        if folder is None or not number:
            continue
        found = get_receipt(client, number)
        Receipt(found.question, found.receipt, {}, found.list_salt).save(
            folder / f"{agency}-{number}.json"
        )


def _finish(ends: Mapping[str, End | None], nothing: str = "") -> None:
    """End with the peers' exit code, or with that of input of which ``nothing`` could be asked."""
    complain(ends)
    if nothing:
        say(f"error: {nothing}")
    if code := exit_code(ends) or (EXIT_FAILED if nothing else 0):
        raise typer.Exit(code)


def _show_everyone(client: OperatorClient, purpose: str, *, ask_back: bool) -> None:
    """Say who will be asked; on a terminal, ask whether they shall."""
    members = client.list_peers(purpose)
    say(f"--all asks {len(members)} members:")
    for member in members:
        countries = " ".join(member.countries) or "no country"
        note = "" if member.listed else "; not listed for this purpose, will refuse or be refused"
        say(f"  {member.agency}: {member.name} ({member.role}, {countries}{note})")
    if ask_back and on_terminal():
        confirm("ask them all?")


def _typed_hash(file: Path, *, near: bool) -> Record | None:
    """Return the one record of a hash that stands in place of a file; None for a file that is
    there, or stdin. Raises UsageError when it is neither."""
    if str(file) == "-" or file.exists():
        return None
    try:
        kind, digest = parse(str(file), bare_64_is_pdq=near)
    except InvalidDigest as error:
        hexadecimal = ":" in str(file) or re.fullmatch("[0-9A-Fa-f]+", str(file))
        why = f", and as a hash: {error.message}" if hexadecimal else ""
        raise UsageError(f"there is no file {file}; check the path{why}") from None
    record = Record(1, entire=True)
    setattr(record, kind.label, digest)
    return record


@contextmanager
def _records(file: Path, typed: Record | None, *, near: bool) -> Iterator[AskedFile]:
    """Yield what is asked: the hash that was typed, or the records of a file."""
    if typed is not None:
        yield AskedFile(str(file), [gathered([typed])])
        return
    with _input(file) as path, progress_bar("reading", path.stat().st_size) as bar:
        say_unread(path)
        blocks = open_blocks(path, bare_64_is_pdq=near, on_progress=bar.read)
        yield AskedFile(source_name(path), blocks)


@contextmanager
def _input(file: Path) -> Iterator[Path]:
    """Yield a regular file: the one named, or stdin spooled to one that only we may read."""
    if str(file) != "-":
        yield file
        return
    if sys.stdin.isatty():
        say("reading hashes from the terminal; end with Ctrl-D")
    with tempfile.TemporaryDirectory(prefix="tieline-") as folder:
        path = Path(folder) / "stdin"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as spool:
            size = 0
            while chunk := sys.stdin.buffer.read(_COPY_BYTES):
                size += len(chunk)
                if size > STDIN_BYTES:
                    raise LimitExceeded(
                        f"stdin holds more than {STDIN_BYTES} bytes; give a file instead"
                    )
                spool.write(chunk)
        yield path
