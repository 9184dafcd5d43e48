"""Sockets of this machine only: files in a folder that nobody else may enter."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tieline_client import limits

_BACKLOG = 16
_TIMEVAL = struct.pack("@ll", int(limits.STREAM_IDLE_SECONDS), 0)


def _ready(one: socket.socket) -> socket.socket:
    """Bound how long a write waits for whoever does not read; a read may wait for ever."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL)
    return one


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    """Connect to a socket of this machine; raise OSError when nobody listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.connect(str(path))
        yield _ready(one)


def listening(path: Path) -> socket.socket:
    """Listen on a new socket at ``path``, for this user alone."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.bind(str(path))
    path.chmod(0o600)
    one.listen(_BACKLOG)
    return one


def accepted(listener: socket.socket) -> socket.socket | None:
    """Return the next connection, or None once the listener is shut down."""
    try:
        return _ready(listener.accept()[0])
    except OSError:
        return None
