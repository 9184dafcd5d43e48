"""Which series a message tells of, and what comes with it. Nothing of it is checked here."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from tieline.v1 import links_pb2, payload_pb2, requests_pb2, series_pb2

from tieline_server.services.notices import logged_references


def items_of(payload: payload_pb2.Payload) -> series_pb2.AttachmentRef | None:
    """Return what names the items that belong to a message."""
    body = getattr(payload, payload.WhichOneof("body") or "", None)
    if isinstance(body, payload_pb2.Referral | payload_pb2.Broadcast | payload_pb2.Upload):
        return body.items if body.HasField("items") else None
    return None


def series_of(payload: payload_pb2.Payload) -> str:
    """Return the series that a message tells: under that it is found again when the series goes,
    though it was refused."""
    body = getattr(payload, payload.WhichOneof("body") or "", None)
    if isinstance(body, requests_pb2.Release):
        return body.series.id
    if isinstance(body, payload_pb2.TipRelay | links_pb2.SameAsWord | links_pb2.Note):
        return body.series
    notice = _notice_of(payload)
    return notice.id if notice is not None else ""


def _notice_of(payload: payload_pb2.Payload) -> series_pb2.SeriesNotice | None:
    """Return what a message tells of a series."""
    body = getattr(payload, payload.WhichOneof("body") or "", None)
    if isinstance(body, payload_pb2.Broadcast) and body.HasField("original"):
        try:
            original = payload_pb2.Payload.FromString(body.original.payload)
        except DecodeError:
            return None
        return original.referral.series
    if isinstance(body, payload_pb2.Referral | payload_pb2.Broadcast | payload_pb2.Upload):
        return body.series
    return None


def told(payload: payload_pb2.Payload) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the series that a message told, or takes back, as a subject, and its numbers in other
    systems: the SIENA number is in the log of both sides (2023/977 Art. 13)."""
    body = getattr(payload, payload.WhichOneof("body") or "", None)
    if isinstance(body, payload_pb2.Retraction | payload_pb2.PurgeReceipt):
        return (body.series,), {}
    notice = _notice_of(payload)
    if notice is None or not notice.id:
        return (), {}
    numbers = logged_references(notice.references)
    return (notice.id,), {"references": numbers} if numbers else {}
