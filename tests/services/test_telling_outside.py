"""A country that no member serves is told by other means: who records it, and who learns of it."""

from __future__ import annotations

import pytest
from tieline.v1 import (
    envelope_pb2,
    operator_clock_pb2,
    operator_pb2,
    payload_pb2,
    series_pb2,
)
from tieline_client.errors import (
    InvalidInput,
    NotFound,
    PolicyRefused,
    TielineError,
    WrongState,
)
from tieline_client.identifiers import new_id
from tieline_client.payloads import timestamp
from tieline_server.services.inbox import Mailbox
from tieline_server.services.referring import Referring
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.telling_outside import TellingOutside
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

WHY = {"purpose": PURPOSE, "case_ref": CASE}


def _outside(node: Running, identifier: str, **more: str) -> operator_pb2.ReferralView:
    fields = {"reference": "I247-88"} | more
    request = operator_clock_pb2.TellOutsideRequest(id=identifier, **fields)
    return TellingOutside(node.node).tell(ANA, request)


def _step(node: Running, referral: str, state: str, **more: object) -> operator_pb2.InboxEntry:
    request = operator_pb2.StepReferralRequest(id=referral, state=state, **more)  # type: ignore[arg-type]
    return Referring(node.node).step(ANA, request)


def _assess(node: Running, series: str, country: str, **more: object) -> operator_pb2.SeriesView:
    fields: dict[str, object] = {"confidence": 2, "grounds": "plates"} | more
    request = operator_pb2.AssessSeriesRequest(series=series, country=country, **fields)  # type: ignore[arg-type]
    return SeriesWork(node.node).assess(ANA, request)


def _clock(node: Running) -> operator_pb2.ReferralView:
    return Mailbox(node.node).clock("")[0]


def _marks(view: operator_pb2.ReferralView) -> list[tuple[str, str, str]]:
    return [(step.state, step.agency, step.text) for step in view.steps]


def test_a_localised_series_without_any_referral(bench: Bench) -> None:
    es = bench[ES]
    series = es.series(records(range(2)))
    _assess(es, series, "BR")
    view = _outside(es, series, **WHY)
    assert (view.direction, view.recipient, view.country, view.state) == (
        *("outside", "", "BR", "passed_on"),
    )
    assert _marks(view) == [("told_outside", ES, "I247-88")]
    shown = SeriesWork(es.node).get(series)
    assert (shown.notice.status, list(shown.untold_countries)) == ("referred", [])
    (logged,) = es.audit("referral.told_outside")
    assert (logged["purpose"], logged["case"], logged["person"]) == (PURPOSE, CASE, "ana")
    assert logged["subjects"] == [view.id, series]
    assert logged["detail"] == {
        "country": "BR",
        "reference": "I247-88",
        "told": [],
        "legal_basis": {"BR": "2016/680 Art. 35 to 38, by the rules named here; no words given"},
    }
    assert logged["rules"] == ["tell-outside"]
    assert es.store.read(lambda tx: tx.outbox.find()) == []
    # the same once more is the same; another reference is another line of the same telling
    assert len(_outside(es, series, **WHY, country="BR").steps) == 1
    assert len(_outside(es, view.id, reference="I247-89").steps) == 2
    assert len(es.audit("referral.told_outside")) == 2
    # the clock runs on
    entry = _step(es, view.id, "outcome", outcome=payload_pb2.Outcome(identified=1))
    assert entry.referral.state == "outcome"
    assert SeriesWork(es.node).get(series).notice.status == "identified"
    assert es.store.read(lambda tx: tx.outbox.find()) == []
    with pytest.raises(WrongState):
        _outside(es, view.id, reference="late")


@pytest.mark.parametrize(("country", "named"), [("BR", True), ("CH", True), ("SE", False)])
def test_a_third_country_is_told_on_a_basis_that_the_log_names(
    bench: Bench, country: str, named: bool
) -> None:
    """A member state that no node serves is told like any other, and needs none."""
    es = bench[ES]
    series = es.series(records(range(2)))
    _assess(es, series, country)
    words = "treaty of 5 May 1988, Art. 4"
    _outside(es, series, **WHY, country=country, basis=words)
    (logged,) = es.audit("referral.told_outside")
    assert logged["detail"].get("legal_basis") == ({country: words} if named else None)  # type: ignore[attr-defined]


def test_a_referral_at_the_hub_goes_on_and_both_sides_see_it(bench: Bench) -> None:
    es, hub = bench[ES], bench[HUB]
    series = es.series(records(range(2)))
    es.refer(series, country="BR")
    bench.flow()
    referral = hub.inbox()[0].id
    view = _outside(hub, referral)
    assert (view.id, view.state) == (referral, "passed_on")
    bench.flow()
    assert _clock(es).state == _clock(hub).state == "passed_on"
    assert _marks(_clock(es))[-1] == ("told_outside", HUB, "I247-88")
    assert _marks(_clock(hub)) == _marks(_clock(es))
    (logged,) = hub.audit("referral.told_outside")
    assert (logged["purpose"], logged["case"]) == (PURPOSE, CASE)  # inherited
    assert len(es.audit("told_outside.received")) == 1
    _step(hub, referral, "outcome", outcome=payload_pb2.Outcome(identified=2))
    bench.flow()
    assert _clock(es).state == "outcome"
    assert SeriesWork(es.node).get(series).notice.identified == 2


def test_the_sender_may_have_told_it_and_the_hub_learns_that(bench: Bench) -> None:
    es, hub = bench[ES], bench[HUB]
    es.refer(es.series(records(range(2))), country="BR")
    view = _outside(es, _clock(es).id, reference="DIPL-3")  # before it was even delivered
    assert view.state == "passed_on"
    bench.flow()
    assert _clock(hub).state == _clock(es).state == "passed_on"
    assert ("told_outside", ES, "DIPL-3") in _marks(_clock(hub))


def test_down_a_chain_everybody_above_learns_it(bench: Bench) -> None:
    es, pt, hub = bench[ES], bench[PT], bench[HUB]
    es.refer(es.series(records(range(2))), agency=PT, country="BR")
    bench.flow()
    _step(pt, pt.inbox()[0].id, "passed_on", passed_to=HUB)
    bench.flow()
    _outside(hub, hub.inbox()[0].id)
    bench.flow()
    came = [one for one in Mailbox(pt.node).clock("") if one.direction == "in"]
    for view in (_clock(hub), _clock(es), *came):
        assert view.state == "passed_on"
        assert ("told_outside", HUB, "I247-88") in _marks(view)


def test_a_repository_tells_by_its_national_bureaus_and_the_owner_sees_it(bench: Bench) -> None:
    es, interpol = bench[ES], bench[INTERPOL]
    series = es.series(records(range(2)))
    _assess(es, series, "BR")
    request = operator_pb2.UploadSeriesRequest(series=[series], repository=INTERPOL, **WHY)
    Uploading(es.node).upload(ANA, request)
    bench.flow()
    view = _outside(interpol, series, **WHY)
    bench.flow()
    ours = _clock(es)
    assert (ours.id, ours.direction, ours.sender, ours.state) == (
        *(view.id, "outside", INTERPOL, "passed_on"),
    )
    assert _marks(ours) == _marks(view)
    assert list(SeriesWork(es.node).get(series).untold_countries) == []
    with pytest.raises(NotFound, match=f"{INTERPOL} told it"):
        _step(es, view.id, "outcome", outcome=payload_pb2.Outcome(identified=1))
    _step(interpol, view.id, "outcome", outcome=payload_pb2.Outcome(identified=1))
    bench.flow()
    assert _clock(es).state == _clock(interpol).state == "outcome"


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"country": "PT"}, InvalidInput, "pt-pj serves PT"),
        ({"country": "pt"}, InvalidInput, "PT"),
        ({"country": ""}, InvalidInput, "AR and BR: say which"),
        ({"country": "BR", "reference": " "}, InvalidInput, "--reference"),
        ({"country": "BR", "case_ref": " "}, InvalidInput, "--case"),
        ({"country": "BR", "purpose": ""}, TielineError, "purpose"),
        ({"country": "BR", "purpose": "prosecution"}, PolicyRefused, "no rule"),
        ({"id": "nothing"}, NotFound, "no series"),
    ],
)
def test_what_is_not_recorded(
    bench: Bench, more: dict[str, str], error: type[TielineError], words: str
) -> None:
    es = bench[ES]
    series = es.series(records(range(1)))
    for country in ("AR", "BR", "PT"):
        _assess(es, series, country)
    fields = {"id": series, **WHY} | more
    with pytest.raises(error, match=words):
        _outside(es, fields.pop("id"), **fields)
    assert Mailbox(es.node).clock("") == []
    assert es.audit("referral.told_outside") == []


def test_anothers_restricted_series_stays_and_a_withdrawn_one_is_not_told(bench: Bench) -> None:
    es, hub, pt = bench[ES], bench[HUB], bench[PT]
    handling = series_pb2.Handling(code=2, tlp=3, source="A", information=1)
    (strict,) = es.load(records(range(2)), series="Azul", handling=handling).series
    es.refer(strict, country="BR")
    bench.flow()
    with pytest.raises(PolicyRefused, match="another agency's restricted data"):
        _outside(hub, hub.inbox()[0].id)
    assert hub.queued(ES) == []
    _outside(es, strict, country="AR", **WHY)  # its own officer decides
    other = es.series(records([7]), name="Verde")
    es.refer(other, agency=PT, country="BR")
    bench.flow()
    with pytest.raises(PolicyRefused, match="by the hub"):
        _outside(pt, pt.inbox()[0].id)
    view = _outside(es, other, country="BR", **WHY)
    withdraw = operator_pb2.RetractSeriesRequest(series=other, kind="withdraw", reason="error")
    retraction = Retracting(es.node).retract(ANA, withdraw).retraction
    outside = [(one.country, one.agency, one.reference) for one in retraction.outside]
    assert outside == [("BR", ES, "I247-88")]  # a person has to tell it
    states = {one.id: one.state for one in Mailbox(es.node).clock("")}
    assert states[view.id] == "withdrawn"
    with pytest.raises((WrongState, PolicyRefused)):
        _outside(es, other, country="AR", **WHY)


def test_a_referral_that_names_no_country_is_not_the_countrys(bench: Bench) -> None:
    es, hub = bench[ES], bench[HUB]
    series = es.series(records([1]))
    es.refer(series, agency=HUB)
    bench.flow()
    (entry,) = hub.inbox()
    for node in (es, hub):
        with pytest.raises(InvalidInput, match="names no country"):
            _outside(node, entry.id, country="BR")
    view = _outside(hub, series, country="BR", **WHY)
    bench.flow()
    ours = {one.id: (one.direction, one.state) for one in Mailbox(es.node).clock("")}
    assert ours == {entry.id: ("out", "delivered"), view.id: ("outside", "passed_on")}


def test_narrowed_to_members_nobody_outside_is_told(bench: Bench) -> None:
    es = bench[ES]
    bench[PT]
    series = es.series(records([1]))
    narrow = operator_pb2.RetractSeriesRequest(
        series=series, kind="narrow", limited=True, only=[PT], reason="named"
    )
    Retracting(es.node).retract(ANA, narrow)
    with pytest.raises(PolicyRefused, match="narrowed"):
        _outside(es, series, country="BR", **WHY)


def test_only_who_is_part_of_it_says_so(bench: Bench) -> None:
    es, pt, hub, fr = bench[ES], bench[PT], bench[HUB], bench[FR]
    series = es.series(records(range(2)))
    es.refer(series, country="BR")
    bench.flow()
    referral = _clock(es).id

    def said(node: Running, **more: object) -> str:
        fields: dict[str, object] = {
            "id": new_id(), "referral": referral, "root": referral, "series": series,
            "country": "BR", "reference": "r", "tell_time": timestamp(bench.now),
        }  # fmt: skip
        body = payload_pb2.ToldOutside(**(fields | more))  # type: ignore[arg-type]
        envelope = node.seal(payload_pb2.Payload(told_outside=body), ES)
        return str(node.deliver(envelope, ES).reason)

    alone = new_id()
    assert said(pt) == "SIGNATURE_REFUSED"
    assert said(fr, alone=True, referral=alone, root=alone) == "SIGNATURE_REFUSED"
    assert said(hub, alone=True) == "SIGNATURE_REFUSED"  # a referral is no telling of its own
    assert said(hub, reference=" ") == "INVALID_INPUT"
    assert said(hub, country="br") == "INVALID_INPUT"
    assert said(hub, referral=new_id(), root=new_id()) == "NOT_FOUND"
    assert said(hub, alone=True, referral=alone, root=alone, series=f"{PT}/{new_id()}") == (
        "INVALID_INPUT"
    )
    assert [one.state for one in Mailbox(es.node).clock("")] == ["delivered"]
    assert said(hub) == ""
    assert _clock(es).state == "passed_on"


def test_late_and_repeated_it_ends_alike(bench: Bench) -> None:
    es, hub = bench[ES], bench[HUB]
    es.refer(es.series(records(range(2))), country="BR")
    bench.flow()
    referral = hub.inbox()[0].id
    bench.offline.add(ES)
    _step(hub, referral, "accepted")
    _outside(hub, referral)
    _step(hub, referral, "outcome", outcome=payload_pb2.Outcome(identified=1))
    said = [one.envelope for one in hub.queued(ES)]
    assert len(said) == 3
    bench.offline.discard(ES)
    for envelope in (*reversed(said), *said):
        hub.deliver(envelope_pb2.Envelope.FromString(envelope), ES)
    assert _clock(es).state == _clock(hub).state == "outcome"
    assert sorted(_marks(_clock(es))) == sorted(_marks(_clock(hub)))


@pytest.mark.parametrize("agency", [ES, HUB])
def test_a_restored_node_knows_it_again(bench: Bench, agency: str) -> None:
    es, hub, interpol = bench[ES], bench[HUB], bench[INTERPOL]
    deposited = es.series(records([7]), name="Verde")
    before = bench.image(agency)
    es.refer(es.series(records(range(2))), country="BR")
    request = operator_pb2.UploadSeriesRequest(series=[deposited], repository=INTERPOL, **WHY)
    Uploading(es.node).upload(ANA, request)
    bench.flow()
    _outside(hub, hub.inbox()[0].id)
    _outside(interpol, deposited, country="AR", **WHY)
    bench.flow()
    bench.set_back(agency, before)
    one = bench.resync(agency)
    for other in {ES, HUB, INTERPOL} - {agency}:
        one.contacts.contact(other)
    bench.flow()
    seen = {
        running: {
            (view.country, view.state, tuple(mark for mark in _marks(view) if mark[2]))
            for view in Mailbox(bench[running].node).clock("")
        }
        for running in (ES, HUB, INTERPOL)
    }
    told = {
        country: (country, "passed_on", (("told_outside", by, "I247-88"),))
        for country, by in (("BR", HUB), ("AR", INTERPOL))
    }
    assert seen == {ES: set(told.values()), HUB: {told["BR"]}, INTERPOL: {told["AR"]}}
