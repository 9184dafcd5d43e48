"""Relayed connections as a caller sees them: bytes of one connection over one call (relay.proto).

The side that calls reads its own socket only once the other side has taken up the connection, so
that what was not relayed can still go another way.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Protocol, TypeVar

from tieline.v1 import relay_pb2

from tieline_client import constraints, limits
from tieline_client.tls_records import RecordSplitter

Q = TypeVar("Q", relay_pb2.CarryRequest, relay_pb2.ConnectRequest)
A = TypeVar("A", relay_pb2.CarryResponse, relay_pb2.ConnectResponse)


class StreamCall(Protocol):
    """A call under way: its answers, unparsed."""

    def __iter__(self) -> Iterator[bytes]: ...
    def cancel(self) -> object: ...


def relay(
    start: Callable[[Iterator[Q]], StreamCall],
    first: Q,
    wrap: Callable[[bytes], Q],
    kind: type[A],
    outgoing: Iterable[bytes],
) -> Iterator[bytes]:
    """Open a relayed connection; yield the frames that come.

    The first answer, of a Connect empty, says that the other side is there: from then on, or at
    once for a Carry, ``outgoing`` is read in a thread of gRPC's.
    """
    there = threading.Event()
    if isinstance(first, relay_pb2.CarryRequest):
        there.set()
    over = threading.Event()

    def requests() -> Iterator[Q]:
        yield first
        there.wait()
        if not over.is_set():
            for frame in outgoing:
                yield wrap(frame)

    call = start(requests())
    try:
        for data in call:
            there.set()
            yield constraints.open_nested(data, kind).records
    finally:
        over.set()
        there.set()
        call.cancel()


def frames(source: socket.socket) -> Iterator[bytes]:
    """Read a socket until its end, however it ends; yield whole TLS records.

    Raises MalformedMessage when something else than TLS comes.
    """
    splitter = RecordSplitter()
    while True:
        try:
            data = source.recv(limits.RELAY_FRAME_BYTES)
        except OSError:
            return
        if not data:
            return
        yield from splitter.feed(data)


def pump(incoming: Iterable[bytes], target: socket.socket) -> None:
    """Write what comes to a socket, until either ends; a socket that does not take it ends too."""
    try:
        for frame in incoming:
            target.sendall(frame)
    except OSError:  # the other side closed, or took nothing for the socket's timeout
        return
    finally:
        end(target)


def end(one: socket.socket) -> None:
    """Let whoever reads or writes the socket find its end."""
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
