"""Cedar's answer to a question, counted as Allow only when nothing at all went wrong.

A question is bounded, turned into a Cedar request against the schema, decided, and explained with
the ids of the rules that decided. Cedar skips a rule that fails to evaluate, a ``forbid`` too, so
a decision with any error is a denial. Decisions depend on the question alone and are cached; a
reload swaps rules and cache together, and keeps the old ones when the new folder is refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cedarpy
from tieline_client.errors import ConfigurationError, InvalidInput
from tieline_client.handling import HandlingCode, Tlp
from tieline_client.identifiers import check_agency, check_code, check_country
from tieline_client.limits import COUNTRIES_PER_MEMBER, DECISIONS_CACHED, POLICY_NUMBER_MOST

from tieline_server.domain.policy import (
    LEARNING,
    ROLES,
    Action,
    Decision,
    Disclosure,
    DisclosureDecision,
    Party,
    Question,
)
from tieline_server.domain.referral import Urgency
from tieline_server.policy.cases import CaseFailure, run_cases
from tieline_server.policy.loading import Rule, RuleBook, load_rules

_POLICY_ID = re.compile(r"policy\d+")
_PAIRS_PARSED = 512
"""Askers and holders of which the parsed form is kept."""
_ERRORS_SHOWN = 8
_ERROR_CHARS = 300


class PolicyEngine:
    """The rules of one folder. Raises ConfigurationError at construction when they are unfit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._current = _Rules(load_rules(folder))

    @property
    def folder(self) -> Path:
        """Where the rules were read from."""
        return self._folder

    @property
    def version(self) -> str:
        """SHA-256 (hex) of the schema and the rules in force."""
        return self._current.book.version

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force, in the order of the files."""
        return tuple(self._current.book.by_policy_id.values())

    def reload(self) -> None:
        """Read the folder again; raise ConfigurationError and keep the old rules if it is unfit."""
        self._current = _Rules(load_rules(self._folder))

    def forget(self) -> None:
        """Drop the decisions that are remembered: each is made anew, as at the start."""
        self._current.forget()

    def decide(self, question: Question) -> Decision:
        """Return the decision; a question out of bounds is denied, never raised."""
        return self._current.decide(question)

    def highest_disclosure(self, question: Question) -> DisclosureDecision:
        """Return the highest level of disclosure; the question's own action does not count.

        A level counts only when every level below is allowed as well.
        """
        return self._current.disclose(question)

    def run_cases(self, path: Path) -> list[CaseFailure]:
        """Run a table of cases; return those that came out otherwise. Raises FormatError."""
        return run_cases(self, path)


class _Rules:
    """One immutable rule book with the cache of its decisions."""

    def __init__(self, book: RuleBook) -> None:
        self.book = book
        self._cached = lru_cache(maxsize=DECISIONS_CACHED)(self._evaluate)
        self._disclosed = lru_cache(maxsize=DECISIONS_CACHED)(self._highest)
        self._parsed = lru_cache(maxsize=_PAIRS_PARSED)(self._parse)
        self._check_every_action()

    def forget(self) -> None:
        """Empty both caches."""
        self._cached.cache_clear()
        self._disclosed.cache_clear()

    def decide(self, question: Question) -> Decision:
        """Bound, then decide; only questions in bounds reach the cache."""
        try:
            question = _bounded(question)
        except InvalidInput as error:
            return _out_of_bounds(error)
        return self._cached(question)

    def disclose(self, question: Question) -> DisclosureDecision:
        """``decide`` for the highest level, likewise."""
        try:
            question = _bounded(question.towards(Action.LEARN_HIT))
        except InvalidInput as error:
            denied = _out_of_bounds(error)
            return DisclosureDecision(
                Disclosure.NOTHING, denied, Disclosure.NOTHING, Disclosure.NOTHING
            )
        return self._disclosed(question)

    def _highest(self, question: Question) -> DisclosureDecision:
        level, decision = self._climb(question)
        confirmed = replace(question, confirmed=True)
        confirmable = max(level, self._climb(confirmed)[0])
        permitted = self._climb(replace(confirmed, permission=True))[0]
        return DisclosureDecision(level, decision, confirmable, max(confirmable, permitted))

    def _climb(self, question: Question) -> tuple[Disclosure, Decision]:
        """Return the last level before the first denial, with the decision that gave it."""
        level, given = Disclosure.NOTHING, None
        for step, action in LEARNING:
            decision = self._cached(question.towards(action))
            if not decision.allowed:
                return level, given or decision
            level, given = step, decision
        assert given is not None
        return level, given

    def _evaluate(self, question: Question) -> Decision:
        answer = cedarpy.is_authorized(
            _request(question), self.book.policies, self._entities(question), self.book.schema
        )
        errors = tuple(map(self._named, answer.diagnostics.errors[:_ERRORS_SHOWN]))
        rules = sorted(
            (self.book.by_policy_id[key] for key in answer.diagnostics.reasons),
            key=lambda rule: rule.id,
        )
        ids = tuple(rule.id for rule in rules)
        if errors or answer.decision is cedarpy.Decision.NoDecision:
            why = "a rule failed on this question, so it is denied; run `tieline policy check`"
            return Decision(False, ids, errors or ("no decision",), why)
        if not rules:
            why = f"no rule lists {question.action} here for {question.purpose}; unlisted is denied"
            return Decision(False, (), (), why)
        return Decision(answer.allowed, ids, (), "; ".join(rule.why for rule in rules))

    def _entities(self, question: Question) -> cedarpy.Entities | list[dict[str, Any]]:
        """Return the parties, parsed once for all questions between the two.

        Those that Cedar refuses are given as they are: its answer says why, and decides nothing.
        """
        try:
            return self._parsed(question.asker, question.holder)
        except ValueError:
            return _entities(question.asker, question.holder)

    def _parse(self, asker: Party, holder: Party) -> cedarpy.Entities:
        return cedarpy.Entities.from_json_str(
            json.dumps(_entities(asker, holder)), self.book.schema
        )

    def _named(self, error: str) -> str:
        """Put the rule's own id in place of Cedar's position, on one bounded line."""

        def name(match: re.Match[str]) -> str:
            rule = self.book.by_policy_id.get(match.group())
            return rule.id if rule else match.group()

        return " ".join(_POLICY_ID.sub(name, error).split())[:_ERROR_CHARS]

    def _check_every_action(self) -> None:
        """Refuse a schema that does not fit this version's questions: they would all be denied."""
        party = Party.of("pt-pj", "national", ("PT",), agreement=False)
        for action in Action:
            for urgency in (None, Urgency.ROUTINE):
                question = Question(action, party, party, "victim-identification", urgency=urgency)
                answer = cedarpy.is_authorized(
                    _request(question),
                    self.book.policies,
                    self._entities(question),
                    self.book.schema,
                )
                if answer.decision is cedarpy.Decision.NoDecision:
                    raise ConfigurationError(
                        f"policy: the schema does not fit action {action}: "
                        + self._named("; ".join(answer.diagnostics.errors))
                    )


def _out_of_bounds(error: InvalidInput) -> Decision:
    return Decision(False, (), (error.message,), f"out of bounds: {error.message}")


def _bounded(question: Question) -> Question:
    """Check everything that Cedar will see; drop the numbers where they do not count.

    Cedar's integers are 64 bits and an overflow makes it skip the rule, so numbers stay far below.
    Raises InvalidInput.
    """
    if not isinstance(question.action, Action):
        raise InvalidInput("the action is none of this version's; update the node")
    states = (
        *(question.confirmed, question.permission),
        *(question.vital_interests, question.second_officer),
        *(question.asker.union, question.asker.agreement),
        *(question.holder.union, question.holder.agreement),
    )
    if not all(isinstance(state, bool) for state in states):
        raise InvalidInput("what is stated of the question or a party is neither true nor false")
    for party in (question.asker, question.holder):
        check_agency(party.agency)
        if party.role not in ROLES:
            raise InvalidInput(f"role {party.role[:16]!r} is not national, hub or repository")
        if len(party.countries) > COUNTRIES_PER_MEMBER:
            raise InvalidInput(f"an agency serves over {COUNTRIES_PER_MEMBER} countries")
        for country in party.countries:
            check_country(country)
    check_agency(question.provider)
    check_code(question.purpose, "purpose")
    if not _whole(question.handling, HandlingCode.H3):
        raise InvalidInput("the handling code is not H0 to H3")
    if not _whole(question.tlp, Tlp.RED) or question.tlp < Tlp.CLEAR:
        raise InvalidInput("the TLP mark is unknown")
    if question.urgency is not None and not _whole(question.urgency, Urgency.ROUTINE):
        raise InvalidInput("the urgency is unknown")
    if question.action is not Action.ASK:
        counts = question.asked or question.spent or question.budget
        return replace(question, asked=0, spent=0, budget=0) if counts else question
    for number in (question.asked, question.spent, question.budget):
        if not _whole(number, POLICY_NUMBER_MOST):
            raise InvalidInput(f"units asked, spent or allowed are not 0 to {POLICY_NUMBER_MOST}")
    return question


def _whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _uid(agency: str) -> dict[str, str]:
    return {"type": "Agency", "id": agency}


def _request(question: Question) -> dict[str, Any]:
    context: dict[str, Any] = {
        "purpose": question.purpose,
        "owner": question.provider,
        "sender": {"__entity": _uid(question.sender.agency)},
        "receiver": {"__entity": _uid(question.receiver.agency)},
        "handling": int(question.handling),
        "tlp": int(question.tlp),
        "confirmed": question.confirmed,
        "permission": question.permission,
        "vitalInterests": question.vital_interests,
        "secondOfficer": question.second_officer,
    }
    if question.urgency is not None:
        context["urgency"] = int(question.urgency)
    if question.action is Action.ASK:
        context |= {"asked": question.asked, "spent": question.spent, "budget": question.budget}
    return {
        "principal": _uid(question.asker.agency),
        "action": {"type": "Action", "id": str(question.action)},
        "resource": _uid(question.holder.agency),
        "context": context,
    }


def _entities(asker: Party, holder: Party) -> list[dict[str, Any]]:
    """The two parties; one and the same is listed once, two that differ under one id are refused
    by Cedar."""
    parties = dict.fromkeys((asker, holder))
    return [
        {
            "uid": _uid(party.agency),
            "attrs": {
                "id": party.agency,
                "role": str(party.role),
                "countries": sorted(party.countries),
                "union": party.union,
                "agreement": party.agreement,
            },
            "parents": [],
        }
        for party in parties
    ]
