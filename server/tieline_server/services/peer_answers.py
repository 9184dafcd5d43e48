"""The questions of one round on their way, and the threads that wait for their answers.

A question of few digests to a peer that is connected goes out from the thread that asks, and one
thread reads all those answers, one after another: mostly they are there at the same time, and to
wake a thread for each takes longer than to read them. Who is not connected, or is asked for much,
has a thread from the start; and after READ_TOGETHER_SECONDS every peer that was not read yet gets
one, so that none delays another.
"""

from __future__ import annotations

import contextlib
import queue
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from tieline_client import limits

from tieline_server.services.peer_question import Lists, PeerQuestion, PeerResult

THREADS = ThreadPoolExecutor(limits.PEERS_AT_ONCE, thread_name_prefix="ask")


class PeerAnswers:
    """Used by one thread."""

    def __init__(self, patience: float) -> None:
        """``patience`` is how long one end waits for others to come with it, seconds."""
        self._patience = patience
        self._results: queue.SimpleQueue[PeerResult] = queue.SimpleQueue()
        self._sent: deque[PeerQuestion] = deque()
        """Under way, and read by nobody yet."""
        self._reading: Future[None] | None = None
        self._lists: Lists = tuple

    def ask(self, questions: Iterable[PeerQuestion], lists: Lists) -> None:
        """Sign and send the questions; `take` returns how each ended."""
        self._lists = lists
        for question in questions:
            # Signed here: threads that all want to sign at once get in one another's way.
            question.seal()
            if question.send(lists):
                self._sent.append(question)
            else:
                THREADS.submit(self._ask, question, lists)
        if self._sent:
            self._reading = THREADS.submit(self._read, lists)

    def take(self, most: int) -> list[PeerResult]:
        """Wait until a peer ends; return it, and those that end with it, at most so many."""
        self._read_apart()
        results = [self._results.get()]
        with contextlib.suppress(queue.Empty):
            while len(results) < most:
                results.append(self._results.get(timeout=self._patience))
        return results

    def _read_apart(self) -> None:
        """Give a thread of its own to each peer that was not read in time."""
        reading, self._reading = self._reading, None
        if reading is None:
            return
        with contextlib.suppress(TimeoutError):
            reading.result(limits.READ_TOGETHER_SECONDS)
        while (question := self._next()) is not None:
            THREADS.submit(self._ask, question, self._lists)

    def _read(self, lists: Lists) -> None:
        while (question := self._next()) is not None:
            self._ask(question, lists)

    def _next(self) -> PeerQuestion | None:
        try:
            return self._sent.popleft()
        except IndexError:
            return None

    def _ask(self, question: PeerQuestion, lists: Lists) -> None:
        try:
            self._results.put(question.ask(lists))
        except Exception as error:  # noqa: BLE001 - `take` waits for every one of them
            self._results.put(question.failed(error))
