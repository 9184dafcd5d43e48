"""What an audit entry says. How entries become a Merkle log stands in merkle.py."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tieline_client.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who, what, why, when, to whom, which rules decided (2016/680 Art. 25, 2018/1725 Art. 88).

    ``action`` is a word such as ``query.asked``, ``query.answered``, ``import``, ``referral.sent``,
    ``refusal``. ``agency`` acted and ``person`` within it; ``peer`` is the other side, if any;
    ``subjects`` are ids; ``detail`` is JSON-ready and never holds a digest that was a miss.
    """

    action: str
    at: datetime
    agency: str
    person: str = ""
    peer: str = ""
    purpose: str = ""
    case_ref: str = ""
    subjects: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An entry in the log: its position from 0, the exact bytes of its leaf, their leaf hash."""

    position: int
    leaf: bytes
    leaf_hash: bytes

    @property
    def shown(self) -> bytes:
        """The leaf; where retention erased it (it is empty then), what keeps its hash."""
        return self.leaf or b'{"erased":"%b"}' % self.leaf_hash.hex().encode()


def leaf_bytes(entry: AuditEntry, salt: bytes) -> bytes:
    """Return the leaf: canonical JSON (sorted keys, no spaces, UTF-8) with 16 bytes of salt.

    The salt keeps an erased entry from being guessed back from its hash. Raises InvalidInput when
    the time has no zone.
    """
    if entry.at.tzinfo is None:
        raise InvalidInput("an audit entry's time needs a time zone")
    document = {
        "action": entry.action,
        "agency": entry.agency,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "case": entry.case_ref,
        "detail": dict(entry.detail),
        "peer": entry.peer,
        "person": entry.person,
        "purpose": entry.purpose,
        "rules": list(entry.rules),
        "salt": salt.hex(),
        "subjects": list(entry.subjects),
    }
    return _CANONICAL.encode(document).encode()


def salted(list_digest: bytes, salt: bytes | None = None) -> dict[str, Any]:
    """Return what an entry says of a list: SHA-256 of 16 bytes of salt and the list's digest.

    Who has the list can show that it was this one; a list of a few digests cannot be guessed from
    the digest of it that travels in headers.
    """
    salt = secrets.token_bytes(16) if salt is None else salt
    return {
        "list_salt": salt.hex(),
        "list_digest": hashlib.sha256(salt + list_digest).hexdigest(),
    }


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
