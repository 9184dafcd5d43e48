"""Messages of a member that cheats: everything it signs is really signed by its own key.

Whatever is refused leaves no effect: ``_untouched`` compares what the receiver knows before and
after.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tieline.v1 import delivery_pb2, envelope_pb2, operator_pb2, payload_pb2
from tieline_client import envelopes, limits
from tieline_client.errors import RequestIdReused, SignatureRefused, TielineError
from tieline_client.identifiers import new_id, new_series_id
from tieline_client.payloads import Audience, payload_type, timestamp, to_proto
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.inbox import Mailbox
from tieline_server.services.referring import Referring
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.uploading import Uploading

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    FBI,
    HUB,
    ICE,
    INTERPOL,
    PT,
    PURPOSE,
    START,
    Bench,
    Running,
    records,
)

APPLIED, DUPLICATE, REFUSED, UNSUPPORTED, RETRY = (
    delivery_pb2.REPLY_APPLIED,
    delivery_pb2.REPLY_DUPLICATE,
    delivery_pb2.REPLY_REFUSED,
    delivery_pb2.REPLY_UNSUPPORTED,
    delivery_pb2.REPLY_RETRY,
)
Payload = payload_pb2.Payload


def _opened(envelope: envelope_pb2.Envelope) -> Payload:
    return Payload.FromString(envelope.payload)


def _again(payload: Payload) -> Payload:
    """The same words as a new message."""
    copy = Payload()
    copy.CopyFrom(payload)
    copy.ClearField("id")
    return copy


def _known(node: Running) -> object:
    """All that a message could have changed."""

    def read(tx: Any) -> object:
        series = tx.series.find()
        return (
            tx.items.stats(),
            series,
            [tx.series.assessments(one.id) for one in series],
            [(one, tx.referrals.steps(one.id)) for one in tx.referrals.find()],
            [(one, tx.uploads.steps(one.id)) for one in tx.uploads.find()],
            [(one, tx.broadcasts.answers(one.id)) for one in tx.broadcasts.find()],
            tx.imports.incomplete(),
        )

    return node.store.read(read)


def _untouched(node: Running, call: Callable[[], object]) -> Any:
    """Return what ``call`` returns, or raise what it raises; the node must know no more after."""
    before = _known(node)
    try:
        return call()
    finally:
        assert _known(node) == before


def _refused(node: Running, envelope: envelope_pb2.Envelope, sender: Running, reason: str) -> str:
    """Deliver; it must be REFUSED for ``reason``, logged, stored, and without effect."""
    answer = _untouched(node, lambda: sender.deliver(envelope, node.agency))
    assert (answer.reply, answer.reason) == (REFUSED, reason), answer
    assert "\n" not in answer.text
    entry = node.audit("refusal")[-1]
    assert (entry["peer"], entry["detail"]["reply"]) == (sender.agency, "refused")  # type: ignore[index]
    # The reply is kept: the same message again changes nothing either.
    again = _untouched(node, lambda: sender.deliver(envelope, node.agency))
    assert (again.reply, again.reason) == (REFUSED, reason)
    return str(answer.text)


def _referral(sender: Running, *, items: int = 0, to: str = PT) -> Payload:
    """A referral as the product makes it; without items it needs no chunks."""
    if items:
        series = sender.series(records(range(items)), name=new_id())
    else:
        made = operator_pb2.CreateSeriesRequest(name=new_id(), case_ref=CASE)
        series = SeriesWork(sender.node).create(ANA, made).notice.id
    (view,) = sender.refer(series, agency=to, country="PT" if to == PT else "")
    (message,) = [one for one in sender.queued(to) if one.subject == view.id]
    return _opened(envelope_pb2.Envelope.FromString(message.envelope))


# --- the envelope ---------------------------------------------------------------------------------


def test_an_honest_referral_by_hand_is_applied_once(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    envelope = es.seal(_again(_referral(es)), PT)
    assert es.deliver(envelope, PT).reply == APPLIED
    assert _untouched(pt, lambda: es.deliver(envelope, PT)).reply == DUPLICATE
    assert len(pt.inbox()) == 1
    assert len(pt.audit("referral.received")) == 1


def test_an_altered_byte_is_refused(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    envelope = es.seal(_again(_referral(es)), PT)
    middle = len(envelope.payload) // 2
    envelope.payload = (
        envelope.payload[:middle]
        + bytes([envelope.payload[middle] ^ 1])
        + envelope.payload[middle + 1 :]
    )
    with pytest.raises(SignatureRefused, match="does not match the bytes"):
        _untouched(pt, lambda: es.deliver(envelope, PT))


def test_an_envelope_for_somebody_else_is_refused(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    with pytest.raises(SignatureRefused, match="somebody else"):
        _untouched(pt, lambda: es.deliver(es.seal(_again(_referral(es)), HUB), PT))


def test_the_sender_of_the_connection_is_who_signed(bench: Bench) -> None:
    es, pt, ice = bench[ES], bench[PT], bench[ICE]
    envelope = es.seal(_again(_referral(es)), PT)
    with pytest.raises(SignatureRefused, match=f"signed by {ES}, but it came from {ICE}"):
        _untouched(pt, lambda: ice.deliver(envelope, PT))


def test_the_same_id_with_another_body_is_refused(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    payload = _again(_referral(es))
    first = es.seal(payload, PT)
    assert es.deliver(first, PT).reply == APPLIED
    payload.referral.note = "something else"
    assert payload.id == _opened(first).id
    with pytest.raises(RequestIdReused):
        _untouched(pt, lambda: es.deliver(es.seal(payload, PT), PT))


def test_expired_and_future_envelopes_are_refused(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    payload, slack = _again(_referral(es)), limits.CLOCK_TOLERANCE + timedelta(minutes=1)
    future = es.seal(payload, PT, at=bench.now + slack)
    with pytest.raises(SignatureRefused, match="future"):
        _untouched(pt, lambda: es.deliver(future, PT))
    past = es.seal(payload, PT, at=bench.now - slack - timedelta(hours=1), life=timedelta(hours=1))
    with pytest.raises(SignatureRefused, match="expired"):
        _untouched(pt, lambda: es.deliver(past, PT))


@pytest.mark.parametrize(
    ("field", "value"), [("federation", "other"), ("version", "v2"), ("issuer", FBI)]
)
def test_another_federation_version_or_issuer(bench: Bench, field: str, value: str) -> None:
    es, pt = bench[ES], bench[PT]
    payload = _opened(es.seal(_again(_referral(es)), PT))
    setattr(payload, field, value)
    signed = envelopes.sign(
        payload_type("referral"), payload.SerializeToString(), bench.signing[ES]
    )
    with pytest.raises(SignatureRefused):
        _untouched(pt, lambda: es.deliver(to_proto(signed), PT))


def test_the_type_must_name_the_body(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    payload = _opened(es.seal(_again(_referral(es)), PT))
    signed = envelopes.sign(payload_type("upload"), payload.SerializeToString(), bench.signing[ES])
    with pytest.raises(SignatureRefused, match="something else"):
        _untouched(pt, lambda: es.deliver(to_proto(signed), PT))


def test_a_message_to_a_group_that_this_agency_is_not_in(bench: Bench) -> None:
    hub, ice = bench[HUB], bench[ICE]
    envelope = hub.seal(_again(_referral(hub, to=ICE)), Audience(group="desks", group_version=2))
    assert "group" in _refused(ice, envelope, hub, "POLICY_REFUSED")


@pytest.mark.parametrize(("group", "version"), [("no-such", 1), ("desks", 3)])
def test_a_message_to_a_group_that_is_not_known_here_yet(
    bench: Bench, group: str, version: int
) -> None:
    hub, ice = bench[HUB], bench[ICE]
    audience = Audience(group=group, group_version=version)
    envelope = hub.seal(_again(_referral(hub, to=ICE)), audience)
    assert _untouched(ice, lambda: hub.deliver(envelope, ICE)).reply == RETRY


@pytest.mark.parametrize("kind", ["query", "receipt"])
def test_what_is_no_message_is_unsupported_and_not_stored(bench: Bench, kind: str) -> None:
    es, pt = bench[ES], bench[PT]
    payload = Payload()
    if kind == "query":
        payload.query.list_digest = bytes(32)
    else:
        payload.receipt.request_digest = payload.receipt.answer_digest = bytes(32)
    envelope = es.seal(payload, PT)
    assert _untouched(pt, lambda: es.deliver(envelope, PT)).reply == UNSUPPORTED


def test_an_unknown_lane_is_refused(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    envelope = es.seal(_again(_referral(es)), PT)
    with pytest.raises(TielineError) as refusal:
        _untouched(pt, lambda: es.deliver(envelope, PT, lane=9))
    assert refusal.value.reason == "INVALID_INPUT"


# --- referrals ------------------------------------------------------------------------------------


def _put(path: str, value: object) -> Callable[[Payload], None]:
    """Set one field, named from the payload on."""
    *above, name = path.split(".")

    def change(payload: Payload) -> None:
        setattr(functools.reduce(getattr, above, payload), name, value)

    return change


def _judged(payload: Payload) -> None:
    payload.referral.series.assessments.add(id="1", series=payload.referral.series.id)


def _linked(payload: Payload) -> None:
    payload.referral.series.references.add(scheme="http", value="x")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_put("referral.series.id", new_series_id(FBI)), "SIGNATURE_REFUSED"),
        (_put("referral.series.id", new_series_id(PT)), "INVALID_INPUT"),
        (_put("referral.series.id", "es-gc/1"), "INVALID_INPUT"),
        (_put("referral.series.status", "lost"), "INVALID_INPUT"),
        (_put("referral.series.handling.code", 7), "INVALID_INPUT"),
        (_put("referral.series.handling.tlp", 0), "INVALID_INPUT"),
        (_put("referral.series.handling.source", "Q"), "INVALID_INPUT"),
        (_put("referral.series.handling.retain_until", "2026-03-01"), "INVALID_INPUT"),
        (_put("referral.series.handling.retain_until", ""), "INVALID_INPUT"),
        (_put("referral.id", "1"), "INVALID_INPUT"),
        (_put("referral.root", ""), "INVALID_INPUT"),
        (_put("referral.root", new_id()), "INVALID_INPUT"),
        (_put("referral.country", "pt"), "INVALID_INPUT"),
        (_put("referral.urgency", 4), "INVALID_INPUT"),
        (_put("purpose", "no-such"), "INVALID_INPUT"),
        (_put("purpose", "prosecution"), "POLICY_REFUSED"),
        (_put("case_ref", " "), "INVALID_INPUT"),
        (_judged, "INVALID_INPUT"),
        (_linked, "INVALID_INPUT"),
    ],
)
def test_a_referral_that_does_not_hold(
    bench: Bench, change: Callable[[Payload], object], reason: str
) -> None:
    es, pt = bench[ES], bench[PT]
    payload = _again(_referral(es))
    change(payload)
    _refused(pt, es.seal(payload, PT), es, reason)


def test_an_assessment_of_another_series_does_not_come_along(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    own = pt.series(records(range(2)), name="ours")
    payload = _again(_referral(es))
    one = payload.referral.series.assessments.add(
        id=new_id(), series=own, agency=ES, person="x", country="ES", confidence=3, grounds="no"
    )
    one.made_time.CopyFrom(payload.issue_time)
    assert "another series" in _refused(pt, es.seal(payload, PT), es, "INVALID_INPUT")


def test_a_referral_id_belongs_to_who_used_it_first(bench: Bench) -> None:
    es, pt, ice = bench[ES], bench[PT], bench[ICE]
    honest = _again(_referral(es))
    assert es.deliver(es.seal(honest, PT), PT).reply == APPLIED
    squatting = _again(_referral(ice))
    squatting.referral.id = squatting.referral.root = honest.referral.id
    _refused(pt, ice.seal(squatting, PT), ice, "INVALID_INPUT")


def _relayed(bench: Bench) -> tuple[Running, Running, Running, Payload]:
    """ES told the hub; the hub passes it on to PT. Returns what the hub would send."""
    es, hub, pt = bench[ES], bench[HUB], bench[PT]
    es.refer(es.series(records(range(2))), agency=HUB)
    bench.flow()
    request = operator_pb2.StepReferralRequest(
        id=hub.inbox()[0].id, state="passed_on", passed_to=PT
    )
    hub.node.wake = lambda _agency: None
    Referring(hub.node).step(ANA, request)
    payload = _again(_opened(hub.sent(PT, "referral")))
    payload.referral.ClearField("items")
    return es, hub, pt, payload


def test_an_honest_relay_is_applied(bench: Bench) -> None:
    _, hub, pt, payload = _relayed(bench)
    assert hub.deliver(hub.seal(payload, PT), PT).reply == APPLIED
    assert pt.inbox()[0].series.owner == ES


def _without_original(payload: Payload, _bench: Bench) -> None:
    payload.referral.ClearField("original")


def _other_series(payload: Payload, _bench: Bench) -> None:
    payload.referral.series.id = new_series_id(ES)


def _loosened(payload: Payload, _bench: Bench) -> None:
    payload.referral.series.handling.tlp = 1


def _longer(payload: Payload, _bench: Bench) -> None:
    payload.referral.series.handling.retain_until = "2099-01-01"


def _other_root(payload: Payload, _bench: Bench) -> None:
    payload.referral.root = new_id()


def _misdirected(payload: Payload, bench: Bench) -> None:
    """The owner's envelope was for somebody else than the hub."""
    inner = _again(_opened(payload.referral.original))
    payload.referral.original.CopyFrom(bench[ES].seal(inner, FBI))


def _own_words(payload: Payload, bench: Bench) -> None:
    """The hub wrote the owner's envelope itself."""
    inner = _again(_opened(payload.referral.original))
    payload.referral.original.CopyFrom(bench[HUB].seal(inner, HUB))


def _altered(payload: Payload, _bench: Bench) -> None:
    inner = bytearray(payload.referral.original.payload)
    inner[-1] ^= 1
    payload.referral.original.payload = bytes(inner)


def _another_kind(payload: Payload, bench: Bench) -> None:
    step = Payload(referral_step=payload_pb2.ReferralStep(id=new_id()))
    payload.referral.original.CopyFrom(bench[ES].seal(step, HUB))


@pytest.mark.parametrize(
    "cheat",
    [
        _without_original,
        _other_series,
        _loosened,
        _longer,
        _other_root,
        _misdirected,
        _own_words,
        _altered,
        _another_kind,
    ],
)
def test_a_relay_that_differs_from_what_the_owner_signed(
    bench: Bench, cheat: Callable[[Payload, Bench], None]
) -> None:
    _, hub, pt, payload = _relayed(bench)
    cheat(payload, bench)
    _refused(pt, hub.seal(payload, PT), hub, "SIGNATURE_REFUSED")


def test_a_referral_made_for_me_is_not_passed_on_by_somebody_else(bench: Bench) -> None:
    """ICE got hold of the owner's envelope to the hub; it was never told itself."""
    _, _, pt, payload = _relayed(bench)
    ice = bench[ICE]
    _refused(pt, ice.seal(payload, PT), ice, "SIGNATURE_REFUSED")


def test_an_envelope_inside_is_taken_once(bench: Bench) -> None:
    _, hub, pt, payload = _relayed(bench)
    assert hub.deliver(hub.seal(payload, PT), PT).reply == APPLIED
    replayed = _again(payload)
    replayed.referral.id = new_id()
    assert "before" in _refused(pt, hub.seal(replayed, PT), hub, "SIGNATURE_REFUSED")
    assert len(pt.inbox()) == 1


# --- steps ----------------------------------------------------------------------------------------


def _told(bench: Bench) -> tuple[Running, Running, str]:
    """ES told PT; returns the referral's id."""
    es, pt = bench[ES], bench[PT]
    es.refer(es.series(records(range(2))), country="PT")
    bench.flow()
    return es, pt, pt.inbox()[0].id


def _stepping(referral: str, state: str = "outcome", **more: Any) -> Payload:
    fields = {"id": new_id(), "referral": referral, "root": referral, "state": state} | more
    payload = Payload(referral_step=payload_pb2.ReferralStep(**fields))
    payload.referral_step.step_time.CopyFrom(timestamp(START))
    return payload


def test_a_step_of_who_was_not_told_is_refused(bench: Bench) -> None:
    es, _, referral = _told(bench)
    ice = bench[ICE]
    step = _stepping(referral, outcome=payload_pb2.Outcome(identified=9))
    _refused(es, ice.seal(step, ES), ice, "SIGNATURE_REFUSED")


@pytest.mark.parametrize("state", ["outcome", "accepted"])
def test_a_step_in_a_chain_that_one_is_not_in_has_no_effect(bench: Bench, state: str) -> None:
    """The root alone opens nothing: only who it was passed on to may speak of it."""
    es, _, referral = _told(bench)
    ice = bench[ICE]
    step = _stepping(new_id(), state, root=referral, outcome=payload_pb2.Outcome(identified=9))
    answer = _untouched(es, lambda: ice.deliver(ice.seal(step, ES), ES))
    assert answer.reply in (RETRY, REFUSED)


def test_a_step_of_an_unknown_referral_waits(bench: Bench) -> None:
    es, pt, _ = _told(bench)
    envelope = pt.seal(_stepping(new_id()), ES)
    assert _untouched(es, lambda: pt.deliver(envelope, ES)).reply == RETRY


@pytest.mark.parametrize("state", ["withdrawn", "referred", "delivered", "lost", ""])
def test_a_recipient_takes_only_its_own_steps(bench: Bench, state: str) -> None:
    es, pt, referral = _told(bench)
    _refused(es, pt.seal(_stepping(referral, state), ES), pt, "INVALID_INPUT")


def test_a_step_on_a_referral_that_came_in_is_nothing(bench: Bench) -> None:
    """ES sends PT a step of the referral that ES itself sent: PT never told anybody."""
    es, pt, referral = _told(bench)
    answer = _untouched(pt, lambda: es.deliver(es.seal(_stepping(referral), PT), PT))
    assert answer.reply == RETRY


def test_a_step_dated_far_ahead_is_refused(bench: Bench) -> None:
    es, pt, referral = _told(bench)
    step = _stepping(referral, "accepted")
    step.referral_step.step_time.FromDatetime(
        (bench.now + limits.CLOCK_TOLERANCE + timedelta(minutes=1)).replace(tzinfo=None)
    )
    _refused(es, pt.seal(step, ES), pt, "INVALID_INPUT")


# --- broadcasts -----------------------------------------------------------------------------------


def _broadcast(bench: Bench, *, own: bool = False) -> tuple[Running, Running, Payload]:
    """The hub asks the group about ES's series (or its own); returns hub, PT and the payload."""
    hub, pt, es = bench[HUB], bench[PT], bench[ES]
    if own:
        series = hub.series(records(range(2)))
    else:
        series = es.series(records(range(2)))
        es.refer(series, agency=HUB)
        bench.flow()
    hub.node.wake = lambda _agency: None
    request = operator_pb2.BroadcastSeriesRequest(
        series=[series], group="desks", purpose=PURPOSE, case_ref=CASE
    )
    Broadcasting(hub.node).broadcast(ANA, request)
    payload = _again(_opened(hub.sent(PT, "broadcast")))
    payload.broadcast.ClearField("items")
    return hub, pt, payload


GROUP = Audience(group="desks", group_version=2)


@pytest.mark.parametrize("own", [False, True])
def test_an_honest_broadcast_is_applied_once(bench: Bench, own: bool) -> None:
    hub, pt, payload = _broadcast(bench, own=own)
    envelope = hub.seal(payload, GROUP)
    assert hub.deliver(envelope, PT).reply == APPLIED
    assert _untouched(pt, lambda: hub.deliver(envelope, PT)).reply == DUPLICATE
    (entry,) = pt.inbox()
    assert entry.broadcast.originator == (HUB if own else ES)


def test_only_a_hub_broadcasts(bench: Bench) -> None:
    _, pt, payload = _broadcast(bench, own=True)
    es = bench[ES]
    payload.broadcast.series.id = new_series_id(ES)
    _refused(pt, es.seal(payload, GROUP), es, "POLICY_REFUSED")


@pytest.mark.parametrize("cheat", ["not the owner's", "not for the hub", "no referral", "missing"])
def test_a_broadcast_shows_what_the_owner_signed_to_the_hub(bench: Bench, cheat: str) -> None:
    hub, pt, payload = _broadcast(bench)
    es, ice = bench[ES], bench[ICE]
    inner = _again(_opened(payload.broadcast.original))
    original = payload.broadcast.original
    if cheat == "not the owner's":
        original.CopyFrom(ice.seal(inner, HUB))
    elif cheat == "not for the hub":
        original.CopyFrom(es.seal(inner, FBI))
    elif cheat == "no referral":
        step = Payload(referral_step=payload_pb2.ReferralStep(id=new_id()))
        original.CopyFrom(es.seal(step, HUB))
    else:
        payload.broadcast.series.CopyFrom(inner.referral.series)
        payload.broadcast.ClearField("original")
    _refused(pt, hub.seal(payload, GROUP), hub, "SIGNATURE_REFUSED")


def test_an_envelope_inside_a_broadcast_is_taken_once(bench: Bench) -> None:
    hub, pt, payload = _broadcast(bench)
    assert hub.deliver(hub.seal(payload, GROUP), PT).reply == APPLIED
    replayed = _again(payload)
    replayed.broadcast.id = new_id()
    assert "before" in _refused(pt, hub.seal(replayed, GROUP), hub, "SIGNATURE_REFUSED")


def test_ones_own_series_does_not_come_back_changed(bench: Bench) -> None:
    hub, _, payload = _broadcast(bench)
    es = bench[ES]
    _refused(es, hub.seal(payload, GROUP), hub, "INVALID_INPUT")


def _answer(broadcast: str, **more: Any) -> Payload:
    fields = {"id": new_id(), "broadcast": broadcast, "kind": "assess", "country": "PT"} | more
    payload = Payload(broadcast_answer=payload_pb2.BroadcastAnswer(**fields))
    payload.broadcast_answer.answer_time.CopyFrom(timestamp(START))
    return payload


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"kind": "perhaps"}, "INVALID_INPUT"),
        ({"country": "pt"}, "INVALID_INPUT"),
        ({"country": ""}, "INVALID_INPUT"),
        ({"confidence": 9}, "INVALID_INPUT"),
        ({"kind": "ours", "country": "", "series": "x"}, "INVALID_INPUT"),
        ({"kind": "ours", "country": "", "series": f"{ES}/{new_id()}"}, "INVALID_INPUT"),
        ({"id": "1"}, "INVALID_INPUT"),
    ],
)
def test_an_answer_that_does_not_hold(bench: Bench, more: dict[str, Any], reason: str) -> None:
    hub, pt, payload = _broadcast(bench)
    answer = _answer(payload.broadcast.id, **more)
    _refused(hub, pt.seal(answer, HUB), pt, reason)


def test_who_was_not_asked_does_not_answer(bench: Bench) -> None:
    hub, _, payload = _broadcast(bench)
    ice = bench[ICE]
    _refused(hub, ice.seal(_answer(payload.broadcast.id), HUB), ice, "SIGNATURE_REFUSED")


# --- uploads --------------------------------------------------------------------------------------


def _upload(bench: Bench) -> tuple[Running, Running, Payload]:
    """ES deposits in INTERPOL; returns both and the payload, whose chunks have not come."""
    es, interpol = bench[ES], bench[INTERPOL]
    request = operator_pb2.UploadSeriesRequest(
        series=[es.series(records(range(2)))], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
    )
    Uploading(es.node).upload(ANA, request)
    return es, interpol, _again(_opened(es.sent(INTERPOL, "upload")))


def test_a_deposit_at_a_node_that_is_no_repository(bench: Bench) -> None:
    es, _, payload = _upload(bench)
    pt = bench[PT]
    payload.upload.ClearField("items")
    _refused(pt, es.seal(payload, PT), es, "POLICY_REFUSED")


@pytest.mark.parametrize(
    ("owner", "reason"), [(FBI, "POLICY_REFUSED"), (INTERPOL, "INVALID_INPUT")]
)
def test_a_deposit_of_somebody_elses_series(bench: Bench, owner: str, reason: str) -> None:
    es, interpol, payload = _upload(bench)
    payload.upload.ClearField("items")
    payload.upload.series.id = new_series_id(owner)
    _refused(interpol, es.seal(payload, INTERPOL), es, reason)


def test_an_upload_id_belongs_to_who_used_it_first(bench: Bench) -> None:
    _, interpol, payload = _upload(bench)
    bench.flow()
    pt = bench[PT]
    squatting = _again(payload)
    squatting.upload.ClearField("items")
    squatting.upload.series.id = new_series_id(PT)
    _refused(interpol, pt.seal(squatting, INTERPOL), pt, "INVALID_INPUT")


def test_only_the_repository_moves_an_upload(bench: Bench) -> None:
    es, _, payload = _upload(bench)
    pt = bench[PT]
    step = Payload(
        upload_step=payload_pb2.UploadStep(
            id=new_id(), upload=payload.upload.id, state="numbered", reference="X-1"
        )
    )
    step.upload_step.step_time.CopyFrom(timestamp(START))
    _refused(es, pt.seal(step, ES), pt, "SIGNATURE_REFUSED")
    interpol = bench[INTERPOL]
    step.upload_step.id, step.upload_step.state = new_id(), "lost"
    step.ClearField("id")
    _refused(es, interpol.seal(step, ES), interpol, "INVALID_INPUT")
    step.upload_step.state, step.upload_step.reference = "numbered", " "
    step.ClearField("id")
    _refused(es, interpol.seal(step, ES), interpol, "INVALID_INPUT")


def test_items_that_never_came_make_the_message_wait(bench: Bench) -> None:
    es, interpol, payload = _upload(bench)
    envelope = es.seal(payload, INTERPOL)
    assert _untouched(interpol, lambda: es.deliver(envelope, INTERPOL)).reply == RETRY
    assert not Mailbox(interpol.node).outbox(operator_pb2.ListOutboxRequest()).entries
