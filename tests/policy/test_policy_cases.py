"""The table of cases: the default rules hold it, it holds the default rules."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tieline_client.errors import FormatError
from tieline_client.handling import HandlingCode, Tlp
from tieline_server.domain.policy import Action, Question
from tieline_server.policy.cases import CASES_FILE, load_cases, run_cases
from tieline_server.policy.engine import PolicyEngine
from tieline_server.policy.loading import default_folder

CASES = default_folder() / CASES_FILE
PARTIES = "party pt-pj national PT -\nparty es-pn national ES -\n"
CASE = "case ask pt-pj es-pn - victim-identification H0 AMBER - allow member-asks\n"


@pytest.fixture(scope="module")
def engine() -> PolicyEngine:
    return PolicyEngine(default_folder())


def test_the_default_rules_decide_as_listed(engine: PolicyEngine) -> None:
    assert engine.run_cases(CASES) == []


def test_the_table_varies_every_axis_in_both_directions(engine: PolicyEngine) -> None:
    cases = load_cases(CASES).cases
    assert len(cases) >= 60
    assert {case.question.action for case in cases} == set(Action)
    for outcome in (True, False):
        questions = [case.question for case in cases if case.allowed is outcome]
        assert {q.action for q in questions} == set(Action)
        assert {q.asker.role for q in questions} >= {"national", "hub", "repository"}
        assert {q.purpose for q in questions} >= {"victim-identification", "deconfliction"}
        assert {q.handling for q in questions} == set(HandlingCode)
        assert {q.tlp for q in questions} >= {Tlp.AMBER, Tlp.AMBER_STRICT, Tlp.RED, Tlp.CLEAR}
        for name in ("confirmed", "permission", "vital_interests", "second_officer"):
            assert {getattr(q, name) for q in questions} == {True, False}, name
        assert {(q.asker.union, q.asker.agreement) for q in questions} >= {
            (True, False),
            (False, True),
            (False, False),
        }
        assert {q.provider == q.sender.agency for q in questions} == {True, False}


def test_every_rule_decides_some_case(engine: PolicyEngine) -> None:
    decided = {name for case in load_cases(CASES).cases for name in case.rules or ()}
    assert decided == {rule.id for rule in engine.rules}


def only_difference(a: Question, b: Question) -> bool:
    fields = [name for name in Question.__slots__ if getattr(a, name) != getattr(b, name)]
    return len(fields) == 1


def test_most_cases_have_a_neighbour_that_comes_out_otherwise() -> None:
    """A case shows something where one step aside changes the outcome."""
    cases = load_cases(CASES).cases
    lonely = [
        case
        for case in cases
        if not any(
            other.allowed != case.allowed and only_difference(other.question, case.question)
            for other in cases
        )
    ]
    assert len(lonely) <= len(cases) // 5, [case.text for case in lonely]


@pytest.mark.parametrize("name", [f.name for f in sorted(default_folder().glob("*.cedar"))])
def test_a_lost_rule_file_is_noticed(tmp_path: Path, name: str) -> None:
    """Losing a file of restrictions would allow more; the table says so."""
    folder = shutil.copytree(default_folder(), tmp_path / "policies")
    (folder / name).unlink()
    assert PolicyEngine(folder).run_cases(CASES)


def test_every_single_rule_is_held_by_the_table(tmp_path: Path, engine: PolicyEngine) -> None:
    """Take out one rule at a time: some case comes out with another outcome, not just reason."""
    for rule in engine.rules:
        folder = shutil.copytree(default_folder(), tmp_path / rule.id)
        file = folder / rule.file
        head, _, tail = file.read_text(encoding="utf-8").partition(f'@id("{rule.id}")')
        _, _, rest = tail.partition("};\n")
        if not (head + rest).count("@id("):
            file.unlink()
        else:
            file.write_text(head + rest, encoding="utf-8")
        weakened = PolicyEngine(folder)
        assert len(weakened.rules) == len(engine.rules) - 1
        failed = weakened.run_cases(CASES)
        expected = rule.effect == "forbid"
        assert any(failure.decision.allowed is expected for failure in failed), rule.id


def test_a_failure_says_what_was_expected_and_what_came(
    tmp_path: Path, engine: PolicyEngine
) -> None:
    path = tmp_path / "cases.txt"
    wrong = CASE.replace("allow member-asks", "deny *")
    other = CASE.replace("member-asks", "hub-asks,member-asks")
    path.write_text(PARTIES + CASE + wrong + "\n# words\n" + other)
    first, second = run_cases(engine, path)
    assert first.line == 4
    assert str(first).startswith("line 4: expected deny by *, got allow by member-asks: ask pt-pj")
    assert second.line == 7
    assert "expected allow by hub-asks,member-asks" in str(second)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("cse ask", "neither party nor case"),
        ("party es-xx national ES", "a party is"),
        ("party ES national ES -", "agency id"),
        ("party es-xx boss ES -", "role"),
        ("party es-xx national es -", "country"),
        ("party es-xx national ES yes", "neither agreement nor -"),
        ("party pt-pj national PT -", "listed twice"),
        (CASE.replace("case ask", "case aks"), "action 'aks' is none of ask"),
        (CASE.replace("pt-pj", "xx-yy"), "not listed above"),
        (CASE.replace("es-pn -", "es-pn ES"), "agency id"),
        (CASE.replace("H0", "H4"), "handling code"),
        (CASE.replace("AMBER", "PINK"), "TLP"),
        (CASE.replace("AMBER -", "AMBER confirmd"), "state 'confirmd'"),
        (CASE.replace("AMBER -", "AMBER spent=x"), "state"),
        (CASE.replace("AMBER -", "AMBER spent=-1"), "state"),
        (CASE.replace("AMBER -", "AMBER urgency=4"), "state"),
        (CASE.replace("allow", "maybe"), "neither allow nor deny"),
        (CASE.replace("member-asks", ""), "10 words"),
        (CASE.replace("victim-identification", "\x1b[31m"), "purpose"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "cases.txt"
    path.write_text(f"{PARTIES}{CASE}{line.rstrip()}\n")
    with pytest.raises(FormatError) as refused:
        load_cases(path)
    assert refused.value.record == 4
    assert why in refused.value.why
    assert refused.value.message.isprintable()


def test_a_table_that_shows_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cases.txt"
    with pytest.raises(FormatError, match="cannot be read"):
        load_cases(path)
    path.write_text(PARTIES + "# nothing\n")
    with pytest.raises(FormatError, match="holds no case"):
        load_cases(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FormatError, match="UTF-8"):
        load_cases(path)


def test_an_oversize_number_in_a_case_is_a_denial(tmp_path: Path, engine: PolicyEngine) -> None:
    path = tmp_path / "cases.txt"
    path.write_text(PARTIES + CASE.replace("AMBER -", "AMBER budget=99999999999999999999"))
    (failure,) = run_cases(engine, path)
    assert not failure.decision.allowed
    assert failure.decision.errors
