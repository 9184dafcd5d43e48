"""An owner's word about series of its own, as it comes: directly, or with whoever told it on."""

from __future__ import annotations

from typing import Any

from tieline.v1 import payload_pb2
from tieline_client.errors import InvalidInput, SignatureRefused
from tieline_client.identifiers import check_id, series_owner

from tieline_server.services.context import Node
from tieline_server.services.incoming import Message, innermost

_WORDS = {"retraction": "retraction", "series_merge": "merge", "series_split": "split"}
"""What each kind is called in a refusal."""


def owners_word(node: Node, message: Message, kind: str) -> payload_pb2.Payload:
    """Return the payload in which a series' owner says what ``message`` tells.

    1. Its id is one, and all series in it are of one owner: two series, where it names two.
    2. That is not this agency.
    3. From somebody else it comes with the owner's envelope inside (`incoming.innermost`).
    4. Whoever signed that is the owner, and it says the same of the same series.

    Raises InvalidInput for 1 and 2, SignatureRefused for 3 and 4.
    """
    body: Any = getattr(message.payload, kind)
    series = named(kind, body)
    # 1
    check_id(body.id, _WORDS[kind])
    owner = series_owner(series[0])
    if len(set(series)) < len(series) or {series_owner(one) for one in series} != {owner}:
        raise InvalidInput(f"a {_WORDS[kind]} is of two series of one owner")
    # 2
    if owner == node.agency:
        raise InvalidInput("the series is this agency's own")
    # 3
    owners = message.payload
    if message.peer != owner:
        if not body.HasField("original"):
            raise SignatureRefused(f"a {_WORDS[kind]} of {owner}'s comes without its own envelope")
        owners = innermost(node, body.original, message.peer, kind)
    # 4
    if owners.issuer != owner:
        raise SignatureRefused("the envelope inside is not by the series' owner")
    stated: Any = getattr(owners, kind)
    if (stated.id, named(kind, stated)) != (body.id, series):
        raise SignatureRefused("the envelope inside is about something else")
    return owners


def named(kind: str, body: Any) -> tuple[str, ...]:
    """Return the series that a body of a kind is about, the owner's each."""
    if kind == "series_merge":
        return body.merged, body.series
    if kind == "series_split":
        return body.series, body.made.id
    return (body.series,)
