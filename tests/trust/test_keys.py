"""Private keys on disk: written once, closed to others, opened only by the right passphrase."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tieline_client import keys
from tieline_client.errors import ConfigurationError, InvalidInput
from tieline_client.key_encryption import encrypt_pkcs8


def test_a_key_comes_back_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    key, path = keys.generate(), tmp_path / "node.key"
    keys.save(path, key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.load(path).private_numbers() == key.private_numbers()
    assert b"ENCRYPTED" not in path.read_bytes()


def test_a_passphrase_closes_the_file(tmp_path: Path) -> None:
    key, path = keys.generate(), tmp_path / "node.key"
    keys.save(path, key, b"correct horse")
    assert keys.load(path, b"correct horse").private_numbers() == key.private_numbers()
    with pytest.raises(ConfigurationError, match="TIELINE_PASSPHRASE_FILE"):
        keys.load(path)
    with pytest.raises(ConfigurationError, match="the passphrase does not open it"):
        keys.load(path, b"battery staple")
    opened = subprocess.run(
        ["openssl", "pkey", "-in", str(path), "-passin", "pass:correct horse", "-pubout"],
        check=True,
        capture_output=True,
    )
    assert opened.stdout == key.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )


@settings(max_examples=5, deadline=None)
@given(passphrase=st.binary(min_size=1, max_size=80))
def test_any_passphrase_opens_what_it_closed(passphrase: bytes) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = keys.generate()
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    opened = load_pem_private_key(encrypt_pkcs8(der, passphrase), passphrase)
    assert isinstance(opened, ec.EllipticCurvePrivateKey)
    assert opened.private_numbers() == key.private_numbers()


def test_two_files_of_one_key_and_passphrase_share_no_secret_bytes() -> None:
    key = keys.generate()
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    first, second = (encrypt_pkcs8(der, b"same").splitlines()[1:-1] for _ in range(2))
    assert not set(first[1:]) & set(second[1:])


def test_an_encrypted_key_of_another_tool_opens(tmp_path: Path) -> None:
    key, path = keys.generate(), tmp_path / "pki.key"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )
    path.chmod(0o600)
    assert keys.load(path, b"x").private_numbers() == key.private_numbers()


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    keys.save(path, keys.generate())
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="never overwritten"):
        keys.save(path, keys.generate())
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o601, 0o620, 0o700, 0o666])
def test_a_key_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "node.key"
    keys.save(path, keys.generate())
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        keys.load(path)


def test_a_key_that_only_its_owner_may_read_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    keys.save(path, keys.generate())
    path.chmod(0o400)
    keys.load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no key",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    ],
)
def test_what_is_no_key_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError) as refusal:
        keys.load(path, b"passphrase")
    assert str(path) in refusal.value.message
    assert "\n" not in refusal.value.message
    assert "passphrase'" not in refusal.value.message


@pytest.mark.parametrize(
    "key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())]
)
def test_other_key_types_are_refused(
    tmp_path: Path, key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
) -> None:
    path = tmp_path / "node.key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="not ECDSA P-256"):
        keys.load(path)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(InvalidInput, match="not ECDSA P-256"):
        keys.load_public(public)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        keys.load(tmp_path / "absent.key")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        keys.save(tmp_path / "absent" / "node.key", keys.generate())


def test_the_key_id_is_the_digest_of_the_public_key(tmp_path: Path) -> None:
    key, path = keys.generate(), tmp_path / "k"
    keys.save(path, key)
    der = subprocess.run(
        ["openssl", "pkey", "-in", str(path), "-pubout", "-outform", "DER"],
        check=True,
        capture_output=True,
    ).stdout
    assert keys.public_der(key) == der
    expected = hashlib.sha256(der).hexdigest()
    assert keys.keyid(key) == keys.keyid(key.public_key()) == keys.keyid(der) == expected


def test_the_passphrase_comes_from_the_file_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(keys.PASSPHRASE_VARIABLE, raising=False)
    assert keys.passphrase_from_environment() is None
    file = tmp_path / "passphrase"
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, str(file))
    with pytest.raises(ConfigurationError, match="No such file"):
        keys.passphrase_from_environment()
    file.write_bytes(b"two words \r\n")
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match=r"mode 0640 .*; run `chmod 600") as caught:
        keys.passphrase_from_environment()
    assert "two words" not in caught.value.message
    file.chmod(0o600)
    assert keys.passphrase_from_environment() == b"two words "
    file.write_bytes(b"\n")
    with pytest.raises(ConfigurationError, match="is empty"):
        keys.passphrase_from_environment()


def test_the_passphrase_comes_from_a_credential_of_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(keys.PASSPHRASE_VARIABLE, raising=False)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert keys.passphrase_from_environment() is None
    credential = tmp_path / "tieline-passphrase"
    credential.write_text("of the credential\n")
    # With an access list for the unit's user, systemd's files show the mask as the group's mode.
    credential.chmod(0o440)
    assert keys.passphrase_from_environment() == b"of the credential"
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, str(credential))
    assert keys.passphrase_from_environment() == b"of the credential"
    credential.chmod(0o600)
    credential.write_text("")
    with pytest.raises(ConfigurationError, match="is empty"):
        keys.passphrase_from_environment()
