"""`tieline policy check`: are the rules sound, do they decide as listed, and why this one?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.errors import EXIT_FAILED, InvalidInput, UsageError
from tieline_client.handling import Tlp, parse_handling_code
from tieline_client.identifiers import check_agency, check_code

from tieline_server.domain.policy import Decision, Party, Question
from tieline_server.policy.cases import (
    CASES_FILE,
    CaseTable,
    failures,
    load_cases,
    parse_action,
    parse_party,
    parse_state,
)
from tieline_server.policy.engine import PolicyEngine
from tieline_server.policy.loading import default_folder

policy_app = group("The rules that decide who may ask, learn and be told.")

_PARTY_HELP = "An agency of the case file, or AGENCY:ROLE:COUNTRIES:agreement (- for none)."


@policy_app.command("check")
@run
def check(
    *,
    folder: Annotated[
        Path | None, typer.Option(help="The rules; by default those that Tieline came with.")
    ] = None,
    cases: Annotated[
        Path | None, typer.Option(help=f"The case file; by default {CASES_FILE} in the folder.")
    ] = None,
    action: Annotated[
        str, typer.Option(help="Show one decision: ask, learn-hit, be-told, upload, ...")
    ] = "",
    asker: Annotated[str, typer.Option(help=f"Who acts. {_PARTY_HELP}")] = "",
    holder: Annotated[str, typer.Option(help=f"The other side. {_PARTY_HELP}")] = "",
    owner: Annotated[
        str, typer.Option(help="Agency that provided the data; by default its sender.")
    ] = "",
    purpose: Annotated[str, typer.Option(help="A purpose code.")] = "victim-identification",
    handling: Annotated[str, typer.Option(help="H0 to H3.")] = "H0",
    tlp: Annotated[str, typer.Option(help="clear, green, amber, amber+strict or red.")] = "amber",
    state: Annotated[
        str,
        typer.Option(
            help="Some of confirmed, permission, vital-interests, second-officer, urgency=1..3, "
            "asked=N, spent=N, budget=N, apart by commas."
        ),
    ] = "-",
    as_json: Json = False,
) -> None:
    """Check the rules and run their table of cases; show one decision and why.

    Exit code 1 when the rules are unfit or a case comes out otherwise.

    Example: tieline policy check --action learn-reference --asker us-ice --holder pt-pj
    """
    where = folder or default_folder()
    engine = PolicyEngine(where)
    listed = load_cases(cases or where / CASES_FILE)
    failed = failures(engine, listed)
    shown: tuple[Question, Decision] | None = None
    if action:
        question = _question(
            listed,
            action=action,
            asker=asker,
            holder=holder,
            owner=owner,
            purpose=purpose,
            handling=handling,
            tlp=tlp,
            state=state,
        )
        shown = question, engine.decide(question)
    elif asker or holder:
        raise UsageError("say what is to be decided with --action, for example --action ask")

    document = {
        "folder": str(where),
        "version": engine.version,
        "rules": [
            {"id": r.id, "effect": r.effect, "why": r.why, "source": r.source, "file": r.file}
            for r in engine.rules
        ],
        "cases": {
            "run": len(listed.cases),
            "failed": [
                {
                    "line": f.line,
                    "case": f.text,
                    "expected": f.expected,
                    "allowed": f.decision.allowed,
                    "rules": list(f.decision.rules),
                    "errors": list(f.decision.errors),
                }
                for f in failed
            ],
        },
        "decision": None if shown is None else _decision(*shown),
    }

    def render() -> None:
        line(f"{len(engine.rules)} rules in {where}, version {engine.version[:16]}")
        line(f"{len(listed.cases)} cases, {len(failed)} decided otherwise than listed")
        if shown is not None:
            _show(engine, *shown)

    emit(as_json, document, render)
    for failure in failed:
        say(f"error: {failure}")
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _question(
    listed: CaseTable,
    *,
    action: str,
    asker: str,
    holder: str,
    owner: str,
    purpose: str,
    handling: str,
    tlp: str,
    state: str,
) -> Question:
    if not asker or not holder:
        raise UsageError("a decision needs --asker and --holder")
    try:
        return Question(
            action=parse_action(action),
            asker=_party(listed, asker),
            holder=_party(listed, holder),
            purpose=check_code(purpose, "purpose"),
            handling=parse_handling_code(handling),
            tlp=Tlp.parse(tlp),
            owner=check_agency(owner) if owner else "",
            **parse_state(state),
        )
    except InvalidInput as error:
        raise UsageError(error.message) from error


def _party(listed: CaseTable, text: str) -> Party:
    if ":" in text:
        return parse_party(text.split(":"))
    if text not in listed.parties:
        raise UsageError(
            f"agency {text[:40]!r} is not in the case file; write it as "
            "AGENCY:ROLE:COUNTRIES:agreement, for example us-ice:national:US:agreement"
        )
    return listed.parties[text]


def _decision(question: Question, decision: Decision) -> dict[str, object]:
    return {
        "action": str(question.action),
        "asker": question.asker.agency,
        "holder": question.holder.agency,
        "owner": question.provider,
        "purpose": question.purpose,
        "allowed": decision.allowed,
        "rules": list(decision.rules),
        "errors": list(decision.errors),
        "why": decision.why,
    }


def _show(engine: PolicyEngine, question: Question, decision: Decision) -> None:
    verdict = "allowed" if decision.allowed else "denied"
    line(
        f"{question.asker.agency} {question.action} {question.holder.agency} "
        f"({question.purpose}): {verdict}"
    )
    if not decision.rules or decision.errors:
        line(decision.why)
    for error in decision.errors:
        line(error)
    by_id = {rule.id: rule for rule in engine.rules}
    for rule in (by_id[name] for name in decision.rules):
        line(f"{rule.effect} {rule.id} ({rule.file})")
        line(f"    {rule.why}")
        line(f"    {rule.source}")
