"""One row for each method, and no method without one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import MethodDescriptor
from tieline_client import limits
from tieline_client.errors import RoleRefused, UnknownMethod
from tieline_server.rpc.call import Caller
from tieline_server.rpc.methods import BOTH, ROLES, RULES, STANDING, Listener, Weight, find_rule

from tests.rpc.descriptors import services

PROTO = Path(__file__).parents[2] / "proto" / "tieline" / "v1"
HEALTH = "/grpc.health.v1.Health/Check"


_OF_PEOPLE = tuple(
    f"/tieline.v1.{name}/" for name in ("OperatorService", "AuditorService", "ProfileService")
)


def _methods() -> dict[str, MethodDescriptor]:
    return {
        f"/{service.full_name}/{method.name}": method
        for service in services()
        for method in service.methods
    }


def test_rows_and_methods_are_the_same() -> None:
    assert set(_methods()) | {HEALTH} == set(RULES)
    assert len(RULES) >= 30


def test_each_service_has_its_one_listener() -> None:
    for name in _methods():
        people = name.startswith(_OF_PEOPLE)
        wanted = Listener.OPERATOR if people else Listener.FEDERATION
        assert RULES[name].listeners == {wanted}
    assert RULES[HEALTH].listeners == BOTH


def test_every_row_is_bounded_and_streams_count_as_streams() -> None:
    for rule in RULES.values():
        assert 0 < rule.seconds <= limits.IMPORT_SECONDS
        assert 0 < rule.idle <= limits.STREAM_IDLE_SECONDS
        assert rule.roles and rule.roles <= ROLES
    for name, method in _methods().items():
        streams = method.client_streaming or method.server_streaming
        assert (RULES[name].weight is not Weight.SINGLE) == streams, name
        relayed = name.startswith("/tieline.v1.RelayService/")
        assert (RULES[name].weight in STANDING) == relayed, name
        assert (RULES[name].silence is not None) == (RULES[name].weight is Weight.RELAYED)


def test_roles_are_those_that_the_proto_states() -> None:
    text = (PROTO / "operator.proto").read_text()
    stated = re.findall(r"((?:  //.*\n)+)  rpc (\w+)\(", text)
    assert len(stated) == sum("OperatorService" in name for name in _methods())
    for comment, name in stated:
        sentence = re.search(r"Caller: ([^.]*)\.", comment.replace("\n  //", ""))
        assert sentence, name
        words = set(re.findall(r"\w+", sentence[1]))
        roles = ROLES if words == {"any", "role"} else words & ROLES
        assert RULES[f"/tieline.v1.OperatorService/{name}"].roles == roles, name


def _caller(*roles: str) -> Caller:
    return Caller("pt-pj", "ana", frozenset(roles), 1, b"")


NODE = Caller("us-ice", None, frozenset(), 1, b"")


def test_unlisted_means_denied() -> None:
    for method in (
        "",
        "/",
        "/x/y",
        "/tieline.v1.ExchangeService/hello",
        "/grpc.health.v1.Health/List",
    ):
        with pytest.raises(UnknownMethod):
            find_rule(method, Listener.FEDERATION, NODE)
    with pytest.raises(UnknownMethod):
        find_rule(next(iter(RULES)), Listener.FEDERATION, NODE, {})


def test_each_row_on_each_listener_for_each_role() -> None:
    for name, rule in RULES.items():
        if Listener.FEDERATION in rule.listeners:
            assert find_rule(name, Listener.FEDERATION, NODE) is rule
        else:
            with pytest.raises(UnknownMethod):
                find_rule(name, Listener.FEDERATION, NODE)
        for role in [*ROLES, "root", ""]:
            if Listener.OPERATOR not in rule.listeners:
                with pytest.raises(UnknownMethod):
                    find_rule(name, Listener.OPERATOR, _caller(role))
            elif role in rule.roles:
                assert find_rule(name, Listener.OPERATOR, _caller(role)) is rule
            else:
                with pytest.raises(RoleRefused):
                    find_rule(name, Listener.OPERATOR, _caller(role))


def test_an_auditor_alone_is_shown_alarms() -> None:
    """`tieline audit alarms` asks for nothing else."""
    method = "/tieline.v1.OperatorService/GetStatus"
    assert find_rule(method, Listener.OPERATOR, _caller("auditor")) is RULES[method]


def test_a_person_without_any_role_may_nothing() -> None:
    for name, rule in RULES.items():
        if Listener.OPERATOR in rule.listeners:
            with pytest.raises(RoleRefused, match="none"):
                find_rule(name, Listener.OPERATOR, _caller())
