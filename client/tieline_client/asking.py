"""A person's question to their own node: what stays at home, the list, the answers.

1. The node says what may be asked abroad (GetAskTerms).
2. The records that may be become one list, packed and sorted; the rest is counted.
3. Header and list go to the node. If digests of it are known good there, the node asks nobody and
   names them: their records leave the list, with all their digests, and it is sent again.
4. Otherwise the node says who is asked, and then peer by peer what they hold too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np
from tieline.v1 import operator_pb2 as pb

from tieline_client import limits
from tieline_client.asked_file import AskedFile
from tieline_client.asked_list import AskedList, AskTerms, ListBuilder
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput, MalformedMessage, WrongState
from tieline_client.operator_connection import OperatorConnection, make
from tieline_client.overlap_answers import Event, Gathering
from tieline_client.packed import Index
from tieline_client.screening import category_of


@dataclass(frozen=True, slots=True)
class AskOptions:
    """How to ask. No ``peers`` and not ``everyone``: those that policy lists for the purpose."""

    purpose: str
    case_ref: str
    peers: tuple[str, ...] = ()
    everyone: bool = False
    near: bool = False
    category: tuple[str, str] = ("", "")
    """Scheme and code of records that carry none."""
    deadline_seconds: int = 0
    wish: int = 0
    """The level asked for where a person has to confirm: 2 count, 3 reference, 4 detail."""


def build_list(terms: AskTerms, file: AskedFile, options: AskOptions) -> AskedList:
    """Return what may be asked of a file's records; raises as `AskedFile.fill`."""
    builder = ListBuilder(terms, near=options.near, stated=category_of(*options.category))
    file.fill(builder)
    return builder.build()


def ask(
    connection: OperatorConnection,
    asked: AskedList,
    options: AskOptions,
    on_event: Callable[[Event], None],
    *,
    digest_later: bool = False,
) -> None:
    """Ask peers which records of a list they hold; ``on_event`` is called as they answer.

    ``digest_later`` sends a long list while its digest is still being worked out.
    """
    if DigestKind.PDQ in asked.columns and not options.near:
        raise InvalidInput("the list holds perceptual hashes; ask with near")
    for _ in range(1 + limits.EXCLUSION_ROUNDS):
        known = _converse(connection, asked, options, on_event, digest_later)
        if not known:
            return
        asked = asked.without(known)
    raise WrongState("exclusion lists grew while this was asked, and nobody was; ask again")


def _converse(
    connection: OperatorConnection,
    asked: AskedList,
    options: AskOptions,
    on_event: Callable[[Event], None],
    digest_later: bool,
) -> dict[DigestKind, Index]:
    """Send the list once; return the positions of what is known good, and nobody was asked."""
    gathering = Gathering(asked)
    known: dict[DigestKind, list[Index]] = {}
    for message in _responses(connection, asked, options, digest_later):
        if message.HasField("known_good"):
            kind, positions = _known_good(asked, message.known_good)
            known.setdefault(kind, []).append(positions)
        elif (event := gathering.take(message)) is not None:
            on_event(event)
    return {kind: np.concatenate(parts) for kind, parts in known.items()}


def _responses(
    connection: OperatorConnection, asked: AskedList, options: AskOptions, digest_later: bool
) -> Iterator[pb.AskOverlapResponse]:
    answering = options.deadline_seconds or limits.QUERY_SECONDS
    deadline = limits.ASK_SENDING_SECONDS + answering
    if sum(asked.counts()) <= limits.DIGESTS_BRIEF:
        header = _header(asked, options, asked.digest)
        brief = pb.AskBriefRequest(header=header, lists=(one.to_wire() for one in asked.batches()))
        for bundle in connection.read(connection.stub.AskBrief(brief, timeout=deadline)):
            yield from bundle.parts
        return
    header = _header(asked, options, b"" if digest_later else asked.digest)
    first = pb.AskOverlapRequest(header=header).SerializeToString()
    parts = _with_digest(asked) if digest_later else (one.message for one in asked.batches())
    yield from connection.converse(connection.ask_stream, chain([first], parts), deadline)


def _with_digest(asked: AskedList) -> Iterator[bytes]:
    """Yield the list as it travels, and its digest as soon as another thread has worked it out:
    for a million digests that takes ten milliseconds, in which the list is half-way."""
    with ThreadPoolExecutor(1) as pool:
        digest: Future[bytes] | None = pool.submit(lambda: asked.digest)
        for batch in asked.batches():
            if digest is not None and digest.done():
                yield pb.AskOverlapRequest(list_digest=digest.result()).SerializeToString()
                digest = None
            yield batch.message
        if digest is not None:
            yield pb.AskOverlapRequest(list_digest=digest.result()).SerializeToString()


def _header(asked: AskedList, options: AskOptions, digest: bytes) -> pb.AskHeader:
    return make(
        pb.AskHeader,
        purpose=options.purpose,
        case_ref=options.case_ref,
        peers=options.peers,
        all=options.everyone,
        near=options.near,
        deadline_seconds=options.deadline_seconds,
        records=len(asked),
        excluded=asked.excluded,
        counts=asked.counts(),
        list_digest=digest,
        wish=options.wish,
    )


def _known_good(asked: AskedList, message: pb.KnownGood) -> tuple[DigestKind, Index]:
    counts = dict(zip(map(int, DigestKind), asked.counts(), strict=True))
    positions = np.array(message.positions, dtype=np.uint64)
    if not len(positions) or (positions >= counts.get(message.kind, 0)).any():
        raise MalformedMessage("the node names known good digests that were not asked")
    return DigestKind(message.kind), positions.astype(np.int64)
