"""Series, referrals, uploads, broadcasts, messages, attachments, people: on both databases."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from tieline_client.errors import InvalidInput, NotFound, RequestIdReused, WrongState
from tieline_client.identifiers import new_id, new_series_id
from tieline_server.domain.broadcast import (
    AnswerKind,
    Broadcast,
    BroadcastAnswer,
    BroadcastRecipientState,
)
from tieline_server.domain.messages import Destination, InMessage, OutMessage, OutState, Reply
from tieline_server.domain.ports import AnsweredQuery, Attachment, Operator, Store
from tieline_server.domain.referral import (
    Direction,
    Outcome,
    Referral,
    ReferralState,
    ReferralStep,
    Urgency,
)
from tieline_server.domain.series import (
    Assessment,
    Confidence,
    ExternalReference,
    Origin,
    SeriesStatus,
)
from tieline_server.domain.upload import Upload, UploadState, UploadStep
from tieline_server.storage.errors import AlreadyStored

from tests.storage.building import NOON, each, series

HOUR = timedelta(hours=1)
STATES = BroadcastRecipientState


# --- series -----------------------------------------------------------------------------------


def test_a_series_comes_back_as_it_went_in(store: Store) -> None:
    full = series()
    bare = series(victims=None, first_seen=None, last_seen=None, references=())
    each(store, (full, bare), lambda tx, one: tx.series.add(one))
    assert store.read(lambda tx: tx.series.get(full.id)) == full
    assert store.read(lambda tx: tx.series.get(bare.id)) == bare
    assert store.read(lambda tx: tx.series.get(new_series_id("pt-pj"))) is None
    with pytest.raises(AlreadyStored):
        store.write(lambda tx: tx.series.add(full))


def test_series_are_found_by_own_name_and_listed_by_id(store: Store) -> None:
    own = [series(name="Blue door"), series(name="blue door"), series(agency="be-pol", name="x")]
    theirs = series(name="Lake", origin=Origin.REFERRAL)
    each(store, [*own, theirs], lambda tx, one: tx.series.add(one))
    assert store.read(lambda tx: tx.series.by_name("Blue door")) == own[0]
    assert store.read(lambda tx: tx.series.by_name("Lake")) is None
    listed = sorted([*own, theirs], key=lambda one: one.id)
    assert store.read(lambda tx: tx.series.find()) == listed
    assert store.read(lambda tx: tx.series.find(after=listed[0].id, limit=2)) == listed[1:3]


def test_a_series_changes_only_where_told(store: Store) -> None:
    one = series()
    store.write(lambda tx: tx.series.add(one))
    more = (ExternalReference("ncmec", "9"), ExternalReference("icse", "4711"))

    def change(tx):  # type: ignore[no-untyped-def]
        tx.series.set_status(one.id, SeriesStatus.LOCALISED)
        tx.series.set_number(one.id, "R-7")
        tx.series.set_identified(one.id, 2)
        tx.series.add_references(one.id, more)

    store.write(change)
    assert store.read(lambda tx: tx.series.get(one.id)) == dataclasses.replace(
        one,
        status=SeriesStatus.LOCALISED,
        number="R-7",
        identified=2,
        references=(*one.references, more[0]),
    )
    for work in (
        lambda tx: tx.series.set_status("pt-pj/none", SeriesStatus.CLOSED),
        lambda tx: tx.series.set_number("pt-pj/none", "1"),
        lambda tx: tx.series.add_references("pt-pj/none", more),
    ):
        with pytest.raises(NotFound):
            store.write(work)


def test_competing_assessments_stand_side_by_side(store: Store) -> None:
    one = series()
    later = Assessment(
        *(new_id(), one.id, "pt-pj", "ana", "PT", Confidence.HIGH, "plug sockets", True, False),
        made=NOON + HOUR,
    )
    sooner = dataclasses.replace(later, id=new_id(), country="ES", made=NOON, eliminated=True)
    each(store, (later, sooner, later), lambda tx, one: tx.series.add_assessment(one))
    assert store.read(lambda tx: tx.series.assessments(one.id)) == [sooner, later]


# --- referrals and uploads --------------------------------------------------------------------


def referral(**changes: object) -> Referral:
    fields: dict[str, object] = {
        "id": new_id(),
        "root": new_id(),
        "series": new_series_id("pt-pj"),
        "direction": Direction.OUT,
        "sender": "pt-pj",
        "recipient": "us-ice",
        "country": "US",
        "urgency": Urgency.URGENT,
        "purpose": "victim-identification",
        "case_ref": "C-1",
        "person": "ana",
        "created": NOON,
        "note": "see the sockets",
    }
    return Referral(**(fields | changes))  # type: ignore[arg-type]


def step(of: Referral, state: ReferralState, hours: int, **more: object) -> ReferralStep:
    at = NOON + hours * HOUR
    return ReferralStep(new_id(), of.id, state, "us-ice", "joe", at, **more)  # type: ignore[arg-type]


def test_a_referrals_state_is_the_fold_of_its_steps(store: Store) -> None:
    one = referral()
    store.write(lambda tx: tx.referrals.add(one))
    outcome = step(one, ReferralState.OUTCOME, 3, outcome=Outcome(1, 0, 2, 0), text="found")
    steps = [
        outcome,
        step(one, ReferralState.DELIVERED, 1),
        step(one, ReferralState.PASSED_ON, 2, passed_to="us-fbi"),
    ]
    for given in steps:
        assert store.write(lambda tx, s=given: tx.referrals.add_step(s))  # type: ignore[misc]
    assert not store.write(lambda tx: tx.referrals.add_step(outcome))
    kept = store.read(lambda tx: tx.referrals.get(one.id))
    assert kept == dataclasses.replace(one, state=ReferralState.OUTCOME)
    assert store.read(lambda tx: tx.referrals.steps(one.id)) == [*steps[1:], outcome]
    stray = dataclasses.replace(outcome, id=new_id(), referral="none")
    with pytest.raises(NotFound):
        store.write(lambda tx: tx.referrals.add_step(stray))


def test_referrals_are_listed_in_time_by_direction_and_series(store: Store) -> None:
    late, early = referral(created=NOON + HOUR), referral()
    came = referral(direction=Direction.IN, series=early.series, created=NOON - HOUR)
    each(store, (late, early, came), lambda tx, one: tx.referrals.add(one))
    assert store.read(lambda tx: tx.referrals.find()) == [came, early, late]
    assert store.read(lambda tx: tx.referrals.find(Direction.OUT)) == [early, late]
    assert store.read(lambda tx: tx.referrals.find(Direction.IN, early.series)) == [came]
    assert store.read(lambda tx: tx.referrals.get("none")) is None


def test_an_uploads_state_and_reference_are_the_fold_of_its_steps(store: Store) -> None:
    one = Upload(
        *(new_id(), new_series_id("pt-pj"), Direction.OUT, "pt-pj", "interpol"),
        *("victim-identification", "C-1", "ana", NOON),
        items=100_000,
        generation=7,
    )
    store.write(lambda tx: tx.uploads.add(one))
    numbered = UploadStep(
        new_id(), one.id, UploadState.NUMBERED, "interpol", "eva", NOON + HOUR, "S-12"
    )
    media = UploadStep(new_id(), one.id, UploadState.MEDIA_RECEIVED, "interpol", "eva", NOON)
    assert store.write(lambda tx: (tx.uploads.add_step(numbered), tx.uploads.add_step(media))) == (
        True,
        True,
    )
    assert not store.write(lambda tx: tx.uploads.add_step(media))
    kept = dataclasses.replace(one, state=UploadState.NUMBERED, reference="S-12")
    assert store.read(lambda tx: tx.uploads.get(one.id)) == kept
    assert store.read(lambda tx: tx.uploads.find(Direction.OUT, one.series)) == [kept]
    assert store.read(lambda tx: tx.uploads.find(Direction.IN)) == []
    assert store.read(lambda tx: tx.uploads.steps(one.id)) == [media, numbered]
    stray = dataclasses.replace(media, id=new_id(), upload="none")
    with pytest.raises(NotFound):
        store.write(lambda tx: tx.uploads.add_step(stray))


def test_series_numbers_have_no_gaps_even_after_a_failure(store: Store) -> None:
    assert store.write(lambda tx: tx.uploads.next_number()) == 1

    def fail(tx):  # type: ignore[no-untyped-def]
        tx.uploads.next_number()
        raise WrongState("not now")

    with pytest.raises(WrongState):
        store.write(fail)
    assert store.write(lambda tx: [tx.uploads.next_number() for _ in range(2)]) == [2, 3]


def test_numbers_given_by_hand_and_by_the_counter_never_meet(store: Store) -> None:
    """On both databases, by many at once: a number that was said to be used is not given out."""

    def hand(number: int) -> None:
        store.write(lambda tx: tx.uploads.number_used(number))

    store.write(lambda tx: tx.uploads.number_used(20))
    with ThreadPoolExecutor(8) as pool:
        taken = [pool.submit(store.write, lambda tx: tx.uploads.next_number()) for _ in range(16)]
        list(pool.map(hand, range(1, 30)))
        numbers = [one.result() for one in taken]
    assert len(set(numbers)) == 16
    assert min(numbers) > 20
    assert store.write(lambda tx: tx.uploads.next_number()) > max(*numbers, 29)


def test_who_bears_a_number_is_known(store: Store) -> None:
    one, other = series(), series()
    each(store, (one, other), lambda tx, new: tx.series.add(new))
    each(store, (one, other), lambda tx, new: tx.series.set_number(new.id, "S-1"))
    assert store.read(lambda tx: tx.series.numbered("S-1")) == sorted([one.id, other.id])
    assert store.read(lambda tx: tx.series.numbered("S-2")) == []


# --- broadcasts -------------------------------------------------------------------------------


def broadcast(direction: Direction) -> Broadcast:
    return Broadcast(
        *(new_id(), new_series_id("pt-pj"), direction, "europol-ec3", "pt-pj", "vidtf", 3),
        *("victim-identification", "C-1", "ana", "who can place this?", NOON),
    )


def test_a_recipients_state_never_goes_back(store: Store) -> None:
    one = broadcast(Direction.OUT)
    store.write(lambda tx: tx.broadcasts.add(one, ["us-ice", "be-pol"]))
    each(
        store,
        (STATES.ACKNOWLEDGED, STATES.DELIVERED, STATES.QUEUED),
        lambda tx, s: tx.broadcasts.set_recipient(one.id, "us-ice", s),
    )
    assert store.read(lambda tx: tx.broadcasts.recipients(one.id)) == {
        "be-pol": STATES.QUEUED,
        "us-ice": STATES.ACKNOWLEDGED,
    }
    assert store.read(lambda tx: tx.broadcasts.get(one.id)) == one
    for where in ((one.id, "us-fbi"), ("none", "us-ice")):
        with pytest.raises(NotFound):
            each(store, [where], lambda tx, w: tx.broadcasts.set_recipient(*w, STATES.ANSWERED))


def test_a_broadcast_that_came_moves_its_own_state(store: Store) -> None:
    one = broadcast(Direction.IN)
    store.write(lambda tx: tx.broadcasts.add(one, []))
    store.write(lambda tx: tx.broadcasts.set_recipient(one.id, "us-ice", STATES.ANSWERED))
    store.write(lambda tx: tx.broadcasts.set_recipient(one.id, "us-ice", STATES.ACKNOWLEDGED))
    kept = dataclasses.replace(one, state=STATES.ANSWERED)
    assert store.read(lambda tx: tx.broadcasts.find(Direction.IN)) == [kept]
    assert store.read(lambda tx: tx.broadcasts.find(Direction.OUT)) == []


def test_an_answer_counts_once(store: Store) -> None:
    one = broadcast(Direction.OUT)
    answer = BroadcastAnswer(
        *(new_id(), one.id, "us-ice", "joe", AnswerKind.ASSESS, NOON), country="US", text="plates"
    )
    store.write(lambda tx: tx.broadcasts.add(one, ["us-ice"]))
    assert store.write(lambda tx: tx.broadcasts.add_answer(answer))
    assert not store.write(lambda tx: tx.broadcasts.add_answer(answer))
    assert store.read(lambda tx: tx.broadcasts.answers(one.id)) == [answer]


# --- messages ---------------------------------------------------------------------------------


def message(
    recipient: str = "us-ice", lane: Urgency = Urgency.ROUTINE, **more: object
) -> OutMessage:
    fields: dict[str, object] = {"subject": "s", "envelope": b"\x00\xff", "created": NOON}
    return OutMessage(new_id(), recipient, lane, "referral", **(fields | more))  # type: ignore[arg-type]


def test_each_recipient_and_lane_counts_its_own_sequence(store: Store) -> None:
    given = [message(), message(lane=Urgency.IMMEDIATE), message("be-pol"), message()]
    queued = [store.write(lambda tx, m=m: tx.outbox.add(m)) for m in given]  # type: ignore[misc]
    assert [one.sequence for one in queued] == [1, 1, 1, 2]
    assert store.read(lambda tx: tx.outbox.due("us-ice", 2)) == [queued[1], queued[0]]
    assert store.read(lambda tx: tx.outbox.due("us-ice", 9)) == [queued[1], queued[0], queued[3]]
    assert store.read(lambda tx: tx.outbox.get("be-pol", queued[2].id)) == queued[2]
    with pytest.raises(AlreadyStored):
        store.write(lambda tx: tx.outbox.add(given[0]))
    assert store.write(lambda tx: tx.outbox.add(message())).sequence == 3


def test_one_message_for_several_takes_a_place_with_each(store: Store) -> None:
    store.write(lambda tx: tx.outbox.add(message("be-pol")))
    sent = message("")
    store.write(lambda tx: tx.outbox.add_for(sent, ["us-ice", "be-pol"]))
    for recipient, place in (("us-ice", 1), ("be-pol", 2)):
        wanted = replace(sent, recipient=recipient, sequence=place)
        assert store.read(lambda tx: tx.outbox.due(recipient, 9))[-1] == wanted  # noqa: B023
    with pytest.raises(AlreadyStored):
        store.write(lambda tx: tx.outbox.add_for(sent, ["fr-pn", "us-ice"]))
    assert store.read(lambda tx: tx.outbox.due("fr-pn", 9)) == []
    assert store.write(lambda tx: tx.outbox.add(message())).sequence == 2


def test_a_settled_message_is_due_no_more(store: Store) -> None:
    one, two = (store.write(lambda tx: tx.outbox.add(message())) for _ in range(2))
    at = NOON + HOUR
    store.write(
        lambda tx: tx.outbox.settle("us-ice", one.id, OutState.REFUSED, at, "unknown series")
    )
    refused = store.read(lambda tx: tx.outbox.get("us-ice", one.id))
    assert refused == dataclasses.replace(
        one, state=OutState.REFUSED, settled=at, reason="unknown series", attempts=1
    )
    assert store.read(lambda tx: tx.outbox.due("us-ice", 9)) == [two]
    listed = dataclasses.replace(refused, envelope=b"")
    assert store.read(lambda tx: tx.outbox.find(state=OutState.REFUSED)) == [listed]
    store.write(lambda tx: tx.outbox.settle("us-ice", one.id, OutState.QUEUED, at))
    assert store.read(lambda tx: tx.outbox.due("us-ice", 9))[0].settled is None
    assert [m.id for m in store.read(lambda tx: tx.outbox.of_subject("s"))] == [one.id, two.id]
    assert len(store.read(lambda tx: tx.outbox.find(limit=1))) == 1
    with pytest.raises(NotFound):
        store.write(lambda tx: tx.outbox.settle("us-ice", "none", OutState.DELIVERED, at))


def test_a_back_off_is_remembered_with_what_waits(store: Store) -> None:
    store.write(lambda tx: (tx.outbox.add(message()), tx.outbox.add(message())))
    until = NOON + HOUR
    store.write(lambda tx: tx.outbox.back_off("us-ice", 1, NOON, "down"))
    store.write(lambda tx: tx.outbox.back_off("us-ice", 2, until, "still down"))
    store.write(lambda tx: tx.outbox.back_off("be-pol", 1, until, "down"))
    found = store.read(lambda tx: tx.outbox.destinations())
    assert [_back_off(one) for one in found] == [
        ("be-pol", 0, 1, until, "down"),
        ("us-ice", 2, 2, until, "still down"),
    ]
    each(store, ("us-ice", "be-pol"), lambda tx, a: tx.outbox.clear_back_off(a))
    found = store.read(lambda tx: tx.outbox.destinations())
    assert [_back_off(one) for one in found] == [("us-ice", 2, 0, None, "")]


def _back_off(one: Destination) -> tuple[object, ...]:
    return (one.agency, one.queued, one.attempts, one.next_attempt, one.last_error)


def test_an_inbox_row_is_one_a_sender_and_id(store: Store) -> None:
    one = InMessage(
        *(new_id(), "us-ice", Urgency.URGENT, 1, "referral", "subject", b"\x01" * 32, b"env"),
        *(NOON, Reply.APPLIED, "why"),
    )
    other = dataclasses.replace(one, sender="be-pol", received=NOON - HOUR)
    each(store, (one, other), lambda tx, m: tx.inbox.add(m))
    assert store.read(lambda tx: tx.inbox.get("us-ice", one.id)) == one
    assert store.read(lambda tx: tx.inbox.get("us-fbi", one.id)) is None
    assert store.read(lambda tx: tx.inbox.by_subject("subject")) == [other, one]
    with pytest.raises(AlreadyStored):
        store.write(lambda tx: tx.inbox.add(dataclasses.replace(one, reply=Reply.REFUSED)))
    assert store.read(lambda tx: tx.inbox.get("us-ice", one.id)) == one


def test_attachment_chunks_arrive_in_order_and_resume(store: Store) -> None:
    out = Attachment("ab" * 32, "interpol", 2, 5, series="pt-pj/x")
    store.write(lambda tx: tx.attachments.add_outgoing(out, [b"one", b"two"]))
    store.write(lambda tx: tx.attachments.add_outgoing(out, [b"one", b"two"]))
    assert store.read(lambda tx: tx.attachments.outgoing(out.id)) == out
    assert store.read(lambda tx: [tx.attachments.chunk(out.id, n) for n in range(3)]) == [
        *(b"one", b"two"),
        None,
    ]
    with pytest.raises(WrongState):
        store.write(lambda tx: tx.attachments.add_outgoing(out, [b"one"]))
    incoming = Attachment("cd" * 32, "us-ice", 2, 5, import_id=new_id(), series="us-ice/y")
    store.write(lambda tx: tx.attachments.open_incoming(incoming, NOON))
    assert store.read(lambda tx: tx.attachments.incoming("us-ice", incoming.id)) == incoming
    assert store.read(lambda tx: tx.attachments.incoming("us-fbi", incoming.id)) is None
    assert store.read(lambda tx: tx.attachments.staged_imports()) == [incoming.import_id]
    add = "us-ice", incoming.id
    store.write(lambda tx: tx.attachments.add_received(*add, 0, b"\x01" * 32))
    for index in (0, 2):
        with pytest.raises(WrongState):
            store.write(lambda tx, n=index: tx.attachments.add_received(*add, n, b"\x02" * 32))  # type: ignore[misc]
    store.write(lambda tx: tx.attachments.add_received(*add, 1, b"\x03" * 32))
    assert store.read(lambda tx: tx.attachments.received(*add)) == [b"\x01" * 32, b"\x03" * 32]
    store.write(lambda tx: tx.attachments.close_incoming(*add))
    assert store.read(lambda tx: tx.attachments.incoming(*add)) is None
    assert store.read(lambda tx: tx.attachments.received(*add)) == []
    with pytest.raises(NotFound):
        store.write(lambda tx: tx.attachments.add_received(*add, 0, b"\x01" * 32))


# --- people, queries, settings ----------------------------------------------------------------


def test_operators_are_put_and_replaced(store: Store) -> None:
    one = Operator("eva", ("admin", "officer"), (2**159 + 1, 7), NOON)
    gone = dataclasses.replace(one, serials=(), revoked=NOON + HOUR)
    each(store, (one, Operator("ana", (), (), NOON)), lambda tx, o: tx.operators.put(o))
    assert store.read(lambda tx: tx.operators.get("eva")) == one
    store.write(lambda tx: tx.operators.put(gone))
    assert [o.name for o in store.read(lambda tx: tx.operators.find())] == ["ana", "eva"]
    assert store.read(lambda tx: tx.operators.get("eva")) == gone
    assert store.read(lambda tx: tx.operators.get("bob")) is None


def test_a_request_id_is_one_header_for_ever(store: Store) -> None:
    key, digest = new_id(), b"\x01" * 32
    assert store.write(lambda tx: tx.queries.reserve(key, "us-ice", digest, NOON))
    assert not store.write(lambda tx: tx.queries.reserve(key, "us-ice", digest, NOON + HOUR))
    assert store.write(lambda tx: tx.queries.reserve(key, "us-fbi", b"\x02" * 32, NOON))
    with pytest.raises(RequestIdReused):
        store.write(lambda tx: tx.queries.reserve(key, "us-ice", b"\x02" * 32, NOON))
    query = AnsweredQuery(
        *(key, "us-ice", "joe", "victim-identification", "C-1", digest, b"header", 10, 2),
        *(b"receipt", NOON),
    )
    later = dataclasses.replace(query, request=new_id(), at=NOON + HOUR)
    each(store, (query, later), lambda tx, q: tx.queries.finish(q))
    assert store.read(lambda tx: tx.queries.answered("us-ice", key)) == query
    assert store.read(lambda tx: tx.queries.answered("us-fbi", key)) is None
    assert store.read(lambda tx: tx.queries.find()) == [later, query]


def test_settings_are_kept(store: Store) -> None:
    store.write(lambda tx: tx.meta.set("epoch", "1"))
    store.write(lambda tx: tx.meta.set("epoch", "2"))
    assert store.read(lambda tx: (tx.meta.get("epoch"), tx.meta.get("none"))) == ("2", None)


# --- values from outside ----------------------------------------------------------------------


def test_any_zone_comes_back_as_the_same_moment_in_utc(store: Store) -> None:
    lisbon = datetime(1969, 7, 20, 20, 17, 40, 5, tzinfo=timezone(timedelta(hours=1)))
    one = series(created=lisbon)
    store.write(lambda tx: tx.series.add(one))
    kept = store.read(lambda tx: tx.series.get(one.id))
    assert kept is not None
    assert kept.created == lisbon
    assert kept.created.tzinfo is UTC
    with pytest.raises(InvalidInput, match="time zone"):
        store.write(lambda tx: tx.series.add(series(created=datetime(2026, 1, 1))))


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE series; --",
        "\r\nX-Evil: 1",
        "\x1b[31mred",
        "<script>",
        "%s %(x)s :y ?",
        "\U0001f50d",
    ],
)
def test_hostile_text_is_only_text(store: Store, text: str) -> None:
    one = series(name=text, clues=text)
    store.write(lambda tx: tx.series.add(one))
    assert store.read(lambda tx: tx.series.by_name(text)) == one


@pytest.mark.parametrize("text", ["nul \x00", "half \ud800"])
def test_text_that_one_database_cannot_hold_is_refused_by_both(store: Store, text: str) -> None:
    with pytest.raises(InvalidInput):
        store.write(lambda tx: tx.series.add(series(clues=text)))
    with pytest.raises(InvalidInput):
        store.write(lambda tx: tx.series.add(series(victims=2**63)))
