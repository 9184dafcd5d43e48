"""Relayed connections are counted by who, to whom and minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tieline_server.domain.relaying import RelayEvent, RelayLog

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def test_events_of_a_pair_within_a_minute_are_one_count() -> None:
    log = RelayLog()
    for second in range(0, 50, 10):
        at = NOW + timedelta(seconds=second)
        log.add(RelayEvent.CONNECTED, "us-ice", "fr-pn", at, opened=True)
    log.add(RelayEvent.CONNECTED, "us-ice", "fr-pn", NOW + timedelta(seconds=55), opened=False)
    log.add(RelayEvent.CONNECTED, "us-fbi", "fr-pn", NOW, opened=True)
    log.add(RelayEvent.ATTACHED, "", "fr-pn", NOW, opened=True)
    assert log.due(NOW + timedelta(seconds=59)) == []
    counts = {(one.event, one.asker): one for one in log.due(NOW + timedelta(seconds=60))}
    assert set(counts) == {
        (RelayEvent.CONNECTED, "us-ice"),
        (RelayEvent.CONNECTED, "us-fbi"),
        (RelayEvent.ATTACHED, ""),
    }
    one = counts[RelayEvent.CONNECTED, "us-ice"]
    assert (one.opened, one.closed, one.at) == (5, 1, NOW)
    assert one.last == NOW + timedelta(seconds=55)
    assert log.flush() == []


def test_a_clock_that_was_set_back_keeps_no_count_for_ever() -> None:
    log = RelayLog()
    log.add(RelayEvent.ATTACHED, "", "fr-pn", NOW, opened=True)
    assert len(log.due(NOW - timedelta(hours=1))) == 1


def test_all_is_given_at_the_end() -> None:
    log = RelayLog()
    log.add(RelayEvent.ATTACHED, "", "fr-pn", NOW, opened=True)
    (one,) = log.flush()
    assert (one.opened, one.closed) == (1, 0)
    assert log.due(NOW + timedelta(days=1)) == []
