"""Allow is Allow only when nothing went wrong; levels, cache, reload, threads."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tieline_client.errors import ConfigurationError
from tieline_client.handling import HandlingCode, Tlp
from tieline_client.limits import COUNTRIES_PER_MEMBER, POLICY_NUMBER_MOST
from tieline_server.domain.policy import (
    Action,
    Disclosure,
    DisclosureDecision,
    Party,
    PolicyDecider,
    Question,
)
from tieline_server.domain.referral import Urgency
from tieline_server.policy.engine import PolicyEngine
from tieline_server.policy.loading import SCHEMA_FILE, default_folder

LISBON = Party.of("pt-pj", "national", ("PT",), agreement=False)
MADRID = Party.of("es-pn", "national", ("ES",), agreement=False)
ICE = Party.of("us-ice", "national", ("US",), agreement=True)
LONDON = Party.of("gb-nca", "national", ("GB",), agreement=False)
HUB = Party.of("europol-ec3", "hub", (), agreement=False)
INTERPOL = Party.of("interpol", "repository", (), agreement=False)
ASK = Question(Action.ASK, LISBON, MADRID, "victim-identification")
HIT = ASK.towards(Action.LEARN_HIT)
NEITHER: dict[str, Any] = {"union": "yes"}
NOTES = '@why("a test") @source("none")'


@pytest.fixture(scope="module")
def engine() -> PolicyEngine:
    return PolicyEngine(default_folder())


def engine_with(folder: Path, *rules: str, defaults: bool = False) -> PolicyEngine:
    """An engine over these rules (each ``id: body``), with or without the default set."""
    folder.mkdir(exist_ok=True)
    shutil.copy(default_folder() / SCHEMA_FILE, folder)
    if defaults:
        for file in default_folder().glob("*.cedar"):
            shutil.copy(file, folder)
    text = ""
    for rule in rules:
        name, _, body = rule.partition(": ")
        text += f'@id("{name}") {NOTES} {body};\n'
    (folder / "99-test.cedar").write_text(text)
    return PolicyEngine(folder)


EVERYTHING = "everything: permit (principal, action, resource)"
OVERFLOW = f"{2**63 - 1}"


def test_an_allowed_question_names_the_rules_that_decided(engine: PolicyEngine) -> None:
    decision = engine.decide(ASK)
    assert decision.allowed
    assert decision.rules == ("member-asks",)
    assert decision.errors == ()
    assert decision.why == "a national unit may ask for this purpose"


def test_a_forbidden_question_names_every_rule_that_forbids_it(engine: PolicyEngine) -> None:
    decision = engine.decide(
        replace(ASK, action=Action.PASS_ON, owner="fr-ofmin", handling=HandlingCode.H2, tlp=Tlp.RED)
    )
    assert not decision.allowed
    assert decision.rules == (
        "no-spreading-of-h2-h3",
        "no-spreading-of-red",
        "others-restricted-data-stays",
    )
    assert decision.why.count(";") >= 2


def test_unlisted_means_denied(engine: PolicyEngine) -> None:
    decision = engine.decide(replace(ASK, purpose="statistics"))
    assert not decision.allowed
    assert decision.rules == ()
    assert "unlisted is denied" in decision.why


def test_an_error_in_a_forbid_denies_what_cedar_alone_would_allow(tmp_path: Path) -> None:
    """Cedar skips the rule it cannot evaluate: its own decision here is Allow."""
    engine = engine_with(
        tmp_path,
        EVERYTHING,
        "guard: forbid (principal, action, resource) "
        f"when {{ context.handling * {OVERFLOW} < 0 || context.handling >= 2 }}",
    )
    assert engine.decide(HIT).allowed  # H0 and H1 do not overflow
    decision = engine.decide(replace(HIT, handling=HandlingCode.H2))
    assert not decision.allowed
    assert decision.rules == ("everything",)
    assert "guard" in decision.errors[0]
    assert "overflow" in decision.errors[0]
    assert "policy check" in decision.why


def test_an_error_in_one_permit_denies_what_another_allows(tmp_path: Path) -> None:
    engine = engine_with(
        tmp_path,
        EVERYTHING,
        f"other: permit (principal, action, resource) when {{ context.tlp * {OVERFLOW} > 1 }}",
    )
    decision = engine.decide(HIT)
    assert not decision.allowed
    assert decision.errors


def test_every_error_is_one_bounded_line(tmp_path: Path) -> None:
    faults = [
        f"fault-{n}: forbid (principal, action, resource) when {{ context.tlp + {OVERFLOW} > {n} }}"
        for n in range(20)
    ]
    decision = engine_with(tmp_path, EVERYTHING, *faults).decide(HIT)
    assert not decision.allowed
    assert 1 <= len(decision.errors) <= 8
    assert all(len(error) <= 300 and error.isprintable() for error in decision.errors)


@pytest.mark.parametrize(
    "change",
    [
        {"spent": POLICY_NUMBER_MOST + 1},
        {"budget": 2**63},
        {"budget": 2**64},
        {"asked": -1},
        {"asked": 1.5},
        {"asked": True},
        {"asked": "1"},
        {"handling": 4},
        {"handling": -1},
        {"handling": 2**63},
        {"handling": "H0"},
        {"tlp": 0},
        {"tlp": 6},
        {"urgency": 4},
        {"urgency": -1},
        {"action": "ask-nicely"},
        {"action": "ask"},
        {"action": ""},
        {"purpose": ""},
        {"purpose": "x" * 65},
        {"purpose": 'victim-identification"'},
        {"purpose": "victim-identification\n"},
        {"purpose": "\ud800"},
        {"owner": "PT-PJ"},
        {"owner": "x" * 33},
        {"confirmed": 1},
        {"permission": "yes"},
        {"second_officer": None},
        {"asker": replace(LISBON, role="admin")},
        {"asker": replace(LISBON, agency='pt"pj')},
        {"asker": replace(LISBON, countries=frozenset({"pt"}))},
        {"asker": replace(LISBON, countries=frozenset({"PRT"}))},
        {"holder": replace(MADRID, **NEITHER)},
        {
            "holder": replace(
                MADRID,
                countries=frozenset(
                    chr(65 + n // 26) + chr(65 + n % 26) for n in range(COUNTRIES_PER_MEMBER + 1)
                ),
            )
        },
    ],
)
def test_a_question_out_of_bounds_is_denied_even_by_rules_that_allow_everything(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    engine = engine_with(tmp_path, EVERYTHING)
    assert engine.decide(ASK).allowed
    decision = engine.decide(replace(ASK, **change))
    assert not decision.allowed
    assert decision.errors
    assert len(decision.why) < 200
    if "action" not in change and not {"asked", "spent", "budget"} & set(change):
        found = engine.highest_disclosure(replace(HIT, **change))
        assert found.level is Disclosure.NOTHING
        assert not found.pending
        assert not found.decision.allowed


def test_numbers_at_their_bounds_are_decided(engine: PolicyEngine) -> None:
    most = replace(
        ASK, asked=POLICY_NUMBER_MOST, spent=POLICY_NUMBER_MOST, budget=POLICY_NUMBER_MOST
    )
    assert engine.decide(most).allowed
    assert engine.decide(replace(most, budget=POLICY_NUMBER_MOST - 1)).rules == ("budget-spent",)


def test_numbers_count_for_asking_only(engine: PolicyEngine) -> None:
    assert engine.decide(replace(HIT, spent=11, budget=10)).allowed
    assert not engine.decide(replace(ASK, spent=11, budget=10)).allowed


def test_one_agency_in_two_guises_is_denied(tmp_path: Path) -> None:
    engine = engine_with(tmp_path, EVERYTHING)
    decision = engine.decide(replace(ASK, holder=replace(LISBON, agreement=True)))
    assert not decision.allowed
    assert decision.errors
    assert engine.decide(replace(ASK, holder=LISBON)).allowed


def test_the_hub_on_both_sides_of_its_broadcast(engine: PolicyEngine) -> None:
    assert engine.decide(Question(Action.BROADCAST, HUB, HUB, "victim-identification")).allowed


def test_an_agencys_own_rule_may_use_urgency_and_country(tmp_path: Path) -> None:
    engine = engine_with(
        tmp_path,
        'no-routine: forbid (principal, action == Action::"be-told", resource) '
        "when { context has urgency && context.urgency == 3 && "
        'principal.countries.contains("ES") }',
        defaults=True,
    )
    told = Question(Action.BE_TOLD, MADRID, LISBON, "victim-identification")
    assert engine.decide(told).allowed
    assert engine.decide(replace(told, urgency=Urgency.IMMEDIATE)).allowed
    assert engine.decide(replace(told, urgency=Urgency.ROUTINE)).rules == ("no-routine",)


def test_the_example_rule_of_the_readme_works(tmp_path: Path) -> None:
    folder = shutil.copytree(default_folder(), tmp_path / "policies")
    _, _, rest = (folder / "README.md").read_text(encoding="utf-8").partition("```cedar\n")
    (folder / "70-agency.cedar").write_text(rest.partition("```")[0], encoding="utf-8")
    engine = PolicyEngine(folder)
    madrid_asks = replace(HIT, asker=MADRID, holder=LISBON)
    assert engine.highest_disclosure(madrid_asks).level is Disclosure.COUNT
    assert engine.highest_disclosure(replace(madrid_asks, asker=ICE)).level is Disclosure.HIT
    assert engine.run_cases(folder / "cases.txt") == []


def test_an_agency_may_give_the_hubs_triage_more_by_a_rule_of_its_own(tmp_path: Path) -> None:
    """The second example of the README; without it the hub waits for a person (ADR 37)."""
    folder = shutil.copytree(default_folder(), tmp_path / "policies")
    hub_asks = replace(HIT, asker=HUB, holder=LISBON)
    assert PolicyEngine(folder).highest_disclosure(hub_asks).level is Disclosure.HIT
    examples = (folder / "README.md").read_text(encoding="utf-8").split("```cedar\n")
    (folder / "70-agency.cedar").write_text(examples[2].partition("```")[0], encoding="utf-8")
    engine = PolicyEngine(folder)
    assert engine.highest_disclosure(hub_asks).level is Disclosure.REFERENCE
    reference = engine.decide(replace(hub_asks, action=Action.LEARN_REFERENCE))
    assert reference.rules == ("hub-triage",)
    for change in (
        {"holder": MADRID},
        {"owner": "fr-ofmin"},
        {"handling": HandlingCode.H1},
        {"tlp": Tlp.AMBER_STRICT},
        {"purpose": "deconfliction"},
        {"asker": MADRID},
    ):
        fields: dict[str, Any] = change
        changed = engine.highest_disclosure(replace(hub_asks, **fields))
        assert changed.level <= Disclosure.HIT, change


# --- levels -----------------------------------------------------------------------------------


def levels(found: DisclosureDecision) -> tuple[str, str, str]:
    return found.level.label, found.confirmable.label, found.permissible.label


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("hit", "detail", "detail")),
        ({"confirmed": True}, ("detail", "detail", "detail")),
        ({"asker": HUB}, ("hit", "detail", "detail")),
        ({"asker": ICE}, ("hit", "detail", "detail")),
        ({"asker": LONDON}, ("nothing", "nothing", "nothing")),
        ({"asker": INTERPOL}, ("nothing", "nothing", "nothing")),
        ({"handling": HandlingCode.H1}, ("hit", "detail", "detail")),
        ({"handling": HandlingCode.H2}, ("hit", "detail", "detail")),
        ({"handling": HandlingCode.H3}, ("nothing", "nothing", "detail")),
        ({"tlp": Tlp.RED}, ("nothing", "nothing", "detail")),
        ({"tlp": Tlp.RED, "asker": HUB}, ("hit", "hit", "detail")),
        ({"purpose": "prosecution"}, ("hit", "hit", "hit")),
        ({"purpose": "prosecution", "handling": HandlingCode.H1}, ("nothing", "nothing", "hit")),
        ({"purpose": "data-quality"}, ("hit", "hit", "hit")),
        ({"purpose": "unlisted"}, ("nothing", "nothing", "nothing")),
        ({"owner": "fr-ofmin", "handling": HandlingCode.H2}, ("nothing", "nothing", "detail")),
        (
            {"asker": LONDON, "vital_interests": True, "second_officer": True},
            ("hit", "detail", "detail"),
        ),
    ],
)
def test_highest_disclosure(
    engine: PolicyEngine, change: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    found = engine.highest_disclosure(replace(ASK, **change))
    assert levels(found) == expected
    assert found.decision.allowed is (found.level is not Disclosure.NOTHING)
    assert found.pending is (found.confirmable > found.level)
    assert found.permission_pending is (found.permissible > found.confirmable)


def test_the_decision_given_is_that_of_the_level(engine: PolicyEngine) -> None:
    assert engine.highest_disclosure(HIT).decision.rules == ("member-learns-hit",)
    confirmed = engine.highest_disclosure(replace(HIT, confirmed=True))
    assert confirmed.decision.rules == ("confirmed-release",)
    denied = engine.highest_disclosure(replace(HIT, asker=LONDON))
    assert denied.decision.rules == ("outside-union-needs-agreement",)


def test_a_level_counts_only_with_all_below(tmp_path: Path) -> None:
    engine = engine_with(
        tmp_path,
        'gap: permit (principal, action in [Action::"learn-hit", Action::"learn-reference", '
        'Action::"learn-detail"], resource)',
    )
    assert engine.decide(HIT.towards(Action.LEARN_DETAIL)).allowed
    assert engine.highest_disclosure(HIT).level is Disclosure.HIT


def test_an_error_at_a_level_stops_there(tmp_path: Path) -> None:
    engine = engine_with(
        tmp_path,
        EVERYTHING,
        'fault: forbid (principal, action == Action::"learn-reference", resource) '
        f"when {{ context.tlp + {OVERFLOW} > 3 }}",
    )
    found = engine.highest_disclosure(HIT)
    assert found.level is Disclosure.COUNT
    assert not found.pending


# --- reload and threads -----------------------------------------------------------------------


def test_reload_takes_the_new_rules_at_once_and_forgets_cached_decisions(tmp_path: Path) -> None:
    engine = engine_with(tmp_path, EVERYTHING)
    before = engine.version
    assert engine.decide(HIT).allowed
    assert engine.highest_disclosure(HIT).level is Disclosure.DETAIL
    engine_with(tmp_path, "nothing: forbid (principal, action, resource)")
    assert engine.decide(HIT).allowed
    engine.reload()
    assert engine.decide(HIT).rules == ("nothing",)
    assert engine.highest_disclosure(HIT).level is Disclosure.NOTHING
    assert engine.version != before


def test_a_refused_reload_keeps_the_old_rules(tmp_path: Path) -> None:
    engine = engine_with(tmp_path, "nothing: forbid (principal, action, resource)")
    before = engine.version
    (tmp_path / "99-test.cedar").write_text("permit (principal, action, resource);")
    with pytest.raises(ConfigurationError):
        engine.reload()
    assert engine.version == before
    assert engine.decide(HIT).rules == ("nothing",)


def test_threads_get_the_same_answers() -> None:
    engine = PolicyEngine(default_folder())
    questions = [
        replace(ASK, action=action, asker=asker, handling=code, spent=spent)
        for action in (Action.ASK, Action.LEARN_HIT, Action.UPLOAD)
        for asker in (LISBON, HUB, LONDON)
        for code in HandlingCode
        for spent in range(3)
    ]
    alone = PolicyEngine(default_folder())
    expected = [alone.decide(question) for question in questions]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(engine.decide, questions)) == expected


def test_the_engine_is_what_the_services_expect(engine: PolicyEngine) -> None:
    decider: PolicyDecider = engine
    assert len(decider.version) == 64
    assert decider.decide(ASK).allowed
    assert engine.folder == default_folder()
