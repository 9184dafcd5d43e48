"""The referral clock as the agency's people see it: what stands where, what is late, how long steps
take.

It begins when a country is said to be likely: own series whose country nobody has told yet are
shown beside the referrals, since that is where published taskforces lost their time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from tieline.v1 import operator_clock_pb2, operator_pb2
from tieline_client import limits
from tieline_client.errors import NotFound
from tieline_client.payloads import timestamp

from tieline_server.domain import clock_report
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction, Referral, ReferralState
from tieline_server.domain.series import Series
from tieline_server.domain.targets import AFTER_TELLING, localised_at, standing
from tieline_server.services.context import Node
from tieline_server.services.likely import standing_countries
from tieline_server.services.views import find_series, referral_view, told_countries

_PAGE = 1_000


class ReferralClock:
    """Reads; a step is late when the agency's own target for it (config.toml, [clock]) is past."""

    def __init__(self, node: Node) -> None:
        self._node, self._targets = node, node.defaults.targets

    def referrals(self, series: str = "") -> list[operator_pb2.ReferralView]:
        """Referrals sent and received with their steps, newest first. Raises NotFound."""
        return self._node.store.read(
            lambda tx: [self.timed(tx, one) for one in reversed(_referrals(tx, series))]
        )

    def timed(self, tx: Tx, referral: Referral) -> operator_pb2.ReferralView:
        """A referral, with what is waited for until when."""
        view = referral_view(tx, referral)
        stands = standing(self._targets, referral, tx.referrals.steps(referral.id))
        view.since_time.CopyFrom(timestamp(stands.since))
        view.next_step = stands.next
        if stands.due is not None:
            view.due_time.CopyFrom(timestamp(stands.due))
        return view

    def untold(self, series: str = "") -> list[operator_clock_pb2.UntoldView]:
        """Likely countries of own series that nobody has told, the longest waiting first."""

        def work(tx: Tx) -> list[operator_clock_pb2.UntoldView]:
            found = [find_series(tx, series)] if series else _all_series(tx)
            waiting = [pair for one in found for pair in self._waiting(tx, one)]
            waiting.sort(key=lambda one: (one[2], one[0], one[1]))
            return [
                operator_clock_pb2.UntoldView(
                    series=identifier,
                    country=country,
                    localise_time=timestamp(since),
                    due_time=timestamp(since + self._targets.localised),
                )
                for identifier, country, since in waiting[: limits.CLOCK_SHOWN]
            ]

        return self._node.store.read(work)

    def _waiting(self, tx: Tx, series: Series) -> list[tuple[str, str, datetime]]:
        """Return (series, country, since when) of what was to be told."""
        if series.owner != self._node.agency or series.status in AFTER_TELLING:
            return []
        if tx.aliases.get(series.id) is not None:  # the whole stands for it
            return []
        likely = standing_countries(tx, series.id)
        if not likely:
            return []
        told = told_countries(tx, tx.aliases.family(series.id))
        told.update(_own_countries(self._node))
        assessments = tx.series.assessments(series.id)
        return [
            (series.id, country, localised_at(assessments, country) or series.created)
            for country in likely
            if country not in told
        ]

    def report(
        self, series: Collection[str] | None = None, operation: str = ""
    ) -> operator_clock_pb2.ClockReport:
        """How long each step takes, of what was sent and of what came in.

        ``series``: only these, by id or own name; ``operation``: only its series, by id or name;
        both: what is in both. Raises NotFound.
        """

        def work(tx: Tx) -> operator_clock_pb2.ClockReport:
            only = None
            if series is not None:
                only = frozenset(find_series(tx, one).id for one in series)
            if operation:
                found = tx.operations.get(operation)
                if found is None:
                    raise NotFound(
                        f"no operation {operation[:80]!r} here; see `tieline operation list`"
                    )
                of_it = frozenset(map(tx.aliases.current, tx.operations.series(found.id)))
                only = of_it if only is None else only & of_it
            return self._report(tx, only)

        return self._node.store.read(work)

    def _report(self, tx: Tx, only: frozenset[str] | None) -> operator_clock_pb2.ClockReport:
        now = self._node.clock()
        sent: list[clock_report.Telling] = []
        came: list[clock_report.Telling] = []
        for referral in tx.referrals.find():
            current = tx.aliases.current(referral.series)
            if only is not None and not {referral.series, current} & only:
                continue
            serving = {member.agency for member in self._node.directory().serving(referral.country)}
            one = clock_report.telling(
                referral,
                tx.referrals.steps(referral.id),
                tx.series.assessments(current),
                serves=not referral.country or referral.recipient in serving,
                targets=self._targets,
                now=now,
            )
            if referral.state is ReferralState.WITHDRAWN and not one.reached:
                continue  # it was taken back before anybody had it
            (came if referral.direction is Direction.IN else sent).append(one)
        return operator_clock_pb2.ClockReport(
            sent=_part(sent), received=_part(came), report_time=timestamp(now)
        )


def _part(tellings: list[clock_report.Telling]) -> operator_clock_pb2.ClockPart:
    part = operator_clock_pb2.ClockPart(total=_line(clock_report.line("", tellings)))
    part.countries.extend(_line(one) for one in clock_report.by_country(tellings))
    late = [one for one in tellings if one.overdue]
    part.overdue.extend(one.id for one in late[: limits.CLOCK_SHOWN])
    return part


def _line(line: clock_report.Line) -> operator_clock_pb2.ClockLine:
    shown = operator_clock_pb2.ClockLine(
        country=line.country,
        referrals=line.referrals,
        series=line.series,
        told=line.told,
        told_outside=line.told_outside,
        acknowledged=line.acknowledged,
        answered=line.answered,
        outcomes=line.outcomes,
        overdue=line.overdue,
    )
    for name, seconds in line.medians.items():
        if seconds is not None:
            shown.medians.add(step=name, milliseconds=round(seconds * 1000))
    return shown


def _own_countries(node: Node) -> frozenset[str]:
    """The countries that this agency itself serves: it knows."""
    member = node.directory().member(node.agency)
    return frozenset(member.countries)


def _referrals(tx: Tx, series: str) -> list[Referral]:
    wanted = tx.aliases.family(find_series(tx, series).id) if series else [""]
    found = [one for each in wanted for one in tx.referrals.find(series=each)]
    return sorted(found, key=lambda one: (one.created, one.id))


def _all_series(tx: Tx) -> Iterator[Series]:
    after = ""
    while page := tx.series.find(after=after, limit=_PAGE):
        yield from page
        after = page[-1].id
