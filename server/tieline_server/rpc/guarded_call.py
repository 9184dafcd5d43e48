"""One call on its way through the steps that interceptors.py numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import structlog
from google.protobuf.message import Message
from tieline_client import constraints, limits
from tieline_client.constraint_plans import PACKAGE
from tieline_client.digest_batch import DigestBatch, open_batch
from tieline_client.errors import (
    InvalidDigest,
    LimitExceeded,
    MalformedMessage,
    RefusedError,
    RequestIdReused,
    TielineError,
    UnknownMethod,
)
from tieline_client.status import wire_reason

from tieline_server.domain.refusals import Refusal
from tieline_server.rpc import errors
from tieline_server.rpc.call import CallContext, Caller
from tieline_server.rpc.identity import claimed_agency, stated_version
from tieline_server.rpc.methods import Listener, Rule, Weight, find_rule
from tieline_server.rpc.streams import CallerGone, RequestReader, Watched

if TYPE_CHECKING:
    from tieline_server.rpc.interceptors import Guard

    # Generic in the type stubs only.
    Handler = grpc.RpcMethodHandler[Any, Any]

_log = structlog.get_logger(__name__)

_REPORTED = (
    RefusedError,
    MalformedMessage,
    InvalidDigest,
    UnknownMethod,
    LimitExceeded,
    RequestIdReused,
)
"""Errors that are refusals; the others (not found, wrong state, no space) are ordinary answers."""


class GuardedCall:
    """One call on its way through the steps."""

    def __init__(
        self,
        guard: Guard,
        method: str,
        handler: Handler | None,
        source: Iterator[bytes],
        context: grpc.ServicerContext,
    ) -> None:
        self._guard = guard
        self._method = method
        self._handler = handler
        self._source = source
        self._context = context
        self._caller: Caller | None = None
        self._held: list[Callable[[], object]] = []
        """What the end of the call gives back, the last first."""
        self._watched: Watched | None = None
        self._deadline = 0.0
        self._ground: object = None
        self._identified = 0.0

    # --- the two ways of answering ---

    def answer_once(self) -> Message:
        context, rule, handler = self._admit()
        if handler.request_streaming:
            response = _behaviour(handler.stream_unary)(self._requests(context, rule), context)
        else:
            request = self._single_request(context, rule)
            response = _behaviour(handler.unary_unary)(request, context)
        return self._checked(response, context)

    def answer_stream(self) -> Iterator[Message]:
        context, rule, handler = self._admit()
        if handler.request_streaming:
            responses = _behaviour(handler.stream_stream)(self._requests(context, rule), context)
        else:
            request = self._single_request(context, rule)
            responses = _behaviour(handler.unary_stream)(request, context)
        # A servicer that is a generator ends with the call, not when it is collected.
        if hasattr(responses, "close"):
            self._held.append(responses.close)
        for response in responses:
            checked = self._checked(response, context)
            if context.time_left() <= 0:
                raise _too_late(self._method)
            self._identify_again()
            self._wait_at_most(rule.idle)
            yield checked
            self._wait_at_most(context.time_left() + limits.OVERTIME_SECONDS)

    # --- the steps ---

    def _admit(self) -> tuple[CallContext, Rule, Handler]:
        """Steps 1 to 4."""
        guard = self._guard
        self._ground = guard.identifier.ground()
        caller = self._caller = guard.identifier.identify(self._context)  # 1
        self._identified = time.monotonic()
        rule = guard.rules.get(self._method)
        if guard.heard is not None:
            guard.heard(caller.agency)
        weight = rule.weight if rule is not None else Weight.SINGLE
        if guard.rates is not None:
            guard.rates.take(caller.key)  # 2
        place = guard.peer_limits.slot(caller.key, weight)
        place.__enter__()  # 2
        self._held.append(partial(place.__exit__, None, None, None))
        if guard.catch_up is not None:
            version = stated_version(self._context)
            if version and guard.catch_up(caller.agency, version):  # 2
                caller = self._caller = guard.identifier.identify(self._context)
        rule = find_rule(self._method, guard.listener, caller, guard.rules)  # 3
        if self._handler is None:
            raise UnknownMethod(f"{self._method[: limits.NAME_CHARS]} is not served by this node")
        if not rule.past_expiry:
            guard.identifier.check_fresh()  # 4
        guard.open_calls[id(self)] = self
        self._held.append(partial(guard.open_calls.pop, id(self), None))
        seconds = min(rule.seconds, self._context.time_remaining())
        self._deadline = time.monotonic() + seconds
        self._watched = Watched(self._context.cancel, self._deadline + limits.OVERTIME_SECONDS)
        guard.watchdog.watch(self._watched)
        self._held.append(partial(guard.watchdog.release, self._watched))
        return CallContext(self._context, caller, self._deadline), rule, self._handler

    def _identify_again(self) -> None:
        """Step 1 within a stream, which may outlast a certificate, a member or a person's access:
        at each message once what it rests on is another, and else once a second."""
        guard, now = self._guard, time.monotonic()
        ground = guard.identifier.ground()
        if ground is self._ground and now - self._identified < limits.RECHECK_SECONDS:
            return
        caller = guard.identifier.identify(self._context)
        if caller.roles != (self._caller.roles if self._caller is not None else None):
            find_rule(self._method, guard.listener, caller, guard.rules)
        rule = guard.rules.get(self._method)
        if rule is None or not rule.past_expiry:
            guard.identifier.check_fresh()
        self._ground, self._identified = ground, now

    def _single_request(self, context: CallContext, rule: Rule) -> Message:
        """Steps 5 and 6 for one message."""
        self._wait_at_most(min(rule.idle, context.time_left() + limits.OVERTIME_SECONDS))
        try:
            data = next(self._source, None)
        except Exception as error:
            raise CallerGone from error
        if data is None and self._cut_off():
            raise CallerGone
        if data is None:
            raise MalformedMessage(f"{self._method} needs one message; none came")
        self._wait_at_most(context.time_left() + limits.OVERTIME_SECONDS)
        request = self._parse(data)
        if context.time_left() <= 0 or not context.is_active():
            raise _too_late(self._method)
        return request

    def _requests(self, context: CallContext, rule: Rule) -> Iterator[Message | DigestBatch]:
        """Steps 5 and 6 for a stream: each message as the servicer asks for it."""
        reader = RequestReader(self._source)
        self._held.append(reader.close)
        return self._read(reader, context, rule)

    def _read(
        self, reader: RequestReader, context: CallContext, rule: Rule
    ) -> Iterator[Message | DigestBatch]:
        while True:
            left = context.time_left()
            silence = rule.silence or rule.idle
            try:
                data = reader.take(max(min(silence, left), 0.0))
            except TimeoutError:
                if left <= silence:
                    raise _too_late(self._method) from None
                raise LimitExceeded(
                    f"no message for {silence:g} seconds; send the next sooner or end the stream",
                    check="STREAM_IDLE",
                ) from None
            if data is None:
                return
            self._identify_again()
            batch = open_batch(data) if rule.batches else None
            yield self._parse(data) if batch is None else batch

    def _parse(self, data: bytes) -> Message:
        """Step 5."""
        deserialize = self._handler.request_deserializer if self._handler is not None else None
        if deserialize is None:
            raise TielineError(f"{self._method} is served without a message type")
        try:
            message: Message = deserialize(data)
        except Exception:  # noqa: BLE001  protobuf raises several kinds, for what is one reason
            raise MalformedMessage(f"a request of {self._method} does not parse") from None
        if message.DESCRIPTOR.file.package == PACKAGE:
            constraints.check(message, size=len(data))
        elif len(data) > limits.UNKNOWN_FIELD_BYTES:
            # The health service's messages state no caps.
            raise MalformedMessage(f"a request of {self._method} is {len(data)} bytes long")
        return message

    def _checked(self, response: Message, context: CallContext) -> Message:
        code = context.stated_code
        if code is not None and code is not grpc.StatusCode.OK:
            raise errors.from_code(code, self._method)
        if self._guard.check_responses and response.DESCRIPTOR.file.package == PACKAGE:
            constraints.check(response)
        return response

    def _wait_at_most(self, seconds: float) -> None:
        """What comes next is cut off by the watchdog after so many seconds."""
        if self._watched is not None:
            self._watched.due = time.monotonic() + seconds

    def _cut_off(self) -> bool:
        return self._watched is not None and self._watched.cut

    # --- the end ---

    def cut_if_refused(self) -> bool:
        """Cut the call off if its caller would not be let in any more; say whether it was."""
        guard, rule = self._guard, self._guard.rules.get(self._method)
        try:
            guard.identifier.identify(self._context)
            if rule is None or not rule.past_expiry:
                guard.identifier.check_fresh()
        except TielineError as error:
            self._report(error)
            self._context.cancel()  # type: ignore[no-untyped-call]  # as above
            return True
        return False

    def fail(self, error: Exception) -> NoReturn:
        """Report a refusal and end the call with the error's status."""
        if isinstance(error, CallerGone):
            # Nobody is there to read it: gRPC drops the status.
            self._context.abort(grpc.StatusCode.CANCELLED, "the caller went away")
        told = errors.as_tieline_error(error, self._method)
        if isinstance(told, _REPORTED):
            self._report(told)
        errors.abort(self._context, told, to_peer=self._guard.listener is Listener.FEDERATION)

    def close(self) -> None:
        """Give back what the call held; tell of a call that the watchdog cut off."""
        self._give_back()
        if self._cut_off():
            self._report(LimitExceeded("cut off", check="STUCK"))

    def _give_back(self) -> None:
        try:
            while self._held:
                self._held.pop()()
        finally:
            if self._held:  # one of them raised; the others still go
                self._give_back()

    def _report(self, error: TielineError) -> None:
        caller = self._caller
        reason, check = wire_reason(error)
        refusal = Refusal(
            peer=caller.agency if caller is not None else "",
            person=_person(caller, error),
            method=self._method[: limits.NAME_CHARS],
            reason=reason,
            check=check or error.metadata.get("check", ""),
            at=self._guard.clock(),
            claimed=claimed_agency(self._context) if caller is None else "",
            purpose=error.metadata.get("purpose", ""),
            case_ref=error.metadata.get("case", ""),
        )
        try:
            self._guard.on_refusal(refusal)
        except Exception as failure:  # noqa: BLE001  refused it is, whether or not it can be noted
            _log.error("rpc.refusal_not_noted", reason=reason, exc_info=failure)


def _person(caller: Caller | None, error: TielineError) -> str:
    """The person behind a refused call: of the own agency, or as the peer's message names them."""
    if caller is None:
        return ""
    return caller.operator or error.metadata.get("person", "")


def _behaviour(function: Callable[..., Any] | None) -> Callable[..., Any]:
    if function is None:
        raise TielineError("a handler has no function of its own shape")
    return function


def _too_late(method: str) -> LimitExceeded:
    return LimitExceeded(
        f"{method.rpartition('/')[2]} did not end within its time; ask for less at once",
        check="DEADLINE",
    )
