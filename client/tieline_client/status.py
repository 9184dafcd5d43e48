"""What a gRPC status means: errors.py's classes as they cross the wire, and back.

A refusal travels as a status with exactly one ``google.rpc.ErrorInfo`` (AIP-193): domain
``tieline``, reason a value of ``ErrorReason`` without its prefix, and metadata. A class with a
finer reason than the enum has travels under its nearest base's reason and names itself in the
metadata's ``check``. What gRPC answers by itself (no connection, a deadline, oversize) comes bare
and is told by its code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status
from tieline.v1 import errors_pb2

from tieline_client import errors, limits
from tieline_client.errors import (
    FormatError,
    InvalidInput,
    LimitExceeded,
    RefusedError,
    StorageUnavailable,
    TielineError,
    TrustError,
    UnknownMethod,
    Unreachable,
)

DOMAIN = "tieline"
CHECK = "check"
"""Metadata key of the finer reason."""
RETRY_AFTER = "retry_after"
"""Metadata key of the seconds after which the same call may be taken."""
_PREFIX = "ERROR_REASON_"
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_METADATA_ENTRIES = 16

WIRE_REASONS = frozenset(
    name.removeprefix(_PREFIX)
    for name, number in errors_pb2.ErrorReason.items()
    if number != errors_pb2.ERROR_REASON_UNSPECIFIED
)


def _classes(root: type[TielineError]) -> Iterator[type[TielineError]]:
    yield root
    for child in root.__subclasses__():
        yield from _classes(child)


ERRORS: Mapping[str, type[TielineError]] = {
    kind.reason: kind
    for kind in _classes(TielineError)
    if kind.__module__ == errors.__name__ and "reason" in vars(kind)
}
"""ErrorInfo reason to the class of errors.py that states it."""

_BARE: Mapping[grpc.StatusCode, tuple[type[TielineError], str]] = {
    grpc.StatusCode.UNAVAILABLE: (Unreachable, "it cannot be reached; check the address"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (Unreachable, "it did not answer in time; try again"),
    grpc.StatusCode.CANCELLED: (Unreachable, "the call was cut off; try again"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        LimitExceeded,
        "a message or the number of calls is over a cap; send less at once",
    ),
    grpc.StatusCode.UNAUTHENTICATED: (
        TrustError,
        "it does not accept this certificate; check its dates and the clock",
    ),
    grpc.StatusCode.PERMISSION_DENIED: (RefusedError, "it refused without a reason"),
    grpc.StatusCode.UNIMPLEMENTED: (UnknownMethod, "it does not serve this method"),
    grpc.StatusCode.INVALID_ARGUMENT: (InvalidInput, "it refused a value without a reason"),
    grpc.StatusCode.DATA_LOSS: (StorageUnavailable, "it reports lost data"),
}
_HANDSHAKE = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed")
"""In the details of UNAVAILABLE: this side refused the certificate that the other showed."""


def wire_reason(error: TielineError | type[TielineError]) -> tuple[str, str]:
    """Return what travels for an error: a reason of ErrorReason, and the finer one or ""."""
    kind = error if isinstance(error, type) else type(error)
    for base in kind.__mro__:
        reason = getattr(base, "reason", "")
        if reason in WIRE_REASONS:
            return reason, "" if reason == kind.reason else kind.reason
    raise TypeError(f"{kind.__name__} is no TielineError")


def one_line(text: str, most: int = limits.FREE_TEXT_CHARS) -> str:
    """Return text fit for one line of a log, a header or a terminal: no controls, cut short."""
    return _CONTROLS.sub(" ", text[: most + 1])[:most].strip()


def from_rpc_error(error: grpc.RpcError) -> TielineError:
    """Return the error that a failed call stands for.

    The class is that of the ErrorInfo's reason; the text is the other side's, on one line. A bare
    status gives Unreachable, LimitExceeded, TrustError and the like by its code; one with several
    ErrorInfos or a stranger's domain counts as bare.
    """
    call: object = error
    if not isinstance(call, grpc.Call):
        return Unreachable("the call ended before it began; the channel was closed")
    info = _error_info(call)
    text = one_line(call.details() or "")
    if info is None:
        return _from_code(call.code(), text)
    metadata = {
        one_line(key, limits.CODE_CHARS): one_line(value, limits.REFERENCE_CHARS)
        for key, value in sorted(info.metadata.items())[:_METADATA_ENTRIES]
    }
    kind = ERRORS.get(info.reason)
    if kind is None:
        reason = one_line(info.reason, limits.CODE_CHARS)
        return _from_code(call.code(), f"{text} ({reason}, unknown to this version)")
    return _make(kind, text or "refused without a word", metadata)


def _make(kind: type[TielineError], text: str, metadata: dict[str, str]) -> TielineError:
    if issubclass(kind, FormatError):
        file, record = metadata.get("file", ""), metadata.get("record", "")
        number = int(record) if record.isascii() and record.isdecimal() else None
        where = f"{file}, record {number}: " if number is not None else f"{file}: "
        return FormatError(file, number, text.removeprefix(where))
    # Set rather than passed: a sender names its metadata as it likes.
    made = kind(text)
    made.metadata = metadata
    return made


def _error_info(call: grpc.Call) -> error_details_pb2.ErrorInfo | None:
    """Return the one ErrorInfo of a status, or None."""
    try:
        status: status_pb2.Status | None = rpc_status.from_call(call)
        if status is None:
            return None
        found = []
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info) and info.domain == DOMAIN:
                found.append(info)
    except (ValueError, DecodeError):
        # The details do not parse, or contradict the status.
        return None
    return found[0] if len(found) == 1 else None


def _from_code(code: grpc.StatusCode, text: str) -> TielineError:
    if code is grpc.StatusCode.UNAVAILABLE and any(mark in text for mark in _HANDSHAKE):
        return TrustError(
            "the other side's certificate is not its agency's; check the address and the directory",
            check="HANDSHAKE",
        )
    kind, words = _BARE.get(code, (TielineError, f"it failed ({code.name})"))
    return kind(f"{words}: {text}" if text else words)
