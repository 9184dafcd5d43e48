"""Releasing more than a hit: an officer looks at what waits, and what was approved travels.

1. A question whose answer policy lets go only after a person has looked left a request
   (answering.py): who asked, for what, which series hit. Nothing of the asked list is kept.
2. An officer approves it, for all series or some, at a level; or refuses it, with a reason. In the
   transaction of the decision policy is asked again, with ``confirmed``, for everything under which
   each series is held at this moment: one series that it does not let go at that level stops all.
3. What is released travels as one signed message for each series, and a last one that says what was
   decided. The asker's node asks policy in its turn (incoming_requests.py).
4. Until it expires, the decision holds for that asker, purpose, case and series: asking again is
   answered at that level at once (disclosing.py), under the restrictions of that moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tieline.v1 import exchange_pb2, payload_pb2, requests_pb2
from tieline_client.errors import InvalidInput, NotFound, PolicyRefused, WrongState
from tieline_client.handling import Handling, stricter
from tieline_client.payloads import timestamp

from tieline_server.domain.policy import Action, Disclosure
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Urgency
from tieline_server.domain.request import (
    Request,
    RequestedSeries,
    RequestState,
    SeriesState,
)
from tieline_server.services.context import Node, Person
from tieline_server.services.disclosing import learning, series_entry
from tieline_server.services.held_under import Under, held_now
from tieline_server.services.legal_basis import legal_basis
from tieline_server.services.sending import send
from tieline_server.services.views import find_series


@dataclass(frozen=True, slots=True)
class _Released:
    """A series as it is let go."""

    row: RequestedSeries
    entry: exchange_pb2.SeriesEntry | None
    rules: tuple[str, ...]


def approve(
    node: Node,
    tx: Tx,
    person: Person,
    request: Request,
    *,
    level: Disclosure,
    names: Sequence[str],
    until: datetime,
) -> Request:
    """Release series of a request. Raises PolicyRefused, WrongState or NotFound; then nothing is.

    Series that are not named wait no longer: they are refused with this decision.
    """
    waiting = [one for one in tx.requests.series_of(request.id) if _waits(one)]
    chosen = _chosen(tx, waiting, names)
    numbers = tx.requests.numbers([one.series for one in chosen if one.series])
    released, gone = [], []
    for row in chosen:
        one = _release(node, tx, request, row, numbers.get(row.series, 0), level)
        if one is None:
            gone.append(row.series)
        else:
            released.append(one)
    if not released:
        raise WrongState("none of the series is held any more, or their owners took them back")
    decided = replace(
        request,
        state=RequestState.APPROVED,
        level=level,
        decided_by=person.name,
        decided=node.clock(),
        expires=until,
    )
    tx.requests.put(decided)
    told = [one.row.series for one in released]
    tx.requests.mark(request.id, told, SeriesState.RELEASED)
    tx.requests.mark(request.id, gone, SeriesState.WITHDRAWN)
    kept = [one.series for one in waiting if one.series not in {*told, *gone}]
    tx.requests.mark(request.id, kept, SeriesState.REFUSED)
    _send(node, tx, decided, released)
    tx.audit.append(
        node.entry(
            "request.approved",
            person=person.name,
            peer=request.peer,
            purpose=request.purpose,
            case_ref=request.case_ref,
            subjects=(request.id, *(series for series in told if series)),
            rules=tuple(sorted({rule for one in released for rule in one.rules})),
            disclosure=level.label,
            items=request.items,
            asked_by=request.person,
            until=until.isoformat(),
            **legal_basis(node, [request.peer]),
        )
    )
    return decided


def _waits(row: RequestedSeries) -> bool:
    return row.state is SeriesState.WAITING


def _chosen(
    tx: Tx, waiting: Sequence[RequestedSeries], names: Sequence[str]
) -> list[RequestedSeries]:
    if not names:
        return list(waiting)
    wanted = {find_series(tx, name).id for name in names}
    chosen = [one for one in waiting if one.series in wanted]
    missing = wanted - {one.series for one in chosen}
    if missing:
        raise NotFound(f"{min(missing)} does not wait in this request; see `tieline requests show`")
    return chosen


def _release(
    node: Node, tx: Tx, request: Request, row: RequestedSeries, number: int, level: Disclosure
) -> _Released | None:
    """Ask policy about everything under which a series is held; None where nothing is left."""
    if not row.series:  # items in none: their number is all there is to tell
        return _Released(row, None, ())
    pairs = [(one, number) for one in node.matching.imports_of(number)] if number else []
    held = list(held_now(tx, pairs).values())
    if not held or any(one.excludes(request.peer) for one in held):
        return None
    used = request.purpose and tx.requests.used(request.peer, request.purpose, node.clock())
    rules: set[str] = set()
    for under in held:
        question = replace(
            learning(node, request.peer, request.purpose, under),
            confirmed=True,
            permission=bool(used) and number in used,
        )
        decision = node.policy.highest_disclosure(question)
        if decision.level < level:
            action = {2: Action.LEARN_COUNT, 3: Action.LEARN_REFERENCE, 4: Action.LEARN_DETAIL}
            why = node.policy.decide(question.towards(action[int(level)])).why
            raise PolicyRefused(
                f"{row.series} is not released to {request.peer} at {level.label} (at most "
                f"{decision.level.label}): {why}",
                rules=" ".join(decision.decision.rules),
            )
        rules.update(decision.decision.rules)
    entry = None
    if level >= Disclosure.REFERENCE:
        entry = _entry(node, tx, number, held, level)
    return _Released(row, entry, tuple(sorted(rules)))


def _entry(
    node: Node, tx: Tx, number: int, held: Sequence[Under], level: Disclosure
) -> exchange_pb2.SeriesEntry:
    handling: Handling = held[0].handling
    for under in held[1:]:
        handling = stricter(handling, under.handling)
    items: int | None = node.matching.count_of(number, node.matching.imports_of(number))
    if items is not None and items < node.defaults.count_least:
        items = None
    series = tx.series.disclosable([number]).get(number)
    if series is None:
        raise NotFound("the series is no longer here")
    named = level >= Disclosure.DETAIL
    return series_entry(1, series, items, handling, with_name=named)


def _send(node: Node, tx: Tx, request: Request, released: Sequence[_Released]) -> None:
    count = 0
    for one in released:
        if one.entry is None:
            continue
        count += 1
        body = requests_pb2.Release(
            request=request.id,
            level=request.level.label,
            series=one.entry,
            shared=one.row.items,
            expire_time=timestamp(request.expires),
            asked_by=request.person,
        )
        payload = _payload(request, release=body)
        send(
            *(node, tx, payload),
            recipient=request.peer,
            lane=Urgency.URGENT,
            subject=one.row.series,
        )
    answer(node, tx, request, series=count)


def refuse(node: Node, tx: Tx, person: Person, request: Request, reason: str) -> Request:
    """Release nothing, and say why."""
    if not reason:
        raise InvalidInput("refusing needs a reason; say --reason TEXT")
    decided = replace(
        request,
        state=RequestState.REFUSED,
        decided_by=person.name,
        decided=node.clock(),
        reason=reason,
    )
    tx.requests.put(decided)
    names = [one.series for one in tx.requests.series_of(request.id) if _waits(one)]
    tx.requests.mark(request.id, names, SeriesState.REFUSED)
    answer(node, tx, decided)
    tx.audit.append(
        node.entry(
            "request.refused",
            person=person.name,
            peer=request.peer,
            purpose=request.purpose,
            case_ref=request.case_ref,
            subjects=(request.id, *(series for series in names if series)),
            reason=reason,
        )
    )
    return decided


def answer(node: Node, tx: Tx, request: Request, *, series: int = 0) -> None:
    """Queue what was decided for who asked."""
    approved = request.state is RequestState.APPROVED
    body = requests_pb2.RequestAnswer(
        request=request.id,
        state=request.state.value,
        level=request.level.label if approved else "",
        series=series,
        reason=request.reason,
        decide_time=timestamp(request.decided or node.clock()),
        expire_time=timestamp(request.expires),
        asked_by=request.person,
    )
    if approved and request.items >= node.defaults.count_least:
        body.items = request.items
    send(
        *(node, tx, _payload(request, request_answer=body)),
        recipient=request.peer,
        lane=Urgency.URGENT,
        subject=request.id,
    )


def _payload(
    request: Request,
    *,
    release: requests_pb2.Release | None = None,
    request_answer: requests_pb2.RequestAnswer | None = None,
) -> payload_pb2.Payload:
    return payload_pb2.Payload(
        person=request.decided_by,
        purpose=request.purpose,
        case_ref=request.case_ref,
        release=release,
        request_answer=request_answer,
    )
