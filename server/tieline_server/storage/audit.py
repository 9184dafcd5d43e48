"""The audit log in tables: leaves by position, and the hashes of complete subtrees.

An entry's leaf is made in the transaction of its effect. SQLite's one writer places the leaves of
a group just before the group's commit; on PostgreSQL they wait in ``audit_pending`` for the
sequencer. Either way `place` is the only code that gives out positions.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, func, insert, or_, select, text, update
from tieline_client.audit_search import Search, time_key

from tieline_server.domain import merkle
from tieline_server.domain.audit import AuditEntry, AuditRecord, leaf_bytes
from tieline_server.storage.bulk import Bulk
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema import audit_leaves, audit_nodes, audit_pending
from tieline_server.storage.session import Session

SALT_BYTES = 16
_AT = b'"at":"'
_AT_BYTES = len("2026-01-31T12:00:00.000000")
_PENDING = Prepared(lambda _: insert(audit_pending).values(leaf=bindparam("leaf")))


class Audit:
    """`AuditRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def append(self, entry: AuditEntry) -> None:
        """Add an entry in this transaction; the commit, or the sequencer, gives its position."""
        leaf = leaf_bytes(entry, secrets.token_bytes(SALT_BYTES))
        if self._session.postgres:
            _PENDING.run(self._session, {"leaf": leaf})
        else:
            self._session.pending.append(leaf)

    def size(self) -> int:
        """Return how many entries have a position."""
        return log_size(self._session.connection)

    def root(self) -> bytes:
        """Return the Merkle tree hash over them (RFC 6962, section 2.1)."""
        size = self.size()
        known = read_nodes(self._session.connection, merkle.frontier(size))
        return merkle.root(size, lambda level, index: known[(level, index)])

    def mentioning(self, word: str, limit: int) -> list[AuditRecord]:
        """Return entries whose text holds a word, oldest first: the whole log is looked through."""
        holds = (
            text("position(:word in leaf) > 0")
            if self._session.postgres
            else text("instr(leaf, :word) > 0")
        )
        found = select(audit_leaves).where(holds).order_by(audit_leaves.c.position).limit(limit)
        rows = self._session.connection.execute(found, {"word": word.encode()})
        return [AuditRecord(row.position, row.leaf, row.leaf_hash) for row in rows]

    def search(self, wanted: Search, start: int, end: int, limit: int) -> list[AuditRecord]:
        """Return entries that may be what is looked for: their bytes are, here and there."""
        where = "position(:{0} in leaf)" if self._session.postgres else "instr(leaf, :{0})"
        c = audit_leaves.c
        found = select(audit_leaves).where(c.position >= start, c.position < end, c.leaf != b"")
        values: dict[str, bytes] = {}
        if wanted.begins():
            found = found.where(text(f"{where.format('begins')} = 1"))
            values["begins"] = wanted.begins()
        for name, bound, time in (("since", ">=", wanted.since), ("until", "<", wanted.until)):
            if time is not None:
                at = f"substr(leaf, {where.format('at')} + {len(_AT)}, {_AT_BYTES})"
                found = found.where(text(f"{at} {bound} :{name}"))
                values |= {"at": _AT, name: time_key(time)[:_AT_BYTES]}
        for number, fragment in enumerate(wanted.fragments()):
            found = found.where(text(f"{where.format(f'fragment{number}')} > 0"))
            values[f"fragment{number}"] = fragment
        rows = self._session.connection.execute(found.order_by(c.position).limit(limit), values)
        return [AuditRecord(row.position, row.leaf, row.leaf_hash) for row in rows]

    def erase(self, first: int, last: int) -> None:
        """Forget what entries say; their hashes stay, so that the tree does."""
        c = audit_leaves.c
        gone = update(audit_leaves).where(c.position.between(first, last))
        self._session.connection.execute(gone.values(leaf=b""))

    def root_at(self, size: int) -> bytes:
        """Return the Merkle tree hash over the first ``size`` entries."""
        known = read_nodes(self._session.connection, merkle.frontier(size))
        return merkle.root(size, lambda level, index: known[(level, index)])

    def inclusion(self, position: int, size: int) -> list[bytes]:
        """Return the audit path of an entry in the tree of ``size``."""
        return merkle.inclusion_proof(position, size, self._node)

    def consistency(self, first: int, second: int) -> list[bytes]:
        """Return the proof that the tree of ``second`` entries extends that of ``first``."""
        return merkle.consistency_proof(first, second, self._node)

    def _node(self, level: int, index: int) -> bytes:
        return read_nodes(self._session.connection, [(level, index)])[(level, index)]

    def records(self, start: int, limit: int) -> list[AuditRecord]:
        """Return entries by position from ``start``."""
        found = select(audit_leaves).where(audit_leaves.c.position >= start)
        found = found.order_by(audit_leaves.c.position).limit(limit)
        return [
            AuditRecord(row.position, row.leaf, row.leaf_hash)
            for row in self._session.connection.execute(found)
        ]


def log_size(connection: Connection) -> int:
    """Return how many entries have a position."""
    last = connection.scalar(select(func.max(audit_leaves.c.position)))
    return 0 if last is None else last + 1


@dataclass(frozen=True, slots=True)
class Edge:
    """How long the log is, and the hashes on its right edge: all that appending needs of it."""

    size: int
    nodes: Mapping[tuple[int, int], bytes]


def read_edge(connection: Connection) -> Edge:
    """Return the log's edge as it stands in this transaction."""
    size = log_size(connection)
    return Edge(size, read_nodes(connection, merkle.frontier(size)))


def place(connection: Connection, bulk: Bulk, leaves: Sequence[bytes], edge: Edge) -> Edge:
    """Give leaves the next positions, in order; return the new edge.

    The caller lets no one else do so meanwhile, and forgets the new edge unless it commits.
    """
    if not leaves:
        return edge
    size = edge.size
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    nodes = merkle.append(size, hashes, lambda level, index: edge.nodes[(level, index)])
    rows = zip(range(size, size + len(leaves)), leaves, hashes, strict=True)
    bulk.insert(connection, audit_leaves, ("position", "leaf", "leaf_hash"), rows)
    inner = [node for node in nodes if node.level > 0]
    bulk.insert(connection, audit_nodes, ("level", "index", "hash"), inner)
    known = {**edge.nodes, **{(node.level, node.number): node.hash for node in nodes}}
    size += len(leaves)
    return Edge(size, {wanted: known[wanted] for wanted in merkle.frontier(size)})


def read_nodes(
    connection: Connection, wanted: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], bytes]:
    """Return the hashes of complete subtrees (level, index)."""
    found: dict[tuple[int, int], bytes] = {}
    inner = [node for node in wanted if node[0] > 0]
    if inner:
        c = audit_nodes.c
        either = or_(*(and_(c.level == level, c.index == index) for level, index in inner))
        for row in connection.execute(select(audit_nodes).where(either)):
            found[(row[0], row[1])] = row[2]
    for level, index in wanted:
        if level == 0:
            one = select(audit_leaves.c.leaf_hash).where(audit_leaves.c.position == index)
            found[(0, index)] = connection.execute(one).scalar_one()
    return found
