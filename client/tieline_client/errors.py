"""One error root; one class per reason that a person can act on.

Every class carries the ``reason`` that travels in a gRPC ``ErrorInfo`` (``ErrorReason`` of
errors.proto without its prefix), the gRPC status name it maps to, and the exit code of the command
line (contract.md). ``server/tieline_server/rpc/errors.py`` and ``client/tieline_client/status.py``
are the only places that translate to and from gRPC.

A message is one line: what is wrong, then what to do about it.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_UNREACHABLE = 4


class TielineError(Exception):
    """The root of every error that Tieline raises on purpose."""

    reason: ClassVar[str] = "INTERNAL"
    status: ClassVar[str] = "INTERNAL"
    exit_code: ClassVar[int] = EXIT_FAILED

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata


# --- what the caller sent ---------------------------------------------------------------------


class InvalidInput(TielineError):
    """A value that no retry will make valid."""

    reason = "INVALID_INPUT"
    status = "INVALID_ARGUMENT"


class UsageError(InvalidInput):
    """The command line was used wrongly."""

    exit_code = EXIT_USAGE


class InvalidDigest(InvalidInput):
    """A digest of the wrong length, alphabet, type or order."""

    reason = "INVALID_DIGEST"


class MalformedMessage(InvalidInput):
    """A message that does not parse, or carries fields beyond the caps.

    ``value`` is the text at fault, or how many there are of what are too many; it stays here.
    """

    reason = "MALFORMED_MESSAGE"
    value: str | int | None = None


class UnknownMethod(TielineError):
    """A method that this node does not serve."""

    reason = "UNKNOWN_METHOD"
    status = "UNIMPLEMENTED"


class FormatError(InvalidInput):
    """A file that cannot be read as what it claims to be; nothing of it is kept.

    ``record`` is the number of the record from 1, or None when the file as a whole is broken.
    """

    reason = "FORMAT_ERROR"

    def __init__(self, file: str, record: int | None, why: str) -> None:
        where = f"{file}, record {record}" if record is not None else file
        super().__init__(f"{where}: {why}", file=file, record=str(record or ""))
        self.file, self.record, self.why = file, record, why


class NotFound(TielineError):
    """The named thing does not exist here."""

    reason = "NOT_FOUND"
    status = "NOT_FOUND"


class UnknownAgency(NotFound):
    """An agency id that the directory does not list."""

    reason = "UNKNOWN_AGENCY"


class WrongState(TielineError):
    """The thing exists but is past (or not yet at) the step that was asked for."""

    reason = "WRONG_STATE"
    status = "FAILED_PRECONDITION"


class RequestIdReused(TielineError):
    """The same id came with another body (threats.md 15)."""

    reason = "REQUEST_ID_REUSED"
    status = "ALREADY_EXISTS"
    exit_code = EXIT_REFUSED


class LimitExceeded(TielineError):
    """More than a cap of limits.py allows."""

    reason = "LIMIT_EXCEEDED"
    status = "RESOURCE_EXHAUSTED"


# --- who the caller is ------------------------------------------------------------------------


class RefusedError(TielineError):
    """Refused by trust, policy or budget."""

    reason = "REFUSED"
    status = "PERMISSION_DENIED"
    exit_code = EXIT_REFUSED


class TrustError(RefusedError):
    """The other side did not prove who it is. Sub-classes stand beside their checks."""

    reason = "UNTRUSTED"
    status = "UNAUTHENTICATED"


class SignatureRefused(TrustError):
    """An envelope whose signature, key, sender, audience or time does not hold."""

    reason = "SIGNATURE_REFUSED"


class DirectoryError(TrustError):
    """The directory is broken, expired or older than what was seen before."""

    reason = "DIRECTORY_REFUSED"


class DirectoryExpired(DirectoryError):
    """Past its expiry nothing but the directory's own service works."""

    reason = "DIRECTORY_EXPIRED"
    status = "FAILED_PRECONDITION"


class PolicyRefused(RefusedError):
    """Policy does not allow it; unlisted means denied."""

    reason = "POLICY_REFUSED"


class Quarantined(RefusedError):
    """The peer was set back, or runs twice; nothing is exchanged until its operator resyncs it."""

    reason = "QUARANTINED"
    status = "FAILED_PRECONDITION"


class RoleRefused(RefusedError):
    """The person's roles do not include what this step needs."""

    reason = "ROLE_REFUSED"


class BudgetExceeded(RefusedError):
    """The peer's budget for the day is spent."""

    reason = "BUDGET_EXCEEDED"
    status = "RESOURCE_EXHAUSTED"


# --- what is not there just now ---------------------------------------------------------------


class Unreachable(TielineError):
    """A node did not answer in time."""

    reason = "UNREACHABLE"
    status = "UNAVAILABLE"
    exit_code = EXIT_UNREACHABLE


class StorageUnavailable(TielineError):
    """The database cannot be read or written now; nothing was acknowledged."""

    reason = "STORAGE_UNAVAILABLE"
    status = "UNAVAILABLE"


class StorageTooNew(TielineError):
    """The database was written by a newer version of Tieline."""

    reason = "STORAGE_TOO_NEW"
    status = "FAILED_PRECONDITION"


class StorageCorrupt(TielineError):
    """The database fails its own integrity check."""

    reason = "STORAGE_CORRUPT"
    status = "FAILED_PRECONDITION"


class HomeInUse(TielineError):
    """Another process is serving this home."""

    reason = "HOME_IN_USE"
    status = "FAILED_PRECONDITION"


class ConfigurationError(TielineError):
    """The home or its configuration is missing, unreadable or too open."""

    reason = "CONFIGURATION"
    status = "FAILED_PRECONDITION"
