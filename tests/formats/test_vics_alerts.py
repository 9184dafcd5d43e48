"""VICS alerts, hits and notices: every field of the schema, there and back; hostile files."""

from __future__ import annotations

import io
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tieline_client.digests import DigestKind
from tieline_client.errors import FormatError, InvalidInput
from tieline_client.formats.record import Rejected
from tieline_client.formats.vics_alerts import (
    Alert,
    AlertContact,
    AlertHit,
    AlertHitNotification,
    AlertTrigger,
    Entry,
    read_alerts,
    trigger_digest,
    write_alerts,
)

from tests.formats.edmx import Schema

SCHEMA = Path(__file__).parent / "data" / "vics-2.0.edmx.xml"
BASE = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/US/$metadata"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

texts = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
contacts = st.builds(AlertContact, texts, texts, texts, texts, texts)
times = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
notices = st.builds(
    *(AlertHitNotification, st.uuids(), st.uuids(), st.none() | st.uuids(), texts),
    percentage=st.none() | st.integers(0, 100),
    reference=texts,
    contact=contacts,
)
triggers = st.builds(AlertTrigger, st.uuids(), texts, texts, st.uuids())
alerts = st.builds(
    *(Alert, st.uuids(), st.integers(0, 255), st.booleans(), times),
    reference=texts,
    contact=contacts,
    name=texts,
    description=texts,
    source_system=texts,
    triggers=st.lists(triggers, max_size=3).map(tuple),
    notifications=st.lists(notices, max_size=2).map(tuple),
)
hits = st.builds(
    *(AlertHit, st.uuids(), times, texts, contacts),
    notifications=st.lists(notices, max_size=2).map(tuple),
)


def _read(data: bytes) -> list[Entry | Rejected]:
    return list(read_alerts([data[at : at + 97] for at in range(0, len(data), 97)], "a.json"))


def _file(entries: Any, word: str = "Alerts") -> bytes:
    return json.dumps({"@odata.context": f"{BASE}#{word}", "value": entries}).encode()


def _written(entries: list[Any]) -> bytes:
    stream = io.BytesIO()
    assert write_alerts(stream, entries) == len(entries)
    return stream.getvalue()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(alerts, min_size=1, max_size=3)
    | st.lists(hits, min_size=1, max_size=3)
    | st.lists(notices, min_size=1, max_size=3)
)
def test_what_is_written_reads_back_the_same(entries: list[Entry]) -> None:
    data = _written(entries)
    assert _read(data) == entries
    assert Schema(SCHEMA).faults(json.loads(data)) == []


def _full() -> dict[str, Any]:
    contact = AlertContact("o", "n", "p", "e", "t")
    one, two, three = (uuid.UUID(int=number) for number in (1, 2, 3))
    notice = AlertHitNotification(one, two, three, "new", 40, "R", contact)
    trigger = AlertTrigger(two, "MD5", "ab" * 16, one)
    alert = Alert(one, 1, True, NOON, "R", contact, "n", "d", "s", (trigger,), (notice,))
    return {
        "Alert": alert,
        "AlertHit": AlertHit(one, NOON, "R", contact, (notice,)),
        "AlertHitNotification": notice,
        "AlertTrigger": alert,
    }


@pytest.mark.parametrize("entity", ["Alert", "AlertTrigger", "AlertHit", "AlertHitNotification"])
def test_every_field_of_the_schema_is_written_with_its_type(entity: str) -> None:
    name = "{http://docs.oasis-open.org/odata/ns/edm}"
    tree = ElementTree.parse(SCHEMA)
    (stated,) = [one for one in tree.iter(f"{name}EntityType") if one.get("Name") == entity]
    wanted = {one.get("Name"): one.get("Type") for one in stated.iter(f"{name}Property")}
    (fields,) = json.loads(_written([_full()[entity]]))["value"]
    if entity == "AlertTrigger":
        (fields,) = fields["AlertTriggers"]
    assert set(wanted) <= set(fields)
    lists = {one.get("Name") for one in stated.iter(f"{name}NavigationProperty")}
    assert set(fields) - set(wanted) <= lists
    kinds = {"Edm.Byte": int, "Edm.Boolean": bool}
    for field, kind in wanted.items():
        assert isinstance(fields[field], kinds.get(kind or "", str)), field


def test_an_entry_that_cannot_be_used_is_named_and_the_others_are_read() -> None:
    good = {
        "AlertID": str(uuid.UUID(int=1)).upper(),
        "Priority": "7",
        "Active": "true",
        "ExpiryDate": "2026-03-01T13:00:00+1:00Z",
    }
    wrong: list[Any] = [
        {"AlertID": None},
        {"AlertID": "1"},
        {"Priority": 256},
        {"Priority": -1},
        {"Priority": True},
        {"Active": "maybe"},
        {"Active": None},
        {"ExpiryDate": "soon"},
        {"Name": 7},
        {"Name": "x" * 10_001},
        {"AlertTriggers": {}},
        {"AlertTriggers": [1]},
        {"AlertTriggers": [{}]},
        {"AlertHitNotifications": [{"NotificationID": good["AlertID"]}]},
    ]
    found = _read(_file([good, *({**good, **one} for one in wrong), 5, good]))
    assert [one.record for one in found if isinstance(one, Rejected)] == list(range(2, 17))
    read = [one for one in found if isinstance(one, Alert)]
    assert len(read) == 2 and read[0] == Alert(uuid.UUID(int=1), 7, True, NOON)
    notice = {"NotificationID": good["AlertID"], "HitID": good["AlertID"], "MatchPercentage": 101}
    (over,) = _read(_file([notice], "AlertHitNotifications"))
    assert isinstance(over, Rejected)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"value":[]}',
        _file([], "Media"),
        _file({}),
        _file([])[:-1],
        _file([]) + b"x",
        _file([{"AlertTriggers": [[[[[[1]]]]]]}]),
        _file([]).replace(b'"value"', b'"value":[],"value"'),
        _file([{"A": 1}]).replace(b'"A": 1', b'"A":1,"A":2'),
        _file([]).replace(b"[]", b"[" * 100_000),
        _file([]).replace(b"[]", b"[NaN]"),
        _file([{"Name": "x" * 3_000_000}]),
    ],
    ids=range(14),
)
def test_a_broken_or_foreign_document_is_refused_whole(data: bytes) -> None:
    with pytest.raises(FormatError):
        _read(data)


def test_triggers_that_are_digests() -> None:
    def digest(kind: str | None, value: str | None) -> Any:
        return trigger_digest(AlertTrigger(uuid.UUID(int=1), kind, value))

    assert digest("SHA-1", "AB" * 20) == (DigestKind.SHA1, b"\xab" * 20)
    assert digest("md5", "ab" * 16) == (DigestKind.MD5, b"\xab" * 16)
    assert digest("Keyword", "ab") is None and digest(None, "ab") is None
    for value in ("ab", "", None):
        with pytest.raises(InvalidInput):
            digest("MD5", value)


def test_a_file_holds_one_kind() -> None:
    full = _full()
    for entries in ([], [full["Alert"], full["AlertHit"]]):
        with pytest.raises(InvalidInput):
            write_alerts(io.BytesIO(), entries)
    with pytest.raises(InvalidInput):
        write_alerts(io.BytesIO(), [full["Alert"]], "PT")
