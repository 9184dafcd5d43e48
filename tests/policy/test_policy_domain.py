"""Which agencies Union law binds, and which way data flows."""

from __future__ import annotations

import pytest
from tieline_client.directory import Member, Role
from tieline_server.domain.policy import (
    LEARNING,
    UNION_MEMBERS,
    Action,
    Disclosure,
    Party,
    Question,
    in_union,
)

LISBON = Party.of("pt-pj", "national", ("PT",), agreement=False)
ICE = Party.of("us-ice", "national", ("US",), agreement=True)


def test_the_union_has_27_members() -> None:
    assert len(UNION_MEMBERS) == 27
    assert {"GB", "CH", "NO", "US"}.isdisjoint(UNION_MEMBERS)


@pytest.mark.parametrize(
    ("role", "countries", "expected"),
    [
        ("national", ["PT"], True),
        ("national", ["FR", "RE", "GP"], True),
        ("national", ["PT", "US"], False),
        ("national", ["US"], False),
        ("national", ["CH"], False),
        ("national", [], False),
        ("hub", [], True),
        ("hub", ["NL"], True),
        ("repository", [], False),
        ("repository", ["FR"], False),
        ("unheard-of", ["PT"], False),
    ],
)
def test_in_union(role: str, countries: list[str], expected: bool) -> None:
    assert in_union(role, countries) is expected
    assert Party.of("xx-agency", role, countries, agreement=False).union is expected


def test_a_party_is_what_the_directory_lists() -> None:
    member = Member(agency="us-ice", name="ICE HSI", role=Role.NATIONAL, countries=("US",))
    assert Party.of_member(member) == Party.of("us-ice", "national", ("US",), agreement=False)
    for basis, listed in (("Agreement of 2001", True), (" ", False), ("", False)):
        stated = member.model_copy(update={"agreement": basis})
        assert Party.of_member(stated).agreement is listed


@pytest.mark.parametrize("action", list(Action))
def test_data_flows_from_sender_to_receiver(action: Action) -> None:
    question = Question(action, LISBON, ICE, "victim-identification")
    assert {question.sender, question.receiver} == {LISBON, ICE}
    to_asker = action.startswith(("learn-", "be-", "receive-"))
    assert question.receiver is (LISBON if to_asker else ICE)


def test_data_without_a_named_owner_is_the_senders() -> None:
    question = Question(Action.LEARN_HIT, LISBON, ICE, "victim-identification")
    assert question.provider == "us-ice"
    assert question.towards(Action.UPLOAD).provider == "pt-pj"
    named = Question(Action.ASK, LISBON, ICE, "victim-identification", owner="es-pn")
    assert named.provider == "es-pn"


def test_levels_of_disclosure_rise_one_by_one() -> None:
    assert [level for level, _ in LEARNING] == [level for level in Disclosure if level]
    assert [level.label for level in Disclosure] == [
        "nothing",
        "hit",
        "count",
        "reference",
        "detail",
    ]
    assert all(action == f"learn-{level.label}" for level, action in LEARNING)
