"""The queue moves on: what will never be taken is settled, what may be taken later waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tieline.v1 import delivery_pb2, operator_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput, RequestIdReused, StorageUnavailable, TielineError
from tieline_server.services.inbox import Mailbox
from tieline_server.services.uploading import Uploading

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    FR,
    HUB,
    ICE,
    INTERPOL,
    PT,
    PURPOSE,
    WAIT_SECONDS,
    Bench,
    Running,
    records,
    wait_for,
)

Request = delivery_pb2.DeliverRequest
Response = delivery_pb2.DeliverResponse
Deliver = Callable[[str, Request], Response]


def _outbox(node: Running, state: str = "") -> list[operator_pb2.OutboxEntry]:
    return list(Mailbox(node.node).outbox(operator_pb2.ListOutboxRequest(state=state)).entries)


def _answering(node: Running, *answers: TielineError | delivery_pb2.DeliverResponse) -> list[str]:
    """Let a node be of v1.0 and answer these first; return the list of what it is sent."""
    honest, left, seen = node.receiving.deliver, list(answers), []

    def deliver(peer: str, request: delivery_pb2.DeliverRequest) -> delivery_pb2.DeliverResponse:
        seen.append(request.envelope.payload_type)
        if not left:
            return honest(peer, request)
        answer = left.pop(0)
        if isinstance(answer, TielineError):
            raise answer
        return answer

    node.receiving.deliver = deliver  # type: ignore[method-assign]
    node.one_by_one = True
    return seen


def _two_referrals(bench: Bench) -> tuple[Running, Running, list[str]]:
    es, pt = bench[ES], bench[PT]
    made = [es.refer(es.series(records([n]), name=f"S{n}"), country="PT") for n in (1, 2)]
    return es, pt, [views[0].id for views in made]


def test_a_status_that_no_retry_changes_ends_the_tries(bench: Bench) -> None:
    es, pt, ids = _two_referrals(bench)
    errors = (InvalidInput("no"), RequestIdReused("came before"))
    for error in errors:
        _answering(pt, error)
    bench.flow()
    assert {one.subject for one in _outbox(es, "refused")} == set(ids)
    assert {one.reason.partition(":")[0] for one in _outbox(es, "refused")} == {
        "INVALID_INPUT",
        "REQUEST_ID_REUSED",
    }


def test_a_retry_holds_up_nobody_else(bench: Bench) -> None:
    _, pt, ids = _two_referrals(bench)
    later = delivery_pb2.DeliverResponse(reply=delivery_pb2.REPLY_RETRY, text="not now")
    _answering(pt, later)
    bench.flow()
    assert {entry.id for entry in pt.inbox()} == set(ids)
    # The second went at once: it did not wait for the first one's next try.
    came = pt.audit("referral.received")
    assert [entry["subjects"][1] for entry in came] == [ids[1], ids[0]]  # type: ignore[index]


def test_trouble_with_the_peers_disk_is_waited_out(bench: Bench) -> None:
    es, pt, ids = _two_referrals(bench)
    _answering(pt, StorageUnavailable("disk full"))
    bench.flow()
    assert {entry.id for entry in pt.inbox()} == set(ids)
    assert not _outbox(es, "refused")


def test_what_a_peer_does_not_understand_is_parked_with_what_follows_it(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    es.refer(es.series(records([1])), country="PT")
    bench.flow()
    referral = pt.inbox()[0].id
    unknown = delivery_pb2.DeliverResponse(reply=delivery_pb2.REPLY_UNSUPPORTED, reason="X")
    seen = _answering(es, unknown)
    for state in ("acknowledged", "accepted"):
        _step(pt, referral, state)
        bench.flow()
    assert len(seen) == 1
    assert {one.state for one in _outbox(pt, "parked")} == {"parked"}
    assert len(_outbox(pt, "parked")) == 2


def _step(node: Running, referral: str, state: str) -> None:
    from tieline_server.services.referring import Referring

    request = operator_pb2.StepReferralRequest(id=referral, state=state)
    Referring(node.node).step(ANA, request)


def test_items_that_the_peer_refuses_end_in_a_refused_message(bench: Bench) -> None:
    """The depositor's rules allow what the repository's do not: its word comes back."""
    es, interpol = bench[ES], bench[INTERPOL]
    series = es.series(records(range(3)))
    strict = _Denying(interpol.node.policy)
    interpol.node.policy = strict
    request = operator_pb2.UploadSeriesRequest(
        series=[series], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
    )
    Uploading(es.node).upload(ANA, request)
    bench.flow()
    (refused,) = _outbox(es, "refused")
    assert refused.reason.startswith("POLICY_REFUSED")
    assert interpol.store.read(lambda tx: tx.imports.incomplete()) == []


class _Denying:
    """Rules of a repository that takes no deposits."""

    def __init__(self, rules: Any) -> None:
        self._rules = rules

    version = "0" * 64

    def decide(self, question: Any) -> Any:
        from tieline_server.domain.policy import Action, Decision

        if question.action is Action.ACCEPT_UPLOAD:
            return Decision(False, (), (), "no deposits this week")
        return self._rules.decide(question)

    def highest_disclosure(self, question: Any) -> Any:
        return self._rules.highest_disclosure(question)


def test_a_peer_that_is_away_costs_only_its_own_mail(bench: Bench) -> None:
    es, hub = bench[ES], bench[HUB]
    bench[PT]
    bench.offline.add(PT)
    es.refer(es.series(records([1])), country="PT")
    es.refer(es.series(records([2]), name="B"), agency=HUB)
    bench.flow()
    assert len(hub.inbox()) == 1

    def backed_off() -> bool:
        (there,) = Mailbox(es.node).outbox(operator_pb2.ListOutboxRequest()).destinations
        return there.agency == PT and there.attempts > 0 and "cannot be reached" in there.last_error

    wait_for("the back-off is in storage", backed_off)
    bench.offline.clear()
    es.engine.heard_from(PT)
    bench.flow()
    assert len(bench[PT].inbox()) == 1
    assert not Mailbox(es.node).outbox(operator_pb2.ListOutboxRequest()).destinations


def test_peers_that_hang_keep_no_loop_from_its_work(bench: Bench) -> None:
    """More of them than loops may work at a time: whoever waits for a peer holds no place."""
    hanging = (PT, FR, ICE)
    assert len(hanging) > limits.LOOPS_AT_WORK
    es, hub = bench[ES], bench[HUB]
    go, waiting = threading.Event(), threading.Barrier(len(hanging) + 1, timeout=WAIT_SECONDS)
    for agency in hanging:
        honest = bench[agency].receiving.deliver

        def hang(peer: str, request: Request, honest: Deliver = honest) -> Response:
            waiting.wait()
            assert go.wait(WAIT_SECONDS)
            return honest(peer, request)

        bench[agency].receiving.deliver = hang  # type: ignore[method-assign]
        bench[agency].one_by_one = True
        es.refer(es.series(records([1]), name=agency), agency=agency)
    es.node.wake = es.engine.wake
    es.engine.start()
    waiting.wait()  # all three are in their calls
    es.refer(es.series(records([2]), name="B"), agency=HUB)
    wait_for("the hub has its own", lambda: len(hub.inbox()) == 1)
    assert [len(bench[agency].inbox()) for agency in hanging] == [0, 0, 0]
    go.set()
    bench.flow()
    assert [len(bench[agency].inbox()) for agency in hanging] == [1, 1, 1]
