"""`make scan-tls`: sslyze against both listeners of a node that this starts; any finding fails.

sslyze is under the AGPL, so it is no dependency and nothing of it is imported: the Makefile
installs it into build/sslyze, and it runs there as a process of its own whose JSON is read. Its
word is held against what docs/security.md promises, in this order:

1. It could connect with a client certificate, and every check that it was asked for was made.
2. Without one the listener ends the connection.
3. No suite of SSL 2, SSL 3, TLS 1.0, 1.1 or 1.2 is accepted.
4. TLS 1.3 is, with AES-GCM and ChaCha20-Poly1305 and nothing else.
5. No compression, no renegotiation by the client.
6. Not vulnerable to Heartbleed, CCS injection or ROBOT.
7. The certificate holds under the agency's CA alone, is SHA-2, and comes without its anchor.

Its check for early data asks in HTTP/1, which these listeners hang up on, so it says nothing;
``tests/rpc/test_tls_properties.py`` has that one, with openssl.

Run by a Python of this project: ``scan_tls.py SSLYZE_PYTHON``, where the other has sslyze.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

OLDER = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2")
STRONG = frozenset(
    {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"}
)
_CHECKS = (
    *("--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3"),
    *("--compression", "--reneg"),
    *("--heartbleed", "--openssl_ccs", "--robot", "--certinfo"),
)
_ASKED = (
    *(f"{version}_cipher_suites" for version in (*OLDER, "tls_1_3")),
    *("tls_compression", "session_renegotiation"),
    *("heartbleed", "openssl_ccs_injection", "robot", "certificate_info"),
)
_ENDED = ("peer closed the connection", "alert", "ClientCertificateRequested")
"""How sslyze tells that it was hung up on after the handshake, where TLS 1.3 asks for it."""
_SECONDS = 300


def findings(scan: Mapping[str, Any], bare: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a listener; ``bare`` is its scan without a client certificate."""
    # 1
    results = scan.get("scan_result") or {}
    if not results:
        yield f"could not be scanned: {str(scan.get('connectivity_error_trace'))[-300:]}"
        return
    found = {}
    for name in _ASKED:
        attempt = results.get(name) or {}
        if attempt.get("status") != "COMPLETED" or not attempt.get("result"):
            reason = attempt.get("error_reason") or attempt.get("status") or "it is not there"
            yield f"{name}: was not looked at: {reason}"
        else:
            found[name] = attempt["result"]
    # 2
    said = bare.get("connectivity_result")
    if said and said.get("client_auth_requirement") != "REQUIRED":
        yield f"a client certificate is not demanded: {said.get('client_auth_requirement')}"
    elif not said and not any(one in str(bare.get("connectivity_error_trace")) for one in _ENDED):
        yield "whether a client certificate is demanded could not be seen"
    yield from _suites(found)
    yield from _weaknesses(found)
    yield from _certificate(found)


def _suites(found: Mapping[str, Any]) -> Iterator[str]:
    """Check 3 and 4."""
    for version in OLDER:
        result = found.get(f"{version}_cipher_suites")
        taken = _accepted(result) if result else ()
        if taken:
            yield f"{version} is accepted: {', '.join(taken)}"
    modern = found.get("tls_1_3_cipher_suites")
    if modern:
        taken = _accepted(modern)
        if not taken:
            yield "TLS 1.3 is not accepted"
        if weak := sorted(set(taken) - STRONG):
            yield f"TLS 1.3 is accepted with {', '.join(weak)}"


def _accepted(result: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(one["cipher_suite"]["name"]) for one in result["accepted_cipher_suites"])


def _weaknesses(found: Mapping[str, Any]) -> Iterator[str]:
    """Check 5 and 6: what must be so, by check and field. A field that is absent is a finding."""
    for name, key, right in (
        ("tls_compression", "supports_compression", False),
        ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", False),
        ("heartbleed", "is_vulnerable_to_heartbleed", False),
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", False),
        ("robot", "robot_result", "NOT_VULNERABLE_RSA_NOT_SUPPORTED"),
    ):
        if name in found and found[name].get(key) != right:
            yield f"{name}: {key} is {found[name].get(key)}, not {right}"


def _certificate(found: Mapping[str, Any]) -> Iterator[str]:
    """Check 7."""
    for one in found.get("certificate_info", {}).get("certificate_deployments", ()):
        if len(one["received_certificate_chain"]) != 1:
            yield f"certificate: a chain of {len(one['received_certificate_chain'])} is sent"
        if one["verified_chain_has_sha1_signature"] is not False:
            yield "certificate: it does not hold under the agency's CA, or with SHA-1"
        stores = [path["trust_store"]["name"] for path in one["path_validation_results"]
                  if path["was_validation_successful"]]  # fmt: skip
        if stores != ["Supplied CA file"]:
            yield f"certificate: it holds under {stores}, not under the agency's CA alone"


def scan(
    python: str, address: str, name: str, folder: Path, *, certificate: bool
) -> Mapping[str, Any]:
    """Run sslyze against a listener; return its word on it."""
    own = ["--cert", str(folder / "leaf.pem"), "--key", str(folder / "key.pem")]
    told = folder / f"told-{certificate}.json"
    words = [
        *("--quiet", "--mozilla_config", "disable", "--sni", name, "--json_out", str(told)),
        *("--certinfo_ca_file", str(folder / "roots.pem")),
        *(own if certificate else []),
        *_CHECKS,
        address,
    ]
    done = subprocess.run(
        [python, "-m", "sslyze", *words],
        capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    try:
        (one,) = json.loads(told.read_bytes())["server_scan_results"]
    except (OSError, ValueError, KeyError):
        said = ((done.stderr or done.stdout).strip().splitlines() or ["it said nothing"])[-1]
        raise SystemExit(
            f"sslyze did not run: {said[:300]}; `make scan-tls` installs it into build/sslyze"
        ) from None
    return dict(one)


def main() -> None:
    """Start a node, have both listeners scanned, print; exit 1 where something was found."""
    import tieline_client  # noqa: F401, PLC0415 - before grpc: TLS 1.3 only
    from tieline_client.identifiers import dns_name  # noqa: PLC0415
    from tieline_client.profile import Profile  # noqa: PLC0415

    from tests.e2e.federation import Federation  # noqa: PLC0415 - the one that tests use

    python = sys.argv[1]
    failed = False
    with tempfile.TemporaryDirectory() as root:
        made = Federation(Path(root) / "trial")
        made.root.mkdir()
        node = made.found().add("pt-pj", "national", "PT")
        name = dns_name(node.agency, made.name)
        profile = Profile.load(node.profile)
        try:
            node.start()
            for listener, address, leaf, key in (
                ("federation", node.address, (node.home / "certs" / "node.pem").read_bytes(),
                 (node.home / "keys" / "node.key").read_bytes()),
                ("operator", node.operator_address, profile.certificate.encode(),
                 profile.key.encode()),
            ):  # fmt: skip
                folder = Path(root) / listener
                folder.mkdir(mode=0o700)
                (folder / "leaf.pem").write_bytes(leaf)
                (folder / "key.pem").write_bytes(key)
                ca = (node.home / "certs" / "node-ca.pem").read_bytes()
                (folder / "roots.pem").write_bytes(ca)
                whole = scan(python, address, name, folder, certificate=True)
                bare = scan(python, address, name, folder, certificate=False)
                found = list(findings(whole, bare))
                failed = failed or bool(found)
                print(f"{listener} port: {'clean' if not found else f'{len(found)} findings'}")
                for one in found:
                    print(f"  {one}")
        finally:
            made.close()
    sys.exit(failed)


if __name__ == "__main__":
    main()
