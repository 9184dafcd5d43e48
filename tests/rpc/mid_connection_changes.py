"""What may change while a connection stands, and what the connection then gets, in words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client.directory import Role

from tests.rpc.guarded import FBI, ICE, Agency, World, error_infos

SERVED = "served"
REVOKED = "UNAUTHENTICATED/UNTRUSTED/CERTIFICATE_REVOKED"
NO_MEMBER = "UNAUTHENTICATED/UNTRUSTED/CERTIFICATE_AGENCY"
ISSUER = "UNAUTHENTICATED/UNTRUSTED/CERTIFICATE_ISSUER"
ENDED = "UNAUTHENTICATED/UNTRUSTED/CERTIFICATE_EXPIRED"
EARLY = "UNAUTHENTICATED/UNTRUSTED/CERTIFICATE_AUTHORITY"
STALE = "FAILED_PRECONDITION/DIRECTORY_EXPIRED"
Rows = list[tuple[str, Callable[[], str], str]]
"""(name, what runs it and returns what it got, what it must get), in the order of the table."""


def outcome(call: Callable[[], object]) -> str:
    """SERVED, or CODE/REASON/CHECK of the one ErrorInfo."""
    try:
        call()
    except grpc.RpcError as error:
        failed: Any = error
        (info,) = error_infos(failed)
        parts = (failed.code().name, info.reason, info.metadata.get("check", ""))
        return "/".join(part for part in parts if part)
    return SERVED


def member(world: World, agency: str, **changes: Any) -> None:
    """Put a directory in place in which one member is another."""
    members = tuple(
        one.model_copy(update=changes) if one.agency == agency else one
        for one in world.directory.members
    )
    world.revise(members=members)


def serial_revoked(world: World, agency: str = ICE) -> None:
    serial = world.agencies[agency].leaf.serial_number
    world.revise(revoked_serials={agency: frozenset({serial})})


def serial_revoked_by_itself(world: World) -> None:
    serial = world.agencies[ICE].leaf.serial_number
    member(world, ICE, revoked_serials=frozenset({serial}))


def agency_revoked(world: World) -> None:
    member(world, ICE, revoked=True)


def agency_removed(world: World) -> None:
    world.revise(members=tuple(one for one in world.directory.members if one.agency != ICE))


def ca_replaced(world: World, agency: str = ICE) -> None:
    member(world, agency, node_cas=(Agency(agency, world.now).node_ca.der,))


def ca_removed(world: World) -> None:
    member(world, ICE, node_cas=())


def ca_rolled_over(world: World, agency: str = ICE) -> None:
    successor = Agency(agency, world.now).node_ca.der
    member(world, agency, node_cas=(world.agencies[agency].node_ca.der, successor))


def leaf_ended(world: World) -> None:
    world.revise(expires=world.now + timedelta(days=60))
    world.now += timedelta(days=8)


def clock_far_back(world: World) -> None:
    world.now -= timedelta(days=3)


def directory_ended(world: World) -> None:
    world.revise(expires=world.now - timedelta(seconds=1))


def other_member_revoked(world: World) -> None:
    serial_revoked(world, FBI)


def ca_ended(world: World, agency: str = ICE) -> None:
    """The CA that the directory pins ends before the leaf does.

    An agency may have its CA certified anew under the same key and name, for less long; whoever
    connected before did so under the longer one. The time is this node's own.
    """
    ca, ends = world.agencies[agency].node_ca, world.now + timedelta(hours=1)
    old = ca.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(ends)
    )
    for one in old.extensions:
        builder = builder.add_extension(one.value, one.critical)
    shorter = builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.DER)
    member(world, agency, node_cas=(shorter,))
    world.now = ends + timedelta(seconds=1)


def role_changed(world: World, agency: str = ICE) -> None:
    """What may be asked and told is another thing from now on; who calls is the same."""
    member(world, agency, role=Role.REPOSITORY, countries=())


def nothing(_world: World) -> None:
    """The control."""
