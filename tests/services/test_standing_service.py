"""Standings between whole nodes: gaps, voids, quarantine, what comes back after a restore."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from tieline.v1 import delivery_pb2, doctor_pb2, operator_pb2, payload_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput, Quarantined
from tieline_client.identifiers import new_id
from tieline_server.domain.messages import OutState, Reply
from tieline_server.domain.referral import Direction, Urgency
from tieline_server.domain.standing import Trouble
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.inbox import Mailbox
from tieline_server.services.referring import Referring
from tieline_server.services.sending import send
from tieline_server.services.standing import Standings
from tieline_server.services.standing_answers import blank_archive
from tieline_server.services.standing_words import troubles
from tieline_server.services.uploading import Uploading
from tieline_server.wiring import doctor
from tieline_server.wiring.doctor import Doctor
from tieline_server.wiring.parts import Parts

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    FR,
    HUB,
    INTERPOL,
    PT,
    PURPOSE,
    Bench,
    Running,
    records,
    wait_for,
)

_numbers = iter(range(1, 10**6, 10))


def told(bench: Bench, sender: str = PT, country: str = "ES") -> str:
    """Refer a new series and deliver it; return the referral's id."""
    start = next(_numbers)
    series = bench[sender].series(records(range(start, start + 2)), name=f"S{start}")
    (made,) = bench[sender].refer(series, country=country)
    return made.id


def trouble(one: Running, peer: str) -> Trouble:
    return one.store.read(lambda tx: tx.standings.known(peer)).trouble


def actions(one: Running) -> set[str]:
    return {str(entry["action"]) for entry in one.audit()}


def examined(one: Running) -> dict[str, list[tuple[str, str, str]]]:
    """What `tieline doctor` finds where every peer answers: state, text and advice by check."""
    line = SimpleNamespace(greet_again=lambda: None, skew=timedelta(0))
    parts = SimpleNamespace(
        store=one.store,
        others=lambda: sorted({PT, ES, FR} - {one.agency}),
        peers=SimpleNamespace(client=lambda agency: line),
    )
    found: dict[str, list[tuple[str, str, str]]] = {}
    for finding in Doctor(cast("Parts", parts)).examine().findings:
        state = doctor_pb2.FindingState.Name(finding.state).removeprefix("FINDING_STATE_").lower()
        found.setdefault(finding.check, []).append((state, finding.text, finding.advice))
    return found


def contact(one: Running, peer: str) -> None:
    one.contacts.contact(peer)


@pytest.fixture
def pair(bench: Bench) -> Bench:
    for agency in (PT, ES, FR):
        assert bench[agency]
    return bench


def test_standings_ride_on_messages_both_ways(pair: Bench) -> None:
    told(pair)
    pair.flow()
    seen = pair[ES].store.read(lambda tx: tx.standings.known(PT))
    own = pair[PT].store.read(lambda tx: tx.standings.mine(ES))
    assert (seen.epoch, seen.lives[-1]) == (own.epoch, (own.start, own.life))
    word = pair[PT].store.read(lambda tx: tx.standings.known(ES)).lanes[2]
    assert (word.applied, word.highest) == (1, 1)


def test_a_gap_that_cannot_be_filled_is_told_as_void(pair: Bench) -> None:
    pt, es = pair[PT], pair[ES]
    skipped = told(pair)
    message = pt.queued(ES)[0]
    assert message.subject == skipped
    pt.store.write(
        lambda tx: tx.outbox.settle(ES, message.id, OutState.REFUSED, pair.now, "expired")
    )
    told(pair)
    told(pair)
    pair.flow()
    contact(pt, ES)  # hears of the gap, unless the reply to the message said it
    contact(pt, ES)  # says that it is void
    word = es.store.read(lambda tx: tx.standings.mine(PT)).lanes[2]
    assert (word.applied, word.highest, word.gaps) == (3, 3, ())
    assert "alarm.void" in actions(es)
    contact(pt, ES)
    assert pt.store.read(lambda tx: tx.standings.mine(ES)).lanes[2].voids == ()


def test_a_place_that_another_message_has_is_a_fork(pair: Bench) -> None:
    pt, es = pair[PT], pair[ES]
    told(pair)
    (first,) = pt.queued(ES)
    pair.flow()
    request = delivery_pb2.DeliverRequest(lane=2, sequence=1, epoch=pt.node.epoch)
    request.envelope.ParseFromString(first.envelope)
    payload = payload_pb2.Payload.FromString(request.envelope.payload)
    payload.ClearField("id")
    payload.referral.ClearField("items")
    payload.referral.id = payload.referral.root = new_id()
    request.envelope.CopyFrom(pt.seal(payload, ES))
    answer = pt.node.peers.deliver(ES, request)
    assert (answer.reply, answer.reason) == (delivery_pb2.REPLY_RETRY, "QUARANTINED")
    assert trouble(es, PT) is Trouble.FORK
    assert "alarm.fork" in actions(es)
    assert es.store.read(lambda tx: tx.inbox.get(PT, payload.id)) is None
    assert es.store.read(lambda tx: tx.inbox.get(PT, first.id)) is not None
    with pytest.raises(Quarantined):
        Standings(es.node).check_peer(PT)
    (line,) = es.store.read(partial(troubles, now=pair.now))
    assert PT in line and "quarantined" in line and "node resync" in line
    # the other side learns of it at the next contact, and stops
    contact(pt, ES)
    assert "alarm.told_fork" in actions(pt)
    (line,) = pt.store.read(partial(troubles, now=pair.now))
    assert "node resync HOME" in line
    told(pair, ES, "PT")
    (shown,) = Mailbox(es.node).outbox(operator_pb2.ListOutboxRequest()).destinations
    assert shown.last_error.startswith("quarantined")


def test_the_same_id_with_another_body_is_refused_and_alarmed(pair: Bench) -> None:
    pt, es = pair[PT], pair[ES]
    told(pair)
    message = pt.queued(ES)[0]
    pair.flow()
    again = delivery_pb2.DeliverBatchRequest()
    one = again.messages.add(lane=2, sequence=2)
    one.envelope.ParseFromString(message.envelope)
    payload = payload_pb2.Payload.FromString(one.envelope.payload)
    payload.referral.note = "another word"
    one.envelope.CopyFrom(pt.seal(payload, ES))
    (reply,) = pt.node.peers.deliver_batch(ES, again).replies
    assert (reply.reply, reply.reason) == (delivery_pb2.REPLY_REFUSED, "REQUEST_ID_REUSED")
    assert "alarm.reused_id" in actions(es)
    assert trouble(es, PT) is Trouble.NONE


def test_a_word_that_was_long_on_its_way_does_no_harm(pair: Bench) -> None:
    pt, es = pair[PT], pair[ES]
    told(pair)
    pair.flow()
    late = pt.store.read(lambda tx: Standings(pt.node).mine(tx, ES)).standing
    told(pair)
    pair.flow()
    request = delivery_pb2.ContactRequest(standing=late)
    answer = pt.node.peers.contact(ES, request).standing
    assert answer.again and not answer.trouble
    assert trouble(es, PT) is Trouble.NONE
    contact(pt, ES)
    challenge = es.store.read(lambda tx: tx.standings.challenge(PT))
    assert challenge is not None and not challenge.open
    assert trouble(es, PT) is Trouble.NONE
    told(pair)
    pair.flow()
    assert len(es.inbox()) == 3


def test_a_twin_is_found_though_the_sound_one_answers_quicker(pair: Bench, tmp_path: Path) -> None:
    """A copy greets; before it says its word again, the one that lives has answered for it."""
    pt, es = pair[PT], pair[ES]
    image = pair.image(PT)
    told(pair)
    pair.flow()
    pt = pair.set_back(PT, pair.image(PT))  # the one that lives has started again since
    contact(pt, ES)
    elsewhere = tmp_path / "twin"
    elsewhere.mkdir()
    twin = Running(replace(pair, folder=elsewhere), PT, image)
    try:

        def say(node: Running, answer: str = "") -> delivery_pb2.Standing:
            mine = node.store.read(lambda tx: Standings(node.node).mine(tx, ES, answer=answer))
            request = delivery_pb2.ContactRequest(standing=mine.standing)
            return es.standing.contact(PT, request).standing

        asked = say(twin)
        assert asked.again and trouble(es, PT) is Trouble.NONE
        contact(es, PT)  # to the one that lives: sound
        assert say(pt, asked.again).trouble == ""
        assert trouble(es, PT) is Trouble.NONE
        assert say(twin, asked.again).trouble == "SET_BACK"
        assert trouble(es, PT) is Trouble.SET_BACK
    finally:
        twin.close()


def test_a_restored_sender_gets_back_what_it_signed(pair: Bench) -> None:
    pt, es = pair[PT], pair[ES]
    before = pair.image(PT)
    mine, theirs = told(pair), told(pair, ES, "PT")
    pair.flow()
    Referring(pt.node).step(ANA, operator_pb2.StepReferralRequest(id=theirs, state="acknowledged"))
    Referring(es.node).step(ANA, operator_pb2.StepReferralRequest(id=mine, state="acknowledged"))
    pair.flow()

    pt = pair.set_back(PT, before)
    lost = told(pair)  # takes a place that its forgotten self gave away
    contact(es, PT)
    assert trouble(es, PT) is Trouble.SET_BACK
    pt = pair.resync(PT)
    contact(pt, ES)
    pair.flow()
    contact(es, PT)
    pair.flow()
    for referral, direction in ((mine, Direction.OUT), (theirs, Direction.IN)):
        known = pt.store.read(lambda tx, r=referral: tx.referrals.get(r))  # type: ignore[misc]
        assert known is not None and known.direction is direction
        steps = pt.store.read(lambda tx, r=referral: tx.referrals.steps(r))  # type: ignore[misc]
        assert [one.state.value for one in steps] == ["delivered", "acknowledged"]
    assert {one.id for one in es.inbox()} == {mine, lost}
    assert trouble(es, PT) is Trouble.NONE
    assert {"standing.recovered"} <= actions(pt)
    for sender, receiver in ((pt, es), (es, pt)):
        out = sender.store.read(lambda tx: tx.outbox.find(limit=100))
        placed = {one.id: one.sequence for one in out if one.recipient == receiver.agency}
        for identifier, sequence in placed.items():
            kept = receiver.store.read(
                lambda tx, s=sender.agency, i=identifier: tx.inbox.get(s, i)  # type: ignore[misc]
            )
            assert kept is not None and kept.sequence == sequence and kept.reply is Reply.APPLIED


@pytest.mark.parametrize("agency", [HUB, PT, INTERPOL])
def test_broadcasts_and_uploads_come_back_too(bench: Bench, agency: str) -> None:
    hub, pt, interpol = bench[HUB], bench[PT], bench[INTERPOL]
    assert bench[ES]
    before = bench.image(agency)
    series = hub.series(records(range(5)), name="Azul")
    request = operator_pb2.BroadcastSeriesRequest(
        series=[series], group="desks", purpose=PURPOSE, case_ref=CASE
    )
    (sent,) = Broadcasting(hub.node).broadcast(ANA, request)
    deposited = pt.series(records(range(10, 15)), name="Verde")
    upload = operator_pb2.UploadSeriesRequest(
        series=[deposited], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
    )
    (made,) = Uploading(pt.node).upload(ANA, upload)
    bench.flow()
    Broadcasting(pt.node).acknowledge(ANA, sent.id)
    step = operator_pb2.StepUploadRequest(id=made.id, state="numbered")
    numbered = Uploading(interpol.node).step(ANA, step)
    bench.flow()

    kept = bench[agency].store.read(lambda tx: tx.broadcasts.recipients(sent.id))
    bench.set_back(agency, before)
    one = bench.resync(agency)
    for other in (HUB, PT, ES, INTERPOL):
        if other != agency:
            contact(one, other)
    bench.flow()
    assert one.store.read(lambda tx: tx.broadcasts.recipients(sent.id)) == kept
    back = bench[PT].store.read(lambda tx: tx.uploads.get(made.id))
    assert back is not None and (back.state.value, back.reference) == (
        "numbered",
        numbered.reference,
    )
    again = bench[INTERPOL].store.read(lambda tx: tx.uploads.get(made.id))
    assert again is not None and again.reference == numbered.reference
    following = bench[INTERPOL].store.write(lambda tx: tx.uploads.next_number())
    assert following == int(numbered.reference.rpartition("-")[2]) + 1


def test_what_is_given_back_is_in_the_log_before_it_goes(pair: Bench) -> None:
    """A leaf alone is enough to ask for it, so that it went must show."""
    pt, es = pair[PT], pair[ES]
    told(pair)
    pair.flow()
    request = delivery_pb2.FetchSentRequest()
    request.lanes.add(lane=2, first=1)
    answer = es.standing.fetch_sent(PT, request)
    assert len(next(answer).messages) == 1
    (entry,) = es.audit("message.given-back")
    assert (entry["peer"], entry["detail"]) == (PT, {"first": {"urgent": 1}})
    assert not pt.audit("message.given-back")


def test_a_peer_of_before_is_taken_as_it_is(pair: Bench) -> None:
    pt, es = pair[PT], pair[ES]
    es.one_by_one = True
    contact(pt, ES)
    told(pair)
    pair.flow()
    assert len(es.inbox()) == 1
    resynced = pair.resync(PT)
    pair[ES].one_by_one = True
    contact(resynced, ES)
    told(pair)
    pair.flow()
    assert len(es.inbox()) == 2


def test_what_was_parked_goes_once_the_peer_can_do_more(pair: Bench) -> None:
    pt, es = pair[PT], pair[ES]
    es.one_by_one = True
    contact(pt, ES)
    told(pair)
    message = pt.queued(ES)[0]
    pt.store.write(lambda tx: tx.outbox.settle(ES, message.id, OutState.PARKED, pair.now, "new"))
    contact(pt, ES)
    assert pt.queued(ES) == []
    es.one_by_one = False
    contact(pt, ES)
    pair.flow()
    assert len(es.inbox()) == 1


def test_what_the_archive_forgot_is_void_for_who_lacks_it(pair: Bench) -> None:
    pt = pair[PT]
    before = pair.image(ES)
    told(pair)
    pair.flow()
    pair.now += limits.ARCHIVE_LIFE + timedelta(days=1)
    assert blank_archive(pt.node) == 1
    kept = told(pair)
    pair.flow()
    pair.set_back(ES, before)
    es = pair.resync(ES)
    contact(es, PT)
    pair.flow()
    contact(pt, ES)
    contact(pt, ES)
    assert [one.id for one in es.inbox()] == [kept]
    word = es.store.read(lambda tx: tx.standings.mine(PT)).lanes[2]
    assert (word.applied, word.highest, word.gaps) == (2, 2, ())
    assert "alarm.void" in actions(es)


def put_back(bench: Bench, image: Path) -> Running:
    """PT's database is an old one again; it calls and is called as if nothing was."""
    pt, es = bench.set_back(PT, image), bench[ES]
    standings = Standings(es.node)
    for _ in range(3):
        contact(pt, ES)
        contact(es, PT)
        batch = delivery_pb2.DeliverBatchRequest()
        batch.standing.CopyFrom(pt.store.read(lambda tx: Standings(pt.node).mine(tx, ES)).standing)
        assert pt.node.peers.deliver_batch(ES, batch).standing.again
        with pytest.raises(Quarantined, match="given up"):
            standings.check_epoch(PT, pt.node.epoch)
        verdict = es.store.write(
            lambda tx: standings.gate(tx, PT).check(2, 99, new_id(), pt.node.epoch)
        )
        assert verdict.trouble is Trouble.LEFT_BEHIND
        bench.now += timedelta(seconds=20)
    return pt


def test_a_copy_left_behind_is_refused_each_time_and_alarmed_once(pair: Bench) -> None:
    pt, es = pair[PT], pair[ES]
    told(pair)
    pair.flow()
    first = pair.image(PT)
    pt = pair.resync(PT)
    contact(pt, ES)
    second = pair.image(PT)
    pt = put_back(pair, first)
    assert len(es.audit("alarm.left_behind")) == 1
    assert len(pt.audit("alarm.told_left_behind")) == 1
    known = pt.store.read(lambda tx: tx.standings.known(ES))
    assert known.told == "LEFT_BEHIND"  # and stays so, whatever else the other says in between
    held = told(pair)
    pair.now += timedelta(hours=3)
    pt = put_back(pair, pair.image(PT))
    assert len(es.audit("alarm.left_behind")) == 1
    assert len(pt.audit("alarm.told_left_behind")) == 1

    pt = pair.resync(PT)  # that copy is to live after all
    contact(pt, ES)
    pair.flow()
    assert held in {one.id for one in es.inbox()}
    assert pt.store.read(lambda tx: tx.standings.known(ES)).told == ""
    for count, image in ((2, first), (3, second)):
        for _ in range(2):
            pt = put_back(pair, image)
            assert len(es.audit("alarm.left_behind")) == count
            assert len(pt.audit("alarm.told_left_behind")) == 1


def test_what_a_copy_left_behind_took_still_reaches_the_living_node(
    pair: Bench, tmp_path: Path
) -> None:
    pt, es = pair[PT], pair[ES]
    told(pair)
    pair.flow()
    before = pair.image(ES)
    es = pair.resync(ES)
    contact(pt, ES)
    elsewhere = tmp_path / "copy"
    elsewhere.mkdir()
    copy = Running(replace(pair, folder=elsewhere), ES, before)
    pair.nodes[ES] = copy  # the address leads there for a moment
    try:
        referral = told(pair)
        pt.engine.start()
        wait_for("the copy has it", lambda: referral in {one.id for one in copy.inbox()})
        wait_for("its answer came", lambda: pt.audit("alarm.left_behind"))
    finally:
        pair.nodes[ES] = es
        copy.close()
    pair.flow()
    assert referral in {one.id for one in es.inbox()}
    assert sum(referral in str(one["subjects"]) for one in pt.audit("message.delivered")) == 1


def test_each_answer_of_messages_that_go_one_by_one_is_judged_by_its_own_standing(
    pair: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first reaches the copy, the second the living node again; they are of two lanes, so that
    no gap shows."""
    pt, es = pair[PT], pair[ES]
    told(pair)
    pair.flow()
    before = pair.image(ES)
    es = pair.resync(ES)
    contact(pt, ES)
    elsewhere = tmp_path / "copy"
    elsewhere.mkdir()
    copy = Running(replace(pair, folder=elsewhere), ES, before)
    lines, reached = pt.node.peers, iter([copy])

    def batch(*_: object) -> delivery_pb2.DeliverBatchResponse:
        raise InvalidInput("one of them is not taken")

    def deliver(agency: str, request: delivery_pb2.DeliverRequest) -> delivery_pb2.DeliverResponse:
        pair.nodes[ES] = next(reached, es)
        try:
            return honest(agency, request)
        finally:
            pair.nodes[ES] = es

    honest = lines.deliver
    monkeypatch.setattr(lines, "deliver_batch", batch)
    monkeypatch.setattr(lines, "deliver", deliver)

    def word(lane: Urgency) -> str:
        payload = payload_pb2.Payload(person="ana", purpose=PURPOSE, case_ref=CASE)
        payload.referral_step.id, payload.referral_step.referral = new_id(), new_id()
        return pt.store.write(
            lambda tx: send(pt.node, tx, payload, recipient=ES, lane=lane, subject=new_id())
        ).id

    both = word(Urgency.URGENT), word(Urgency.ROUTINE)
    try:
        pair.flow()
    finally:
        copy.close()
    for one in both:
        assert es.store.read(lambda tx, m=one: tx.inbox.get(PT, m)) is not None  # type: ignore[misc]


def test_the_doctor_of_nodes_that_are_well(pair: Bench) -> None:
    contact(pair[PT], ES)
    found = examined(pair[PT])
    assert {state for state, *_ in found["standing"] + found["peer"]} == {"well"}


@pytest.mark.parametrize("kind", [Trouble.SET_BACK, Trouble.FORK])
def test_the_doctor_names_a_quarantine_at_both_sides(pair: Bench, kind: Trouble) -> None:
    pt, es = pair[PT], pair[ES]
    contact(pt, ES)
    standings = Standings(es.node)
    es.store.write(lambda tx: standings.quarantine(tx, PT, kind, "it was seen later"))
    contact(pt, ES)
    word = kind.replace("_", " ")

    found = examined(es)
    ((state, text, advice),) = found["standing"]
    assert state == "failed" and text.startswith(f"{PT}: quarantined since") and word in text
    assert "tieline node resync HOME --accept AGENCY" in advice
    (fr, of_pt) = found["peer"]
    assert (fr[0], of_pt[0]) == ("well", "warning") and PT in of_pt[1]

    found = examined(pt)
    ((state, text, advice),) = found["standing"]
    assert state == "failed" and text.startswith(f"{ES} says {word} of this node since")
    assert "tieline node resync HOME" in advice
    (of_es, fr) = found["peer"]
    assert (fr[0], of_es[0]) == ("well", "warning") and ES in of_es[1]


def test_the_doctor_names_a_copy_that_was_left_behind_at_both_sides(
    pair: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "utc_now", pair.clock)
    pt, es = pair[PT], pair[ES]
    contact(pt, ES)
    old = pair.image(PT)
    contact(pair.resync(PT), ES)
    assert [state for state, *_ in examined(es)["standing"]] == ["well"]
    pt = put_back(pair, old)

    found = examined(pt)
    ((state, text, advice),) = found["standing"]
    assert state == "failed" and text.startswith(f"{ES} says LEFT BEHIND of this node")
    assert "stop this one for good" in advice and "tieline node resync HOME" in advice
    assert [one[0] for one in found["peer"]] == ["warning", "well"]

    found = examined(es)
    ((state, text, advice),) = found["standing"]
    assert state == "warning" and text.startswith(f"{PT}: a copy of it") and "LEFT BEHIND" in text
    assert "duty contact" in advice and "tieline node resync" in advice
    assert [one[0] for one in found["peer"]] == ["well", "warning"]
    (line,) = es.store.read(partial(troubles, now=pair.now))
    assert line.startswith(text)
    pair.now += timedelta(days=1, minutes=1)  # it was ended
    assert [state for state, *_ in examined(es)["standing"]] == ["well"]
