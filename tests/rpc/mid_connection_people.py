"""People of the own agency, at the operator port."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any
from unittest import mock

from tieline.v1 import operator_pb2
from tieline.v1.operator_pb2_grpc import OperatorServiceStub
from tieline_client import limits
from tieline_server.rpc.identity import OperatorIdentifier
from tieline_server.rpc.methods import Listener

from tests.rpc.guarded import (
    FEDERATION,
    OWN,
    SECONDS,
    Agency,
    Listening,
    World,
    listening,
    make_world,
)
from tests.rpc.mid_connection_changes import (
    ENDED,
    ISSUER,
    REVOKED,
    SERVED,
    Rows,
    outcome,
)


@dataclass
class _Office:
    world: World
    port: Listening
    revoked: set[int]
    cas: list[tuple[bytes, ...]]

    def put(self, **changes: Any) -> None:
        known = self.world.operators["ana"]
        self.world.operators["ana"] = replace(known, **changes)


def _office(work: Callable[[_Office, Any], str]) -> str:
    world = make_world()
    revoked: set[int] = set()
    cas: list[tuple[bytes, ...]] = [(world.agencies[OWN].operator_ca.der,)]
    identifier = OperatorIdentifier(
        OWN,
        FEDERATION,
        lambda: cas[0],
        world.operators.get,
        clock=world.clock,
        is_revoked=lambda _agency, serial: serial in revoked,
    )
    with (
        listening(world, Listener.OPERATOR, identifier=identifier) as port,
        port.person() as channel,
    ):
        return work(_Office(world, port, revoked, cas), OperatorServiceStub(channel))


def _person(change: Callable[[_Office], None]) -> str:
    def work(office: _Office, stub: Any) -> str:
        request = operator_pb2.GetStatsRequest()
        stub.GetStats(request, timeout=SECONDS)
        change(office)
        return outcome(lambda: stub.GetStats(request, timeout=SECONDS))

    return _office(work)


def _importing(change: Callable[[_Office], None]) -> str:
    """An import under way; people are looked up again every second, here at each message."""

    def work(office: _Office, stub: Any) -> str:
        messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        call = stub.Import(iter(messages.get, None), timeout=SECONDS)
        messages.put(operator_pb2.ImportRequest())
        next(call)
        change(office)
        messages.put(operator_pb2.ImportRequest())
        try:
            return outcome(lambda: next(call))
        finally:
            messages.put(None)

    with mock.patch.object(limits, "RECHECK_SECONDS", 0.0):
        return _office(work)


def _revoke_person(office: _Office) -> None:
    office.put(revoked=office.world.now, serials=())


def _replace_person(office: _Office) -> None:
    office.put(serials=(4711,))


def _take_role(office: _Office) -> None:
    office.put(roles=("auditor",))


def _take_all_roles(office: _Office) -> None:
    office.put(roles=())


def _forget_person(office: _Office) -> None:
    del office.world.operators["ana"]


def _revoke_person_serial(office: _Office) -> None:
    office.revoked.update(office.world.operators["ana"].serials)


def _roll_operator_ca(office: _Office) -> None:
    """The next one is trusted beside it (trust/operator_cas.py)."""
    office.cas[0] = (*office.cas[0], Agency(OWN, office.world.now).operator_ca.der)


def _end_rolled_operator_ca(office: _Office) -> None:
    """Both were trusted; the one of this person's certificate ends."""
    _roll_operator_ca(office)
    office.cas[0] = office.cas[0][1:]


def _replace_operator_ca(office: _Office) -> None:
    office.cas[0] = (Agency(OWN, office.world.now).operator_ca.der,)


def _end_person_certificate(office: _Office) -> None:
    office.world.now += timedelta(days=366)


def rows() -> Rows:
    """What people get."""
    made: Rows = []

    def add(name: str, run: Callable[[], str], expected: str) -> None:
        made.append((name, run, expected))

    people: list[tuple[str, Callable[[_Office], None], str]] = [
        ("access is revoked", _revoke_person, REVOKED),
        ("a newer certificate is given", _replace_person, REVOKED),
        ("the node forgets the person", _forget_person, REVOKED),
        ("the directory revokes the serial number", _revoke_person_serial, REVOKED),
        ("the operator CA is replaced", _replace_operator_ca, ISSUER),
        ("the operator CA rolls over, both are trusted", _roll_operator_ca, SERVED),
        ("the operator CA ends after a rollover", _end_rolled_operator_ca, ISSUER),
        ("the certificate ends", _end_person_certificate, ENDED),
        ("every role is taken away", _take_all_roles, "PERMISSION_DENIED/ROLE_REFUSED"),
    ]
    for name, alter, expected in people:
        add(f"next call: {name}", partial(_person, alter), expected)
        add(f"import under way: {name}", partial(_importing, alter), expected)
    refused = "PERMISSION_DENIED/ROLE_REFUSED"
    add("import under way: the role is taken away", lambda: _importing(_take_role), refused)
    return made
