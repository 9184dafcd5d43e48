"""The online half at a hub: whoever has the online keys keeps the directory current.

The keys come with `tieline federation publish DIR --home HOME`. From then on the node

- takes in what the authority publishes into HOME/directory/published, or what is imported,
- takes what agencies hand in of themselves (``accept``),
- signs snapshot and timestamp again every day (``tend``), so that nothing expires while it runs.

What it binds becomes its own copy, from which everybody fetches. The keys can neither state a
member nor a role nor a key (tuf_online.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from tieline_client import limits
from tieline_client.directory import Directory
from tieline_client.errors import DirectoryError, LimitExceeded, TielineError, WrongState
from tuf.api.metadata import Snapshot, Timestamp

from tieline_server.trust import federation_edits, files, merging, tuf_folder, tuf_online
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.federation import ONLINE, PUBLISHED
from tieline_server.trust.request import tuf_key
from tieline_server.trust.stated import Stated
from tieline_server.trust.tuf_copy import ROOT, TIMESTAMP, TufCopy
from tieline_server.trust.tuf_online import OnlineKeys

OWN_KEYS = "own keys"
"""The node itself, as a source by name."""


class OnlineHalf:
    """Thread-safe; what changes holds the store, also against other processes."""

    def __init__(
        self,
        home: Path,
        store: DirectoryStore,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys, self._published = home / ONLINE, home / PUBLISHED
        self._store, self._monotonic = store, monotonic
        self._taken: bytes | None = None
        """Timestamp of the published folder that was taken in last."""
        self._last: dict[str, float] = {}
        self.problem: str | None = None

    @property
    def held(self) -> bool:
        """Whether this home has the online keys."""
        return (self._keys / "timestamp.pem").is_file()

    def tend(self, now: datetime) -> bool:
        """Take in what was published, and sign again when a day has passed; say what changed.

        Raises DirectoryError when what was published is refused; the own copy then stands, and is
        signed again all the same.
        """
        if not self.held or not self._store.joined:
            return False
        with self._store.changing():
            try:
                taken = self._take_published(now)
            except (TielineError, OSError):
                self._sign_if_due(now)  # nothing expires while what was published waits
                raise
            return taken or self._sign_if_due(now)

    def take(self, offered: TufCopy, now: datetime) -> Directory:
        """Merge a version that somebody offers (verified from its own root) into the own one.

        What is bound then is newer than both, so that nobody who saw the other refuses it. What is
        newer in every number and lacks no part is taken as it is: another hub that holds the keys
        bound it, and would answer each version with a higher one, without end.
        """
        with self._store.changing():
            mine = self._store.copy()
            merged = merging.newest_parts(mine, offered)
            if merged is None and not _overtakes(offered, mine):
                return self._store.current()
            if _overtakes(offered, mine, all) and merging.newest_parts(offered, mine) is None:
                return self._store.adopt(offered, OWN_KEYS, now)
            return self._bind(merged or mine, now, offered)

    def accept(self, agency: str, metadata: bytes, own: bytes, now: datetime) -> int:
        """Take an agency's statement of itself; return the version that holds it.

        Raises WrongState without the keys, LimitExceeded for the next within some seconds, and
        what federation_edits.restate raises.
        """
        if not self.held:
            raise WrongState(
                "this node does not hold the online keys; hand statements to the hub that does"
            )
        with self._store.changing():
            mine = self._store.copy()
            stated = Stated.of(mine.parsed_targets, mine.roles, mine.contents)
            after, _ = federation_edits.restate(stated, agency, metadata, own, now)
            if after is stated:
                return self._store.current().version
            self._not_too_often(agency)
            parts = TufCopy(
                roots=mine.roots,
                timestamp=mine.timestamp,
                snapshot=mine.snapshot,
                targets=mine.targets,
                roles=after.roles,
                contents=after.contents(),
            )
            return self._bind(parts, now).version

    def _not_too_often(self, agency: str) -> None:
        last, now = self._last.get(agency), self._monotonic()
        if last is not None and now - last < limits.DIRECTORY_SUBMIT_SECONDS:
            wait = limits.DIRECTORY_SUBMIT_SECONDS - (now - last)
            raise LimitExceeded(
                f"{agency} changed its statement just now; come again in {wait:.3f} seconds",
                check="RATE",
                retry_after=f"{wait:.3f}",
            )
        self._last[agency] = now

    def _take_published(self, now: datetime) -> bool:
        """Bind what the authority published since the last time; whether that changed anything."""
        timestamp = files.read_bounded(self._published / TIMESTAMP, limits.DIRECTORY_FILE_BYTES)
        if timestamp is None or timestamp == self._taken:
            return False
        if files.read_bounded(self._published / ROOT, limits.DIRECTORY_FILE_BYTES) is None:
            return False
        mine, offered = self._store.copy(), tuf_folder.load(self._published)
        merged = merging.newest_parts(mine, offered)
        changes = merged is not None or _overtakes(offered, mine)
        if changes:
            self._bind(merged or mine, now)
        self._taken = timestamp  # not before: what could not be bound comes again
        return changes

    def _sign_if_due(self, now: datetime) -> bool:
        mine = self._store.copy()
        due = now >= mine.parsed_timestamp.expires - (
            limits.DIRECTORY_ONLINE_LIFE - limits.DIRECTORY_RENEW_AFTER
        )
        if due:
            self._bind(mine, now)
        return due

    def _bind(self, parts: TufCopy, now: datetime, *seen: TufCopy) -> Directory:
        online = OnlineKeys.load(self._keys)
        self._check_keys(parts, online)
        known = self._store.copy()
        bound = tuf_online.bind(
            roots=parts.roots,
            targets=parts.targets,
            roles=parts.roles,
            contents=parts.contents,
            online=online,
            now=now,
            after=self._highest(known, *seen),
        )
        return self._store.adopt(bound, OWN_KEYS, now)

    def _highest(self, *known: TufCopy) -> tuple[int, int]:
        """The highest versions of snapshot and timestamp that anybody may have seen."""
        seen = [tuf_online.versions(one) for one in known]
        if (self._published / TIMESTAMP).is_file():
            with suppress(DirectoryError):
                seen.append(tuf_online.versions(tuf_folder.load(self._published)))
        return max(one[0] for one in seen), max(one[1] for one in seen)

    @staticmethod
    def _check_keys(parts: TufCopy, online: OnlineKeys) -> None:
        """Raise DirectoryError when the root has other online keys by now."""
        roles = parts.parsed_root.roles
        for role, key in ((Snapshot.type, online.snapshot), (Timestamp.type, online.timestamp)):
            if tuf_key(key.public_key()).keyid not in roles[role].keyids:
                raise DirectoryError(
                    f"the {role} key of this node is no longer the federation's; "
                    "let the authority run `tieline federation publish --home` again"
                )


def _overtakes(
    offered: TufCopy, mine: TufCopy, how_many: Callable[[Iterable[bool]], bool] = any
) -> bool:
    """Whether it has a higher number, so that whoever saw it would refuse ours; or all of them."""
    numbers = zip(tuf_online.versions(offered), tuf_online.versions(mine), strict=True)
    return how_many(theirs > ours for theirs, ours in numbers)
