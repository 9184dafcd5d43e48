"""What `tieline node rekey`, `revoke` and `restate` do: change the own statement, hand it in."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.errors import RefusedError, TielineError, UsageError, WrongState
from tieline_client.profile import Profile, utc_now
from tieline_client.tls import Identity, to_pem

from tieline_server.config import Home, NodeConfig
from tieline_server.trust import files, request, statements
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.leaf_import import read_certificate
from tieline_server.trust.offered_ca import check_offered_authority
from tieline_server.trust.online_half import OnlineHalf
from tieline_server.trust.own_statement import OwnStatements, Signed
from tieline_server.trust.peer_pool import PeerPool
from tieline_server.trust.rollover import Rollover
from tieline_server.trust.statements import AgencyStatement, OwnStatement


@dataclass(frozen=True, slots=True)
class HandedIn:
    """Where a change stands: the directory version that holds it, or why none does yet."""

    under_way: tuple[str, ...]
    version: int | None
    waits: str | None
    request: Path | None = None
    """The request to be admitted, where the authority has to sign."""


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
        """Begin to roll over these: ca, signing, directory.

        ``certificate`` is that of a next CA whose key is elsewhere.
        """
        pem = None
        if certificate is not None:
            der = read_certificate(certificate)
            check_offered_authority(der, kind=Kind.NODE, others=(), now=now)
            pem = to_pem([der])

        def edit(stated: OwnStatement) -> OwnStatement:
            if "ca" in what:
                stated = self.rollover.begin_ca(stated, now, pem)
            if "signing" in what:
                stated = self.rollover.begin_signing(stated, now)
            return stated

        done = self._change(edit, now)
        if "ca" in what:
            self._profiles()
        if "directory" not in what:
            return done
        return replace(done, request=self._request(now))

    def finish(self, now: datetime) -> HandedIn:
        """Take up the next keys; the node must be stopped. Raises WrongState too early."""
        held = self._held()
        if self.rollover.under_way():
            self.rollover.check_listed(held, self._member_key())
            self.rollover.take_up(now)
        elif self.rollover.finished(held, now) == held:
            raise WrongState(
                "nothing is being rolled over; begin with --ca, --signing, --directory"
            )
        done = self._change(lambda stated: self.rollover.finished(stated, now), now)
        self._profiles()
        return done

    def standing(self) -> HandedIn:
        """Say what is under way and whether the directory holds it."""
        pending = self.own.pending()
        return HandedIn(
            tuple(self.rollover.under_way()),
            None if pending is not None else self.store.current().version,
            "the hub has not taken it yet" if pending is not None else None,
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

    def _change(self, edit: Callable[[OwnStatement], OwnStatement], now: datetime) -> HandedIn:
        signed = self.own.change(edit, now)
        under_way = tuple(self.rollover.under_way())
        if signed is None:
            return HandedIn(under_way, self.store.current().version, None)
        try:
            version = self._hand_in(signed, now)
        except TielineError as error:
            if isinstance(error, (RefusedError, UsageError)):
                raise
            return HandedIn(under_way, None, error.message)
        return HandedIn(under_way, version, None)

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
            return self.own.submit(signed, pool, online, now)

    def _request(self, now: datetime) -> Path:
        """Write the request that names the next directory key, for the authority to admit."""
        member = self.store.current().member(self.config.agency)
        claims = AgencyStatement(
            agency=member.agency, name=member.name, role=member.role, countries=member.countries
        )
        asked = request.build(claims, self.own.stated(), self.rollover.begin_directory(), now)
        files.write_atomic(self.home.request_file, asked.to_json(), mode=0o600)
        return self.home.request_file

    def _profiles(self) -> None:
        """Let the profiles in this home know both node CAs, while there are two."""
        cas = self.own.stated().node_cas
        for path in sorted(self.home.operators.glob("*.json")):
            profile = Profile.load(path)
            pem = to_pem(cas).decode()
            if profile.node_ca != pem:
                document = asdict(replace(profile, node_ca=pem))
                files.write_atomic(path, json.dumps(document, indent=2).encode() + b"\n", 0o600)
