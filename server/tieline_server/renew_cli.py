"""`tieline node renew`: the node's next leaf, now or from an offline CA."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.errors import ConfigurationError, TielineError
from tieline_client.profile import utc_now

from tieline_server.config import Home


@run
def renew(
    home: Annotated[Path, typer.Argument(help="The node's folder.", show_default=False)],
    leaf: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="A leaf that the CA issued elsewhere."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Issue the node's next leaf; with an offline CA write the request for it, or import it.

    A leaf that is imported goes through the checks that every peer will apply; a refused one is
    named with the reason, and the present leaf stays. A node that serves takes the new leaf up
    within seconds; no restart, no lost call.
    """
    from tieline_server import renewing  # noqa: PLC0415 - heavy; other commands stay quick
    from tieline_server.trust.ca_keys import load_own_authority  # noqa: PLC0415
    from tieline_server.trust.directory_store import DirectoryStore  # noqa: PLC0415

    os.umask(0o077)
    place = Home(home)
    config = place.config()
    store = DirectoryStore(home)
    if not store.joined:
        raise ConfigurationError(
            f"{config.agency} has joined no federation; run `tieline node join HOME` first"
        )
    try:
        directory = store.refresh(utc_now())
    except TielineError as error:
        say(f"the directory as this home has it: {error.message}")
        directory = store.current()
    passphrase = keys.passphrase_from_environment()
    if leaf is not None:
        done = renewing.import_leaf(place, config, directory, leaf, passphrase, utc_now())
    else:
        authority = load_own_authority(
            Kind.NODE,
            directory.federation,
            config.agency,
            keys_folder=place.keys,
            certs=place.certs,
            uri=config.node_ca_key,
            passphrase=passphrase,
        )
        done = renewing.renew(place, config, directory, authority, passphrase, utc_now())
    result = {
        "agency": config.agency,
        "request": done.request,
        "serial": f"{done.serial:x}" if done.serial else None,
        "expires": done.expires,
    }

    def show() -> None:
        if done.request is not None:
            line(f"the node CA's key is not here: have {done.request} signed, then run")
            line(f"tieline node renew {home} --import FILE")
        else:
            line(f"leaf {done.serial:x}, valid until {done.expires:%Y-%m-%d %H:%M} UTC")

    emit(as_json, result, show)
