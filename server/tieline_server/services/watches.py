"""Standing queries of this agency's people: added, listed, removed, ended by their day.

1. A list comes in pieces, each kept encrypted as it comes; nothing counts before the last one, with
   the audit entry. What is on an exclusion list is named, and nothing is kept.
2. Until its day a list is asked by watch_runs.py. Then, or when a person removes it, or nothing of
   it is left after a series was taken back, it ends, with an audit entry; its list is deleted.
3. A list stays here: peers get it as any question, and keep nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from tieline.v1 import digests_pb2
from tieline.v1 import operator_watches_pb2 as pb
from tieline_client import limits
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind
from tieline_client.errors import (
    InvalidInput,
    LimitExceeded,
    MalformedMessage,
    NotFound,
    WrongState,
)
from tieline_client.identifiers import check_id, new_id
from tieline_client.packed import Index
from tieline_client.payloads import moment, timestamp

from tieline_server.domain.audit import salted
from tieline_server.domain.ports import Tx
from tieline_server.domain.watch import Caller, Notice, Position, Watch, WatchState, percent
from tieline_server.services import watch_lists
from tieline_server.services.admission import listed
from tieline_server.services.consulting import Consultations
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.list_check import ListCheck
from tieline_server.services.peer_round import choose_peers


class NewWatch:
    """A standing query that is coming in: `take` its columns, `finish` it; else `abandon`."""

    def __init__(self, node: Node, person: Person, header: pb.WatchHeader) -> None:
        """Raises InvalidInput, UnknownAgency, LimitExceeded."""
        self._node, self._header = node, header
        self._watch = _stated(node, person, header)
        self._check = ListCheck(header.counts, header.list_digest)
        self._pieces = 0
        self._known_good: list[tuple[DigestKind, Index]] = []
        self._seen = np.zeros(self._watch.records, dtype=bool)
        self._has_exclusions = node.store.read(lambda tx: tx.imports.has_exclusions())
        self._check_kinds()
        node.store.write(self._begin)

    def _check_kinds(self) -> None:
        if self._check.counts[DigestKind.PDQ] and not self._watch.near:
            raise InvalidInput("perceptual hashes are watched with near only")
        most = max(self._check.counts.values())
        if most > self._watch.records:
            raise InvalidInput("the header's counts are not those of its records")

    def _begin(self, tx: Tx) -> None:
        self._check_room(tx)
        tx.watches.add(self._watch)

    def _check_room(self, tx: Tx) -> None:
        active = tx.watches.find(limit=limits.WATCHES_MOST)
        if len(active) >= limits.WATCHES_MOST:
            raise LimitExceeded(
                f"this agency has {limits.WATCHES_MOST} standing queries; remove one first"
            )
        total = sum(one.records for one in active) + self._watch.records
        if total > limits.WATCHED_RECORDS_MOST:
            raise LimitExceeded(
                f"with these, {total} items would be watched and {limits.WATCHED_RECORDS_MOST} may "
                "be; remove a standing query, or watch fewer"
            )

    def take(self, column: digests_pb2.DigestColumn) -> None:
        """Keep the next digests. Raises InvalidInput, MalformedMessage, InvalidDigest."""
        batch = DigestBatch.from_wire(column.list)
        if len(column.items) != len(batch) or column.extra_digests or column.extra_items:
            raise MalformedMessage("each digest of a standing query names its one item")
        if len(batch) > limits.WATCH_PIECE_DIGESTS:
            raise LimitExceeded(f"a column holds {limits.WATCH_PIECE_DIGESTS} digests at most")
        before = self._check.take(batch)
        items = np.array(column.items, dtype=np.int64)
        if len(items) and int(items.max()) >= self._watch.records:
            raise InvalidInput("a digest names an item that the header does not announce")
        self._seen[items] = True
        if self._has_exclusions:
            found = listed(self._node.store, batch.kind, batch.rows)
            if len(found):
                self._known_good.append((batch.kind, found + before))
        if self._known_good or not len(batch):
            return
        piece = watch_lists.seal(
            *(self._node, self._watch.id, self._pieces, batch.kind, batch.rows, items)
        )
        number = self._pieces
        self._node.store.write(lambda tx: tx.watches.add_piece(self._watch.id, number, piece))
        self._pieces += 1

    def finish(self) -> Iterator[pb.AddWatchResponse]:
        """Make it count. Raises InvalidInput when the list is not the announced one."""
        self._check.finish()
        if not self._seen.all():
            raise InvalidInput("the header announces items that have no digest")
        if self._known_good:
            self.abandon()
            yield from _known_good_messages(self._known_good)
            return
        node, watch = self._node, self._watch

        def work(tx: Tx) -> Watch:
            self._check_room(tx)
            tx.watches.activate(watch.id)
            tx.audit.append(
                node.entry(
                    "watch.added",
                    person=watch.person,
                    purpose=watch.purpose,
                    case_ref=watch.case_ref,
                    subjects=(watch.id,),
                    records=watch.records,
                    excluded=watch.excluded,
                    until=watch.until.isoformat(),
                    priority=watch.priority,
                    peers=list(watch.peers),
                    **salted(self._header.list_digest),
                )
            )
            found = tx.watches.get(watch.id)
            assert found is not None
            return found

        yield pb.AddWatchResponse(watch=_view(node.store.write(work), ()))

    def abandon(self) -> None:
        """Nothing of it is kept, unless it counts already."""
        self._node.store.write(lambda tx: tx.watches.drop(self._watch.id))


class WatchDesk:
    """Lists and removes standing queries, and ends those whose day has come."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._consultations = Consultations(node)

    def find(self, *, ended: bool = False) -> list[pb.WatchView]:
        """Return them as they stand."""

        def work(tx: Tx) -> list[pb.WatchView]:
            found = tx.watches.find(ended=ended)
            return [_view(one, tx.watches.positions(one.id)) for one in found]

        return self._node.store.read(work)

    def get(self, person: Person, watch: str, *, matches: bool) -> pb.GetWatchResponse:
        """Return one with its notices, and what matched. Raises NotFound."""
        node = self._node

        def work(tx: Tx) -> pb.GetWatchResponse:
            found = _known(tx, watch)
            positions = tx.watches.positions(watch)
            response = pb.GetWatchResponse(watch=_view(found, positions))
            notices = tx.watches.notices(watch, limits.WATCH_NOTICES_SHOWN)
            response.notices.extend(map(_notice_view, notices))
            if matches and found.state is WatchState.ACTIVE:
                response.matches.extend(_matches(node, tx, watch, positions))
            return response

        response = node.store.read(work)
        if matches:
            self._consultations.note(person, "watch.consulted", (watch,))
        return response

    def remove(self, person: Person, watch: str) -> pb.WatchView:
        """End one. Raises NotFound, WrongState when it has ended."""

        def work(tx: Tx) -> pb.WatchView:
            found = _known(tx, watch)
            if found.state is not WatchState.ACTIVE:
                raise WrongState(f"standing query {watch} has ended already: {found.state.value}")
            end(self._node, tx, found, WatchState.REMOVED, person.name)
            return _view(_known(tx, watch), tx.watches.positions(watch))

        return self._node.store.write(work)

    def tidy(self) -> int:
        """End those whose day has come, drop those that never came in whole; return how many."""
        node, now = self._node, self._node.clock()

        def due(tx: Tx) -> tuple[list[Watch], list[str]]:
            active = tx.watches.find()
            return [one for one in active if one.until <= now], [
                *tx.watches.coming(now - limits.WATCH_COMING)
            ]

        ended, dropped = node.store.read(due)

        def work(tx: Tx) -> None:
            for one in ended:
                found = tx.watches.get(one.id)
                if found is not None and found.state is WatchState.ACTIVE:
                    end(node, tx, found, WatchState.EXPIRED)
            for gone in dropped:
                tx.watches.drop(gone)

        if ended or dropped:
            node.store.write(work)
        return len(ended)


def end(
    node: Node, tx: Tx, watch: Watch, state: WatchState, person: str = "", why: str = ""
) -> None:
    """End a standing query, with its audit entry."""
    tx.watches.end(watch.id, state, node.clock())
    tx.audit.append(
        node.entry(
            f"watch.{state.value}",
            person=person,
            purpose=watch.purpose,
            case_ref=watch.case_ref,
            subjects=(watch.id,),
            why=why,
        )
    )


def _stated(node: Node, person: Person, header: pb.WatchHeader) -> Watch:
    """Return what a person states, checked."""
    now = node.clock()
    node.check_purpose(header.purpose, header.case_ref)
    until = moment(header.until_time)
    if until <= now:
        raise InvalidInput("a standing query ends in the future; say --until DATE")
    if until > now + limits.WATCH_LIFE:
        raise InvalidInput(
            f"a standing query stands for {limits.WATCH_LIFE.days} days at most; state it anew then"
        )
    if not 0 < header.records <= limits.WATCH_RECORDS:
        raise LimitExceeded(
            f"a standing query holds 1 to {limits.WATCH_RECORDS} items; split the file"
        )
    if header.priority > 255:
        raise InvalidInput("a priority is a number from 0 to 255; a higher one goes first")
    if header.peers:
        choose_peers(node, header.purpose, header.peers, everyone=False)
    return Watch(
        id=new_id(),
        name=clean(header.name),
        person=person.name,
        purpose=header.purpose,
        case_ref=clean(header.case_ref),
        reference=clean(header.reference),
        priority=header.priority,
        created=now,
        until=until,
        near=header.near,
        records=header.records,
        excluded=header.excluded,
        counts=tuple(header.counts),
        peers=tuple(dict.fromkeys(header.peers)),
        alert=clean(header.alert),
        caller=Caller(
            clean(header.contact.organization),
            clean(header.contact.name),
            clean(header.contact.phone),
            clean(header.contact.email),
            clean(header.contact.title),
        ),
    )


def _known(tx: Tx, watch: str) -> Watch:
    found = tx.watches.get(check_id(watch, "standing query"))
    if found is None or found.state is WatchState.COMING:
        raise NotFound(f"there is no standing query {watch[:80]}; see `tieline watch list --ended`")
    return found


def _known_good_messages(found: list[tuple[DigestKind, Index]]) -> Iterator[pb.AddWatchResponse]:
    for kind, positions in found:
        for start in range(0, len(positions), limits.HITS_PER_BATCH):
            part = positions[start : start + limits.HITS_PER_BATCH].tolist()
            known = pb.WatchKnownGood(kind=int(kind), positions=part)  # type: ignore[arg-type]
            yield pb.AddWatchResponse(known_good=known)


def _matches(
    node: Node, tx: Tx, watch: str, positions: Sequence[Position]
) -> Iterator[pb.WatchMatches]:
    """Yield the digests of what matched, by peer, as many of each kind as a list holds."""
    asked = watch_lists.load(node, tx, watch)
    numbers = asked.numbers_of(np.arange(len(asked), dtype=np.int64))
    for one in positions:
        records = np.flatnonzero(np.isin(numbers, one.matched))
        if not len(records):
            continue
        some = watch_lists.chosen(asked, records)
        left = np.ones(len(some), dtype=bool)
        message = pb.WatchMatches(agency=one.peer)
        for kind in (DigestKind.SHA256, DigestKind.SHA1, DigestKind.MD5, DigestKind.PDQ):
            column = some.columns.get(kind)
            if column is None:
                continue
            which, owners = column.owners(np.arange(len(column.digests), dtype=np.int64))
            rows = column.digests[which[left[owners]]][: limits.DIGESTS_PER_BATCH]
            left[owners] = False
            if len(rows):
                message.lists.append(DigestBatch.of(kind, rows.tobytes()).to_wire())
        yield message


def _view(watch: Watch, positions: Sequence[Position]) -> pb.WatchView:
    caller = watch.caller
    header = pb.WatchHeader(
        name=watch.name,
        purpose=watch.purpose,
        case_ref=watch.case_ref,
        reference=watch.reference,
        priority=watch.priority,
        until_time=timestamp(watch.until),
        near=watch.near,
        peers=watch.peers,
        records=watch.records,
        excluded=watch.excluded,
        counts=watch.counts,
        alert=watch.alert,
        contact=pb.WatchContact(
            organization=caller.organization,
            name=caller.name,
            phone=caller.phone,
            email=caller.email,
            title=caller.title,
        ),
    )
    view = pb.WatchView(
        id=watch.id,
        header=header,
        person=watch.person,
        create_time=timestamp(watch.created),
        state=watch.state.value,
        end_time=_stamp(watch.ended),
        parts=watch.parts,
    )
    for one in positions:
        view.peers.append(
            pb.WatchPeer(
                agency=one.peer,
                status=one.status,
                reason=one.reason,
                matched=len(one.matched),
                percent=percent(len(one.matched), watch.records),
                ask_time=_stamp(one.completed),
                generation=one.generation,
                part=one.part,
                next_time=_stamp(one.not_before),
            )
        )
    return view


def _notice_view(notice: Notice) -> pb.WatchNoticeView:
    return pb.WatchNoticeView(
        id=notice.id,
        agency=notice.peer,
        time=timestamp(notice.at),
        fresh=notice.fresh,
        matched=notice.matched,
        records=notice.records,
        percent=percent(notice.matched, notice.records),
        receipt=notice.receipt,
        told=notice.told,
        series=[
            pb.WatchSeries(
                id=one.id,
                status=one.status,
                references=one.references,
                contact_name=one.contact_name,
                contact_email=one.contact_email,
                contact_phone=one.contact_phone,
            )
            for one in notice.series
        ],
    )


def _stamp(time: datetime | None) -> Timestamp | None:
    return None if time is None else timestamp(time)
