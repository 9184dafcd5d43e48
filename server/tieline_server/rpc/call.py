"""A call as servicers see it: who makes it, and how long it may still take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from tieline_client.errors import TielineError


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, proven on this call: a member's node, or a person of the own agency.

    ``operator`` is None for a node, whose ``roles`` are empty. ``serial`` and ``leaf_digest``
    (SHA-256 of the DER) name the certificate.
    """

    agency: str
    operator: str | None
    roles: frozenset[str]
    serial: int
    leaf_digest: bytes

    @property
    def key(self) -> str:
        """Whose limits the call counts towards."""
        return self.agency if self.operator is None else f"{self.agency}/{self.operator}"


class CallContext(grpc.ServicerContext):
    """gRPC's context with the caller and the deadline.

    A servicer refuses by raising a TielineError, so that one place makes the status with its one
    ErrorInfo: ``abort`` is not for servicers. ``set_code`` is kept for the health service of
    grpcio, which knows no other way; the interceptor turns what it set into an error.
    """

    def __init__(
        self,
        context: grpc.ServicerContext,
        caller: Caller,
        deadline: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``deadline`` is a reading of ``monotonic``, seconds."""
        self._context = context
        self._deadline = deadline
        self._monotonic = monotonic
        self.caller = caller
        self.stated_code: grpc.StatusCode | None = None

    def time_left(self) -> float:
        """Seconds until the deadline, the caller's or this node's; zero or less when past."""
        return self._deadline - self._monotonic()

    def is_active(self) -> bool:
        return self._context.is_active()

    def time_remaining(self) -> float:
        return max(self.time_left(), 0.0)

    def cancel(self) -> None:
        self._context.cancel()  # type: ignore[no-untyped-call]  # the stub lacks the annotation

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return self._context.add_callback(callback)

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise TielineError(
            f"a servicer aborted with {code.name} ({details}); raise an error instead"
        )

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        self.abort(status.code, status.details)

    def set_code(self, code: grpc.StatusCode) -> None:
        self.stated_code = code

    def set_details(self, details: str) -> None:
        """Not passed on: the text of a refusal is that of its error."""

    def auth_context(self) -> Any:
        return self._context.auth_context()

    def disable_next_message_compression(self) -> None:
        self._context.disable_next_message_compression()

    def invocation_metadata(self) -> Any:
        return self._context.invocation_metadata()

    def peer(self) -> str:
        return self._context.peer()

    def peer_identities(self) -> Any:
        return self._context.peer_identities()

    def peer_identity_key(self) -> str | None:
        return self._context.peer_identity_key()

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        self._context.send_initial_metadata(initial_metadata)

    def set_compression(self, compression: grpc.Compression) -> None:
        self._context.set_compression(compression)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._context.set_trailing_metadata(trailing_metadata)

    def trailing_metadata(self) -> Any:
        return self._context.trailing_metadata()


def call_of(context: grpc.ServicerContext) -> CallContext:
    """Return the context with its caller; raise TielineError where no interceptor made one."""
    if not isinstance(context, CallContext):
        raise TielineError(
            "this call was not identified; serve behind the guard of interceptors.py"
        )
    return context


def caller_of(context: grpc.ServicerContext) -> Caller:
    """Return who makes the call."""
    return call_of(context).caller
