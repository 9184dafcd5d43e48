"""Making a federation: the holders' keys, the root, and a first version that all holders sign."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tieline_client import identifiers, keys, limits
from tieline_client.errors import ConfigurationError, UsageError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from tieline_server.trust import federation_edits, files, root_rotation, tuf_folder, tuf_online
from tieline_server.trust.federation import ABOUT, FORMAT, Federation
from tieline_server.trust.request import tuf_key, tuf_signer
from tieline_server.trust.tuf_online import OnlineKeys


def create(
    folder: Path,
    name: str,
    *,
    passphrases: Sequence[bytes | None],
    threshold: int,
    now: datetime,
    trial: bool = False,
) -> Federation:
    """Make a federation in a new folder; one holder per passphrase, None for a plain key.

    Raises ConfigurationError when the folder holds anything, UsageError for numbers that make no
    threshold, or the threshold of one person outside a trial.
    """
    check_new(folder, name, len(passphrases), threshold, trial=trial)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made aside and renamed, so that a crash leaves no half authority under the name.
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        holders = _write_private(draft, passphrases)
        _write_public(draft, name, holders, threshold, now)
        about = {"format": FORMAT, "federation": name, "trial": trial}
        files.write_atomic(draft / ABOUT, json.dumps(about, indent=2).encode() + b"\n")
        draft.chmod(0o755)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    files.sync_folder(folder.parent)
    return Federation(folder, name, trial)


def check_new(
    folder: Path, name: str, holders: int, threshold: int, *, trial: bool = False
) -> None:
    """Raise what ``create`` would raise, before anyone is asked for a passphrase."""
    identifiers.check_federation(name)
    if not 1 <= threshold <= holders <= limits.KEY_HOLDERS:
        raise UsageError(
            f"{threshold} of {holders} keys is no threshold; use 1 to {limits.KEY_HOLDERS} keys "
            "and a threshold that they can reach"
        )
    root_rotation.check_two_persons(threshold, trial=trial)
    if folder.is_symlink() or (folder.exists() and not _is_empty(folder)):
        raise ConfigurationError(f"{folder} exists and is not an empty folder; name a new one")


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _write_private(draft: Path, passphrases: Sequence[bytes | None]) -> list[keys.PrivateKey]:
    for private in ("keys", "online", "proposed"):
        (draft / private).mkdir(mode=0o700)
    holders = [keys.generate() for _ in passphrases]
    for number, (key, passphrase) in enumerate(zip(holders, passphrases, strict=True), start=1):
        keys.save(draft / "keys" / f"holder-{number}.pem", key, passphrase)
    OnlineKeys.generate().save(draft / "online")
    return holders


def _write_public(
    draft: Path, name: str, holders: Sequence[keys.PrivateKey], threshold: int, now: datetime
) -> None:
    online = OnlineKeys.load(draft / "online")
    root = Root(
        version=1,
        expires=(now + limits.AUTHORITY_LIFE).replace(microsecond=0),
        consistent_snapshot=True,
    )
    for role in (Root.type, Targets.type):
        for key in holders:
            root.add_key(tuf_key(key.public_key()), role)
        root.roles[role].threshold = threshold
    root.add_key(tuf_key(online.snapshot.public_key()), Snapshot.type)
    root.add_key(tuf_key(online.timestamp.public_key()), Timestamp.type)
    stated = federation_edits.first(name)
    targets = stated.targets(1, now + limits.DIRECTORY_TARGETS_LIFE)
    copy = tuf_online.bind(
        roots={1: _signed_by_all(Metadata(root), holders)},
        targets=_signed_by_all(Metadata(targets), holders),
        roles={},
        contents=stated.contents(),
        online=online,
        now=now,
    )
    tuf_folder.write(draft / "public", tuf_online.check(copy, None))


def _signed_by_all(
    metadata: Metadata[Root] | Metadata[Targets], holders: Sequence[keys.PrivateKey]
) -> bytes:
    for key in holders:
        metadata.sign(tuf_signer(key), append=True)
    return metadata.to_bytes()
