"""Every kind of message that may reach a third country has the basis of that in the log.

The kinds are read from the wire: one that is added without a word here fails.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tieline.v1 import delivery_pb2, envelope_pb2, payload_pb2, requests_pb2
from tieline_client.handling import HandlingCode, Tlp
from tieline_server.delivery.drafts import Draft
from tieline_server.delivery.settling import settle
from tieline_server.domain.messages import Reply
from tieline_server.domain.policy import Action, Party
from tieline_server.domain.referral import Urgency
from tieline_server.services.legal_basis import WITHOUT_AGREEMENT
from tieline_server.services.sending import send

from tests.services.bench import CASE, ES, FBI, ICE, INTERPOL, PT, PURPOSE, Bench
from tests.services.test_handling_of_kinds import ENGINE, ROWS, asked_between

ELSEWHERE = {
    "hello": "proves a server, and tells nothing of a series",
    "query": "in `query.asked`, before it leaves: services/test_legal_basis.py",
    "receipt": "in `query.answered`, before it leaves: services/test_release_service.py",
    "checkpoint": "the head of a log: a number and a hash",
    "countersignature": "the same of somebody else's",
}
"""Bodies that are in no queue, and where their basis is."""
KINDS = sorted(one.name for one in payload_pb2.Payload.DESCRIPTOR.oneofs_by_name["body"].fields)
QUEUED = [kind for kind in KINDS if kind not in ELSEWHERE]


def _arrived(
    bench: Bench, kind: str, recipient: str, stated: requests_pb2.VitalInterests | None = None
) -> Any:
    """Queue a message of a kind, settle it as delivered, and return the entry's detail."""
    node = bench[PT].node
    payload = payload_pb2.Payload(person="ana", purpose=PURPOSE, case_ref=CASE)
    body = getattr(payload, kind)
    body.SetInParent()
    if stated is not None:
        body.vital_interests.CopyFrom(stated)
    assert payload.WhichOneof("body") == kind
    queued = node.store.write(
        lambda tx: send(node, tx, payload, recipient=recipient, lane=Urgency.URGENT, subject="s")
    )
    envelope = envelope_pb2.Envelope.FromString(queued.envelope)
    answer = delivery_pb2.DeliverResponse(reply=int(Reply.APPLIED))  # type: ignore[arg-type]
    draft = Draft(queued, envelope, payload)
    node.store.write(lambda tx: settle(node, tx, recipient, [(draft, answer)]))
    (entry,) = bench[PT].audit("message.delivered")
    detail: Any = entry["detail"]
    assert detail["kind"] == kind
    return detail


def _fields(kind: str) -> set[str]:
    body = payload_pb2.Payload.DESCRIPTOR.fields_by_name[kind].message_type
    assert body is not None
    return set(body.fields_by_name)


@pytest.mark.parametrize("kind", QUEUED)
def test_each_kind_that_arrives_outside_the_union_names_its_basis(bench: Bench, kind: str) -> None:
    detail = _arrived(bench, kind, ICE)
    assert detail["legal_basis"] == {ICE: "agreement: trial agreement"}


@pytest.mark.parametrize("kind", QUEUED)
def test_no_kind_names_one_inside(bench: Bench, kind: str) -> None:
    assert "legal_basis" not in _arrived(bench, kind, ES)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in QUEUED if "vital_interests" in _fields(kind)],
)
def test_what_goes_on_the_exception_names_it_with_both_officers(bench: Bench, kind: str) -> None:
    stated = requests_pb2.VitalInterests(grounds="seen", officer="ana", second_officer="rui")
    detail = _arrived(bench, kind, FBI, stated)
    assert detail["legal_basis"] == {FBI: "2016/680 Art. 38(1)(a), vital interests: seen"}
    assert detail["officers"] == ["ana", "rui"]


@pytest.mark.parametrize("kind", QUEUED)
def test_without_agreement_or_exception_each_kind_says_on_what_it_rests(
    bench: Bench, kind: str
) -> None:
    """Kinds that follow what was told name a law, or that nothing of a series is in them; those
    with data of a series are never queued without a basis (below), so theirs ended meanwhile."""
    said = _arrived(bench, kind, FBI)["legal_basis"][FBI]
    assert said != "by the rules named here"
    if kind in ROWS and kind != "referral_correction":  # of which only the countries go then
        assert kind not in WITHOUT_AGREEMENT
        assert said.endswith("that ended since")
    else:
        assert said == WITHOUT_AGREEMENT[kind]
        assert "2016/680 Art." in said or "no data of a series" in said


@pytest.mark.parametrize("kind", sorted(set(ROWS) - {"query", "told_outside"}))
def test_no_data_of_a_series_is_queued_without_a_basis(kind: str) -> None:
    """Each action of each such kind is denied towards a third country without an agreement."""
    fbi = Party.of("us-fbi", "national", ("US",), agreement=False)
    for action in {*ROWS[kind].own, *ROWS[kind].other}:
        question = asked_between(action, HandlingCode.H0, Tlp.AMBER, own=True)
        outside = (
            replace(question, holder=fbi)
            if action in (Action.PASS_ON, Action.UPLOAD, Action.BROADCAST, Action.RELAY)
            else replace(question, asker=fbi)
        )
        assert not ENGINE.decide(outside).allowed, outside


def test_an_organisation_is_named_as_one(bench: Bench) -> None:
    basis = _arrived(bench, "upload", INTERPOL)["legal_basis"]
    assert basis == {INTERPOL: "international organisation: by the rules named here"}


def test_every_kind_is_queued_or_its_place_is_named() -> None:
    assert set(ELSEWHERE) < set(KINDS)
    assert len(QUEUED) > 20
