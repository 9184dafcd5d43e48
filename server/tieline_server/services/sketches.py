"""What is kept for thirty days of the lists that peers asked (domain/minhash.py)."""

from __future__ import annotations

from tieline_client import limits

from tieline_server.services.context import Node

SKETCHES = b"sketches of what peers asked"
"""The use under which `Node.key_for` makes their key."""


def erase_old_sketches(node: Node) -> int:
    """Erase sketches past limits.SKETCH_LIFE; return how many."""
    before = node.clock() - limits.SKETCH_LIFE
    if not node.store.read(lambda tx: tx.sketches.any_before(before)):
        return 0
    return node.store.note(lambda tx: tx.sketches.erase_before(before))
