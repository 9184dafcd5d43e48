"""The Merkle tree of the audit log: RFC 6962, section 2.1; proofs as verified in RFC 9162, 2.1.

Nothing here does I/O. A tree is known by the hashes of its *complete* subtrees: node (level, index)
covers leaves [index * 2**level, (index + 1) * 2**level). Such a node never changes once its last
leaf is in, so storage only ever adds. Every other hash of the tree follows from at most log2(size)
of them. A ``NodeReader`` returns the 32 bytes of one complete subtree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tieline_client.errors import InvalidInput

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]


class Node(NamedTuple):
    """A complete subtree's hash. Level 0 holds the leaf hashes."""

    level: int
    number: int
    hash: bytes


def leaf_hash(leaf: bytes) -> bytes:
    """Return SHA-256(0x00 || leaf)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def append(size: int, leaf_hashes: Sequence[bytes], node: NodeReader) -> list[Node]:
    """Return the complete subtrees that appending these leaf hashes to a tree of ``size`` closes.

    The leaves themselves come first for each position, then what they complete, lowest level first.
    ``node`` is asked only for subtrees of the old tree's right edge (`frontier`).
    """
    new: list[Node] = []
    fresh: dict[tuple[int, int], bytes] = {}
    for position, leaf in enumerate(leaf_hashes, start=size):
        level, index, hashed = 0, position, leaf
        fresh[(0, position)] = hashed
        new.append(Node(0, position, hashed))
        while index & 1:
            left = fresh.get((level, index - 1)) or node(level, index - 1)
            hashed = node_hash(left, hashed)
            level, index = level + 1, index >> 1
            fresh[(level, index)] = hashed
            new.append(Node(level, index, hashed))
    return new


def frontier(size: int) -> list[tuple[int, int]]:
    """Return (level, index) of the maximal complete subtrees of a tree, from left to right."""
    found: list[tuple[int, int]] = []
    start = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            found.append((level, start >> level))
            start += 1 << level
    return found


def root(size: int, node: NodeReader) -> bytes:
    """Return the Merkle tree hash of the first ``size`` leaves; of none, SHA-256 of nothing."""
    return _range(0, size, node) if size else EMPTY_ROOT


class Edge:
    """A tree that only grows, known by its right edge: at most log2(size) hashes are held."""

    def __init__(self) -> None:
        self.size = 0
        self._edge: list[bytes] = []

    def add(self, hashed: bytes) -> None:
        """Append a leaf by its hash."""
        low = self.size
        while low & 1:
            hashed = node_hash(self._edge.pop(), hashed)
            low >>= 1
        self._edge.append(hashed)
        self.size += 1

    def root(self) -> bytes:
        """Return the Merkle tree hash of what was appended."""
        if not self._edge:
            return EMPTY_ROOT
        result = self._edge[-1]
        for left in reversed(self._edge[:-1]):
            result = node_hash(left, result)
        return result


def inclusion_proof(index: int, size: int, node: NodeReader) -> list[bytes]:
    """Return PATH(index, D[0:size]), lowest first (RFC 6962, 2.1.1). Raises InvalidInput."""
    if not 0 <= index < size:
        raise InvalidInput(f"entry {index} is not in a log of {size} entries")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            path.append(_range(split, end, node))
            end = split
        else:
            path.append(_range(start, split, node))
            start = split
    return path[::-1]


def consistency_proof(first: int, second: int, node: NodeReader) -> list[bytes]:
    """Return PROOF(first, D[0:second]) (RFC 6962, 2.1.2); empty for equal sizes.

    Raises InvalidInput unless 0 < first <= second.
    """
    if not 0 < first <= second:
        raise InvalidInput(f"no consistency proof leads from {first} to {second} entries")
    path: list[bytes] = []
    start, end, whole = 0, second, True
    while first != end:
        split = start + _split(end - start)
        if first <= split:
            path.append(_range(split, end, node))
            end = split
        else:
            path.append(_range(start, split, node))
            start, whole = split, False
    if not whole:
        path.append(_range(start, end, node))
    return path[::-1]


def verify_inclusion(
    hashed: bytes, index: int, size: int, proof: Sequence[bytes], root_hash: bytes
) -> bool:
    """Whether a leaf hash stands at ``index`` of the tree of ``size`` with that root.

    The steps are those of RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size:
        return False
    position, last, result = index, size - 1, hashed
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            result = node_hash(sibling, result)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and result == root_hash


def verify_consistency(
    first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes
) -> bool:
    """Whether the tree of ``second`` entries extends the tree of ``first`` entries.

    The steps are those of RFC 9162, section 2.1.4.2; any tree extends the empty one.
    """
    if first == 0:
        return not proof and first_root == EMPTY_ROOT and second >= 0
    if first == second:
        return not proof and first_root == second_root
    if not 0 < first < second or not proof:
        return False
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    old_position, last = first - 1, second - 1
    while old_position & 1:
        old_position, last = old_position >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if old_position & 1 or old_position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not old_position & 1 and old_position:
                old_position, last = old_position >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        old_position, last = old_position >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def _split(count: int) -> int:
    """Return the largest power of two below ``count`` (count > 1)."""
    return 1 << ((count - 1).bit_length() - 1)


def _range(start: int, end: int, node: NodeReader) -> bytes:
    """Return MTH(D[start:end]) where ``start`` is a multiple of the subtree sizes inside."""
    parts = [node(level, (start >> level) + index) for level, index in frontier(end - start)]
    result = parts.pop()
    while parts:
        result = node_hash(parts.pop(), result)
    return result
