"""A person's profile: who they are and which node is theirs, in one JSON file of mode 0600.

The file holds the certificate and the private key, so it is refused as soon as others may read
it. The key may be encrypted under a passphrase (PKCS#8).
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tieline_client import keys
from tieline_client.errors import ConfigurationError, InvalidInput, TrustError, UsageError
from tieline_client.identifiers import check_agency, check_federation, check_operator, dns_name
from tieline_client.limits import PROFILE_BYTES
from tieline_client.tls import Identity, to_der

PROFILE_VARIABLE = "TIELINE_PROFILE"


class OperatorCertificateExpired(TrustError):
    """The person's own certificate is not valid now."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One person at one node. ``node_ca``, ``certificate`` and ``key`` are PEM texts.

    ``address`` is the node's operator port, HOST:PORT; ``target_name`` the DNS name that its leaf
    must carry.
    """

    agency: str
    federation: str
    operator: str
    address: str
    target_name: str
    node_ca: str
    certificate: str
    key: str

    def __post_init__(self) -> None:
        check_agency(self.agency)
        check_federation(self.federation)
        check_operator(self.operator)
        if self.target_name != dns_name(self.agency, self.federation):
            raise InvalidInput("the target name is not that of the agency's node")
        host, colon, port = self.address.rpartition(":")
        if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise InvalidInput(f"the address {self.address[:80]!r} is not HOST:PORT")

    @classmethod
    def load(cls, path: Path) -> Profile:
        """Read a profile; raise ConfigurationError when it is missing, too open or no profile."""
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                data = file.read(PROFILE_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(
                f"profile {path} cannot be read ({error.strerror}); "
                "an admin makes one with `tieline operator add NAME --role ROLE --out PROFILE`"
            ) from None
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise ConfigurationError(
                f"profile {path} has mode {mode:04o} and others may use it; run `chmod 600 {path}`"
            )
        if len(data) > PROFILE_BYTES:
            raise ConfigurationError(f"{path} is too large for a profile; name another file")
        try:
            return cls._parse(json.loads(data))
        except (ValueError, RecursionError):
            raise ConfigurationError(f"{path} is no profile: it is not JSON") from None
        except InvalidInput as error:
            raise ConfigurationError(
                f"{path} is no usable profile: {error.message}; ask an admin for a new one"
            ) from None

    @classmethod
    def _parse(cls, document: object) -> Profile:
        if not isinstance(document, dict):
            raise InvalidInput("it is not a JSON object")
        values: dict[str, str] = {}
        for field in fields(cls):
            value = document.get(field.name)
            if not isinstance(value, str) or not value:
                raise InvalidInput(f"{field.name!r} is missing")
            values[field.name] = value
        return cls(**values)

    def save(self, path: Path) -> None:
        """Write to a new file; see `reserved`."""
        with reserved(path) as write:
            write(self)

    def replace(self, path: Path) -> None:
        """Put it in the place of the profile in ``path``, mode 0600: the old one or this one is
        there, whatever happens. Raises ConfigurationError when it cannot be written."""
        place = path.resolve()
        new = ""
        try:
            descriptor, new = tempfile.mkstemp(dir=place.parent, prefix=".new-")
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._bytes())
                file.flush()
                os.fsync(file.fileno())
            Path(new).replace(place)
            folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            if new:
                Path(new).unlink(missing_ok=True)
            raise ConfigurationError(f"{path} cannot be replaced: {error.strerror}") from None

    def _bytes(self) -> bytes:
        return (json.dumps(asdict(self), indent=2) + "\n").encode()

    @property
    def encrypted(self) -> bool:
        """Whether the key needs a passphrase."""
        return "ENCRYPTED" in self.key

    def identity(self, passphrase: bytes | None, now: datetime) -> Identity:
        """Return leaf and key for TLS.

        Raises ConfigurationError when the key is locked, unusable or another certificate's, and
        OperatorCertificateExpired when the certificate is not valid at ``now``.
        """
        if self.encrypted and not passphrase:
            raise ConfigurationError(
                f"the key of {self.operator} is encrypted; set {keys.PASSPHRASE_VARIABLE}"
            )
        try:
            certificate = x509.load_der_x509_certificate(to_der(self.certificate.encode()))
            key = load_pem_private_key(self.key.encode(), passphrase if self.encrypted else None)
            certified = certificate.public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm, TrustError):
            why = "the passphrase does not open it" if self.encrypted else "it is damaged"
            raise ConfigurationError(
                f"the certificate or key of {self.operator} cannot be used: {why}"
            ) from None
        if not isinstance(key, keys.PrivateKey) or key.public_key() != certified:
            raise ConfigurationError(
                f"the key of {self.operator} does not belong to the certificate; "
                "ask an admin for a new profile"
            )
        if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
            raise OperatorCertificateExpired(
                f"the certificate of {self.operator} is valid from "
                f"{certificate.not_valid_before_utc:%Y-%m-%d} to "
                f"{certificate.not_valid_after_utc:%Y-%m-%d} only; check the clock, or ask an "
                f"admin for a new one: `tieline operator add {self.operator}`"
            )
        return Identity(
            leaf_pem=certificate.public_bytes(Encoding.PEM), key_pem=keys.private_pem(key)
        )

    def node_cas(self) -> tuple[bytes, ...]:
        """Return the node CAs as DER, two while one takes the other's place.

        Raises ConfigurationError when there is none.
        """
        try:
            found = x509.load_pem_x509_certificates(self.node_ca.encode())
        except ValueError:
            raise ConfigurationError(
                "the profile's node CA is no PEM certificate; ask an admin for a new profile"
            ) from None
        return tuple(one.public_bytes(Encoding.DER) for one in found)


@contextmanager
def reserved(path: Path) -> Iterator[Callable[[Profile], None]]:
    """Make the new file of a profile, mode 0600, with room for it, and yield what writes it there,
    durable on return. The file is gone again where nothing was written.

    So a full disk is noticed before a node is asked for a certificate, which ends an older one.
    Raises ConfigurationError when the file exists, or cannot be made or written.
    """
    written = False

    def write(profile: Profile) -> None:
        nonlocal written
        data = profile._bytes()
        try:
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(descriptor)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
        written = True

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigurationError(
            f"{path} exists; a profile is never overwritten, name another file"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            try:
                os.posix_fallocate(descriptor, 0, PROFILE_BYTES)
            except OSError as error:
                raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
            yield write
    finally:
        if not written:
            path.unlink(missing_ok=True)


def find_profile(profile: Path | None, home: Path | None) -> Path:
    """Return the profile's path from ``--profile``, ``--home`` or TIELINE_PROFILE, in this order.

    Raises UsageError when none or both are given, ConfigurationError when the home has none.
    """
    if profile is not None and home is not None:
        raise UsageError("give --profile or --home, not both")
    if profile is not None:
        return profile
    if home is not None:
        return _first_operator(home)
    named = os.environ.get(PROFILE_VARIABLE)
    if named:
        return Path(named)
    raise UsageError(
        f"say who you are: --profile PROFILE, {PROFILE_VARIABLE}, or for trials --home HOME"
    )


def _first_operator(home: Path) -> Path:
    """Return the profile of the first operator that `tieline node init` made in a home."""
    folder = home / "operators"
    config = home / "config.toml"
    first: object = None
    try:
        first = tomllib.loads(config.read_text("utf-8")).get("first_operator")
    except FileNotFoundError:
        if not folder.is_dir():
            raise ConfigurationError(
                f"{home} is no node's home; make one with `tieline node init HOME`"
            ) from None
    except OSError as error:
        raise ConfigurationError(f"{config} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigurationError(f"{config} is not valid TOML; correct or restore it") from None
    if isinstance(first, str):
        return folder / f"{check_operator(first)}.json"
    found = sorted(folder.glob("*.json"))
    if len(found) == 1:
        return found[0]
    how = "no profile" if not found else "several profiles and no first_operator in config.toml"
    raise ConfigurationError(f"{folder} holds {how}; name one with --profile")


def utc_now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)
