"""The node's own copy of the directory, in HOME/directory.

It is trusted once (``trust``, at join), read from then on (``current``), and brought up to date
from the folder it came from (``refresh``), from peers (``take``; directory_refresh.py says whom) or
with what this node signed itself (``adopt``; online_half.py). The copy is complete: a node starts
from it when nobody answers, and passes it on as it is.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tieline_client.directory import Directory
from tieline_client.errors import DirectoryError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Timestamp

from tieline_server.trust import files, tuf_copy, tuf_folder
from tieline_server.trust.tuf_copy import METADATA, TIMESTAMP, Ahead, Reader, TufCopy

FOLDER = "folder"
"""The folder given at `node join`, as a source by name."""
_SOURCE = "source"
_PATH_BYTES = 8 * 1024
_TIMESTAMP_BYTES = 16 * 1024


class DirectoryOlder(DirectoryError):
    """What is offered is older than what is known: nothing to take, and no attack by itself."""


def check_not_older(read: Reader, offered: bytes, known: TufCopy, where: str) -> None:
    """Raise DirectoryOlder when a timestamp, not verified yet, says that it is an older one.

    Behind a newer root the numbers may begin anew: that is how a federation recovers from somebody
    who stole the online keys and ran the numbers up.
    """
    try:
        version = Metadata[Timestamp].from_bytes(offered).signed.version
    except (RepositoryError, ValueError):
        return  # verification says what is wrong with it
    newer_root = f"{METADATA}/{max(known.roots) + 1}.root.json"
    if version < known.parsed_timestamp.version and read(newer_root) is None:
        raise DirectoryOlder(
            f"{where} offers the timestamp version {version}, which is older than version "
            f"{known.parsed_timestamp.version} that is known"
        )


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class _Loaded:
    stamp: tuple[int, int, int]
    """Inode, time and size of the timestamp file that this was read with."""
    copy: TufCopy
    directory: Directory
    lapsed: frozenset[str]
    """Agencies whose own metadata had expired when it was read."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Who last confirmed or brought the version that stands, and when."""

    source: str
    at: datetime


class DirectoryStore:
    """Thread-safe; several processes may share one home, each with a store of its own.

    ``home`` is the node's home; ``clock`` tells the time when the copy is read anew.
    """

    def __init__(self, home: Path, clock: Callable[[], datetime] = _utc_now) -> None:
        self.folder = home / "directory"
        self._timestamp = os.fspath(self.folder / TIMESTAMP)
        self._clock = clock
        self._lock = threading.RLock()
        self._loaded: _Loaded | None = None
        self._problem: str | None = None
        self.confirmed: Confirmed | None = None
        self._changing = False

    @property
    def problem(self) -> str | None:
        """Why the last ``refresh`` kept the own copy, in words; None when the source answered."""
        return self._problem

    @property
    def joined(self) -> bool:
        """Whether this home trusts a federation's root."""
        return (self.folder / TIMESTAMP).is_file()

    def root_fingerprint(self) -> str:
        """Return the SHA-256 of the initial root (64 hex digits), or raise DirectoryError."""
        return hashlib.sha256(tuf_folder.read_root(self.folder)).hexdigest()

    def trust(self, source: Path) -> Directory:
        """Trust the root in ``source`` (an authority's folder or its public part) and copy it all.

        Raises DirectoryOlder when this home has a newer copy, which stands; DirectoryError when
        the files do not verify, or when this home trusts another federation's root already.
        """
        public = tuf_folder.public_part(source.resolve())
        with self.changing():
            root = tuf_folder.read_root(public)
            if self.joined and tuf_folder.read_root(self.folder) != root:
                raise DirectoryError(
                    f"{self.folder.parent} trusts another federation's root; "
                    "join this one from a new home"
                )
            known, read = self._known(), tuf_copy.folder_reader(public)
            if known is not None:
                check_not_older(read, read(TIMESTAMP) or b"", known, str(public))
            copy = tuf_copy.verify(read, root, known, str(public))
            directory = self._keep(copy, known, self._clock())
            files.write_atomic(self.folder / _SOURCE, os.fsencode(public), mode=0o600)
            return directory

    def refresh(self, now: datetime) -> Directory:
        """Take over what the source offers, if it is newer, and return the directory.

        When the source is gone the own copy stands and ``problem`` says so. Raises DirectoryError
        when what the source offers is refused (older than known, mixed, tampered with); the own
        copy then stands as well. Expiry is no reason to refuse here: it shows at ``check_fresh``.
        """
        root = tuf_folder.read_root(self.folder)
        with self.changing():
            self._problem = None
            source = self._source()
            offered = files.read_bounded(source / TIMESTAMP, _TIMESTAMP_BYTES) if source else None
            if source is None or offered is None:
                self._problem = f"the directory's source {source or ''} is not there"
                return self.current()
            known = self._known()
            if known is not None and known.timestamp == offered:
                # An agency's own statement may have lapsed since the copy was read.
                self.confirmed = Confirmed(FOLDER, now)
                return self._keep(known, known, now)
            try:
                copy = tuf_copy.verify(tuf_copy.folder_reader(source), root, known, str(source))
            except DirectoryError as error:
                self._problem = error.message
                raise
            self.confirmed = Confirmed(FOLDER, now)
            return self._keep(copy, known, now)

    def take(
        self, read: Reader, where: str, now: datetime, ahead: Ahead = lambda _names: None
    ) -> Directory:
        """Take over what ``read`` offers, if it is newer, and return the directory.

        Nothing is held while it is read, so a slow source keeps nobody else from being asked.
        Raises DirectoryError when what is offered is older or refused, or what ``read`` raised.
        """
        root, known = tuf_folder.read_root(self.folder), self._known()
        offered = read(TIMESTAMP)
        if offered is None:
            raise DirectoryError(f"{where} serves no directory")
        if known is not None and known.timestamp == offered:
            self.confirmed = Confirmed(where, now)
            return self.current()
        if known is not None:
            check_not_older(read, offered, known, where)
        copy = tuf_copy.verify(read, root, known, where, ahead)
        return self.adopt(copy, where, now, known)

    def adopt(
        self, copy: TufCopy, where: str, now: datetime, verified_from: TufCopy | None = None
    ) -> Directory:
        """Make ``copy`` the version that stands, verified from what is known at this moment.

        ``verified_from`` is the version that it was verified from already.
        """
        with self.changing():
            known = self._known()
            if known is None or known is not verified_from:
                if (
                    known is not None
                    and verified_from is not None
                    and max(known.roots) >= max(copy.roots)
                    and known.parsed_timestamp.version >= copy.parsed_timestamp.version
                ):
                    return self.current()  # another source was quicker
                root = tuf_folder.read_root(self.folder)
                copy = tuf_copy.verify(copy.files.get, root, known, where)
            directory = self._keep(copy, known, now)
            self.confirmed = Confirmed(where, now)
            return directory

    def current(self) -> Directory:
        """Return the directory as it stands; costs one stat when nothing changed.

        Raises DirectoryError when this home trusts no federation yet or its copy is damaged.
        """
        loaded = self._loaded
        if loaded is not None and loaded.stamp == self._stamp():
            return loaded.directory
        with self._lock:
            stamp = self._stamp()
            copy = tuf_folder.load(self.folder)
            now = self._clock()
            self._loaded = _Loaded(stamp, copy, copy.directory(now), copy.lapsed(now))
            return self._loaded.directory

    def copy(self) -> TufCopy:
        """Return the files behind ``current``, as they may be passed on."""
        with self._lock:
            self.current()
            assert self._loaded is not None
            return self._loaded.copy

    def _known(self) -> TufCopy | None:
        """Return the own copy; None before the first, or when damage makes it worthless."""
        try:
            return self.copy()
        except DirectoryError:
            return None

    def _keep(self, copy: TufCopy, known: TufCopy | None, now: datetime) -> Directory:
        loaded = self._loaded
        if loaded is not None and loaded.copy is copy and loaded.lapsed == copy.lapsed(now):
            return loaded.directory  # read again every few seconds: with 200 members that is dear
        directory = copy.directory(now)
        if known is None or known.files != copy.files:
            tuf_folder.write(self.folder, copy, known)
        self._loaded = _Loaded(self._stamp(), copy, directory, copy.lapsed(now))
        return directory

    def _stamp(self) -> tuple[int, int, int]:
        try:
            stat = os.stat(self._timestamp)  # noqa: PTH116 - on every call; a Path costs more
        except FileNotFoundError:
            raise DirectoryError(
                f"{self.folder.parent} has joined no federation; run `tieline node join` first"
            ) from None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _source(self) -> Path | None:
        path = files.read_bounded(self.folder / _SOURCE, _PATH_BYTES)
        return Path(os.fsdecode(path)) if path else None

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Let one thread of one process change the copy at a time; it may come in again."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock:
            if self._changing:
                yield
                return
            with files.locked(self.folder / ".lock", str(self.folder), wait=True):
                self._changing = True
                try:
                    yield
                finally:
                    self._changing = False
