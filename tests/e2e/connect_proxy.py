"""A small HTTP proxy that knows CONNECT alone (RFC 9110, 9.3.6), with names that only it resolves.

It notes whom it was asked for and the first bytes of each direction, so that a test sees that what
passes is TLS from the start.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

_HEAD_BYTES = 16 * 1024
_READ_BYTES = 64 * 1024


@dataclass
class Passed:
    """One CONNECT: for whom, what it was told, and how each direction began."""

    target: str
    code: int
    sent: bytes = b""
    received: bytes = b""


@dataclass
class ConnectProxy:
    """Listens on ``port`` of 127.0.0.1 from ``start`` to ``close``.

    ``names`` are the HOST:PORT that it connects to, and where they are; all else is refused.
    ``credentials``, USER:PASSWORD, are demanded where given.
    """

    port: int
    names: Mapping[str, str]
    credentials: str = ""
    passed: list[Passed] = field(default_factory=list)

    def start(self) -> ConnectProxy:
        """Begin to answer."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def close(self) -> None:
        """End every connection."""
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    @property
    def url(self) -> str:
        """What goes into a node's configuration."""
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                self._open.add(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            head = self._head(client)
            lines = head.decode("ascii", "replace").split("\r\n")
            method, target = lines[0].split(" ")[:2]
            fields = [line.split(": ", 1) for line in lines[1:] if ": " in line]
            headers = {name.lower(): value for name, value in fields}
            wanted = base64.b64encode(self.credentials.encode()).decode()
            said = headers.get("proxy-authorization", "")
            where = self.names.get(target)
            code = 200
            if method != "CONNECT" or "host" not in headers:
                code = 405
            elif self.credentials and said != f"Basic {wanted}":
                code = 407
            elif where is None:
                code = 403
            noted = Passed(target, code)
            self.passed.append(noted)
            if where is None or code != 200:
                client.sendall(f"HTTP/1.1 {code} Refused\r\nContent-Length: 0\r\n\r\n".encode())
                return
            host, _, port = where.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                self._open.add(server)
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(
                    target=self._pass, args=(server, client, noted, "received"), daemon=True
                )
                back.start()
                self._pass(client, server, noted, "sent")
                back.join()

    @staticmethod
    def _head(client: socket.socket) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n") and len(head) < _HEAD_BYTES:
            more = client.recv(1)
            if not more:
                raise OSError("it ended within the head")
            head += more
        return head

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket, noted: Passed, way: str) -> None:
        try:
            while data := source.recv(_READ_BYTES):
                setattr(noted, way, getattr(noted, way) or data[:16])
                target.sendall(data)
        except OSError:
            pass
        finally:
            for one in (source, target):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
