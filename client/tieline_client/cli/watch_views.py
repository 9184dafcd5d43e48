"""Standing queries, their notices and matches, as JSON and tables say them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tieline.v1 import operator_watches_pb2 as pb

from tieline_client.cli import views
from tieline_client.cli.tables import moment
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import format_digest


def watch_document(view: pb.WatchView) -> dict[str, Any]:
    """Return a standing query as JSON says it."""
    header = view.header
    return {
        "id": view.id,
        "name": header.name,
        "state": view.state,
        "items": header.records,
        "excluded": header.excluded,
        "near": header.near,
        "priority": header.priority,
        "reference": header.reference,
        "alert": header.alert,
        "purpose": header.purpose,
        "case": header.case_ref,
        "person": view.person,
        "created": views.when(view, "create_time"),
        "until": views.when(header, "until_time"),
        "ended": views.when(view, "end_time"),
        "asks": list(header.peers),
        "peers": [
            {
                "agency": one.agency,
                "status": one.status,
                "reason": one.reason,
                "matched": one.matched,
                "percent": one.percent,
                "asked": views.when(one, "ask_time"),
                "generation": one.generation,
                "part": one.part,
                "next": views.when(one, "next_time"),
            }
            for one in view.peers
        ],
    }


def notice_document(view: pb.WatchNoticeView) -> dict[str, Any]:
    """Return a notice as JSON says it."""
    return {
        "id": view.id,
        "agency": view.agency,
        "time": views.when(view, "time"),
        "fresh": view.fresh,
        "matched": view.matched,
        "items": view.records,
        "percent": view.percent,
        "receipt": view.receipt,
        "told": view.told,
        "series": [
            {
                "id": one.id,
                "status": one.status,
                "references": list(one.references),
                "contact": {
                    "name": one.contact_name,
                    "email": one.contact_email,
                    "phone": one.contact_phone,
                },
            }
            for one in view.series
        ],
    }


def matched_hashes(matches: pb.WatchMatches) -> Iterator[str]:
    """Yield the hashes that matched at one peer, as text."""
    for one in matches.lists:
        batch = DigestBatch.from_wire(one)
        for row in batch.rows:
            yield format_digest(batch.kind, row.tobytes())


def peer_row(one: Mapping[str, Any]) -> Sequence[object]:
    """Return how far a peer was asked, as a row of the table of `watch show`."""
    return (
        one["agency"],
        one["status"],
        one["matched"],
        one["percent"],
        moment(one["asked"]),
        moment(one["next"]),
        one["reason"],
    )
