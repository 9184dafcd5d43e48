"""H0 to H3 with each TLP, for every kind of message that carries something of a series.

Kinds are read from the wire, actions from the policy's own list: what is added without a row here
fails. A row says which action lets the sender's own data go and which another agency's, and in
which modules that is asked, where it is sent and where it arrives. The expectation is in words of
its own (`stays`), and holds for the rules as shipped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pytest
import tieline_server
from tieline.v1 import operator_clock_pb2, payload_pb2
from tieline_client.errors import PolicyRefused
from tieline_client.handling import HandlingCode, Tlp
from tieline_server.domain.policy import Action, Party, Question
from tieline_server.policy.engine import PolicyEngine
from tieline_server.policy.loading import default_folder
from tieline_server.services.telling_outside import TellingOutside

from tests.services.bench import ANA, CASE, ES, HUB, PT, PURPOSE, Bench
from tests.services.test_forward_matrix import MATRIX, loaded

ENGINE = PolicyEngine(default_folder())
SERVICES = Path(tieline_server.__file__).parent / "services"
LISBON = Party.of("pt-pj", "national", ("PT",), agreement=False)
MADRID = Party.of("es-pn", "national", ("ES",), agreement=False)
EC3 = Party.of("europol-ec3", "hub", (), agreement=False)
ICSE = Party.of("interpol", "repository", (), agreement=False)


@dataclass(frozen=True)
class Row:
    """``own`` and ``other`` are the actions that let own data and another agency's go; where they
    are asked: module and the names of the actions in it."""

    own: tuple[Action, ...]
    other: tuple[Action, ...]
    asked: tuple[tuple[str, str], ...]


TOLD = Row(
    (Action.BE_TOLD,),
    (Action.PASS_ON,),
    (("incoming_referrals", "BE_TOLD"), ("incoming_referrals", "PASS_ON")),
)
ROWS: dict[str, Row] = {
    "query": Row((Action.ASK,), (Action.ASK,), (("context", "ASK"),)),
    "referral": TOLD,
    "escalation": replace(TOLD, asked=(("alarms", "BE_TOLD"), ("alarms", "PASS_ON"))),
    "referral_correction": replace(
        TOLD, asked=(("correcting", "BE_TOLD"), ("correcting", "PASS_ON"))
    ),
    "note": replace(TOLD, asked=(("notes", "BE_TOLD"), ("notes", "PASS_ON"))),
    "tip": replace(TOLD, asked=(("tips", "BE_TOLD"), ("tips", "PASS_ON"))),
    "broadcast": Row(
        (Action.BROADCAST, Action.RECEIVE_BROADCAST),
        (Action.RELAY, Action.RECEIVE_BROADCAST),
        (
            ("broadcasting", "BROADCAST"),
            ("broadcasting", "RELAY"),
            ("incoming_broadcasts", "RECEIVE_BROADCAST"),
        ),
    ),
    "upload": Row(
        (Action.UPLOAD, Action.ACCEPT_UPLOAD),
        (Action.UPLOAD, Action.ACCEPT_UPLOAD),
        (("uploading", "UPLOAD"), ("incoming_uploads", "ACCEPT_UPLOAD")),
    ),
    "release": Row(
        (Action.LEARN_COUNT, Action.LEARN_REFERENCE, Action.LEARN_DETAIL),
        (Action.LEARN_COUNT, Action.LEARN_REFERENCE, Action.LEARN_DETAIL),
        (("releasing", "LEARN_REFERENCE"), ("incoming_requests", "LEARN_REFERENCE")),
    ),
    "same_as": Row(
        (Action.LEARN_REFERENCE,),
        (Action.LEARN_REFERENCE,),
        (("same_as", "LEARN_REFERENCE"), ("incoming_same_as", "LEARN_REFERENCE")),
    ),
    "deposit_report": Row(
        (Action.LEARN_REFERENCE,),
        (Action.LEARN_REFERENCE,),
        (("deposit_reports", "LEARN_REFERENCE"),),
    ),
    "told_outside": Row(
        (Action.TELL_OUTSIDE,), (Action.TELL_OUTSIDE,), (("telling_outside", "TELL_OUTSIDE"),)
    ),
}
NOTHING_OF_A_SERIES = {
    "hello": "proves a server",
    "receipt": "counts, of what `query` was answered: learn-* decided each hit",
    "checkpoint": "the head of a log",
    "countersignature": "the same of somebody else's",
    "purge_receipt": "that copies are gone",
    "referral_step": "a step, to whoever sent the referral: id, state, and who is told next",
    "referral_lead": "who leads, to whoever was told",
    "upload_step": "a step, to whoever deposited",
    "broadcast_answer": "the answerer's words; an own series named goes by learn-reference",
    "request_answer": "yes or no; the series itself goes as `release`",
    "permission_request": "asks the owner for a use of its own series",
    "permission": "the owner's own word on its own series",
    "transfer_notice": "to the owner: its own series went out",
    "retraction": "takes back what was told: restrictions never hold that up",
    "series_merge": "that two ids, both told already, are one",
    "series_split": "that a series told already is several: ids, and which items by salted digests",
    "watch_notice": "what the holder itself answered, counted",
}
NO_MESSAGE = {
    Action.LEARN_HIT: "in an answer: each hit",
    Action.EXPORT: "into a file",
    Action.PUBLISH: "to the public",
}


def stays(action: Action, code: HandlingCode, tlp: Tlp, *, own: bool) -> bool:
    """Whether data under these restrictions stays, without its provider's permission."""
    if not own:  # it goes on at most as H1 and TLP:AMBER
        return code >= HandlingCode.H2 or tlp >= Tlp.AMBER_STRICT
    if action in (Action.BE_TOLD, Action.TELL_OUTSIDE):  # its officer decides, each time
        return False
    if action is Action.ASK or action.value.startswith("learn-"):
        return code is HandlingCode.H3 or tlp is Tlp.RED
    return code >= HandlingCode.H2 or tlp is Tlp.RED


def asked_between(action: Action, code: HandlingCode, tlp: Tlp, *, own: bool) -> Question:
    """The action as it is asked in ordinary work, between those whom it is for."""
    sides = {
        Action.BE_TOLD: (MADRID, LISBON),
        Action.PASS_ON: (LISBON, MADRID),
        Action.BROADCAST: (EC3, EC3),
        Action.RELAY: (EC3, EC3),
        Action.RECEIVE_BROADCAST: (MADRID, EC3),
        Action.UPLOAD: (LISBON, ICSE),
        Action.ACCEPT_UPLOAD: (LISBON, ICSE),
        Action.TELL_OUTSIDE: (EC3, EC3),
        Action.EXPORT: (LISBON, LISBON),
        Action.PUBLISH: (LISBON, LISBON),
    }
    asker, holder = sides.get(action, (MADRID, LISBON))
    if not own and holder is ICSE:  # others' data leaves the union by the hub alone
        asker = EC3
    return Question(
        action,
        asker,
        holder,
        "victim-identification",
        handling=code,
        tlp=tlp,
        owner="" if own else "fr-ofmin",
        confirmed=True,
    )


def test_every_kind_of_message_has_its_row() -> None:
    kinds = {one.name for one in payload_pb2.Payload.DESCRIPTOR.oneofs_by_name["body"].fields}
    assert set(ROWS) | set(NOTHING_OF_A_SERIES) == kinds
    assert not set(ROWS) & set(NOTHING_OF_A_SERIES)


def test_every_action_lets_some_kind_go_or_says_what_instead() -> None:
    named = {action for row in ROWS.values() for action in (*row.own, *row.other)}
    assert named | set(NO_MESSAGE) == set(Action)


@pytest.mark.parametrize("kind", sorted(ROWS))
def test_the_rules_hold_each_kind_to_handling_and_tlp(kind: str) -> None:
    row = ROWS[kind]
    for (code, tlp), own in product(MATRIX, (True, False)):
        for action in row.own if own else row.other:
            question = asked_between(action, code, tlp, own=own)
            found = ENGINE.decide(question)
            assert found.allowed is not stays(action, code, tlp, own=own), (question, found)
            permitted = ENGINE.decide(replace(question, permission=True))
            assert permitted.allowed, question


@pytest.mark.parametrize("action", sorted(NO_MESSAGE))
def test_and_what_goes_without_a_message(action: Action) -> None:
    for code, tlp in MATRIX:
        question = asked_between(action, code, tlp, own=True)
        assert ENGINE.decide(question).allowed is not stays(action, code, tlp, own=True)


@pytest.mark.parametrize("kind", sorted(ROWS))
def test_the_action_is_asked_where_the_row_says(kind: str) -> None:
    for module, action in ROWS[kind].asked:
        text = (SERVICES / f"{module}.py").read_text(encoding="utf-8")
        asked = (f"Action.{action}", f"Use.{action}")  # a use is asked by its action
        assert any(one in text for one in asked), (kind, module, action)


def test_what_is_told_outside(bench: Bench) -> None:
    """At real services: the owner tells of anything, the hub of what another agency lets go on."""
    series = loaded(bench)
    assert bench[HUB] and bench[ES]
    for one in series.values():
        bench[PT].refer(one, agency=HUB)
    bench.flow()
    for (code, tlp), one in series.items():
        wanted = operator_clock_pb2.TellOutsideRequest(
            id=one, reference="I247-88", country="BR", purpose=PURPOSE, case_ref=CASE
        )
        assert TellingOutside(bench[PT].node).tell(ANA, wanted).state == "passed_on"
        if stays(Action.TELL_OUTSIDE, code, tlp, own=False):
            with pytest.raises(PolicyRefused):
                TellingOutside(bench[HUB].node).tell(ANA, wanted)
        else:
            assert TellingOutside(bench[HUB].node).tell(ANA, wanted).state == "passed_on"
