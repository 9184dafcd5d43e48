"""Lives, what is known of peers, places in lanes, and the outbox as an archive; both databases."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest
from tieline_client.identifiers import new_id
from tieline_server.domain.messages import InMessage, OutMessage, OutState, Reply
from tieline_server.domain.ports import Store, Tx
from tieline_server.domain.ports.standings import Challenge
from tieline_server.domain.referral import Urgency
from tieline_server.domain.standing import Known, LaneKnown, LaneWord, Ranges, Trouble, Word
from tieline_server.storage.standings import Standings

from tests.storage.building import NOON

ES, FR = "es-gc", "fr-ofmin"
ROUTINE = int(Urgency.ROUTINE)


def out(recipient: str = ES, **changes: object) -> OutMessage:
    fields: dict[str, object] = {
        "id": new_id(),
        "recipient": recipient,
        "lane": Urgency.ROUTINE,
        "kind": "referral",
        "subject": new_id(),
        "envelope": b"signed",
        "created": NOON,
    }
    return OutMessage(**fields | changes)  # type: ignore[arg-type]


def came(sequence: int, sender: str = ES, **changes: object) -> InMessage:
    fields: dict[str, object] = {
        "id": new_id(),
        "sender": sender,
        "lane": Urgency.ROUTINE,
        "sequence": sequence,
        "kind": "referral",
        "subject": "",
        "digest": b"d" * 32,
        "envelope": b"signed",
        "received": NOON,
        "reply": Reply.APPLIED,
    }
    return InMessage(**fields | changes)  # type: ignore[arg-type]


def queue(store: Store, count: int, **changes: object) -> list[OutMessage]:
    return [store.write(lambda tx: tx.outbox.add(out(ES, **changes))) for _ in range(count)]


def settle(store: Store, message: OutMessage, state: OutState) -> None:
    store.write(lambda tx: tx.outbox.settle(message.recipient, message.id, state, NOON))


def lane(store: Store, peer: str = ES) -> LaneWord:
    return store.read(lambda tx: tx.standings.mine(peer)).lanes[ROUTINE]


def states(store: Store, messages: list[OutMessage]) -> list[OutState | None]:
    def work(tx: Tx) -> list[OutState | None]:
        found = [tx.outbox.get(one.recipient, one.id) for one in messages]
        return [one.state if one else None for one in found]

    return store.read(work)


def test_a_life_is_begun_with_every_start_and_an_epoch_by_word(store: Store) -> None:
    words = []
    for _ in range(2):
        store.write(lambda tx: tx.standings.begin_life())
        words.append(store.read(lambda tx: tx.standings.mine(ES)))
    assert [one.start for one in words] == [1, 2]
    assert words[0].epoch == words[1].epoch and words[0].life != words[1].life
    assert not store.read(lambda tx: tx.standings.renewed())
    store.write(lambda tx: tx.standings.put(ES, Known(told="FORK", told_since=NOON)))
    epoch = store.write(lambda tx: tx.standings.begin_epoch())
    after = store.read(lambda tx: tx.standings.mine(ES))
    assert (after.epoch, after.start) == (epoch, 3) != (words[0].epoch, 3)
    assert store.read(lambda tx: tx.standings.renewed())
    assert store.read(lambda tx: tx.standings.known(ES)).told == ""


def test_what_is_known_of_a_peer_comes_back_whole(store: Store) -> None:
    known = Known(
        epoch="e1",
        lives=((1, "a"), (2, "b")),
        retired=frozenset({"e0", "e"}),
        lanes={ROUTINE: LaneKnown(5, 6, 3, 4)},
        trouble=Trouble.FORK,
        reason="two",
        since=NOON,
        told="SET_BACK",
        told_since=NOON + timedelta(1),
        recovered="mine",
        wire="v1.1",
        capabilities=frozenset({"standing", "deliver-batch"}),
    )
    store.write(lambda tx: tx.standings.put(ES, known))
    assert store.write(lambda tx: tx.standings.known(ES)) == known
    assert store.read(lambda tx: tx.standings.known(ES)) == known
    assert store.read(lambda tx: tx.standings.known(FR)) == Known()
    store.write(lambda tx: tx.standings.put_challenge(ES, Challenge("c", known)))
    challenge = store.read(lambda tx: tx.standings.challenge(ES))
    assert challenge is not None and challenge.id == "c"
    asked = challenge.asked
    assert (asked.epoch, asked.lives, asked.retired) == ("e1", known.lives, known.retired)
    assert asked.lanes == known.lanes
    store.write(lambda tx: tx.standings.put_challenge(ES, None))
    assert store.read(lambda tx: tx.standings.challenge(ES)) is None
    assert store.read(lambda tx: list(tx.standings.peers())) == [ES]


def take(store: Store, *places: int) -> None:
    """Messages of one batch, in the inbox and in their places."""

    def work(tx: Tx) -> None:
        for place in places:
            tx.inbox.add(came(place))
        tx.standings.came(ES, [(ROUTINE, place) for place in places])

    store.write(work)


@pytest.mark.parametrize("batch", [1, 2, 7, 30])
def test_places_in_any_order_leave_a_watermark_and_gaps(store: Store, batch: int) -> None:
    order = list(range(1, 31))
    random.Random(7).shuffle(order)
    seen: set[int] = set()
    while order:
        some, order = order[:batch], order[batch:]
        take(store, *some)
        seen.update(some)
        word = lane(store)
        applied = next(n for n in range(31) if n + 1 not in seen)
        assert (word.applied, word.highest) == (applied, max(seen))
        lacking = {n for first, last in word.gaps for n in range(first, last + 1)}
        assert lacking == set(range(1, max(seen))) - seen
    assert lane(store) == LaneWord(0, 30, 30)
    assert lane(store, FR) == LaneWord()
    assert store.read(lambda tx: tx.standings.known(ES)).lanes[ROUTINE].received == 30


@pytest.mark.parametrize("seed", range(5))
def test_ranges_of_any_length_leave_what_a_set_would(store: Store, seed: int) -> None:
    rng = random.Random(seed)
    seen: set[int] = set()
    for _ in range(40):
        first = rng.randrange(1, 60)
        last = first + rng.choice((0, 0, 1, 4, 20))
        if rng.random() < 0.3:
            store.write(lambda tx, f=first, t=last: tx.standings.settle(ES, ROUTINE, f, t))  # type: ignore[misc]
            seen.update(range(first, last + 1))
        else:
            places = [first, last, *rng.sample(range(1, 60), 3)]
            store.write(lambda tx, p=places: tx.standings.came(ES, [(ROUTINE, one) for one in p]))  # type: ignore[misc]
            seen.update(places)
        word = lane(store)
        applied = next(n for n in range(100) if n + 1 not in seen)
        assert (word.applied, word.highest) == (applied, max(seen))
        lacking = {n for low, high in word.gaps for n in range(low, high + 1)}
        assert lacking == set(range(1, max(seen))) - seen


def test_gaps_elsewhere_make_a_batch_no_dearer(store: Store) -> None:
    """Counted in steps of SQLite's machine, in which reading a row takes some."""
    if store.shared:
        pytest.skip("the same statements")

    def steps(first: int) -> int:
        count = 0

        def step() -> None:
            nonlocal count
            count += 1

        def work(tx: Tx) -> None:
            driver = cast("Standings", tx.standings)._session.driver
            driver.set_progress_handler(step, 1)
            tx.standings.came(ES, [(ROUTINE, first + 2 * one) for one in range(64)])
            driver.set_progress_handler(None, 1)

        store.write(work)
        return count

    steps(2)
    few = steps(1_000)
    store.write(
        lambda tx: tx.standings.came(ES, [(ROUTINE, 10_000 + 2 * one) for one in range(5_000)])
    )
    assert steps(100_000) < 2 * few
    assert steps(15_001) < 2 * few  # which close gaps among them


def test_a_void_passes_the_watermark_and_is_nobodys_place(store: Store) -> None:
    take(store, 1, 4)
    assert store.read(lambda tx: tx.standings.highest(ES)) == {ROUTINE: 4}
    store.write(lambda tx: tx.standings.settle(ES, ROUTINE, 2, 3))
    assert lane(store) == LaneWord(0, 4, 4)
    take(store, 0)  # of a peer of v1.0, which counts nothing
    assert lane(store) == LaneWord(0, 4, 4)
    first = store.read(lambda tx: tx.standings.holder(ES, ROUTINE, 1))
    assert first is not None
    for place in ((ES, ROUTINE, 2), (FR, ROUTINE, 1), (ES, 1, 1)):
        assert store.read(lambda tx, at=place: tx.standings.holder(*at)) is None  # type: ignore[misc]
    page = store.read(lambda tx: tx.standings.of_sender(ES, ROUTINE, 2, 10))
    assert [one.sequence for one in page] == [4]


def requeue(store: Store, ranges: Ranges) -> tuple[int, Ranges]:
    return store.write(lambda tx: tx.standings.requeue(ES, ROUTINE, ranges))


def test_what_was_delivered_goes_again_and_the_rest_is_void(store: Store) -> None:
    messages = queue(store, 6)
    for message, state in zip(
        messages,
        [OutState.DELIVERED, OutState.REFUSED, OutState.PARKED, OutState.DELIVERED],
        strict=False,
    ):
        settle(store, message, state)
    store.write(lambda tx: tx.standings.blank([(messages[3].id, ES)]))
    assert requeue(store, ((1, 8),)) == (1, ((2, 2), (4, 4), (7, 8)))
    assert states(store, messages) == [
        OutState.QUEUED,
        OutState.REFUSED,
        OutState.PARKED,
        OutState.DELIVERED,
        OutState.QUEUED,
        OutState.QUEUED,
    ]
    store.write(lambda tx: tx.standings.put_voids(ES, ROUTINE, ((2, 2), (4, 4))))
    assert lane(store).voids == ((2, 2), (4, 4))
    assert store.write(lambda tx: tx.standings.revive(ES)) == 1
    assert [one.sequence for one in store.read(lambda tx: tx.outbox.due(ES, 10))] == [1, 3, 5, 6]


def test_a_message_that_comes_back_takes_its_old_place(store: Store) -> None:
    delivered, waiting = queue(store, 2)
    settle(store, delivered, OutState.DELIVERED)
    assert store.read(lambda tx: tx.standings.first_unsure(ES, ROUTINE)) == 2
    store.write(lambda tx: tx.standings.raise_sent(ES, ROUTINE, 3))
    returned = [
        out(sequence=at, state=OutState.DELIVERED, settled=NOON, reason="back") for at in (2, 3)
    ]
    for one in returned:
        assert store.write(lambda tx, m=one: tx.standings.put_back(m))  # type: ignore[misc]
        assert not store.write(lambda tx, m=one: tx.standings.put_back(m))  # type: ignore[misc]
    (moved,) = store.read(lambda tx: tx.outbox.due(ES, 10))
    assert (moved.id, moved.sequence) == (waiting.id, 4)
    known = replace(waiting, sequence=4, state=OutState.DELIVERED, settled=NOON)
    assert store.write(lambda tx: tx.standings.put_back(known))
    assert store.read(lambda tx: tx.outbox.due(ES, 10)) == []
    assert store.read(lambda tx: tx.standings.first_unsure(ES, ROUTINE)) == 5
    store.write(lambda tx: tx.standings.raise_sent(ES, ROUTINE, 2))
    assert queue(store, 1)[0].sequence == 5


def test_the_archive_forgets_envelopes_not_messages(store: Store) -> None:
    old, young, open_one = queue(store, 3)
    settle(store, old, OutState.DELIVERED)
    store.write(
        lambda tx: tx.outbox.settle(ES, young.id, OutState.REFUSED, NOON + timedelta(days=1))
    )
    found = store.read(lambda tx: tx.standings.settled_before(NOON + timedelta(hours=1), 10))
    assert found == [(old.id, ES)]
    store.write(lambda tx: tx.standings.blank(found))
    assert store.read(lambda tx: tx.standings.settled_before(NOON + timedelta(hours=1), 10)) == []

    def envelopes(tx: Tx) -> list[bytes]:
        kept = [tx.outbox.get(ES, one.id) for one in (old, young, open_one)]
        return [one.envelope for one in kept if one is not None]

    assert store.read(envelopes) == [b"", b"signed", b"signed"]


def test_own_word_says_the_highest_sequence_given(store: Store) -> None:
    store.write(lambda tx: tx.standings.begin_life())
    queue(store, 2)
    queue(store, 1, lane=Urgency.IMMEDIATE)
    word: Word = store.read(lambda tx: tx.standings.mine(ES))
    assert {number: one.sent for number, one in word.lanes.items()} == {1: 1, 2: 0, 3: 2}
