"""What the wire alone takes: gRPC echoes over the same mutual TLS, from a process of their own.

``python -m benchmarks.echo HOME CALLER PORT`` serves with the certificate of the node at HOME to
the node at CALLER, until its standard input ends. `Echo` is the caller's side. Nothing is parsed,
checked or stored.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from tieline_client import tls
from tieline_server.allocator import keep_freed_memory

from tests.e2e.federation import Node, free_port

UNARY, STREAM = "/Echo/Unary", "/Echo/Stream"


class Echo:
    """A channel to an echo server."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._unary = channel.unary_unary(UNARY, None, None)
        self._stream = channel.stream_stream(STREAM, None, None)

    def unary(self, message: bytes) -> bytes:
        """Send one message and wait until it is back."""
        answer: bytes = self._unary(message)
        return answer

    def many(self, message: bytes, count: int, at_once: int) -> None:
        """Send one message so many times, with so many on their way at once."""
        room = threading.Semaphore(at_once)
        failed: list[grpc.Future[bytes]] = []

        def ended(call: grpc.Future[bytes]) -> None:
            if call.exception() is not None:
                failed.append(call)
            room.release()

        for _ in range(count):
            room.acquire()
            self._unary.future(message).add_done_callback(ended)
        for _ in range(at_once):
            room.acquire()
        if failed:
            raise SystemExit(f"{len(failed)} echoes failed: {failed[0].exception()}")

    def stream(self, messages: Iterable[bytes]) -> Iterator[bytes]:
        """Send messages and yield them as they come back."""
        yield from self._stream(iter(messages))


@contextmanager
def echo(holder: Node, caller: Node, federation: str) -> Iterator[Echo]:
    """Run a server as ``holder`` and call it as ``caller``."""
    port = free_port()
    words = [sys.executable, "-m", "benchmarks.echo", str(holder.home), str(caller.home), str(port)]
    server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None and server.stdout is not None
    server.stdout.readline()
    channel = tls.node_channel(
        f"127.0.0.1:{port}",
        agency=holder.agency,
        federation=federation,
        roots=_authority(holder.home),
        identity=_identity(caller.home),
    )
    try:
        yield Echo(channel)
    finally:
        channel.close()
        server.stdin.close()
        server.wait()


def _identity(home: Path) -> tls.Identity:
    return tls.Identity(
        (home / "certs" / "node.pem").read_bytes(), (home / "keys" / "node.key").read_bytes()
    )


def _authority(home: Path) -> tuple[bytes, ...]:
    return (tls.to_der((home / "certs" / "node-ca.pem").read_bytes()),)


def serve(home: Path, caller: Path, port: int) -> None:
    """Serve until standard input ends."""
    keep_freed_memory()
    material = tls.ServerMaterial(_identity(home), _authority(caller))
    server = grpc.server(ThreadPoolExecutor(8), options=tls.server_options())
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Unary": grpc.unary_unary_rpc_method_handler(lambda message, _: message),
        "Stream": grpc.stream_stream_rpc_method_handler(lambda messages, _: messages),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Echo", handlers)])
    server.add_secure_port(f"127.0.0.1:{port}", tls.server_credentials(lambda: material))
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop(None).wait()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
