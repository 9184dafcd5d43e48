"""`make scan-tls`: what of sslyze's word is a finding. The documents are as sslyze 6.3 writes them
of a listener, without what is not looked at."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scan_tls import OLDER, STRONG, findings, scan

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "scan_tls.py"


def _done(**result: Any) -> dict[str, Any]:
    return {"status": "COMPLETED", "error_reason": None, "error_trace": None, "result": result}


def _suites(*names: str) -> dict[str, Any]:
    return _done(accepted_cipher_suites=[{"cipher_suite": {"name": name}} for name in names])


def _path(store: str, *, good: bool) -> dict[str, Any]:
    return {"trust_store": {"name": store}, "was_validation_successful": good}


def _clean() -> dict[str, Any]:
    deployment = {
        "received_certificate_chain": [{}],
        "verified_chain_has_sha1_signature": False,
        "path_validation_results": [
            _path("Mozilla", good=False),
            _path("Supplied CA file", good=True),
        ],
    }
    return {
        "connectivity_status": "COMPLETED",
        "scan_result": {
            **{f"{version}_cipher_suites": _suites() for version in OLDER},
            "tls_1_3_cipher_suites": _suites(*sorted(STRONG)),
            "tls_compression": _done(supports_compression=False),
            "session_renegotiation": _done(is_vulnerable_to_client_renegotiation_dos=False),
            "heartbleed": _done(is_vulnerable_to_heartbleed=False),
            "openssl_ccs_injection": _done(is_vulnerable_to_ccs_injection=False),
            "robot": _done(robot_result="NOT_VULNERABLE_RSA_NOT_SUPPORTED"),
            "certificate_info": _done(certificate_deployments=[deployment]),
        },
    }


HUNG_UP: dict[str, Any] = {
    "connectivity_result": None,
    "connectivity_error_trace": "OSError: Could not read() - peer closed the connection.",
}


def test_a_listener_as_it_should_be_is_clean() -> None:
    assert list(findings(_clean(), HUNG_UP)) == []
    demanded = {"connectivity_result": {"client_auth_requirement": "REQUIRED"}}
    assert list(findings(_clean(), demanded)) == []


def _at(name: str, **result: Any) -> Callable[[dict[str, Any]], None]:
    return lambda results: results[name]["result"].update(result)


def _certificate(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda results: results["certificate_info"]["result"]["certificate_deployments"][
        0
    ].update(values)


def _put(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda results: results.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *((_put(f"{old}_cipher_suites", _suites("X")), f"{old} is accepted: X") for old in OLDER),
        (_put("tls_1_3_cipher_suites", _suites()), "TLS 1.3 is not accepted"),
        (
            _put("tls_1_3_cipher_suites", _suites("TLS_AES_128_CCM_SHA256", *STRONG)),
            "TLS 1.3 is accepted with TLS_AES_128_CCM_SHA256",
        ),
        (_at("tls_compression", supports_compression=True), "supports_compression is True"),
        (
            _at("session_renegotiation", is_vulnerable_to_client_renegotiation_dos=True),
            "client_renegotiation_dos is True",
        ),
        (_at("heartbleed", is_vulnerable_to_heartbleed=True), "heartbleed is True"),
        (_at("openssl_ccs_injection", is_vulnerable_to_ccs_injection=True), "injection is True"),
        (_at("robot", robot_result="VULNERABLE_WEAK_ORACLE"), "VULNERABLE_WEAK_ORACLE"),
        (_certificate(received_certificate_chain=[{}, {}]), "a chain of 2 is sent"),
        (_certificate(verified_chain_has_sha1_signature=True), "SHA-1"),
        (_certificate(verified_chain_has_sha1_signature=None), "does not hold"),
        (
            _certificate(path_validation_results=[_path("Mozilla", good=True)]),
            "holds under ['Mozilla']",
        ),
        (lambda results: results.pop("heartbleed"), "heartbleed: was not looked at"),
        (
            _put("robot", {"status": "ERROR", "error_reason": "BUG_IN_SSLYZE", "result": None}),
            "robot: was not looked at: BUG_IN_SSLYZE",
        ),
        # What an other version of sslyze would not say any more is no good news.
        (_put("heartbleed", _done(other=False)), "is_vulnerable_to_heartbleed is None"),
    ],
)
def test_each_thing_that_is_not_so_is_a_finding(
    change: Callable[[dict[str, Any]], None], said: str
) -> None:
    whole = copy.deepcopy(_clean())
    change(whole["scan_result"])
    (found,) = findings(whole, HUNG_UP)
    assert said in found


@pytest.mark.parametrize(
    "bare",
    [
        {"connectivity_result": {"client_auth_requirement": "OPTIONAL"}},
        {"connectivity_result": {"client_auth_requirement": "DISABLED"}},
        {"connectivity_result": None, "connectivity_error_trace": "timed out"},
    ],
)
def test_a_listener_that_lets_anybody_in_is_a_finding(bare: dict[str, Any]) -> None:
    (found,) = findings(_clean(), bare)
    assert "client certificate" in found


def test_what_could_not_be_scanned_is_no_clean_listener() -> None:
    (found,) = findings({"scan_result": None, "connectivity_error_trace": "refused"}, HUNG_UP)
    assert found == "could not be scanned: refused"


def test_without_sslyze_it_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"sslyze did not run: .*make scan-tls"):
        scan(sys.executable, "127.0.0.1:1", "name.invalid", tmp_path, certificate=False)


def test_nothing_of_it_is_imported_or_required() -> None:
    """It is under the AGPL."""
    root = SCRIPT.parents[1]
    assert "import sslyze" not in SCRIPT.read_text()
    for path in (root / "pyproject.toml", *sorted((root / "requirements").glob("*.txt"))):
        assert "sslyze" not in path.read_text(), path
