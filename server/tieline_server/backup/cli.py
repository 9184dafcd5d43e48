"""`tieline node backup` and `tieline node restore`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from tieline_client import keys
from tieline_client.cli.output import Json, emit, err, line, run, say, time_text
from tieline_client.errors import UsageError
from tieline_client.inert import inert
from tieline_client.limits import BACKUP_LIFE
from tieline_client.profile import utc_now

from tieline_server.config import Home, numba_cache

HomeArgument = Annotated[Path, typer.Argument(help="The node's folder.", show_default=False)]
FileArgument = Annotated[Path, typer.Argument(help="The backup.", show_default=False)]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        help=f"File with the backup's passphrase; else {keys.PASSPHRASE_VARIABLE}, else a prompt."
    ),
]


@run
def backup(
    home: HomeArgument,
    file: FileArgument,
    expires_days: Annotated[
        int, typer.Option(help="How long it may be restored from.", min=1, max=BACKUP_LIFE.days)
    ] = BACKUP_LIFE.days,
    passphrase_file: PassphraseFile = None,
    delete_expired: Annotated[
        bool, typer.Option(help="Delete older backups of this node that have expired.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write an encrypted backup of a node, running or not, and check it by restoring it."""
    from tieline_server.backup import making  # noqa: PLC0415 - heavy; other commands stay quick

    os.umask(0o077)
    passphrase = _passphrase(passphrase_file, "New passphrase of the backup", confirm=True)
    made = making.make(
        Home(home), file, passphrase, timedelta(days=expires_days), utc_now(), _steps
    )
    deleted = [old for old in made.expired if delete_expired and _delete(old)]
    header = made.header
    result = {
        "file": made.file,
        "bytes": made.size,
        "agency": header.agency,
        "federation": header.federation,
        "epoch": header.epoch,
        "created": header.created,
        "expires": header.expires,
        "database": header.database,
        "checked": made.checked,
        "audit": {"entries": header.audit_entries, "root": header.audit_root},
        "expired": [old for old in made.expired if old not in deleted],
        "deleted": deleted,
    }

    def show() -> None:
        line(f"{made.file}: {made.size:,} bytes, may be restored until {time_text(header.expires)}")
        line(f"checked: {made.checked}; audit log of {header.audit_entries:,} entries recomputed")
        for old in deleted:
            line(f"deleted: {old}")
        for old in made.expired:
            if old not in deleted:
                line(f"expired, delete it: {old}")

    emit(as_json, result, show)


@run
def restore(
    home: HomeArgument,
    file: FileArgument,
    check_only: Annotated[
        bool, typer.Option("--check-only", help="Only say whether it could be restored.")
    ] = False,
    expired_anyway: Annotated[
        bool, typer.Option("--expired-anyway", help="Restore past the backup's expiry.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make a node's home anew from a backup; peers send again what it lacks."""
    numba_cache(Home(home))
    from tieline_server.backup import restoring  # noqa: PLC0415 - after the cache is set

    os.umask(0o077)
    passphrase = _passphrase(passphrase_file, f"Passphrase of {file.name}", confirm=False)
    now = utc_now()
    if check_only:
        restored = restoring.check_only(home, file, passphrase, now, _steps)
    else:
        restored = restoring.restore(
            home, file, passphrase, now, _steps, expired_anyway=expired_anyway
        )
    header, revived = restored.header, restored.revived
    apart = None if revived is None else _keys_apart(home, now)
    following = [] if revived is None else _next(home, header.created)
    result = {
        "home": None if revived is None else home,
        "agency": header.agency,
        "federation": header.federation,
        "created": header.created,
        "expires": header.expires,
        "expired": header.expired(now),
        "version": header.version,
        "checked": restored.checked,
        "audit": {"entries": header.audit_entries, "root": header.audit_root},
        "epoch": None if revived is None else revived.epoch,
        "tombstones": None if revived is None else revived.tombstones,
        "trouble": apart,
        "next": following,
    }

    def show() -> None:
        line(f"{header.agency} of {header.federation}, as of {time_text(header.created)}")
        line(f"checked: {restored.checked}; audit log of {header.audit_entries:,} entries agrees")
        if revived is not None:
            line(f"restored to {home}; erased again: {revived.tombstones}")
            if apart:
                say(f"attention: {apart}")
            for number, step in enumerate(following, start=1):
                line(f"{number}. {step}")

    emit(as_json, result, show)


def _keys_apart(home: Path, now: datetime) -> str | None:
    """Say how the directory that was in the backup and the home's keys part."""
    from tieline_server.trust import own_keys  # noqa: PLC0415 - heavy
    from tieline_server.trust.directory_store import DirectoryStore  # noqa: PLC0415 - heavy

    store = DirectoryStore(home)
    found = own_keys.look(home, Home(home).config().agency, store, now) if store.joined else None
    return f"{found.text}; {found.advice}" if found is not None else None


def _next(home: Path, created: object) -> list[str]:
    return [
        f"if a key was rolled over since {created}, no peer lets this node in: bring a directory "
        f"of now with `tieline node directory import {home} FILE`, then `tieline node rekey "
        f"{home}` says what to do",
        f"make sure that the old node of this agency never runs again, then run "
        f"`tieline node serve {home}`",
        "peers notice the new epoch at the next contact and send again what came in since; "
        f"watch `tieline node status {home}`",
        f"`tieline operator list --home {home}`: whoever was added or revoked since {created} "
        "is not, or no longer, so here; do it again",
        "imports since then are not here; import those files again",
    ]


def _delete(path: Path) -> bool:
    """Delete an expired backup, if it still is one."""
    from tieline_server.backup.container import BackupRefused, read_header  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            header, _ = read_header(file, str(path))
        if not header.expired(utc_now()):
            return False
        path.unlink()
    except (BackupRefused, OSError):
        return False
    return True


def _passphrase(file: Path | None, question: str, *, confirm: bool) -> bytes:
    given = keys.read_passphrase(file, "--passphrase-file") if file is not None else None
    given = given or keys.passphrase_from_environment()
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError(
            f"a passphrase is needed; give --passphrase-file, or name a file with it in "
            f"{keys.PASSPHRASE_VARIABLE}, or run this on a terminal"
        )
    answer = typer.prompt(inert(question), hide_input=True, confirmation_prompt=confirm, err=True)
    return str(answer).encode()


@contextmanager
def _steps(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show one step: how far it has come on a terminal, nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda _done, _whole: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(inert(what), total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole or None)
        bar.update(task, completed=1, total=1)
