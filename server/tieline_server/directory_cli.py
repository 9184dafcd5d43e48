"""`tieline node directory`: the directory as one file, for where TLS is dead."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from tieline.v1 import directory_pb2
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.errors import UsageError
from tieline_client.payloads import moment
from tieline_client.profile import utc_now

from tieline_server.config import Home

directory_app = group("Bring the federation's directory in from a file, or write it into one.")

HOME_VARIABLE = "TIELINE_HOME"


def directory_document(standing: directory_pb2.DirectoryStanding) -> dict[str, object]:
    """Return how a node's copy stands, for `tieline node status`."""
    return {
        "source": standing.source or None,
        "refreshed": moment(standing.refresh_time).isoformat()
        if standing.HasField("refresh_time")
        else None,
        "online": standing.online,
        "problem": standing.problem or None,
        "parts": [
            {
                "role": part.role,
                "version": part.version,
                "expires": moment(part.expire_time).isoformat(),
            }
            for part in standing.parts
        ],
    }


@directory_app.command(
    name="import", epilog="Example: tieline node directory import /srv/tieline directory.json"
)
@run
def import_directory(
    words: Annotated[
        list[Path],
        typer.Argument(metavar="[HOME] FILE", help="The node's folder, and the file or folder."),
    ],
    home: Annotated[
        Path | None, typer.Option(envvar=HOME_VARIABLE, help="The node's folder, if not named.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take a directory from a file of `export`, or from a federation's public folder.

    The node may run. What is older than its own copy, or not signed as it must be, is refused.
    """
    from tieline_server.trust import own_keys  # noqa: PLC0415 - heavy
    from tieline_server.trust.bundle import bring_in  # noqa: PLC0415 - heavy
    from tieline_server.trust.directory_store import DirectoryStore  # noqa: PLC0415 - heavy

    if len(words) not in (1, 2):
        raise UsageError("name the home and one file: tieline node directory import HOME FILE")
    path = words[0] if len(words) == 2 else home
    if path is None:
        raise UsageError(f"name the home before the file, or in --home or {HOME_VARIABLE}")
    Home(path).check()
    now = utc_now()
    before, directory = bring_in(path, words[-1], now)
    apart = own_keys.look(path, Home(path).config().agency, DirectoryStore(path), now)
    result = {
        "version": directory.version,
        "before": before,
        "expires": directory.expires.isoformat(),
        "expired": directory.expires <= now,
    }
    if apart is not None:
        say(f"attention: {apart.text}; {apart.advice}")
    if directory.expires <= now:
        say("this directory has expired too: let the authority publish a newer one")

    def show() -> None:
        line(f"directory version {directory.version} (before: {before}), ends {directory.expires}")

    emit(as_json, result, show)


@directory_app.command(epilog="Example: tieline node directory export /srv/tieline directory.json")
@run
def export(
    home: Annotated[Path, typer.Argument(help="The node's folder.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Write the node's own copy into one file, which any member can import. It holds no secret."""
    from tieline_server.trust import bundle  # noqa: PLC0415 - heavy
    from tieline_server.trust.directory_store import DirectoryStore  # noqa: PLC0415 - heavy

    Home(home).check()
    copy = DirectoryStore(home).copy()
    bundle.write(file, copy)
    version = copy.parsed_snapshot.version
    result = {
        "version": version,
        "expires": copy.expires.isoformat(),
        "root": copy.root_fingerprint,
        "file": str(file),
    }
    emit(as_json, result, lambda: line(f"directory version {version} is in {file}"))
