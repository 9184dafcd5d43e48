"""Standing streams of nodes that only call out, and what is relayed to them, when trust ends.

Against a hub's own listener, switchboard and guard. The node looks at what stands as it does when
its directory changes (wiring/directory.py:review); CUT_OFF is a stream that ended there and then.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
from tieline_client.directory import Directory, Role

from tests.rpc.guarded import OWN, Agency, error_infos
from tests.rpc.mid_connection_changes import NO_MEMBER, REVOKED, SERVED, Rows
from tests.rpc.relaying import Hub, announced, attaching, carrying, connecting, hub, paired, record

CUT_OFF = "cut off"
OUT, OTHER_OUT, ASKER, BYSTANDER = "fr-pn", "it-pp", "us-ice", "us-fbi"


def _change(made: Hub, agency: str, **changes: Any) -> None:
    """Put a directory in place in which one member is another, and look at what stands."""
    members = {member.agency: member for member in made.directory.members}
    made.revise(**{agency.replace("-", "_"): members[agency].model_copy(update=changes)})
    made.board.review()


def nothing(_made: Hub) -> None:
    """The control."""


def serial_revoked(made: Hub, agency: str = OUT) -> None:
    serial = made.agencies[agency].leaf.serial_number
    _change(made, agency, revoked_serials=frozenset({serial}))


def agency_revoked(made: Hub, agency: str = OUT) -> None:
    _change(made, agency, revoked=True)


def asker_revoked(made: Hub) -> None:
    agency_revoked(made, ASKER)


def bystander_revoked(made: Hub) -> None:
    agency_revoked(made, BYSTANDER)


def agency_removed(made: Hub) -> None:
    members = tuple(one for one in made.directory.members if one.agency != OUT)
    before = made.directory
    made.directory = Directory(
        federation=before.federation,
        version=before.version + 1,
        expires=before.expires,
        members=members,
    )
    made.board.review()


def ca_rolled_over(made: Hub) -> None:
    """Both are listed: what stands under the old one goes on."""
    old = made.agencies[OUT].node_ca.der
    _change(made, OUT, node_cas=(old, Agency(OUT, made.agencies[OUT].now).node_ca.der))


def called_from_now_on(made: Hub) -> None:
    """Others can reach it: it needs no standing stream and may have none."""
    _change(made, OUT, outbound_only=False, endpoints=("127.0.0.1:7443",))


def role_changed(made: Hub) -> None:
    """A repository from now on; that it only calls out stays."""
    _change(made, OUT, role=Role.REPOSITORY)


def hub_no_more(made: Hub) -> None:
    made.is_hub = False
    _change(made, OWN, role=Role.NATIONAL)


def _told(call: Callable[[], object]) -> str:
    try:
        call()
    except StopIteration:
        return CUT_OFF
    except grpc.RpcError as error:
        failed: Any = error
        if failed.code() is grpc.StatusCode.CANCELLED:
            return CUT_OFF
        (info,) = error_infos(failed)
        parts = (failed.code().name, info.reason, info.metadata.get("check", ""))
        return "/".join(part for part in parts if part)
    return SERVED


def standing(change: Callable[[Hub], None]) -> str:
    """A standing stream: whoever wants to reach the node is announced on it, or it is cut off."""
    with hub([OUT]) as made, made.calls(OUT) as target, made.calls(ASKER) as asker:
        stream = attaching(target)
        change(made)
        if not made.board.attached():
            return _told(lambda: next(stream))

        def announced_and_carried() -> None:
            near = connecting(asker, OUT)
            far = carrying(target, announced(stream))
            assert near.take() == b""
            far.send(record(b"still here"))
            assert near.take() == record(b"still here")

        # The stream may be cut off a moment later, from another thread.
        return _told(announced_and_carried)


def attached_anew(change: Callable[[Hub], None]) -> str:
    """The next standing stream, on the connection that stands."""
    with hub([OUT]) as made, made.calls(OUT) as target:
        attaching(target)
        change(made)
        return _told(lambda: attaching(target))


def relayed(change: Callable[[Hub], None]) -> str:
    """A connection that is relayed already: the next record passes both ways, or neither."""
    with hub([OUT]) as made, made.calls(OUT) as target, made.calls(ASKER) as asker:
        near, far = paired(asker, target, attaching(target), OUT)
        near.send(record(b"before"))
        assert far.take() == record(b"before")
        change(made)

        def passes(sender: Any, taker: Any, word: bytes) -> str:
            sender.send(record(word))
            return _told(lambda: _is(taker.take(), record(word)))

        told = {passes(near, far, b"there"), passes(far, near, b"back")}
        (only,) = told
        return only


def _is(got: bytes, sent: bytes) -> None:
    assert got == sent


def relayed_anew(change: Callable[[Hub], None]) -> str:
    """The next connection that the asker wants to be relayed."""
    with hub([OUT]) as made, made.calls(OUT) as target, made.calls(ASKER) as asker:
        stream = attaching(target)
        change(made)
        near = connecting(asker, OUT)
        if change in (nothing, role_changed, bystander_revoked):
            carrying(target, announced(stream))
        return _told(near.take)


Change = tuple[str, Callable[[Hub], None]]
_CUT: tuple[Change, ...] = (
    ("the authority revokes its serial number", serial_revoked),
    ("its agency is revoked", agency_revoked),
    ("its agency is no member any more", agency_removed),
)
_POLICY = "PERMISSION_DENIED/POLICY_REFUSED"


def rows() -> Rows:
    """What becomes of standing streams, and of what is relayed."""
    made: Rows = []

    def add(what: str, way: Callable[..., str], changes: Any, expected: str) -> None:
        for name, change in changes:
            made.append((f"{what}: {name}", partial(way, change), expected))

    control = [("nothing changes", nothing)]
    goes_on = [
        ("its CA rolls over, both are listed", ca_rolled_over),
        ("its role changes", role_changed),
        ("another member is revoked", bystander_revoked),
    ]
    reachable = [("it can be called from now on", called_from_now_on)]
    add("standing stream", standing, itertools.chain(control, goes_on), SERVED)
    add("standing stream", standing, (*_CUT, *reachable), CUT_OFF)
    add("next standing stream", attached_anew, _CUT[:1], REVOKED)
    add("next standing stream", attached_anew, _CUT[1:], NO_MEMBER)
    add("next standing stream", attached_anew, reachable, _POLICY)
    add("relayed connection", relayed, (*control, *goes_on), SERVED)
    add("relayed connection", relayed, _CUT, CUT_OFF)
    add("relayed connection", relayed, [("the asker's agency is revoked", asker_revoked)], CUT_OFF)
    hub_ends = [("the relaying node is hub no more", hub_no_more)]
    add("next relayed connection", relayed_anew, (*control, goes_on[1]), SERVED)
    add("next relayed connection", relayed_anew, hub_ends, _POLICY)
    return made
