"""Splits that come in: an owner says that items of one of its series are another's now."""

from __future__ import annotations

from dataclasses import dataclass

from tieline.v1 import payload_pb2
from tieline_client import limits
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput

from tieline_server.domain.ports import Tx
from tieline_server.domain.series import Origin
from tieline_server.domain.splitting import MARK_BYTES, Split
from tieline_server.services.context import Node
from tieline_server.services.incoming import Handled, Message, stated_time
from tieline_server.services.notices import series_in
from tieline_server.services.owners_word import owners_word
from tieline_server.services.retracting import accompany
from tieline_server.services.split_items import line_of, settle
from tieline_server.services.split_telling import holders, tell_split


@dataclass(frozen=True, slots=True)
class IncomingSplits:
    """Handles series_split."""

    node: Node

    def split(self, message: Message) -> Handled:
        """Keep where items belong, move what is held of them, and forward the owner's word.

        It is taken whatever is held here: the items may come after it.
        """
        node = self.node
        owners = owners_word(node, message, "series_split")
        split = read_split(node, owners, message.request.envelope.SerializeToString())

        def effect(tx: Tx) -> None:
            if not tx.splits.add(split):
                return
            if tx.series.get(split.series) is not None:
                tx.history.add(line_of(split, split.series))
            settle(node, tx, split.series)
            for agency in sorted(holders(node, tx, split.series) - {message.peer}):
                if tell_split(node, tx, split, agency):
                    accompany(node, tx, split.made, agency)
                    message.woken.add(agency)

        return split.made, effect


def read_split(node: Node, owners: payload_pb2.Payload, envelope: bytes) -> Split:
    """Return what an owner's payload says. Raises InvalidInput when a part does not hold."""
    stated = owners.series_split
    marks = stated.marks.digests
    if stated.marks.kind != int(DigestKind.SHA256) or not marks:
        raise InvalidInput("a split names its items by marks of 32 bytes")
    if len(marks) > limits.SPLIT_MARKS * MARK_BYTES:
        raise InvalidInput(f"a split has at most {limits.SPLIT_MARKS} marks")
    series_in(stated.made, Origin.REFERRAL, "")
    return Split(
        id=stated.id,
        series=stated.series,
        made=stated.made.id,
        person=owners.person,
        at=stated_time(node, stated.split_time),
        noted=node.clock(),
        marks=marks,
        notice=stated.made.SerializeToString(),
        envelope=envelope,
    )
