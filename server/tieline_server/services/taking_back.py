"""What a retraction means for requests: what was released is taken back, what waits ends."""

from __future__ import annotations

from dataclasses import replace

from tieline.v1 import requests_pb2
from tieline_client.handling import stricter

from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Urgency
from tieline_server.domain.request import (
    Request,
    RequestKind,
    RequestState,
    SeriesState,
    Side,
)
from tieline_server.domain.retraction import Retraction, RetractionKind
from tieline_server.services.context import Node
from tieline_server.services.notices import handling_in, handling_out
from tieline_server.services.permissions import permission_payload
from tieline_server.services.releasing import answer
from tieline_server.services.sending import send


def end_requests(node: Node, tx: Tx, retraction: Retraction) -> set[str]:
    """End what the retraction leaves without ground; return who has mail of it.

    Whoever got references is told by the retraction itself, as everybody who was told the series.
    """
    woken: set[str] = set()
    for request in tx.requests.find(series=retraction.series):
        everybody = retraction.kind is RetractionKind.WITHDRAW
        if request.kind is RequestKind.RELEASE:
            woken |= _release(node, tx, retraction, request)
        elif request.kind is RequestKind.PERMISSION and request.state in (
            RequestState.PENDING,
            RequestState.APPROVED,
        ):
            if everybody or retraction.excludes(request.peer):
                woken |= _permission(node, tx, retraction, request)
        elif request.state is RequestState.PENDING and everybody:
            ended = replace(request, state=RequestState.ENDED, reason=_WHY)
            tx.requests.put(ended)
            _log(node, tx, retraction, ended)
    return woken


_WHY = "the series was taken back by its owner"


def _release(node: Node, tx: Tx, retraction: Retraction, request: Request) -> set[str]:
    receiver = request.peer if request.side is Side.IN else node.agency
    rows = {one.series: one for one in tx.requests.series_of(request.id)}
    row = rows[retraction.series]
    if not retraction.excludes(receiver):
        if row.entry and retraction.handling is not None:
            release = requests_pb2.Release.FromString(row.entry)
            handling = handling_in(release.series.handling)
            release.series.handling.CopyFrom(handling_out(stricter(handling, retraction.handling)))
            tx.requests.put_series(request.id, replace(row, entry=release.SerializeToString()))
        return set()
    tx.requests.put_series(request.id, replace(row, state=SeriesState.WITHDRAWN, entry=b""))
    left = [one for one in rows.values() if one.series != row.series]
    waits = any(one.state is SeriesState.WAITING for one in left)
    if request.side is Side.IN and request.state is RequestState.PENDING and not waits:
        ended = replace(request, state=RequestState.ENDED, reason=_WHY, decided=node.clock())
        tx.requests.put(ended)
        _log(node, tx, retraction, ended)
        answer(node, tx, ended)
        return {request.peer}
    return set()


def _permission(node: Node, tx: Tx, retraction: Retraction, request: Request) -> set[str]:
    pending = request.state is RequestState.PENDING
    ended = replace(request, state=RequestState.ENDED, reason=_WHY, envelope=b"")
    tx.requests.put(ended)
    _log(node, tx, retraction, ended)
    if request.side is Side.IN and pending:
        refused = replace(ended, state=RequestState.REFUSED)
        send(
            *(node, tx, permission_payload(refused, retraction.series)),
            recipient=request.peer,
            lane=Urgency.URGENT,
            subject=request.id,
        )
        return {request.peer}
    return set()


def _log(node: Node, tx: Tx, retraction: Retraction, ended: Request) -> None:
    kind = "permission" if ended.kind is RequestKind.PERMISSION else "request"
    tx.audit.append(
        node.entry(
            f"{kind}.ended",
            person=retraction.person,
            peer=ended.peer,
            purpose=ended.purpose,
            case_ref=ended.case_ref,
            subjects=(ended.id, retraction.series, retraction.id),
            reason=_WHY,
        )
    )
