"""Clues and tips as documents, and tips as a table."""

from __future__ import annotations

from typing import Any

from tieline.v1 import operator_clues_pb2 as pb

from tieline_client.cli import views
from tieline_client.cli.tables import moment, show_rows


def clue_document(clue: pb.ClueView) -> dict[str, Any]:
    """A clue as JSON shows it."""
    return {
        "id": clue.id,
        "series": clue.series,
        "kind": clue.kind,
        "text": clue.text,
        "origin": clue.origin,
        "person": clue.person,
        "created": views.when(clue, "create_time"),
        "public": clue.HasField("publish_time") and not clue.HasField("end_time"),
        "public_id": clue.public_id,
        "published_text": clue.published_text,
        "published_by": clue.published_by,
        "published": views.when(clue, "publish_time"),
        "tips": clue.tips,
        "new": clue.fresh,
        "verified": clue.verified,
        "dismissed": clue.dismissed,
        "relayed": clue.relayed,
        "known": clue.known,
        "limited": clue.limited,
    }


def tip_document(tip: pb.TipView) -> dict[str, Any]:
    """A tip as JSON shows it."""
    return {
        "id": tip.id,
        "clue": tip.clue,
        "text": tip.text,
        "country": tip.country,
        "received": views.when(tip, "receive_time"),
        "origin": tip.origin,
        "said": tip.said,
        "state": tip.state,
        "supports": tip.supports,
        "eliminates": tip.eliminates,
        "person": tip.person,
        "judged": views.when(tip, "judge_time"),
        "reason": tip.reason,
        "relayed_to": list(tip.relayed_to),
    }


def show_tips(documents: list[dict[str, Any]]) -> None:
    """Print tips as a table."""
    rows = [
        (
            each["id"],
            each["clue"],
            each["text"],
            each["state"],
            f"+{each['supports']}" if each["supports"] else "",
            f"-{each['eliminates']}" if each["eliminates"] else "",
            each["country"],
            each["origin"],
            ", ".join(each["relayed_to"]),
            moment(each["received"]),
        )
        for each in documents
    ]
    columns = ("id", "clue", "text", "state", "for", "against", "names", "from", "told", "received")
    show_rows(columns, rows, "no tips")
