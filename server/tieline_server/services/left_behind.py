"""Copies of a peer that its agency gave up: refused at every call, said once.

A copy that runs on calls again and again, and so would an alarm at each call, in a log that is kept
for years. What is news is that such a copy speaks: once for each epoch that was given up, and anew
when the peer has begun another epoch since.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from tieline_server.domain.ports import Tx

SHOWN = timedelta(days=1)
"""A copy that was silent for so long is not spoken of any more; contacts are hourly."""
_SAID_EVERY = timedelta(hours=1)
"""When a copy was last refused is written down so often, not at each call."""
_PREFIX = "left behind:"


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of ``peer`` that was refused: first, and last (to the hour)."""

    peer: str
    first: datetime
    last: datetime


def due(tx: Tx, peer: str, living: str, epoch: str, now: datetime) -> bool:
    """Whether `note` would write anything; ``living`` is the epoch that the peer speaks in."""
    said = _said(tx, peer, living).get(epoch)
    return said is None or now - datetime.fromisoformat(said[1]) >= _SAID_EVERY


def note(tx: Tx, peer: str, living: str, epoch: str, now: datetime) -> bool:
    """Note that a copy in a given-up epoch was refused; whether nobody was told of it before."""
    if not due(tx, peer, living, epoch, now):
        return False
    copies = _said(tx, peer, living)
    first = copies[epoch][0] if epoch in copies else now.isoformat()
    news = epoch not in copies
    copies[epoch] = (first, now.isoformat())
    tx.meta.set(f"{_PREFIX}{peer}", json.dumps({"living": living, "copies": copies}))
    return news


def copies(tx: Tx, now: datetime) -> list[Copy]:
    """The copies that were refused of late, by peer."""
    found = []
    for key, text in sorted(tx.meta.beginning(_PREFIX).items()):
        for first, last in json.loads(text)["copies"].values():
            copy = Copy(
                key.removeprefix(_PREFIX),
                datetime.fromisoformat(first),
                datetime.fromisoformat(last),
            )
            if now - copy.last < SHOWN:
                found.append(copy)
    return found


def _said(tx: Tx, peer: str, living: str) -> dict[str, tuple[str, str]]:
    """First and last by epoch; what was said before the peer's present epoch began is over."""
    kept = json.loads(tx.meta.get(f"{_PREFIX}{peer}") or "{}")
    found: dict[str, tuple[str, str]] = kept["copies"] if kept.get("living") == living else {}
    return found
