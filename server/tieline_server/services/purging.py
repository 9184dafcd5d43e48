"""Erasing for good: what a retraction or an officer takes back, and what has come to its day.

Each erasure is a row that survives a crash, and goes through states, each durable before the next:

1. ``erasing``: the ledger of tombstones has it, on disk, before the first row goes. What of it is
   watched leaves the lists of standing queries (watch_striking.py). Holdings go in
   batches, so that others write meanwhile; with the last go the series' own rows, the words of
   referrals, and every stored message about it. With an import that is taken back go the series
   that it made and nobody worked with; with an exclusion list, its digests.
2. ``erased``: nothing of it is in a table. The index is written anew without it, by every process
   of this node (processes.py), then the database.
3. ``scrubbed``: no file of this node holds anything of it. Only now the signed receipt is queued,
   for everybody who told this node.

Erasures that wait at the same time share one rewriting. What fails is tried again, with the reason
in `tieline node status`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta

import structlog
from tieline_client.errors import TielineError
from tieline_client.identifiers import new_id

from tieline_server.domain.ports import Erased, Purge, Tx
from tieline_server.domain.retraction import PurgeCause, PurgeState
from tieline_server.services.attachments import drop_incoming
from tieline_server.services.context import Node
from tieline_server.services.incoming_retractions import answer
from tieline_server.services.processes import Processes
from tieline_server.services.retracting import catch_up
from tieline_server.services.split_items import led_to
from tieline_server.services.tombstones import erasure_entry, write_down
from tieline_server.services.watch_striking import strike

_log = structlog.get_logger(__name__)

HOLDINGS_AT_ONCE = 5_000
"""Holdings erased in one transaction, so that other writers get their turn."""
_SERIES_AT_ONCE = 50
SWEEP = timedelta(hours=1)
"""How often retention dates are looked at; they are days."""
_SWEPT_AT_ONCE = 1_000


class Purging:
    """Carries erasures out. `run` is called by one thread at a time."""

    def __init__(self, node: Node, processes: Processes | None = None) -> None:
        """``processes``: those that share the database, where several do."""
        self._node, self._processes = node, processes
        self._needed: dict[tuple[str, str], int] = {}
        self._swept_before = node.clock() - SWEEP
        self._one = threading.Lock()

    def erase(self) -> None:
        """Take out of the tables all that is due. Raises nothing: what fails is tried again."""
        with self._one:
            self._sweep_if_due()
            self._erase_open()

    def run(self) -> bool:
        """Carry everything as far as it goes now; whether nothing is left."""
        with self._one:
            self._sweep_if_due()
            if self._done():
                return True
            self._erase_open()
            erased = self._open(PurgeState.ERASED)
            if erased:
                self._try(erased, lambda: self._scrub(erased))
            for purge in self._open(PurgeState.SCRUBBED):
                self._try([purge], lambda one=purge: self._end(one))  # type: ignore[misc]
            return self._done()

    def _erase_open(self) -> None:
        for purge in self._open(PurgeState.ERASING):
            self._try([purge], lambda one=purge: self._erase(one))  # type: ignore[misc]

    def _done(self) -> bool:
        return not self._node.store.read(lambda tx: tx.retractions.any_open_purge())

    def _open(self, state: PurgeState) -> list[Purge]:
        found = self._node.store.read(lambda tx: tx.retractions.open_purges())
        return [one for one in found if one.state is state]

    def _try(self, purges: Iterable[Purge], step: Callable[[], None]) -> None:
        try:
            step()
        except (TielineError, OSError) as error:
            why = error.message if isinstance(error, TielineError) else str(error)
            _log.warning("purging.waits", text=why)
            self._say(purges, why)

    def _say(self, purges: Iterable[Purge], why: str) -> None:
        def work(tx: Tx) -> None:
            for one in purges:
                tx.retractions.purge_waits(one, why)

        try:
            self._node.store.write(work)
        except TielineError as error:
            _log.warning("purging.waits", text=error.message)

    # --- 1 ---

    def _erase(self, purge: Purge) -> None:
        node = self._node
        splits = node.store.read(lambda tx: led_to(tx, purge.series)) if purge.series else []
        node.ledger.append(erasure_entry(purge, node.clock(), splits))
        if purge.series:
            for peer, attachment in node.store.read(lambda tx: tx.erasure.staged(purge.series)):
                drop_incoming(node, peer, attachment)
            strike(node, purge.series)
        while node.store.write(lambda tx: self._batch(tx, purge)).more:
            pass

    def _batch(self, tx: Tx, purge: Purge) -> Erased:
        if not _is_in(tx, purge, PurgeState.ERASING):  # another process was quicker
            return Erased(0, 0, more=False)
        if purge.series:
            done = tx.erasure.holdings(purge.series, HOLDINGS_AT_ONCE)
        else:
            done = tx.erasure.import_holdings(purge.import_no, HOLDINGS_AT_ONCE)
            if purge.cause is PurgeCause.REMOVAL and not done.more:
                done = replace(done, more=self._drop_emptied(tx, purge))
        state = PurgeState.ERASING if done.more else PurgeState.ERASED
        tx.retractions.advance([purge], state, holdings=done.holdings)
        if not done.more:
            if purge.series:
                tx.erasure.series(purge.series)
            self._log_erased(tx, purge)
        return done

    def _drop_emptied(self, tx: Tx, purge: Purge) -> bool:
        """Erase series that only a removed import knew; whether more of them are left."""
        names = tx.erasure.emptied(purge.import_no, _SERIES_AT_ONCE)
        if names:
            tx.audit.append(
                self._node.entry(
                    f"{purge.cause.value}.erased",
                    subjects=(purge.id, *names),
                    series=len(names),
                )
            )
        return len(names) == _SERIES_AT_ONCE

    def _log_erased(self, tx: Tx, begun: Purge) -> None:
        purge = tx.retractions.purge(begun.id, begun.series)
        assert purge is not None
        tx.audit.append(
            self._node.entry(
                f"{purge.cause.value}.erased",
                subjects=(purge.id, *((purge.series,) if purge.series else ())),
                holdings=purge.holdings,
            )
        )

    # --- 2 ---

    def _scrub(self, erased: list[Purge]) -> None:
        node = self._node
        through = self.rewrite()
        if through is None:
            self._say(erased, "it waits until the index of known-good digests is up to date")
            return
        ready = [
            one
            for one in erased
            if not self._others_lack(one, through) and not self._still_goes(one)
        ]
        if not ready:
            return
        if not node.store.scrub():
            self._say(ready, "the database is rewritten once nobody reads what it was")
            return

        def work(tx: Tx) -> None:
            done = [one for one in ready if _is_in(tx, one, PurgeState.ERASED)]
            tx.retractions.advance(done, PurgeState.SCRUBBED)

        node.store.write(work)
        for one in ready:
            self._needed.pop((one.id, one.series), None)

    def rewrite(self) -> int | None:
        """Write this process's indexes anew without what was erased; return through which change,
        None while that of exclusion lists is far behind."""
        node = self._node
        node.store.index.refresh(wait=True)
        through = node.matching.applied
        node.matching.purge()
        if not node.store.known_good.purge():
            return None
        if self._processes is not None:
            self._processes.rewrote(through)
        return through

    def _others_lack(self, purge: Purge, through: int) -> bool:
        """Whether another process has yet to rewrite its index; the erasure says so."""
        if self._processes is None:
            return False
        needed = self._needed.setdefault((purge.id, purge.series), through)
        behind = self._processes.behind(needed)
        if behind:
            names = ", ".join(one.name for one in behind)
            self._say([purge], f"it waits until every process has rewritten its index: {names}")
        return bool(behind)

    def _still_goes(self, purge: Purge) -> bool:
        """Whether items of it, sent on under the id they had before a split, have still to go."""
        node = self._node
        if not purge.series or not node.store.read(lambda tx: tx.splits.making(purge.series)):
            return False
        if not node.store.write(lambda tx: tx.splits.chunks_left(purge.series)):
            return False
        self._say([purge], "it waits until a referral of the series it was split from has gone")
        return True

    # --- 3 ---

    def _end(self, purge: Purge) -> None:
        node = self._node

        def work(tx: Tx) -> list[str]:
            if not _is_in(tx, purge, PurgeState.SCRUBBED):
                return []
            tx.retractions.advance([purge], PurgeState.DONE, ended=node.clock())
            retraction = tx.retractions.get(purge.id, purge.series)
            if purge.cause is not PurgeCause.RETRACTION or retraction is None:
                return []
            told = answer(node, tx, retraction, erased=True)
            tx.audit.append(
                node.entry(
                    "retraction.confirmed",
                    subjects=(retraction.id, retraction.series),
                    told=told,
                )
            )
            return told

        for agency in node.store.write(work):
            node.wake(agency)

    # --- what has come to its day ---

    def _sweep_if_due(self) -> None:
        now = self._node.clock()
        if now - self._swept_before >= SWEEP:
            self._try([], self._write_down)
            self._try([], self._sweep)

    def _write_down(self) -> None:
        """Write to the ledger what a crash, or a full disk, kept out of it."""
        node = self._node
        said = node.store.read(lambda tx: tx.retractions.standing())
        write_down(node.ledger, node.agency, said, node.clock())

    def _sweep(self) -> None:
        node, now = self._node, self._node.clock()
        today = now.date()

        def work(tx: Tx) -> int:
            begun = {one.series or one.import_no for one in tx.retractions.open_purges()}
            due = [
                Purge(import_id, PurgeCause.RETENTION, "", now, import_no=number)
                for number, import_id in tx.erasure.imports_past(today, _SWEPT_AT_ONCE)
                if number not in begun
            ]
            due += [
                Purge(new_id(), PurgeCause.RETENTION, series, now)
                for series in tx.erasure.series_past(today, _SWEPT_AT_ONCE)
                if series not in begun
            ]
            for purge in due:
                tx.retractions.begin_purge(purge)
            return len(due)

        while node.store.write(lambda tx: tx.requests.sweep(now, _SWEPT_AT_ONCE)) > _SWEPT_AT_ONCE:
            pass
        if node.store.write(work) < _SWEPT_AT_ONCE:
            self._swept_before = now
        catch_up(node)


def _is_in(tx: Tx, purge: Purge, state: PurgeState) -> bool:
    """Whether an erasure is still where it was seen: processes on one database may all look."""
    now = tx.retractions.purge(purge.id, purge.series)
    return now is not None and now.state is state and now.ended is None
