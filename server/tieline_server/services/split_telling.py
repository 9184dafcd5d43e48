"""Telling of a split.

1. The owner's word goes to everybody who was told items of the series under its old id, and on from
   each of them, the owner's envelope inside. It goes in the lane of retractions, before everything
   else, so that a retraction of either series finds each item under its own.
2. Whoever is told the old series later is told its splits as well: the same items may come to it
   another way, under the old id. Not of what it may not have, as it was withdrawn: no item of that
   goes to it from here, and who sends one another way sends this word after it.

What it means to items that are held here: split_items.py.
"""

from __future__ import annotations

from tieline.v1 import digests_pb2, envelope_pb2, payload_pb2, series_pb2
from tieline_client.digests import DigestKind
from tieline_client.identifiers import series_owner
from tieline_client.payloads import timestamp

from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction, Urgency
from tieline_server.domain.splitting import Split
from tieline_server.services.context import Node
from tieline_server.services.restricting import why_excluded
from tieline_server.services.sending import send

_LANE = Urgency.IMMEDIATE


def tell_split(node: Node, tx: Tx, split: Split, agency: str) -> bool:
    """Queue a split for an agency, once; the owner's own word, or what came with its envelope.

    False when it was told before, or may not have the series that was split.
    """
    if why_excluded(tx, split.series, agency) or not split.notice:
        return False
    if not tx.splits.tell(split, agency):
        return False
    body = payload_pb2.SeriesSplit(id=split.id, series=split.series)
    if split.envelope:
        body.made.id = split.made
        body.original.CopyFrom(envelope_pb2.Envelope.FromString(split.envelope))
    else:
        body.made.CopyFrom(series_pb2.SeriesNotice.FromString(split.notice))
        body.marks.CopyFrom(
            digests_pb2.DigestList(kind=int(DigestKind.SHA256), digests=split.marks)  # type: ignore[arg-type]
        )
        body.split_time.CopyFrom(timestamp(split.at))
    payload = payload_pb2.Payload(person=split.person, series_split=body)
    send(node, tx, payload, recipient=agency, lane=_LANE, subject=split.made)
    return True


def holders(node: Node, tx: Tx, series: str) -> set[str]:
    """Return whom this node told items of a series under its id, whether they keep it or not."""
    told = {one.recipient for one in tx.referrals.find(Direction.OUT, series)}
    told |= {one.repository for one in tx.uploads.find(Direction.OUT, series)}
    for broadcast in tx.broadcasts.find(Direction.OUT, series):
        told.update(tx.broadcasts.recipients(broadcast.id))
    told.update(tx.splits.told(series))
    return told - {series_owner(series), node.agency}


def split_along(node: Node, tx: Tx, series: str, *agencies: str) -> list[str]:
    """Tell the splits of a series to those who are told items of it now, of what they may have;
    return the series that they made."""
    splits = tx.splits.of(series)
    if not splits:
        return []
    told = holders(node, tx, series).intersection(agencies)
    return [
        split.made
        for split in splits
        for agency in sorted(told)
        if not why_excluded(tx, split.made, agency) and tell_split(node, tx, split, agency)
    ]
