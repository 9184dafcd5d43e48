"""Merges that come in: an owner says that one of its series is part of another."""

from __future__ import annotations

from dataclasses import dataclass

from tieline_client.identifiers import new_id

from tieline_server.domain.merging import Alias
from tieline_server.domain.ports import Tx
from tieline_server.domain.series_life import EventKind, SeriesEvent
from tieline_server.services.context import Node
from tieline_server.services.incoming import Handled, Message, stated_time
from tieline_server.services.linking import tell_merge
from tieline_server.services.owners_word import owners_word
from tieline_server.services.retracting import agencies_told


@dataclass(frozen=True, slots=True)
class IncomingMerges:
    """Handles series_merge."""

    node: Node

    def merge(self, message: Message) -> Handled:
        """Keep that a series is part of another, and forward it to whom this node told the part."""
        node, body = self.node, message.payload.series_merge
        owners = owners_word(node, message, "series_merge")
        alias = Alias(
            merged=body.merged,
            series=body.series,
            id=body.id,
            person=owners.person,
            at=stated_time(node, owners.series_merge.merge_time),
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
                    agency=owners.issuer,
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
