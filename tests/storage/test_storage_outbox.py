"""The outbox: what is due and put off, how a queue moves, and parts of transactions."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from tieline_client.errors import InvalidInput
from tieline_client.identifiers import new_id
from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.messages import LaneQueue, OutMessage, OutState
from tieline_server.domain.ports import Store, Tx
from tieline_server.domain.referral import Urgency
from tieline_server.storage.errors import AlreadyStored

from tests.storage.building import NOON, each

HOUR = timedelta(hours=1)


def message(recipient: str = "us-ice", envelope: bytes = b"signed") -> OutMessage:
    return OutMessage(
        new_id(), recipient, Urgency.ROUTINE, "referral", "s", envelope=envelope, created=NOON
    )


def entry() -> AuditEntry:
    return AuditEntry("x", NOON, "pt-pj")


def test_what_is_put_off_is_due_when_it_is_let_go(store: Store) -> None:
    one, two, three = (store.write(lambda tx: tx.outbox.add(message())) for _ in range(3))
    store.write(lambda tx: tx.outbox.hold("us-ice", one.id, NOON + HOUR, "later"))
    store.write(lambda tx: tx.outbox.hold("us-ice", two.id, NOON + 2 * HOUR, "", tried=False))
    assert store.read(lambda tx: tx.outbox.due("us-ice", 9)) == [three]
    assert store.read(lambda tx: tx.outbox.held("us-ice")) == NOON + HOUR
    assert store.read(lambda tx: tx.outbox.behind("us-ice", ["s", "t"])).keys() == {"s"}
    (there,) = store.read(lambda tx: tx.outbox.destinations())
    assert there.lanes == {Urgency.ROUTINE: LaneQueue(3, 2, NOON)}
    store.write(lambda tx: tx.outbox.release("us-ice", NOON + HOUR))
    due = store.read(lambda tx: tx.outbox.due("us-ice", 9))
    assert [(m.id, m.attempts, m.reason) for m in due] == [(one.id, 1, "later"), (three.id, 0, "")]
    store.write(lambda tx: tx.outbox.settle("us-ice", two.id, OutState.DELIVERED, NOON))
    assert store.read(lambda tx: tx.outbox.held("us-ice")) is None
    assert store.read(lambda tx: tx.outbox.behind("us-ice", ["s"])) == {}


def test_one_message_goes_to_many_recipients(store: Store) -> None:
    one = message()
    other = dataclasses.replace(one, recipient="be-pol")
    each(store, (one, other), lambda tx, m: tx.outbox.add(m))
    store.write(lambda tx: tx.outbox.settle("be-pol", one.id, OutState.PARKED, NOON))
    assert store.read(lambda tx: tx.outbox.waiting()) == ["us-ice"]
    assert store.read(lambda tx: tx.outbox.behind("be-pol", ["s"])) == {
        "s": (OutState.PARKED, None)
    }
    listed = store.read(lambda tx: tx.outbox.find(limit=1))
    assert [m.recipient for m in listed] == ["us-ice"]
    rest = store.read(lambda tx: tx.outbox.find(before=(one.id, "us-ice")))
    assert [m.recipient for m in rest] == ["be-pol"]


def test_envelopes_are_read_up_to_so_many_bytes(store: Store) -> None:
    each(store, [message(envelope=bytes(40)) for _ in range(4)], lambda tx, m: tx.outbox.add(m))
    for most, count in ((39, 1), (40, 1), (80, 2), (120, 3), (1_000, 4)):
        found = store.read(lambda tx, most=most: tx.outbox.due("us-ice", 9, most))  # type: ignore[misc]
        assert [m.sequence for m in found] == list(range(1, count + 1))


def test_a_queue_is_counted_from_when_it_began_to_move(store: Store) -> None:
    store.write(lambda tx: tx.outbox.add(message()))
    store.write(lambda tx: tx.outbox.back_off("us-ice", 2, NOON, "down"))
    store.write(lambda tx: tx.outbox.progressed("us-ice", 60, NOON))
    store.write(lambda tx: tx.outbox.progressed("us-ice", 4, NOON + HOUR))
    (there,) = store.read(lambda tx: tx.outbox.destinations())
    assert (there.attempts, there.last_error, there.next_attempt) == (0, "", None)
    assert (there.busy_since, there.delivered) == (NOON, 64)
    store.write(lambda tx: tx.outbox.caught_up("us-ice"))
    store.write(lambda tx: tx.outbox.progressed("us-ice", 5, NOON + HOUR))
    there = store.read(lambda tx: tx.outbox.destination("us-ice"))
    assert (there.busy_since, there.delivered, there.queued) == (NOON + HOUR, 5, 0)


def test_what_fails_in_a_part_of_a_transaction_leaves_the_rest(store: Store) -> None:
    one = message()
    before = store.read(lambda tx: tx.audit.size())

    def work(tx: Tx) -> None:
        tx.outbox.add(one)
        for error, raised in ((InvalidInput("no"), InvalidInput), (None, AlreadyStored)):
            with pytest.raises(raised), tx.savepoint():
                tx.audit.append(entry())
                tx.outbox.add(message("be-pol"))
                if error:
                    raise error
                tx.outbox.add(one)
        with tx.savepoint():
            tx.audit.append(entry())

    store.write(work)
    store.drain()
    assert store.read(lambda tx: tx.outbox.waiting()) == ["us-ice"]
    assert store.read(lambda tx: tx.audit.size()) == before + 1
