"""An operator on the healthy side takes a quarantined peer back.

The usual way out of a quarantine is the peer's: its operator says which home lives, and a new
epoch begins. Where that agency has found that nothing was lost (a machine moved with its disk, a
copy that is off for good), an operator here may end it, by name and with a reason, both logged:

1. Only one of the peer's lives may have spoken of late: two that speak are two that run. Whoever
   runs is heard within an hour, since contact is hourly at least.
2. From then on the life that speaks next is the peer's. What it says of its lanes is judged as
   ever: one that lacks what is known here, or a second one, is quarantined again at once, so that
   nothing is lost or repeated by an error of the operator.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

from tieline_client.errors import NotFound, WrongState

from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.ports import Store, Tx
from tieline_server.domain.standing import Trouble, Word

QUIET = timedelta(minutes=65)
"""A little over the hour between contacts: a copy that runs is heard in that time."""
_LIVES_NOTED = 8


def note_heard(tx: Tx, peer: str, word: Word, now: datetime) -> None:
    """Remember which life of a quarantined peer spoke, and when."""
    heard = _heard(tx, peer)
    heard[f"{word.epoch} {word.start} {word.life}"] = now.isoformat()
    latest = sorted(heard.items(), key=lambda one: one[1])[-_LIVES_NOTED:]
    tx.meta.set(_key(peer), json.dumps(dict(latest)))


def accept(store: Store, own: str, peer: str, person: str, reason: str, now: datetime) -> str:
    """End a quarantine; return what was held against the peer.

    Raises NotFound for a peer that is not quarantined, WrongState while two of it speak.
    """

    def work(tx: Tx) -> str:
        known = tx.standings.known(peer)
        if known.trouble is Trouble.NONE:
            raise NotFound(f"{peer[:32]} is not quarantined; see `tieline node status`")
        # 1
        late = [life for life, at in _heard(tx, peer).items() if _recent(at, now)]
        if len(late) > 1:
            minutes = int(QUIET.total_seconds() // 60)
            raise WrongState(
                f"{len(late)} copies of {peer} spoke within {minutes} minutes; have all but one "
                "ended, and come again when that time has passed"
            )
        # 2
        free = replace(known, trouble=Trouble.NONE, reason="", since=None, lives=())
        tx.standings.put(peer, free)
        tx.standings.put_challenge(peer, None)
        tx.meta.drop(_key(peer))
        tx.audit.append(
            AuditEntry(
                action="standing.accepted",
                at=now,
                agency=own,
                person=person,
                peer=peer,
                detail={"reason": reason, "held": known.trouble.value, "why": known.reason},
            )
        )
        return known.trouble.value

    return store.write(work)


def _recent(at: str, now: datetime) -> bool:
    return now - datetime.fromisoformat(at) <= QUIET


def _key(peer: str) -> str:
    return f"heard:{peer}"


def _heard(tx: Tx, peer: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(tx.meta.get(_key(peer)) or "{}")
    return found
