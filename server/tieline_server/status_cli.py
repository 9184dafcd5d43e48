"""`tieline node status`: the running node, as its operator port tells it."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Annotated

import typer
from tieline.v1 import operator_pb2
from tieline_client.cli.common import connect
from tieline_client.cli.output import Json, emit, line, run
from tieline_client.cli.sheets import sheet
from tieline_client.inert import inert
from tieline_client.payloads import moment

from tieline_server.config import Home
from tieline_server.directory_cli import directory_document

HomeArgument = Annotated[Path, typer.Argument(help="The node's folder.", show_default=False)]


def _attachment(one: operator_pb2.Attachment) -> dict[str, str | None]:
    since = moment(one.since).isoformat() if one.HasField("since") else None
    return {"agency": one.agency, "since": since, "reason": one.reason or None}


def _purge(one: operator_pb2.PurgeView) -> dict[str, object]:
    return {
        "series": one.series,
        "cause": one.cause,
        "state": one.state,
        "holdings": one.holdings,
        "began": moment(one.create_time).isoformat(),
        "reason": one.reason,
    }


def _last_backup(answer: operator_pb2.GetStatusResponse) -> dict[str, str] | None:
    if not answer.HasField("backup_time"):
        return None
    return {
        "made": moment(answer.backup_time).isoformat(),
        "expires": moment(answer.backup_expire_time).isoformat(),
    }


@run
def status(
    home: HomeArgument,
    profile: Annotated[
        Path | None, typer.Option(help="Who asks, if not the first operator.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the running node: directory, leaf, queues, and what needs attention."""
    Home(home).check()
    with connect(profile, None if profile else home) as client:
        answer = client.get_status()
    result = {
        "alarms": [
            f"{one.kind} {one.referral} {one.sender} > {one.recipient}"
            f" since {moment(one.raise_time).isoformat()}"
            for one in answer.alarms
        ],
        "agency": answer.agency,
        "federation": answer.federation,
        "role": answer.role,
        "countries": list(answer.countries),
        "directory_version": answer.directory_version,
        "directory_expires": moment(answer.directory_expire_time).isoformat(),
        "directory": directory_document(answer.directory),
        "leaf_expires": moment(answer.leaf_expire_time).isoformat(),
        "queued": dict(answer.queued),
        "purges": [_purge(one) for one in answer.purges],
        "listen": answer.listen,
        "attached_to": [_attachment(one) for one in answer.attached_to],
        "attached_here": [_attachment(one) for one in answer.attached_here],
        "started": moment(answer.start_time).isoformat(),
        "backup": _last_backup(answer),
        "warnings": list(answer.warnings),
        "mode": f"{stat.S_IMODE(home.stat().st_mode):04o}",
    }

    def show() -> None:
        for text in sheet(result):
            line(inert(text))

    emit(as_json, result, show)
    sys.stdout.flush()
