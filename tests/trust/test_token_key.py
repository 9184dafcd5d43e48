"""CA keys in a PKCS#11 token, against SoftHSM2: what they sign, and what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tieline_client import keys
from tieline_client.certificates import Kind, Purpose, check_leaf
from tieline_client.errors import ConfigurationError
from tieline_server.trust.authority import authority_certificate, create_authority, issue_node_leaf
from tieline_server.trust.ca_keys import load_own_authority
from tieline_server.trust.token_key import TokenKey, TokenUri

from tests.trust.softhsm import PIN, Token, the_token

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> Token:
    return the_token(tmp_path_factory)


def test_a_ca_in_a_token_issues_leaves_that_peers_accept(token: Token) -> None:
    key = TokenKey(TokenUri.parse(token.uri()))
    authority = create_authority(Kind.NODE, "demo", "pt-pj", key, now=NOW)
    leaf = issue_node_leaf(authority, keys.generate().public_key(), now=NOW)
    from cryptography.hazmat.primitives.serialization import Encoding

    for purpose in Purpose:
        checked = check_leaf(
            leaf.public_bytes(Encoding.DER),
            federation="demo",
            kind=Kind.NODE,
            purpose=purpose,
            pinned={"pt-pj": [authority.der]},
            is_revoked=lambda _agency, _serial: False,
            now=NOW,
        )
        assert checked.agency == "pt-pj"


def test_the_key_does_not_leave_its_token(token: Token) -> None:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = TokenKey(TokenUri.parse(token.uri()))
    with pytest.raises(ConfigurationError, match="does not leave it"):
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ConfigurationError, match="does not leave it"):
        key.private_numbers()


def test_the_token_may_be_in_a_drawer_until_something_is_signed(
    token: Token, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    key = TokenKey(TokenUri.parse(token.uri()))
    pem = authority_certificate(Kind.NODE, "pt-pj", key, now=NOW).public_bytes(Encoding.PEM)
    (tmp_path / "node-ca.pem").write_bytes(pem)
    away = token.uri(token="elsewhere")
    own = load_own_authority(
        Kind.NODE, "demo", "pt-pj",
        keys_folder=tmp_path, certs=tmp_path, uri=away, passphrase=None,
    )  # fmt: skip
    assert own.authority is not None
    with pytest.raises(ConfigurationError, match="is the token there") as caught:
        issue_node_leaf(own.authority, keys.generate().public_key(), now=NOW)
    assert PIN not in caught.value.message
    assert "\n" not in caught.value.message


def test_another_key_than_the_certificates_is_noticed_when_it_signs(
    token: Token, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    key = TokenKey(TokenUri.parse(token.uri()))
    pem = authority_certificate(Kind.NODE, "pt-pj", key, now=NOW).public_bytes(Encoding.PEM)
    (tmp_path / "node-ca.pem").write_bytes(pem)
    own = load_own_authority(
        Kind.NODE, "demo", "pt-pj",
        keys_folder=tmp_path, certs=tmp_path, uri=token.uri("operator-ca"), passphrase=None,
    )  # fmt: skip
    assert own.authority is not None
    with pytest.raises(ConfigurationError, match="does not belong to its certificate"):
        issue_node_leaf(own.authority, keys.generate().public_key(), now=NOW)


def test_a_wrong_pin_is_refused_and_not_repeated(token: Token, tmp_path: Path) -> None:
    wrong = tmp_path / "pin"
    wrong.touch(0o600)
    wrong.write_text("9999-wrong\n")
    uri = token.uri().replace(str(token.pin_file), str(wrong))
    with pytest.raises(ConfigurationError, match="the PIN right") as caught:
        TokenKey(TokenUri.parse(uri)).public_key()
    assert "9999" not in caught.value.message
    assert TokenKey(TokenUri.parse(token.uri())).public_key()


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("file:/etc/key", "does not begin"),
        ("pkcs11:token=t;object=o", "lacks module-path"),
        ("pkcs11:object=o?module-path=/m", "lacks token"),
        ("pkcs11:token=t?module-path=/m", "lacks object or id"),
        ("pkcs11:token=t;object=o?module-path=/m&pin-value=1234", "holds a PIN"),
        ("pkcs11:token=t;object=o?module-path=/m&pin-source=http://x", "pin-source"),
        ("pkcs11:token=t;object=o;serial=1?module-path=/m", "'serial'"),
    ],
)
def test_a_uri_that_is_wrong_says_what_is_wrong(uri: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        TokenUri.parse(uri)
    assert "1234" not in caught.value.message


def test_a_uri_with_an_id_in_place_of_a_label() -> None:
    uri = TokenUri.parse("pkcs11:token=a%20b;id=%01%02?module-path=/m.so&pin-source=file:///p")
    assert (uri.token, uri.id, uri.object, uri.pin_source) == ("a b", b"\x01\x02", "", "/p")
