"""Alarms by the reference that they are about: one contract, on either database."""

from __future__ import annotations

from datetime import timedelta

from tieline_server.domain.alarm import Alarm, AlarmKind
from tieline_server.domain.ports import Store

from tests.storage.building import NOON

HOUR = timedelta(hours=1)


def test_alarms_of_one_reference_are_ended_by_kind(store: Store) -> None:
    def work(name: str, kind: AlarmKind, reference: str, hours: int) -> None:
        at = NOON + hours * HOUR
        alarm = Alarm(name, kind, reference, "", "es-gc", "pt-pj", at)
        store.write(lambda tx: tx.alarms.set(alarm))
        store.write(lambda tx: tx.alarms.raise_at(name, at))

    work("a", AlarmKind.DECONFLICTION, "q", 0)
    work("b", AlarmKind.LOW_HITS, "q", 1)
    work("c", AlarmKind.DECONFLICTION, "other", 2)
    unraised = Alarm("d", AlarmKind.DECONFLICTION, "q", "", "es-gc", "pt-pj", NOON)
    store.write(lambda tx: tx.alarms.set(unraised))

    def about(reference: str) -> list[str]:
        return [one.id for one in store.read(lambda tx: tx.alarms.about(reference))]

    assert (about("q"), about("other"), about("nothing")) == (["b", "a"], ["c"], [])
    store.write(lambda tx: tx.alarms.end("q", NOON, {AlarmKind.DECONFLICTION}))
    assert (about("q"), about("other")) == (["b"], ["c"])
    store.write(lambda tx: tx.alarms.end("q", NOON, ()))
    assert about("q") == ["b"]
    store.write(lambda tx: tx.alarms.end("q", NOON))
    assert (about("q"), about("other")) == ([], ["c"])
