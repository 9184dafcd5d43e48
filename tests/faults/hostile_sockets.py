"""Peers that misuse a listener: slow-loris, connections that say nothing, rapid stream resets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tieline_client.identifiers import dns_name

SECONDS = 60.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS, _HEADERS, _RST_STREAM = 0x4, 0x1, 0x3
_END_HEADERS = 0x4


@contextmanager
def silent(address: str, count: int) -> Iterator[list[socket.socket]]:
    """Hold connections open that send nothing, or the beginning of a TLS record and no more."""
    host, _, port = address.rpartition(":")
    held = []
    try:
        for number in range(count):
            one = socket.create_connection((host, int(port)), timeout=SECONDS)
            if number % 2:
                one.sendall(b"\x16\x03\x01")  # a handshake record whose length never comes
            held.append(one)
        yield held
    finally:
        for one in held:
            with contextlib.suppress(OSError):
                one.close()


def tls(address: str, home: Path, agency: str, federation: str) -> ssl.SSLSocket:
    """Connect as the node whose home this is: a member that behaves badly from there on."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the test is about the server, not about whom it meets
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(home / "certs" / "node.pem", home / "keys" / "node.key")
    raw = socket.create_connection((host, int(port)), timeout=SECONDS)
    return context.wrap_socket(raw, server_hostname=dns_name(agency, federation))


def rapid_resets(connection: ssl.SSLSocket, path: str, streams: int) -> int:
    """Open streams and reset each at once; return how many went out before the server hung up."""
    connection.sendall(PREFACE + _frame(_SETTINGS, 0, 0, b""))
    headers = _headers(path)
    sent = 0
    with contextlib.suppress(OSError):
        for number in range(streams):
            stream = 2 * number + 1
            connection.sendall(
                _frame(_HEADERS, _END_HEADERS, stream, headers)
                + _frame(_RST_STREAM, 0, stream, struct.pack(">I", 8))
            )
            sent += 1
    return sent


def slow_writer(connection: ssl.SSLSocket, path: str) -> Iterator[None]:
    """Open a call and send one byte of its message at each step."""
    connection.sendall(PREFACE + _frame(_SETTINGS, 0, 0, b""))
    connection.sendall(_frame(_HEADERS, _END_HEADERS, 1, _headers(path)))
    body = b"\x00" + struct.pack(">I", 100_000) + b"\x00" * 100_000
    for byte in body:
        try:
            connection.sendall(_frame(0, 0, 1, bytes([byte])))
        except OSError:
            return
        yield


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _headers(path: str) -> bytes:
    """A gRPC request's headers as literals without indexing (RFC 7541, section 6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": path,
        ":authority": "node",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    return b"".join(
        b"\x00" + _text(name.encode()) + _text(value.encode()) for name, value in fields.items()
    )


def _text(value: bytes) -> bytes:
    assert len(value) < 127
    return bytes([len(value)]) + value
