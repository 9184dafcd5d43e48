"""What `tieline federation` asks a person: fingerprints and passphrases.

In a pipe nobody can answer, so there each question is an error that says which option or file
answers it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer
from tieline_client import keys, limits
from tieline_client.cli.output import say
from tieline_client.errors import UsageError
from tieline_client.inert import inert

from tieline_server.trust import federation_edits, files
from tieline_server.trust.request import Request


def compare_fingerprint(request: Request, given: str | None, *, trial: bool) -> None:
    """Have the request's fingerprint compared with the one that came by another channel.

    A trial may leave it out, and is told so. Raises UsageError in a pipe without one, and
    AdmissionRefused when the two differ.
    """
    if given is None and trial:
        say(f"trial: the fingerprint {request.fingerprint} was not compared")
        return
    if given is None:
        if not sys.stdin.isatty():
            raise UsageError(
                "--fingerprint HEX is required here; ask the agency for it by another channel"
            )
        claims = request.claims
        say(f"{claims.agency} ({claims.name}) asks to be {claims.role}")
        given = str(typer.prompt("Fingerprint that the agency told you", err=True))
    federation_edits.check_fingerprint(request, given)


def confirm_admissions(
    requests: Sequence[Request], given: Sequence[str] | None, *, trial: bool
) -> None:
    """Show a holder whom the signature admits, and have each fingerprint compared.

    Given fingerprints must be those of the requests, all of them. On a terminal the holder says
    so; in a pipe they must be given. A trial skips it. Raises AdmissionRefused, UsageError.
    """
    if trial or not requests:
        return
    if given is None and not sys.stdin.isatty():
        agencies = ", ".join(one.claims.agency for one in requests)
        raise UsageError(
            f"--fingerprint HEX is required here for each that is to be admitted ({agencies}); ask"
            " them by another channel"
        )
    left = [federation_edits.plain_fingerprint(one) for one in given or ()]
    for request in requests:
        claims = request.claims
        say(f"to be admitted: {claims.agency} ({claims.name}), request {request.fingerprint}")
        if given is not None:
            if request.fingerprint not in left:
                raise federation_edits.AdmissionRefused(
                    f"none of the fingerprints given is that of the request of {claims.agency}; "
                    "do not sign for what the agency did not send"
                )
            left.remove(request.fingerprint)
        elif not typer.confirm(f"Did {inert(claims.agency)} tell you this fingerprint?", err=True):
            raise federation_edits.AdmissionRefused(
                f"not signed: ask {claims.agency} for the fingerprint by another channel"
            )
    if left:
        raise federation_edits.AdmissionRefused(
            "a fingerprint given is of no request that is proposed; nothing is signed"
        )


def new_passphrases(count: int) -> list[bytes | None]:
    """Return a passphrase for each holder: from TIELINE_PASSPHRASE_FILE, or asked for twice."""
    given = keys.passphrase_from_environment()
    if given is None:
        numbers = range(1, count + 1)
        return [_ask(f"New passphrase for holder {number}", confirm=True) for number in numbers]
    if count > 1:
        say(f"one passphrase from {keys.PASSPHRASE_VARIABLE} encrypts all {count} keys")
    return [given] * count


def load_key(path: Path) -> keys.PrivateKey:
    """Read a holder's key, asking for its passphrase where it needs one."""
    pem = files.read_bounded(path, limits.KEY_FILE_BYTES) or b""
    if b"ENCRYPTED" not in pem:
        return keys.load(path)
    passphrase = keys.passphrase_from_environment()
    return keys.load(path, passphrase or _ask(f"Passphrase of {path.name}", confirm=False))


def _ask(question: str, *, confirm: bool) -> bytes:
    if not sys.stdin.isatty():
        raise UsageError(
            f"a passphrase is needed; name a file with it in {keys.PASSPHRASE_VARIABLE}, "
            "or run this on a terminal"
        )
    answer = typer.prompt(inert(question), hide_input=True, confirmation_prompt=confirm, err=True)
    return str(answer).encode()
