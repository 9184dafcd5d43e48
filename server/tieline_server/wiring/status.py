"""What `tieline node status` says, gathered from all parts of the node."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from itertools import islice

from tieline.v1 import operator_pb2
from tieline_client.directory import Directory
from tieline_client.errors import TielineError
from tieline_client.payloads import timestamp

from tieline_server import at_rest
from tieline_server.backup import records, reminding
from tieline_server.domain.expiry import announced
from tieline_server.domain.ports import Store
from tieline_server.services import processes
from tieline_server.services.alarms import Alarms
from tieline_server.services.budget_views import BudgetDesk
from tieline_server.services.people import left_with
from tieline_server.services.standing_words import troubles
from tieline_server.services.witness_words import witness_troubles
from tieline_server.trust.directory_status import revoked_words, standing
from tieline_server.wiring.clock import utc_now
from tieline_server.wiring.directory import keys_apart
from tieline_server.wiring.endings import endings
from tieline_server.wiring.parts import Parts

_BUDGETS_WARNED = 20
"""Warnings about budgets; all of them are in `tieline budget`."""


class NodeStatus:
    """The node's word on itself."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def now(self) -> operator_pb2.GetStatusResponse:
        """Return the status as it stands."""
        return self.at(utc_now())

    def at(self, now: datetime) -> operator_pb2.GetStatusResponse:
        """Return the status, judged at a time."""
        parts = self._parts
        config, directory = parts.config, parts.directory.current()
        member = directory.member(config.agency)
        status = operator_pb2.GetStatusResponse(
            agency=config.agency,
            federation=directory.federation,
            role=str(member.role),
            countries=list(member.countries),
            directory_version=directory.version,
            directory_expire_time=timestamp(directory.expires),
            leaf_expire_time=timestamp(parts.identity.expires),
            listen="" if config.outbound_only else config.listen or "",
            start_time=timestamp(parts.started),
        )
        for destination in parts.store.read(lambda tx: list(tx.outbox.destinations())):
            status.queued[destination.agency] = destination.queued
        for purge in parts.store.read(lambda tx: tx.retractions.open_purges()):
            status.purges.add(
                series=purge.series,
                cause=purge.cause.value,
                state=purge.state.value,
                holdings=purge.holdings,
                create_time=timestamp(purge.created),
                reason=purge.reason,
            )
        status.alarms.extend(Alarms(parts.node).open())
        last = parts.store.read(records.last)
        if last is not None:
            status.backup_time.CopyFrom(timestamp(last.created))
            status.backup_expire_time.CopyFrom(timestamp(last.expires))
        status.warnings.extend(self._warnings(directory, now))
        parts.relaying.tell(status)
        status.directory.CopyFrom(standing(parts.directory, parts.online, parts.refresher.problem))
        return status

    def _warnings(self, directory: Directory, now: datetime) -> Iterator[str]:
        store = self._parts.store
        if warning := revoked_words(directory, self._parts.config.agency):
            yield warning
        if (apart := keys_apart(self._parts)) is not None:
            yield f"{apart.text}; {apart.advice}"[:500]
        if warning := at_rest.plain_keys_warning(self._parts.home):
            yield warning[:500]
        if self._parts.identity.problem:
            yield self._parts.identity.problem[:500]
        reflected, stored = store.index.reflected(), store.index.stored()
        if reflected < stored:
            yield (
                f"the index is being brought up to date: answers reflect generation {reflected} "
                f"of {stored}"
            )
        if store.index.failure:
            yield f"the index cannot follow the database: {store.index.failure}"[:500]
        yield from store.read(partial(troubles, now=now))
        yield from islice(BudgetDesk(self._parts.node).warnings(), _BUDGETS_WARNED)
        for trouble in store.read(witness_troubles):
            yield trouble[:500]
        for warning in reminding.warnings(store, now):
            yield warning[:500]
        for one in announced(endings(self._parts, now), now):
            yield one.words(now)[:500]
        for problem in (self._parts.refresher.problem, self._parts.online.problem):
            if problem:
                yield f"the directory was not confirmed: {problem}"[:500]
        yield from _operator_ca(self._parts)
        yield from _left_behind(store)
        try:
            directory.check_fresh(now)
        except TielineError as error:
            yield error.message[:500]


def _operator_ca(parts: Parts) -> Iterator[str]:
    """Who would be left outside by the end of an operator CA that is being replaced."""
    cas = parts.identity.operator_cas
    if cas.problem:
        yield cas.problem[:500]
    if cas.upcoming is not None:
        behind = parts.store.read(partial(left_with, issuer=cas.upcoming.fingerprint))
        if behind:
            yield (
                "the operator CA is being replaced; without a certificate of the next one: "
                f"{', '.join(behind)} (`tieline operator refresh PROFILE`)"
            )[:500]


def _left_behind(store: Store) -> Iterator[str]:
    """Where something that was erased may still be: in files out of this process's reach."""
    if store.left:
        yield store.left[:500]
    if store.shared:
        for warning in store.read(lambda tx: list(processes.warnings(tx))):
            yield warning[:500]
