"""`tieline operator refresh`: a profile follows its node through a change of the node's CA."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tieline.v1 import operator_pb2 as pb
from tieline.v1.operator_access_pb2 import GetAccessResponse, RenewCertificateResponse
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.profile import Profile, utc_now
from tieline_client.tls import to_pem
from tieline_server.trust.authority import create_authority, issue_operator_leaf

from tests.cli.node_double import AGENCY, FEDERATION, Refusal, Run, Served

NEXT = create_authority(Kind.NODE, FEDERATION, AGENCY, keys.generate(), now=utc_now()).der


def _says(served: Served, **changed: Any) -> None:
    """Let the node say this of itself."""
    said = {
        "node_cas": [served.people.node_ca.der, NEXT],
        "address": served.address,
        "target_name": "pt-pj.test-eu.invalid",
    }
    served.node.answers["GetAccess"] = GetAccessResponse(**(said | changed))


def _held(served: Served) -> dict[str, Any]:
    held: dict[str, Any] = json.loads(served.profile.read_text())
    return held


def test_both_cas_while_one_takes_the_others_place_and_then_one(run: Run, served: Served) -> None:
    before = _held(served)
    _says(served)
    done = run("operator", "refresh", served.profile, "--json")
    assert (done.code, done.document) == (
        0,
        {
            "profile": str(served.profile),
            "changed": ["node_ca"],
            "node_cas": 2,
            "address": served.address,
        },
    )
    assert served.profile.stat().st_mode & 0o777 == 0o600
    after = _held(served)
    assert after == before | {"node_ca": to_pem([served.people.node_ca.der, NEXT]).decode()}
    assert run("hashes", "stats").code == 0
    # Once more: nothing to do, nothing written.
    stamp = served.profile.stat().st_mtime_ns
    assert run("operator", "refresh", served.profile, "--json").document["changed"] == []
    assert served.profile.stat().st_mtime_ns == stamp
    # Finished, the one that is left is enough.
    _says(served, node_cas=[served.people.node_ca.der])
    assert run("operator", "refresh", served.profile, "--json").document["node_cas"] == 1
    assert _held(served) == before


def test_an_encrypted_key_stays_as_it_is(
    run: Run, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys.generate()
    leaf = issue_operator_leaf(served.people.operator_ca, "eva", key.public_key(), now=utc_now())
    path = tmp_path / "eva.json"
    served.people.profile(
        served.address,
        operator="eva",
        key=keys.to_pem(key, b"correct horse").decode(),
        certificate=leaf.public_bytes(Encoding.PEM).decode(),
    ).save(path)
    before = Profile.load(path)
    _says(served)
    # Without the passphrase nothing is asked, and nothing changes.
    refused = run("operator", "refresh", path)
    assert refused.code == 1 and "encrypted" in refused.err and Profile.load(path) == before
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    monkeypatch.setenv("TIELINE_PASSPHRASE_FILE", str(secret))
    assert run("operator", "refresh", path).code == 0
    after = Profile.load(path)
    assert (after.key, after.certificate) == (before.key, before.certificate)
    assert len(after.node_cas()) == 2 and after.encrypted


def test_an_address_that_cannot_be_reached_from_here_is_not_taken(run: Run, served: Served) -> None:
    _says(served, address="127.0.0.1:1")
    done = run("operator", "refresh", served.profile, "--json")
    assert done.code == 0 and done.document["changed"] == ["node_ca"]
    assert "127.0.0.1:1" in done.err
    assert _held(served)["address"] == served.address
    # One that can be is.
    other = "localhost" + served.address[served.address.rindex(":") :]
    _says(served, address=other)
    done = run("operator", "refresh", served.profile, "--json")
    assert (done.document["changed"], done.document["address"]) == (["address"], other)
    assert run("hashes", "stats").code == 0


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"node_cas": [NEXT]}, "none of the CAs"),
        ({"node_cas": []}, "none of the CAs"),
        ({"target_name": "es-gc.test-eu.invalid"}, "target name"),
        ({"address": "nowhere"}, "HOST:PORT"),
        ({"node_cas": [b"\x30\x03\x02\x01\x00"]}, "certificate"),
    ],
)
def test_an_answer_that_makes_no_profile_changes_nothing(
    run: Run, served: Served, said: dict[str, Any], why: str
) -> None:
    before = served.profile.read_bytes()
    _says(served, **said)
    done = run("operator", "refresh", served.profile)
    assert done.code != 0 and why in done.err, done.err
    assert len(done.err.strip().splitlines()) == 1
    assert served.profile.read_bytes() == before


def test_a_node_that_is_older_or_refuses(run: Run, served: Served) -> None:
    before = served.profile.read_bytes()
    served.node.answers["GetAccess"] = Refusal(
        grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_METHOD", "GetAccess is not served by this node"
    )
    assert run("operator", "refresh", served.profile).code == 1
    assert served.profile.read_bytes() == before
    assert run("operator", "refresh", served.profile.with_name("none.json")).code == 1


def test_a_folder_that_cannot_be_written_leaves_the_old_profile(
    run: Run, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = served.profile.read_bytes()
    _says(served)

    def full(*_: object, **__: object) -> tuple[int, str]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tieline_client.profile.tempfile.mkstemp", full)
    done = run("operator", "refresh", served.profile)
    assert done.code == 1 and "No space left" in done.err
    assert served.profile.read_bytes() == before
    assert [path.name for path in served.profile.parent.iterdir()] == [served.profile.name]


def test_a_new_profile_holds_both_cas(run: Run, served: Served, tmp_path: Path) -> None:
    usual = served.node.unary

    def unary(method: str, request: Any, context: grpc.ServicerContext) -> Any:
        if method != "AddOperator":
            return usual(method, request, context)
        leaf = issue_operator_leaf(
            served.people.operator_ca,
            request.name,
            keys.load_public(request.public_key),
            now=utc_now(),
        )
        return pb.AddOperatorResponse(
            certificate=leaf.public_bytes(Encoding.DER),
            node_ca=served.people.node_ca.der,
            node_cas=[served.people.node_ca.der, NEXT],
            address=served.address,
            target_name="pt-pj.test-eu.invalid",
        )

    served.node.unary = unary  # type: ignore[method-assign]
    out = tmp_path / "rui.json"
    assert run("operator", "add", "rui", "--role", "analyst", "--out", out).code == 0
    assert Profile.load(out).node_cas() == (served.people.node_ca.der, NEXT)


def _anew(served: Served, name: str = "ana", key: Any = None) -> bytes:
    """A certificate of the next operator CA."""
    held = x509.load_pem_x509_certificate(_held(served)["certificate"].encode())
    following = create_authority(Kind.OPERATOR, FEDERATION, AGENCY, keys.generate(), now=utc_now())
    public: Any = key or held.public_key()
    leaf = issue_operator_leaf(following, name, public, now=utc_now())
    return leaf.public_bytes(Encoding.DER)


@pytest.mark.parametrize("whose", ["another key", "another person", "no certificate"])
def test_a_certificate_that_is_not_the_persons_changes_nothing(
    run: Run, served: Served, whose: str
) -> None:
    _says(served)
    name = Profile.load(served.profile).operator
    made: dict[str, Callable[[], bytes]] = {
        "another key": lambda: _anew(served, name, keys.generate().public_key()),
        "another person": lambda: _anew(served, "eve"),
        "no certificate": lambda: b"\x30\x03\x02\x01\x00",
    }
    given = made[whose]()
    served.node.answers["RenewCertificate"] = RenewCertificateResponse(certificate=given)
    before = served.profile.read_bytes()
    done = run("operator", "refresh", served.profile)
    assert done.code != 0 and "not yours" in done.err
    assert served.profile.read_bytes() == before


def test_a_certificate_that_the_node_refuses_afterwards_is_not_taken(
    run: Run, served: Served
) -> None:
    """The double trusts its one operator CA: under the next nobody comes in."""
    _says(served)
    name = Profile.load(served.profile).operator
    renewed = RenewCertificateResponse(certificate=_anew(served, name))
    served.node.answers["RenewCertificate"] = renewed
    before = served.profile.read_bytes()
    assert run("operator", "refresh", served.profile).code != 0
    assert served.profile.read_bytes() == before


def test_a_node_of_before_renews_no_certificates(run: Run, served: Served) -> None:
    _says(served)
    served.node.answers["RenewCertificate"] = Refusal(
        grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_METHOD", "not served by this node"
    )
    assert run("operator", "refresh", served.profile, "--json").document["changed"] == ["node_ca"]
