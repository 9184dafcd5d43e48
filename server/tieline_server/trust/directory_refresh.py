"""Keeping the directory current: who is asked for a newer one, and when.

One round, every DIRECTORY_POLL_SECONDS (sooner past the expiry, and after one that failed):

1. Where this node has the online keys, it does its own part first (online_half.py).
2. The folder given at join is looked at; that it is older than what peers brought is no fault.
3. Every hub is asked, and one other member at random, so that no hub alone can hold a node back.
4. Where no hub answered, or the directory has expired, more members are asked, at random.

Asking costs one small file, the timestamp; all else is fetched only when it is newer. Between the
rounds a call may show that its peer works with a newer directory: then the call waits while that
is fetched (``catch_up``). When the directory changed, by whatever way, ``changed`` is told.

Nothing here decides what to believe: every file is verified against what is known
(tuf_copy.py), so a peer can at worst keep silent.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Protocol

import structlog
from tieline_client import limits
from tieline_client.directory import Directory
from tieline_client.errors import DirectoryExpired, TielineError

from tieline_server.domain.ports import Clock
from tieline_server.trust import tuf_copy
from tieline_server.trust.directory_store import DirectoryOlder, DirectoryStore, check_not_older
from tieline_server.trust.online_half import OnlineHalf
from tieline_server.trust.peer_files import Files, PeerFiles
from tieline_server.trust.tuf_copy import TIMESTAMP

_log = structlog.get_logger(__name__)


class Peers(Protocol):
    """The node's channels, as far as they matter here."""

    def directory_files(self, agency: str) -> Files:
        """Return a peer's copy; raise a TielineError for one that cannot be called."""
        ...


class DirectoryRefresher:
    """Thread-safe. ``start`` begins the rounds, ``stop`` ends them."""

    def __init__(
        self,
        agency: str,
        store: DirectoryStore,
        online: OnlineHalf,
        peers: Peers,
        clock: Clock,
        *,
        shuffle: Callable[[list[str]], None] = random.shuffle,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._agency, self._store, self._online, self._peers = agency, store, online, peers
        self._clock, self._shuffle, self._monotonic = clock, shuffle, monotonic
        self.hand_in: Callable[[], None] = lambda: None
        """Hands in what this agency states of itself and no directory holds yet."""
        self.changed: Callable[[Directory], None] = lambda _directory: None
        """Told of each new version once, from any thread."""
        self.problem: str | None = None
        """Why the last round confirmed nothing, in words."""
        self._told: Directory | None = None
        self._telling = threading.Lock()
        self._catching = threading.Lock()
        self._doubted: dict[str, float] = {}
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="directory", daemon=True)

    def start(self) -> None:
        """Begin the rounds, the first at once."""
        self._told = self._store.current()
        self._thread.start()

    def stop(self) -> None:
        """End after the call that is under way."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(limits.STOP_SECONDS)

    def soon(self) -> None:
        """Begin the next round now."""
        self._wake.set()

    # --- rounds ---

    def round(self) -> None:
        """Do one round, the steps above."""
        problems: list[str] = []
        confirmed = self._look(problems)
        try:
            self.hand_in()
        except TielineError as error:
            _log.warning("directory.statement_waits", text=error.message)
        now = self._clock()
        directory = self._store.current()
        hubs = [one.agency for one in directory.hubs() if one.agency != self._agency]
        others = [
            one.agency
            for one in directory.active_members()
            if one.agency != self._agency and one.agency not in hubs
        ]
        self._shuffle(others)
        answered = self._ask_all([*hubs, *others[:1]], problems)  # 3
        expired = _expired(self._store.current(), now)
        if (not any(hub in answered for hub in hubs) and not self._online.held) or expired:  # 4
            answered += self._ask_all(others[1 : limits.DIRECTORY_ASKED_AT_ONCE], problems)
        if confirmed or answered:
            self.problem = None
        elif hubs or others or problems:
            self.problem = problems[0] if problems else "nobody was there to be asked"
        self.note_changes()

    def look(self) -> None:
        """Do the steps 1 and 2 alone, which cost nothing, and tell of what changed meanwhile."""
        self._look([])
        self.note_changes()

    def _look(self, problems: list[str]) -> bool:
        confirmed = False
        for step in (self._online_half, self._folder):  # 1, 2
            try:
                confirmed = step() or confirmed
            except DirectoryOlder:
                pass
            except TielineError as error:
                problems.append(error.message)
            except OSError as error:  # of the folder, or of this disk: peers are asked all the same
                problems.append(f"the directory's files: {error}")
        return confirmed

    def _online_half(self) -> bool:
        if not self._online.held:
            return False
        try:
            self._online.tend(self._clock())
            self._online.problem = None
        except (TielineError, OSError) as error:
            self._online.problem = str(error)
            raise
        return True

    def _folder(self) -> bool:
        self._store.refresh(self._clock())
        return self._store.problem is None

    def _ask_all(self, agencies: Sequence[str], problems: list[str]) -> list[str]:
        """Ask these, several at once; return those that answered with what they have."""
        if not agencies or self._stopping.is_set():
            return []

        def ask(agency: str) -> str | None:
            try:
                self._ask(agency)
            except DirectoryOlder:
                return agency  # it is behind, and learns so from this very call
            except TielineError as error:
                problems.append(f"{agency}: {error.message}")
                return None
            return agency

        with ThreadPoolExecutor(len(agencies), thread_name_prefix="directory") as pool:
            return [agency for agency in pool.map(ask, agencies) if agency is not None]

    def _ask(self, agency: str) -> None:
        known = self._store.copy()
        files = PeerFiles(self._peers.directory_files(agency), known)
        if not self._online.held:
            self._store.take(files.read, agency, self._clock(), files.ahead)
            return
        # Whoever binds versions takes in parts that are newer, and is never overtaken by a number.
        offered = files.read(TIMESTAMP)
        if offered is None or offered == known.timestamp:
            return
        check_not_older(files.read, offered, known, agency)
        root = known.roots[min(known.roots)]
        copy = tuf_copy.verify(files.read, root, None, agency, files.ahead)
        self._online.take(copy, self._clock())

    # --- between rounds ---

    def catch_up(self, agency: str, version: int) -> bool:
        """Fetch what a peer works with (``version``), or for 0 whatever is newer; say whether
        this node's directory changed. Never raises.

        Who claimed a version and had none is not asked again for a while, so that a claim costs
        next to nothing.
        """
        before = self._store.current()
        if 0 < version <= before.version or not self._believed(agency):
            return False
        if not self._catching.acquire(timeout=limits.DIRECTORY_CATCH_UP_SECONDS):
            return False
        try:
            if self._store.current().version == before.version:
                self._fetch_newer(agency, version, before)
            after = self._store.current()
        finally:
            self._catching.release()
        if after.version <= before.version or after.version < version:
            self._doubted[agency] = self._monotonic()
        if after.version > before.version:
            self.problem = None  # what the last round met is over: this one was verified just now
        self.note_changes()
        return after.version != before.version

    def _believed(self, agency: str) -> bool:
        since = self._doubted.get(agency)
        return since is None or self._monotonic() - since >= limits.DIRECTORY_CLAIM_SECONDS

    def _fetch_newer(self, agency: str, version: int, before: Directory) -> None:
        hubs = [one.agency for one in before.hubs() if one.agency not in (self._agency, agency)]
        for asked in (agency, *hubs):
            try:
                self._ask(asked)
            except TielineError:
                continue
            now_version = self._store.current().version
            if now_version > before.version and now_version >= version:
                return

    def note_changes(self) -> None:
        """Tell of a version that is new, whoever brought it: this process or another. What could
        not be told, as where the log cannot be written, is told when next looked at."""
        with self._telling:
            current = self._store.current()
            told, self._told = self._told, current
        if told is not None and current is not told and current.version != told.version:
            try:
                self.changed(current)
            except TielineError as error:
                _log.warning("directory.change_not_noted", text=error.message)
                with self._telling:
                    if self._told is current:
                        self._told = told

    def _run(self) -> None:
        while not self._stopping.is_set():
            seconds = limits.DIRECTORY_EXPIRED_POLL_SECONDS
            try:
                self.round()
                if not _expired(self._store.current(), self._clock()):
                    seconds = limits.DIRECTORY_POLL_SECONDS
            except TielineError as error:
                self.problem = error.message
                _log.warning("directory.waits", reason=error.reason, text=error.message)
            except Exception as error:  # noqa: BLE001 - the next round tries again
                _log.error("directory.failed", error=type(error).__name__, text=str(error))
            if self.problem:
                _log.warning("directory.unconfirmed", text=self.problem[:500])
            self._wake.wait(seconds * random.uniform(0.8, 1.0))  # noqa: S311 - no secret
            self._wake.clear()


def _expired(directory: Directory, now: datetime) -> bool:
    try:
        directory.check_fresh(now)
    except DirectoryExpired:
        return True
    return False
