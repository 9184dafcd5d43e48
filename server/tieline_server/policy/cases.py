"""A table of cases that rules must decide as written: the lawyer's and the officer's own test.

Lines of a case file, words apart by blanks, ``#`` starts a comment::

    party pt-pj   national  PT   -
    party us-ice  national  US   agreement
    case  ask  us-ice  pt-pj  -  victim-identification  H0  AMBER  -  allow  member-asks

A case is: action, asker, holder, owner (``-``: the sender's own), purpose, handling, TLP, state
(``-`` or some of confirmed, permission, vital-interests, second-officer, urgency=1..3, asked=N,
spent=N, budget=N, apart by commas), allow or deny, and the rules that decide, apart by commas
(``-``: no rule at all, ``*``: any).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tieline_client.errors import FormatError, InvalidInput
from tieline_client.handling import Tlp, parse_handling_code
from tieline_client.identifiers import check_agency, check_code, check_country
from tieline_client.limits import LINE_BYTES, POLICY_CASES

from tieline_server.domain.policy import ROLES, Action, Decision, Party, PolicyDecider, Question
from tieline_server.domain.referral import Urgency

CASES_FILE = "cases.txt"
_FLAGS = ("confirmed", "permission", "vital-interests", "second-officer")
_NUMBERS = ("asked", "spent", "budget")


@dataclass(frozen=True, slots=True)
class Case:
    """A question and what must come of it. ``rules`` None: whichever."""

    line: int
    text: str
    question: Question
    allowed: bool
    rules: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class CaseFailure:
    """A case that came out otherwise."""

    line: int
    text: str
    expected: str
    decision: Decision

    def __str__(self) -> str:
        got = "allow" if self.decision.allowed else "deny"
        by = ",".join(self.decision.rules) or "-"
        return f"line {self.line}: expected {self.expected}, got {got} by {by}: {self.text}"


@dataclass(frozen=True, slots=True)
class CaseTable:
    """What one file holds, in its order."""

    parties: dict[str, Party]
    cases: tuple[Case, ...]


def run_cases(policy: PolicyDecider, path: Path) -> list[CaseFailure]:
    """Decide every case; return those that came out otherwise. Raises FormatError."""
    return failures(policy, load_cases(path))


def failures(policy: PolicyDecider, table: CaseTable) -> list[CaseFailure]:
    """Decide every case of a table; return those that came out otherwise."""
    failed = []
    for case in table.cases:
        decision = policy.decide(case.question)
        as_listed = case.rules is None or case.rules == decision.rules
        if decision.allowed != case.allowed or decision.errors or not as_listed:
            by = "*" if case.rules is None else ",".join(case.rules) or "-"
            expected = f"{'allow' if case.allowed else 'deny'} by {by}"
            failed.append(CaseFailure(case.line, case.text, expected, decision))
    return failed


def load_cases(path: Path) -> CaseTable:
    """Read a case file; raise FormatError with the line that is wrong, or when none is a case."""
    parties: dict[str, Party] = {}
    cases: list[Case] = []
    try:
        with path.open(encoding="utf-8") as source:
            for number, text in enumerate(iter(lambda: source.readline(LINE_BYTES), ""), 1):
                words = text.partition("#")[0].split()
                if not words:
                    continue
                try:
                    _read(words, number, parties, cases)
                except InvalidInput as error:
                    raise FormatError(str(path), number, error.message) from error
    except OSError as error:
        raise FormatError(str(path), None, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FormatError(str(path), None, "is not UTF-8") from error
    if not cases:
        raise FormatError(str(path), None, "holds no case, so it shows nothing")
    return CaseTable(parties, tuple(cases))


def _read(words: list[str], number: int, parties: dict[str, Party], cases: list[Case]) -> None:
    kind, *rest = words
    if kind == "party":
        party = parse_party(rest)
        if party.agency in parties:
            raise InvalidInput(f"party {party.agency} is listed twice")
        parties[party.agency] = party
    elif kind == "case":
        if len(cases) >= POLICY_CASES:
            raise InvalidInput(f"there are over {POLICY_CASES} cases; split the file")
        cases.append(_case(rest, number, parties))
    else:
        raise InvalidInput(f"{kind[:20]!r} is neither party nor case")


def parse_party(words: list[str]) -> Party:
    """Parse agency, role, countries (apart by commas, or -) and ``agreement`` or ``-``."""
    if len(words) != 4:
        raise InvalidInput("a party is: AGENCY ROLE COUNTRIES|- agreement|-")
    agency, role, countries, agreement = words
    if role not in ROLES:
        raise InvalidInput(f"role {role[:16]!r} is not national, hub or repository")
    if agreement not in ("agreement", "-"):
        raise InvalidInput(f"{agreement[:16]!r} is neither agreement nor -")
    served = () if countries == "-" else tuple(map(check_country, countries.split(",")))
    return Party.of(check_agency(agency), role, served, agreement=agreement == "agreement")


def parse_action(word: str) -> Action:
    """Parse an action's name; raise InvalidInput with those that exist."""
    try:
        return Action(word)
    except ValueError:
        raise InvalidInput(f"action {word[:32]!r} is none of {', '.join(Action)}") from None


def parse_state(word: str) -> dict[str, Any]:
    """Parse a case's state column into fields of a Question."""
    fields: dict[str, Any] = {}
    for part in () if word == "-" else word.split(","):
        name, equals, value = part.partition("=")
        if not equals and name in _FLAGS:
            fields[name.replace("-", "_")] = True
        elif equals and name in _NUMBERS and value.isascii() and value.isdigit():
            fields[name] = int(value[:20])
        elif name == "urgency" and value in ("1", "2", "3"):
            fields[name] = Urgency(int(value))
        else:
            raise InvalidInput(
                f"state {part[:40]!r} is none of {', '.join(_FLAGS)}, urgency=1..3, "
                + ", ".join(f"{number}=N" for number in _NUMBERS)
            )
    return fields


def _case(words: list[str], number: int, parties: dict[str, Party]) -> Case:
    if len(words) != 10:
        raise InvalidInput(
            f"a case has 10 words after `case`, here are {len(words)}: ACTION ASKER HOLDER "
            "OWNER|- PURPOSE HANDLING TLP STATE|- allow|deny RULES|-|*"
        )
    action, asker, holder, owner, purpose, handling, tlp, state, outcome, rules = words
    if outcome not in ("allow", "deny"):
        raise InvalidInput(f"{outcome[:16]!r} is neither allow nor deny")
    question = Question(
        action=parse_action(action),
        asker=_party(asker, parties),
        holder=_party(holder, parties),
        purpose=check_code(purpose, "purpose"),
        handling=parse_handling_code(handling),
        tlp=Tlp.parse(tlp),
        owner="" if owner == "-" else check_agency(owner),
        **parse_state(state),
    )
    return Case(number, " ".join(words), question, outcome == "allow", _rules(rules))


def _party(word: str, parties: dict[str, Party]) -> Party:
    if word not in parties:
        raise InvalidInput(f"party {word[:40]!r} is not listed above; add a `party` line for it")
    return parties[word]


def _rules(word: str) -> tuple[str, ...] | None:
    if word == "*":
        return None
    return () if word == "-" else tuple(sorted(word.split(",")))
