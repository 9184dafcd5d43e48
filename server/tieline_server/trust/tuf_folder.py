"""A folder of the directory's TUF files: the authority's public part, a node's own copy.

::

    root.json          the initial root: the anchor of trust
    metadata/          N.root.json, N.targets.json, N.<agency>.json, N.snapshot.json, timestamp.json
    targets/           <sha256>.federation.json, agencies/<sha256>.<agency>.json, self/...

Everything but the timestamp is written under a name of its own, so a crash or a reader in between
sees the old version or the new one. The version before stays for readers that are under way.
"""

from __future__ import annotations

import re
from pathlib import Path

from tieline_client import limits
from tieline_client.errors import DirectoryError

from tieline_server.trust import files, tuf_copy
from tieline_server.trust.tuf_copy import METADATA, ROOT, TARGETS, TIMESTAMP, TufCopy

_KEPT_FOR_EVER = re.compile(r"\d+\.root\.json")


def public_part(folder: Path) -> Path:
    """Return the folder that holds root.json: ``folder`` itself or its ``public``.

    Raises DirectoryError when neither does.
    """
    for candidate in (folder / "public", folder):
        if (candidate / ROOT).is_file() and (candidate / TIMESTAMP).is_file():
            return candidate
    raise DirectoryError(
        f"{folder} is no federation folder: neither it nor its public/ holds {ROOT} and {TIMESTAMP}"
    )


def read_root(folder: Path) -> bytes:
    """Return the initial root; raise DirectoryError when there is none."""
    root = files.read_bounded(folder / ROOT, limits.DIRECTORY_FILE_BYTES)
    if root is None:
        raise DirectoryError(f"{folder} holds no {ROOT}; join a federation first")
    return root


def load(folder: Path) -> TufCopy:
    """Return the version that stands in a trusted folder, verified from its own root."""
    return tuf_copy.verify(tuf_copy.folder_reader(folder), read_root(folder), None, str(folder))


def write(folder: Path, copy: TufCopy, before: TufCopy | None = None) -> None:
    """Make ``copy`` the folder's version, durably; files of ``before`` stay beside it."""
    for name, data in copy.files.items():
        path = folder / name
        if name == TIMESTAMP:
            files.sync_folder(folder)
        if files.read_bounded(path, limits.DIRECTORY_FILE_BYTES) != data:
            files.write_atomic(path, data)
    _prune(folder, {*copy.files, *(before.files if before else ())})


def _prune(folder: Path, keep: set[str]) -> None:
    for part in (METADATA, TARGETS):
        for path in sorted((folder / part).rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name not in keep and not _KEPT_FOR_EVER.fullmatch(path.name):
                path.unlink(missing_ok=True)
