"""What peers say of their indexes: that something changed, and nothing of what.

A peer names the generation of its index in every contact. Only where it changed is it written down;
standing queries (watch_runs.py) ask for what is new since the generation of their last receipt.
"""

from __future__ import annotations

from tieline.v1 import delivery_pb2

from tieline_server.domain.ports import Tx
from tieline_server.domain.watch import Told
from tieline_server.services.context import Node


def hear(
    node: Node,
    peer: str,
    epoch: str,
    said: delivery_pb2.ContactRequest | delivery_pb2.ContactResponse,
) -> None:
    """Keep the generation that a contact names; one of before v1.4 names none."""
    if not said.HasField("generation") or said.generation >= 2**62:
        return
    told = Told(epoch, said.generation)

    def keep(tx: Tx) -> None:
        tx.watches.hear(peer, told, node.clock())

    if node.store.read(lambda tx: tx.watches.heard()).get(peer) != told:
        node.store.write(keep)
