"""An agency's request to join: request.json, built by its node and verified by the authority.

The file holds what the agency claims (name, role, countries: only the authority can state these),
its public directory key, and the statement it makes of itself, already signed as TUF metadata of
the role that the authority will delegate to it. The fingerprint covers all of it, so that comparing
64 hex digits over another channel proves the whole file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, SSlibKey
from tieline_client import keys, limits
from tieline_client.errors import InvalidInput, SignatureRefused
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, TargetFile, Targets

from tieline_server.trust import canonical, statements
from tieline_server.trust.statements import AgencyStatement, OwnStatement

FORMAT = "tieline-request/1"


@dataclass(frozen=True)
class Request:
    """A verified request. ``role`` and ``own`` are the exact bytes that will be published."""

    claims: AgencyStatement
    statement: OwnStatement
    directory_key: SSlibKey
    own: bytes
    role: bytes
    document: bytes
    """The request in canonical form."""

    @property
    def fingerprint(self) -> str:
        """64 hex digits: SHA-256 of the canonical form."""
        return hashlib.sha256(self.document).hexdigest()

    @property
    def version(self) -> int:
        """Version of the agency's own metadata; a later request has a higher one."""
        return read_role(self.role).signed.version

    def to_json(self) -> bytes:
        """Return request.json as it is written: indented, for people to read."""
        text = json.dumps(json.loads(self.document), indent=2, sort_keys=True, ensure_ascii=False)
        return text.encode() + b"\n"


def tuf_key(public: keys.PublicKey) -> SSlibKey:
    """Return a P-256 public key as TUF metadata lists it, under the id of keys.keyid."""
    return SSlibKey.from_crypto(public, keyid=keys.keyid(public))


def tuf_signer(private: keys.PrivateKey) -> CryptoSigner:
    """Return a signer whose signatures carry the id of keys.keyid."""
    return CryptoSigner(private, tuf_key(private.public_key()))


def build(
    claims: AgencyStatement,
    statement: OwnStatement,
    directory_key: keys.PrivateKey,
    now: datetime,
    after: int = 0,
) -> Request:
    """Return the signed request; raise InvalidInput when claims and statement do not agree.

    The version of the agency's metadata is the time in seconds, so that a later request, also one
    from a home made anew, never looks like a rollback; it is higher than ``after``.
    """
    own = statements.to_bytes(statement)
    path = statements.own_path(claims.agency)
    signed = Targets(
        version=max(int(now.timestamp()), after + 1),
        expires=(now + limits.AUTHORITY_LIFE).replace(microsecond=0),
        targets={path: TargetFile.from_data(path, own, ["sha256"])},
    )
    metadata = Metadata(signed)
    metadata.sign(tuf_signer(directory_key))
    return assemble(claims, own, metadata.to_bytes(), directory_key.public_key(), now)


def assemble(
    claims: AgencyStatement, own: bytes, metadata: bytes, key: keys.PublicKey, now: datetime
) -> Request:
    """Return the request around a statement that the directory key signed already.

    Raises what ``verify`` raises.
    """
    document = {
        "format": FORMAT,
        "claims": claims.model_dump(mode="json"),
        "statement": json.loads(own),
        "directory_key": base64.b64encode(keys.public_der(key)).decode(),
        "metadata": read_role(metadata).to_dict(),
    }
    return verify(canonical.encode(document), now)


def verify(data: bytes, now: datetime) -> Request:
    """Parse and verify request.json. Raises InvalidInput or SignatureRefused.

    1. It is JSON of this format with exactly its five parts.
    2. The directory key is a P-256 key.
    3. The metadata states exactly one target, the agency's own, delegates nothing and is current.
    4. The directory key signed it.
    5. The statement is the file that the metadata names.
    6. Claims and statement name the same agency, which can be reached or says that it only calls.
    """
    # 1
    what = "the enrolment request"
    document = canonical.decode(data, what)
    if document.get("format") != FORMAT:
        raise InvalidInput(
            f"{what} is not of the format {FORMAT}; use the request.json of `tieline node init`"
        )
    if set(document) != {"format", "claims", "statement", "directory_key", "metadata"}:
        raise InvalidInput(f"{what} has parts missing or parts unknown; write it anew")
    claims = statements.check(AgencyStatement, document["claims"], f"{what}, claims")
    # 2
    key = tuf_key(keys.load_public(_base64(document["directory_key"])))
    # 3, 4, 5
    role = _metadata(document["metadata"])
    own = canonical.encode(document["statement"])
    _check_signed(claims.agency, key, role, own, now, what)
    # 6
    statement = _reachable(claims, own, what)
    return Request(claims, statement, key, own, role.to_bytes(), canonical.encode(document))


def verify_own(
    claims: AgencyStatement, key: SSlibKey, metadata: bytes, own: bytes, now: datetime
) -> Request:
    """Verify what a member states anew under the directory key that it is known by.

    The checks 3 to 6 of ``verify``. Raises InvalidInput or SignatureRefused.
    """
    what = f"the statement of {claims.agency}"
    role = read_role(metadata)
    _check_signed(claims.agency, key, role, own, now, what)
    if canonical.encode(canonical.decode(own, what)) != own:
        raise InvalidInput(f"{what} is not in canonical form; write it anew")
    statement = _reachable(claims, own, what)
    return Request(claims, statement, key, own, metadata, b"")


def _check_signed(
    agency: str, key: SSlibKey, role: Metadata[Targets], own: bytes, now: datetime, what: str
) -> None:
    # 3
    path = statements.own_path(agency)
    if set(role.signed.targets) != {path} or role.signed.delegations is not None:
        raise InvalidInput(f"{what} states other things than {path}; write it anew")
    if role.signed.is_expired(now):
        raise InvalidInput(f"{what} expired on {role.signed.expires:%Y-%m-%d}; write it anew")
    # 4
    try:
        key.verify_signature(role.signatures[key.keyid], role.signed_bytes)
    except (KeyError, UnverifiedSignatureError):
        raise SignatureRefused(
            f"{what} of {agency} is not signed by its directory key; write it anew"
        ) from None
    # 5
    try:
        role.signed.targets[path].verify_length_and_hashes(own)
    except RepositoryError:
        raise SignatureRefused(
            f"{what} of {agency} was changed after it was signed; ask for it again"
        ) from None


def _reachable(claims: AgencyStatement, own: bytes, what: str) -> OwnStatement:
    """Check 6."""
    statement = statements.parse(OwnStatement, own, f"{what}, statement")
    if statement.agency != claims.agency:
        raise InvalidInput(f"{what} claims {claims.agency} but states {statement.agency}")
    if not statement.endpoints and not statement.outbound_only:
        raise InvalidInput(
            f"{what} of {claims.agency} names no endpoint; give one or outbound-only"
        )
    return statement


def read_role(data: bytes) -> Metadata[Targets]:
    """Parse the metadata of an agency's role; raise InvalidInput when it is none."""
    try:
        metadata = Metadata[Targets].from_bytes(data)
    except RepositoryError:
        raise InvalidInput("an agency's own metadata cannot be parsed; ask for it again") from None
    if not isinstance(metadata.signed, Targets):
        raise InvalidInput("an agency's own metadata is of another type; ask for it again")
    return metadata


def _metadata(value: object) -> Metadata[Targets]:
    return read_role(canonical.encode(value))


def _base64(value: object) -> bytes:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        return b""
