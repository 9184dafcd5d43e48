"""Several processes of one node on one database: each keeps an index of its own, in its own files.

A purge receipt says that no live copy is left, so it has to wait for all of them:

1. A process registers under an id that lies with its index, and says every few seconds that it is
   there, by the database's clock.
2. What it has rewritten its index for, by the number of the last change in it, it says too.
3. An erasure is over once every process that is there has rewritten its index since. Who stopped,
   or was not heard of for a while, is not waited for: its files hold what they held, nobody reads
   them, and it rewrites them at its next start before it answers anybody. Until then
   `node status` names it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from tieline_server.domain.ports import Store, Tx

LEASE = timedelta(seconds=60)
"""A process not heard of for so long has stopped."""
BEAT_SECONDS = 5.0
FORGOTTEN = timedelta(days=90)
"""A process that was gone for so long will not come back."""
_PREFIX = "process:"
_ERASED = "erased-through"


@dataclass(frozen=True, slots=True)
class Process:
    """One process: what people call it, when it was last heard of, whether it said that it stops,
    and through which change its files were rewritten."""

    id: str
    name: str
    seen: datetime
    stopped: bool
    through: int

    def runs(self, now: datetime) -> bool:
        """Whether it is to be waited for."""
        return not self.stopped and now - self.seen <= LEASE


class Processes:
    """This process among those on its database."""

    def __init__(self, store: Store, identifier: str, name: str) -> None:
        self._store, self._id, self._name = store, identifier, name

    def begin(self) -> None:
        """Register; from now on erasures wait for this process."""
        self._put(lambda before: 0)

    def beat(self) -> None:
        """Say that it is there."""
        self._put(lambda before: before)

    def rewrote(self, through: int) -> None:
        """Say that its files hold nothing that was erased up to a change."""
        self._put(lambda before: max(before, through))

    def end(self) -> None:
        """Say that it stops."""
        self._put(lambda before: before, stopped=True)

    def _put(self, through: Callable[[int], int], *, stopped: bool = False) -> None:
        def work(tx: Tx) -> None:
            text = tx.meta.get(_PREFIX + self._id)
            before = _read(self._id, text).through if text else 0
            row = {
                "name": self._name,
                "seen": tx.meta.time().isoformat(),
                "stopped": stopped,
                "through": through(before),
            }
            tx.meta.set(_PREFIX + self._id, json.dumps(row))

        self._store.write(work)

    def behind(self, through: int) -> list[Process]:
        """Return those that are there and have yet to rewrite their index up to a change."""

        def work(tx: Tx) -> list[Process]:
            known = int(tx.meta.get(_ERASED) or 0)
            tx.meta.set(_ERASED, str(max(known, through)))
            now = tx.meta.time()
            return [one for one in _all(tx) if one.runs(now) and one.through < through]

        return self._store.write(work)


def warnings(tx: Tx) -> Iterator[str]:
    """Say whose files may hold what was erased since it stopped."""
    through, now = int(tx.meta.get(_ERASED) or 0), tx.meta.time()
    for one in _all(tx):
        if not one.runs(now) and one.through < through:
            yield (
                f"the process {one.name}, last heard of at {one.seen:%Y-%m-%d %H:%M}, has not "
                "rewritten its index since something was erased; start it, or delete its "
                "HOME/indexes"
            )


def forget(store: Store) -> None:
    """Forget processes that will not come back."""

    def work(tx: Tx) -> None:
        now = tx.meta.time()
        for one in _all(tx):
            if now - one.seen > FORGOTTEN:
                tx.meta.drop(_PREFIX + one.id)

    store.write(work)


def _all(tx: Tx) -> list[Process]:
    found = tx.meta.beginning(_PREFIX)
    return [_read(key.removeprefix(_PREFIX), text) for key, text in sorted(found.items())]


def _read(identifier: str, text: str) -> Process:
    row = json.loads(text)
    return Process(
        id=identifier,
        name=row["name"],
        seen=datetime.fromisoformat(row["seen"]),
        stopped=row["stopped"],
        through=row["through"],
    )
