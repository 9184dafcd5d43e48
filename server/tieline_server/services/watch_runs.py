"""Standing queries asked again: what peers came to hold since the last time.

1. Once a night, or when a person says so, it is decided for each standing query and each peer that
   policy lists whether there is anything to ask (domain/watch.py:is_due): nothing twice for one
   generation of the peer's index. Those of the highest priority go first. Whom a run has in hand is
   marked in storage, so that another process, or a person's run beside it, leaves it alone.
2. The list is asked in parts, as any question is (peer_round.py): policy, log, signed header,
   budget there, receipt. The header names the epoch and generation of the receipt before, and the
   peer answers for what came to count since (disclosing.py); an older peer answers for all.
3. Each answer is settled in one transaction: how far the peer was asked, what matched that had not
   before as a notice with its alarm and audit entry, and the signed word to the holder, where
   policy lets this agency ask it. A run that ends here, or is killed, goes on with the next part.
4. A peer that cannot be reached is tried again after an hour, one that refuses on its next day:
   then its budget counts anew.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import structlog
from tieline_client import limits
from tieline_client.asked_list import AskedList
from tieline_client.digests import DigestKind
from tieline_client.errors import NotFound, TielineError, WrongState
from tieline_client.identifiers import check_id
from tieline_client.overlap_answers import PeerAnswer

from tieline_server.domain.budget import resets_at
from tieline_server.domain.ports import Tx
from tieline_server.domain.request import DEFAULT_WISH
from tieline_server.domain.watch import (
    Position,
    Watch,
    WatchState,
    advance,
    is_due,
)
from tieline_server.services import asked_lists, watch_lists
from tieline_server.services.admission import listed
from tieline_server.services.comparing import gathered
from tieline_server.services.context import Node
from tieline_server.services.peer_question import PeerResult
from tieline_server.services.peer_round import (
    Announced,
    Chosen,
    PeerRound,
    Rerun,
    Terms,
    choose_peers,
)
from tieline_server.services.watch_notices import checked_receipt, keep_notice, receipt_at
from tieline_server.services.watches import WatchDesk

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of one peer in a run. ``status`` is that of the answer, or unchanged; ``since``:
    it was asked for what is new alone."""

    watch: str
    peer: str
    status: str
    reason: str = ""
    fresh: int = 0
    since: bool = False


class WatchRuns:
    """Asks standing queries again. One run at a time in a process."""

    def __init__(
        self,
        node: Node,
        hour: int = limits.WATCH_HOUR,
        contact: Callable[[str], None] | None = None,
    ) -> None:
        """``hour`` of the day, UTC, from which on they are asked anew. ``contact`` exchanges words
        with a peer at once, so that a run knows who has anything new."""
        self._node, self._hour, self._contact = node, hour, contact
        self._desk = WatchDesk(node)
        self._stopping = threading.Event()
        self._one = threading.Lock()
        self._looked = False
        self._next = node.clock()
        self._thread: threading.Thread | None = None

    def stop(self) -> None:
        """End a run after the part that is being asked."""
        self._stopping.set()

    def look(self) -> None:
        """End what is past its day, and begin a run in a thread of its own when something is due;
        a job of housekeeping."""
        now = self._node.clock()
        if now < self._next:
            return
        if not (self._looked or self._node.store.shared):
            # Nobody else runs on this database: what a killed node had in hand is free.
            self._node.store.write(lambda tx: tx.watches.free())
        self._looked = True
        self._next = now + limits.WATCH_LOOK
        self._desk.tidy()
        if self._thread is not None and self._thread.is_alive():
            return
        if any(self._due(watch, by_hand=False) for watch in self._active()):
            self._thread = threading.Thread(target=self._nightly, name="watches", daemon=True)
            self._thread.start()

    def _nightly(self) -> None:
        try:
            self.run(by_hand=False)
        except TielineError as error:
            _log.warning("watches.wait", reason=error.reason, text=error.message)
        except Exception as error:  # noqa: BLE001 - it is looked at again in a minute
            _log.error("watches.failed", error=type(error).__name__, text=str(error))

    def run(self, only: Sequence[str] = (), *, by_hand: bool = True) -> list[Ended]:
        """Ask what is due, and return what came of it. Raises NotFound for one that is not active,
        WrongState while a run is under way."""
        if not self._one.acquire(blocking=False):
            raise WrongState("standing queries are being asked already; see `tieline watch list`")
        try:
            self._desk.tidy()
            active = self._active()
            for wanted in only:
                if check_id(wanted, "standing query") not in {one.id for one in active}:
                    raise NotFound(f"there is no standing query {wanted[:80]} that is active")
            chosen = [one for one in active if not only or one.id in only]
            self._hear_of(chosen)
            ends: list[Ended] = []
            for watch in chosen:
                if self._stopping.is_set():
                    break
                ends += self._run(watch, by_hand=by_hand)
            return ends
        finally:
            self._one.release()

    def _hear_of(self, watches: Sequence[Watch]) -> None:
        """Have those that may be asked say how their indexes stand, where they can be reached."""
        peers = sorted({peer for watch in watches for peer in self._chosen(watch).peers})
        contact = self._contact
        if contact is None or not peers:
            return

        def one(peer: str) -> None:
            with contextlib.suppress(TielineError):
                contact(peer)

        with ThreadPoolExecutor(min(len(peers), limits.GREETERS)) as threads:
            list(threads.map(one, peers))

    def _active(self) -> Sequence[Watch]:
        return self._node.store.read(lambda tx: tx.watches.find())

    # 1
    def _chosen(self, watch: Watch) -> Chosen:
        return choose_peers(
            *(self._node, watch.purpose, watch.peers), everyone=False, case_ref=watch.case_ref
        )

    def _due(self, watch: Watch, *, by_hand: bool) -> list[str]:
        now, chosen = self._node.clock(), self._chosen(watch)

        def work(tx: Tx) -> list[str]:
            heard = tx.watches.heard()
            positions = {one.peer: one for one in tx.watches.positions(watch.id)}
            return [
                peer
                for peer in chosen.peers
                if is_due(
                    positions.get(peer, Position(watch.id, peer)),
                    *(heard.get(peer), now, self._hour),
                    by_hand=by_hand,
                )
            ]

        return self._node.store.read(work)

    def _claim(self, watch: Watch, due: Sequence[str], *, by_hand: bool) -> dict[str, Position]:
        """Take peers in hand, those that another run has not; return where each stands."""
        now = self._node.clock()

        def work(tx: Tx) -> dict[str, Position]:
            heard, taken = tx.watches.heard(), {}
            for peer in due:
                position = tx.watches.position(watch.id, peer)
                if is_due(position, heard.get(peer), now, self._hour, by_hand=by_hand):
                    taken[peer] = replace(position, claimed=now + limits.WATCH_CLAIM)
                    tx.watches.put_position(taken[peer])
            return taken

        return self._node.store.write(work)

    def _let_go(self, watch: Watch, peers: Sequence[str]) -> None:
        def work(tx: Tx) -> None:
            for peer in peers:
                position = tx.watches.position(watch.id, peer)
                tx.watches.put_position(replace(position, claimed=None))

        if peers:
            self._node.store.write(work)

    def _run(self, watch: Watch, *, by_hand: bool) -> list[Ended]:
        chosen = self._chosen(watch)
        hand = self._claim(watch, self._due(watch, by_hand=by_hand), by_hand=by_hand)
        ends = [
            Ended(watch.id, peer, "unchanged", self._why_not(watch, peer))
            for peer in chosen.peers
            if peer not in hand and by_hand
        ]
        ends += [
            Ended(watch.id, refused.agency, "refused", refused.reason) for refused in chosen.refused
        ]
        todo, taken = dict(hand), list(hand)
        asked: AskedList | None = None
        try:
            while todo and not self._stopping.is_set():
                asked = self._still(watch, asked)
                if asked is None:
                    break
                part = min(one.part for one in todo.values())
                group = {peer: one for peer, one in todo.items() if one.part == part}
                for end, position in self._ask(watch, asked, part, group, chosen):
                    ends.append(end)
                    done = position is None or (position.part == 0 and position.completed)
                    if done or position is None:
                        del todo[end.peer]
                    else:
                        todo[end.peer] = position
        finally:
            self._let_go(watch, taken)
        return _together(ends)

    def _why_not(self, watch: Watch, peer: str) -> str:
        position = self._node.store.read(lambda tx: tx.watches.position(watch.id, peer))
        in_hand = position.claimed is not None and position.claimed > self._node.clock()
        return "another run has it in hand" if in_hand else "nothing is new there"

    def _still(self, watch: Watch, before: AskedList | None) -> AskedList | None:
        """Return the list while the standing query stands: it may end amid a run, or shrink.

        ``before`` is what it was; while it is, it is not opened anew.
        """
        node = self._node

        def work(tx: Tx) -> AskedList | None:
            now = tx.watches.get(watch.id)
            if now is None or now.state is not WatchState.ACTIVE or now.until <= node.clock():
                return None
            if before is not None and len(before) == now.records:
                return before
            return watch_lists.load(node, tx, watch.id)

        asked = node.store.read(work)
        if asked is not None and not any(asked.counts()):
            return None
        return asked

    # 2
    def _ask(
        self,
        watch: Watch,
        whole: AskedList,
        part: int,
        group: dict[str, Position],
        chosen: Chosen,
    ) -> Iterator[tuple[Ended, Position | None]]:
        """Ask one part; yield each peer's end, with where it stands when it may be asked on."""
        node = self._node
        asked = watch_lists.part_of(whole, part)
        if node.store.read(lambda tx: tx.imports.has_exclusions()):
            asked = self._without_known_good(asked)
        if not any(asked.counts()):
            for peer in group:
                yield self._settle(watch, whole, asked, peer, part, None, None)
            return
        asked_lists.keep(node, watch.id, whole.batches())
        since = {peer: one.since for peer, one in group.items() if one.since is not None}
        terms = Terms(
            *(watch.person, watch.purpose, watch.case_ref, watch.near),
            *(node.defaults.query_seconds, DEFAULT_WISH),
        )
        announced = Announced(len(asked), asked.excluded, tuple(asked.counts()), asked.digest)
        stated = {peer: said for peer, said in chosen.stated.items() if peer in group}
        peers = Chosen(tuple(group), (), stated)
        round_ = PeerRound(node, terms, peers, announced, Rerun(watch.id, since))
        try:
            round_.begin(asked.batches)
            while round_.pending:
                for result in round_.ended():
                    with_receipt = result.end.status in ("answered", "pending")
                    answer = gathered(asked, result) if with_receipt else None
                    result.kept.close()
                    peer = result.end.agency
                    yield self._settle(watch, whole, asked, peer, part, result, answer)
        finally:
            round_.close()

    def _without_known_good(self, asked: AskedList) -> AskedList:
        known = {}
        for kind, column in asked.columns.items():
            found = listed(self._node.store, DigestKind(kind), column.digests)
            if len(found):
                known[kind] = np.asarray(found, dtype=np.int64)
        return asked.without(known) if known else asked

    # 3, 4
    def _settle(
        self,
        watch: Watch,
        whole: AskedList,
        asked: AskedList,
        peer: str,
        part: int,
        result: PeerResult | None,
        answer: PeerAnswer | None,
    ) -> tuple[Ended, Position | None]:
        """Keep what came of a part, in one transaction."""
        node, now = self._node, self._node.clock()
        parts = max(-(-len(whole) // limits.WATCH_PART_RECORDS), 1)

        def work(tx: Tx) -> tuple[Ended, Position | None]:
            before = tx.watches.position(watch.id, peer)
            since = before.since is not None
            if result is not None and answer is None:
                refused = result.end.status == "refused"
                wait = resets_at(now) if refused else now + limits.WATCH_RETRY
                failed = replace(
                    before,
                    not_before=wait,
                    status=result.end.status,
                    reason=result.end.reason,
                )
                tx.watches.put_position(failed)
                end = Ended(watch.id, peer, failed.status, failed.reason, since=since)
                return end, None
            standing = tx.watches.get(watch.id)
            if standing is None or standing.state is not WatchState.ACTIVE or before.part != part:
                return Ended(watch.id, peer, "unchanged", "it ended, or shrank, meanwhile"), None
            found = np.zeros(0, dtype=np.uint32)
            if answer is not None:
                found = asked.numbers_of(answer.matches.records).astype(np.uint32)
            fresh = np.setdiff1d(found, before.matched)
            position = advance(before, parts, receipt_at(result), now)
            position = replace(
                position,
                matched=np.union1d(before.matched, found),
                status=result.end.status if result else "answered",
                reason=result.end.reason if result else "",
            )
            tx.watches.put_position(position)
            if len(fresh) and answer is not None:
                counts = len(fresh), len(position.matched)
                keep_notice(node, tx, standing, peer, counts, answer, checked_receipt(result))
            end = Ended(watch.id, peer, position.status, position.reason, len(fresh), since=since)
            return end, position

        end, position = node.store.write(work)
        if end.fresh:
            node.wake(peer)
            node.alarmed()
        return end, position


def _together(ends: Sequence[Ended]) -> list[Ended]:
    """Return one end for each peer: its last, with what matched in all of its parts."""
    made: dict[str, Ended] = {}
    for one in ends:
        before = made.get(one.peer)
        made[one.peer] = one if before is None else replace(one, fresh=before.fresh + one.fresh)
    return list(made.values())
