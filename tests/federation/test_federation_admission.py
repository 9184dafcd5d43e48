"""Requests to join, and what the authority refuses."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tieline_client import keys
from tieline_client.directory import Role
from tieline_client.errors import InvalidInput, TielineError, TrustError
from tieline_server.trust import canonical, federation_init, request
from tieline_server.trust.federation import Federation
from tieline_server.trust.federation_edits import AdmissionRefused

from tests.federation.building import (
    NOW,
    Agency,
    admit,
    invoke,
    refusal,
    succeed,
    trial,
    write_request,
)

MADE = Agency("pt-pj", countries=["PT", "AO"]).request()


def test_a_request_survives_its_file() -> None:
    read = request.verify(MADE.to_json(), NOW)
    assert read == MADE
    assert len(read.fingerprint) == 64
    assert read.statement.contact.name == "Duty desk"
    assert read.version == int(NOW.timestamp())


def test_the_fingerprint_covers_every_part() -> None:
    document = json.loads(MADE.document)
    document["claims"]["name"] = "Somebody else"
    other = request.verify(canonical.encode(document), NOW)
    assert other.fingerprint != MADE.fingerprint
    with pytest.raises(AdmissionRefused):
        from tieline_server.trust.federation_edits import check_fingerprint

        check_fingerprint(other, MADE.fingerprint)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_byte_is_refused_or_changes_the_fingerprint(data: st.DataObject) -> None:
    body = bytearray(MADE.document)
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    try:
        read = request.verify(bytes(body), NOW)
    except TielineError as error:
        assert error.message
    else:
        assert read.fingerprint != MADE.fingerprint


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(InvalidInput):
        request.verify(noise, NOW)


@pytest.mark.parametrize(
    "text",
    [
        '{"format": 1.5}',
        '{"format": NaN}',
        '{"a": 1, "a": 2}',
        "[" * 100_000,
        '{"format": ' + "9" * 5_000 + "}",
        '{"format": "tieline-request/1", "claims": "\\ud800"}',
        "{}",
    ],
)
def test_strange_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        request.verify(text.encode(), NOW)


def test_an_oversized_request_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_bytes(b" " * (3 * 1024 * 1024))
    federation = trial(tmp_path / "authority")
    assert "over" in refusal(1, "admit", federation.folder, file, "--role", "hub")


def test_statement_and_signature_must_fit() -> None:
    document = json.loads(MADE.document)
    document["statement"]["endpoints"] = ["198.51.100.7:7443"]
    with pytest.raises(TrustError, match="changed after it was signed"):
        request.verify(canonical.encode(document), NOW)
    document = json.loads(MADE.document)
    document["directory_key"] = json.loads(Agency("pt-pj").request().document)["directory_key"]
    with pytest.raises(TrustError, match="not signed by its directory key"):
        request.verify(canonical.encode(document), NOW)
    with pytest.raises(InvalidInput, match="names no endpoint"):
        Agency("pt-pj").request(endpoints=())
    assert Agency("pt-pj").request(endpoints=(), outbound_only=True).statement.outbound_only
    with pytest.raises(InvalidInput, match="claims pt-pj but states es-gc"):
        Agency("pt-pj").request(agency="es-gc")
    with pytest.raises(InvalidInput, match="expired"):
        request.verify(MADE.document, NOW + timedelta(days=4000))


def test_the_authority_learns_that_a_node_only_calls_out_and_a_hub_may_not(tmp_path: Path) -> None:
    trial(tmp_path / "dir")
    out = Agency("pt-pj").request(endpoints=(), outbound_only=True)
    stated = ("--role", "national", "--country", "PT", "--fingerprint", out.fingerprint)
    shown = succeed("admit", tmp_path / "dir", write_request(tmp_path / "pt.json", out), *stated)
    assert any("only calls out" in remark for remark in shown["remarks"])
    (member,) = succeed("show", tmp_path / "dir")["members"]
    assert (member["outbound_only"], member["endpoints"]) == (True, [])
    hub = Agency("ec3", Role.HUB, ()).request(endpoints=(), outbound_only=True)
    words = refusal(
        *(3, "admit", tmp_path / "dir", write_request(tmp_path / "hub.json", hub)),
        *("--role", "hub", "--fingerprint", hub.fingerprint),
    )
    assert "must be called by others" in words


@pytest.mark.parametrize(
    ("options", "exit_code", "says"),
    [
        (["--role", "hub"], 3, "claims to be national"),
        (["--role", "national", "--country", "PT"], 3, "claims the countries AO PT"),
        (["--role", "national", "--country", "PT", "--country", "US"], 3, "you state PT US"),
        (["--role", "national"], 2, "at least one country"),
        (["--role", "national", "--country", "pt"], 2, "two capital letters"),
    ],
)
def test_the_authority_states_role_and_countries(
    tmp_path: Path, options: list[str], exit_code: int, says: str
) -> None:
    federation = trial(tmp_path / "authority")
    file = write_request(tmp_path / "request.json", MADE)
    assert says in refusal(exit_code, "admit", federation.folder, file, *options)
    assert federation.directory(NOW).members == ()


def test_an_unknown_role_is_wrong_usage(tmp_path: Path) -> None:
    federation = trial(tmp_path / "authority")
    file = write_request(tmp_path / "request.json", MADE)
    assert invoke("admit", federation.folder, file, "--role", "boss").exit_code == 2


def test_the_fingerprint_is_required_and_compared(tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    federation_init.create(folder, "fed", passphrases=[None, None], threshold=2, now=NOW)
    file = write_request(tmp_path / "request.json", MADE)
    stated = ["admit", folder, file, "--role", "national", "--country", "PT", "--country", "AO"]
    assert "--fingerprint HEX is required" in refusal(2, *stated)
    assert "is not that of" in refusal(3, *stated, "--fingerprint", "0" * 64)
    assert "is not that of" in refusal(3, *stated, "--fingerprint", "café")
    assert succeed(*stated, "--fingerprint", MADE.fingerprint.upper())["changed"] is True


def test_a_trial_still_refuses_a_wrong_fingerprint(tmp_path: Path) -> None:
    federation = trial(tmp_path / "authority")
    file = write_request(tmp_path / "request.json", MADE)
    message = refusal(3, "admit", federation.folder, file, "--role", "national",
                      "--country", "PT", "--country", "AO", "--fingerprint", "ab" * 32)  # fmt: skip
    assert "is not that of" in message


@pytest.fixture
def with_pj(tmp_path: Path) -> tuple[Federation, Agency]:
    agency = Agency("pt-pj")
    return trial(tmp_path / "authority", agency), agency


def test_no_key_or_authority_of_another_member(with_pj: tuple[Federation, Agency]) -> None:
    federation, victim = with_pj
    for taken in ("directory_key", "signing_key"):
        thief = Agency("es-gc", **{taken: getattr(victim, taken)})
        with pytest.raises(AdmissionRefused, match="offers a key of pt-pj"):
            admit(federation, thief.request())
    for taken, place in (("node_ca", "node_ca"), ("operator_ca", "node_ca")):
        thief = Agency("es-gc", **{place: getattr(victim, taken)})
        with pytest.raises(TrustError, match="of a CA of pt-pj"):
            admit(federation, thief.request())
    look_alike = Agency("es-gc")
    look_alike.node_ca = Agency("pt-pj").node_ca
    admit(federation, look_alike.request())
    assert len(federation.directory(NOW).members) == 2


def test_one_authority_does_not_serve_both_purposes(tmp_path: Path) -> None:
    agency = Agency("pt-pj")
    agency.operator_ca = agency.node_ca
    with pytest.raises(TrustError, match="of a CA of pt-pj"):
        admit(trial(tmp_path / "authority"), agency.request())


def test_what_is_no_authority_is_refused(tmp_path: Path) -> None:
    agency = Agency("pt-pj", node_ca=b"\x30\x03\x02\x01\x00")
    with pytest.raises(TrustError):
        admit(trial(tmp_path / "authority"), agency.request())


def test_reserved_names(tmp_path: Path) -> None:
    federation = trial(tmp_path / "authority")
    for name in ("root", "targets", "snapshot", "timestamp"):
        with pytest.raises(InvalidInput, match="meaning of its own"):
            admit(federation, Agency(name).request())
    admit(federation, Agency("federation").request())


def test_a_newer_request_replaces_and_an_older_does_not(
    with_pj: tuple[Federation, Agency],
) -> None:
    federation, agency = with_pj
    later = NOW + timedelta(days=1)
    newer = agency.request(later, endpoints=("10.0.0.9:7443",))
    admit(federation, newer, later)
    assert federation.directory(NOW).member("pt-pj").endpoints == ("10.0.0.9:7443",)
    with pytest.raises(AdmissionRefused, match="not newer"):
        admit(federation, agency.request(), later)
    # A lost home made anew: another directory key, same agency, later time.
    again = Agency("pt-pj").request(later + timedelta(days=1))
    admit(federation, again, later)
    assert federation.directory(NOW).member("pt-pj").directory_key == again.directory_key.keyid


def test_hubs_and_repositories_serve_no_country(tmp_path: Path) -> None:
    federation = trial(
        tmp_path / "authority",
        Agency("europol-ec3", role=Role.HUB, countries=()),
        Agency("interpol", role=Role.REPOSITORY, countries=()),
        Agency("us-ice", countries=["US"]),
        Agency("us-fbi", countries=["US"]),
    )
    directory = federation.directory(NOW)
    assert [member.agency for member in directory.hubs()] == ["europol-ec3"]
    assert [member.agency for member in directory.repositories()] == ["interpol"]
    assert [member.agency for member in directory.serving("US")] == ["us-fbi", "us-ice"]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(min_size=1, max_size=300))
def test_a_request_that_is_noise_leaves_nothing(tmp_path: Path, noise: bytes) -> None:
    folder = tmp_path / "authority"
    if not folder.exists():
        trial(folder)
    file = tmp_path / "noise.json"
    file.write_bytes(noise)
    refusal(1, "admit", folder, file, "--role", "hub")


def test_keys_of_requests_are_p256() -> None:
    document = json.loads(MADE.document)
    document["directory_key"] = "AAAA"
    with pytest.raises(InvalidInput, match="P-256"):
        request.verify(canonical.encode(document), NOW)
    assert MADE.directory_key.keyid == keys.keyid(
        keys.load_public(keys.public_der(MADE.directory_key._crypto_key()))  # type: ignore[arg-type]
    )
