"""Questions that say nothing, one after another, so that one is open whenever trust ends.

By its silence alone each ends after limits.STREAM_IDLE_SECONDS, with a reason; how long a change
takes to reach a node is a matter of the machine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from tieline_client import limits
from tieline_client.peer_client import PeerClient

_OVERLAP = "/tieline.v1.ExchangeService/Overlap"


@contextmanager
def silent_questions(client: PeerClient) -> Iterator[list[grpc.StatusCode]]:
    """Ask meanwhile; yield the codes with which questions have ended, those of now at any time."""
    ended: list[grpc.StatusCode] = []
    calls: list[Any] = []  # one that nobody holds is cancelled
    over = threading.Event()
    client.hello()

    def nothing() -> Iterator[bytes]:
        over.wait()
        yield from ()

    def begin() -> None:
        calls.append(client._channel.stream_stream(_OVERLAP, None, None)(nothing()))
        calls[-1].add_done_callback(lambda one: ended.append(one.code()))

    def go_on() -> None:
        while not over.wait(limits.STREAM_IDLE_SECONDS / 3):
            begin()

    begin()
    asking = threading.Thread(target=go_on)
    asking.start()
    try:
        yield ended
    finally:
        over.set()
        asking.join()
