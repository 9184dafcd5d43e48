"""Errors cross the wire with one reason, and come back as the class that they left as."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from tieline.v1 import errors_pb2
from tieline_client import certificate_errors, errors, limits, tls
from tieline_client.errors import FormatError, TielineError
from tieline_client.status import ERRORS, WIRE_REASONS, from_rpc_error, one_line, wire_reason
from tieline_server.rpc.errors import as_tieline_error, from_code, to_status

_MODULES = (errors.__name__, certificate_errors.__name__, tls.__name__)


class Failed(grpc.RpcError, grpc.Call):
    """A failed call as a client sees it: code, details, trailers."""

    def __init__(self, code: grpc.StatusCode, details: str, trailers: Any = ()) -> None:
        super().__init__()
        self._code, self._details, self._trailers = code, details, trailers

    @classmethod
    def of(cls, status: grpc.Status) -> Failed:
        return cls(status.code, status.details, status.trailing_metadata)

    @classmethod
    def with_infos(cls, *infos: Any, code: int = 7, words: str = "no") -> Failed:
        status = status_pb2.Status(code=code, message=words)
        for info in infos:
            detail = any_pb2.Any()
            detail.Pack(info)
            status.details.append(detail)
        trailers = (("grpc-status-details-bin", status.SerializeToString()),)
        return cls(grpc.StatusCode.PERMISSION_DENIED, words, trailers)

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailers

    def initial_metadata(self) -> Any:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> None: ...

    def add_callback(self, callback: Any) -> bool:
        return False


def _all_classes(root: type[TielineError] = TielineError) -> list[type[TielineError]]:
    own = [root] if root.__module__ in _MODULES else []
    return own + [kind for child in root.__subclasses__() for kind in _all_classes(child)]


def _instance(kind: type[TielineError]) -> TielineError:
    if issubclass(kind, FormatError):
        return kind("list.csv", 7, "no hash")
    return kind("the words", item="x")


def test_errors_and_the_wires_reasons_are_the_same() -> None:
    assert ERRORS.keys() == WIRE_REASONS
    names = {
        name.removeprefix("ERROR_REASON_")
        for name in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name
    }
    assert names - {"UNSPECIFIED"} == WIRE_REASONS


@pytest.mark.parametrize("kind", _all_classes(), ids=lambda kind: kind.__name__)
def test_every_class_crosses_with_exactly_one_reason(kind: type[TielineError]) -> None:
    error = _instance(kind)
    status = to_status(error)
    assert status.code is grpc.StatusCode[kind.status]
    again = from_rpc_error(Failed.of(status))
    reason, check = wire_reason(error)
    assert reason in WIRE_REASONS
    assert type(again) is ERRORS[reason]
    assert isinstance(error, type(again))
    assert again.message == error.message
    assert again.metadata.get("check", "") == check
    assert again.exit_code == ERRORS[reason].exit_code


def test_a_finer_reason_travels_as_the_check() -> None:
    assert wire_reason(certificate_errors.CertificateExpired) == (
        "UNTRUSTED",
        "CERTIFICATE_EXPIRED",
    )
    assert wire_reason(tls.TlsVersionRefused("x")) == ("UNTRUSTED", "TLS_VERSION")
    assert wire_reason(errors.PolicyRefused) == ("POLICY_REFUSED", "")
    status = to_status(certificate_errors.CertificateExpired("over"))
    again = from_rpc_error(Failed.of(status))
    assert type(again) is errors.TrustError and again.metadata == {"check": "CERTIFICATE_EXPIRED"}


def test_a_format_error_keeps_its_record() -> None:
    for record in (None, 7):
        error = from_rpc_error(Failed.of(to_status(FormatError("a: b.csv", record, "no: hash"))))
        assert isinstance(error, FormatError)
        assert (error.file, error.record, error.why) == ("a: b.csv", record, "no: hash")


def test_own_faults_are_told_to_peers_without_their_details() -> None:
    for error in (
        errors.StorageUnavailable("/srv/tieline is full", path="/srv/tieline"),
        errors.ConfigurationError("key of /home/x"),
        TielineError("Traceback of x"),
    ):
        status = to_status(error, to_peer=True)
        told = from_rpc_error(Failed.of(status))
        assert told.reason == error.reason and told.metadata == {}
        assert told.message == "this node cannot do that now; try again later"
    refusal = errors.PolicyRefused("no agreement")
    assert to_status(refusal, to_peer=True).details == "no agreement"


def test_a_fault_of_the_program_tells_nothing() -> None:
    error = as_tieline_error(KeyError("secret"), "/x/Y")
    assert error.reason == "INTERNAL" and "secret" not in error.message
    known = errors.NotFound("x")
    assert as_tieline_error(known, "/x/Y") is known


@pytest.mark.parametrize(
    ("code", "reason"),
    [("NOT_FOUND", "NOT_FOUND"), ("UNIMPLEMENTED", "UNKNOWN_METHOD"), ("ABORTED", "INTERNAL")],
)
def test_codes_that_grpcios_own_servicers_set(code: str, reason: str) -> None:
    assert from_code(grpc.StatusCode[code], "/x/Y").reason == reason


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("UNAVAILABLE", "connection refused", errors.Unreachable),
        ("DEADLINE_EXCEEDED", "", errors.Unreachable),
        ("CANCELLED", "", errors.Unreachable),
        ("RESOURCE_EXHAUSTED", "Received message larger than max", errors.LimitExceeded),
        ("UNAUTHENTICATED", "", errors.TrustError),
        ("PERMISSION_DENIED", "", errors.RefusedError),
        ("UNIMPLEMENTED", "", errors.UnknownMethod),
        ("INVALID_ARGUMENT", "", errors.InvalidInput),
        ("UNAVAILABLE", "Ssl handshake failed: CERTIFICATE_VERIFY_FAILED", errors.TrustError),
        ("UNKNOWN", "Exception iterating", TielineError),
        ("INTERNAL", "", TielineError),
    ],
)
def test_a_bare_status_is_told_by_its_code(
    code: str, details: str, kind: type[TielineError]
) -> None:
    error = from_rpc_error(Failed(grpc.StatusCode[code], details))
    assert type(error) is kind and error.message


def test_every_code_gives_an_error() -> None:
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            assert from_rpc_error(Failed(code, "x\n\x1b[2Jy")).message.isprintable()
    assert isinstance(from_rpc_error(grpc.RpcError()), errors.Unreachable)


def _info(reason: str, domain: str = "tieline", **metadata: str) -> Any:
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def test_a_hostile_status_is_bounded_and_inert() -> None:
    long = {f"key{number}": "v\x1b[31m\n" * 500 for number in range(200)}
    error = from_rpc_error(
        Failed.with_infos(_info("POLICY_REFUSED", **long), words="a\r\nb" * 3000)
    )
    assert type(error) is errors.PolicyRefused
    assert len(error.message) <= limits.FREE_TEXT_CHARS and error.message.isprintable()
    assert len(error.metadata) <= 16
    assert all(text.isprintable() for entry in error.metadata.items() for text in entry)
    with_reserved = from_rpc_error(Failed.with_infos(_info("NOT_FOUND", message="x", self="y")))
    assert with_reserved.message == "no" and with_reserved.metadata["message"] == "x"


@pytest.mark.parametrize(
    "infos",
    [
        (),
        (_info("POLICY_REFUSED"), _info("ROLE_REFUSED")),
        (_info("POLICY_REFUSED", domain="example.org"),),
    ],
)
def test_none_several_or_a_strangers_infos_count_as_bare(infos: Any) -> None:
    assert type(from_rpc_error(Failed.with_infos(*infos))) is errors.RefusedError


def test_a_newer_reason_falls_back_to_the_code() -> None:
    error = from_rpc_error(Failed.with_infos(_info("QUOTA_OF_2030")))
    assert type(error) is errors.RefusedError and "QUOTA_OF_2030" in error.message


def test_details_that_contradict_the_status_count_as_bare() -> None:
    failed = Failed.with_infos(_info("POLICY_REFUSED"), code=5)
    assert type(from_rpc_error(failed)) is errors.RefusedError


@given(st.binary(max_size=200))
def test_details_of_any_bytes_are_no_fault(data: bytes) -> None:
    trailers = (("grpc-status-details-bin", data),)
    assert from_rpc_error(Failed(grpc.StatusCode.UNAVAILABLE, "x", trailers)).message


@given(st.text(max_size=3000))
def test_one_line_is_one_bounded_line(text: str) -> None:
    line = one_line(text, 100)
    assert len(line) <= 100
    assert len(line.splitlines()) <= 1
    assert not any(character < " " or "\x7f" <= character < "\xa0" for character in line)


@given(st.text(max_size=5000), st.dictionaries(st.text(), st.text(max_size=900), max_size=40))
def test_a_status_fits_into_its_trailers(text: str, metadata: dict[str, str]) -> None:
    error = errors.InvalidInput(text)
    error.metadata = metadata
    status = to_status(error)
    # grpc-message is percent-encoded, the details are base64.
    trailers = sum(len(value) * 4 // 3 for _, value in status.trailing_metadata)
    assert len(status.details.encode()) * 3 + trailers < limits.METADATA_BYTES
