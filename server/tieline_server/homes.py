"""How a node's home comes to be: `node init` makes keys and the request, `node join` the rest.

A home is made in a folder of its own and appears under its name only when it is whole. Leaves name
the federation, which is known at `join`; so the node's leaf and the first operator's profile are
made there.
"""

from __future__ import annotations

import base64
import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.directory import Directory, Member, SigningKey
from tieline_client.errors import ConfigurationError, UnknownAgency
from tieline_client.identifiers import dns_name
from tieline_client.profile import Profile

from tieline_server.config import Home, NodeConfig, to_toml
from tieline_server.domain.ports import Operator, Store, Tx
from tieline_server.services.people import ROLES
from tieline_server.storage.engine import open_store
from tieline_server.trust import files, request
from tieline_server.trust.authority import (
    authority_certificate,
    issue_node_leaf,
    issue_operator_leaf,
    load_agency_authority,
)
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.statements import AgencyStatement, OwnStatement

_KEYS = ("node", "signing", "directory", "audit")
_AUTHORITIES = (Kind.NODE, Kind.OPERATOR)


def make_home(path: Path, config: NodeConfig, now: datetime) -> request.Request:
    """Make a home with keys, CAs, configuration and request.json; return the request.

    Raises ConfigurationError when the folder exists and is not empty, or cannot be made.
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
        asked = _fill(Home(made), config, passphrase, now)
        if path.exists():
            path.rmdir()
        made.rename(path)
        files.sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return asked


def _fill(
    home: Home, config: NodeConfig, passphrase: bytes | None, now: datetime
) -> request.Request:
    for folder in (home.keys, home.certs, home.operators, home.indexes, home.cache):
        folder.mkdir(mode=0o700)
    made = {name: keys.generate() for name in _KEYS}
    for name, key in made.items():
        keys.save(home.keys / f"{name}.key", key, passphrase)
    cas: dict[Kind, bytes] = {}
    for kind in _AUTHORITIES:
        key = keys.generate()
        keys.save(home.keys / f"{kind.value}-ca.key", key, passphrase)
        authority = authority_certificate(kind, config.agency, key, now=now)
        cas[kind] = authority.public_bytes(Encoding.DER)
        files.write_atomic(
            home.certs / f"{kind.value}-ca.pem", authority.public_bytes(Encoding.PEM), mode=0o600
        )
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
    """What a join amounts to. ``profile`` is None when the first operator has one already."""

    directory: Directory
    root_fingerprint: str
    profile: Path | None


def join(path: Path, source: Path, now: datetime) -> Joined:
    """Trust a federation, issue the node's leaf, and make the first operator's profile.

    Raises DirectoryError, UnknownAgency when the agency is not admitted, ConfigurationError.
    """
    home = Home(path)
    config = home.config()
    store = DirectoryStore(path)
    directory = store.trust(source)
    try:
        member = directory.member(config.agency)
    except UnknownAgency:
        raise UnknownAgency(
            f"{config.agency} is not admitted to {directory.federation} yet; have its authority "
            f"run `tieline federation admit` with {home.request_file}, then join again"
        ) from None
    passphrase = keys.passphrase_from_environment()
    _issue_leaf(home, config, directory, member, passphrase, now)
    profile = _first_operator(home, config, directory, passphrase, now)
    return Joined(directory, store.root_fingerprint(), profile)


def _issue_leaf(
    home: Home,
    config: NodeConfig,
    directory: Directory,
    member: Member,
    passphrase: bytes | None,
    now: datetime,
) -> None:
    authority = load_agency_authority(
        Kind.NODE,
        directory.federation,
        config.agency,
        (home.certs / "node-ca.pem").read_bytes(),
        keys.load(home.keys / "node-ca.key", passphrase),
    )
    if authority.der not in member.node_cas:
        raise ConfigurationError(
            f"the directory lists another CA for {config.agency}: another home was admitted; "
            "join from that one, or have this request admitted"
        )
    key = keys.load(home.keys / "node.key", passphrase)
    leaf = issue_node_leaf(authority, key.public_key(), now=now)
    files.write_atomic(home.certs / "node.pem", leaf.public_bytes(Encoding.PEM), mode=0o600)


def _first_operator(
    home: Home,
    config: NodeConfig,
    directory: Directory,
    passphrase: bytes | None,
    now: datetime,
) -> Path | None:
    path = home.operators / f"{config.first_operator}.json"
    if path.exists():
        return None
    authority = load_agency_authority(
        Kind.OPERATOR,
        directory.federation,
        config.agency,
        (home.certs / "operator-ca.pem").read_bytes(),
        keys.load(home.keys / "operator-ca.key", passphrase),
    )
    key = keys.generate()
    leaf = issue_operator_leaf(authority, config.first_operator, key.public_key(), now=now)
    store = open_store(home.database_url(config), clock=lambda: now)
    try:
        _put_operator(store, config.first_operator, leaf.serial_number, now)
    finally:
        store.close()
    Profile(
        agency=config.agency,
        federation=directory.federation,
        operator=config.first_operator,
        address=config.operator_listen,
        target_name=dns_name(config.agency, directory.federation),
        node_ca=(home.certs / "node-ca.pem").read_text(),
        certificate=leaf.public_bytes(Encoding.PEM).decode(),
        key=keys.private_pem(key).decode(),
    ).save(path)
    return path


def _put_operator(store: Store, name: str, serial: int, now: datetime) -> None:
    def work(tx: Tx) -> None:
        known = tx.operators.get(name)
        tx.operators.put(Operator(name, ROLES, (serial,), known.created if known else now))

    store.write(work)
