"""Everything that the own agency holds beside what peers hold, series by series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tieline.v1 import operator_pb2 as pb

from tieline_client import limits
from tieline_client.asking import AskOptions
from tieline_client.errors import MalformedMessage
from tieline_client.operator_connection import OperatorConnection, make
from tieline_client.overlap_answers import SharedSeries


@dataclass(frozen=True, slots=True)
class CollectionStarted:
    """How many items the own agency holds, and who is asked."""

    items: int
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CollectionProgress:
    """How many of the items have been looked at."""

    items: int


@dataclass(frozen=True, slots=True)
class SeriesPair:
    """An own series beside one of a peer, and how many items both hold.

    ``own`` is empty for items in no series, ``theirs`` None where none is disclosed. ``own_items``
    counts the items of the own series that were asked.
    """

    own: str
    own_name: str
    own_items: int
    theirs: SharedSeries | None
    shared: int


@dataclass(frozen=True, slots=True)
class CollectionAnswer:
    """How one peer ended. ``asked`` and ``withheld`` count own items, ``shared`` those of both;
    the rest is as in PeerAnswer, the receipt that of the last part."""

    agency: str
    status: str
    reason: str
    count: int | None
    truncated: bool
    receipt: str
    disclosure: str
    asked: int
    withheld: int
    shared: int
    pairs: tuple[SeriesPair, ...]
    request: str = ""


Event = CollectionStarted | CollectionProgress | CollectionAnswer


def compare(
    connection: OperatorConnection, options: AskOptions, on_event: Callable[[Event], None]
) -> None:
    """Compare with peers; ``on_event`` is called as it proceeds. The options' category is not used.

    Raises MalformedMessage for answers that do not fit together.
    """
    request = make(
        pb.CompareCollectionRequest,
        purpose=options.purpose,
        case_ref=options.case_ref,
        peers=options.peers,
        all=options.everyone,
        near=options.near,
        deadline_seconds=options.deadline_seconds,
        wish=options.wish,
    )
    rows: dict[str, list[SeriesPair]] = {}
    answers = connection.stub.CompareCollection(request, timeout=limits.COLLECTION_SECONDS)
    for message in connection.read(answers):
        part = message.WhichOneof("part")
        if part == "started":
            rows = {agency: [] for agency in message.started.peers}
            on_event(CollectionStarted(message.started.items, tuple(rows)))
        elif part == "progress":
            on_event(CollectionProgress(message.progress.items))
        elif part == "rows":
            _of(rows, message.rows.agency).extend(map(_pair, message.rows.rows))
        elif part == "end":
            pairs = _of(rows, message.end.end.agency)
            del rows[message.end.end.agency]
            on_event(_answer(message.end, pairs))


def _of(rows: dict[str, list[SeriesPair]], agency: str) -> list[SeriesPair]:
    if agency not in rows:
        raise MalformedMessage(f"the node answers for {agency[:32]!r}, which was not asked")
    return rows[agency]


def _pair(row: pb.CollectionRow) -> SeriesPair:
    theirs = SharedSeries.of(row.theirs) if row.HasField("theirs") else None
    return SeriesPair(row.own, row.own_name, row.own_items, theirs, row.shared)


def _answer(message: pb.CollectionEnd, pairs: list[SeriesPair]) -> CollectionAnswer:
    end = message.end
    return CollectionAnswer(
        agency=end.agency,
        status=end.status,
        reason=end.reason,
        count=end.count if end.HasField("count") else None,
        truncated=end.truncated,
        receipt=end.receipt,
        request=end.request,
        disclosure=end.disclosure,
        asked=message.asked,
        withheld=message.withheld,
        shared=message.shared,
        pairs=tuple(pairs),
    )
