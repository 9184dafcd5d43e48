"""Who has to be told of a retraction, and what several of them amount to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client.errors import InvalidInput
from tieline_client.handling import Handling, HandlingCode, Tlp, is_within
from tieline_server.domain.broadcast import Broadcast
from tieline_server.domain.referral import Direction, Referral, Urgency
from tieline_server.domain.retraction import (
    Restriction,
    Retraction,
    RetractionKind,
    check_narrowing,
    fold,
    told,
)
from tieline_server.domain.upload import Upload

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
AGENCIES = [f"a{number}" for number in range(7)]
OWNER = AGENCIES[0]
SERIES = f"{OWNER}/01956b5e-0000-7000-8000-000000000001"
PLAIN = Handling(HandlingCode.H0, Tlp.AMBER, "X", 4, date(2029, 1, 1))

agencies = st.sampled_from(AGENCIES)
handlings = st.builds(
    Handling,
    code=st.sampled_from([HandlingCode.H0, HandlingCode.H1, HandlingCode.H2]),
    tlp=st.sampled_from(Tlp),
    source=st.just("X"),
    information=st.just(4),
    retain_until=st.dates(date(2027, 1, 1), date(2029, 1, 1)),
)
retractions = st.builds(
    Retraction,
    id=st.uuids().map(str),
    series=st.just(SERIES),
    kind=st.sampled_from(RetractionKind),
    at=st.integers(0, 5).map(lambda n: NOON + timedelta(days=n)),
    person=st.just("ana"),
    handling=st.none() | handlings,
    limited=st.booleans(),
    only=st.frozensets(agencies, max_size=4),
)


# --- what several amount to -----------------------------------------------------------------------


@given(st.lists(retractions, max_size=5), st.randoms())
def test_order_and_repetition_do_not_matter(said: list[Retraction], rng: object) -> None:
    again = [*said, *said[:2]]
    rng.shuffle(again)  # type: ignore[attr-defined]
    assert fold(again) == fold(said)


@given(st.lists(retractions, max_size=4), retractions, handlings)
def test_one_more_never_loosens(said: list[Retraction], more: Retraction, held: Handling) -> None:
    before, after = fold(said), fold([*said, more])
    for agency in AGENCIES:
        assert after.excludes(agency, OWNER) >= before.excludes(agency, OWNER)
        assert after.excludes(agency, OWNER) >= (agency != OWNER and more.excludes(agency))
    assert is_within(after.on(held), before.on(held))
    assert is_within(before.on(held), held)


def test_the_owner_is_never_left_out() -> None:
    assert not Restriction(withdrawn=True, only=frozenset()).excludes(OWNER, OWNER)


@pytest.mark.parametrize(
    ("wanted", "only", "words"),
    [
        (Handling(HandlingCode.H0, Tlp.AMBER, "X", 4, date(2028, 1, 1)), None, "only restricts"),
        (Handling(HandlingCode.H2, Tlp.GREEN, "X", 4, date(2028, 1, 1)), None, "only restricts"),
        (Handling(HandlingCode.H2, Tlp.AMBER, "X", 4, date(2030, 1, 1)), None, "only restricts"),
        (Handling(HandlingCode.H2, Tlp.AMBER, "X", 4, date(2026, 1, 1)), None, "is past"),
        (None, frozenset({"a1", "a3"}), "already"),
        (None, None, "say what"),
    ],
)
def test_what_loosens_or_changes_nothing_is_refused(
    wanted: Handling | None, only: frozenset[str] | None, words: str
) -> None:
    before = Handling(HandlingCode.H1, Tlp.AMBER, "X", 4, date(2029, 1, 1))
    retraction = Retraction(
        *("r", SERIES, RetractionKind.NARROW, NOON, "ana"),
        handling=wanted,
        limited=only is not None,
        only=only or frozenset(),
    )
    restriction = Restriction(only=frozenset({"a1", "a2"}))
    with pytest.raises(InvalidInput, match=words):
        check_narrowing(before, restriction, retraction, NOON.date())


# --- who has to be told ---------------------------------------------------------------------------


@dataclass
class Records:
    """What one agency's tables say of whom it told."""

    referrals: list[Referral] = field(default_factory=list)
    broadcasts: list[tuple[Broadcast, tuple[str, ...]]] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)


class World:
    """Agencies that tell one another one series; nobody tells it who does not have it."""

    def __init__(self) -> None:
        self.records = {agency: Records() for agency in AGENCIES}
        self.have = {OWNER}

    def refer(self, sender: str, recipient: str) -> None:
        if sender in self.have and recipient not in (sender, OWNER):
            for agency, direction in ((sender, Direction.OUT), (recipient, Direction.IN)):
                self.records[agency].referrals.append(_referral(sender, recipient, direction))
            self.have.add(recipient)

    def broadcast(self, hub: str, recipients: frozenset[str]) -> None:
        reached = tuple(sorted(recipients - {hub, OWNER}))
        if hub in self.have and reached:
            self.records[hub].broadcasts.append((_broadcast(hub, Direction.OUT), reached))
            for agency in reached:
                self.records[agency].broadcasts.append((_broadcast(hub, Direction.IN), (agency,)))
            self.have.update(reached)

    def upload(self, sender: str, repository: str) -> None:
        if sender in self.have and repository not in (sender, OWNER):
            for agency, direction in ((sender, Direction.OUT), (repository, Direction.IN)):
                self.records[agency].uploads.append(_upload(sender, repository, direction))
            self.have.add(repository)

    def retract(self) -> tuple[set[str], int]:
        """Let the retraction go from hand to hand; return who got it, and how many messages."""
        reached, waiting, messages = {OWNER}, [OWNER], 0
        while waiting:
            agency = waiting.pop()
            one = self.records[agency]
            for other in told(OWNER, agency, one.referrals, one.broadcasts, one.uploads):
                messages += 1
                if other not in reached:  # a second copy is answered, not forwarded
                    reached.add(other)
                    waiting.append(other)
        return reached, messages


def _referral(sender: str, recipient: str, direction: Direction) -> Referral:
    return Referral(
        *("r", "r", SERIES, direction, sender, recipient, "", Urgency.ROUTINE),
        *("p", "c", "ana", NOON),
    )


def _broadcast(hub: str, direction: Direction) -> Broadcast:
    return Broadcast("b", SERIES, direction, hub, OWNER, "g", 1, "p", "c", "ana", "?", NOON)


def _upload(sender: str, repository: str, direction: Direction) -> Upload:
    return Upload("u", SERIES, direction, sender, repository, "p", "c", "ana", NOON, 1)


tellings = st.lists(
    st.tuples(st.just("refer"), agencies, agencies)
    | st.tuples(st.just("broadcast"), agencies, st.frozensets(agencies, max_size=5))
    | st.tuples(st.just("upload"), agencies, agencies),
    max_size=15,
)


@given(tellings)
def test_a_retraction_reaches_exactly_those_who_have_the_series(
    steps: list[tuple[str, str, str | frozenset[str]]],
) -> None:
    world = World()
    for act, sender, to in steps:
        getattr(world, act)(sender, to)
    reached, messages = world.retract()
    assert reached == world.have
    assert messages <= len(AGENCIES) ** 2


def test_what_came_in_tells_nobody() -> None:
    came = [_referral("a1", "a2", Direction.IN)]
    assert told(OWNER, "a2", came, [(_broadcast("a1", Direction.IN), ("a2",))], []) == frozenset()
