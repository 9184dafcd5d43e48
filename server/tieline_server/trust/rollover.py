"""Rolling over an agency's keys with an overlap: begun, waited for, finished.

**Begin** makes the next key and lists it beside the present one. Everything goes on under the
present one: whoever has not heard of the next yet needs it.

**Overlap**: as long as members may be away. One that is away for all of it knows the present CA
only; it recovers from any other member, and then knows the next.

**Finish**, with the node stopped, once the directory lists both: the node takes up the next key,
and its statement lists it alone. Of a signing key the old one stays listed with its end, so that
what it signed still verifies, queued or received; after 90 days and the tolerances it goes.

=========== ============================== ============================= =========================
key         listed as                      while both are listed         finished
=========== ============================== ============================= =========================
node CA     ``node_cas``                   leaf of the present CA        leaf of the next CA
operator CA ``operator_cas``               people in under both, the     people in under the next
                                           next one issues               one alone
signing     ``signing_keys``               signs with the present key    signs with the next one
directory   by the authority, on admission signs with whichever is known the one that is known
=========== ============================== ============================= =========================

The operator CA is the one that members need not hear of: people come to their own node. It is
listed all the same, so that the federation refuses another agency's look-alike.

Every step may be done again after a crash.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys, limits
from tieline_client.certificates import Kind
from tieline_client.directory import SigningKey
from tieline_client.errors import WrongState

from tieline_server.trust import files
from tieline_server.trust.authority import (
    authority_certificate,
    issue_node_leaf,
    load_agency_authority,
)
from tieline_server.trust.own_keys import OwnKeys, issued, read
from tieline_server.trust.statements import OwnStatement


@dataclass(frozen=True, slots=True)
class Rollover:
    """The key files of one home."""

    keys_folder: Path
    certs: Path
    agency: str
    federation: str

    # --- where things are ---

    def _key(self, name: str, *, upcoming: bool) -> Path:
        return self.keys_folder / (f"{name}.next.key" if upcoming else f"{name}.key")

    def _ca(self, kind: Kind = Kind.NODE, *, upcoming: bool) -> Path:
        return self.certs / f"{kind.value}-ca{'.next' if upcoming else ''}.pem"

    def under_way(self) -> list[str]:
        """Return which keys are being rolled over: ca, operator-ca, signing, directory."""
        found = []
        if self._ca(upcoming=True).exists():
            found.append("ca")
        if self._ca(Kind.OPERATOR, upcoming=True).exists():
            found.append("operator-ca")
        for name in ("signing", "directory"):
            if self._key(name, upcoming=True).exists():
                found.append(name)
        return found

    def own_keys(self) -> OwnKeys:
        """Return what the home has, for a comparison with what is listed of it."""
        return read(self.keys_folder, self.certs)

    # --- begin ---

    def begin_ca(
        self, stated: OwnStatement, now: datetime, certificate: bytes | None = None
    ) -> OwnStatement:
        """Make the next node CA, if there is none, and list it.

        ``certificate`` (PEM) is that of a CA whose key is elsewhere, as ``check_next_ca`` saw it.
        """
        upcoming = self._next_ca(Kind.NODE, now, certificate)
        if upcoming in stated.node_cas:
            return stated
        return stated.model_copy(update={"node_cas": (*stated.node_cas, upcoming)})

    def begin_operator_ca(
        self, stated: OwnStatement, now: datetime, certificate: bytes | None = None
    ) -> OwnStatement:
        """Make the next operator CA, if there is none, and list it; as ``begin_ca``."""
        upcoming = self._next_ca(Kind.OPERATOR, now, certificate)
        if upcoming in stated.operator_cas:
            return stated
        return stated.model_copy(update={"operator_cas": (*stated.operator_cas, upcoming)})

    def _next_ca(self, kind: Kind, now: datetime, certificate: bytes | None) -> bytes:
        """The key first: a running node takes the certificate as word that both are there."""
        path = self._ca(kind, upcoming=True)
        key_path = self._key(f"{kind.value}-ca", upcoming=True)
        if certificate is not None and not path.exists():
            files.write_atomic(path, certificate, mode=0o600)
        if not path.exists():
            key = self._load(key_path) if key_path.exists() else self._make(key_path)
            made = authority_certificate(kind, self.agency, key, now=now)
            files.write_atomic(path, made.public_bytes(Encoding.PEM), mode=0o600)
        return _der(path)

    def check_next_ca(self, der: bytes, kind: Kind = Kind.NODE) -> None:
        """Raise WrongState for a CA that cannot be the next: it is in use, or another is next."""
        if der == _der(self._ca(kind, upcoming=False)):
            raise WrongState(
                f"that is the {kind.value} CA in use; give the certificate of the next one"
            )
        path = self._ca(kind, upcoming=True)
        if path.exists() and der != _der(path):
            raise WrongState(
                f"another {kind.value} CA is to be the next already ({path}); "
                "finish that change first"
            )

    def begin_signing(self, stated: OwnStatement, now: datetime) -> OwnStatement:
        """Make the next signing key, if there is none, and list it from now on."""
        path = self._key("signing", upcoming=True)
        key = self._make(path) if not path.exists() else self._load(path)
        public = keys.public_der(key)
        if any(one.keyid == keys.keyid(public) for one in stated.signing_keys):
            return stated
        listed = (*stated.signing_keys, _listed_from(public, now))
        return stated.model_copy(update={"signing_keys": listed})

    def begin_directory(self) -> keys.PrivateKey:
        """Make the next directory key, if there is none; the authority admits it."""
        path = self._key("directory", upcoming=True)
        return self._load(path) if path.exists() else self._make(path)

    def begun_again(self, stated: OwnStatement, now: datetime) -> OwnStatement:
        """Return the statement with the keys of this home alone, present and next."""
        under_way, stated = self.under_way(), self.finished(stated, now)
        if "ca" in under_way:
            stated = self.begin_ca(stated, now)
        if "operator-ca" in under_way:
            stated = self.begin_operator_ca(stated, now)
        return self.begin_signing(stated, now) if "signing" in under_way else stated

    # --- finish ---

    def check_listed(self, held: OwnStatement, directory_key: str) -> None:
        """Raise WrongState unless the directory lists what is to be taken up.

        ``held`` is what the directory holds of this agency, ``directory_key`` the id of the key
        that it is known by.
        """
        under_way = self.under_way()
        missing = []
        if "ca" in under_way and _der(self._ca(upcoming=True)) not in held.node_cas:
            missing.append("node CA")
        upcoming = self._ca(Kind.OPERATOR, upcoming=True)
        if "operator-ca" in under_way and _der(upcoming) not in held.operator_cas:
            missing.append("operator CA")
        if "signing" in under_way and not self._listed(held):
            missing.append("signing key")
        if "directory" in under_way:
            key = self._load(self._key("directory", upcoming=True))
            if keys.keyid(key) != directory_key:
                missing.append("directory key")
        if missing:
            raise WrongState(
                f"the directory does not list the next {' and '.join(missing)} yet; wait until "
                "`tieline node status` shows a version that does, then finish"
            )

    def _listed(self, held: OwnStatement) -> bool:
        keyid = keys.keyid(self._load(self._key("signing", upcoming=True)))
        return any(one.keyid == keyid for one in held.signing_keys)

    def take_up(self, now: datetime) -> list[str]:
        """Put the next keys in the place of the present ones; return which."""
        done = self.under_way()
        if "ca" in done:
            self._take_up_ca(now)
        if "operator-ca" in done:
            self._take_up_operator_ca()
        for name in ("signing", "directory"):
            if name in done:
                self._key(name, upcoming=True).replace(self._key(name, upcoming=False))
        for folder in (self.keys_folder, self.certs):
            files.sync_folder(folder)
        return done

    def _take_up_ca(self, now: datetime) -> None:
        """The leaf first: both CAs are listed, so it is good under either."""
        key_path = self._key("node-ca", upcoming=True)
        if key_path.exists():
            authority = load_agency_authority(
                Kind.NODE,
                self.federation,
                self.agency,
                self._ca(upcoming=True).read_bytes(),
                self._load(key_path),
            )
            node_key = self._load(self.keys_folder / "node.key")
            leaf = issue_node_leaf(authority, node_key.public_key(), now=now)
            files.write_atomic(self.certs / "node.pem", leaf.public_bytes(Encoding.PEM), mode=0o600)
            key_path.replace(self._key("node-ca", upcoming=False))
        elif not self._leaf_of_next():
            raise WrongState(
                "the next CA's key is not here: have HOME/node.csr signed by it (`tieline node "
                "rekey HOME --ca --certificate FILE` writes it again), run `tieline node renew "
                "HOME --import LEAF`, then finish"
            )
        else:
            self._drop_other_key(Kind.NODE)
        self._ca(upcoming=True).replace(self._ca(upcoming=False))

    def _take_up_operator_ca(self) -> None:
        key_path = self._key("operator-ca", upcoming=True)
        if key_path.exists():
            key_path.replace(self._key("operator-ca", upcoming=False))
        else:
            self._drop_other_key(Kind.OPERATOR)
        self._ca(Kind.OPERATOR, upcoming=True).replace(self._ca(Kind.OPERATOR, upcoming=False))

    def _drop_other_key(self, kind: Kind) -> None:
        """The key of a CA that is no longer ours goes; after a crash the next one's may be here."""
        path = self._key(f"{kind.value}-ca", upcoming=False)
        upcoming = x509.load_der_x509_certificate(_der(self._ca(kind, upcoming=True)))
        if path.exists() and self._load(path).public_key() != upcoming.public_key():
            path.unlink()
            files.sync_folder(self.keys_folder)

    def _leaf_of_next(self) -> bool:
        leaf = x509.load_pem_x509_certificate((self.certs / "node.pem").read_bytes())
        return issued(leaf, _der(self._ca(upcoming=True)))

    def finished(self, stated: OwnStatement, now: datetime) -> OwnStatement:
        """Return the statement with the present keys alone, but for what old signatures need.

        A signing key that a backup brought back is in use again, whatever was stated since.
        """
        ca, operator_ca = (_der(self._ca(kind, upcoming=False)) for kind in Kind)
        present = keys.public_der(self._load(self._key("signing", upcoming=False)))
        signing = keys.keyid(present)
        end = now.replace(microsecond=0)
        kept = []
        if all(one.keyid != signing for one in stated.signing_keys):
            kept.append(_listed_from(present, now))
        for one in stated.signing_keys:
            key = one
            if key.keyid == signing:
                key = key.model_copy(update={"not_after": None})
            elif key.not_after is None:
                key = key.model_copy(update={"not_after": max(end, _after(key.not_before))})
            if not _forgotten(key, now):
                kept.append(key)
        return stated.model_copy(
            update={
                "node_cas": (ca,),
                "operator_cas": (operator_ca,),
                "signing_keys": tuple(kept),
            }
        )

    def _make(self, path: Path) -> keys.PrivateKey:
        key = keys.generate()
        keys.save(path, key, keys.passphrase_from_environment())
        return key

    def _load(self, path: Path) -> keys.PrivateKey:
        return keys.load(path, keys.passphrase_from_environment())


def _listed_from(public: bytes, now: datetime) -> SigningKey:
    return SigningKey(
        keyid=keys.keyid(public),
        public=base64.b64encode(public).decode(),
        not_before=now.replace(microsecond=0),
    )


def _after(moment: datetime) -> datetime:
    return moment + timedelta(seconds=1)


def _forgotten(key: SigningKey, now: datetime) -> bool:
    """Whether nothing that the key signed is accepted by anybody any more."""
    last = limits.ENVELOPE_LIFE + 3 * limits.CLOCK_TOLERANCE
    return key.not_after is not None and now > key.not_after + last


def _der(path: Path) -> bytes:
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
