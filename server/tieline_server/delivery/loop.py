"""One destination's loop: what goes next, what came of it, and how long to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import structlog
from tieline_client import limits
from tieline_client.errors import LimitExceeded, Quarantined, RefusedError, TielineError
from tieline_client.status import RETRY_AFTER

from tieline_server.delivery.drafts import Batch, Draft, answer_of, next_batch
from tieline_server.delivery.handover import Handed, Handover, Word, only_this
from tieline_server.delivery.settling import Answered, reply_of, settle
from tieline_server.delivery.waits import WAIT_MOST_SECONDS, wait_seconds
from tieline_server.domain.messages import Reply
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Urgency
from tieline_server.services.context import Node
from tieline_server.services.renewing import renew
from tieline_server.services.standing import QUARANTINED, Standings, Verdict

_log = structlog.get_logger(__name__)

_OF_THE_PEER = frozenset({QUARANTINED, "STORAGE_UNAVAILABLE"})
"""Reasons of RETRY that every other message would be given as well."""
_HELD_MOST = timedelta(seconds=WAIT_MOST_SECONDS)


class Loop:
    """Delivers to one agency, in a thread that ends when there is no mail.

    ``retire`` is asked then; it says whether the thread may end. ``at_work`` is what a loop holds
    while it works, and lets go while it waits.
    """

    def __init__(
        self,
        node: Node,
        agency: str,
        stopping: threading.Event,
        at_work: threading.Semaphore,
        retire: Callable[[Loop], bool],
    ) -> None:
        self.agency = agency
        self._node, self._stopping, self._retire = node, stopping, retire
        self._at_work = at_work
        self.signal = threading.Event()
        self._heard = False
        self._attempts = 0
        self._size = limits.DELIVERY_BATCH
        self._tried: Urgency | None = None
        self._handover = Handover(node, agency, stopping)
        self._standings = Standings(node)
        self.thread = threading.Thread(target=self._run, name=f"to-{agency}", daemon=True)

    def end_wait(self) -> None:
        """End the back-off, now or as it begins: the peer was heard from, or the node stops."""
        self._heard = True
        self.signal.set()

    def _run(self) -> None:
        resumed = False
        while not self._stopping.is_set():
            try:
                if not resumed:
                    self._resume()
                    resumed = True
                    continue
                self.signal.clear()
                self._heard = False
                if self._stopping.is_set():  # its signal may just have been cleared
                    break
                if not self._round() and self._retire(self):
                    return
            except Exception as error:  # noqa: BLE001 - a loop that ends would strand its messages
                _log.error("delivery.failed", peer=self.agency, error=type(error).__name__)
                self._attempts += 1
                self._pause(wait_seconds(self._attempts))
        self._retire(self)

    def _resume(self) -> None:
        """Wait out what is left of a back-off from before this loop."""
        known = self._node.store.read(lambda tx: tx.outbox.destination(self.agency))
        self._attempts = known.attempts
        if known.next_attempt is not None:
            self._pause((known.next_attempt - self._node.clock()).total_seconds())

    def _round(self) -> bool:
        """Deliver one batch, or wait for what is put off; False when there is nothing to do."""
        now = self._node.clock()

        def look(tx: Tx) -> tuple[Batch, Verdict, datetime | None]:
            batch = next_batch(tx, self.agency, self._size, now)
            may = self._standings.may_send(tx, self.agency)
            return batch, may, tx.outbox.held(self.agency)

        with self._at_work:
            batch, may, held = self._node.store.read(look)
        # It takes its place again, before what came later. A clock that was set back holds up none.
        if held is not None and (held <= now or held > now + _HELD_MOST):
            until = max(held, now)
            self._node.store.write(lambda tx: tx.outbox.release(self.agency, until))
            return True
        if not batch:
            return self._wait_for_held()
        if not may.ok:
            if may.again:
                self._node.contact(self.agency)
            self._failed(Quarantined(may.text))
            return True
        self._settle(batch, [])
        if batch.stale:  # what goes with them keeps its order: it is looked for again
            self._renew(batch.stale)
            return True
        if not batch.ready:
            return True
        self._tried = batch.ready[0].message.lane
        try:
            drafts = self._with_chunks(batch.ready)
        except TielineError as error:
            self._failed(error)
            return True
        drafts = self._not_taken_back(drafts)
        if not drafts:
            return True
        began = time.monotonic()
        handed = self._handover.deliver(drafts)
        self._resize(time.monotonic() - began, handed)
        trouble = self._take(drafts, handed)
        if trouble is not None:
            self._failed(trouble)
        else:
            self._attempts = 0
        return True

    def _renew(self, stale: list[Draft]) -> None:
        """Sign anew what waited for longer than it is valid."""
        now, node = self._node.clock(), self._node

        def work(tx: Tx) -> None:
            refused = [
                (draft, answer_of(Reply.REFUSED, error))
                for draft in stale
                if (error := renew(node, tx, draft.message, draft.payload, now)) is not None
            ]
            if refused:
                settle(node, tx, self.agency, refused)

        node.store.write(work)

    def _with_chunks(self, drafts: list[Draft]) -> list[Draft]:
        """Send what goes before messages; return those that may go now, none when overtaken.

        Nobody waits for what is behind: chunks of a less urgent message, or many of them, are not
        begun while there are messages to deliver before. Chunks that the peer does not take now put
        off their own message alone.
        """
        ready: list[Draft] = []
        attachments = items = 0
        for draft in drafts:
            attachment = self._handover.attachment(draft)
            if attachment is not None:
                lane = draft.message.lane
                behind = ready and (ready[0].message.lane < lane or attachment.chunks > 1)
                if behind or attachments == limits.ATTACHMENTS_PER_BATCH:
                    break
                overtaken = partial(self._overtaken, lane)
                try:
                    if not self._handover.send_chunks(draft, attachment, overtaken):
                        return []
                except TielineError as error:
                    if ready:  # they do not wait for it; and they may be what the peer waits for
                        break
                    if not only_this(error) and not _no_room(error):
                        raise
                    self._settle(Batch(), [(draft, answer_of(Reply.RETRY, error))])
                    continue
                attachments += 1
                items += attachment.items
            ready.append(draft)
            if items > limits.ITEMS_PER_BATCH:
                break
        return ready

    def _not_taken_back(self, drafts: list[Draft]) -> list[Draft]:
        """Return those that are still to go: one may be taken back while chunks are sent."""
        names = [draft.message.id for draft in drafts]
        if not names:
            return []
        queued = self._node.store.read(lambda tx: tx.outbox.queued(self.agency, names))
        return [draft for draft in drafts if draft.message.id in queued]

    def _overtaken(self, lane: Urgency) -> bool:
        first = self._node.store.read(lambda tx: tx.outbox.most_urgent(self.agency))
        return first is not None and first < lane

    def _take(self, drafts: list[Draft], handed: Handed) -> TielineError | None:
        """Settle what was answered; return what keeps the rest from going now."""
        left, error = iter(drafts), handed.error
        for part in handed.parts:
            answered: list[Answered] = []
            for answer, draft in zip(part.answers, left, strict=False):
                if reply_of(answer) is Reply.RETRY and answer.reason in _OF_THE_PEER:
                    error = error or TielineError(f"{answer.reason}: {answer.text}")
                    continue
                answered.append((draft, answer))
            unsound = self._settle(Batch(), answered, part.word)
            if unsound is not None:
                return unsound
        return error

    def _settle(
        self, batch: Batch, answered: list[Answered], word: Word | None = None
    ) -> Quarantined | None:
        """Write what came of messages; return why what was answered is not believed.

        Who answers in a life that is not sound, such as a copy that its agency gave up, may have
        taken what the living node never gets. It goes again, and whoever has it says DUPLICATE.
        """
        answers = [*batch.decided, *answered]
        if not answers and not batch.waiting and word is None:
            return None

        def work(tx: Tx) -> Verdict:
            heard = Verdict(True)
            if word is not None:
                heard = self._standings.heard(tx, self.agency, *word)
            for message, until in batch.waiting:
                tx.outbox.hold(self.agency, message.id, until, message.reason, tried=False)
            if answers and heard.ok:
                settle(self._node, tx, self.agency, answers)
            return heard

        with self._at_work:
            verdict = self._node.store.write(work)
        if verdict.again:
            self._node.contact(self.agency)
        return None if verdict.ok else Quarantined(verdict.text)

    def _resize(self, seconds: float, handed: Handed) -> None:
        """A call that takes long delays what is more urgent, and may run into its deadline."""
        if handed.error is not None or seconds > limits.DELIVERY_SECONDS_AIM:
            self._size = max(self._size // 2, 1)
        else:
            self._size = min(self._size * 2, limits.DELIVERY_BATCH)

    # --- waiting ---

    def _wait_for_held(self) -> bool:
        """Wait until the first message that is put off is due; False when there is none."""
        until = self._node.store.read(lambda tx: tx.outbox.held(self.agency))
        if until is None:
            return False
        seconds = (until - self._node.clock()).total_seconds()
        if not self.signal.wait(min(max(seconds, 0.0), WAIT_MOST_SECONDS)):
            self._node.store.write(lambda tx: tx.outbox.release(self.agency, until))
        return True

    def _failed(self, error: TielineError) -> None:
        """Leave the peer alone for a while."""
        _log.warning(
            "delivery.refused" if isinstance(error, RefusedError) else "delivery.waits",
            peer=self.agency,
            reason=error.reason,
            text=error.message,
        )
        self._attempts += 1
        self._handover.look_again()
        seconds = max(wait_seconds(self._attempts), _asked_for(error))
        attempts, until = self._attempts, self._node.clock() + timedelta(seconds=seconds)
        self._node.store.write(
            lambda tx: tx.outbox.back_off(self.agency, attempts, until, error.message[:500])
        )
        self._pause(seconds)

    def _pause(self, seconds: float) -> None:
        """Wait out a back-off, unless the peer is heard from or something immediate comes.

        Heard from counts from the attempt that failed, so that a word at the wrong moment is not
        lost; a peer that calls us again and again and cannot be called is still not called without
        a pause.
        """
        until = time.monotonic() + min(seconds, WAIT_MOST_SECONDS)
        while not self._stopping.is_set() and (left := until - time.monotonic()) > 0:
            if self._heard:
                if self._attempts > 1:
                    self._stopping.wait(min(limits.RETRY_FIRST_SECONDS, left))
                return
            if not self.signal.wait(left):
                return
            self.signal.clear()
            if not self._heard and self._tried is not Urgency.IMMEDIATE:
                first = self._node.store.read(lambda tx: tx.outbox.most_urgent(self.agency))
                if first is Urgency.IMMEDIATE:
                    return


def _no_room(error: TielineError) -> bool:
    """Whether the peer takes no more items for now; when it is its rate, it says until when."""
    return isinstance(error, LimitExceeded) and RETRY_AFTER not in error.metadata


def _asked_for(error: TielineError) -> float:
    """Return how many seconds the peer asks us to wait."""
    try:
        return min(float(error.metadata.get(RETRY_AFTER, 0)), WAIT_MOST_SECONDS)
    except ValueError:
        return 0.0
