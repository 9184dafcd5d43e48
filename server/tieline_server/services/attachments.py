"""A series' items on their way: cut into chunks at the sender, staged as they come at the receiver.

An attachment is known by the SHA-256 over its series and its chunks' SHA-256. The sender keeps the
chunks as sent, so a broken transfer goes on at any chunk and gives the same bytes. The receiver
stages each chunk durably and invisibly; the signed message that names the attachment makes all of
it count, or, when anything differs, none of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from tieline.v1 import delivery_pb2, digests_pb2, series_pb2
from tieline_client import constraints, limits
from tieline_client.errors import InvalidInput, LimitExceeded, PolicyRefused, WrongState
from tieline_client.handling import Handling
from tieline_client.identifiers import new_id, series_owner

from tieline_server.domain.policy import Action
from tieline_server.domain.ports import Attachment, ImportHead, ItemRow, StageCounts, Tx
from tieline_server.services.context import Node
from tieline_server.services.held_under import with_items
from tieline_server.services.importing import discard
from tieline_server.services.item_chunks import decode, encode
from tieline_server.services.restricting import why_excluded
from tieline_server.services.standing import Standings

_OPEN_MOST = limits.ATTACHMENTS_OPEN_PER_PEER
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Packed:
    """A series' items, ready to travel."""

    attachment: Attachment
    chunks: tuple[bytes, ...]

    def reference(self) -> series_pb2.AttachmentRef:
        """What the signed message says of them."""
        one = self.attachment
        return series_pb2.AttachmentRef(id=one.id, chunks=one.chunks, items=one.items)


def pack_series(
    node: Node, series: str, peer: str, since: int = 0, under: Handling | None = None
) -> Packed | None:
    """Return the items of a series that came after generation ``since``; None when there are none.

    ``under`` is what policy was asked about. Raises WrongState where items came under more
    meanwhile, LimitExceeded over ``limits.ITEMS_PER_ATTACHMENT``.
    """
    chunks: list[bytes] = []
    items = after = 0
    while True:
        page = _page(node, series, after, since)
        if not page:
            break
        items += len(page)
        if items > limits.ITEMS_PER_ATTACHMENT:
            raise LimitExceeded(
                f"series {series} has over {limits.ITEMS_PER_ATTACHMENT} items; split it"
            )
        chunks.append(encode(page, node.agency).SerializeToString(deterministic=True))
        after = page[-1].id
    if not chunks:
        return None
    if under is not None and node.store.read(lambda tx: _grew_stricter(tx, series, under)):
        raise WrongState(f"items came into {series} under more restrictions; do it again")
    digests = [hashlib.sha256(chunk).digest() for chunk in chunks]
    attachment = Attachment(_name(series, digests), peer, len(chunks), items, series=series)
    return Packed(attachment, tuple(chunks))


def _grew_stricter(tx: Tx, series: str, under: Handling) -> bool:
    now = tx.series.get(series)
    if now is None:
        return False
    handling = with_items(tx, now).handling
    return handling.code > under.code or handling.tlp > under.tlp


def _page(node: Node, series: str, after: int, since: int) -> Sequence[ItemRow]:
    return node.store.read(
        lambda tx: tx.items.of_series(
            series, after=after, limit=limits.ITEMS_PER_CHUNK, since=since
        )
    )


def _name(series: str, digests: Sequence[bytes]) -> str:
    return hashlib.sha256(series.encode() + b"".join(digests)).hexdigest()


class Receiver:
    """The receiving side: stages chunks of peers."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def put(
        self, peer: str, request: delivery_pb2.PutChunkRequest
    ) -> delivery_pb2.PutChunkResponse:
        """Stage a chunk if it is the next one; answer which comes next. Durable on return."""
        Standings(self._node).check_peer(peer)
        attachment = self._incoming(peer, request)
        if request.chunk and request.index >= attachment.chunks:
            raise InvalidInput(f"the attachment has {attachment.chunks} chunks only")
        received = self._node.store.read(lambda tx: tx.attachments.received(peer, attachment.id))
        if request.chunk and request.index == len(received):
            self._stage(peer, attachment, request)
            return delivery_pb2.PutChunkResponse(next_index=request.index + 1)
        return delivery_pb2.PutChunkResponse(next_index=len(received))

    def _stage(
        self, peer: str, attachment: Attachment, request: delivery_pb2.PutChunkRequest
    ) -> None:
        chunk = constraints.open_nested(request.chunk, digests_pb2.ItemChunk)
        expected = min(
            attachment.items - request.index * limits.ITEMS_PER_CHUNK, limits.ITEMS_PER_CHUNK
        )
        if chunk.items != expected:
            raise InvalidInput(
                f"chunk {request.index} has {chunk.items} items, not the {expected} announced"
            )
        columns = decode(chunk, peer)
        held = replace(columns, series=columns.series + np.int32(1), series_names=(request.series,))
        digest = hashlib.sha256(request.chunk).digest()

        def work(tx: Tx) -> StageCounts | None:
            if len(tx.attachments.received(peer, attachment.id)) != request.index:
                return None
            tx.attachments.add_received(peer, attachment.id, request.index, digest)
            return tx.imports.stage_columns(attachment.import_id, held, (request.series,), peer)

        self._node.store.index.catch_up()
        self._node.store.write(work)

    def _incoming(self, peer: str, request: delivery_pb2.PutChunkRequest) -> Attachment:
        node = self._node
        known = node.store.read(lambda tx: tx.attachments.incoming(peer, request.attachment))
        if known is not None:
            announced = (request.chunks, request.items, request.series)
            if (known.chunks, known.items, known.series) != announced:
                raise InvalidInput("the attachment was announced with other counts")
            return known
        self._check_new(peer, request)
        if node.store.read(lambda tx: tx.attachments.open_of(peer)) >= _OPEN_MOST:
            raise LimitExceeded(
                f"{_OPEN_MOST} attachments of {peer} wait for their messages; send those first"
            )
        now = node.clock()
        head = ImportHead(
            id=new_id(),
            source=f"{request.kind} from {peer}",
            format="attachment",
            person="",
            agency=peer,
            case_ref="",
            handling=node.defaults.handling(now.date()),
            created=now,
            fingerprint=f"{peer}:{request.attachment}",
            answerable=False,
        )
        attachment = Attachment(
            request.attachment,
            peer,
            request.chunks,
            request.items,
            import_id=head.id,
            series=request.series,
        )

        def work(tx: Tx) -> Attachment:
            found = tx.attachments.incoming(peer, request.attachment)
            if found is not None:
                return found
            tx.imports.begin(head)
            tx.attachments.open_incoming(attachment, now)
            return attachment

        return node.store.write(work)

    def _check_new(self, peer: str, request: delivery_pb2.PutChunkRequest) -> None:
        """Look before anything is staged: the message itself is judged when it comes."""
        node = self._node
        # All chunks but the last are full, so that the announced counts hold what may come.
        full = -(-request.items // limits.ITEMS_PER_CHUNK)
        if not _ID.fullmatch(request.attachment) or not 1 <= request.chunks == full:
            raise InvalidInput(
                "an attachment has an id of 64 hex digits and items, "
                f"{limits.ITEMS_PER_CHUNK} in each chunk but the last"
            )
        if request.items > limits.ITEMS_PER_ATTACHMENT:
            raise LimitExceeded(f"at most {limits.ITEMS_PER_ATTACHMENT} items at once")
        owner = series_owner(request.series)
        why = node.store.read(lambda tx: why_excluded(tx, request.series, node.agency))
        if why:
            raise PolicyRefused(f"items of it may not be kept here: {why}")
        actions = {
            "upload": (Action.ACCEPT_UPLOAD, peer, node.agency),
            "referral": (Action.BE_TOLD, node.agency, peer),
            "broadcast": (Action.RECEIVE_BROADCAST, node.agency, peer),
        }
        if request.kind not in actions:
            raise InvalidInput("items come with a referral, a broadcast or an upload")
        action, asker, holder = actions[request.kind]
        node.directory().purpose(request.purpose)
        question = node.question(
            action, asker=asker, holder=holder, purpose=request.purpose, owner=owner
        )
        if request.kind == "referral":  # two officers may have stated vital interests: see there
            question = replace(question, vital_interests=True, second_officer=True)
        node.allow(question, f"items of a {request.kind} from {peer}")


def claim(
    tx: Tx,
    peer: str,
    reference: series_pb2.AttachmentRef,
    *,
    series: str,
    case_ref: str,
    handling: Handling,
    answerable: bool,
) -> Attachment:
    """Make a staged attachment count, inside the transaction of the message that names it.

    ``answerable``: the items answer peers' questions, as deposits do. Raises WrongState when chunks
    are missing (the sender sends them and tries again), InvalidInput when what came is not what the
    message names; nothing counts then.
    """
    attachment = tx.attachments.incoming(peer, reference.id)
    if attachment is None:
        raise WrongState("the items have not come yet; send the chunks first")
    if attachment.series != series:
        raise InvalidInput("the chunks came for another series")
    digests = tx.attachments.received(peer, reference.id)
    if len(digests) < attachment.chunks:
        raise WrongState(f"{len(digests)} of {attachment.chunks} chunks have come")
    announced = (attachment.chunks, attachment.items)
    if _name(series, digests) != reference.id or announced != (reference.chunks, reference.items):
        raise InvalidInput("the chunks are not those that the message names")
    tx.imports.amend(attachment.import_id, case_ref, handling, answerable=answerable)
    tx.imports.complete(attachment.import_id)
    tx.attachments.close_incoming(peer, reference.id)
    return attachment


def drop_incoming(node: Node, peer: str, attachment_id: str) -> None:
    """Erase a staged attachment whose message was refused."""
    attachment = node.store.read(lambda tx: tx.attachments.incoming(peer, attachment_id))
    if attachment is not None:
        node.store.write(lambda tx: tx.attachments.close_incoming(peer, attachment_id))
        discard(node.store, attachment.import_id)


def drop_stale(node: Node) -> int:
    """Erase staged attachments whose message has not come in STAGED_LIFE; return how many.

    A sender that comes back finds that the first chunk is next.
    """
    before = node.clock() - limits.STAGED_LIFE
    stale = node.store.read(lambda tx: list(tx.attachments.opened_before(before)))
    for one in stale:
        drop_incoming(node, one.peer, one.id)
    return len(stale)
