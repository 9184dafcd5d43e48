"""`tieline node passphrase`: encrypt the private keys of a home, or change their passphrase."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from tieline_client import keys
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.errors import UsageError
from tieline_client.limits import PASSPHRASE_CHARS_LEAST

from tieline_server import at_rest
from tieline_server.config import Home


@run
def passphrase(
    home: Annotated[Path, typer.Argument(help="The node's folder.", show_default=False)],
    new: Annotated[
        Path | None,
        typer.Option("--new-passphrase-file", help="Mode 0600; else asked for on a terminal."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Encrypt all private keys of a home under a new passphrase. Stop the node first.

    The present passphrase, where there is one, comes from TIELINE_PASSPHRASE_FILE. If the command
    is cut off, run it again: what is under the new one already stays. What plain files held may
    still be found on the disk; after a change for cause make a new home.
    """
    from tieline_server.wiring.process import only_one  # noqa: PLC0415 - heavy

    os.umask(0o077)
    place = Home(home)
    place.check()
    old = keys.passphrase_from_environment()
    chosen = keys.read_passphrase(new, "--new-passphrase-file") if new else _ask()
    if len(chosen.decode("utf-8", "replace")) < PASSPHRASE_CHARS_LEAST:
        raise UsageError(
            f"the new passphrase has fewer than {PASSPHRASE_CHARS_LEAST} characters; "
            "take a longer one"
        )
    with only_one(place):
        at_rest.sweep(place)
        count = at_rest.encrypt(place, old, chosen)
    say(
        f"from now on {keys.PASSPHRASE_VARIABLE} must name a file with it, or systemd give the "
        f"credential {keys.PASSPHRASE_CREDENTIAL}"
    )
    emit(
        as_json,
        {"home": str(home), "keys": count},
        lambda: line(f"{count} private keys are encrypted"),
    )


def _ask() -> bytes:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("give --new-passphrase-file, or run this on a terminal")
    first = getpass.getpass("new passphrase: ")
    if first != getpass.getpass("again: "):
        raise UsageError("the passphrases differ; run the command again")
    return first.encode()
