"""Corrections of referrals: what calls for one, and that every node ends with the same view."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tieline_client.errors import WrongState
from tieline_server.domain.referral import (
    Direction,
    Referral,
    ReferralState,
    ReferralStep,
    Urgency,
    check_step,
    correction,
    fold,
    further,
    is_corrected,
    needs_correction,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
S = ReferralState
COUNTRIES = st.lists(st.sampled_from(["BR", "ES", "PT"]), unique=True).map(
    lambda found: tuple(sorted(found))
)


def _step(number: int, state: ReferralState, **more: object) -> ReferralStep:
    made = ReferralStep(
        id=f"{number:04}",
        referral="r1",
        state=state,
        agency="es-gc",
        person="ana",
        at=START + timedelta(minutes=number),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def _referral(**more: object) -> Referral:
    made = Referral(
        *("r1", "r1", "es-gc/x", Direction.OUT, "es-gc", "pt-pj", "PT", Urgency.URGENT),
        *("victim-identification", "2026-1", "ana", START),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def test_a_country_that_drops_out_is_told_once_and_again_when_it_stands_again() -> None:
    told = _referral()
    assert needs_correction(told, [], ("PT",), ("ES",))
    assert needs_correction(told, [], ("PT",), ())
    said = [_step(1, S.CORRECTED, countries=("ES",))]
    assert not needs_correction(told, said, ("PT",), ("ES",))
    assert needs_correction(told, said, ("ES",), ("BR",))
    assert needs_correction(told, said, ("ES",), ("ES", "PT"))
    again = [*said, _step(2, S.CORRECTED, countries=("PT",))]
    assert not needs_correction(told, again, ("ES",), ("ES", "PT"))


def test_who_shares_its_place_now_or_was_told_outside_the_rule() -> None:
    assert not needs_correction(_referral(), [], ("PT",), ("ES", "PT"))
    assert not needs_correction(_referral(), [], ("PT",), ("PT",))
    assert not needs_correction(_referral(country=""), [], ("PT",), ("ES",))
    assert not needs_correction(_referral(state=S.WITHDRAWN), [], ("PT",), ("ES",))
    # told by hand before anybody judged: the first judgement speaks against it
    assert needs_correction(_referral(), [], (), ("ES",))


@given(st.lists(COUNTRIES, max_size=6), st.randoms(use_true_random=False))
def test_order_and_repeats_of_corrections_do_not_matter(
    said: list[tuple[str, ...]], random: object
) -> None:
    steps = [_step(n, S.CORRECTED, countries=one) for n, one in enumerate(said)]
    shuffled = steps + steps[::2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert correction(shuffled) == (steps[-1] if steps else None)
    assert is_corrected("PT", shuffled) == bool(said and "PT" not in said[-1])
    assert fold(shuffled) is S.REFERRED


@dataclass
class _Node:
    """The steps that a node holds, by referral."""

    steps: dict[str, dict[str, ReferralStep]] = field(default_factory=dict)

    def add(self, step: ReferralStep) -> None:
        self.steps.setdefault(step.referral, {}).setdefault(step.id, step)

    def state(self, referral: str) -> ReferralState:
        return fold(self.steps.get(referral, {}).values())

    def view(self, referral: str) -> tuple[object, ...]:
        held = self.steps.get(referral, {}).values()
        said = correction(held)
        outcomes = {one.id for one in held if one.state is S.OUTCOME}
        return fold(held), is_corrected("PT", held), said and said.countries, outcomes


@dataclass(frozen=True)
class _Message:
    to: str
    step: ReferralStep
    root: bool = False
    """A step from down the chain, for the sender of the first referral."""


class Exchange(RuleBasedStateMachine):
    """es-gc (a) refers r1 to pt-pj (b), which may pass it on as r2 to fr-ofmin (c).

    Messages stay in flight, and arrive in any order and any number of times.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = _Node(), _Node(), _Node()
        self.flying: list[_Message] = []
        self.done: list[_Message] = []
        self.count = 0
        for node in (self.a, self.b):
            node.add(self._made("r1", S.DELIVERED, "pt-pj"))

    def _made(
        self, referral: str, state: ReferralState, agency: str, **more: object
    ) -> ReferralStep:
        self.count += 1
        return _step(self.count, state, referral=referral, agency=agency, **more)

    def _take(self, node: _Node, step: ReferralStep, *messages: _Message) -> None:
        node.add(step)
        self.flying += messages

    def _may(self, node: _Node, referral: str, state: ReferralState) -> bool:
        try:
            check_step(node.state(referral), state)
        except WrongState:
            return False
        return True

    @rule(state=st.sampled_from([S.ACKNOWLEDGED, S.ACCEPTED, S.DECLINED, S.OUTCOME]))
    def recipient_steps(self, state: ReferralState) -> None:
        if self._may(self.b, "r1", state):
            step = self._made("r1", state, "pt-pj")
            self._take(self.b, step, _Message("a", step))

    @precondition(lambda self: "r2" not in self.b.steps)
    @rule()
    def passes_on(self) -> None:
        if self._may(self.b, "r1", S.PASSED_ON):
            step = self._made("r1", S.PASSED_ON, "pt-pj", passed_to="fr-ofmin")
            self._take(self.b, step, _Message("a", step))
            for node in (self.b, self.c):
                node.add(self._made("r2", S.DELIVERED, "fr-ofmin"))

    @precondition(lambda self: "r2" in self.c.steps)
    @rule(state=st.sampled_from([S.ACKNOWLEDGED, S.ACCEPTED, S.DECLINED, S.OUTCOME]))
    def last_recipient_steps(self, state: ReferralState) -> None:
        if self._may(self.c, "r2", state):
            step = self._made("r2", state, "fr-ofmin")
            self._take(self.c, step, _Message("b", step), _Message("a", step, root=True))

    @rule(countries=COUNTRIES)
    def sender_corrects(self, countries: tuple[str, ...]) -> None:
        if self.a.state("r1") is not S.WITHDRAWN:
            step = self._made("r1", S.CORRECTED, "es-gc", countries=countries)
            self._take(self.a, step, _Message("b", step))

    @precondition(lambda self: "r2" in self.b.steps)
    @rule(countries=COUNTRIES)
    def who_passed_on_corrects(self, countries: tuple[str, ...]) -> None:
        if self.b.state("r2") is not S.WITHDRAWN:
            step = self._made("r2", S.CORRECTED, "pt-pj", countries=countries)
            self._take(self.b, step, _Message("c", step))

    @rule()
    def owner_withdraws(self) -> None:
        if self.a.state("r1") is not S.WITHDRAWN:
            step = self._made("r1", S.WITHDRAWN, "es-gc")
            self._take(self.a, step, _Message("b", step))

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def arrives(self, data: st.DataObject) -> None:
        self._arrive(data.draw(st.integers(0, len(self.flying) - 1)))

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def arrives_again(self, data: st.DataObject) -> None:
        self.flying.append(data.draw(st.sampled_from(self.done)))

    def _arrive(self, index: int) -> bool:
        message = self.flying[index]
        step, node = message.step, {"a": self.a, "b": self.b, "c": self.c}[message.to]
        if message.root:
            known = {one.passed_to for one in self.a.steps["r1"].values()}
            if step.agency not in known:
                return False  # not yet: it comes again
            step = further(step, "r1")
        self.done.append(self.flying.pop(index))
        node.add(step)
        if message.to == "b" and step.referral == "r2" and step.agency == "fr-ofmin":
            node.add(further(step, "r1"))
        if message.to == "b" and step.state is S.WITHDRAWN and "r2" in self.b.steps:
            on = self._made("r2", S.WITHDRAWN, "es-gc")
            self._take(self.b, on, _Message("c", on))
        return True

    @invariant()
    def once_all_has_arrived_all_see_the_same(self) -> None:
        if self.flying:
            return
        assert self.a.view("r1") == self.b.view("r1")
        assert self.b.view("r2") == self.c.view("r2")

    def teardown(self) -> None:
        for _ in range(3):
            for index in reversed(range(len(self.flying))):
                self._arrive(index)
        assert not self.flying
        self.once_all_has_arrived_all_see_the_same()


TestExchange = Exchange.TestCase
TestExchange.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("state", [S.CORRECTED, S.ESCALATED])
def test_a_mark_moves_no_referral(state: ReferralState) -> None:
    steps = [_step(1, S.DELIVERED), _step(2, S.ACCEPTED)]
    assert fold([*steps, _step(9, state)]) is S.ACCEPTED
