"""Telling of a merge: whoever was told a series learns what it is part of, by its owner's word.

Who told the series on forwards that word, and tells it along with the series from then on.
"""

from __future__ import annotations

from tieline.v1 import envelope_pb2, payload_pb2
from tieline_client.payloads import timestamp

from tieline_server.domain.merging import Alias
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Urgency
from tieline_server.services.context import Node
from tieline_server.services.sending import send

_LANE = Urgency.URGENT


def link_along(node: Node, tx: Tx, series: str, *agencies: str) -> None:
    """Tell those who are told a series now what it is part of, if it is."""
    alias = tx.aliases.get(series)
    if alias is not None:
        for agency in agencies:
            tell_merge(node, tx, alias, agency)


def tell_merge(node: Node, tx: Tx, alias: Alias, agency: str) -> None:
    """Queue a merge for an agency; the owner's own word, or what came with its envelope."""
    body = payload_pb2.SeriesMerge(id=alias.id, series=alias.series, merged=alias.merged)
    if alias.envelope:
        body.original.CopyFrom(envelope_pb2.Envelope.FromString(alias.envelope))
    else:
        body.merge_time.CopyFrom(timestamp(alias.at))
    payload = payload_pb2.Payload(person=alias.person, series_merge=body)
    send(node, tx, payload, recipient=agency, lane=_LANE, subject=alias.merged)
