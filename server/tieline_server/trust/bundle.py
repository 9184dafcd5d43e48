"""A whole directory in one file, to be carried where TLS is dead or nobody is reached."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from tieline_client import limits
from tieline_client.directory import Directory
from tieline_client.errors import InvalidInput

from tieline_server.trust import files, tuf_copy, tuf_folder
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.online_half import OnlineHalf
from tieline_server.trust.tuf_copy import Reader, TufCopy

FORMAT = "tieline-directory/1"
IMPORT = "import"
"""A file, as a source by name."""


def write(path: Path, copy: TufCopy) -> None:
    """Write a copy as one JSON document; its files are text and go in as they are."""
    named = {name: data.decode() for name, data in copy.files.items()}
    document = {"format": FORMAT, "version": copy.parsed_snapshot.version, "files": named}
    files.write_atomic(path, json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")


def reader(path: Path) -> Reader:
    """Return a reader of what a file or folder offers; raise InvalidInput when it is neither."""
    if path.is_dir():
        return tuf_copy.folder_reader(tuf_folder.public_part(path))
    data = files.read_bounded(path, limits.DIRECTORY_BUNDLE_BYTES)
    if data is None:
        raise InvalidInput(f"{path} is no file; name one that `tieline node directory export` made")
    if len(data) > limits.DIRECTORY_BUNDLE_BYTES:
        raise InvalidInput(f"{path} is over {limits.DIRECTORY_BUNDLE_BYTES} bytes; no directory is")
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise ValueError("another format")
        named = {str(name): text.encode() for name, text in document["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidInput(
            f"{path} is no directory in one file; make it with `tieline node directory export`"
        ) from None
    return named.get


def read(path: Path, known: TufCopy) -> TufCopy:
    """Return what a file or folder holds, verified from the root of ``known``."""
    root = known.roots[min(known.roots)]
    return tuf_copy.verify(reader(path), root, None, str(path))


def bring_in(home: Path, path: Path, now: datetime) -> tuple[int, Directory]:
    """Take what a file or folder offers into a home; return the version before, and what stands.

    Raises InvalidInput or DirectoryError. Where the home holds the online keys, newer parts are
    bound into a version of its own.
    """
    store = DirectoryStore(home)
    online = OnlineHalf(home, store)
    read = reader(path)
    before = store.current().version
    if not online.held:
        return before, store.take(read, IMPORT, now)
    root = tuf_folder.read_root(store.folder)
    return before, online.take(tuf_copy.verify(read, root, None, str(path)), now)
