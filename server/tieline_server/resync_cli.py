"""`tieline node resync`: the operator's word that this home is the one that lives."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.errors import UsageError
from tieline_client.profile import utc_now

from tieline_server.config import Home
from tieline_server.domain.audit import AuditEntry

HomeArgument = Annotated[Path, typer.Argument(help="The node's folder.", show_default=False)]

_WARNING = (
    "From now on this home is the agency's one node. Peers replay what it lacks, and refuse every "
    "other copy of it for good. Any other copy must be off; what only that copy took in or sent "
    "comes back from the peers, what people entered there alone does not."
)


@run
def resync(
    home: HomeArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Say that this home lives, after peers found it set back or running twice. Stop it first."""
    # heavy; other commands stay quick
    from tieline_server.services.standing_answers import begin_new_epoch  # noqa: PLC0415
    from tieline_server.storage.engine import open_store  # noqa: PLC0415
    from tieline_server.wiring.process import only_one  # noqa: PLC0415

    os.umask(0o077)
    place = Home(home)
    config = place.config()
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody is there to confirm; say --yes")
        say(_WARNING)
        if not typer.confirm("Go on?", err=True):
            raise typer.Exit(1)
    with only_one(place), closing(open_store(place.database_url(config), clock=utc_now)) as store:
        epoch = begin_new_epoch(store)
        entry = AuditEntry(
            action="node.resynchronised",
            at=utc_now(),
            agency=config.agency,
            detail={"epoch": epoch, "user": os.getuid()},
        )
        store.write(lambda tx: tx.audit.append(entry))
        store.drain()
    result = {"agency": config.agency, "home": str(home), "epoch": epoch}
    emit(as_json, result, lambda: line(f"{config.agency} begins a new epoch; start the node now"))
