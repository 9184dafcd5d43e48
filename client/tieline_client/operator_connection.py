"""The connection of a person to the own node: one channel, deadlines, errors in our own classes.

The channel's root is the node CA in the profile, its name the agency's, its certificate the
person's. What the node refuses, and a node that is not there, come out as the classes of
errors.py; gRPC's own errors never do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status
from tieline.v1 import operator_pb2 as pb
from tieline.v1.auditor_pb2_grpc import AuditorServiceStub
from tieline.v1.operator_access_pb2_grpc import ProfileServiceStub
from tieline.v1.operator_pb2_grpc import OperatorServiceStub

from tieline_client import constraints, limits
from tieline_client.errors import InvalidInput, TielineError, Unreachable
from tieline_client.profile import Profile, utc_now
from tieline_client.status import from_rpc_error
from tieline_client.tls import node_channel

Q = TypeVar("Q", bound=Message)
P = TypeVar("P")
R = TypeVar("R", bound=Message)


@dataclass(slots=True)
class _Requests(Generic[P]):
    """Feeds a stream; a failure of the source cancels the call instead of leaking into gRPC."""

    source: Iterator[P]
    call: Any = None
    failure: BaseException | None = None
    started: threading.Event = field(default_factory=threading.Event)

    def __iter__(self) -> Iterator[P]:
        return self

    def __next__(self) -> P:
        try:
            return next(self.source)
        except StopIteration:
            raise
        except BaseException as error:  # noqa: BLE001 - it is raised again where the call is read
            self.failure = error
            self.started.wait()
            self.call.cancel()
            # The call is over, so that this end of the stream is never sent.
            raise StopIteration from None


class OperatorConnection:
    """One person's connection; a context manager."""

    def __init__(
        self, profile: Profile, *, passphrase: bytes | None = None, now: datetime | None = None
    ) -> None:
        """Open the channel; nothing is sent before the first call.

        Raises ConfigurationError for an unusable key, OperatorCertificateExpired for one that is
        past its time at ``now``.
        """
        self.profile = profile
        self._channel = node_channel(
            profile.address,
            agency=profile.agency,
            federation=profile.federation,
            roots=profile.node_cas(),
            identity=profile.identity(passphrase, now or utc_now()),
        )
        self.stub = OperatorServiceStub(self._channel)
        self.auditor = AuditorServiceStub(self._channel)
        self.profiles = ProfileServiceStub(self._channel)
        # Its requests are the bytes that batches are (digest_batch.py).
        self.ask_stream = self._channel.stream_stream(
            "/tieline.v1.OperatorService/AskOverlap", None, pb.AskOverlapResponse.FromString
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every call that still runs and the connection."""
        self._channel.close()

    def call(
        self, method: Callable[..., R], request: Message, seconds: float = limits.UNARY_SECONDS
    ) -> R:
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            raise self.translated(error) from None

    def converse(
        self, method: Callable[..., Any], parts: Iterator[Message | bytes], seconds: float
    ) -> Iterator[Any]:
        """Send ``parts`` and yield the responses; what ``parts`` raises cancels and comes out."""
        requests = _Requests(parts)
        call = method(requests, timeout=seconds)
        requests.call = call
        requests.started.set()
        try:
            yield from self.read(call)
        except TielineError:
            if requests.failure is None:
                raise
        if requests.failure is not None:
            raise requests.failure

    def read(self, call: Any) -> Iterator[Any]:
        """Yield the responses of a stream; end it when they are no longer wanted."""
        try:
            yield from call
        except grpc.RpcError as error:
            raise self.translated(error) from None
        finally:
            call.cancel()

    def translated(self, error: grpc.RpcError) -> TielineError:
        """Return what the node said, or in plain words that it is not there."""
        translated = from_rpc_error(error)
        if not isinstance(translated, Unreachable) or not _is_bare(error):
            return translated
        node = f"the node at {self.profile.address}"
        code = _code(error)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unreachable(f"{node} did not answer in time; try again")
        if code is grpc.StatusCode.CANCELLED:
            return Unreachable(f"{node} cut the call off; try again")
        return Unreachable(f"{node} does not answer; start it with `tieline node serve HOME`")


def _code(error: object) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.Call) else None


def _is_bare(error: object) -> bool:
    """Whether gRPC made this status by itself rather than the node."""
    if not isinstance(error, grpc.Call):
        return True
    try:
        return rpc_status.from_call(error) is None
    except ValueError:
        return True


def make(kind: type[Q], /, **values: Any) -> Q:
    """Build a request from a person's words and hold it against its caps.

    Raises InvalidInput for what cannot be sent: too long, out of range, not valid UTF-8.
    """
    try:
        message = kind(**values)
    except ValueError:
        raise InvalidInput(
            "a value cannot be sent: a number is out of range or a text is not valid UTF-8"
        ) from None
    constraints.check(message)
    return message
