"""People, the queries that were answered, and the audit log."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tieline_client.audit_search import Search

from tieline_server.domain.audit import AuditEntry, AuditRecord


@dataclass(frozen=True, slots=True)
class Operator:
    """A person of the own agency. ``serials`` are certificates issued; revoked people have none.

    ``expires`` is the end of the newest certificate; None of one that an older version issued.
    ``issuer`` is the fingerprint of the operator CA that issued it, "" where that is not known.
    """

    name: str
    roles: tuple[str, ...]
    serials: tuple[int, ...]
    created: datetime
    revoked: datetime | None = None
    expires: datetime | None = None
    issuer: str = ""


class OperatorRepository(Protocol):
    def put(self, operator: Operator) -> None: ...
    def get(self, name: str) -> Operator | None: ...
    def find(self) -> list[Operator]: ...


@dataclass(frozen=True, slots=True)
class AnsweredQuery:
    """A query as this node answered it. The header proves what was asked once the asker shows list
    and salt; of an asker that salts none, header and receipt are empty. ``header_digest`` is keyed
    (services/list_secrets.py)."""

    request: str
    peer: str
    person: str
    purpose: str
    case_ref: str
    header_digest: bytes
    header: bytes
    records: int
    hits: int
    receipt: bytes
    at: datetime


class QueryRepository(Protocol):
    def reserve(self, request: str, peer: str, header_digest: bytes, at: datetime) -> bool:
        """Remember a request id; False when (peer, request) is known with the same header.

        Raises RequestIdReused when it is known with another header.
        """
        ...

    def header_digest(self, peer: str, request: str) -> bytes | None:
        """Under which header an id is known; None where it is not."""
        ...

    def spoil(self, peer: str, request: str, at: datetime) -> None:
        """Let no header fit an id any more."""
        ...

    def forget(self, peer: str, request: str) -> None:
        """Let an id be new again."""
        ...

    def finish(self, query: AnsweredQuery) -> None: ...
    def answered(self, peer: str, request: str) -> AnsweredQuery | None: ...

    def find(self, limit: int = 1000) -> list[AnsweredQuery]: ...
    def by_request(self, request: str) -> AnsweredQuery | None: ...
    def forget_headers(self) -> int:
        """Drop every header and receipt and what would tell one; their ids stay, and fit none."""
        ...

    def erase_before(self, time: datetime, kept: Collection[str] = ()) -> int:
        """Erase what was answered before, but for the questions ``kept``; ids stay, so that nothing
        is answered anew."""
        ...


class AuditRepository(Protocol):
    def append(self, entry: AuditEntry) -> None:
        """Add an entry in this transaction; its position is fixed by the commit (on PostgreSQL
        by the sequencer, within a second)."""
        ...

    def size(self) -> int: ...
    def root(self) -> bytes:
        """The Merkle tree hash over all entries (RFC 6962, section 2.1)."""
        ...

    def mentioning(self, word: str, limit: int) -> list[AuditRecord]:
        """Entries, oldest first, whose text holds a word of plain ASCII anywhere."""
        ...

    def search(self, wanted: Search, start: int, end: int, limit: int) -> list[AuditRecord]:
        """Entries of positions from ``start`` and before ``end`` that may be what is looked for,
        oldest first; ``wanted.matches`` decides."""
        ...

    def erase(self, first: int, last: int) -> None:
        """Forget what entries say, both ends included; their hashes stay."""
        ...

    def root_at(self, size: int) -> bytes:
        """The Merkle tree hash over the first ``size`` entries, which must be there."""
        ...

    def inclusion(self, position: int, size: int) -> list[bytes]:
        """PATH(position, D[0:size]) (RFC 6962, section 2.1.1). Raises InvalidInput."""
        ...

    def consistency(self, first: int, second: int) -> list[bytes]:
        """PROOF(first, D[0:second]) (RFC 6962, section 2.1.2). Raises InvalidInput."""
        ...

    def records(self, start: int, limit: int) -> list[AuditRecord]: ...


class MetaRepository(Protocol):
    def get(self, key: str) -> str | None: ...
    def set(self, key: str, value: str) -> None: ...
    def drop(self, key: str) -> None: ...
    def beginning(self, prefix: str) -> dict[str, str]:
        """Every value whose key begins so, by key."""
        ...

    def time(self) -> datetime:
        """The time now, by the database's clock: processes on several machines agree on it."""
        ...
