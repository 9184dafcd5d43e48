"""Any order, any delay, any repetition: every node ends with the same view of a referral.

Hypothesis plays people at five nodes (who refer, answer, pass on, tell outside, judge anew and
withdraw) and the network, which holds every message back, takes any one out of the queues, and
repeats old ones. At the end all that waits is delivered, and whoever takes part in a referral must
show the same state and marks.
"""

from __future__ import annotations

import contextlib
import itertools
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from tieline.v1 import (
    delivery_pb2,
    envelope_pb2,
    operator_clock_pb2,
    operator_pb2,
    payload_pb2,
)
from tieline_client.directory import Directory
from tieline_client.errors import TielineError
from tieline_server.domain.messages import OutMessage
from tieline_server.domain.referral import Direction, Referral, ReferralState
from tieline_server.services.clock import ReferralClock
from tieline_server.services.referring import Referring
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.telling_outside import TellingOutside

from tests.services.bench import ANA, CASE, ES, FBI, HUB, ICE, PT, Bench, Running

_MINUTE = timedelta(minutes=1)

AGENCIES = (ES, HUB, PT, ICE, FBI)
_MARKS = frozenset(
    {
        *(ReferralState.ACKNOWLEDGED, ReferralState.ACCEPTED, ReferralState.DECLINED),
        *(ReferralState.PASSED_ON, ReferralState.OUTCOME, ReferralState.TOLD_OUTSIDE),
        *(ReferralState.CORRECTED, ReferralState.LEAD),
    }
)
_NUMBERS = itertools.count()
choice = st.integers(0, 11)


class Play(RuleBasedStateMachine):
    """One series, its referrals, and a network without manners."""

    bench: Bench

    def __init__(self) -> None:
        super().__init__()
        self.nodes = [self.bench[agency] for agency in AGENCIES]
        self.seen: list[tuple[str, OutMessage]] = []

    @initialize(arrived=st.booleans())
    def localise(self, arrived: bool) -> None:
        """A series that is probably of a country with two agencies and of one with none."""
        number = next(_NUMBERS)
        for running in self.nodes:
            running.node.wake = lambda _agency: None
        self.bench.offline.update(AGENCIES)
        owner = self.bench[ES]
        made = operator_pb2.CreateSeriesRequest(name=f"S{number}", case_ref=CASE)
        self.series = SeriesWork(owner.node).create(ANA, made).notice.id
        for country in ("US", "BR"):
            self._assess(country)
        self._try(lambda: owner.refer(self.series))
        self._try(lambda: owner.refer(self.series, agency=PT))
        if arrived:
            self.catch_up()

    def _try(self, work: Any) -> None:
        """What is refused to a person is no matter here; the minutes pass."""
        self.bench.now += _MINUTE
        with contextlib.suppress(TielineError):
            work()

    def _assess(self, country: str, **more: object) -> None:
        request = operator_pb2.AssessSeriesRequest(
            series=self.series, country=country, confidence=2, grounds="g", **more  # type: ignore[arg-type]
        )  # fmt: skip
        self._try(lambda: SeriesWork(self.bench[ES].node).assess(ANA, request))

    def _referrals(self, running: Running) -> list[Referral]:
        return list(running.store.read(lambda tx: tx.referrals.find(series=self.series)))

    @rule(
        node=st.sampled_from(AGENCIES[1:]),
        which=choice,
        state=st.sampled_from(["acknowledged", "accepted", "lead", "declined", "outcome"]),
    )
    def answer(self, node: str, which: int, state: str) -> None:
        """Somebody who was told says what it does."""
        came = [one for one in self._referrals(self.bench[node]) if one.direction is Direction.IN]
        if not came:
            return
        more: dict[str, Any] = {"text": f"{node} {state}"}
        if state == "outcome":
            more["outcome"] = payload_pb2.Outcome(identified=1)
        if state == "lead":
            state, more = "accepted", {"lead": True}
        request = operator_pb2.StepReferralRequest(
            id=came[which % len(came)].id, state=state, **more
        )
        self._try(lambda: Referring(self.bench[node].node).step(ANA, request))

    @rule(node=st.sampled_from([HUB, PT]), which=choice, to=st.sampled_from([HUB, PT, ICE]))
    def pass_on(self, node: str, which: int, to: str) -> None:
        """Somebody knows who is better placed."""
        came = [one for one in self._referrals(self.bench[node]) if one.direction is Direction.IN]
        if came:
            request = operator_pb2.StepReferralRequest(
                id=came[which % len(came)].id, state="passed_on", passed_to=to
            )
            self._try(lambda: Referring(self.bench[node].node).step(ANA, request))

    @rule(node=st.sampled_from([ES, HUB]), which=choice)
    def tell_outside(self, node: str, which: int) -> None:
        """The country without a node is told, by whoever does it first, or by both."""
        found = self._referrals(self.bench[node])
        if found:
            request = operator_clock_pb2.TellOutsideRequest(
                id=found[which % len(found)].id, reference=f"ref {node} {which}"
            )
            self._try(lambda: TellingOutside(self.bench[node].node).tell(ANA, request))

    @rule(country=st.sampled_from(["US", "BR", "FR"]), how=st.sampled_from(["", "sure", "out"]))
    def judge(self, country: str, how: str) -> None:
        """The owner's expert judges anew, which corrects what was told."""
        self._assess(country, confirmed=how == "sure", eliminate=how == "out")

    @rule(often=choice)
    def withdraw(self, often: int) -> None:
        """Now and then the owner takes it back."""
        if often == 7:
            request = operator_pb2.RetractSeriesRequest(
                series=self.series, kind="withdraw", reason="entered in error"
            )
            self._try(lambda: Retracting(self.bench[ES].node).retract(ANA, request))

    @rule(which=st.integers(0, 999), twice=st.booleans())
    def deliver(self, which: int, twice: bool) -> None:
        """Any message that waits anywhere arrives, out of its turn; perhaps twice."""
        waiting = [
            (running.agency, one)
            for running in self.nodes
            for agency in AGENCIES
            for one in running.queued(agency)
        ]
        if waiting:
            message = waiting[which % len(waiting)]
            self.seen.append(message)
            for _ in range(1 + twice):
                self._arrive(message)

    @rule(which=st.integers(0, 999))
    def again(self, which: int) -> None:
        """What came long ago comes once more."""
        if self.seen:
            self._arrive(self.seen[which % len(self.seen)])

    @rule()
    def catch_up(self) -> None:
        """The network works for a while."""
        self._all_of_it()
        self.bench.offline.update(AGENCIES)

    def _arrive(self, message: tuple[str, OutMessage]) -> None:
        sender, one = message
        request = delivery_pb2.DeliverRequest(
            envelope=envelope_pb2.Envelope.FromString(one.envelope),
            lane=int(one.lane),
            sequence=one.sequence,
            epoch=self.bench[sender].node.epoch,
        )
        with contextlib.suppress(TielineError):
            self.bench[one.recipient].receiving.deliver(sender, request)

    def _all_of_it(self) -> None:
        self.bench.offline.clear()
        for running in self.nodes:
            for agency in AGENCIES:
                running.engine.heard_from(agency)
        self.bench.flow()
        for running in self.nodes:
            running.node.wake = lambda _agency: None

    def teardown(self) -> None:
        """Deliver everything; then all views agree."""
        if not hasattr(self, "series"):
            return
        self._all_of_it()
        views = {
            running.agency: {one.id: one for one in ReferralClock(running.node).referrals()}
            for running in self.nodes
        }
        compared = 0
        for running in self.nodes:
            for referral in self._referrals(running):
                if referral.direction is not Direction.OUT:
                    continue
                theirs = views[referral.recipient].get(referral.id)
                ours = views[running.agency][referral.id]
                if theirs is None:  # taken back before it came
                    assert ours.state == "withdrawn", ours
                    continue
                assert _seen(ours) == _seen(theirs), (running.agency, referral.recipient)
                compared += 1
        withdrawn = {one.state for one in views[ES].values() if one.series == self.series}
        assert compared or withdrawn == {"withdrawn"}


def _seen(view: operator_pb2.ReferralView) -> tuple[object, ...]:
    """What must be the same on both sides; of what was taken back only that it was."""
    if view.state == "withdrawn":
        return view.state, view.country
    steps = {
        (one.state, one.agency, one.passed_to, tuple(one.countries), one.text)
        for one in view.steps
        if one.state in _MARKS
    }
    return view.state, view.country, view.corrected, tuple(view.likely_countries), view.lead, steps


def _federation(bench: Bench) -> None:
    """Both agencies of one country may be told."""
    members = tuple(
        one.model_copy(update={"agreement": "trial agreement"}) if one.agency == FBI else one
        for one in bench.directory.members
    )
    fields = {name: getattr(bench.directory, name) for name in Directory.model_fields}
    bench.directory = Directory(**(fields | {"members": members}))


def _play(bench: Bench, examples: int, steps: int) -> None:
    _federation(bench)
    for agency in AGENCIES:
        bench[agency]

    class Here(Play):
        pass

    Here.bench = bench
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),  # the nodes go on from example to example
        ),
    )


def test_every_node_ends_with_the_same_view_of_a_referral(bench: Bench) -> None:
    _play(bench, examples=8, steps=25)


@pytest.mark.slow
def test_the_same_for_long(bench: Bench) -> None:
    _play(bench, examples=150, steps=40)
