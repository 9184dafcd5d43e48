"""Standing queries over the bench: added as a person's client does, asked as a night does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from google.protobuf.message import Message
from tieline.v1 import operator_watches_pb2 as pb
from tieline_client import constraints
from tieline_client.asked_list import AskTerms, ListBuilder
from tieline_client.formats.record import Record
from tieline_client.watch_list import WatchOptions, requests
from tieline_server.services.watch_runs import Ended, WatchRuns
from tieline_server.services.watches import NewWatch, WatchDesk

from tests.services.bench import ANA, CASE, PURPOSE, Bench, Running


def options(bench: Bench, **changes: object) -> WatchOptions:
    """What to state, for thirty days unless changed."""
    fields: dict[str, object] = {
        "purpose": PURPOSE,
        "case_ref": CASE,
        "until": bench.now + timedelta(days=30),
    } | changes
    return WatchOptions(**fields)  # type: ignore[arg-type]


def add(running: Running, records: Sequence[Record], **changes: object) -> list[Message]:
    """Add a standing query through the wire's bytes; return what the node says."""
    builder = ListBuilder(
        AskTerms(running.node.defaults.categories), near=bool(changes.get("near"))
    )
    for one in records:
        builder.add(one)
    stated = options(running.bench, **changes)
    made: NewWatch | None = None
    for request in requests(builder.build(), stated):
        came = constraints.open_nested(request.SerializeToString(), pb.AddWatchRequest)
        if came.HasField("header"):
            made = NewWatch(running.node, ANA, came.header)
        else:
            assert made is not None
            made.take(came.column)
    assert made is not None
    return list(made.finish())


def watch(running: Running, records: Sequence[Record], **changes: object) -> str:
    """Add one; return its id."""
    (said,) = add(running, records, **changes)
    assert isinstance(said, pb.AddWatchResponse)
    return said.watch.id


def view(running: Running, identifier: str, *, matches: bool = False) -> pb.GetWatchResponse:
    """How it stands."""
    return WatchDesk(running.node).get(ANA, identifier, matches=matches)


def peer(running: Running, identifier: str, agency: str) -> pb.WatchPeer:
    """How far a peer was asked."""
    found = view(running, identifier).watch.peers
    return next(one for one in found if one.agency == agency)


def by_hand(running: Running, *only: str) -> dict[str, Ended]:
    """Run as a person; what came of each peer."""
    return {one.peer: one for one in WatchRuns(running.node).run(only)}


def by_night(running: Running) -> dict[str, Ended]:
    """Run as housekeeping does."""
    return {one.peer: one for one in WatchRuns(running.node).run(by_hand=False)}


def greet(bench: Bench, *agencies: str) -> None:
    """Have nodes contact one another, as they do hourly."""
    for one in agencies:
        for other in agencies:
            if one != other:
                bench[one].contacts.contact(other)
