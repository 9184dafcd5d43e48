"""Random questions against a second writing of the default rules, in plain Python.

The oracle below was written from the words of policies/README.md, not from the Cedar text, and in
another shape: it works out what each agency may get, instead of listing permits and forbids.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tieline_client.handling import HandlingCode, Tlp
from tieline_server.domain.policy import Action, Disclosure, Party, Question
from tieline_server.domain.referral import Urgency
from tieline_server.policy.cases import CASES_FILE, load_cases
from tieline_server.policy.engine import PolicyEngine
from tieline_server.policy.loading import default_folder

ENGINE = PolicyEngine(default_folder())

AGENCIES = {
    "pt-pj": ("national", ("PT",)),
    "es-pn": ("national", ("ES",)),
    "us-ice": ("national", ("US",)),
    "us-fbi": ("national", ("US",)),
    "gb-nca": ("national", ("GB",)),
    "xx-two": ("national", ("PT", "US")),
    "xx-none": ("national", ()),
    "europol-ec3": ("hub", ()),
    "interpol": ("repository", ()),
    "us-archive": ("repository", ("US",)),
}
SPREADING = {"pass-on", "broadcast", "receive-broadcast", "relay", "upload", "accept-upload"}
SPREADING |= {"export", "publish"}
AS_LEVEL = {"learn-hit": 1, "learn-count": 2, "learn-reference": 3, "learn-detail": 4}


LISTED = [case.question for case in load_cases(default_folder() / CASES_FILE).cases]


def questions() -> st.SearchStrategy[Question]:
    """Anything at all, or a listed case with a few fields taken from anything: near a border."""
    return anything() | st.builds(
        _altered,
        st.sampled_from(LISTED),
        anything(),
        st.sets(st.sampled_from([field.name for field in fields(Question)]), max_size=3),
    )


def _altered(case: Question, other: Question, names: set[str]) -> Question:
    changes: dict[str, Any] = {name: getattr(other, name) for name in names}
    altered = replace(case, **changes)
    if altered.asker.agency == altered.holder.agency:
        return replace(altered, holder=altered.asker)
    return altered


@st.composite
def anything(draw: st.DrawFn) -> Question:
    agreements = draw(st.sets(st.sampled_from(sorted(AGENCIES))))

    def party() -> Party:
        agency = draw(st.sampled_from(sorted(AGENCIES)))
        role, countries = AGENCIES[agency]
        return Party.of(agency, role, countries, agreement=agency in agreements)

    return Question(
        action=draw(st.sampled_from(Action)),
        asker=party(),
        holder=party(),
        purpose=draw(
            st.sampled_from(
                ["victim-identification", "deconfliction", "prosecution", "data-quality", "other"]
            )
        ),
        handling=draw(st.sampled_from(HandlingCode)),
        tlp=draw(st.sampled_from(Tlp)),
        owner=draw(st.sampled_from(["", "", *sorted(AGENCIES), "de-bka"])),
        urgency=draw(st.none() | st.sampled_from(Urgency)),
        confirmed=draw(st.booleans()),
        permission=draw(st.booleans()),
        vital_interests=draw(st.booleans()),
        second_officer=draw(st.booleans()),
        asked=draw(st.integers(0, 10)),
        spent=draw(st.integers(0, 10)),
        budget=draw(st.integers(5, 10)),
    )


def roles_and_purpose_fit(q: Question) -> bool:
    finding = q.purpose == "victim-identification"
    working = finding or q.purpose == "deconfliction"
    police = {"national", "hub"}
    asker, holder = q.asker.role, q.holder.role
    match q.action:
        case "ask":
            limited = q.purpose in ("prosecution", "data-quality")
            return asker in police and (working or (limited and asker == "national"))
        case "be-told" | "pass-on":
            return working and asker in police and holder in police
        case "broadcast" | "relay":
            return finding and asker == "hub"
        case "receive-broadcast":
            return finding and holder == "hub"
        case "export":
            listed = working or q.purpose in ("prosecution", "data-quality")
            return listed and q.asker.agency == q.holder.agency
        case "tell-outside":
            return working and q.asker.agency == q.holder.agency
        case "publish":
            return finding and q.asker.agency == q.holder.agency
        case "upload" | "accept-upload":
            return working and asker in police and holder == "repository"
    return AS_LEVEL[q.action] <= level_by_role(q)


def level_by_role(q: Question) -> int:
    """The highest level that asker and purpose reach, before restrictions and borders."""
    if q.asker.role == "repository":
        return 0
    if q.purpose in ("victim-identification", "deconfliction"):
        return 4 if q.confirmed else 1
    if q.purpose in ("prosecution", "data-quality") and q.asker.role == "national":
        return 1 if q.handling == HandlingCode.H0 or q.permission else 0
    return 0


def restrictions_hold_it_back(q: Question) -> bool:
    if q.permission:
        return False
    owner = q.owner or q.sender.agency
    if q.purpose == "prosecution" and q.handling != HandlingCode.H0:
        return True
    if q.action in SPREADING:
        if q.handling in (HandlingCode.H2, HandlingCode.H3) or q.tlp is Tlp.RED:
            return True
        if q.action == "publish" and owner != q.sender.agency:
            return q.tlp is not Tlp.CLEAR
        return q.tlp is Tlp.AMBER_STRICT and owner != q.sender.agency
    if owner == q.receiver.agency:
        return False
    strict = q.tlp in (Tlp.RED, Tlp.AMBER_STRICT) or q.handling >= HandlingCode.H2
    if strict and owner != q.sender.agency:
        return True
    if q.action in ("be-told", "tell-outside"):
        return False
    if q.handling == HandlingCode.H3:
        return True
    hit_for_hub = q.action == "learn-hit" and q.asker.role == "hub"
    return q.tlp is Tlp.RED and not hit_for_hub


def border_stops_it(q: Question) -> bool:
    one_case = q.action in ("ask", "be-told", "pass-on") or q.action.startswith("learn")
    emergency = (
        one_case and q.purpose == "victim-identification" and q.vital_interests and q.second_officer
    )
    if emergency:
        return False
    if q.action == "tell-outside":
        others = q.owner not in ("", q.sender.agency)
        return q.sender.role == "national" and others and not q.permission
    for party in (q.asker, q.holder):
        stranger = party.role == "national" and not party.union and not party.agreement
        if stranger and q.action != "export":
            return True
    owner = q.owner or q.sender.agency
    if owner in (q.sender.agency, q.receiver.agency) or q.permission or q.sender.role == "hub":
        return False
    return not q.receiver.union and not (q.sender.countries & q.receiver.countries)


def oracle(q: Question) -> bool:
    overspent = q.action == "ask" and q.spent > q.budget
    return (
        roles_and_purpose_fit(q)
        and not restrictions_hold_it_back(q)
        and not border_stops_it(q)
        and not overspent
    )


@settings(max_examples=2_000, deadline=None)
@given(questions())
def test_the_engine_decides_as_the_oracle(question: Question) -> None:
    decision = ENGINE.decide(question)
    assert decision.errors == ()
    assert decision.allowed is oracle(question), decision
    effects = {rule.id: rule.effect for rule in ENGINE.rules}
    wanted = "permit" if decision.allowed else "forbid"
    assert all(effects[name] == wanted for name in decision.rules)
    assert decision.rules or not decision.allowed
    assert decision.why


@settings(max_examples=200, deadline=None)
@given(questions())
def test_the_highest_disclosure_is_the_oracles(question: Question) -> None:
    def highest(q: Question) -> int:
        reached = 0
        for action, level in AS_LEVEL.items():
            if not oracle(replace(q, action=Action(action))):
                break
            reached = level
        return reached

    found = ENGINE.highest_disclosure(question)
    confirmed = replace(question, confirmed=True)
    assert found.level == highest(question)
    assert found.confirmable == highest(confirmed)
    assert found.permissible == highest(replace(confirmed, permission=True))
    assert found.level <= found.confirmable <= found.permissible


@settings(max_examples=300, deadline=None)
@given(
    questions(),
    st.sampled_from(sorted(SPREADING)),
    st.sampled_from(
        [(HandlingCode.H2, Tlp.AMBER), (HandlingCode.H3, Tlp.CLEAR), (HandlingCode.H0, Tlp.RED)]
    ),
)
def test_h2_h3_and_red_never_leave_without_permission(
    question: Question, action: str, marks: tuple[HandlingCode, Tlp]
) -> None:
    """Whoever asks, for whatever purpose, in whatever emergency."""
    restricted = replace(
        question, action=Action(action), handling=marks[0], tlp=marks[1], permission=False
    )
    assert not ENGINE.decide(restricted).allowed


@settings(max_examples=200, deadline=None)
@given(questions())
def test_nobody_without_agreement_outside_the_union_gets_anything_unseen(
    question: Question,
) -> None:
    stranger = Party.of("gb-nca", "national", ("GB",), agreement=False)
    alone = replace(question, asker=stranger, second_officer=False)
    by_itself = question.action in ("export", "tell-outside")
    alone_with_it = by_itself and question.holder.agency == stranger.agency
    assert alone_with_it or not ENGINE.decide(alone).allowed
    assert ENGINE.highest_disclosure(alone).permissible is Disclosure.NOTHING


@settings(max_examples=200, deadline=None)
@given(questions())
def test_more_permission_never_allows_less(question: Question) -> None:
    for name in ("confirmed", "permission", "vital_interests", "second_officer"):
        yes: dict[str, Any] = {name: True}
        no: dict[str, Any] = {name: False}
        more, less = replace(question, **yes), replace(question, **no)
        assert ENGINE.decide(more).allowed or not ENGINE.decide(less).allowed, name


@pytest.mark.parametrize("action", list(Action))
def test_every_action_is_allowed_to_somebody(action: Action) -> None:
    """So that the properties above are not true of an engine that denies all."""
    parties = [Party.of(name, *AGENCIES[name], agreement=True) for name in sorted(AGENCIES)]
    assert any(
        ENGINE.decide(
            Question(action, asker, holder, "victim-identification", confirmed=True)
        ).allowed
        for asker in parties
        for holder in parties
    )
