"""A listener: one gRPC server on one port, with its caps, its health service and its end.

What grpc-core refuses by itself, before any Python runs, comes back bare: a failed handshake, a
message over MESSAGE_BYTES (compressed or not: it stops inflating there), too many open calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tieline_client import limits, tls
from tieline_client.errors import ConfigurationError

Registration = Callable[[grpc.Server], None]
"""Adds one servicer, for example ``partial(add_ExchangeServiceServicer_to_server, servicer)``."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that is bound to ``port`` and not yet started."""

    server: grpc.Server
    port: int
    health: health.HealthServicer
    threads: tuple[ThreadPoolExecutor, ...]

    def start(self) -> None:
        """Begin to answer."""
        self.server.start()

    def set_serving(self, serving: bool) -> None:
        """Say in the health service whether this node answers."""
        served = health_pb2.HealthCheckResponse
        self.health.set("", served.SERVING if serving else served.NOT_SERVING)

    def stop(self, grace: float) -> None:
        """Take no new calls, let open ones end within ``grace`` seconds, cut off the rest.

        Returns when the last handler has come out, so that what it works on may then be closed.
        """
        self.health.enter_graceful_shutdown()
        self.server.stop(grace).wait()
        for pool in self.threads:
            pool.shutdown(wait=True, cancel_futures=True)


def build_server(
    address: str,
    credentials: grpc.ServerCredentials,
    interceptors: Sequence[grpc.ServerInterceptor[Any, Any]],
    registrations: Sequence[Registration],
    *,
    threads: int = limits.RPC_THREADS,
    concurrent: int = limits.CONCURRENT_RPCS,
    share_port: bool = False,
    age_seconds: float = limits.CONNECTION_AGE_SECONDS,
    grace_seconds: float = limits.CONNECTION_GRACE_SECONDS,
    standing: ThreadPoolExecutor | None = None,
) -> Endpoint:
    """Bind a server to ``address``; start it with ``start``.

    ``address`` is host:port (port 0 for a free one) or unix:path.

    ``threads`` is how many calls are worked on at once, ``concurrent`` how many may be open; what
    the guard gives to ``standing`` comes on top of both. ``age_seconds`` is how long a connection
    may be used, ``grace_seconds`` what a call may still take once it is past that; a listener with
    longer calls needs more. Raises ConfigurationError when the port cannot be bound, for example
    because another node has it.
    """
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="rpc")
    options = dict(tls.server_options(share_port=share_port))
    options["grpc.max_connection_age_ms"] = round(age_seconds * 1000)
    options["grpc.max_connection_age_grace_ms"] = round(grace_seconds * 1000)
    server = grpc.server(
        pool,
        interceptors=list(interceptors),
        options=list(options.items()),
        maximum_concurrent_rpcs=concurrent + (limits.RELAY_STREAMS if standing else 0),
    )
    health_servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    for register in registrations:
        register(server)
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError:
        port = 0
    if port == 0:
        pool.shutdown(wait=False)
        raise ConfigurationError(
            f"cannot listen on {address}: it is in use, perhaps by another node, or no address of"
            " this machine; stop the other or change the configuration"
        )
    return Endpoint(server, port, health_servicer, (pool, standing) if standing else (pool,))


def standing_threads() -> ThreadPoolExecutor:
    """Return threads for what stands for long: one for each that may be open, made when needed."""
    return ThreadPoolExecutor(max_workers=limits.RELAY_STREAMS, thread_name_prefix="relay")
