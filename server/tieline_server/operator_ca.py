"""The end of an operator CA, as far as people are concerned: nobody is locked out by surprise.

Once the next CA has the place of the present one, who has a certificate of the old one alone is
outside. So before that, with the node stopped:

1. The profiles in the home get certificates of the next CA for the keys they have, where its key is
   here; both CAs count until the end, so this may be cut off and done again.
2. Who is left without one is named, and the change refused, unless it was said that they stay
   behind (a CA that ends because its key is in wrong hands cannot wait for people).
3. One admin at least comes in under the next CA, whatever was said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys
from tieline_client.certificate_parts import parse_certificate
from tieline_client.certificates import Kind
from tieline_client.errors import WrongState
from tieline_client.profile import Profile
from tieline_client.tls import to_der

from tieline_server.config import Home, NodeConfig
from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.ports import Operator, Store, Tx
from tieline_server.services.people import left_with
from tieline_server.storage.engine import open_store
from tieline_server.trust.authority import issue_operator_leaf
from tieline_server.trust.ca_keys import OwnAuthority, load_own_authority


def make_ready(
    home: Home, config: NodeConfig, federation: str, now: datetime, *, leave_behind: bool
) -> list[str]:
    """Do the steps above; return who stays behind. Raises WrongState."""
    upcoming = load_own_authority(
        Kind.OPERATOR,
        federation,
        config.agency,
        keys_folder=home.keys,
        certs=home.certs,
        uri="",
        passphrase=keys.passphrase_from_environment(),
        upcoming=True,
    )
    store = open_store(home.database_url(config), clock=lambda: now)
    try:
        for path in sorted(home.operators.glob("*.json")):
            _certify(store, path, config.agency, upcoming, now)  # 1
        behind = store.read(partial(left_with, issuer=upcoming.fingerprint))
        if behind and not leave_behind:  # 2
            raise WrongState(
                f"{', '.join(behind)} would be locked out: they have no certificate of the next "
                "operator CA; let them run `tieline operator refresh PROFILE`, or end their access "
                "(`tieline operator revoke NAME`, or --leave-behind with this command)"
            )
        if not any(store.read(partial(_admins, issuer=upcoming.fingerprint))):  # 3
            raise WrongState(
                "no admin has a certificate of the next operator CA, and nobody could add one; "
                "give one first: `tieline operator add NAME --role admin`"
            )
    finally:
        store.close()
    return behind


def _admins(tx: Tx, issuer: str) -> list[Operator]:
    people: Iterator[Operator] = iter(tx.operators.find())
    return [
        one
        for one in people
        if one.revoked is None and "admin" in one.roles and one.issuer == issuer
    ]


def _certify(store: Store, path: Path, agency: str, upcoming: OwnAuthority, now: datetime) -> None:
    """Give a profile of the home a certificate of the next CA, if it can come in at all."""
    held = Profile.load(path)
    before = parse_certificate(to_der(held.certificate.encode()))
    known = store.read(lambda tx: tx.operators.get(held.operator))
    if upcoming.authority is None or known is None or before.serial_number not in known.serials:
        return
    if known.issuer == upcoming.fingerprint and known.serials[-1] == before.serial_number:
        return
    public = before.public_key()
    assert isinstance(public, keys.PublicKey)
    leaf = issue_operator_leaf(upcoming.authority, held.operator, public, now=now)

    def work(tx: Tx) -> None:
        tx.operators.put(
            replace(
                known,
                serials=(before.serial_number, leaf.serial_number),
                expires=leaf.not_valid_after_utc,
                issuer=upcoming.fingerprint,
            )
        )
        tx.audit.append(
            AuditEntry(
                action="operator.renewed",
                at=now,
                agency=agency,
                subjects=(held.operator,),
                detail={
                    "serial": f"{leaf.serial_number:x}",
                    "before": f"{before.serial_number:x}",
                },
            )
        )

    store.write(work)
    pem = leaf.public_bytes(Encoding.PEM).decode()
    replace(held, certificate=pem).replace(path)
