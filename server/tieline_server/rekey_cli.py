"""`tieline node rekey`, `revoke` and `restate`: what an agency states of itself, changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.directory import parse_serial
from tieline_client.errors import InvalidInput, UsageError
from tieline_client.profile import utc_now

from tieline_server import at_rest
from tieline_server.config import Home

if TYPE_CHECKING:
    from tieline_server.rekeying import HandedIn

HomeArgument = Annotated[Path, typer.Argument(help="The node's folder.", show_default=False)]


@run
def rekey(
    home: HomeArgument,
    *,
    ca: Annotated[bool, typer.Option("--ca", help="The node CA.")] = False,
    operator_ca: Annotated[
        bool, typer.Option("--operator-ca", help="The CA of the agency's people.")
    ] = False,
    signing: Annotated[
        bool, typer.Option("--signing", help="The key that signs messages.")
    ] = False,
    directory: Annotated[
        bool, typer.Option("--directory", help="The key behind this agency's statements.")
    ] = False,
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of the next CA, if its key is elsewhere."),
    ] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="Take up the next keys; the node must be stopped.")
    ] = False,
    leave_behind: Annotated[
        bool,
        typer.Option(help="With --finish: end the access of who has not refreshed their profile."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Roll keys over with an overlap: begin (old and new are valid), later finish.

    Without an option, show what is under way.
    """
    from tieline_server.rekeying import Rekeying  # noqa: PLC0415 - heavy
    from tieline_server.wiring.process import only_one  # noqa: PLC0415 - heavy

    os.umask(0o077)
    Home(home).check()
    what = [
        name
        for name, wanted in (
            ("ca", ca),
            ("operator-ca", operator_ca),
            ("signing", signing),
            ("directory", directory),
        )
        if wanted
    ]
    if finish and what:
        raise UsageError("--finish ends all that is under way; give it alone")
    if certificate is not None and ca == operator_ca:
        raise UsageError("--certificate is of one next CA; give --ca or --operator-ca with it")
    if leave_behind and not finish:
        raise UsageError("--leave-behind belongs to --finish")
    work, now = Rekeying(home), utc_now()
    if finish:
        with only_one(work.home):
            at_rest.sweep(work.home)
            done = work.finish(now, leave_behind=leave_behind)
    elif what:
        done = work.begin(what, now, certificate)
    else:
        done = work.standing(now)
    result = {
        "under_way": list(done.under_way),
        **_document(done),
        "to_sign": str(done.to_sign) if done.to_sign else None,
    }

    def show() -> None:
        line(f"being rolled over: {', '.join(done.under_way) or 'nothing'}")
        _tell(done)
        if done.to_sign:
            line(f"have {done.to_sign} signed by the next CA and run")
            line(f"tieline node renew {home} --import LEAF, then --finish")
        if operator_ca:
            line("everybody runs `tieline operator refresh PROFILE` before --finish;")
            line("`tieline node status` says who has not")

    emit(as_json, result, show)


@run
def revoke(
    home: HomeArgument,
    serial: Annotated[str, typer.Argument(help="The certificate's serial number, hex.")],
    as_json: Json = False,
) -> None:
    """Revoke a certificate that this agency's own CAs issued, for the whole federation."""
    from tieline_server.rekeying import Rekeying  # noqa: PLC0415 - heavy

    os.umask(0o077)
    Home(home).check()
    try:
        number = parse_serial(serial)
    except InvalidInput as error:
        raise UsageError(error.message) from None
    done = Rekeying(home).revoke(number, utc_now())
    emit(as_json, {"serial": f"{number:x}", **_document(done)}, lambda: _tell(done))


@run
def restate(home: HomeArgument, as_json: Json = False) -> None:
    """State anew what config.toml says: where the node is reached, and the duty contact."""
    from tieline_server.rekeying import Rekeying  # noqa: PLC0415 - heavy

    os.umask(0o077)
    Home(home).check()
    done = Rekeying(home).restate(utc_now())
    emit(as_json, _document(done), lambda: _tell(done))


def _document(done: HandedIn) -> dict[str, object]:
    return {
        "version": done.version,
        "waits": done.waits,
        "request": str(done.authority.file) if done.authority else None,
        "command": done.authority.command if done.authority else None,
        "fingerprint": done.authority.fingerprint if done.authority else None,
        "trouble": done.trouble,
    }


def _tell(done: HandedIn) -> None:
    if done.trouble:
        say(f"attention: {done.trouble}")
    elif done.version is not None:
        line(f"the directory holds what was stated, version {done.version}")
    if done.waits:
        say(f"signed and kept, not in the directory yet: {done.waits}")
    asked = done.authority
    if asked is not None and asked.command == "admit":
        line(f"the new directory key is to be admitted, with fingerprint {asked.fingerprint}:")
        line(f"tieline federation admit DIR {asked.file} --role ROLE --fingerprint HEX")
    elif asked is not None:
        line(f"the authority can take it: tieline federation accept DIR {asked.file}")
