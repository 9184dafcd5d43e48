"""The relay on a real listener: what passes, how much waits, who may, and how it all ends."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from tieline.v1 import relay_pb2
from tieline_client import limits
from tieline_client.errors import Unreachable
from tieline_server.domain.relaying import RelayEvent

from tests.rpc.guarded import OWN, only_reason
from tests.rpc.relaying import (
    SECONDS,
    Hub,
    announced,
    attaching,
    carrying,
    code_of,
    connecting,
    hub,
    in_threads,
    paired,
    record,
)

OUT, OTHER_OUT, ASKER = "fr-pn", "it-pp", "us-ice"
MEGABYTE = 1024 * 1024


@pytest.fixture
def relay() -> Iterator[Hub]:
    with hub([OUT, OTHER_OUT]) as made:
        yield made


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# --- what passes --------------------------------------------------------------------------------


def test_each_side_gets_what_the_other_sent_and_its_end(relay: Hub) -> None:
    with relay.calls(OUT) as target, relay.calls(ASKER) as asker:
        near, far = paired(asker, target, attaching(target), OUT)
        near.send(record(b"there", 22))
        assert far.take() == record(b"there", 22)
        far.send(record(b"and") + record(b"back"))
        assert near.take() == record(b"and") + record(b"back")
        near.send(record(b"last"))
        near.end()
        assert far.take() == record(b"last")
        with pytest.raises(StopIteration):
            far.take()
        far.end()
        with pytest.raises(StopIteration):
            near.take()
    assert relay.refusals == []


def test_much_passes_whole_both_ways_at_once(relay: Hub) -> None:
    frames = [record(os.urandom(16_000)) * 4 for _ in range(400)]
    expected = hashlib.sha256(b"".join(frames)).digest()
    with relay.calls(OUT) as target, relay.calls(ASKER) as asker:
        near, far = paired(asker, target, attaching(target), OUT)
        came: dict[str, bytes] = {}

        def send(side: Any) -> None:
            for frame in frames:
                side.send(frame)

        def take(name: str, side: Any) -> None:
            digest = hashlib.sha256()
            for _ in frames:
                digest.update(side.take())
            came[name] = digest.digest()

        in_threads(
            [
                lambda: send(near),
                lambda: send(far),
                lambda: take("near", near),
                lambda: take("far", far),
            ]
        )
        assert came == {"near": expected, "far": expected}


def test_who_does_not_read_holds_up_the_sender_and_no_memory_grows() -> None:
    with (
        hub([OUT], Carry={"idle": 3.0}) as made,
        made.calls(OUT) as target,
        made.calls(ASKER) as asker,
    ):
        standing = attaching(target)
        taken, total = 0, 2_000
        frame = record(bytes(16_000)) * 4

        def requests() -> Iterator[relay_pb2.ConnectRequest]:
            nonlocal taken
            yield relay_pb2.ConnectRequest(agency=OUT)
            for _ in range(total):
                taken += 1
                yield relay_pb2.ConnectRequest(records=frame)

        before = resident_bytes()
        call = asker.Connect(requests(), timeout=SECONDS)
        far = carrying(target, announced(standing))
        # The far side never reads; after `idle` seconds the hub cuts it off, and so the near one.
        assert next(call).records == b""
        with pytest.raises((StopIteration, grpc.RpcError)):
            next(call)
        assert taken * len(frame) < 24 * MEGABYTE < total * len(frame)
        assert resident_bytes() - before < 64 * MEGABYTE
        far.end()
        refused = made.refused.get(timeout=SECONDS)
        assert (refused.peer, refused.check) == (OUT, "STUCK")


def test_only_tls_is_relayed_and_the_other_side_is_not_blamed(relay: Hub) -> None:
    picture = b"\xff\xd8\xff\xe0" + bytes(60)
    for wrong in (picture, record(b"")[:5], record()[:-1], record() + picture, record(b"x", 24)):
        with relay.calls(OUT) as target, relay.calls(ASKER) as asker:
            near, far = paired(asker, target, attaching(target), OUT)
            near.send(wrong)
            with pytest.raises(StopIteration):
                far.take()
            far.end()
            with pytest.raises(grpc.RpcError) as refused:
                near.take()
            assert only_reason(refused.value)[1] == "MALFORMED_MESSAGE"
    assert {(one.peer, one.reason) for one in relay.refusals} == {(ASKER, "MALFORMED_MESSAGE")}


# --- who may ------------------------------------------------------------------------------------


def test_who_can_be_called_may_not_attach(relay: Hub) -> None:
    with relay.calls(ASKER) as stub, pytest.raises(grpc.RpcError) as refused:
        attaching(stub)
    assert only_reason(refused.value)[1] == "POLICY_REFUSED"
    assert relay.board.attached() == ()


def test_a_connection_is_for_the_member_that_it_was_announced_to(relay: Hub) -> None:
    with (
        relay.calls(OUT) as target,
        relay.calls(OTHER_OUT) as thief,
        relay.calls(ASKER) as asker,
    ):
        standing, thiefs = attaching(target), attaching(thief)
        near = connecting(asker, OUT)
        connection = announced(standing)
        for stub in (thief, asker):
            with pytest.raises(grpc.RpcError) as refused:
                carrying(stub, connection).take()
            assert only_reason(refused.value)[1] == "NOT_FOUND"
        far = carrying(target, connection)
        assert near.take() == b""
        with pytest.raises(grpc.RpcError):
            carrying(target, connection).take()  # once only
        far.send(record(b"mine"))
        assert near.take() == record(b"mine")
        thiefs.cancel()


def test_who_is_no_hub_relays_for_nobody_but_itself(relay: Hub) -> None:
    relay.is_hub = False
    with relay.calls(OUT) as target, relay.calls(ASKER) as asker:
        standing = attaching(target)
        with pytest.raises(grpc.RpcError) as refused:
            connecting(asker, OUT).take()
        assert only_reason(refused.value)[1] == "POLICY_REFUSED"
        came: list[bytes] = []
        answered, done = threading.Event(), threading.Event()

        def outgoing() -> Iterator[bytes]:
            yield record(b"own")
            answered.wait(SECONDS)

        def own() -> None:
            for frame in relay.board.reach(OUT, None, outgoing()):
                came.append(frame)
                if frame:
                    answered.set()
            done.set()

        threading.Thread(target=own, daemon=True).start()
        far = carrying(target, announced(standing))
        assert far.take() == record(b"own")
        far.send(record(b"answer"))
        with pytest.raises(StopIteration):
            far.take()
        assert done.wait(SECONDS)
        assert came == [b"", record(b"answer")]


def test_a_revoked_member_is_cut_off_on_both_sides_of_what_it_has_open(relay: Hub) -> None:
    members = {member.agency: member for member in relay.directory.members}
    with relay.calls(OUT) as target, relay.calls(ASKER) as asker, relay.calls(OTHER_OUT) as other:
        standing, others = attaching(target), attaching(other)
        near, far = paired(asker, target, standing, OUT)
        second, stays = paired(asker, other, others, OTHER_OUT)
        relay.revise(fr_pn=members[OUT].model_copy(update={"revoked": True}))
        relay.board.review()
        for ended in (standing, near.call, far.call):
            with pytest.raises((StopIteration, grpc.RpcError)):
                next(ended)
        with pytest.raises(grpc.RpcError) as refused:
            attaching(target)
        assert code_of(refused.value) is grpc.StatusCode.UNAUTHENTICATED
        second.send(record(b"goes on"))
        assert stays.take() == record(b"goes on")
        assert [one.agency for one in relay.board.attached()] == [OTHER_OUT]


def test_who_was_revoked_can_no_longer_be_reached_by_others(relay: Hub) -> None:
    members = {member.agency: member for member in relay.directory.members}
    with relay.calls(OUT) as target, relay.calls(ASKER) as asker:
        standing = attaching(target)
        near, far = paired(asker, target, standing, OUT)
        relay.revise(us_ice=members[ASKER].model_copy(update={"revoked": True}))
        relay.board.review()
        for ended in (near.call, far.call):
            with pytest.raises((StopIteration, grpc.RpcError)):
                next(ended)
        assert [one.agency for one in relay.board.attached()] == [OUT]
        standing.cancel()


def test_connections_of_a_pair_are_capped(relay: Hub) -> None:
    with relay.calls(OUT) as target, relay.calls(ASKER) as asker:
        standing = attaching(target)
        held = [paired(asker, target, standing, OUT) for _ in range(limits.RELAY_STREAMS_PER_PAIR)]
        with pytest.raises(grpc.RpcError) as refused:
            connecting(asker, OUT).take()
        assert only_reason(refused.value)[1:] == ("LIMIT_EXCEEDED", "CONCURRENCY")
        near, far = held[0]
        near.end()
        with pytest.raises(StopIteration):
            far.take()
        far.end()
        with pytest.raises(StopIteration):
            near.take()
        paired(asker, target, standing, OUT)


# --- how it begins and ends ---------------------------------------------------------------------


def test_who_is_not_attached_or_does_not_answer_is_unreachable(
    relay: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RELAY_ANSWER_SECONDS", 0.2)
    with relay.calls(OUT) as target, relay.calls(ASKER) as asker:
        standing = []
        for words in ("is not attached", "did not take up"):
            with pytest.raises(grpc.RpcError) as refused:
                connecting(asker, OUT).take()
            assert only_reason(refused.value)[1] == "UNREACHABLE"
            assert words in str(refused.value)
            standing.append(attaching(target))
    assert relay.heard.get(timeout=SECONDS) == OUT


def test_between_two_standing_streams_a_connection_waits(
    relay: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ATTACH_SECONDS", 0.0)
    monkeypatch.setattr(limits, "ATTACH_GAP_SECONDS", SECONDS)
    with relay.calls(OUT) as target, relay.calls(ASKER) as asker:
        with pytest.raises(StopIteration):  # its time is over at once, in order
            next(attaching(target))
        assert relay.board.has(OUT)
        assert relay.board.attached() == ()
        monkeypatch.setattr(limits, "ATTACH_SECONDS", SECONDS)
        near = connecting(asker, OUT)
        far = carrying(target, announced(attaching(target)))
        assert near.take() == b""
        far.send(record())
        assert near.take() == record()


def test_the_newest_standing_streams_count(relay: Hub) -> None:
    with relay.calls(OUT) as target, relay.calls(ASKER) as asker:
        first = attaching(target)
        more = [attaching(target) for _ in range(limits.ATTACHED_PER_PEER)]
        with pytest.raises(StopIteration):
            next(first)
        near = connecting(asker, OUT)
        carrying(target, announced(more[-1]))
        assert near.take() == b""


def test_a_side_that_breaks_off_ends_the_other(relay: Hub) -> None:
    with relay.calls(OUT) as target, relay.calls(ASKER) as asker:
        standing = attaching(target)
        near, far = paired(asker, target, standing, OUT)
        near.call.cancel()
        with pytest.raises(StopIteration):
            far.take()
        near, far = paired(asker, target, standing, OUT)
        far.call.cancel()
        with pytest.raises(StopIteration):
            near.take()
        paired(asker, target, standing, OUT)


@pytest.mark.usefixtures("first_comes")
def test_a_silent_connection_ends_without_blame() -> None:
    silent = {"silence": 0.3}
    with (
        hub([OUT], Carry=silent, Connect=silent) as made,
        made.calls(OUT) as target,
        made.calls(ASKER) as asker,
    ):
        near, far = paired(asker, target, attaching(target), OUT)
        for side in (near, far):
            with pytest.raises(StopIteration):
                side.take()
        assert made.refusals == []


def test_what_was_relayed_is_counted_by_pair_and_minute(relay: Hub) -> None:
    with relay.calls(OUT) as target, relay.calls(ASKER) as asker:
        standing = attaching(target)
        for _ in range(3):
            near, far = paired(asker, target, standing, OUT)
            near.end()
            with pytest.raises(StopIteration):
                far.take()
            far.end()
            with pytest.raises(StopIteration):
                near.take()
    counted = relay.board._log
    assert counted.due(datetime.now(UTC)) == []
    counts = {one.event: one for one in counted.due(datetime.now(UTC) + timedelta(minutes=2))}
    connected = counts[RelayEvent.CONNECTED]
    assert (connected.asker, connected.target, connected.opened) == (ASKER, OUT, 3)


def test_two_hundred_attached_nodes_take_no_thread_from_other_calls() -> None:
    names = [f"agency-{number}" for number in range(200)]
    with hub(names) as made:
        stubs = {name: made.calls(name) for name in names}
        standing = {name: attaching(stub.__enter__()) for name, stub in stubs.items()}
        assert len(made.board.attached()) == len(names)
        ordinary = [one for one in threading.enumerate() if one.name.startswith("rpc_")]
        relaying = [one for one in threading.enumerate() if one.name.startswith("relay_")]
        assert len(ordinary) <= 1
        assert len(relaying) >= len(names)
        came: dict[str, bytes] = {}

        def reach(name: str) -> None:
            with made.calls(ASKER) as asker, made.calls(name) as target:
                near, far = paired(asker, target, standing[name], name)
                near.send(record(name.encode()))
                came[name] = far.take()

        in_threads([lambda name=name: reach(name) for name in names[::8]])  # type: ignore[misc]
        assert came == {name: record(name.encode()) for name in names[::8]}
        for stub in stubs.values():
            stub.__exit__(None, None, None)


def test_a_node_that_stops_takes_nothing_more(relay: Hub) -> None:
    with relay.calls(OUT) as target:
        standing = attaching(target)
        relay.board.close()
        with pytest.raises(StopIteration):
            next(standing)
        with pytest.raises(grpc.RpcError):
            attaching(target)
    with pytest.raises(Unreachable):
        next(relay.board.reach(OUT, None, iter(())))
    assert OWN not in {one.agency for one in relay.board.attached()}
