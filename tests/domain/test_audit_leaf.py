"""The bytes of an audit leaf: canonical, salted, whole, and inert whatever an entry says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client.errors import InvalidInput
from tieline_server.domain.audit import AuditEntry, leaf_bytes

AT = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)
SALT = bytes(range(16))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
DETAILS = st.dictionaries(
    TEXTS, st.one_of(st.booleans(), st.integers(), TEXTS, st.lists(TEXTS, max_size=3)), max_size=5
)


def test_the_layout_is_fixed() -> None:
    entry = AuditEntry(
        "query.asked",
        AT,
        "pt-pj",
        "ana",
        "us-ice",
        "deconfliction",
        "C-1",
        ("q",),
        ("r",),
        {"n": 2},
    )
    assert leaf_bytes(entry, SALT) == (
        b'{"action":"query.asked","agency":"pt-pj","at":"2026-03-01T12:00:00.000005+00:00",'
        b'"case":"C-1","detail":{"n":2},"peer":"us-ice","person":"ana","purpose":"deconfliction",'
        b'"rules":["r"],"salt":"000102030405060708090a0b0c0d0e0f","subjects":["q"]}'
    )


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=3), DETAILS, st.binary(min_size=16, max_size=16))
def test_a_leaf_holds_all_that_was_said_and_is_one_line(
    person: str, case: str, subjects: list[str], detail: dict[str, object], salt: bytes
) -> None:
    entry = AuditEntry(
        "x", AT, "pt-pj", person, case_ref=case, subjects=tuple(subjects), detail=detail
    )
    leaf = leaf_bytes(entry, salt)
    document = json.loads(leaf)
    assert (document["person"], document["case"]) == (person, case)
    assert (document["subjects"], document["detail"]) == (subjects, detail)
    assert document["salt"] == salt.hex()
    # Bytes below 0x20 are escaped, so neither CR/LF nor ESC can forge a line (threats.md 22).
    assert min(leaf) >= 0x20


@given(DETAILS)
def test_the_order_in_which_details_were_given_does_not_matter(detail: dict[str, object]) -> None:
    backwards = dict(reversed(detail.items()))
    one, other = (AuditEntry("x", AT, "pt-pj", detail=each) for each in (detail, backwards))
    assert leaf_bytes(one, SALT) == leaf_bytes(other, SALT)


def test_the_same_moment_in_another_zone_is_the_same_leaf() -> None:
    there = AT.astimezone(timezone(timedelta(hours=-8)))
    assert leaf_bytes(AuditEntry("x", there, "a"), SALT) == leaf_bytes(
        AuditEntry("x", AT, "a"), SALT
    )


def test_the_salt_changes_the_leaf() -> None:
    entry = AuditEntry("x", AT, "pt-pj")
    assert leaf_bytes(entry, SALT) != leaf_bytes(entry, SALT[::-1])


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidInput, match="time zone"):
        leaf_bytes(AuditEntry("x", datetime(2026, 1, 1), "pt-pj"), SALT)
