"""What `tieline node rekey`, `revoke` and `restate` do: change the own statement, hand it in.

Each change leaves a fresh HOME/request.json too, for the authority of a federation without a hub.
It holds the very statement that a hub is handed, so it does not matter which of the two is first.
While a new directory key waits for its admission, the request is under that one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from tieline_client import keys, limits
from tieline_client.certificates import Kind
from tieline_client.errors import RefusedError, TielineError, UsageError, WrongState
from tieline_client.profile import Profile, utc_now
from tieline_client.tls import Identity, to_pem

from tieline_server.config import Home, NodeConfig
from tieline_server.operator_ca import make_ready
from tieline_server.trust import files, own_keys, request, statements
from tieline_server.trust.certificate_requests import node_request
from tieline_server.trust.directory_refresh import DirectoryRefresher
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.leaf_import import read_certificate
from tieline_server.trust.offered_ca import check_offered_authority
from tieline_server.trust.online_half import OnlineHalf
from tieline_server.trust.own_statement import NoHub, OwnStatements, Signed
from tieline_server.trust.peer_pool import PeerPool
from tieline_server.trust.rollover import Rollover
from tieline_server.trust.statements import OwnStatement


@dataclass(frozen=True, slots=True)
class ForAuthority:
    """The request that the authority is to take, and how."""

    file: Path
    command: str
    """accept, or admit for a new directory key."""
    fingerprint: str


@dataclass(frozen=True, slots=True)
class HandedIn:
    """Where a change stands: the directory version that holds it, or why none does yet."""

    under_way: tuple[str, ...]
    version: int | None
    waits: str | None
    authority: ForAuthority | None = None
    """What the authority can take while nobody has; only it can admit a new directory key."""
    to_sign: Path | None = None
    """The request for a leaf, to be signed by the next CA, whose key is elsewhere."""
    trouble: str | None = None
    """How the directory and the keys in this home part, and what to do."""


class Rekeying:
    """The changes of one home."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path)
        self.config: NodeConfig = self.home.config()
        self.store = DirectoryStore(path)
        agency = self.config.agency
        self.own = OwnStatements(path, agency, self.store)
        self.rollover = Rollover(
            self.home.keys, self.home.certs, agency, self.store.current().federation
        )

    def begin(
        self, what: Sequence[str], now: datetime, certificate: Path | None = None
    ) -> HandedIn:
        """Begin to roll over these: ca, operator-ca, signing, directory.

        ``certificate`` is that of a next CA whose key is elsewhere. Raises WrongState where what is
        stated is not what this home has: a next key would stand beside keys that are elsewhere.
        """
        if set(what) - {"directory"} and self.rollover.own_keys().unlisted(self.own.stated(), now):
            raise WrongState(self._trouble(now) or "the directory lists other keys than are here")
        pem = None
        if certificate is not None:
            pem = self._next_ca(certificate, Kind.NODE if "ca" in what else Kind.OPERATOR, now)
        else:
            self._refuse_token(what)

        def edit(stated: OwnStatement) -> OwnStatement:
            if "ca" in what:
                stated = self.rollover.begin_ca(stated, now, pem)
            if "operator-ca" in what:
                stated = self.rollover.begin_operator_ca(stated, now, pem)
            if "signing" in what:
                stated = self.rollover.begin_signing(stated, now)
            return stated

        if "directory" in what:
            self.rollover.begin_directory()
        done = self._change(edit, now)
        if "ca" in what:
            self._profiles()
        if certificate is not None and "ca" in what:
            done = replace(done, to_sign=self._leaf_request())
        return done

    def _next_ca(self, certificate: Path, kind: Kind, now: datetime) -> bytes:
        """Return the certificate (PEM) of a next CA whose key is elsewhere, checked."""
        der = read_certificate(certificate)
        stated, agency = self.own.stated(), self.config.agency
        own, other = stated.node_cas, stated.operator_cas
        if kind is Kind.OPERATOR:
            own, other = other, own
        others = [(agency, ca) for ca in (*(one for one in own if one != der), *other)]
        self.rollover.check_next_ca(der, kind)
        check_offered_authority(der, kind=kind, others=others, now=now)
        return to_pem([der])

    def _refuse_token(self, what: Sequence[str]) -> None:
        """A CA whose key is in a token has no successor in a file."""
        for name, kind, uri in (
            ("ca", Kind.NODE, self.config.node_ca_key),
            ("operator-ca", Kind.OPERATOR, self.config.operator_ca_key),
        ):
            if name in what and uri:
                raise UsageError(
                    f"the {kind.value} CA's key is in a token ({kind.value}_ca_key in config.toml):"
                    " make the next one there, and give its certificate with --certificate FILE"
                )

    def finish(self, now: datetime, *, leave_behind: bool = False) -> HandedIn:
        """Take up the next keys; the node must be stopped. Raises WrongState too early.

        People without a certificate of the next operator CA lose their access if ``leave_behind``.
        """
        held = self._held()
        under_way = self.rollover.under_way()
        if under_way:
            try:
                self.rollover.check_listed(held, self._member_key())
            except WrongState:
                if not self.rollover.own_keys().unlisted(self.own.stated(), now):
                    raise
                # Of before another roll-over: present and next are stated, and finished later.
                return self._change(lambda stated: self.rollover.begun_again(stated, now), now)
            if "operator-ca" in under_way:
                federation = self.store.current().federation
                make_ready(self.home, self.config, federation, now, leave_behind=leave_behind)
            self.rollover.take_up(now)
        elif self.rollover.finished(held, now) == held:
            raise WrongState(
                "nothing is being rolled over; begin with --ca, --signing, --directory"
            )
        done = self._change(lambda stated: self.rollover.finished(stated, now), now)
        self._profiles()
        return done

    def standing(self, now: datetime) -> HandedIn:
        """Say what is under way and whether the directory holds it."""
        waits = self.own.pending() is not None
        under_way = tuple(self.rollover.under_way())
        written = self._written(now) if waits or "directory" in under_way else None
        if written is not None and written.command == "accept" and not waits:
            written = None  # it was taken
        version = None if waits else self.store.current().version
        return HandedIn(
            under_way,
            version,
            "nobody has taken it yet" if waits else None,
            written,
            trouble=self._trouble(now),
        )

    def revoke(self, serial: int, now: datetime) -> HandedIn:
        """Revoke a certificate of the own CAs. Raises RefusedError for the leaf in use."""
        leaf = x509.load_pem_x509_certificate((self.home.certs / "node.pem").read_bytes())
        if leaf.serial_number == serial:
            raise RefusedError(
                "that is the leaf this node uses; issue another with `tieline node renew` first"
            )
        return self._change(
            lambda stated: stated.model_copy(
                update={"revoked_serials": stated.revoked_serials | {serial}}
            ),
            now,
        )

    def restate(self, now: datetime) -> HandedIn:
        """State what config.toml says now: where the node is reached, and the duty contact."""
        config = self.config
        endpoint = None if config.outbound_only else config.endpoint or config.listen
        return self._change(
            lambda stated: stated.model_copy(
                update={
                    "endpoints": (endpoint,) if endpoint else (),
                    "outbound_only": config.outbound_only,
                    "contact": config.contact,
                }
            ),
            now,
        )

    # --- steps ---

    def _held(self) -> OwnStatement:
        path = statements.own_path(self.config.agency)
        copy = self.store.copy()
        if path not in copy.contents:
            raise WrongState(f"{self.config.agency} is in no directory yet; be admitted first")
        return statements.parse(OwnStatement, copy.contents[path], path)

    def _member_key(self) -> str:
        return self.store.current().member(self.config.agency).directory_key

    def _trouble(self, now: datetime) -> str | None:
        found = own_keys.look(self.home.path, self.config.agency, self.store, now)
        return f"{found.text}; {found.advice}" if found is not None else None

    def _change(self, edit: Callable[[OwnStatement], OwnStatement], now: datetime) -> HandedIn:
        done = self._changed(edit, now)
        return replace(done, trouble=self._trouble(now))

    def _changed(self, edit: Callable[[OwnStatement], OwnStatement], now: datetime) -> HandedIn:
        signed = self.own.change(edit, now)
        under_way = tuple(self.rollover.under_way())
        written = self._write_request(now)
        admission = written if written is not None and written.command == "admit" else None
        done = HandedIn(under_way, self.store.current().version, None, admission)
        if signed is None:
            return done
        try:
            return replace(done, version=self._hand_in(signed, now))
        except NoHub as error:
            waits = error.message
        except (RefusedError, UsageError):
            raise
        except TielineError as error:
            waits = f"{error.message}; the running node hands it in again"
        return HandedIn(under_way, None, waits, written)

    def _hand_in(self, signed: Signed, now: datetime) -> int:
        passphrase = keys.passphrase_from_environment()
        identity = Identity(
            (self.home.certs / "node.pem").read_bytes(),
            keys.private_pem(keys.load(self.home.keys / "node.key", passphrase)),
        )
        pool = PeerPool(
            self.config.agency,
            self.store.current,
            lambda: identity,
            utc_now,
            self.config.proxy_url(),
        )
        online = OnlineHalf(self.home.path, self.store)
        with closing(pool):
            version = self.own.submit(signed, pool, online, now)
            # What the hub made of it is this home's too, whether or not the node runs.
            refresher = DirectoryRefresher(self.config.agency, self.store, online, pool, utc_now)
            for hub in self.store.current().hubs():
                if hub.agency != self.config.agency and refresher.catch_up(hub.agency, version):
                    break
        return version

    def _admission(self) -> keys.PrivateKey | None:
        """Return the next directory key while the authority has not admitted it."""
        if "directory" not in self.rollover.under_way():
            return None
        key = self.rollover.begin_directory()
        return key if keys.keyid(key) != self._member_key() else None

    def _write_request(self, now: datetime) -> ForAuthority | None:
        """Write what is not in the directory yet as a request; None where all of it is."""
        key = self._admission()
        asked = self.own.request_under(key, now) if key is not None else self.own.request(now)
        if asked is None:
            return None
        files.write_atomic(self.home.request_file, asked.to_json(), mode=0o600)
        return self._for_authority(asked)

    def _written(self, now: datetime) -> ForAuthority | None:
        """Return the request as it was written, which takes no private key."""
        data = files.read_bounded(self.home.request_file, limits.DIRECTORY_FILE_BYTES)
        try:
            return self._for_authority(request.verify(data or b"", now))
        except TielineError:
            return None

    def _for_authority(self, asked: request.Request) -> ForAuthority:
        known = asked.directory_key.keyid == self._member_key()
        command = "accept" if known else "admit"
        return ForAuthority(self.home.request_file, command, asked.fingerprint)

    def _leaf_request(self) -> Path:
        """Write the request for a leaf of the next CA."""
        key = keys.load(self.home.keys / "node.key", keys.passphrase_from_environment())
        pem = node_request(key, self.store.current().federation, self.config.agency)
        files.write_atomic(self.home.node_request, pem, mode=0o600)
        return self.home.node_request

    def _profiles(self) -> None:
        """Let the profiles in this home know both node CAs, while there are two.

        Those of the home, one of which issued the leaf in use: stated may be others.
        """
        cas = self.rollover.own_keys().node_cas
        for path in sorted(self.home.operators.glob("*.json")):
            profile = Profile.load(path)
            pem = to_pem(cas).decode()
            if profile.node_ca != pem:
                document = asdict(replace(profile, node_ca=pem))
                files.write_atomic(path, json.dumps(document, indent=2).encode() + b"\n", 0o600)
