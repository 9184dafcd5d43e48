"""Merges that come in: an owner says that one of its series is part of another."""

from __future__ import annotations

from dataclasses import dataclass

from tieline_client.errors import InvalidInput, SignatureRefused
from tieline_client.identifiers import check_id, new_id, series_owner

from tieline_server.domain.merging import Alias
from tieline_server.domain.ports import Tx
from tieline_server.domain.series_life import EventKind, SeriesEvent
from tieline_server.services.context import Node
from tieline_server.services.incoming import Handled, Message, innermost, stated_time
from tieline_server.services.linking import tell_merge
from tieline_server.services.retracting import agencies_told


@dataclass(frozen=True, slots=True)
class IncomingMerges:
    """Handles series_merge."""

    node: Node

    def merge(self, message: Message) -> Handled:
        """Keep that a series is part of another, and forward it to whom this node told the part."""
        node, body = self.node, message.payload.series_merge
        check_id(body.id, "merge")
        owner = series_owner(body.merged)
        if series_owner(body.series) != owner or body.series == body.merged:
            raise InvalidInput("only two series of one owner are merged")
        if owner == node.agency:
            raise InvalidInput("the series is this agency's own")
        owners = message.payload
        if message.peer != owner:
            if not body.HasField("original"):
                raise SignatureRefused(f"a merge of {owner}'s comes without its own envelope")
            owners = innermost(node, body.original, message.peer, "series_merge")
        stated = owners.series_merge
        if owners.issuer != owner:
            raise SignatureRefused("the envelope inside is not by the series' owner")
        if (stated.id, stated.series, stated.merged) != (body.id, body.series, body.merged):
            raise SignatureRefused("the envelope inside is about something else")
        alias = Alias(
            merged=body.merged,
            series=body.series,
            id=body.id,
            person=owners.person,
            at=stated_time(node, stated.merge_time),
            envelope=message.request.envelope.SerializeToString(),
        )

        def effect(tx: Tx) -> None:
            if not tx.aliases.add(alias):
                return
            tx.history.add(
                SeriesEvent(
                    id=new_id(),
                    series=alias.merged,
                    kind=EventKind.MERGED,
                    agency=owner,
                    person=alias.person,
                    at=alias.at,
                    before=alias.merged,
                    after=alias.series,
                )
            )
            for agency in sorted(agencies_told(node, tx, alias.merged) - {message.peer}):
                tell_merge(node, tx, alias, agency)
                message.woken.add(agency)

        return alias.merged, effect
