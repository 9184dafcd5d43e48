"""A CA key that never leaves its PKCS#11 token: a smart card or a hardware security module.

The configuration names the key by a PKCS#11 URI (RFC 7512):

    pkcs11:token=TOKEN;object=LABEL?module-path=/usr/lib/.../module.so&pin-source=file:/path

``token`` and ``object`` are labels; ``id`` (percent-encoded bytes) may stand for ``object``. The
PIN comes from the file of ``pin-source``, mode 0600, or from systemd's credential ``tieline-pin``;
a PIN in the URI itself (``pin-value``) is refused: the configuration is no place for one. A session
is opened for each signature and closed behind it, so the token may be taken out in between.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, unquote_to_bytes

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from tieline_client import keys
from tieline_client.errors import ConfigurationError

SCHEME = "pkcs11:"
PIN_CREDENTIAL = "tieline-pin"
_PATH = frozenset({"token", "object", "id"})
_QUERY = frozenset({"module-path", "pin-source"})
_token = threading.Lock()
"""Modules are initialised once a process and not all of them may be used by two threads."""


@dataclass(frozen=True, slots=True)
class TokenUri:
    """Where a key is. ``object`` and ``id`` are empty where not given; one of them is."""

    token: str
    object: str
    id: bytes
    module: str
    pin_source: str

    @classmethod
    def parse(cls, text: str) -> TokenUri:
        """Parse a URI; raise ConfigurationError that names what is wrong, and never a PIN."""
        if not text.startswith(SCHEME):
            _refuse("does not begin with pkcs11:")
        path, _, query = text.removeprefix(SCHEME).partition("?")
        values = _pairs(path, ";") | _pairs(query, "&")
        if "pin-value" in values:
            _refuse("holds a PIN; put it into a file of mode 0600 and name that in pin-source")
        unknown = sorted(values.keys() - _PATH - _QUERY)
        if unknown:
            _refuse(f"has the attribute {unknown[0][:40]!r}, which is not read")
        for needed in ("token", "module-path"):
            if not values.get(needed):
                _refuse(f"lacks {needed}")
        if not (values.get("object") or values.get("id")):
            _refuse("lacks object or id")
        source = unquote(values.get("pin-source", ""))
        if source and not source.startswith("file:"):
            _refuse("pin-source is not file:/PATH")
        return cls(
            unquote(values["token"]),
            unquote(values.get("object", "")),
            unquote_to_bytes(values.get("id", "")),
            unquote(values["module-path"]),
            source.removeprefix("file:").removeprefix("//"),
        )

    def __str__(self) -> str:
        return f"{self.object or self.id.hex()} in the token {self.token}"


def _pairs(text: str, between: str) -> dict[str, str]:
    parts = (part.partition("=") for part in text.split(between) if part)
    return {name: value for name, _, value in parts}


def _refuse(why: str) -> NoReturn:
    raise ConfigurationError(
        f"the PKCS#11 URI {why}; write pkcs11:token=T;object=O?module-path=/M.so&pin-source=file:/P"
    )


class TokenKey(ec.EllipticCurvePrivateKey):
    """A P-256 key in a token, where ``cryptography`` expects a private key: it signs, no more."""

    def __init__(self, uri: TokenUri) -> None:
        """Nothing is opened before the key is used."""
        self.uri = uri

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return ec.SECP256R1()

    @property
    def key_size(self) -> int:
        """In bits."""
        return self.curve.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public half, read from the token; raise ConfigurationError."""
        return self._public

    @cached_property
    def _public(self) -> ec.EllipticCurvePublicKey:
        with _token:
            return keys.load_public(_in_session(self.uri, _read_public))

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Return a DER signature; raise ConfigurationError when the token does not make one."""
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, Prehashed) or not isinstance(algorithm, hashes.HashAlgorithm):
            raise ConfigurationError("a token signs what is hashed here, with SHA-2")
        digest = hashes.Hash(algorithm)
        digest.update(data)
        hashed = digest.finalize()
        with _token:
            raw = _in_session(self.uri, lambda session, uri: _sign(session, uri, hashed))
        half = len(raw) // 2
        return encode_dss_signature(
            int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
        )

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """Refused: it signs, no more."""
        raise ConfigurationError(f"the key {self.uri} signs certificates, no more")

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        """Refused: it never leaves its token."""
        raise ConfigurationError(f"the key {self.uri} does not leave it")

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> bytes:  # noqa: A002 - the interface's own name
        """Refused: it never leaves its token."""
        raise ConfigurationError(f"the key {self.uri} does not leave it")

    def __copy__(self) -> TokenKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TokenKey:
        return self


def _in_session(uri: TokenUri, work: Any) -> bytes:
    """Log in, work, and close; every failure becomes one line without the PIN."""
    try:
        import pkcs11  # noqa: PLC0415 - only who has a token needs it
    except ImportError:
        raise ConfigurationError(
            f"the key {uri} needs the module pkcs11; install it with: pip install 'tieline[pkcs11]'"
        ) from None
    pin = _pin(uri)
    try:
        token = pkcs11.lib(uri.module).get_token(token_label=uri.token)
        with token.open(user_pin=pin) as session:
            return bytes(work(session, uri))
    except (pkcs11.PKCS11Error, RuntimeError, OSError) as error:
        why = re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
        raise ConfigurationError(
            f"the key {uri} cannot be used ({why}); is the token there, its module "
            f"{uri.module}, the PIN right?"
        ) from None


def _pin(uri: TokenUri) -> str | None:
    if uri.pin_source:
        return keys.read_passphrase(Path(uri.pin_source), "pin-source").decode()
    credential = keys.credential(PIN_CREDENTIAL)
    return None if credential is None else credential.decode()


def _wanted(uri: TokenUri) -> dict[str, Any]:
    import pkcs11  # noqa: PLC0415

    wanted: dict[str, Any] = {"key_type": pkcs11.KeyType.EC}
    if uri.object:
        wanted["label"] = uri.object
    if uri.id:
        wanted["id"] = uri.id
    return wanted


def _sign(session: Any, uri: TokenUri, hashed: bytes) -> bytes:
    import pkcs11  # noqa: PLC0415

    key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, **_wanted(uri))
    return bytes(key.sign(hashed, mechanism=pkcs11.Mechanism.ECDSA))


def _read_public(session: Any, uri: TokenUri) -> bytes:
    import pkcs11  # noqa: PLC0415
    from pkcs11.util.ec import encode_ec_public_key  # noqa: PLC0415

    key = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, **_wanted(uri))
    return bytes(encode_ec_public_key(key))
