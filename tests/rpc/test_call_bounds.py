"""The parts that bound a call: places per caller, the reader of a request stream, the watchdog."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import grpc
import pytest
from tieline_client.errors import LimitExceeded, TielineError
from tieline_server.rpc.call import call_of
from tieline_server.rpc.methods import Weight
from tieline_server.rpc.peer_limits import PeerLimits
from tieline_server.rpc.streams import CallerGone, RequestReader, Watchdog, Watched

SECONDS = 60


def test_places_are_per_caller_and_come_back() -> None:
    limits = PeerLimits(calls=2, streams=1)
    with limits.slot("a", Weight.SINGLE), limits.slot("a", Weight.STREAM):
        assert limits.open("a") == 2
        for weight in (Weight.SINGLE, Weight.STREAM):
            with pytest.raises(LimitExceeded), limits.slot("a", weight):
                pass
        with limits.slot("b", Weight.STREAM):
            assert limits.open("b") == 1
    assert limits.open("a") == limits.open("b") == 0
    with limits.slot("a", Weight.STREAM):
        with pytest.raises(LimitExceeded), limits.slot("a", Weight.STREAM):
            pass
        with limits.slot("a", Weight.SINGLE):
            pass


def test_what_stands_for_long_is_counted_apart_per_caller_and_in_all() -> None:
    limits = PeerLimits(
        calls=1, streams=1, standing={Weight.STANDING: 1, Weight.RELAYED: 2}, standing_total=3
    )
    with limits.slot("a", Weight.STANDING), limits.slot("a", Weight.RELAYED):
        with pytest.raises(LimitExceeded), limits.slot("a", Weight.STANDING):
            pass
        with limits.slot("a", Weight.STREAM), limits.slot("b", Weight.RELAYED):
            for caller in ("a", "b", "c"):
                with pytest.raises(LimitExceeded), limits.slot(caller, Weight.RELAYED):
                    pass
        with limits.slot("c", Weight.STANDING):
            pass


def test_a_place_comes_back_when_the_call_fails() -> None:
    limits = PeerLimits(calls=1, streams=1)
    for _ in range(3):
        with pytest.raises(KeyError), limits.slot("a", Weight.STREAM):
            raise KeyError
    assert limits.open("a") == 0


def test_whoever_takes_finds_the_end_of_a_reader_that_another_closed() -> None:
    for closes_first in (True, False):
        going = threading.Event()

        def source(going: threading.Event = going) -> Iterator[bytes]:
            going.wait(SECONDS)
            yield from ()

        reader = RequestReader(source())
        if closes_first:
            reader.close()
            going.set()
        else:
            going.set()
            reader._thread.join(SECONDS)  # its end waits to be taken
            reader.close()
        assert reader.take(SECONDS) is None


def test_a_reader_gives_messages_in_order_and_then_the_end() -> None:
    reader = RequestReader(iter([b"a", b"b", b"c"]), ahead=1)
    assert [reader.take(SECONDS) for _ in range(3)] == [b"a", b"b", b"c"]
    assert reader.take(SECONDS) is None
    assert reader.take(0) is None


def test_a_reader_reads_no_further_ahead_than_it_may() -> None:
    given: queue.SimpleQueue[int] = queue.SimpleQueue()

    def source() -> Iterator[bytes]:
        for number in range(100):
            given.put(number)
            yield b"x"

    reader = RequestReader(source(), ahead=2)
    # Two are kept and a third is in hand.
    assert [given.get(timeout=SECONDS) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(queue.Empty):
        given.get(timeout=0.05)
    reader.take(SECONDS)
    assert given.get(timeout=SECONDS) == 3
    reader.close()


def test_a_silent_source_runs_into_the_limit() -> None:
    pending: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    reader = RequestReader(iter(pending.get, None))
    with pytest.raises(TimeoutError):
        reader.take(0.01)
    pending.put(b"late")
    assert reader.take(SECONDS) == b"late"
    pending.put(None)
    assert reader.take(SECONDS) is None


def test_a_source_that_breaks_says_that_the_caller_is_gone() -> None:
    def source() -> Iterator[bytes]:
        yield b"a"
        raise grpc.RpcError

    reader = RequestReader(source())
    assert reader.take(SECONDS) == b"a"
    with pytest.raises(CallerGone):
        reader.take(SECONDS)


def test_a_watchdog_cancels_what_is_due_once_and_nothing_else() -> None:
    now = [100.0]
    dog = Watchdog(interval=0.005, monotonic=lambda: now[0])
    cancelled: queue.SimpleQueue[str] = queue.SimpleQueue()

    def fail() -> None:
        cancelled.put("bad")
        raise ValueError

    calls = {
        "early": Watched(lambda: cancelled.put("early"), 101.0),
        "bad": Watched(fail, 101.0),
        "late": Watched(lambda: cancelled.put("late"), 200.0),
        "released": Watched(lambda: cancelled.put("released"), 101.0),
    }
    for call in calls.values():
        dog.watch(call)
    dog.release(calls["released"])
    now[0] = 101.0
    assert {cancelled.get(timeout=SECONDS) for _ in range(2)} == {"early", "bad"}
    assert calls["early"].cut and not calls["late"].cut and not calls["released"].cut
    calls["late"].due = 101.0
    assert cancelled.get(timeout=SECONDS) == "late"
    assert cancelled.empty()


def test_one_thread_watches_all() -> None:
    dog = Watchdog(interval=0.005)
    for _ in range(5):
        call = Watched(lambda: None, float("inf"))
        dog.watch(call)
        dog.release(call)
    before = sum(thread.name == "rpc-watch" for thread in threading.enumerate())
    dog.watch(Watched(lambda: None, float("inf")))
    assert sum(thread.name == "rpc-watch" for thread in threading.enumerate()) == before


def test_a_call_that_no_guard_saw_has_no_caller() -> None:
    with pytest.raises(TielineError, match="guard"):
        call_of(object())  # type: ignore[arg-type]
