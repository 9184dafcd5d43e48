"""What happens to every call before a servicer sees it, and to every error on its way out.

One interceptor, ``Guard``, on each listener. In order:

1. **Who calls.** TLS 1.3, and the leaf checked anew (identity.py). From here on the caller is
   known, whatever else is wrong with the call.
2. **How many.** A token of the caller's (rates.py) and a place among its open calls
   (peer_limits.py), or refused at once. A caller that works with a newer directory than this node
   waits while that is fetched, and is then looked at anew: it may be revoked there.
3. **May this caller use this method?** The method's row (methods.py); unlisted means denied, and an
   unknown method or service is told so only here, to callers who proved who they are.
4. **Is the directory fresh?** Past its expiry peers get nothing but the directory and health.
5. **The messages.** Read as bytes, within the method's bounds in time (streams.py), parsed here, so
   that what does not parse gets a reason too, and held against the caps (constraints.py). Batches
   of digests are looked at where they lie (digest_batch.py).
6. **Not too late.** What came in after the deadline has no effect.
7. **The servicer**, which sees a CallContext. Whatever it raises becomes a status with exactly one
   ErrorInfo (errors.py).

Every refusal is reported to ``on_refusal``; the node writes the audit entries (domain/refusals.py).

All four shapes of method are served as request streams, because gRPC for Python gives a handler no
bound on waiting for a single request; on the wire there is no difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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

from tieline_server.domain.ports import Clock
from tieline_server.domain.refusals import Refusal
from tieline_server.rpc import errors
from tieline_server.rpc.call import CallContext, Caller
from tieline_server.rpc.identity import Identifier, claimed_agency, stated_version
from tieline_server.rpc.methods import RULES, STANDING, Listener, Rule, Weight, find_rule
from tieline_server.rpc.peer_limits import PeerLimits
from tieline_server.rpc.rates import Rates
from tieline_server.rpc.streams import CallerGone, RequestReader, Watchdog, Watched

if TYPE_CHECKING:
    # Generic in the type stubs only.
    Handler = grpc.RpcMethodHandler[Any, Any]
    Interceptor = grpc.ServerInterceptor[Any, Any]
else:
    Interceptor = grpc.ServerInterceptor
OnRefusal = Callable[[Refusal], None]

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


@dataclass(frozen=True)
class Guard(Interceptor):
    """The interceptor of one listener. Thread-safe.

    ``clock`` is the time that certificates and refusals go by; durations go by the monotonic one.
    ``heard`` is told the agency of every call. ``check_responses`` holds this node's own answers
    against the caps as well. What stands for long is worked on by ``standing_threads``, so that it
    takes no thread from other calls.
    """

    listener: Listener
    identifier: Identifier
    clock: Clock
    on_refusal: OnRefusal
    rules: Mapping[str, Rule] = field(default_factory=lambda: RULES)
    peer_limits: PeerLimits = field(default_factory=PeerLimits)
    watchdog: Watchdog = field(default_factory=Watchdog)
    check_responses: bool = False
    rates: Rates | None = None
    heard: Callable[[str], None] | None = None
    standing_threads: ThreadPoolExecutor | None = None
    catch_up: Callable[[str, int], bool] | None = None
    """Fetches the directory of this version that an agency works with; says whether it changed."""
    open_calls: dict[int, _Call] = field(default_factory=dict, init=False)

    def review(self) -> int:
        """Cut off the open calls that would be refused under the directory as it is now.

        Returns how many.
        """
        return sum(call.cut_if_refused() for call in list(self.open_calls.values()))

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler, or stand in for one that does not exist."""
        method = handler_call_details.method
        handler = continuation(handler_call_details)
        if handler is not None and not handler.response_streaming:
            return grpc.stream_unary_rpc_method_handler(
                partial(self._answer_once, method, handler), None, handler.response_serializer
            )
        serializer = handler.response_serializer if handler is not None else None
        answer = partial(self._answer_stream, method, handler)
        rule = self.rules.get(method)
        if self.standing_threads is not None and rule is not None and rule.weight in STANDING:
            # gRPC takes a handler's own threads from this attribute; there is no other way to it.
            vars(answer)["experimental_thread_pool"] = self.standing_threads
        return grpc.stream_stream_rpc_method_handler(answer, None, serializer)

    def _answer_once(
        self,
        method: str,
        handler: Handler,
        source: Iterator[bytes],
        context: grpc.ServicerContext,
    ) -> Message:
        call = _Call(self, method, handler, source, context)
        try:
            return call.answer_once()
        except Exception as error:  # noqa: BLE001  one place maps all errors
            call.fail(error)
        finally:
            call.close()

    def _answer_stream(
        self,
        method: str,
        handler: Handler | None,
        source: Iterator[bytes],
        context: grpc.ServicerContext,
    ) -> Iterator[Message]:
        call = _Call(self, method, handler, source, context)
        try:
            yield from call.answer_stream()
        except Exception as error:  # noqa: BLE001  one place maps all errors
            call.fail(error)
        finally:
            # gRPC drops the generator of a call that was cut off: this is where it comes out.
            call.close()


class _Call:
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
