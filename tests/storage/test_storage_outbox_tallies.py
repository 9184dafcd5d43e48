"""The counts of what waits are those of the rows, whatever happened to them, on either database."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from tieline_client.identifiers import new_id
from tieline_server.domain.messages import OutMessage, OutState
from tieline_server.domain.ports import Store, Tx
from tieline_server.domain.referral import Urgency

from tests.storage.building import NOON

AGENCIES = ("be-pol", "es-gc", "us-ice")
SERIES = ("s-1", "s-2", "s-3")
HOUR = timedelta(hours=1)


def counted(store: Store) -> dict[tuple[str, Urgency], tuple[int, int]]:
    """All rows, one by one: (recipient, lane) to how many are queued and, of those, put off."""
    queued: Counter[tuple[str, Urgency]] = Counter()
    put_off: Counter[tuple[str, Urgency]] = Counter()
    for one in store.read(lambda tx: tx.outbox.find(state=OutState.QUEUED, limit=100_000)):
        queued[one.recipient, one.lane] += 1
        put_off[one.recipient, one.lane] += one.held_until is not None
    return {key: (count, put_off[key]) for key, count in queued.items()}


def told(store: Store) -> dict[tuple[str, Urgency], tuple[int, int]]:
    """What `tieline outbox` says."""
    return {
        (there.agency, lane): (of.queued, of.put_off)
        for there in store.read(lambda tx: tx.outbox.destinations())
        for lane, of in there.lanes.items()
    }


class Chance:
    """Does to an outbox what a node may do, in any order."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.sent: list[OutMessage] = []

    def steps(self, tx: Tx, count: int) -> None:
        for _ in range(count):
            self._step(tx)

    def _step(self, tx: Tx) -> None:
        pick = self._random
        agency = pick.choice(AGENCIES)
        some = [one for one in self.sent if one.recipient == agency]
        until = NOON + pick.randrange(4) * HOUR
        what = pick.choice(("add", "add", "add", "settle", "hold", "release", "cancel", "archive"))
        if what == "add" or not some:
            lane = pick.choice(list(Urgency))
            made = OutMessage(
                *(new_id(), agency, lane, "referral", pick.choice(SERIES)),
                envelope=b"signed",
                created=NOON,
            )
            self.sent.append(tx.outbox.add(made))
        elif what == "settle":
            for one in pick.sample(some, min(len(some), 4)):
                tx.outbox.settle(agency, one.id, pick.choice(list(OutState)), NOON)
        elif what == "hold":
            tx.outbox.hold(agency, pick.choice(some).id, until, "later")
        elif what == "release":
            tx.outbox.release(agency, until)
        elif what == "cancel":
            tx.erasure.cancel(pick.choice(SERIES), pick.choice((None, [agency])))
        else:
            self._archive(tx, pick.choice(some))

    def _archive(self, tx: Tx, one: OutMessage) -> None:
        agency, lane = one.recipient, int(one.lane)
        what = self._random.choice(("requeue", "revive", "put_back", "other"))
        if what == "requeue":
            tx.standings.requeue(agency, lane, ((one.sequence, one.sequence + 3),))
        elif what == "revive":
            tx.standings.revive(agency)
        else:
            back = replace(one, state=OutState.DELIVERED, settled=NOON)
            tx.standings.put_back(back if what == "put_back" else replace(back, id=new_id()))


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_the_rows(store: Store, seed: int) -> None:
    chance = Chance(seed)
    for _ in range(40):
        store.write(lambda tx: chance.steps(tx, 5))
        rows = counted(store)
        assert told(store) == rows
        assert store.read(lambda tx: tx.outbox.waiting()) == sorted({to for to, _ in rows})
    assert len(chance.sent) > 50


def test_what_is_rolled_back_is_not_counted(store: Store) -> None:
    class Undone(Exception):
        pass

    chance = Chance(9)
    store.write(lambda tx: chance.steps(tx, 20))
    before = told(store)

    def work(tx: Tx) -> None:
        chance.steps(tx, 20)
        raise Undone

    with pytest.raises(Undone):
        store.write(work)
    assert told(store) == before == counted(store)
