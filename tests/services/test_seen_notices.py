"""Notices in the inbox: shown by the reference that stands there, ended by a person who saw one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tieline.v1 import operator_pb2
from tieline_client.errors import NotFound, WrongState
from tieline_server.domain.alarm import Alarm, AlarmKind
from tieline_server.services.alarms import Alarms
from tieline_server.services.inbox import Mailbox
from tieline_server.services.seen_notices import acknowledge

from tests.services.bench import ANA, ES, FR, PT, Bench, Running, records


def _open(node: Running) -> list[operator_pb2.AlarmView]:
    Alarms(node.node).raise_due()
    return Alarms(node.node).open()


def test_a_meeting_is_shown_and_ended_on_either_side(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = sorted(pt.series(records(range(n, n + 2)), name=f"S{n}") for n in (0, 10))
    es.ask(records(range(20)), PT, purpose="deconfliction")
    reference = _open(pt)[0].referral
    pattern = Alarm("p", AlarmKind.LOW_HITS, reference, "", ES, PT, bench.now)
    pt.store.write(lambda tx: tx.alarms.set(pattern))
    assert len(_open(pt)) == 3 and len(_open(es)) == 1
    for node, known in ((pt, series), (es, [""])):
        shown = Mailbox(node.node).entry(reference)
        assert (shown.id, shown.kind, shown.HasField("referral")) == (reference, "notice", False)
        of_it = [one.series for one in shown.alarms if one.kind == "deconfliction"]
        assert sorted(of_it) == known
        seen = acknowledge(node.node, ANA, reference)
        assert seen is not None and {one.kind for one in seen.alarms} == {"deconfliction"}
        (entry,) = node.audit("alarm.acknowledged")
        assert entry["person"] == ANA.name and reference in str(entry["subjects"])
    assert _open(es) == []
    with pytest.raises(NotFound):
        Mailbox(es.node).entry(reference)
    # What warns of a peer's questions is the auditor's: an officer's word ends nothing of it.
    assert [one.kind for one in _open(pt)] == ["low-hits"]
    with pytest.raises(WrongState, match="audit alarms"):
        acknowledge(pt.node, ANA, reference)
    assert [one.kind for one in _open(pt)] == ["low-hits"]


def test_what_waits_for_a_person_elsewhere_is_not_ended_here(bench: Bench) -> None:
    pt, fr = bench[PT], bench[FR]
    (told,) = pt.refer(pt.series(records(range(3))), agency=FR)
    bench.flow()
    bench.now += timedelta(days=20)
    assert "unacknowledged" in {one.kind for one in _open(pt)}
    assert {one.kind for one in Mailbox(pt.node).entry(told.id).alarms} == {"unacknowledged"}
    with pytest.raises(WrongState, match=f"once a person of {FR} says a word"):
        acknowledge(pt.node, ANA, told.id)
    # There it is a referral, which has a step of its own for that.
    assert _open(fr) and acknowledge(fr.node, ANA, told.id) is None
    assert acknowledge(fr.node, ANA, "nothing") is None
