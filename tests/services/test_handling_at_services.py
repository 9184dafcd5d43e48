"""H0 to H3 with each TLP, at real services, for every kind of message that carries handling.

Each kind goes out of an honest node, which keeps what stays; and, where the recipient looks as
well, out of a node whose rules allow everything, to an honest one that refuses the same. The
expectation is `stays`, of test_handling_of_kinds.py; that every kind is here, its last test says.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tieline.v1 import (
    envelope_pb2,
    operator_clues_pb2,
    operator_links_pb2,
    operator_pb2,
    payload_pb2,
)
from tieline_client.errors import PolicyRefused
from tieline_client.handling import HandlingCode, Tlp
from tieline_server.domain.policy import Action
from tieline_server.policy.engine import PolicyEngine
from tieline_server.policy.loading import SCHEMA_FILE, default_folder
from tieline_server.services.alarms import Alarms
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.clues import ClueDesk
from tieline_server.services.notes import NoteDesk
from tieline_server.services.proposing import Proposing
from tieline_server.services.referring import Referring
from tieline_server.services.same_as import Linking
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.tips import TipDesk
from tieline_server.services.uploading import Uploading

from tests.services.bench import ANA, CASE, ES, FR, HUB, INTERPOL, PT, PURPOSE, Bench, records
from tests.services.test_comparing import compared
from tests.services.test_forward_matrix import MATRIX, loaded
from tests.services.test_handling_of_kinds import ROWS, stays
from tests.services.test_upload_numbers import step

Matrix = dict[tuple[HandlingCode, Tlp], str]
WHY: dict[str, Any] = {"purpose": PURPOSE, "case_ref": CASE}
ALL = """@id("all")
@why("a node that keeps no rule")
@source("none")
permit (principal, action, resource);
"""


@pytest.fixture(scope="module")
def lawless(tmp_path_factory: pytest.TempPathFactory) -> PolicyEngine:
    """Rules that allow everything, as those of a dishonest node."""
    folder = tmp_path_factory.mktemp("lawless")
    schema = (default_folder() / SCHEMA_FILE).read_text("utf-8")
    (folder / SCHEMA_FILE).write_text(schema, "utf-8")
    (folder / "all.cedar").write_text(ALL, "utf-8")
    return PolicyEngine(folder)


@pytest.fixture
def without(bench: Bench, lawless: PolicyEngine) -> Callable[..., None]:
    """Take the rules from the agencies named, and give everybody else's back."""

    def change(*agencies: str) -> None:
        for agency, running in bench.nodes.items():
            running.node.policy = lawless if agency in agencies else bench.policy

    return change


def _goes(series: Matrix, action: Action, *, own: bool) -> set[str]:
    return {one for (code, tlp), one in series.items() if not stays(action, code, tlp, own=own)}


def _queued(bench: Bench, agency: str, to: str, kind: str) -> set[str]:
    """The series that messages of a kind, which wait for a recipient, are about."""
    found = set()
    for one in bench[agency].queued(to):
        if one.kind == kind:
            envelope = envelope_pb2.Envelope.FromString(one.envelope)
            found.add(getattr(payload_pb2.Payload.FromString(envelope.payload), kind).series)
    return found


def _told(bench: Bench) -> Matrix:
    """PT's series of every pair, each told to ES: its own officer decides, so all may be."""
    series = loaded(bench)
    assert bench[ES] and bench[FR] and bench[HUB]
    for one in series.values():
        _assess(bench, one, "ES", confidence=2)
        bench[PT].refer(one)
    bench.flow()
    assert {entry.referral.series for entry in bench[ES].inbox()} == set(series.values())
    return series


def _assess(bench: Bench, series: str, country: str, **more: Any) -> None:
    request = operator_pb2.AssessSeriesRequest(
        series=series, country=country, grounds="plates", **more
    )
    SeriesWork(bench[PT].node).assess(ANA, request)


def _pass_on(bench: Bench, wanted: set[str]) -> set[str]:
    """Have ES pass on to FR; return of which series it did."""
    done = set()
    for entry in bench[ES].inbox():
        if entry.referral.series in wanted:
            request = operator_pb2.StepReferralRequest(id=entry.id, state="passed_on", passed_to=FR)
            try:
                Referring(bench[ES].node).step(ANA, request)
            except PolicyRefused:
                continue
            done.add(entry.referral.series)
    return done


def _passed_on(bench: Bench, without: Callable[..., None]) -> Matrix:
    """The same, passed on to FR as if ES and FR had no rules; then everybody has them again."""
    series = _told(bench)
    without(ES, FR)
    assert _pass_on(bench, set(series.values())) == set(series.values())
    bench.flow()
    assert {entry.referral.series for entry in bench[FR].inbox()} == set(series.values())
    without()
    return series


def test_referral(bench: Bench, without: Callable[..., None]) -> None:
    series = _told(bench)
    goes = _goes(series, Action.PASS_ON, own=False)
    assert _pass_on(bench, set(series.values())) == goes
    without(ES)
    assert _pass_on(bench, set(series.values()) - goes) == set(series.values()) - goes
    bench.flow()
    assert {entry.referral.series for entry in bench[FR].inbox()} == goes


def _note(bench: Bench, agency: str, series: str, to: str) -> bool:
    request = operator_links_pb2.AddNoteRequest(series=series, text="seen", agency=to, **WHY)
    try:
        return list(NoteDesk(bench[agency].node).add(ANA, request).note.told) == [to]
    except PolicyRefused:
        return False


def _noted(bench: Bench, agency: str, series: Matrix) -> set[str]:
    return {one for one in series.values() if SeriesWork(bench[agency].node).get(one).notes}


def test_note(bench: Bench, without: Callable[..., None]) -> None:
    series = _passed_on(bench, without)
    goes = _goes(series, Action.PASS_ON, own=False)
    assert {one for one in series.values() if _note(bench, PT, one, ES)} == set(series.values())
    assert {one for one in series.values() if _note(bench, ES, one, FR)} == goes
    without(ES)
    assert all(_note(bench, ES, one, FR) for one in set(series.values()) - goes)
    bench.flow()
    assert _noted(bench, ES, series) == set(series.values())
    assert _noted(bench, FR, series) == goes


def _tip(bench: Bench, agency: str, series: str) -> str:
    """A clue with a tip on it; the tip's id."""
    desk = TipDesk(bench[agency].node)
    words = operator_clues_pb2.AddClueRequest(series=series, text="A blue bag", kind="object")
    clue = ClueDesk(bench[agency].node).add(ANA, words).id
    desk.add(ANA, [operator_clues_pb2.NewTip(clue=clue, text="Sold in Lyon", country="FR")])
    (tip,) = desk.find(ANA, operator_clues_pb2.ListTipsRequest(clue=clue)).tips
    return tip.id


def _relay(bench: Bench, agency: str, tip: str, to: str) -> bool:
    request = operator_clues_pb2.RelayTipsRequest(tips=[tip], agency=to, **WHY)
    try:
        return bool(TipDesk(bench[agency].node).relay(ANA, request).tips)
    except PolicyRefused:
        return False


def _tipped(bench: Bench, agency: str, of: str) -> set[str]:
    """The series on which an agency has tips of another's."""
    node = bench[agency].node
    tips = TipDesk(node).find(ANA, operator_clues_pb2.ListTipsRequest()).tips
    clues = {one.id: one.series for one in ClueDesk(node).find(ANA, "").clues}
    return {clues[one.clue] for one in tips if one.origin == of}


def test_tip(bench: Bench, without: Callable[..., None]) -> None:
    series = _passed_on(bench, without)
    goes = _goes(series, Action.PASS_ON, own=False)
    for one in series.values():
        assert _relay(bench, PT, _tip(bench, PT, one), ES)
    tips = {one: _tip(bench, ES, one) for one in series.values()}
    assert {one for one, tip in tips.items() if _relay(bench, ES, tip, FR)} == goes
    without(ES)
    assert all(_relay(bench, ES, tip, FR) for one, tip in tips.items() if one not in goes)
    bench.flow()
    assert _tipped(bench, ES, PT) == set(series.values())
    assert _tipped(bench, FR, ES) == goes


def test_referral_correction(bench: Bench, without: Callable[..., None]) -> None:
    """What an assessment says goes as the series does; that a country stands no more is told."""
    series = _passed_on(bench, without)
    for one in series.values():
        _assess(bench, one, "BR", confidence=3, confirmed=True)
    bench.flow()
    for agency, goes in (
        (ES, set(series.values())),
        (FR, _goes(series, Action.PASS_ON, own=False)),
    ):
        found = {
            entry.referral.series
            for entry in bench[agency].inbox()
            if any(each.country == "BR" for each in entry.series.notice.assessments)
        }
        assert found == goes, (agency, len(found), len(goes))


def test_escalation(bench: Bench, without: Callable[..., None]) -> None:
    series = _passed_on(bench, without)
    bench.offline.add(HUB)
    bench.now += timedelta(days=3)
    Alarms(bench[ES].node).raise_due()
    told = _queued(bench, ES, HUB, "escalation")
    assert told == _goes(series, Action.PASS_ON, own=False)


def test_escalation_of_the_owners(bench: Bench) -> None:
    series = _told(bench)
    bench.offline.add(HUB)
    bench.now += timedelta(days=3)
    Alarms(bench[PT].node).raise_due()
    told = _queued(bench, PT, HUB, "escalation")
    assert told == _goes(series, Action.BE_TOLD, own=True) == set(series.values())


def test_broadcast(bench: Bench, without: Callable[..., None]) -> None:
    series = loaded(bench)
    assert bench[HUB] and bench[ES]
    for one in series.values():
        bench[PT].refer(one, agency=HUB)
    bench.flow()
    goes = _goes(series, Action.RELAY, own=False)
    sent: set[str] = set()
    for honest in (True, False):
        without(*([] if honest else [HUB]))
        for one in set(series.values()) - sent:
            wanted = operator_pb2.BroadcastSeriesRequest(series=[one], group="desks", **WHY)
            try:
                Broadcasting(bench[HUB].node).broadcast(ANA, wanted)
            except PolicyRefused:
                assert honest
            else:
                sent.add(one)
        assert sent == (goes if honest else set(series.values()))
    bench.flow()
    assert {entry.broadcast.series for entry in bench[ES].inbox()} == goes


def _deposit(bench: Bench, agency: str, series: Matrix) -> set[str]:
    """Deposit each series at INTERPOL; return those that the agency's own rules let go."""
    done = set()
    for one in series.values():
        wanted = operator_pb2.UploadSeriesRequest(series=[one], repository=INTERPOL, **WHY)
        try:
            Uploading(bench[agency].node).upload(ANA, wanted)
        except PolicyRefused:
            continue
        done.add(one)
    return done


def test_upload(bench: Bench, without: Callable[..., None]) -> None:
    series = loaded(bench)
    assert bench[INTERPOL]
    goes = _goes(series, Action.UPLOAD, own=True)
    assert _deposit(bench, PT, series) == goes
    without(PT)
    rest = {key: one for key, one in series.items() if one not in goes}
    assert _deposit(bench, PT, rest) == set(rest.values())
    bench.flow()
    assert {one.series for one in Uploading(bench[INTERPOL].node).find()} == goes


@pytest.mark.parametrize("depositor", [PT, HUB])
def test_deposit_report(bench: Bench, without: Callable[..., None], depositor: str) -> None:
    """A repository reports to the provider whatever it holds, to others what it may tell them."""
    series = loaded(bench)
    assert bench[INTERPOL] and bench[HUB]
    if depositor == HUB:
        for one in series.values():
            bench[PT].refer(one, agency=HUB)
    bench.flow()
    without(depositor, INTERPOL)
    assert _deposit(bench, depositor, series) == set(series.values())
    bench.flow()
    without()
    bench.offline.add(depositor)
    for upload in Uploading(bench[INTERPOL].node).find():
        step(bench, upload.id)
    told = _queued(bench, INTERPOL, depositor, "deposit_report")
    others = _goes(series, Action.LEARN_REFERENCE, own=False)
    assert told == (set(series.values()) if depositor == PT else others)


def test_same_as(bench: Bench, without: Callable[..., None]) -> None:
    """A word tells the other side of an own series; so its reference must be one it may learn."""
    each = 6
    series = loaded(bench, each)
    for number in range(len(MATRIX)):
        theirs = bench[ES].series(records(range(each * number, each * (number + 1))), f"E{number}")
        bench[ES].refer(theirs, agency=PT)
    bench.flow()
    bench[PT].store.index.refresh(wait=True)
    assert Proposing(bench[PT].node).look() == len(MATRIX)
    links = {one.own: one.id for one in Linking(bench[PT].node).find("")}
    assert set(links) == set(series.values())

    def say(wanted: set[str]) -> set[str]:
        done = set()
        for one in wanted:
            request = operator_links_pb2.AnswerSameAsRequest(id=links[one], confirm=True, **WHY)
            try:
                Linking(bench[PT].node).answer(ANA, request)
            except PolicyRefused:
                continue
            done.add(one)
        return done

    goes = _goes(series, Action.LEARN_REFERENCE, own=True)
    assert say(set(links)) == goes
    without(PT)
    assert say(set(links) - goes) == set(links) - goes
    bench.flow()
    assert {one.other for one in Linking(bench[ES].node).find("")} == goes


def _learnt(bench: Bench, asker: str, holder: str) -> tuple[set[int], set[str]]:
    """Ask for every item, have all released that waits, ask again: hits, and series learnt."""
    wanted = records(range(len(MATRIX)))
    ends, found = bench[asker].ask(wanted, holder)
    hits = {one.record for one in found.get(holder, [])}
    assert all(not one.series for one in found.get(holder, []))
    bench[holder].release(ends[holder].request)
    bench.flow()
    _, found = bench[asker].ask(wanted, holder)
    return hits, {each.id for one in found.get(holder, []) for each in one.series}


@pytest.mark.parametrize("holder", [PT, INTERPOL])
def test_release(bench: Bench, without: Callable[..., None], holder: str) -> None:
    """Of what is held under each pair by its owner, and by a repository."""
    series, own = loaded(bench), holder == PT
    assert bench[INTERPOL] and bench[ES]
    without(PT, INTERPOL)
    assert _deposit(bench, PT, series) == set(series.values())
    bench.flow()
    without()
    hits, learnt = _learnt(bench, ES, holder)
    assert len(hits) == len(_goes(series, Action.LEARN_HIT, own=own))
    assert learnt == _goes(series, Action.LEARN_REFERENCE, own=own)


@pytest.mark.parametrize("asker", [PT, ES])
def test_query(bench: Bench, asker: str) -> None:
    """The whole collection, asked by its owner under what each item is held; who was only told of
    it does not ask for it at all."""
    series = _told(bench)
    bench[FR].series(records(range(len(MATRIX))), "Theirs")
    end = compared(bench, asker, FR).ends[FR]
    goes = len(_goes(series, Action.ASK, own=True)) if asker == PT else 0
    assert (end.asked, end.withheld, end.shared) == (goes, len(MATRIX) - goes, goes)


def test_every_kind_that_carries_handling_is_here() -> None:
    elsewhere = {"told_outside"}  # test_handling_of_kinds.py::test_what_is_told_outside
    here = {
        name.removeprefix("test_")
        for name in globals()
        if name.startswith("test_") and name.removeprefix("test_") in ROWS
    }
    assert here | elsewhere == set(ROWS)
