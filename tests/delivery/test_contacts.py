"""A contact that fails is not tried again at once, however often the peer greets."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

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
