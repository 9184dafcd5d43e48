"""The audit log's root, computed from its leaves alone: RFC 6962, section 2.1.

This is what an offline verifier needs and no more. The tree is fed leaf by leaf; only the roots of
the complete subtrees at its right edge are kept, at most log2(size) of them.
"""

from __future__ import annotations

import hashlib

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """Return SHA-256(0x00 || leaf)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class RootBuilder:
    """Takes leaves in order and knows the root over all so far."""

    def __init__(self) -> None:
        self.size = 0
        self._edge: list[bytes] = []
        """Roots of the complete subtrees, largest first: one per bit set in ``size``."""

    def add(self, leaf: bytes) -> bytes:
        """Append a leaf; return its leaf hash."""
        hashed = leaf_hash(leaf)
        self.add_hash(hashed)
        return hashed

    def add_hash(self, hashed: bytes) -> None:
        """Append a leaf of which only the hash is left."""
        top = hashed
        # Every trailing one bit of the old size is a subtree that this leaf completes.
        carry = self.size
        while carry & 1:
            top = node_hash(self._edge.pop(), top)
            carry >>= 1
        self._edge.append(top)
        self.size += 1

    def root(self) -> bytes:
        """Return the Merkle tree hash; of no leaves, SHA-256 of nothing."""
        if not self._edge:
            return EMPTY_ROOT
        result = self._edge[-1]
        for left in reversed(self._edge[:-1]):
            result = node_hash(left, result)
        return result
