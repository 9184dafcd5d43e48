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

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import Message

from tieline_server.domain.ports import Clock
from tieline_server.domain.refusals import Refusal
from tieline_server.rpc.guarded_call import GuardedCall
from tieline_server.rpc.identity import Identifier
from tieline_server.rpc.methods import RULES, STANDING, Listener, Rule
from tieline_server.rpc.peer_limits import PeerLimits
from tieline_server.rpc.rates import Rates
from tieline_server.rpc.streams import Watchdog

if TYPE_CHECKING:
    # Generic in the type stubs only.
    Handler = grpc.RpcMethodHandler[Any, Any]
    Interceptor = grpc.ServerInterceptor[Any, Any]
else:
    Interceptor = grpc.ServerInterceptor
OnRefusal = Callable[[Refusal], None]


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
    open_calls: dict[int, GuardedCall] = field(default_factory=dict, init=False)

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
        call = GuardedCall(self, method, handler, source, context)
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
        call = GuardedCall(self, method, handler, source, context)
        try:
            yield from call.answer_stream()
        except Exception as error:  # noqa: BLE001  one place maps all errors
            call.fail(error)
        finally:
            # gRPC drops the generator of a call that was cut off: this is where it comes out.
            call.close()
