"""`tieline doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import typer
from cryptography import x509
from tieline.v1 import doctor_pb2

from tieline_client.cli.common import HomeOption, ProfileOption, connect
from tieline_client.cli.output import Json, emit, inert, out, run, time_text
from tieline_client.errors import TielineError
from tieline_client.findings import Finding, LookAtHome, State, exit_code
from tieline_client.profile import Profile, find_profile, utc_now

ENTRY_POINTS = "tieline.commands"
_SOON = timedelta(days=7)
_STATES = {
    doctor_pb2.FINDING_STATE_WELL: State.WELL,
    doctor_pb2.FINDING_STATE_WARNING: State.WARNING,
    doctor_pb2.FINDING_STATE_FAILED: State.FAILED,
}
_MARKS = {State.WELL: "ok  ", State.WARNING: "warn", State.FAILED: "FAIL"}
_STYLES = {State.WELL: "green", State.WARNING: "yellow", State.FAILED: "bold red"}


@run
def doctor(
    *, profile: ProfileOption = None, home: HomeOption = None, as_json: Json = False
) -> None:
    """Look a profile, a home and its running node over; say what to do about each finding.

    Exit code 0: nothing failed (warnings may stand). 1: something failed. 4: nothing but peers
    that cannot be reached.

    Example: tieline doctor --home ./pt-pj
    """
    findings = list(_at_home(home) if home is not None else ())
    try:
        path = find_profile(profile, home)
        findings += _profile(path)
        with connect(profile, home) as client:
            findings += [_finding(one) for one in client.examine()]
    except TielineError as error:
        findings.append(Finding("node", State.FAILED, error.message, _advice(error)))
    code = exit_code(findings)
    document = {
        "well": code == 0,
        "findings": [
            {
                "check": one.check,
                "state": one.state.value,
                "text": one.text,
                "advice": one.advice,
            }
            for one in findings
        ],
    }
    emit(as_json, document, lambda: _show(findings))
    if code:
        raise typer.Exit(code)


def _show(findings: list[Finding]) -> None:
    for one in findings:
        out.print(_MARKS[one.state], style=_STYLES[one.state], end=" ")
        out.print(inert(f"{one.check:12} {one.text}"), soft_wrap=True)
        if one.advice:
            out.print(inert(f"     {'':12} -> {one.advice}"), soft_wrap=True)


def _finding(one: doctor_pb2.Finding) -> Finding:
    return Finding(one.check, _STATES.get(one.state, State.FAILED), one.text, one.advice)


def _advice(error: TielineError) -> str:
    said = {
        "UNREACHABLE": "see that the node runs and that the profile has its address",
        "UNTRUSTED": "ask an admin for a new profile",
    }
    return said.get(error.reason, "do what the line says, then look again")


def _at_home(home: Path) -> Iterator[Finding]:
    """What the node's parts, where they are installed, see of a home from outside."""
    brought = [one for one in entry_points(group=ENTRY_POINTS) if one.name == "node"]
    if not brought:
        yield Finding(
            "home",
            State.WARNING,
            "the home itself is not looked at",
            "install the node's parts: pip install 'tieline[node]'",
        )
    for entry in brought:
        # The module that brings `tieline node` brings this look too.
        look: LookAtHome = import_module(entry.module).look_at_home
        yield from look(home)


def _profile(path: Path) -> Iterator[Finding]:
    """The person's own file: who may read it, its key, its certificate."""
    profile = Profile.load(path)
    yield Finding("profile", State.WELL, f"{path} is {profile.operator}'s at {profile.agency}")
    if not profile.encrypted:
        yield Finding(
            "profile-key",
            State.WARNING,
            f"the key in {path} is plain",
            f"for real use: `{_renewal(profile)} --encrypt` makes another, "
            "in a home `tieline node passphrase`",
        )
    ends = x509.load_pem_x509_certificate(profile.certificate.encode()).not_valid_after_utc
    now = utc_now()
    if ends - _SOON > now:
        yield Finding("certificate", State.WELL, f"valid until {time_text(ends)}")
    else:
        yield Finding(
            "certificate",
            State.WARNING if ends > now else State.FAILED,
            f"the certificate of {profile.operator} ends {time_text(ends)}",
            f"have an admin run `{_renewal(profile)}`",
        )


def _renewal(profile: Profile) -> str:
    """The command that makes a person's next profile; what they may do is stated anew."""
    return f"tieline operator add {profile.operator} --role ROLE --out FILE"
