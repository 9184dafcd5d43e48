"""Withdrawing and narrowing, from the owner to the last who was told, and the receipts back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from tieline.v1 import operator_pb2, payload_pb2, series_pb2
from tieline_client.errors import InvalidInput, PolicyRefused, WrongState
from tieline_client.payloads import timestamp
from tieline_server.domain.messages import OutState, Reply
from tieline_server.domain.series import SeriesStatus
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.purging import Purging
from tieline_server.services.referring import Referring
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.tombstones import reapply
from tieline_server.services.uploading import Uploading

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    FR,
    HUB,
    INTERPOL,
    PT,
    PURPOSE,
    Bench,
    Running,
    records,
)

CLUE = "a blue curtain with anchors"


@dataclass
class Told:
    """A series of PT's that was told, and short ways to what became of it."""

    bench: Bench
    series: str

    def retract(self, kind: str = "withdraw", **request: Any) -> operator_pb2.SeriesView:
        request = {"reason": "the court ordered it"} | request
        made = operator_pb2.RetractSeriesRequest(series=self.series, kind=kind, **request)
        return Retracting(self.bench[PT].node).retract(ANA, made)

    def purge(self, *agencies: str) -> None:
        """Carry erasures out there, and let the receipts go."""
        for agency in agencies or tuple(self.bench.nodes):
            assert Purging(self.bench[agency].node).run()
        self.bench.flow()

    def states(self) -> dict[str, str]:
        view = SeriesWork(self.bench[PT].node).get(self.series)
        return {one.agency: one.state for one in view.retraction.recipients}

    def items(self, agency: str) -> int:
        return self.bench[agency].store.read(lambda tx: tx.items.count_of_series(self.series))

    def known(self, agency: str) -> bool:
        return self.bench[agency].store.read(lambda tx: tx.series.get(self.series)) is not None

    def stored(self, agency: str) -> bytes:
        """All envelopes that a node keeps of messages."""

        def work(tx: Any) -> bytes:
            run = tx.inbox._run
            return b"".join(
                row[0]
                for table in ("inbox", "outbox")
                for row in run(__import__("sqlalchemy").text(f"SELECT envelope FROM {table}"))
            )

        return self.bench[agency].store.read(work)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewritings of the database may follow one another at once."""
    monkeypatch.setattr("tieline_server.storage.scrubbing.PAUSE", 0)


@pytest.fixture
def told(bench: Bench) -> Told:
    """A series with clues, referred by PT to nobody yet."""
    series = bench[PT].series(records(range(4)), name="Azul")
    bench[PT].store.write(lambda tx: _with_clues(tx, series))
    return Told(bench, series)


def _with_clues(tx: Any, series: str) -> None:
    from sqlalchemy import update
    from tieline_server.storage.schema import series as table

    tx.series._run(update(table).where(table.c.id == series).values(clues=CLUE))


def _pass_on(bench: Bench, at: str, to: str) -> None:
    (entry,) = bench[at].inbox()
    Referring(bench[at].node).step(
        ANA,
        operator_pb2.StepReferralRequest(id=entry.id, state="passed_on", passed_to=to),
    )


def _broadcast(bench: Bench, series: str) -> None:
    Broadcasting(bench[HUB].node).broadcast(
        ANA,
        operator_pb2.BroadcastSeriesRequest(
            series=[series], group="desks", purpose=PURPOSE, case_ref=CASE
        ),
    )


def _upload(bench: Bench, series: str) -> None:
    Uploading(bench[PT].node).upload(
        ANA,
        operator_pb2.UploadSeriesRequest(
            series=[series], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
        ),
    )


def test_a_withdrawn_series_is_erased_by_all_and_the_owner_learns_who_confirmed(
    told: Told,
) -> None:
    bench = told.bench
    bench[PT].refer(told.series, agency=ES)
    bench[PT].refer(told.series, agency=HUB)
    _upload(bench, told.series)
    for agency in (ES, HUB, INTERPOL, FR):
        assert bench[agency]
    bench.flow()
    _pass_on(bench, ES, FR)
    _broadcast(bench, told.series)
    bench.flow()
    everybody = {ES, FR, HUB, INTERPOL}  # ES by the hub's broadcast as well
    for agency in everybody:
        assert told.items(agency) == 4
        assert told.known(agency)
    told.retract()
    bench.flow()
    assert told.states() == dict.fromkeys((ES, HUB, INTERPOL), "delivered")
    told.purge()
    bench.flow()
    assert told.states() == dict.fromkeys(everybody, "confirmed")
    for agency in everybody:
        assert told.items(agency) == 0
        assert not told.known(agency)
        assert CLUE.encode() not in told.stored(agency)
        assert bench[agency].store.read(lambda tx: tx.items.stats()).items == 0
        assert {one.referral.state or one.broadcast.state for one in bench[agency].inbox()} <= {
            "withdrawn"
        }
    assert told.items(PT) == 4
    mine = bench[PT].store.read(lambda tx: tx.referrals.find(series=told.series))
    assert {one.state.value for one in mine} == {"withdrawn"}
    uploads = bench[PT].store.read(lambda tx: tx.uploads.find(series=told.series))
    assert {one.state.value for one in uploads} == {"withdrawn"}
    via = {
        one.agency: one.via
        for one in SeriesWork(bench[PT].node).get(told.series).retraction.recipients
    }
    assert via == {ES: "", HUB: "", INTERPOL: "", FR: ES}


def test_the_owners_answers_change_at_once(told: Told) -> None:
    bench = told.bench
    _, before = bench[ES].ask(records(range(4)), PT)
    assert len(before[PT]) == 4
    told.retract()
    _, after = bench[ES].ask(records(range(4)), PT)
    assert after == {}


def test_tightening_changes_answers_and_recipients_at_once(told: Told) -> None:
    bench = told.bench
    _upload(bench, told.series)
    assert bench[INTERPOL]
    bench.flow()
    _, before = bench[ES].ask(records(range(4)), PT, INTERPOL)
    assert {agency: len(hits) for agency, hits in before.items()} == {PT: 4, INTERPOL: 4}
    told.retract("narrow", code=3, restriction="for nobody else")
    bench.flow()
    _, after = bench[ES].ask(records(range(4)), PT, INTERPOL)
    assert after == {}
    assert told.states() == {INTERPOL: "confirmed"}
    assert told.items(INTERPOL) == 4


def test_only_some_may_keep_it(told: Told) -> None:
    bench = told.bench
    for agency in (ES, FR, HUB):
        bench[PT].refer(told.series, agency=agency)
        assert bench[agency]
    bench.offline.add(HUB)
    bench.flow()
    told.retract("narrow", limited=True, only=[ES], reason="")
    bench.flow()
    told.purge(ES, FR)
    assert told.states() == {ES: "confirmed", FR: "confirmed", HUB: "queued"}
    assert (told.items(ES), told.items(FR)) == (4, 0)
    bench.offline.clear()
    bench.flow()
    assert told.items(HUB) == 0
    assert bench[HUB].inbox() == []
    told.purge(HUB)
    assert told.states()[HUB] == "confirmed"
    sent = bench[PT].store.read(lambda tx: tx.outbox.find())
    cancelled = {one.recipient for one in sent if one.state is OutState.CANCELLED}
    assert cancelled == {HUB}
    # Who is left out learns nothing by asking either.
    _, hits = bench[FR].ask(records(range(4)), PT)
    assert hits == {}
    _, hits = bench[ES].ask(records(range(4)), PT)
    assert len(hits[PT]) == 4
    with pytest.raises(PolicyRefused, match="narrowed"):
        bench[PT].refer(told.series, agency=FR)
    with pytest.raises(PolicyRefused, match="narrowed"):
        _pass_on(bench, ES, FR)


def test_what_is_told_after_a_narrowing_comes_with_it(told: Told) -> None:
    bench = told.bench
    bench[PT].refer(told.series, agency=ES)
    for agency in (ES, FR):
        assert bench[agency]
    bench.flow()
    told.retract("narrow", code=1, limited=True, only=[ES, FR])
    bench.flow()
    _pass_on(bench, ES, FR)
    bench.flow()
    assert told.items(FR) == 4
    kept = bench[FR].store.read(lambda tx: tx.series.get(told.series))
    assert kept is not None
    assert kept.handling.code == 1
    assert told.states() == {ES: "confirmed", FR: "confirmed"}
    with pytest.raises(PolicyRefused, match="narrowed"):
        _pass_on(bench, FR, HUB)


def test_every_log_names_the_series_that_was_narrowed(told: Told) -> None:
    bench = told.bench
    bench[PT].refer(told.series, agency=ES)
    assert bench[ES]
    bench.flow()
    told.retract("narrow", code=1)
    bench.flow()
    for agency, action in (
        (PT, "series.narrowed"),
        (ES, "retraction.received"),
        (PT, "purge_receipt.received"),
    ):
        (entry,) = bench[agency].audit(action)
        assert told.series in str(entry["subjects"]), action


def test_a_referral_that_comes_after_its_retraction_is_refused(told: Told) -> None:
    bench = told.bench
    bench[PT].refer(told.series, agency=ES)
    late = bench[PT].sent(ES, "referral")
    told.retract()
    assert bench[ES]
    bench.flow()
    told.purge(ES)
    reply = bench[PT].deliver(late, ES)
    assert Reply(reply.reply) is Reply.REFUSED
    assert told.items(ES) == 0
    assert CLUE.encode() not in told.stored(ES)


def test_nothing_is_loosened_and_nothing_withdrawn_twice(told: Told) -> None:
    told.retract("narrow", code=2)
    with pytest.raises(InvalidInput, match="only restricts"):
        told.retract("narrow", code=1)
    with pytest.raises(InvalidInput, match="say what"):
        told.retract("narrow", code=2)
    told.retract()
    with pytest.raises(WrongState):
        told.retract()
    with pytest.raises(InvalidInput, match="withdrawn"):
        told.bench[PT].refer(told.series, agency=ES)


def test_only_the_owner_takes_back(told: Told) -> None:
    bench = told.bench
    bench[PT].refer(told.series, agency=ES)
    bench[PT].refer(told.series, agency=FR)
    for agency in (ES, FR):
        assert bench[agency]
    bench.flow()
    with pytest.raises(InvalidInput, match="only its owner"):
        Retracting(bench[ES].node).retract(
            ANA,
            operator_pb2.RetractSeriesRequest(series=told.series, kind="withdraw", reason="x"),
        )
    body = payload_pb2.Retraction(
        id="01956b5e-0000-7000-8000-000000000001",
        series=told.series,
        kind="withdraw",
        retract_time=timestamp(bench.now),
    )
    alone = bench[ES].seal(payload_pb2.Payload(retraction=body), FR)
    assert Reply(bench[ES].deliver(alone, FR).reply) is Reply.REFUSED
    inside = payload_pb2.Retraction(id=body.id, series=body.series)
    inside.original.CopyFrom(bench[ES].seal(payload_pb2.Payload(retraction=body), ES))
    forged = bench[ES].seal(payload_pb2.Payload(retraction=inside), FR)
    assert Reply(bench[ES].deliver(forged, FR).reply) is Reply.REFUSED
    # The owner's word to somebody else does not count either.
    inside.original.CopyFrom(bench[PT].seal(payload_pb2.Payload(retraction=body), HUB))
    forged = bench[ES].seal(payload_pb2.Payload(retraction=inside), FR)
    assert Reply(bench[ES].deliver(forged, FR).reply) is Reply.REFUSED
    assert told.items(FR) == 4


def test_a_receipt_of_who_was_not_told_counts_for_nothing(told: Told) -> None:
    bench = told.bench
    bench[PT].refer(told.series, agency=ES)
    told.retract()
    view = SeriesWork(bench[PT].node).get(told.series)
    receipt = payload_pb2.PurgeReceipt(
        retraction=view.retraction.id,
        series=told.series,
        erased=True,
        purge_time=timestamp(bench.now),
    )
    stranger = bench[FR].seal(payload_pb2.Payload(purge_receipt=receipt), PT)
    assert Reply(bench[FR].deliver(stranger, PT).reply) is Reply.REFUSED
    receipt.erased = False
    keeper = bench[ES].seal(payload_pb2.Payload(purge_receipt=receipt), PT)
    assert Reply(bench[ES].deliver(keeper, PT).reply) is Reply.REFUSED
    assert told.states()[ES] != "confirmed"


def test_what_is_held_otherwise_stays(told: Told) -> None:
    bench = told.bench
    bench[ES].load(records(range(2)))
    bench[PT].refer(told.series, agency=ES)
    bench.flow()
    assert bench[ES].store.read(lambda tx: tx.items.stats()).items == 4
    told.retract()
    bench.flow()
    told.purge(ES)
    assert bench[ES].store.read(lambda tx: tx.items.stats()).items == 2
    _, hits = bench[FR].ask(records(range(4)), ES)
    assert len(hits[ES]) == 2


def test_a_recipient_that_is_away_confirms_later(told: Told) -> None:
    bench = told.bench
    bench[PT].refer(told.series, agency=ES)
    assert bench[ES]
    bench.flow()
    bench.offline.add(ES)
    told.retract()
    bench.flow()
    assert told.states() == {ES: "queued"}
    bench.offline.clear()
    bench.flow()
    told.purge(ES)
    assert told.states() == {ES: "confirmed"}


def test_a_day_that_comes_erases_by_itself(bench: Bench) -> None:
    day = (bench.now + timedelta(days=10)).date().isoformat()
    ends = series_pb2.Handling(retain_until=day, tlp=3)
    bench[PT].load(records(range(3)), series="Brief", handling=ends)
    bench[PT].load(records(range(2)), case_ref="another")
    bench[PT].load(records(range(5, 7)))
    purging = Purging(bench[PT].node)
    assert purging.run()
    assert bench[PT].store.read(lambda tx: tx.items.stats()).items == 5
    bench.now += timedelta(days=10)
    assert purging.run()
    assert bench[PT].store.read(lambda tx: tx.items.stats()).items == 4
    bench.now += timedelta(hours=2)
    assert purging.run()  # the import is gone, so the series holds nothing any more
    assert bench[PT].store.read(lambda tx: tx.series.find()) == []
    entries = bench[PT].audit("retention.erased")
    assert [one["detail"]["holdings"] for one in entries] == [3, 0]  # type: ignore[index]
    assert purging.run()
    assert len(bench[PT].audit("retention.erased")) == 2


def test_a_shortened_retention_ends_the_series_everywhere(told: Told) -> None:
    bench = told.bench
    bench[PT].refer(told.series, agency=ES)
    assert bench[ES]
    bench.flow()
    until = (bench.now + timedelta(days=3)).date().isoformat()
    told.retract("narrow", retain_until=until)
    bench.flow()
    bench.now += timedelta(days=3)
    for agency in (PT, ES):
        assert Purging(bench[agency].node).run()
        assert told.items(agency) == 0
        assert not told.known(agency)
    assert CLUE.encode() not in told.stored(ES)


def test_the_ledger_erases_again_what_a_backup_brings_back(told: Told) -> None:
    bench = told.bench
    bench[PT].refer(told.series, agency=ES)
    assert bench[ES]
    bench.flow()
    backup = bench.folder / "backup.sqlite3"
    bench[ES].store.scrub()
    backup.write_bytes((bench.folder / f"{ES}.sqlite3").read_bytes())
    made = bench.now
    bench.now += timedelta(minutes=1)
    told.retract()
    bench.flow()
    told.purge(ES)
    ledger = bench[ES].node.ledger
    bench[ES].close()
    (bench.folder / f"{ES}.sqlite3").unlink()
    restored = Running(bench, ES, backup)
    bench.nodes[ES] = restored
    assert restored.store.read(lambda tx: tx.items.count_of_series(told.series)) == 4
    assert reapply(restored.store, ledger, made) == 1
    series = restored.store.read(lambda tx: tx.series.get(told.series))
    assert series is not None
    assert series.status is SeriesStatus.WITHDRAWN
    Purging(restored.node).erase()
    assert restored.store.read(lambda tx: tx.items.count_of_series(told.series)) == 0
    assert reapply(restored.store, ledger, made + timedelta(days=3)) == 0


def test_a_word_older_than_the_backup_is_applied_again_when_it_came_after_it(told: Told) -> None:
    bench = told.bench
    bench[PT].refer(told.series, agency=ES)
    assert bench[ES]
    bench.flow()
    until = (bench.now + timedelta(days=30)).date()
    told.retract("narrow", retain_until=until.isoformat())
    bench.now += timedelta(days=2)
    bench[ES].store.scrub()
    backup = bench.folder / "backup.sqlite3"
    backup.write_bytes((bench.folder / f"{ES}.sqlite3").read_bytes())
    made = bench.now
    bench.now += timedelta(minutes=1)
    bench.flow()
    ledger = bench[ES].node.ledger
    bench[ES].close()
    (bench.folder / f"{ES}.sqlite3").unlink()
    restored = Running(bench, ES, backup)
    bench.nodes[ES] = restored
    assert reapply(restored.store, ledger, made) == 1
    series = restored.store.read(lambda tx: tx.series.get(told.series))
    assert series is not None
    assert series.handling.retain_until == until
