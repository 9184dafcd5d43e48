"""What a running node looks after every few seconds, as one list of named jobs.

A job does a little and returns; what has nothing to do costs next to nothing. One that fails is
named in the log and comes again in the next round, and those behind it run all the same. To add
one, add a line to `jobs`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from tieline_client.errors import TielineError

from tieline_server.rpc.server import Endpoint
from tieline_server.services.attachments import drop_stale
from tieline_server.services.list_secrets import forget_bare_digests
from tieline_server.services.processes import forget
from tieline_server.services.proposing import Proposing
from tieline_server.services.sketches import erase_old_sketches
from tieline_server.wiring.certificates import look_at_operator_cas, renew_leaf
from tieline_server.wiring.clock import utc_now
from tieline_server.wiring.directory import review
from tieline_server.wiring.endings import Announcer
from tieline_server.wiring.parts import Parts

_log = structlog.get_logger(__name__)

HOUSEKEEPING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work with the name under which the log speaks of it."""

    name: str
    work: Callable[[], object]


def jobs(parts: Parts, endpoints: Sequence[Endpoint]) -> list[Job]:
    """Return the jobs of a node, in their order."""
    announcer = Announcer(parts)
    return [
        Job("close if damaged", lambda: _close_if_damaged(parts, endpoints)),
        Job("look at the directory", parts.refresher.look),
        Job("end what it refuses", lambda: review(parts)),
        Job("renew the leaf", lambda: renew_leaf(parts)),
        Job("look at operator CAs", lambda: look_at_operator_cas(parts)),
        Job("announce what ends", lambda: announcer.daily(utc_now())),
        Job("close channels that were replaced", parts.peers.tidy),
        Job("log counted refusals", lambda: parts.refusals.write_due(utc_now())),
        Job("log what was relayed", lambda: parts.relaying.keep_house(parts.store, utc_now)),
        Job("look at what peers ask", parts.node.watch.look),
        Job("drop stale attachments", lambda: drop_stale(parts.node)),
        Job("erase old sketches", lambda: erase_old_sketches(parts.node)),
        Job("forget bare digests", lambda: forget_bare_digests(parts.node)),
        Job("erase old audit entries", parts.retention.hourly),
        Job("contact peers", parts.contacts.hourly),
        Job("ask standing queries", parts.watches.look),
        Job("start delivery loops", parts.delivery.start),
        Job("follow the database", parts.store.index.refresh),
        Job("propose what is one", Proposing(parts.node).look),
        *([Job("forget processes", lambda: forget(parts.store))] if parts.processes else []),
        Job("tidy the index", parts.node.matching.tidy_if_idle),
        Job("tidy the known-good index", parts.store.known_good.tidy_if_idle),
    ]


def _close_if_damaged(parts: Parts, endpoints: Sequence[Endpoint]) -> None:
    """Let health checks see it too; every call is refused already."""
    if parts.store.damaged:
        for endpoint in endpoints:
            endpoint.set_serving(False)


class Housekeeper:
    """Runs the jobs in a thread of its own until the node stops."""

    def __init__(self, todo: Sequence[Job], stopping: threading.Event) -> None:
        self._jobs, self._stopping = todo, stopping
        self._hurry = threading.Event()

    def hurry(self) -> None:
        """Begin the next round at once."""
        self._hurry.set()

    def start(self) -> None:
        """Begin; the first round comes after one interval."""
        threading.Thread(target=self._run, name="housekeeping", daemon=True).start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._hurry.wait(HOUSEKEEPING_SECONDS)
            self._hurry.clear()
            if not self._stopping.is_set():
                self.round()

    def round(self) -> None:
        """Run every job once."""
        for job in self._jobs:
            try:
                job.work()
            except TielineError as error:
                _log.warning(
                    "housekeeping.waits", job=job.name, reason=error.reason, text=error.message
                )
            except Exception as error:  # noqa: BLE001 - the next round tries again
                _log.error(
                    "housekeeping.failed",
                    job=job.name,
                    error=type(error).__name__,
                    text=str(error),
                )
