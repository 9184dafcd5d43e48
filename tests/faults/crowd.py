"""Many members that are only identities: keys, CAs and a leaf in memory, and a client to one node.

They are admitted in one change of the directory, and call with the product's own client. Their
endpoint is a port that refuses, as that of a peer which only ever calls.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import Encoding
from tieline.v1 import delivery_pb2, payload_pb2, series_pb2
from tieline_client import keys, limits, tls
from tieline_client.certificates import Kind, LeafCache
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind
from tieline_client.directory import Contact, Directory, Role, SigningKey
from tieline_client.identifiers import new_id, new_series_id
from tieline_client.payloads import Audience, Sealer, timestamp
from tieline_client.peer_client import PeerClient
from tieline_client.profile import utc_now
from tieline_server.trust import federation_edits, request
from tieline_server.trust.authority import AgencyAuthority, create_authority, issue_node_leaf
from tieline_server.trust.federation import Federation as Authority
from tieline_server.trust.stated import Stated
from tieline_server.trust.statements import AgencyStatement, OwnStatement

from tests.e2e.federation import PURPOSE, Federation

COUNTRIES = ("PT", "ES", "FR", "DE", "NL", "BE", "IT", "AT", "SE", "FI")
NOWHERE = "127.0.0.1:1"
ROUTINE = 3


@dataclass
class Member:
    """A national agency without a node."""

    agency: str
    country: str
    federation: str
    directory_key: keys.PrivateKey = field(default_factory=keys.generate)
    signing_key: keys.PrivateKey = field(default_factory=keys.generate)
    sequence: int = 0

    def __post_init__(self) -> None:
        self._node_ca = self._authority(Kind.NODE)
        self._operator_ca = self._authority(Kind.OPERATOR)
        key = keys.generate()
        leaf = issue_node_leaf(self._node_ca, key.public_key(), now=utc_now())
        self.identity = tls.Identity(leaf.public_bytes(Encoding.PEM), keys.private_pem(key))
        self._sealer = Sealer(self.federation, self.agency, self.signing_key)
        self._mutex = threading.Lock()

    def _authority(self, kind: Kind) -> AgencyAuthority:
        return create_authority(kind, self.federation, self.agency, keys.generate(), now=utc_now())

    def request(self) -> request.Request:
        """What `tieline node init` writes into request.json."""
        public, now = keys.public_der(self.signing_key), utc_now().replace(microsecond=0)
        signing = SigningKey(
            keyid=keys.keyid(public), public=base64.b64encode(public).decode(), not_before=now
        )
        own = OwnStatement(
            agency=self.agency,
            endpoints=(NOWHERE,),
            node_cas=(self._node_ca.der,),
            operator_cas=(self._operator_ca.der,),
            signing_keys=(signing,),
            contact=Contact(name="Desk", email="desk@example.invalid"),
        )
        claims = AgencyStatement(
            agency=self.agency,
            name=f"Unit {self.agency}",
            role=Role.NATIONAL,
            countries=(self.country,),
        )
        return request.build(claims, own, self.directory_key, now)

    def client(self, to: str, address: str, directory: Directory) -> PeerClient:
        """The product's client to one node; the caller closes it."""
        return PeerClient(
            own_agency=self.agency,
            agency=to,
            endpoints=(address,),
            directory=lambda: directory,
            identity=self.identity,
            leaves=LeafCache(self.federation),
            clock=utc_now,
        )

    def referral(self, to: str) -> tuple[str, delivery_pb2.DeliverRequest]:
        """A new signed referral in the next place of its lane, with its id."""
        now, identifier = datetime.now(UTC), new_id()
        notice = series_pb2.SeriesNotice(
            id=new_series_id(self.agency),
            status="new",
            handling=series_pb2.Handling(
                code=0, tlp=3, source="X", information=4, retain_until="2028-01-01"
            ),
            contact=series_pb2.DutyContact(name="desk"),
            create_time=timestamp(now),
        )
        referral = payload_pb2.Referral(
            id=identifier, root=identifier, series=notice, country=self.country, urgency=ROUTINE
        )
        payload = self._person(payload_pb2.Payload(referral=referral))
        with self._mutex:
            self.sequence += 1
        return identifier, delivery_pb2.DeliverRequest(
            envelope=self._sealer.seal(payload, Audience(agency=to), now, limits.ENVELOPE_LIFE),
            lane=ROUTINE,
            sequence=self.sequence,
            epoch=self.agency,
        )

    def ask(self, client: PeerClient, packed: bytes) -> list[int]:
        """Ask a brief overlap of packed SHA-1 digests; return the positions that are held."""
        query = payload_pb2.QueryHeader(
            mode=payload_pb2.QUERY_MODE_EXACT,
            records=len(packed) // DigestKind.SHA1.width,
            counts=[
                len(packed) // kind.width if kind is DigestKind.SHA1 else 0 for kind in DigestKind
            ],
            list_digest=hashlib.sha256(packed).digest(),
        )
        payload = self._person(payload_pb2.Payload(query=query))
        to = Audience(agency=client.agency)
        header = self._sealer.seal(payload, to, datetime.now(UTC), limits.QUERY_LIFE)
        batch = DigestBatch.of(DigestKind.SHA1, packed)
        parts = list(client.overlap_brief(header, [batch], limits.QUERY_SECONDS))
        assert parts[-1].HasField("end")
        return [position for part in parts for position in part.hits.positions]

    def _person(self, payload: payload_pb2.Payload) -> payload_pb2.Payload:
        payload.person, payload.purpose, payload.case_ref = "ana", PURPOSE, "2026-118"
        return payload


def make_members(federation: str, count: int) -> list[Member]:
    """Make identities, spread over countries."""
    countries = [COUNTRIES[number % len(COUNTRIES)] for number in range(count)]
    return [
        Member(f"{country.lower()}-u{number:03}", country, federation)
        for number, country in enumerate(countries)
    ]


def admit(federation: Federation, members: Sequence[Member]) -> None:
    """Admit all in one change of a trial's directory."""
    authority = Authority.open(federation.authority)
    path = authority.single_key
    assert path is not None
    now = utc_now()

    def edit(before: Stated) -> Stated:
        for one in members:
            before, _ = federation_edits.admit(
                before, one.request(), Role.NATIONAL, [one.country], now
            )
        return before

    with authority.changing():
        authority.propose(edit, now)
        assert authority.sign(keys.load(path), now).in_force
