"""What the node says of itself, of its queue and of who is there, as JSON-ready documents."""

from __future__ import annotations

from tieline.v1 import operator_pb2 as pb

from tieline_client.cli.common import URGENCIES
from tieline_client.cli.views import Document, when, word


def message(value: pb.OutboxEntry) -> Document:
    """Return a message of the outbox."""
    return {
        "id": value.id,
        "recipient": value.recipient,
        "kind": value.kind,
        "subject": value.subject,
        "urgency": word(URGENCIES, value.lane),
        "sequence": value.sequence,
        "state": value.state,
        "reason": value.reason,
        "created": when(value, "create_time"),
        "settled": when(value, "settle_time"),
    }


def destination(value: pb.DestinationView) -> Document:
    """Return how far a recipient has been reached."""
    return {
        "agency": value.agency,
        "queued": value.queued,
        "attempts": value.attempts,
        "next_attempt": when(value, "next_attempt_time"),
        "last_error": value.last_error,
        "lanes": [
            {
                "urgency": word(URGENCIES, each.lane),
                "queued": each.queued,
                "put_off": each.put_off,
                "oldest": when(each, "oldest_time"),
            }
            for each in value.lanes
        ],
        "busy_since": when(value, "busy_time"),
        "delivered": value.delivered,
        "per_minute": value.per_minute,
    }


def alarm(value: pb.AlarmView) -> Document:
    """Return an alarm that nobody has ended."""
    return {
        "kind": value.kind,
        "referral": value.referral,
        "series": value.series,
        "sender": value.sender,
        "recipient": value.recipient,
        "raised": when(value, "raise_time"),
    }


def peer(value: pb.Peer) -> Document:
    """Return a member of the federation."""
    return {
        "agency": value.agency,
        "name": value.name,
        "role": value.role,
        "countries": list(value.countries),
        "listed": value.listed,
        "reason": value.reason,
    }


def operator(value: pb.OperatorView) -> Document:
    """Return a person."""
    return {
        "name": value.name,
        "roles": list(value.roles),
        "created": when(value, "create_time"),
        "revoked": when(value, "revoke_time"),
        "expires": when(value, "expire_time"),
    }
