"""How a node's home comes to be: `node init` makes keys and the request, `node join` the rest.

A home is made in a folder of its own and appears under its name only when it is whole. Leaves name
the federation, which is known at `join`; so the node's leaf and the first operator's profile are
made there. Where a CA's key is elsewhere (offline, an existing PKI), `join` writes requests for its
CA to sign instead, and the node serves once `node renew --import` has brought the leaf.
"""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.directory import Directory, SigningKey
from tieline_client.errors import ConfigurationError, TrustError, UnknownAgency

from tieline_server import joining_hub
from tieline_server.config import Home, NodeConfig
from tieline_server.config_text import to_toml
from tieline_server.first_operator import FirstOperator
from tieline_server.renewing import renew
from tieline_server.trust import files, request
from tieline_server.trust.authority import authority_certificate
from tieline_server.trust.ca_keys import load_own_authority
from tieline_server.trust.directory_store import DirectoryOlder, DirectoryStore
from tieline_server.trust.offered_ca import check_offered_authority
from tieline_server.trust.statements import AgencyStatement, OwnStatement
from tieline_server.trust.token_key import TokenKey, TokenUri

_KEYS = ("node", "signing", "directory", "audit")


def make_home(
    path: Path,
    config: NodeConfig,
    now: datetime,
    *,
    existing: Mapping[Kind, bytes] = MappingProxyType({}),
) -> request.Request:
    """Make a home with keys, CAs, configuration and request.json; return the request.

    ``existing`` are certificates (DER) of CAs whose keys are elsewhere: offline, of an existing
    PKI, or in the token that the configuration names. Raises ConfigurationError when the folder
    exists and is not empty, or cannot be made, TrustError for a certificate that is no usable CA.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigurationError(f"{path} exists and is not empty; choose a new folder")
    passphrase = keys.passphrase_from_environment()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be made: {error.strerror}") from None
    try:
        asked = _fill(Home(made), config, passphrase, now, existing)
        if path.exists():
            path.rmdir()
        made.rename(path)
        files.sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return asked


def _fill(
    home: Home,
    config: NodeConfig,
    passphrase: bytes | None,
    now: datetime,
    existing: Mapping[Kind, bytes],
) -> request.Request:
    for folder in (home.keys, home.certs, home.operators, home.indexes, home.cache):
        folder.mkdir(mode=0o700)
    made = {name: keys.generate() for name in _KEYS}
    for name, key in made.items():
        keys.save(home.keys / f"{name}.key", key, passphrase)
    cas: dict[Kind, bytes] = {}
    for kind, uri in (
        (Kind.NODE, config.node_ca_key),
        (Kind.OPERATOR, config.operator_ca_key),
    ):
        certificate = existing.get(kind)
        if certificate is None:
            ca: keys.PrivateKey = TokenKey(TokenUri.parse(uri)) if uri else keys.generate()
            if not uri:
                keys.save(home.keys / f"{kind.value}-ca.key", ca, passphrase)
            made_now = authority_certificate(kind, config.agency, ca, now=now)
            certificate = made_now.public_bytes(Encoding.DER)
        check_offered_authority(
            certificate,
            kind=kind,
            others=[(config.agency, der) for der in cas.values()],
            now=now,
        )
        cas[kind] = certificate
        pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
        files.write_atomic(home.certs / f"{kind.value}-ca.pem", pem, mode=0o600)
    files.write_atomic(home.config_file, to_toml(config).encode(), mode=0o600)
    endpoint = None if config.outbound_only else config.endpoint or config.listen
    asked = request.build(
        AgencyStatement(
            agency=config.agency, name=config.name, role=config.role, countries=config.countries
        ),
        OwnStatement(
            agency=config.agency,
            endpoints=(endpoint,) if endpoint else (),
            outbound_only=config.outbound_only,
            node_cas=(cas[Kind.NODE],),
            operator_cas=(cas[Kind.OPERATOR],),
            signing_keys=(_signing_key(made["signing"], now),),
            contact=config.contact,
        ),
        made["directory"],
        now,
    )
    files.write_atomic(home.request_file, asked.to_json(), mode=0o600)
    return asked


def _signing_key(key: keys.PrivateKey, now: datetime) -> SigningKey:
    public = keys.public_der(key)
    return SigningKey(
        keyid=keys.keyid(public),
        public=base64.b64encode(public).decode(),
        not_before=now.replace(microsecond=0),
    )


@dataclass(frozen=True, slots=True)
class Joined:
    """What a join amounts to. ``profile`` is None when the first operator has one already, or gets
    one later; ``to_sign`` are requests for CAs whose keys are elsewhere; ``older`` says in what the
    folder is older than the directory that this home has and keeps, or is None."""

    directory: Directory
    root_fingerprint: str
    profile: Path | None
    to_sign: tuple[Path, ...]
    older: str | None


def join(
    path: Path,
    source: Path,
    now: datetime,
    operator_certificate: Path | None = None,
    hub: str = "",
) -> Joined:
    """Trust a federation, issue the node's leaf, and make the first operator's profile.

    ``operator_certificate`` is the first operator's, where the operator CA is elsewhere and signed
    the request that an earlier join wrote; ``hub`` the address of a member that has a newer
    directory than ``source``. Raises DirectoryError, UnknownAgency when the agency is
    not admitted, TrustError when it is revoked, ConfigurationError.
    """
    home = Home(path)
    config = home.config()
    store = DirectoryStore(path)
    older = None
    try:
        directory = store.trust(source)
    except DirectoryOlder as error:  # a hub binds versions of its own
        directory, older = store.current(), error.message
    passphrase = keys.passphrase_from_environment()
    node_ca, operator_ca = (
        load_own_authority(
            kind,
            directory.federation,
            config.agency,
            keys_folder=home.keys,
            certs=home.certs,
            uri=uri,
            passphrase=passphrase,
        )
        for kind, uri in (
            (Kind.NODE, config.node_ca_key),
            (Kind.OPERATOR, config.operator_ca_key),
        )
    )
    if hub:
        node_key = keys.load(home.keys / "node.key", passphrase)
        directory = joining_hub.fetch(hub, config, store, node_ca, node_key, now)
    try:
        member = directory.member(config.agency)
    except UnknownAgency:
        raise UnknownAgency(
            f"{config.agency} is not admitted to {directory.federation} yet; have its authority "
            f"run `tieline federation admit` with {home.request_file}, then join again"
        ) from None
    if member.revoked:
        raise TrustError(
            f"{config.agency} is revoked in {directory.federation} (directory version "
            f"{directory.version}): no other node would answer it; have its authority admit it "
            "again, then join"
        )
    if node_ca.der not in member.node_cas:
        raise ConfigurationError(
            f"the directory lists another CA for {config.agency}: another home was admitted; "
            "join from that one, or have this request admitted"
        )
    renewed = renew(home, config, directory, node_ca, passphrase, now)
    first = FirstOperator(home, config, directory, operator_ca, passphrase, now)
    profile = first.make(operator_certificate)
    asked = (renewed.request, first.request if profile is None else None)
    return Joined(
        directory,
        store.root_fingerprint(),
        profile,
        tuple(one for one in asked if one is not None and one.exists()),
        older,
    )
