"""The directory as data, and the edits that lead from one statement to the next."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tieline_client.directory import (
    Directory,
    Group,
    Member,
    Role,
    SigningKey,
    check_endpoint,
    parse_serial,
)
from tieline_client.errors import (
    DirectoryExpired,
    InvalidInput,
    NotFound,
    RefusedError,
    TielineError,
    UnknownAgency,
)
from tieline_server.trust import federation_edits as edits
from tieline_server.trust import statements
from tieline_server.trust.stated import Stated, changes

from tests.federation.building import NOW, Agency


def member(agency: str, role: str = "national", **fields: Any) -> Member:
    return Member(agency=agency, name=agency, role=Role(role), **fields)


def directory(*members: Member, **fields: Any) -> Directory:
    values: dict[str, Any] = {
        "federation": "fed",
        "version": 3,
        "expires": NOW,
        "members": members,
        "purposes": {"deconfliction": "x", "prosecution": "y"},
    }
    return Directory(**{**values, **fields})


FULL = directory(
    member("us-ice", countries=("US",), node_cas=(b"ice",), revoked_serials=frozenset({7})),
    member("us-fbi", countries=("US",), node_cas=(b"fbi",)),
    member("us-old", countries=("US",), node_cas=(b"old",), revoked=True),
    member("pt-pj", countries=("PT", "US"), node_cas=(b"pj",)),
    member("europol-ec3", "hub"),
    member("interpol", "repository", countries=("US",)),
    groups=(Group(name="us", version=2, members=("us-fbi", "us-ice")),),
    revoked_serials={"us-fbi": frozenset({9})},
)


def test_who_serves_a_country_in_stable_order() -> None:
    assert [found.agency for found in FULL.serving("US")] == ["pt-pj", "us-fbi", "us-ice"]
    assert FULL.serving("DE") == ()
    assert [found.agency for found in FULL.hubs()] == ["europol-ec3"]
    assert [found.agency for found in FULL.repositories()] == ["interpol"]
    assert "us-old" not in [found.agency for found in FULL.active_members()]


def test_lookups_say_what_is_known() -> None:
    assert FULL.member("us-old").revoked
    with pytest.raises(UnknownAgency, match="did you mean us-ice"):
        FULL.member("us-icee")
    with pytest.raises(UnknownAgency, match="known: europol-ec3, interpol"):
        FULL.member("zzzzzz")
    assert FULL.group("us").members == ("us-fbi", "us-ice")
    with pytest.raises(NotFound, match="known: us"):
        FULL.group("nobody-here")
    assert FULL.purpose("prosecution") == "y"
    with pytest.raises(InvalidInput, match="known: deconfliction, prosecution"):
        FULL.purpose("prosecute")


def test_pins_and_revocations() -> None:
    assert FULL.pinned_node_cas() == {"pt-pj": (b"pj",), "us-fbi": (b"fbi",), "us-ice": (b"ice",)}
    assert FULL.is_revoked("us-ice", 7)
    assert not FULL.is_revoked("us-ice", 9)
    assert FULL.is_revoked("us-fbi", 9)
    assert not FULL.is_revoked("pt-pj", 7)
    assert FULL.is_revoked("us-old", 1)
    assert FULL.is_revoked("stranger", 1)
    # Against people at their own node only single certificates count.
    assert FULL.is_serial_revoked("us-ice", 7)
    assert FULL.is_serial_revoked("us-fbi", 9)
    assert not FULL.is_serial_revoked("us-old", 1)


def test_expiry_to_the_second() -> None:
    FULL.check_fresh(NOW - timedelta(seconds=1))
    for moment in (NOW, NOW + timedelta(days=1)):
        with pytest.raises(DirectoryExpired, match="version 3"):
            FULL.check_fresh(moment)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"members": (member("pt-pj"), member("pt-pj"))}, "listed twice"),
        ({"groups": (Group(name="g", version=1, members=("nobody",)),)}, "who is no member"),
        ({"groups": (Group(name="g", version=1, members=()),) * 2}, "listed twice"),
        ({"version": 0}, "greater than or equal to 1"),
        ({"expires": NOW.replace(tzinfo=None)}, "timezone"),
        ({"purposes": {"no code": "x"}}, "not 1 to 64"),
        ({"federation": "No"}, "federation name"),
        ({"surprise": 1}, "not permitted"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        directory(**{"members": (), **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"agency": "PT"},
        {"name": "a\x1b[31m"},
        {"name": "x" * 201},
        {"name": "right\u202eto left"},
        {"countries": ("pt",)},
        {"endpoints": ("localhost",)},
        {"endpoints": ("localhost:0",)},
        {"endpoints": ("local host:1",)},
        {"endpoints": ("h:1",) * 9},
        {"node_cas": (b"",)},
        {"node_cas": (b"x" * 8193,)},
        {"node_cas": ("not base64!",)},
        {"revoked_serials": frozenset({0})},
        {"revoked_serials": frozenset({2**160})},
    ],
)
def test_members_are_bounded(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Member(**{"agency": "pt-pj", "name": "PJ", "role": "national", **fields})


def test_models_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        FULL.version = 4


@pytest.mark.parametrize("good", ["10.0.0.5:7443", "pj.example:1", "[::1]:65535", "A-b.c:99"])
def test_endpoints(good: str) -> None:
    assert check_endpoint(good) == good


@pytest.mark.parametrize("bad", ["h", "h:", ":1", "h:65536", "h:-1", "a/b:1", "::1:5", "h:1\n"])
def test_not_endpoints(bad: str) -> None:
    with pytest.raises(InvalidInput):
        check_endpoint(bad)


@given(st.integers(1, 2**160 - 1))
def test_serials_read_back(serial: int) -> None:
    text = f"{serial:x}"
    assert parse_serial(text) == serial
    assert parse_serial(text.upper().rjust(40, "0")) == serial
    octets = serial.to_bytes(20, "big").hex(":")
    assert parse_serial(octets) == serial


def test_signing_keys_cover_their_time() -> None:
    public = base64.b64encode(b"der").decode()
    key = SigningKey(keyid="k1", public=public, not_before=NOW, not_after=NOW + timedelta(days=1))
    assert not key.covers(NOW - timedelta(seconds=1))
    assert key.covers(NOW)
    assert not key.covers(NOW + timedelta(days=1))
    assert key.der == b"der"
    assert member("pt-pj", signing_keys=(key,)).signing_key("k1") is key
    assert member("pt-pj", signing_keys=(key,)).signing_key("k2") is None
    with pytest.raises(ValidationError):
        SigningKey(keyid="k1", public=public, not_before=NOW, not_after=NOW)
    with pytest.raises(ValidationError, match="base64"):
        SigningKey(keyid="k1", public="...", not_before=NOW)


def test_the_directory_reads_back_from_its_json() -> None:
    assert Directory.model_validate_json(FULL.model_dump_json()) == FULL


REQUESTS = {name: Agency(name).request() for name in ("pt-pj", "es-gc", "fr-oc")}
AGENCIES = st.sampled_from([*REQUESTS, "nobody"])
EDITS = st.one_of(
    st.tuples(st.just("admit"), st.sampled_from(list(REQUESTS))),
    st.tuples(st.just("group"), st.sampled_from(["g1", "g2"]), st.lists(AGENCIES, max_size=3)),
    st.tuples(st.just("agreement"), AGENCIES, st.text(max_size=20)),
    st.tuples(st.just("purpose"), st.sampled_from(["p1", "p 2"]), st.text(max_size=20)),
    st.tuples(st.just("revoke"), AGENCIES),
    st.tuples(st.just("serial"), AGENCIES, st.integers(1, 5)),
)


def _apply(stated: Stated, edit: tuple[Any, ...]) -> Stated:
    match edit:
        case ("admit", agency):
            return edits.admit(stated, REQUESTS[agency], Role.NATIONAL, ["PT"], NOW)[0]
        case ("group", name, agencies):
            return edits.set_group(stated, name, agencies)
        case ("agreement", agency, basis):
            return edits.set_agreement(stated, agency, basis)
        case ("purpose", code, text):
            return edits.set_purpose(stated, code, text)
        case ("revoke", agency):
            return edits.revoke_agency(stated, agency)
        case (_, agency, serial):
            return edits.revoke_serial(stated, agency, serial)
    raise AssertionError(edit)


@settings(max_examples=60, deadline=None)
@given(st.lists(EDITS, max_size=12))
def test_any_run_of_edits_reads_back_and_adds_up(run: list[tuple[Any, ...]]) -> None:
    stated = edits.first("fed")
    for edit in run:
        try:
            after = _apply(stated, edit)
        except TielineError as error:
            assert isinstance(error, InvalidInput | NotFound | RefusedError)
            continue
        for name, group in after.federation.groups.items():
            before = stated.federation.groups.get(name)
            grown = before is None or before.members != group.members
            assert group.version == (before.version if before else 0) + grown
        assert (changes(stated, after) != []) == (after != stated)
        stated = after
    targets = stated.targets(2, NOW)
    assert Stated.of(targets, stated.roles, stated.contents()) == stated
    made = statements.assemble(
        version=1,
        expires=NOW,
        federation=stated.federation,
        agencies=stated.agencies,
        owns={
            agency: statements.parse(statements.OwnStatement, data, agency)
            for agency, data in stated.owns.items()
        },
        directory_keys={agency: key.keyid for agency, key in stated.directory_keys.items()},
    )
    revoked = set(stated.federation.revoked_agencies)
    assert {found.agency for found in made.active_members()} == set(stated.agencies) - revoked
    assert not revoked & {agency for group in made.groups for agency in group.members}
