"""`tieline node resync`: the operator's word that this home is the one that lives."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.errors import UsageError
from tieline_client.identifiers import check_agency
from tieline_client.profile import utc_now

from tieline_server.config import Home
from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.ports import Store, Tx

HomeArgument = Annotated[Path, typer.Argument(help="The node's folder.", show_default=False)]

_WARNING = (
    "From now on this home is the agency's one node. Peers replay what it lacks, and refuse every "
    "other copy of it for good. Any other copy must be off; what only that copy took in or sent "
    "comes back from the peers, what people entered there alone does not."
)


@run
def resync(
    home: HomeArgument,
    accept: Annotated[
        str, typer.Option(metavar="AGENCY", help="Take a quarantined peer back instead.")
    ] = "",
    reason: Annotated[str, typer.Option(help="Why the peer is taken back, in words.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Say that this home lives, after peers found it set back or running twice. Stop it first.

    With --accept: end this node's quarantine of a peer, whose agency has said that nothing is lost.
    """
    os.umask(0o077)
    place = Home(home)
    config = place.config()
    if accept:
        _accept(place, config.agency, accept, reason, as_json)
        return
    if reason:
        raise UsageError("--reason goes with --accept AGENCY")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody is there to confirm; say --yes")
        say(_WARNING)
        if not typer.confirm("Go on?", err=True):
            raise typer.Exit(1)
    from tieline_server.services.standing_answers import begin_new_epoch  # noqa: PLC0415

    def log(tx: Tx, epoch: str) -> None:
        entry = AuditEntry(
            action="node.resynchronised",
            at=utc_now(),
            agency=config.agency,
            detail={"epoch": epoch, "user": os.getuid()},
        )
        tx.audit.append(entry)

    with _stopped(place) as store:
        epoch = begin_new_epoch(store, log)
        store.drain()
    result = {"agency": config.agency, "home": str(home), "epoch": epoch}
    emit(as_json, result, lambda: line(f"{config.agency} begins a new epoch; start the node now"))


@contextmanager
def _stopped(place: Home) -> Iterator[Store]:
    """Open the database of a node that does not run; the modules are heavy, so only here."""
    from tieline_server.storage.engine import open_store  # noqa: PLC0415
    from tieline_server.wiring.process import only_one  # noqa: PLC0415

    url = place.database_url(place.config())
    with only_one(place), closing(open_store(url, clock=utc_now)) as store:
        yield store


def _accept(place: Home, own: str, peer: str, reason: str, as_json: bool) -> None:
    from tieline_server.services.accepting import accept  # noqa: PLC0415

    check_agency(peer)
    if not reason.strip():
        raise UsageError("--reason is empty; say why the peer is taken back, in words")
    try:
        person = getpass.getuser()
    except (KeyError, OSError):
        person = str(os.getuid())
    with _stopped(place) as store:
        held = accept(store, own, peer, person, reason.strip()[:500], utc_now())
        store.drain()
    result = {"agency": own, "accepted": peer, "held": held}
    emit(as_json, result, lambda: line(f"{own} takes {peer} back; start the node now"))
