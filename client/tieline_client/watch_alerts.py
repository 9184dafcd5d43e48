"""Standing queries and the VICS alerts that they come from, and notices of matches as VICS hits.

An alert in: its triggers are the watched items, its expiry the day, its reference, priority and
contact go along. A notice out: an AlertHit, with an AlertHitNotification that names the alert and
how much of it matched. Ids follow from those of the notice, so that writing twice says the same.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tieline.v1 import operator_watches_pb2 as pb

from tieline_client import limits
from tieline_client.asked_list import AskedList, AskTerms, ListBuilder
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput
from tieline_client.formats.fields import BadRecord
from tieline_client.formats.record import Record, Rejected, Vote
from tieline_client.formats.text import utf8_chunks
from tieline_client.formats.vics_alerts import (
    Alert,
    AlertContact,
    AlertHit,
    AlertHitNotification,
    read_alerts,
    trigger_digest,
)
from tieline_client.inert import plain
from tieline_client.payloads import moment
from tieline_client.record_stream import visible

_HEAD_BYTES = 16 * 1024
_CONTEXT = re.compile(rb'"(?:@odata\.context|odata\.metadata)"\s*:\s*"[^"]{0,2000}#Alerts?"')
_OWN = Vote("vics-alert", "watched")
"""A trigger carries no category: an alert is its maker's own statement that all of it belongs."""


@dataclass(frozen=True, slots=True)
class AlertList:
    """What one alert, by its number in the file, watches: the list, and triggers that cannot be,
    by number and reason."""

    number: int
    alert: Alert
    asked: AskedList
    rejected: tuple[Rejected, ...]


def is_alerts(path: Path) -> bool:
    """Whether a file names VICS alerts within its first bytes."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for encoding in ("utf-16-le", "utf-16-be"):
        if head.startswith("\ufeff".encode(encoding)):
            head = head.decode(encoding, "ignore").encode()
    return _CONTEXT.search(head) is not None


def alert_lists(path: Path, now: datetime, *, near: bool) -> Iterator[AlertList | Rejected]:
    """Yield the alerts of a file as lists; those that are over, or name nothing, are rejected.

    Raises FormatError for a broken file.
    """
    for number, entry in enumerate(read_alerts(utf8_chunks(path, path.name), path.name), 1):
        if isinstance(entry, Rejected):
            yield entry
        elif not isinstance(entry, Alert):
            yield Rejected(number, "it is a hit or a notice of one; alerts are watched")
        elif not entry.active or entry.expiry <= now:
            yield Rejected(number, "the alert is not active, or its day is past")
        else:
            made = _list_of(number, entry, near=near)
            if any(made.asked.counts()):
                yield made
            else:
                yield Rejected(number, "the alert names no digest that can be watched")


def _list_of(of: int, alert: Alert, *, near: bool) -> AlertList:
    builder = ListBuilder(AskTerms(frozenset({_OWN})), near=near)
    rejected: list[Rejected] = []
    for number, trigger in enumerate(alert.triggers, 1):
        try:
            found = trigger_digest(trigger)
            why = "its type is no digest that is matched"
        except BadRecord as error:
            found, why = None, error.message
        if found is not None and found[0] is DigestKind.PDQ and not near:
            found, why = None, "a perceptual hash is watched with --near"
        if found is None:
            rejected.append(Rejected(number, f"a trigger of alert {of}: {why}"))
            continue
        record = Record(number=number, votes=(_OWN,))
        setattr(record, found[0].label, found[1])
        builder.add(record)
    return AlertList(of, alert, builder.build(), tuple(rejected))


def contact_of(contact: AlertContact) -> dict[str, str]:
    """Return a contact as a standing query states it."""
    caps = {"phone": limits.CODE_CHARS}
    return {
        name: _one_line(text)[: caps.get(name, limits.REFERENCE_CHARS)]
        for name in ("organization", "name", "phone", "email", "title")
        if (text := getattr(contact, name))
    }


def name_of(alert: Alert) -> str:
    """Return what people call an alert."""
    return _one_line(alert.name or alert.description or "")[: limits.REFERENCE_CHARS]


def _one_line(text: str) -> str:
    """Return words that may have lines as a name, in which there are none."""
    return visible(" ".join(plain(text).split()))


def hits_of(
    watch: pb.WatchView, notices: Sequence[pb.WatchNoticeView]
) -> list[AlertHit | AlertHitNotification]:
    """Return notices as VICS hits, oldest first, each with its notification."""
    made: list[AlertHit | AlertHitNotification] = []
    for notice in reversed(notices):
        told = next(iter(notice.series), pb.WatchSeries())
        made.append(
            AlertHit(
                id=uuid.UUID(notice.id),
                date=moment(notice.time),
                reference=next(iter(told.references), told.id) or None,
                contact=AlertContact(
                    organization=notice.agency,
                    name=told.contact_name or None,
                    phone=told.contact_phone or None,
                    email=told.contact_email or None,
                ),
                notifications=(_notification(watch, notice),),
            )
        )
    return made


def notifications_of(
    watch: pb.WatchView, notices: Sequence[pb.WatchNoticeView]
) -> list[AlertHit | AlertHitNotification]:
    """Return the notifications alone."""
    return [_notification(watch, notice) for notice in reversed(notices)]


def _notification(watch: pb.WatchView, notice: pb.WatchNoticeView) -> AlertHitNotification:
    contact = watch.header.contact
    return AlertHitNotification(
        id=uuid.uuid5(uuid.UUID(notice.id), "notification"),
        hit=uuid.UUID(notice.id),
        alert=_alert_id(watch),
        status=watch.state,
        percentage=notice.percent,
        reference=watch.header.reference or watch.header.case_ref or None,
        contact=AlertContact(
            contact.organization or None,
            contact.name or None,
            contact.phone or None,
            contact.email or None,
            contact.title or None,
        ),
    )


def _alert_id(watch: pb.WatchView) -> uuid.UUID:
    try:
        return uuid.UUID(watch.header.alert or watch.id)
    except ValueError:
        raise InvalidInput("the node names no alert; ask again") from None
