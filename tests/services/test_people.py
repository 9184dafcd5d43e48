"""The agency's own people: who is added, renewed and revoked, and what the log says of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from tieline_client.errors import InvalidInput, NotFound, WrongState
from tieline_server.services.context import Person
from tieline_server.services.people import IssuedLeaf, People, left_with

from tests.services.bench import PT, Bench, Running

ADMIN = Person("zoe", frozenset({"admin"}))
ANA = Person("ana", frozenset({"analyst"}))
OLD, NEXT = "0a" * 16, "0b" * 16


@dataclass
class Desk:
    """The service over a bench's storage; ``issuer`` is the CA that issues now."""

    running: Running
    issuer: str = OLD
    upcoming: str = ""
    issued: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.people = People(self.running.node, self.issue, self.issue, lambda: self.upcoming)

    def issue(self, _name: str, _key: bytes) -> IssuedLeaf:
        self.issued.append(100 + len(self.issued))
        ends = self.running.node.clock() + timedelta(days=365)
        return IssuedLeaf(b"leaf", self.issued[-1], ends, self.issuer)

    def replace_ca(self) -> None:
        """`tieline node rekey --operator-ca`, as the running node sees it."""
        self.issuer = self.upcoming = NEXT

    def serials(self, name: str) -> tuple[int, ...]:
        known = self.running.store.read(lambda tx: tx.operators.get(name))
        assert known is not None
        return known.serials

    def behind(self) -> list[str]:
        return self.running.store.read(lambda tx: left_with(tx, NEXT))


@pytest.fixture
def desk(bench: Bench) -> Desk:
    made = Desk(bench[PT])
    for name, roles in (("zoe", ("admin",)), ("ana", ("analyst",))):
        made.people.add(ADMIN, name, roles, b"key")
    return made


def test_who_was_added_renewed_and_revoked_is_in_the_log(desk: Desk) -> None:
    desk.replace_ca()
    desk.people.renew(ANA, desk.serials("ana")[0], b"key")
    desk.people.revoke(ADMIN, "ana")
    said = [
        (entry["action"], entry["person"], entry["subjects"], entry["detail"])
        for entry in desk.running.audit()
        if str(entry["action"]).startswith("operator.")
    ]
    assert said == [
        ("operator.added", "zoe", ["zoe"], {"roles": ["admin"], "serial": "64", "issued": "here"}),
        (
            "operator.added",
            "zoe",
            ["ana"],
            {"roles": ["analyst"], "serial": "65", "issued": "here"},
        ),
        ("operator.renewed", "ana", ["ana"], {"serial": "66", "before": "65"}),
        ("operator.revoked", "zoe", ["ana"], {}),
    ]


def test_nothing_is_renewed_while_no_ca_is_replaced(desk: Desk) -> None:
    assert desk.people.renew(ANA, 101, b"key") is None
    assert desk.serials("ana") == (101,)


def test_old_and_new_certificate_count_until_the_old_ca_ends(desk: Desk) -> None:
    desk.replace_ca()
    assert desk.behind() == ["ana", "zoe"]
    leaf = desk.people.renew(ANA, 101, b"key")
    assert leaf is not None and desk.serials("ana") == (101, leaf.serial)
    assert desk.behind() == ["zoe"]
    # With the new one there is nothing to do; the old one asks again if it never arrived, and
    # what did not arrive is no certificate of theirs any more.
    assert desk.people.renew(ANA, leaf.serial, b"key") is None
    again = desk.people.renew(ANA, 101, b"key")
    assert again is not None and desk.serials("ana") == (101, again.serial)
    # Whoever an admin gives a new one has that one alone; roles are as they were.
    desk.people.add(ADMIN, "ana", ("analyst",), b"key")
    assert len(desk.serials("ana")) == 1 and desk.behind() == ["zoe"]


def test_who_was_replaced_or_revoked_meanwhile_gets_nothing(desk: Desk) -> None:
    desk.replace_ca()
    desk.people.add(ADMIN, "ana", ("analyst",), b"key")
    before = desk.serials("ana")
    with pytest.raises(WrongState, match="replaced meanwhile"):
        desk.people.renew(ANA, 101, b"key")
    assert desk.serials("ana") == before
    desk.people.revoke(ADMIN, "ana")
    with pytest.raises(WrongState):
        desk.people.renew(ANA, before[0], b"key")
    assert desk.serials("ana") == () and "ana" not in desk.behind()
    assert desk.people.renew(replace(ANA, name="nobody"), 1, b"key") is None


def test_a_ca_whose_key_is_elsewhere_renews_nobody(desk: Desk) -> None:
    desk.issuer, desk.upcoming = OLD, ""  # the next one is trusted, and issues nothing here
    assert desk.people.renew(ANA, 101, b"key") is None


def test_the_last_admin_stays_and_nonsense_is_refused(desk: Desk) -> None:
    with pytest.raises(WrongState, match="only admin"):
        desk.people.revoke(ADMIN, "zoe")
    with pytest.raises(WrongState, match="only admin"):
        desk.people.add(ADMIN, "zoe", ("analyst",), b"key")
    with pytest.raises(InvalidInput, match="roles"):
        desk.people.add(ADMIN, "eva", ("king",), b"key")
    with pytest.raises(NotFound):
        desk.people.revoke(ADMIN, "eva")
