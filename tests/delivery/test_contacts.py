"""A contact that fails is not tried again at once, however often the peer greets; one that hangs
costs one thread."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tieline_client import limits
from tieline_client.errors import SignatureRefused
from tieline_server.delivery.contacts import Contacts

SECONDS = 60.0


def test_a_peer_that_refuses_us_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    # Longer than the test, however slow the machine.
    monkeypatch.setattr("tieline_server.delivery.contacts.wait_seconds", lambda _count: 3600.0)
    tried: list[str] = []
    called, other = threading.Event(), threading.Event()

    def abilities(agency: str) -> Any:
        tried.append(agency)
        (other if agency == "pt-pj" else called).set()
        raise SignatureRefused("signed in the future")

    node = SimpleNamespace(peers=SimpleNamespace(abilities=abilities))
    contacts = Contacts(cast(Any, node), lambda: [])
    contacts.start()
    try:
        for _ in range(200):
            contacts.soon("es-gc")
        assert called.wait(SECONDS)
        contacts.soon("pt-pj")
        assert other.wait(SECONDS), "another peer waits for nothing"
        for _ in range(200):
            contacts.soon("es-gc")
        contacts.soon("fr-pn")
    finally:
        contacts.stop()
    assert tried.count("es-gc") <= 2


def test_a_peer_that_hangs_takes_one_thread_however_often_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tieline_server.delivery.contacts.try_contact", lambda *_: None)
    tried: list[str] = []
    hangs, let_go, other = threading.Semaphore(0), threading.Event(), threading.Event()

    def contact(agency: str) -> None:
        tried.append(agency)
        if agency == "pt-pj":
            other.set()
        else:
            hangs.release()
            let_go.wait(SECONDS)

    contacts = Contacts(cast(Any, SimpleNamespace()), lambda: [])
    contacts.contact = contact  # type: ignore[method-assign]
    contacts.start()
    try:
        contacts.soon("es-gc")
        assert hangs.acquire(timeout=SECONDS)
        for _ in range(2 * limits.GREETERS):  # its words are in doubt, again and again
            contacts.soon("es-gc")
            time.sleep(0.01)
        contacts.soon("pt-pj")
        assert other.wait(SECONDS), "another peer waits for the one that hangs"
        assert tried.count("es-gc") == 1
        let_go.set()
        assert hangs.acquire(timeout=SECONDS), "asked for meanwhile, it is done once more"
    finally:
        let_go.set()
        contacts.stop()
    assert tried.count("es-gc") == 2


def test_threads_that_wait_end_at_once_and_contact_nobody_then() -> None:
    tried: list[str] = []
    node = SimpleNamespace(peers=SimpleNamespace(abilities=tried.append))
    contacts = Contacts(cast(Any, node), lambda: [])
    before = set(threading.enumerate())
    contacts.start()
    waiting = set(threading.enumerate()) - before
    assert len(waiting) == limits.GREETERS
    began = time.monotonic()
    contacts.stop()
    assert time.monotonic() - began < limits.STOP_SECONDS
    assert not any(thread.is_alive() for thread in waiting)
    contacts.soon("pt-pj")
    assert tried == []
