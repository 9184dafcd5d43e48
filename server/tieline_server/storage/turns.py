"""Whose turn it is to write. Nobody waits for a thread of the store's: the first who comes leads a
group, runs it in their own thread, and takes along who came meanwhile; then the next one leads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from tieline_server.storage.errors import unavailable


class Job:
    """A work on its way through the writer. ``work`` is None for the end of all writing."""

    __slots__ = ("_leads", "_woken", "apart", "error", "remembered", "result", "work")

    def __init__(
        self,
        work: Callable[[Any], Any] | None,
        *,
        remembered: bool = False,
        apart: bool = False,
    ) -> None:
        """``remembered``: what is read through memory is the same after this work. ``apart``: it
        runs alone and outside of a transaction."""
        self.work = work
        self.apart = apart
        self.remembered = remembered
        self.result: Any = None
        self.error: BaseException | None = None
        self._woken = threading.Lock()
        self._woken.acquire()
        self._leads = False


class Turns:
    """Lets one thread at a time lead a group of jobs. Used from any number of threads."""

    def __init__(self, group: Callable[[Job], None]) -> None:
        """``group`` runs a job with those it takes by `take`, and settles them all."""
        self._group = group
        self._taken: list[Job] = []
        self._gate = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._leader: int | None = None
        self._closed = False

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def mine(self) -> bool:
        """Whether the calling thread leads."""
        return self._leader == threading.get_ident()

    def run(self, job: Job) -> bool:
        """Return once the job is settled; False when nothing is written any more."""
        with self._gate:
            if self._closed:
                return False
            leads = self._leader is None
            if leads:
                self._leader = threading.get_ident()
            else:
                self._waiting.append(job)
        if leads or self._wait(job):
            self._lead(job)
        return True

    def take(self) -> Job | None:
        """Give the leader the next job that waits, if there is one for its group."""
        with self._gate:
            if not self._waiting or self._waiting[0].work is None or self._waiting[0].apart:
                return None
            self._taken.append(self._waiting.popleft())
            return self._taken[-1]

    def close(self) -> None:
        """Let what waits be written, refuse the rest, and return when all is settled."""
        end = Job(None)
        with self._gate:
            if self._closed:
                return
            self._closed = True
            if self._leader is None:
                return
            self._waiting.append(end)
        self._wait(end)

    def _wait(self, job: Job) -> bool:
        """Wait until the job is settled, or leads."""
        job._woken.acquire()
        if job._leads:
            self._leader = threading.get_ident()
        return job._leads

    def _lead(self, job: Job) -> None:
        self._taken = []
        try:
            self._group(job)
        except BaseException as error:
            for one in self._taken:  # whether theirs was written, nobody knows now
                one.error = one.error or unavailable(f"a write failed ({type(error).__name__})")
            raise
        finally:
            taken = self._taken
            with self._gate:
                following = self._waiting.popleft() if self._waiting else None
                self._leader = None if following is None else 0
            if following is not None:
                following._leads = True
                following._woken.release()
            for one in taken:
                one._woken.release()
