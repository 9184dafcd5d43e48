"""Several agencies of one country, and one agency of several: who is told, who leads, who knows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from tieline.v1 import operator_pb2, payload_pb2
from tieline_client.directory import Directory
from tieline_client.errors import InvalidInput
from tieline_client.identifiers import new_id
from tieline_client.payloads import timestamp
from tieline_server.services.inbox import Mailbox
from tieline_server.services.referring import Referring
from tieline_server.services.series_work import SeriesWork

from tests.services.bench import ANA, ES, FBI, FR, HUB, ICE, Bench, Running, records

_MINUTE = timedelta(minutes=1)


@pytest.fixture
def both(bench: Bench) -> Iterator[Bench]:
    """Two agencies of one country that may both be told."""
    members = tuple(
        one.model_copy(update={"agreement": "trial agreement"}) if one.agency == FBI else one
        for one in bench.directory.members
    )
    bench.directory = _with(bench.directory, members)
    for agency in (ES, ICE, FBI):
        bench[agency]
    yield bench


def _with(directory: Directory, members: tuple[object, ...]) -> Directory:
    fields = {name: getattr(directory, name) for name in Directory.model_fields}
    return Directory(**(fields | {"members": members}))


def _step(node: Running, state: str, **more: object) -> None:
    (entry,) = node.inbox()
    request = operator_pb2.StepReferralRequest(id=entry.id, state=state, **more)  # type: ignore[arg-type]
    Referring(node.node).step(ANA, request)


def _leads(bench: Bench) -> dict[str, set[str]]:
    """Who leads, as the clock of each says."""
    found = {}
    for agency in (ES, ICE, FBI):
        found[agency] = {one.lead for one in Mailbox(bench[agency].node).clock("")}
    return found


def _all(lead: str) -> dict[str, set[str]]:
    return {agency: {lead} for agency in (ES, ICE, FBI)}


def test_both_are_told_and_the_first_to_accept_leads(both: Bench) -> None:
    es, ice, fbi = both[ES], both[ICE], both[FBI]
    views = es.refer(es.series(records([1])), country="US")
    assert {one.recipient for one in views} == {ICE, FBI}
    both.flow()
    assert _leads(both) == _all("")
    _step(fbi, "accepted")
    both.flow()
    assert _leads(both) == _all(FBI)
    assert ice.inbox()[0].referral.lead == FBI
    assert len(ice.audit("referral_lead.received")) == 1
    assert {one["detail"]["lead"] for one in es.audit("referral.lead")} == {FBI}  # type: ignore[index]
    both.now += _MINUTE
    _step(ice, "accepted")  # it works on it too, and leads no more than before
    both.flow()
    assert _leads(both) == _all(FBI)
    assert len(es.audit("referral.lead")) == 2


def test_a_claim_goes_first_and_who_declines_hands_it_over(both: Bench) -> None:
    es, ice, fbi = both[ES], both[ICE], both[FBI]
    es.refer(es.series(records([1])), country="US")
    both.flow()
    _step(fbi, "accepted")
    both.flow()
    both.now += _MINUTE
    _step(ice, "accepted", lead=True)
    both.flow()
    assert _leads(both) == _all(ICE)
    both.now += _MINUTE
    _step(ice, "declined", text="not our district")
    both.flow()
    assert _leads(both) == _all(FBI)
    with pytest.raises(InvalidInput, match="accepts"):
        _step(fbi, "outcome", lead=True, outcome=payload_pb2.Outcome(identified=1))


def test_who_is_told_later_learns_who_leads(both: Bench) -> None:
    es, ice = both[ES], both[ICE]
    series = es.series(records([1]))
    es.refer(series, agency=ICE, country="US")
    both.flow()
    _step(ice, "accepted")
    both.flow()
    assert ice.inbox()[0].referral.lead == ""  # nobody else was told
    es.refer(series, country="US")
    both.flow()
    assert _leads(both) == _all(ICE)


def test_whom_policy_would_not_tell_today_learns_nothing_of_it(both: Bench) -> None:
    es, ice, fbi = both[ES], both[ICE], both[FBI]
    es.refer(es.series(records([1])), country="US")
    both.flow()
    members = tuple(
        one.model_copy(update={"agreement": None}) if one.agency == ICE else one
        for one in both.directory.members
    )
    both.directory = _with(both.directory, members)
    _step(fbi, "accepted")
    both.flow()
    assert _leads(both)[FBI] == {FBI}
    assert [one.lead for one in Mailbox(ice.node).clock("")] == [""]
    assert ice.audit("referral_lead.received") == []


def test_only_who_is_part_of_it_says_who_leads(both: Bench) -> None:
    es, ice, fbi, hub = both[ES], both[ICE], both[FBI], both[HUB]
    es.refer(es.series(records([1])), country="US")
    both.flow()
    theirs = ice.inbox()[0].id

    def said(node: Running, to: str, **more: object) -> str:
        fields: dict[str, object] = {
            "id": new_id(), "referral": theirs, "lead": ICE, "lead_time": timestamp(both.now),
        }  # fmt: skip
        body = payload_pb2.ReferralLead(**(fields | more))  # type: ignore[arg-type]
        return str(node.deliver(node.seal(payload_pb2.Payload(referral_lead=body), to), to).reason)

    assert said(hub, ICE) == said(fbi, ES) == "SIGNATURE_REFUSED"
    assert said(ice, ES, lead=FBI) == "INVALID_INPUT"
    assert said(ice, ES, referral=new_id()) == "NOT_FOUND"
    assert said(es, ICE, lead="No Agency") == "INVALID_INPUT"
    assert _leads(both) == _all("")


def test_an_agency_of_several_countries_is_told_each_likely_one(bench: Bench) -> None:
    es = bench[ES]
    members = tuple(
        one.model_copy(update={"countries": ("FR", "LU")}) if one.agency == FR else one
        for one in bench.directory.members
    )
    bench.directory = _with(bench.directory, members)
    fr, hub = bench[FR], bench[HUB]
    series = es.series(records([1]))
    for country in ("FR", "LU", "AR", "BR"):
        request = operator_pb2.AssessSeriesRequest(
            series=series, country=country, confidence=2, grounds="g"
        )
        SeriesWork(es.node).assess(ANA, request)
    told = {(one.recipient, one.country) for one in es.refer(series) if not one.reason}
    assert told == {(FR, "FR"), (FR, "LU"), (HUB, "AR"), (HUB, "BR")}
    bench.flow()
    assert {one.referral.country for one in fr.inbox()} == {"FR", "LU"}
    assert {one.referral.country for one in hub.inbox()} == {"AR", "BR"}
    assert list(SeriesWork(es.node).get(series).untold_countries) == []
    assert fr.store.read(lambda tx: tx.items.count_of_series(series)) == 1
    assert len(es.refer(series)) == 4  # nobody is told twice
    bench.flow()
    assert len(fr.inbox()) == 2
