"""The folder of a snapshot: files named by number, and a manifest that says which of them count.

A merge writes new files beside the old ones, makes them durable, and then replaces the manifest by
rename: whatever moment the process dies at, the folder holds one whole snapshot, and files that no
manifest names are swept at the next start. Every file's SHA-256 stands in the manifest, and the
manifest's own beside it; a file that does not match is damage, and the snapshot counts as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tieline_client.errors import StorageCorrupt, TielineError

from tieline_server.matching.compiled import frozen

FORMAT = 5
_READ = (4, 5)
"""Formats that are read. 4 had no .lines; `snapshot.load` makes them."""
MANIFEST = "manifest.json"
_BLOCK = 8 * 1024 * 1024
_OURS = re.compile(
    r"(?:md5|sha1|sha256|pdq)-\d{10}\.(?:rows|ids|offsets|filter|lines|probes|postings)"
    r"|holdings-\d{10}\.(?:numbers|starts|pairs|counts)|spill-.*|.*\.tmp"
)

Array = npt.NDArray[Any]


class IndexDamaged(StorageCorrupt):
    """A snapshot's file is missing, cut short or altered; the index is rebuilt from storage."""

    reason = "INDEX_DAMAGED"


class IndexStopped(TielineError):
    """The node is closing; what was being written is given up."""

    reason = "INDEX_STOPPED"


@dataclass(frozen=True, slots=True)
class Section:
    """One array in one file; in memory, where nothing is written, the file has no name."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str


class Writer(Protocol):
    """Takes an array piece by piece."""

    def append(self, piece: Array) -> None: ...
    def finish(self, *row: int) -> tuple[Section, Array]:
        """Return the whole as a read-only array of rows of shape ``row``, and where it stands."""
        ...


class Store(Protocol):
    """Where the arrays of a snapshot are put: a folder or memory."""

    def writer(self, name: str, dtype: str) -> Writer: ...


class MemoryStore:
    """Arrays that live as long as the process."""

    def writer(self, name: str, dtype: str) -> Writer:
        return _MemoryWriter(np.dtype(dtype))


class _MemoryWriter:
    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._pieces: list[Array] = [np.empty(0, dtype)]

    def append(self, piece: Array) -> None:
        self._pieces.append(piece.reshape(-1).copy())

    def finish(self, *row: int) -> tuple[Section, Array]:
        whole = np.concatenate(self._pieces).reshape(-1, *row)
        self._pieces = []
        return Section("", whole.dtype.str, whole.shape, ""), frozen(whole)


class FolderStore:
    """A snapshot's folder (0700, files 0600). ``stopped`` ends whatever is being written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.stopped = False

    def writer(self, name: str, dtype: str) -> Writer:
        return _FileWriter(self, name, np.dtype(dtype))

    def load(self, section: Section) -> Array:
        """Map a section read-only. Raises IndexDamaged when the file is not as long as it was."""
        return frozen(self._map(section, mmap.ACCESS_READ))

    def load_private(self, section: Section) -> Array:
        """Map a section copy-on-write: changes are this process's own and never reach the file."""
        return self._map(section, mmap.ACCESS_COPY)

    def _map(self, section: Section, access: int) -> Array:
        dtype = np.dtype(section.dtype)
        size = int(np.prod(section.shape, dtype=np.int64)) * dtype.itemsize
        path = self.folder / section.file
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != size:
                    raise IndexDamaged(f"index file {section.file} is cut short; it is rebuilt")
                if size == 0:
                    return np.empty(section.shape, dtype)
                mapped = mmap.mmap(file.fileno(), size, access=access)
        except OSError as error:
            raise IndexDamaged(
                f"index file {section.file} cannot be read ({error.strerror}); it is rebuilt"
            ) from error
        return np.frombuffer(mapped, dtype=dtype).reshape(section.shape)

    def commit(self, body: dict[str, Any], keep: Iterable[str]) -> None:
        """Make ``body`` the manifest, durably, then remove the files it no longer names."""
        text = _canonical(body)
        whole = json.dumps({"checksum": hashlib.sha256(text.encode()).hexdigest(), "body": body})
        temporary = self.folder / (MANIFEST + ".tmp")
        with create_private(temporary) as file:
            file.write(whole.encode())
            file.flush()
            os.fsync(file.fileno())
        self._sync()  # the new files' names first, then the manifest that speaks of them
        temporary.replace(self.folder / MANIFEST)
        self._sync()
        self.sweep(keep)

    def manifest(self) -> dict[str, Any] | None:
        """Return the manifest's body, or None when there is none. Raises IndexDamaged."""
        path = self.folder / MANIFEST
        if not path.exists():
            return None
        try:
            whole = json.loads(path.read_bytes())
            body: dict[str, Any] = whole["body"]
            intact = hashlib.sha256(_canonical(body).encode()).hexdigest() == whole["checksum"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexDamaged("the index manifest cannot be read; it is rebuilt") from error
        if not intact or body.get("format") not in _READ:
            raise IndexDamaged("the index manifest is altered or of another version; it is rebuilt")
        return body

    def discard(self) -> None:
        """Remove the snapshot altogether."""
        (self.folder / MANIFEST).unlink(missing_ok=True)
        self._sync()
        self.sweep(())

    def sweep(self, keep: Iterable[str]) -> None:
        """Remove the files of ours that ``keep`` does not name."""
        kept = set(keep)
        for path in self.folder.iterdir():
            if path.name not in kept and _OURS.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _sync(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _FileWriter:
    def __init__(self, store: FolderStore, name: str, dtype: np.dtype[Any]) -> None:
        self._store, self._name, self._dtype = store, name, dtype
        self._hash = hashlib.sha256()
        self._items = 0
        self._file = create_private(store.folder / name)

    def append(self, piece: Array) -> None:
        data = np.ascontiguousarray(piece, dtype=self._dtype).reshape(-1).data.cast("B")
        self._items += piece.size
        for start in range(0, len(data), _BLOCK):
            if self._store.stopped:
                raise IndexStopped("the node is closing; the index is merged at its next start")
            block = data[start : start + _BLOCK]
            self._hash.update(block)
            while len(block):
                block = block[self._file.write(block) or 0 :]

    def finish(self, *row: int) -> tuple[Section, Array]:
        os.fsync(self._file.fileno())
        self._file.close()
        across = int(np.prod(row, dtype=np.int64)) if row else 1
        shape = (self._items // across, *row)
        section = Section(self._name, self._dtype.str, shape, self._hash.hexdigest())
        return section, self._store.load(section)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):
            self._file.close()


def verify(section: Section, array: Array) -> None:
    """Compare a mapped section with its checksum. Raises IndexDamaged; releases the GIL."""
    if not section.file:
        return
    digest = hashlib.sha256()
    if array.size:
        data = array.reshape(-1).data.cast("B")
        for start in range(0, len(data), _BLOCK):
            digest.update(data[start : start + _BLOCK])
    if digest.hexdigest() != section.sha256:
        raise IndexDamaged(f"index file {section.file} is altered; it is rebuilt from storage")


def sections_to_json(sections: dict[str, Section]) -> dict[str, Any]:
    """Return the form that a manifest holds."""
    return {name: asdict(section) for name, section in sections.items()}


def sections_from_json(body: dict[str, Any]) -> dict[str, Section]:
    """Read back what `sections_to_json` wrote. Raises IndexDamaged on a name that is not ours."""
    sections = {}
    for name, value in body.items():
        if not _OURS.fullmatch(value["file"]):
            raise IndexDamaged(f"the index manifest names {value['file'][:80]!r}; it is rebuilt")
        sections[name] = Section(
            value["file"], value["dtype"], tuple(value["shape"]), value["sha256"]
        )
    return sections


def _canonical(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def create_private(path: Path) -> FileIO:
    """Create or empty a file that only its owner may read (0600), unbuffered."""
    return FileIO(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w")
