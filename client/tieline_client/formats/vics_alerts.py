"""VICS 2.0 alerts: standing requests ("tell me if anyone sees this"), hits, and notices of hits.

A file is an envelope whose context ends in ``#Alerts``, ``#AlertHits`` or
``#AlertHitNotifications``, and ``value``, the list of what it names. Every field of the OData
schema (CEModel) is read and written; what is absent or null is None and is left out when written,
so that a file read and written again says the same. An entry that cannot be used is Rejected by its
number; a broken document is refused whole.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput
from tieline_client.formats.fields import BadRecord, read_digest, shown
from tieline_client.formats.json_events import JsonEvents
from tieline_client.formats.record import Rejected
from tieline_client.formats.vics_alert_fields import (
    read_byte,
    read_each,
    read_flag,
    read_guid,
    read_needed,
    read_text,
    read_time,
)
from tieline_client.limits import ALERT_TRIGGERS, JSON_FIELDS

_CONTEXT_KEYS = ("@odata.context", "odata.metadata")
_BASE = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml"
_COUNTRIES = ("US", "UK", "CUSTOM", "Default")
_MOST_DEPTH = 4
"""An entry, its list, and an object in that."""


@dataclass(frozen=True, slots=True)
class AlertContact:
    """Whom to call."""

    organization: str | None = None
    name: str | None = None
    phone: str | None = None
    email: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class AlertTrigger:
    """What an alert waits for: a value of a type, such as ``MD5``."""

    id: uuid.UUID
    type: str | None = None
    value: str | None = None
    alert: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class AlertHitNotification:
    """A notice of a hit. ``percentage`` is 0 to 100: how much of what was watched matched."""

    id: uuid.UUID
    hit: uuid.UUID
    alert: uuid.UUID | None = None
    status: str | None = None
    percentage: int | None = None
    reference: str | None = None
    contact: AlertContact = field(default_factory=AlertContact)


@dataclass(frozen=True, slots=True)
class Alert:
    """A standing request. A higher ``priority`` (0 to 255) goes first."""

    id: uuid.UUID
    priority: int
    active: bool
    expiry: datetime
    reference: str | None = None
    contact: AlertContact = field(default_factory=AlertContact)
    name: str | None = None
    description: str | None = None
    source_system: str | None = None
    triggers: tuple[AlertTrigger, ...] = ()
    notifications: tuple[AlertHitNotification, ...] = ()


@dataclass(frozen=True, slots=True)
class AlertHit:
    """A sighting of what somebody waits for."""

    id: uuid.UUID
    date: datetime
    reference: str | None = None
    contact: AlertContact = field(default_factory=AlertContact)
    notifications: tuple[AlertHitNotification, ...] = ()


Entry = Alert | AlertHit | AlertHitNotification
_CONTACT = ("Organization", "Name", "Phone", "Email", "Title")
_TYPES: Mapping[str, DigestKind] = {
    "md5": DigestKind.MD5,
    "sha1": DigestKind.SHA1,
    "sha256": DigestKind.SHA256,
    "pdq": DigestKind.PDQ,
}


def trigger_digest(trigger: AlertTrigger) -> tuple[DigestKind, bytes] | None:
    """Return the digest that a trigger waits for; None for a type that is no digest here.

    Raises BadRecord for a value that is none of its type.
    """
    word = "".join(char for char in (trigger.type or "").lower() if char.isalnum())
    kind = _TYPES.get(word)
    if kind is None:
        return None
    digest = read_digest(kind, trigger.value)
    if digest is None:
        raise BadRecord(f"a trigger of type {shown(trigger.type)} has no value")
    return kind, digest


# --- reading ----------------------------------------------------------------------------------


def read_alerts(chunks: Iterable[bytes], name: str) -> Iterator[Entry | Rejected]:
    """Yield the entries of a file given as chunks of UTF-8.

    Raises FormatError, naming the entry, when the document is broken, truncated, nested too deep,
    repeats a key, or is no VICS file of alerts, hits or notifications.
    """
    events = JsonEvents(chunks, name)
    if events.next()[0] != "start_map":
        raise events.fault("not VICS: the JSON does not begin with an object")
    read: Callable[[Mapping[str, Any]], Entry] | None = None
    seen: set[str] = set()
    while (event := events.next())[0] != "end_map":
        events.mark()
        key = event[1]
        if key in seen or len(seen) >= JSON_FIELDS:
            raise events.fault(f"the key {shown(key)} stands twice, or there are too many")
        seen.add(key)
        kind, value = events.next()
        if key in _CONTEXT_KEYS:
            read = _READERS.get(str(value).rpartition("#")[2].partition("/")[0])
            if read is None:
                raise events.fault(
                    f"not VICS alerts: the context is {shown(value)}; one that ends in "
                    "#Alerts, #AlertHits or #AlertHitNotifications is needed"
                )
        elif key == "value":
            if read is None or kind != "start_array":
                raise events.fault("not VICS alerts: 'value' is no list behind a context")
            yield from _entries(events, read)
            events.record = None
        elif kind in ("start_map", "start_array"):
            events.skip(2)
    if "value" not in seen:
        raise events.fault("not VICS: there is no list named 'value'")
    events.finish()


def _entries(
    events: JsonEvents, read: Callable[[Mapping[str, Any]], Entry]
) -> Iterator[Entry | Rejected]:
    number = 0
    while (event := events.next())[0] != "end_array":
        number += 1
        events.record = number
        events.mark()
        fields = _built(events, event, 1)
        try:
            if not isinstance(fields, dict):
                raise BadRecord("an entry is an object")
            yield read(fields)
        except InvalidInput as error:
            yield Rejected(number, error.message)


def _built(events: JsonEvents, event: tuple[str, Any], depth: int) -> Any:
    """Return the value that begins with an event. Raises FormatError."""
    kind, value = event
    if kind not in ("start_map", "start_array"):
        return value
    if depth > _MOST_DEPTH:
        raise events.fault(f"nested more than {_MOST_DEPTH} deep")
    if kind == "start_array":
        items: list[Any] = []
        while (event := events.next())[0] != "end_array":
            if len(items) >= ALERT_TRIGGERS:
                raise events.fault(f"more than {ALERT_TRIGGERS} entries in one list")
            items.append(_built(events, event, depth + 1))
        return items
    fields: dict[str, Any] = {}
    while (event := events.next())[0] != "end_map":
        key = event[1]
        if key in fields or len(fields) >= JSON_FIELDS:
            raise events.fault(f"the key {shown(key)} stands twice, or there are too many")
        fields[key] = _built(events, events.next(), depth + 1)
    return fields


def _alert(get: Mapping[str, Any]) -> Alert:
    active, own = read_flag(get, "Active"), read_needed(get, "AlertID", read_guid)
    return Alert(
        id=own,
        priority=read_needed(get, "Priority", lambda f, n: read_byte(f, n, 255)),
        active=active,
        expiry=read_needed(get, "ExpiryDate", read_time),
        reference=read_text(get, "ReferenceNumber"),
        contact=_contact(get, "Contact"),
        name=read_text(get, "Name"),
        description=read_text(get, "Description"),
        source_system=read_text(get, "SourceSystem"),
        triggers=tuple(read_each(get, "AlertTriggers", lambda one: _trigger(one, own))),
        notifications=tuple(read_each(get, "AlertHitNotifications", _notification)),
    )


def _trigger(get: Mapping[str, Any], around: uuid.UUID) -> AlertTrigger:
    """A trigger that names no alert belongs to the one around it: the schema wants both ids."""
    return AlertTrigger(
        id=read_needed(get, "TriggerID", read_guid),
        type=read_text(get, "TriggerType"),
        value=read_text(get, "TriggerValue"),
        alert=read_guid(get, "AlertID") or around,
    )


def _hit(get: Mapping[str, Any]) -> AlertHit:
    return AlertHit(
        id=read_needed(get, "HitID", read_guid),
        date=read_needed(get, "HitDate", read_time),
        reference=read_text(get, "ReferenceNumber"),
        contact=_contact(get, "Contact"),
        notifications=tuple(read_each(get, "AlertHitNotifications", _notification)),
    )


def _notification(get: Mapping[str, Any]) -> AlertHitNotification:
    return AlertHitNotification(
        id=read_needed(get, "NotificationID", read_guid),
        hit=read_needed(get, "HitID", read_guid),
        alert=read_guid(get, "AlertID"),
        status=read_text(get, "Status"),
        percentage=read_byte(get, "MatchPercentage", 100),
        reference=read_text(get, "AlertReferenceNumber"),
        contact=_contact(get, "AlertContact"),
    )


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Entry]] = {
    "Alerts": _alert,
    "AlertHits": _hit,
    "AlertHitNotifications": _notification,
}


def _contact(get: Mapping[str, Any], before: str) -> AlertContact:
    return AlertContact(*(read_text(get, before + part) for part in _CONTACT))


# --- writing ----------------------------------------------------------------------------------


def write_alerts(stream: BinaryIO, entries: Sequence[Entry], country: str = "US") -> int:
    """Write entries of one kind as VICS 2.0 JSON; return how many.

    Raises InvalidInput for an unknown context, for no entries, or for kinds that are mixed.
    """
    if country not in _COUNTRIES:
        raise InvalidInput(f"the context is one of {', '.join(_COUNTRIES)}")
    kinds = {type(one) for one in entries}
    if len(kinds) != 1:
        raise InvalidInput("a file holds alerts, hits or notifications: one kind, at least one")
    word, fields = _WRITERS[kinds.pop()]
    context = f"{_BASE}/{country}/$metadata#{word}"
    stream.write(f'{{"@odata.context":{json.dumps(context)},"value":['.encode())
    for number, one in enumerate(entries):
        stream.write((b"," if number else b"") + b"\r\n" + json.dumps(fields(one)).encode())
    stream.write(b"\r\n]}\r\n")
    return len(entries)


def _alert_out(one: Alert) -> dict[str, Any]:
    return _without_none(
        {
            "AlertID": str(one.id),
            "Priority": one.priority,
            "Active": one.active,
            "ExpiryDate": _stamp(one.expiry),
            "ReferenceNumber": one.reference,
            **_contact_out(one.contact, "Contact"),
            "Description": one.description,
            "Name": one.name,
            "SourceSystem": one.source_system,
            "AlertTriggers": [
                _without_none(
                    {
                        "TriggerID": str(trigger.id),
                        "AlertID": str(trigger.alert or one.id),
                        "TriggerValue": trigger.value,
                        "TriggerType": trigger.type,
                    }
                )
                for trigger in one.triggers
            ],
            "AlertHitNotifications": [_notification_out(each) for each in one.notifications],
        }
    )


def _hit_out(one: AlertHit) -> dict[str, Any]:
    return _without_none(
        {
            "HitID": str(one.id),
            "HitDate": _stamp(one.date),
            "ReferenceNumber": one.reference,
            **_contact_out(one.contact, "Contact"),
            "AlertHitNotifications": [_notification_out(each) for each in one.notifications],
        }
    )


def _notification_out(one: AlertHitNotification) -> dict[str, Any]:
    return _without_none(
        {
            "NotificationID": str(one.id),
            "HitID": str(one.hit),
            "Status": one.status,
            "AlertReferenceNumber": one.reference,
            **_contact_out(one.contact, "AlertContact"),
            "MatchPercentage": one.percentage,
            "AlertID": None if one.alert is None else str(one.alert),
        }
    )


_WRITERS: Mapping[type, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    Alert: ("Alerts", _alert_out),
    AlertHit: ("AlertHits", _hit_out),
    AlertHitNotification: ("AlertHitNotifications", _notification_out),
}


def _contact_out(contact: AlertContact, before: str) -> dict[str, Any]:
    parts = (contact.organization, contact.name, contact.phone, contact.email, contact.title)
    return {before + name: value for name, value in zip(_CONTACT, parts, strict=True)}


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None and value != []}
