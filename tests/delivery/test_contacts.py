"""A contact that fails is not tried again at once, however often the peer greets."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any, cast

from tieline_client import limits
from tieline_client.errors import SignatureRefused
from tieline_server.delivery.contacts import Contacts


def test_a_peer_that_refuses_us_is_left_alone_for_a_while() -> None:
    tried: list[str] = []
    other = threading.Event()

    def abilities(agency: str) -> Any:
        tried.append(agency)
        if agency == "pt-pj":
            other.set()
        raise SignatureRefused("signed in the future")

    node = SimpleNamespace(peers=SimpleNamespace(abilities=abilities))
    contacts = Contacts(cast(Any, node), lambda: [])
    contacts.start()
    try:
        for _ in range(200):
            contacts.soon("es-gc")
        contacts.soon("pt-pj")
        assert other.wait(10.0), "another peer waits for nothing"
        for _ in range(200):
            contacts.soon("es-gc")
        contacts.soon("fr-pn")
    finally:
        contacts.stop()
    assert tried.count("es-gc") <= 3
    assert tried.count("es-gc") >= 1


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
    assert time.monotonic() - began < 5.0
    assert not any(thread.is_alive() for thread in waiting)
    contacts.soon("pt-pj")
    assert tried == []
