"""A home as `tieline doctor` sees it from outside, whether or not its node runs."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tieline_client.errors import TielineError
from tieline_client.findings import Finding, State
from tieline_client.profile import utc_now

from tieline_server import at_rest, own_database
from tieline_server.config import Home
from tieline_server.trust import own_keys
from tieline_server.trust.directory_store import DirectoryStore

_NEEDED = ("node", "signing")
"""Keys without which no node starts; the CAs' may be elsewhere."""
DISK_WARNING_BYTES = 5 * 1024**3
DISK_FAILED_BYTES = 200 * 1024**2


def look_at_home(path: Path) -> Sequence[Finding]:
    """Return what the home's files say; an unusable home is one finding."""
    home = Home(path)
    if not home.config_file.is_file():
        return [
            Finding(
                "home",
                State.FAILED,
                f"{path} is no node's home",
                "make one with `tieline node init HOME`",
            )
        ]
    return [
        *_permissions(home),
        *_keys(home),
        *_configuration(home),
        *_directory(home),
        *_database(home),
        disk(path),  # the running node says so too; a full disk may be why it does not run
    ]


def _permissions(home: Home) -> Iterator[Finding]:
    loose = at_rest.loose(home)
    for one in loose:
        yield Finding(
            "permissions",
            State.FAILED,
            f"{one.path} has mode {one.mode:04o} and others may look into it",
            one.advice,
        )
    if not loose:
        yield Finding("permissions", State.WELL, f"nothing private in {home.path} is open")
    owner = home.path.stat().st_uid
    if owner != os.geteuid():
        yield Finding(
            "permissions",
            State.WARNING,
            f"{home.path} belongs to user {owner}, and this command runs as {os.geteuid()}",
            "run it as the user that the node runs as",
        )


def _keys(home: Home) -> Iterator[Finding]:
    missing = [name for name in _NEEDED if not (home.keys / f"{name}.key").is_file()]
    if missing:
        yield Finding(
            "keys",
            State.FAILED,
            f"not in {home.keys}: {', '.join(f'{name}.key' for name in missing)}",
            "restore a backup with `tieline node restore`: keys are in it",
        )
    plain = at_rest.plain_keys(home)
    if plain:
        names = ", ".join(path.name for path in plain)
        yield Finding(
            "keys",
            State.WARNING,
            f"private keys are plain files: {names}",
            f"stop the node and run `tieline node passphrase {home.path}`",
        )
    elif not missing:
        yield Finding("keys", State.WELL, "every private key is encrypted")


def _configuration(home: Home) -> Iterator[Finding]:
    try:
        home.config()
    except TielineError as error:
        yield Finding("settings", State.FAILED, error.message, f"correct {home.config_file}")
    else:
        yield Finding("settings", State.WELL, f"{home.config_file} is valid")


def _database(home: Home) -> Iterator[Finding]:
    with contextlib.suppress(TielineError):  # what is wrong with settings was told
        path = own_database.missing(home, home.database_url(home.config()))
        if path is not None:
            text = f"the database {path} is not there"
            yield Finding("database", State.FAILED, text, own_database.ADVICE)


def _directory(home: Home) -> Iterator[Finding]:
    try:
        store, now = DirectoryStore(home.path), utc_now()
        apart = own_keys.look(home.path, home.config().agency, store, now)
        if apart is not None:
            yield apart
        store.current().check_fresh(now)
    except TielineError as error:
        yield Finding(
            "directory", State.FAILED, error.message, "join, or get a fresh copy to this node"
        )


def disk(path: Path) -> Finding:
    """Say how much room there is where the home is."""
    usage = shutil.disk_usage(path)
    free = f"{usage.free / 1024**3:.1f} GiB of {usage.total / 1024**3:.1f} are free at {path}"
    if usage.free < DISK_FAILED_BYTES:
        state = State.FAILED
    elif usage.free < DISK_WARNING_BYTES:
        state = State.WARNING
    else:
        return Finding("disk", State.WELL, free)
    return Finding("disk", state, free, "make room: a full disk refuses imports and answers")
