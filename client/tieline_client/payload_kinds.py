"""Since which minor version of the wire each kind of signed message is known.

A sender looks here before it sends: what its peer cannot read yet waits in the outbox until the
peer says that it speaks a newer version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

SINCE: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(
            ("hello", "query", "receipt", "referral", "referral_step", "broadcast"),
            0,
        ),
        **dict.fromkeys(("broadcast_answer", "upload", "upload_step"), 0),
        **dict.fromkeys(("retraction", "purge_receipt", "escalation"), 1),
        **dict.fromkeys(("request_answer", "release", "permission_request", "permission"), 2),
        **dict.fromkeys(("transfer_notice", "checkpoint", "countersignature"), 2),
        **dict.fromkeys(("same_as", "note", "referral_correction", "series_merge"), 3),
        **dict.fromkeys(("told_outside", "referral_lead", "tip", "deposit_report"), 3),
        "watch_notice": 4,
        "series_split": 5,
    }
)
"""Every body of a Payload, as the comments of payload.proto have it (tests/client holds them
together)."""

HOLDS_UP = frozenset({"series_split"})
"""Kinds that no later message about the same overtakes, even where the peer reads only that one: it
would say that nothing is left of a series whose items it has under another id."""

_WIRE = re.compile(r"v1\.([0-9]{1,4})")


def unread(wire: str) -> frozenset[str]:
    """Return the kinds that a peer of this wire version cannot read; none where it is unknown."""
    stated = _WIRE.fullmatch(wire)
    if stated is None:
        return frozenset()
    return frozenset(kind for kind, minor in SINCE.items() if minor > int(stated[1]))


def why_unread(agency: str, wire: str, kind: str) -> str:
    """Return in words why a message waits for a newer version of its recipient."""
    return (
        f"{agency} speaks {wire} and reads no {kind} before v1.{SINCE[kind]}; "
        "it is sent once that node is upgraded"
    )
