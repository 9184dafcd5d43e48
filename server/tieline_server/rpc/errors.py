"""From errors.py to a gRPC status with exactly one ErrorInfo, in one place (AIP-193).

The way back is ``tieline_client/status.py``. What is not a TielineError is a fault of this program:
it is logged with its traceback, and the caller learns that much and no more. Peers learn of faults
of this node (disk, configuration) without their details.
"""

from __future__ import annotations

from typing import NoReturn

import grpc
import structlog
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status
from tieline_client import limits
from tieline_client.errors import (
    ConfigurationError,
    HomeInUse,
    NotFound,
    StorageCorrupt,
    StorageTooNew,
    StorageUnavailable,
    TielineError,
    UnknownMethod,
)
from tieline_client.status import CHECK, DOMAIN, RETRY_AFTER, one_line, wire_reason

_log = structlog.get_logger(__name__)

_OWN_FAULTS = (
    StorageUnavailable,
    StorageTooNew,
    StorageCorrupt,
    HomeInUse,
    ConfigurationError,
)


def to_status(error: TielineError, *, to_peer: bool = False) -> grpc.Status:
    """Return the status of an error: its code, one line of text, one ErrorInfo, and where the error
    says when to come again a RetryInfo.

    With ``to_peer`` what went wrong inside this node is told without details.
    """
    reason, check = wire_reason(error)
    text, metadata = error.message, dict(error.metadata)
    if to_peer and (isinstance(error, _OWN_FAULTS) or reason == TielineError.reason):
        text, metadata = "this node cannot do that now; try again later", {}
    if check:
        metadata.setdefault(CHECK, check)
    info = error_details_pb2.ErrorInfo(
        reason=reason, domain=DOMAIN, metadata=_bounded_metadata(metadata)
    )
    details = [any_pb2.Any()]
    details[0].Pack(info)
    if retry := _retry_info(metadata):
        details.append(any_pb2.Any())
        details[1].Pack(retry)
    status = status_pb2.Status(
        code=code_pb2.Code.Value(error.status), message=_bounded(text), details=details
    )
    return rpc_status.to_status(status)


def abort(context: grpc.ServicerContext, error: TielineError, *, to_peer: bool = False) -> NoReturn:
    """End a call with an error's status. Never returns: gRPC raises to leave the handler."""
    context.abort_with_status(to_status(error, to_peer=to_peer))


def as_tieline_error(error: Exception, method: str) -> TielineError:
    """Return the error itself, or one for a fault of this program, once that is logged."""
    if isinstance(error, TielineError):
        return error
    _log.error("rpc.fault", method=one_line(method, limits.NAME_CHARS), exc_info=error)
    return TielineError("a fault of this node; its log says more, its operators should see it")


def from_code(code: grpc.StatusCode, method: str) -> TielineError:
    """Return the error for a code that a servicer of grpcio set instead of raising one."""
    if code is grpc.StatusCode.NOT_FOUND:
        return NotFound("there is no such service here; ask without a name for the whole node")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return UnknownMethod(f"{method} is not served")
    return TielineError(f"{method} ended with {code.name}")


def _retry_info(metadata: dict[str, str]) -> error_details_pb2.RetryInfo | None:
    """Return when to come again, for an error that says so."""
    try:
        seconds = float(metadata[RETRY_AFTER])
    except (KeyError, ValueError):
        return None
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMilliseconds(round(seconds * 1000))
    return info


def _bounded_metadata(metadata: dict[str, str]) -> dict[str, str]:
    # The finer reason first: it must not fall to the cap.
    ordered = sorted(metadata.items(), key=lambda entry: (entry[0] != CHECK, entry[0]))
    return {
        _bounded(key, limits.CODE_CHARS): _bounded(value, limits.REFERENCE_CHARS)
        for key, value in ordered[: limits.ERROR_METADATA_ENTRIES]
    }


def _bounded(text: str, most: int = limits.ERROR_TEXT_BYTES) -> str:
    """One line of at most so many bytes: trailers share METADATA_BYTES, percent-encoded."""
    return one_line(text).encode()[:most].decode(errors="ignore")
