"""The lists of standing queries: at this node alone, encrypted as the lists that it asked are.

A piece holds digests of one kind, ascending, and for each the index of its item; it is bound to its
standing query and place (AES-256-GCM). The key follows from the node's own and is in no database.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable, Sequence

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tieline_client import limits
from tieline_client.asked_list import AskedList, Column
from tieline_client.digests import DigestKind
from tieline_client.errors import StorageUnavailable
from tieline_client.packed import U8, Index

from tieline_server.domain.ports import Tx
from tieline_server.services.context import Node

LISTS = b"lists of standing queries"
_NONCE_BYTES = 12
_HEAD = struct.Struct(">BI")
"""Kind and digests of what is sealed."""


def seal(node: Node, watch: str, number: int, kind: DigestKind, rows: U8, items: Index) -> bytes:
    """Return a piece: (n, width) digests and (n,) indexes of their items."""
    plain = _HEAD.pack(int(kind), len(rows)) + rows.tobytes() + items.astype("<u4").tobytes()
    nonce = secrets.token_bytes(_NONCE_BYTES)
    cipher = AESGCM(node.key_for(LISTS))
    return nonce + cipher.encrypt(nonce, plain, _bound(watch, number))


def opened(node: Node, watch: str, pieces: Iterable[bytes]) -> AskedList:
    """Return a list out of its pieces: its records are the watched items, numbered as they were
    when it was added. Raises StorageUnavailable when a piece was altered."""
    cipher = AESGCM(node.key_for(LISTS))
    rows: dict[DigestKind, list[U8]] = {}
    items: dict[DigestKind, list[Index]] = {}
    for number, piece in enumerate(pieces):
        nonce, secret = piece[:_NONCE_BYTES], piece[_NONCE_BYTES:]
        try:
            plain = cipher.decrypt(nonce, secret, _bound(watch, number))
            word, count = _HEAD.unpack_from(plain)
            kind = DigestKind(word)
        except (InvalidTag, ValueError, struct.error):
            raise StorageUnavailable(
                f"the list of standing query {watch} does not open: it was altered, or kept under"
                " another keys/audit.key"
            ) from None
        end = _HEAD.size + count * kind.width
        digests = np.frombuffer(plain, dtype=np.uint8, count=end - _HEAD.size, offset=_HEAD.size)
        rows.setdefault(kind, []).append(digests.reshape(-1, kind.width))
        owners = np.frombuffer(plain, dtype="<u4", offset=end)
        items.setdefault(kind, []).append(owners.astype(np.int64))
    return assembled(
        {kind: (np.concatenate(parts), np.concatenate(items[kind])) for kind, parts in rows.items()}
    )


def load(node: Node, tx: Tx, watch: str) -> AskedList:
    """Return the list of a standing query."""
    return opened(node, watch, tx.watches.pieces(watch))


def assembled(columns: dict[DigestKind, tuple[U8, Index]]) -> AskedList:
    """Return a list of (n, width) ascending digests by kind, and the numbers of their items."""
    none = np.zeros(0, dtype=np.int64)
    numbers = np.unique(np.concatenate([none, *(items for _, items in columns.values())]))
    made = {
        kind: Column(np.ascontiguousarray(rows), None, np.searchsorted(numbers, items))
        for kind, (rows, items) in columns.items()
        if len(rows)
    }
    return AskedList(numbers, made)


def part_of(asked: AskedList, part: int) -> AskedList:
    """Return one part: WATCH_PART_RECORDS items from the part's first on."""
    first = part * limits.WATCH_PART_RECORDS
    if first == 0 and len(asked) <= limits.WATCH_PART_RECORDS:
        return asked
    return chosen(asked, np.arange(first, min(first + limits.WATCH_PART_RECORDS, len(asked))))


def chosen(asked: AskedList, records: Index) -> AskedList:
    """Return a list of these records alone, by their indexes in the list."""
    wanted = np.zeros(len(asked), dtype=bool)
    wanted[records] = True
    columns: dict[DigestKind, tuple[U8, Index]] = {}
    for kind, column in asked.columns.items():
        which, owners = column.owners(np.arange(len(column.digests), dtype=np.int64))
        kept = wanted[owners]
        rows = column.digests if kept.all() else column.digests[which[kept]]
        columns[kind] = rows, asked.numbers_of(owners[kept])
    return assembled(columns)


def pieces_of(node: Node, watch: str, asked: AskedList) -> Sequence[bytes]:
    """Return the pieces of a list, to be kept anew."""
    made: list[bytes] = []
    for kind, column in asked.columns.items():
        _, owners = column.owners(np.arange(len(column.digests), dtype=np.int64))
        items = asked.numbers_of(owners)
        for start in range(0, len(column.digests), limits.WATCH_PIECE_DIGESTS):
            some = slice(start, start + limits.WATCH_PIECE_DIGESTS)
            made.append(seal(node, watch, len(made), kind, column.digests[some], items[some]))
    return made


def _bound(watch: str, number: int) -> bytes:
    return f"watch {watch} {number}".encode()
